# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about the deployment of the service: where each value was found, questions, and information.

The Japanese messages are in plugin_utils/_messages/ja_discovery.py, with the same IDs.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError

ENGLISH: Dict[str, str] = {
    **messages.ENGLISH,
    # Errors.
    "reason.discovery.none": "No unit and no process on this host runs node with a server.js. Set nexus_unit to the name of the unit",
    "reason.discovery.no_folder": (
        "nexus_app_dir is {path}, but this host has no such folder, and no unit or process runs node with a "
        "server.js. Set nexus_app_dir to the absolute path of the application's folder, mount its disk, or set "
        "nexus_unit to the name of the unit"
    ),
    "reason.discovery.several_units": "It is unclear which of these units runs the service: {names}. Set nexus_unit to one of these names",
    "reason.discovery.several_processes": (
        "It is unclear which of several processes is the service. They run in {folders}. Set nexus_app_dir "
        "to one of these folders"
    ),
    "reason.discovery.may_not.change": "a recovery would change it, although user {user} is not allowed to change it or its folder",
    "reason.discovery.may_not.own": "a recovery may change its owner and mode, although user {user} is not allowed to read it or does not own it",
    "reason.discovery.may_not.read": "a recovery would read it, although user {user} is not allowed to read it",
    "reason.discovery.may_not.read_all": "a recovery would read all files in it, although user {user} is not allowed to read all of them",
    "reason.discovery.may_not.unknown": "it is unknown what user {user} may do with it",
    # Places where a value was found.
    "discovery.source.no_ready": "the service has no readiness endpoint",
    "discovery.source.answers": "the service answers requests to this path",
    "discovery.source.answer_status": 'the service answers with status "{word}"',
    "discovery.source.backup_names": "backup names, such as {names}",
    "discovery.source.beside_output": (
        "the path of the current output file {path}, with the date removed from its name. A recovery that starts the "
        "service redirects the output to the path without the date"
    ),
    "discovery.source.backups": "copies of SQLite databases in these folders: {number}",
    "discovery.source.file_and_process": "{name} in {path}, the same as in the running process",
    "discovery.source.file_variable": "{name} in {path}",
    "discovery.source.has_unit": "the host has the unit {unit}",
    "discovery.source.https_off": "ENABLE_HTTPS is not set, so the service uses only HTTP",
    "discovery.source.inventory": "the inventory",
    "discovery.source.journal": "the running process writes its output to the journal",
    "discovery.source.knexfile": "section {section} of {path}",
    "discovery.source.listens": "the service accepts {scheme} connections on this port",
    "discovery.source.listens_as": "{name}; {source}",
    "discovery.source.log_folder": "log files in this folder: {number}",
    "discovery.source.names": "a variable in the service's environment",
    "discovery.source.no_file": "the unit specifies no environment file, and the application's folder contains none",
    "discovery.source.no_output": "the running process does not write its output to a file",
    "discovery.source.no_unit": "no unit runs the service",
    "discovery.source.not_listening": "the running service does not listen on any {scheme} port",
    "discovery.source.only_database": "the only SQLite database in the application's folder",
    "discovery.source.open": "open in the running process",
    "discovery.source.output": "output of the running process",
    "discovery.source.own_file": "a settings file in the application's folder that no unit refers to",
    "discovery.source.owner": "owner of the application's folder",
    "discovery.source.process": "the running process",
    "discovery.source.process_variable": "{name} in the environment of the running process",
    "discovery.source.same_path": "{name} in the service's environment contains this path",
    "discovery.source.unit": "{name} of the unit {unit}",
    "discovery.source.unit_file": "{path}",
    "discovery.source.unit_variable": "{name} in Environment= of the unit",
    # Questions that a person must answer.
    "discovery.question.app_dir": "In which folder does the service run? The unit has no WorkingDirectory, and no process of the service is running",
    "discovery.question.backups": (
        "Where are the database backups? None of the usual folders contains a SQLite database. If there are no "
        "backups, set this variable to []"
    ),
    "discovery.question.backup_names": (
        "Do the database backups have names such as {name}? {folder} contains such a file. The pattern {pattern} is "
        "not set, because the service's user could have chosen this name, and a recovery also applies the pattern to "
        "root-owned folders. If all backups with such names belong to this service, add the pattern to this variable "
        "and to the default patterns"
    ),
    "discovery.question.certificate": "Which certificate does the service use? No variable in the service's environment contains the path",
    "discovery.question.changed_since": (
        "Is a restart planned? {name} in {path} differs from the value in the running process. The value in the "
        "running process is used"
    ),
    "discovery.question.command": "Which command starts the service? No unit and no process shows the command",
    "discovery.question.confined": "Are the discovered paths valid on the host? The unit has its own root folder or a dynamic user",
    "discovery.question.database": (
        "Which file is the database? No process has the file open, and no setting contains its path. SQLite "
        "databases in the application's folder: {paths}"
    ),
    "discovery.question.disk_silent": "The disk that contains {path} did not respond. Run the discovery again when the disk responds",
    "discovery.question.down": (
        "The service is not running. The values come from the unit, the environment and files. Run the discovery "
        "again when the service is running"
    ),
    "discovery.question.file_unread": "Which variables does {path} set? {why}",
    "discovery.question.health": "What is the path of the health endpoint? None of the usual paths returns JSON with a status field",
    "discovery.question.hidden": "Does the connection use privilege escalation (become)? This account cannot inspect the open files of the service",
    "discovery.question.https_unknown": "Is HTTPS enabled? The environment sets an HTTPS port, but does not contain ENABLE_HTTPS",
    "discovery.question.launcher": (
        "Can the unit start node directly? The unit starts {program}, which starts node. Therefore, signals may not "
        "reach the service, and systemd may not see the exit code of the service"
    ),
    "discovery.question.log_file": "Which log file does the service write to? systemd does not show the path that is set in StandardOutput=",
    "discovery.question.login": (
        "Should a recovery also check that users can log in? If so, set nexus_login_username to an account that "
        "exists only for this check, and store its password in a vault. If not, set nexus_login_password to an empty "
        "string: the login is then not checked"
    ),
    "discovery.question.missing_file": "Does the service use another file? {path} does not exist",
    "discovery.question.other_folder": (
        "Is {found} the application's folder? If not, set nexus_app_dir to the absolute path of an existing folder. In "
        "the inventory, nexus_app_dir is {path}, but this host has no such folder"
    ),
    "discovery.question.no_folder": "Is the disk mounted? The folder {path} does not exist",
    "discovery.question.no_https": "Can the service read its certificate? ENABLE_HTTPS is true, but the service does not accept HTTPS connections on any port",
    "discovery.question.no_section": "Is NODE_ENV correct? {path} has no section {section}",
    "discovery.question.no_service": "Is the service installed in {path}? No unit and no process runs it",
    "discovery.question.node_env": "Is NODE_ENV missing on purpose? Without NODE_ENV, knex uses the development section of the knexfile",
    "discovery.question.not_a_path": (
        "Which file is the database? {name} is set, but its value is not a path. The value is not shown, because it "
        "may contain a password"
    ),
    "discovery.question.not_local": (
        "Can the service listen on localhost? The checks connect to localhost, but the service does not listen there "
        "on port {ports}"
    ),
    "discovery.question.open_databases": "Which of these files is the database? The running process has all of them open: {paths}",
    "discovery.question.others": "Is the inventory correct? These may also be the service: {names}",
    "discovery.question.path": (
        "Does this service use {path}? The path is not set, because the service's user could have chosen it ({source}), "
        "and {why}. If the path belongs to this service, set this variable"
    ),
    "discovery.question.port": "Which port does the service use? Its environment does not contain {name}, and the service is not running",
    "discovery.question.release_git": "Is each release a git tag? If so, set this variable to git. {path} is a git repository",
    "discovery.question.release_link": "Is a release activated with a link? If so, set this variable to symlink. {path} is a link to {target}",
    "discovery.question.required": (
        "Which variables does the service need to start? Its environment does not contain {missing}. It contains "
        "these variables: {names}"
    ),
    "discovery.question.secret_argument": (
        "Which command starts the service? The command is not shown, because an argument looks like a secret. Move "
        "the secret to the environment file"
    ),
    "discovery.question.no_environment_file": "Which file contains the environment variables of the service? No such file was found",
    "discovery.question.no_such_file": (
        "Which file contains the environment variables of the service? nexus_environment_file is {path} in the "
        "inventory, but this host has no such file. If the service has no environment file, set "
        "nexus_environment_file to an empty string"
    ),
    "discovery.question.several_files": "Which of these files contains the secrets and the path of the database? {paths}",
    "discovery.question.several_ports": "Which of these ports do users connect to? {ports}",
    "discovery.question.silent_ports": "What is the purpose of port {ports}? The service listens there, but answers neither HTTPS nor HTTP requests",
    "discovery.question.status": 'Does the status "{word}" mean that the service is healthy? The health response contains this status',
    "discovery.question.stop_timeout": "How long may it take to stop the service? TimeoutStopSec of the unit is infinity",
    "discovery.question.unusable": (
        "Which value is correct? The value is not shown, because it contains a template, control characters or other "
        "special characters. Source: {source}"
    ),
    # Information for a person.
    "discovery.information.backups": "Backups are in {folders}",
    "discovery.information.certificate": (
        "{variable} is not set, because each run reads this path from the service's environment. The path is now {path} "
        "({source})"
    ),
    "discovery.information.node_env": "NODE_ENV is {value} ({source})",
    "discovery.information.package": "package.json: {name} {version}",
    "discovery.information.proxy": (
        "{program} may be a proxy in front of the service: line {line} of {path} contains port {port}. Its log also contains the "
        "requests that never reached the service. To count these requests too, set postmortem_access_log to the path of "
        "this log on this host"
    ),
    "discovery.information.restart": (
        "systemd: Restart={restart}, RestartSec={delay}, start limit {burst} in {interval}, TimeoutStopSec={stop}, "
        "KillMode={kill}"
    ),
    "discovery.information.unit_missing": "The unit {unit} in the inventory does not exist on this host",
}


class DiscoveryError(MessageError):
    """The service was not found, or it is unclear which unit or process is the service."""

    templates = ENGLISH
