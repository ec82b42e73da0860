# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about the deployment of the service: sources of values, questions and information.

The Japanese messages are in plugin_utils/_messages/ja_discovery.py, with the same ids.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError

ENGLISH: Dict[str, str] = {
    **messages.ENGLISH,
    # Errors.
    "reason.discovery.none": "No unit and no process on this host runs node with a server.js. Set nexus_unit to the name of the unit",
    "reason.discovery.several_units": "Several units may be the service: {names}. Set nexus_unit to one of these names",
    "reason.discovery.several_processes": "Several processes may be the service. They run in {folders}. Set nexus_app_dir to one of these folders",
    # Where a value was found.
    "discovery.source.no_ready": "the service has no ready endpoint",
    "discovery.source.answers": "the service answers the health request there",
    "discovery.source.answer_status": 'the service answers with status "{word}"',
    "discovery.source.backup_names": "names of the backups, such as {names}",
    "discovery.source.beside_output": "the current output {path}, without its date; a service that a recovery starts writes there",
    "discovery.source.backups": "copies of a SQLite database in these folders: {number}",
    "discovery.source.file_and_process": "{name} in {path}, the same as in the running process",
    "discovery.source.file_variable": "{name} in {path}",
    "discovery.source.has_unit": "the host has the unit {unit}",
    "discovery.source.https_off": "ENABLE_HTTPS is not set, so the service speaks only HTTP",
    "discovery.source.inventory": "the inventory",
    "discovery.source.journal": "the output of the running process goes to the journal",
    "discovery.source.knexfile": "section {section} of {path}",
    "discovery.source.listens": "the service listens there and speaks {scheme}",
    "discovery.source.listens_as": "{name}; {source}",
    "discovery.source.log_folder": "log files in this folder: {number}",
    "discovery.source.names": "a variable of the service's environment",
    "discovery.source.no_file": "neither the unit names a file, nor is there one in the application's folder",
    "discovery.source.no_output": "the output of the running process goes to no file",
    "discovery.source.no_unit": "no unit runs the service",
    "discovery.source.not_listening": "the running service listens on no {scheme} port",
    "discovery.source.only_database": "the only SQLite database in the application's folder",
    "discovery.source.open": "open in the running process",
    "discovery.source.output": "output of the running process",
    "discovery.source.own_file": "a file with the settings in the application's folder; no unit names it",
    "discovery.source.owner": "owner of the application's folder",
    "discovery.source.process": "the running process",
    "discovery.source.process_variable": "{name} in the environment of the running process",
    "discovery.source.same_path": "{name} in the service's environment contains this path",
    "discovery.source.unit": "{name} of the unit {unit}",
    "discovery.source.unit_file": "{path}",
    "discovery.source.unit_variable": "{name} in Environment= of the unit",
    # What a person must answer.
    "discovery.question.app_dir": "In which folder does the service run? The unit has no WorkingDirectory, and no process runs",
    "discovery.question.backups": "Where are the backups of the database? None of the usual folders contains a SQLite database",
    "discovery.question.certificate": "Which certificate does the service use? No variable of its environment names the file",
    "discovery.question.changed_since": "{name} in {path} differs from the running process. Is a restart planned? The value of the process is used here",
    "discovery.question.command": "With which command is the service started? No unit and no process shows it",
    "discovery.question.confined": "The unit has its own root folder or a dynamic user. Are the paths below valid on the host?",
    "discovery.question.database": "Which file is the database? No process has it open, and no setting names it. SQLite databases there: {paths}",
    "discovery.question.disk_silent": "The disk with {path} did not answer. Run the discovery again when it does",
    "discovery.question.down": "The service does not run now. Values come from the unit, the environment and files. Run the discovery again when the service runs",
    "discovery.question.file_unread": "{why}. Which variables does {path} set?",
    "discovery.question.health": "Which path answers the health request? None of the usual paths answers with JSON that contains status",
    "discovery.question.hidden": "Does the connection use become? This account may not look at the open files of the service",
    "discovery.question.https_unknown": "Is HTTPS on? The environment names an HTTPS port, but does not contain ENABLE_HTTPS",
    "discovery.question.launcher": "The unit starts {program}, which starts node. Can the unit start node itself? Signals and exit codes then reach the service",
    "discovery.question.log_file": "Which log file does the service write to? systemd does not show the path in StandardOutput",
    "discovery.question.login": "Which account checks the login? Store its password in a vault. Without a password, the login is not checked",
    "discovery.question.missing_file": "{path} does not exist. Does the service use another file?",
    "discovery.question.no_folder": "The folder {path} does not exist. Is its disk mounted?",
    "discovery.question.no_https": "ENABLE_HTTPS is true, but the service speaks HTTPS on no port. Can it read its certificate?",
    "discovery.question.no_section": "{path} has no section {section}. Is NODE_ENV correct?",
    "discovery.question.no_service": "Is the service installed in {path}? No unit and no process runs it",
    "discovery.question.node_env": "Is NODE_ENV missing on purpose? knex then uses the development section of the knexfile",
    "discovery.question.not_a_path": "Which file is the database? {name} is set, but its value is not a path. It is not shown, because it may contain a password",
    "discovery.question.not_local": "The service does not listen on localhost on port {ports}. Checks connect to localhost. Can the service listen there?",
    "discovery.question.open_databases": "Which of these files is the database? The running process has open: {paths}",
    "discovery.question.others": "Is the inventory correct, or is this the service? Found on the host too: {names}",
    "discovery.question.port": "Which port does the service use? {name} is not in its environment, and the service does not run",
    "discovery.question.release_git": "Is each release a git tag? {path} is a git repository. If so, set this variable to git",
    "discovery.question.release_link": "Is a release activated with a link? {path} is a link to {target}. If so, set this variable to symlink",
    "discovery.question.required": "Which variables does the service need to start? Its environment does not contain {missing}. It contains the names {names}",
    "discovery.question.secret_argument": "With which command is the service started? An argument looks like a secret and is not shown. Move it to the environment file",
    "discovery.question.several_files": "Which of these files sets the secrets and the database? {paths}",
    "discovery.question.several_ports": "Which of these ports do users reach? {ports}",
    "discovery.question.silent_ports": "What is port {ports} for? The service listens there, but answers neither HTTPS nor HTTP",
    "discovery.question.status": 'Does status "{word}" mean healthy? The service answers the health request with it',
    "discovery.question.stop_timeout": "How long may a stop take? TimeoutStopSec of the unit is infinity",
    "discovery.question.unusable": "Which value is correct? The value from this source contains a template or control characters and is not shown: {source}",
    # What a person should know.
    "discovery.information.backups": "Backups are in {folders}",
    "discovery.information.node_env": "NODE_ENV is {value} ({source})",
    "discovery.information.package": "package.json: {name} {version}",
    "discovery.information.proxy": "{program} may be in front of the service: {path}, line {line} names port {port}",
    "discovery.information.restart": "systemd: Restart={restart}, RestartSec={delay}, start limit {burst} in {interval}, TimeoutStopSec={stop}, KillMode={kill}",
    "discovery.information.unit_missing": "The inventory names the unit {unit}, which this host does not have",
}


class DiscoveryError(MessageError):
    """The service was not found, or several services could be meant."""

    templates = ENGLISH
