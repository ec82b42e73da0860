# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propose the variables with the paths of files: the database, the certificate and its key, the logs and the backups.

See propose.py.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment as settings
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import files, paths
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts, Proposal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names, open_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates

_LOG_PATTERN = "backend/logs/*.log"
_DATABASE_VARIABLE = "DATABASE_PATH"
# The beginning of the names of variables that contain a log file or its folder.
_LOG_VARIABLES = "LOG"
_DATE = r"\d{4}-?\d\d-?\d\d"


def database(facts: Facts, found: Proposal) -> None:
    """Propose the path of the database, and the variable that contains it."""
    disk = facts.disk or {}
    knex = disk.get("knexfile") or {}
    variable = facts.environment.get(_DATABASE_VARIABLE)
    opened = list(facts.databases)
    path = ""
    if len(opened) == 1:
        path = opened[0]
        _set_database(facts, found, path, message("discovery.source.open"))
    elif variable is not None:
        path = facts.absolute(variable.value)
        _set_database(facts, found, path, variable.source)
        if opened and path not in opened:
            found.ask("nexus_db_path", message("discovery.question.open_databases", paths=opened))
    elif opened:
        found.ask("nexus_db_path", message("discovery.question.open_databases", paths=opened))
    elif facts.environment.is_set(_DATABASE_VARIABLE):
        found.ask("nexus_db_path", message("discovery.question.not_a_path", name=_DATABASE_VARIABLE))
    elif knex.get("path"):
        path = knex["path"]
        told = message("discovery.source.knexfile", path=knex["file"], section=facts.section)
        _set_database(facts, found, path, told)
    else:
        there = list(disk.get("databases") or ())
        if len(there) == 1:
            path = there[0]
            _set_database(facts, found, path, message("discovery.source.only_database"))
        told = message("discovery.question.database", paths=[facts.relative(each) for each in there] or ["-"])
        found.ask("nexus_db_path", told)
    if path:
        _database_variable(facts, found, path)


def _set_database(facts: Facts, found: Proposal, path: str, source: Message) -> None:
    ours = paths.chosen_by_root(facts, path, _DATABASE_VARIABLE)
    paths.set_path(
        facts, found, "nexus_db_path", path, source, value=facts.relative(path), need=paths.CHANGE, ours=ours
    )


def _database_variable(facts: Facts, found: Proposal, path: str) -> None:
    """Find the variable that contains the path of the database. Only the variable's name is used."""

    def leads(value: str) -> bool:
        same = {path}
        if facts.disk is not None:
            with contextlib.suppress(OSError):  # the service's user has just replaced the path
                same.add(os.path.realpath(path))
        return value.endswith(open_files.DATABASE_NAMES) and facts.absolute(value) in same

    if facts.environment.is_set(_DATABASE_VARIABLE):
        found.set("nexus_db_path_variable", _DATABASE_VARIABLE, message("discovery.source.names"))
        return
    names = facts.environment.names_of(leads)
    if names:
        found.set("nexus_db_path_variable", names[0], message("discovery.source.same_path", name=names[0]))


def certificate(facts: Facts, found: Proposal) -> None:
    """Propose the paths of the certificate and its key only if runs cannot read them from the saved environment.

    A variable in the inventory would hide a later change to the saved environment.
    """
    if not found.value("nexus_https_port"):
        return
    named = {
        "nexus_tls_cert_path": (facts.environment.first(environment_names.names_certificate), paths.READ),
        "nexus_tls_key_path": (facts.environment.first(environment_names.names_key), paths.OWN),
    }
    # Every run reads the settings in these files. Relative paths are relative to the application's folder.
    chosen = str(found.value("nexus_environment_file") or "")
    read = [*facts.environment_files, *environment_names.OWN_FILES, chosen, facts.relative(chosen)]
    for variable, (setting, need) in named.items():
        if setting is None:
            if variable == "nexus_tls_cert_path":
                found.ask(variable, message("discovery.question.certificate"))
            continue
        path = facts.absolute(setting.value)
        if facts.environment.is_saved(setting.name, files=read):
            found.inform(
                message("discovery.information.certificate", variable=variable, path=path, source=setting.source)
            )
        else:
            ours = facts.environment.is_of_root(setting)
            paths.set_path(facts, found, variable, path, setting.source, need=need, ours=ours)
        if facts.disk is not None and setting.value in facts.disk["missing"]:
            found.ask("", message("discovery.question.missing_file", path=path))


def _is_dated(path: str) -> bool:
    return re.search(_DATE, os.path.basename(path)) is not None


def logs(facts: Facts, found: Proposal) -> None:
    """Propose the log file and the patterns of other logs."""
    outputs = [path for path in facts.outputs if path.startswith("/")]
    rest = [path for path in facts.logs if path not in outputs or _is_dated(path)]
    if outputs and not _is_dated(outputs[0]):
        _set_log(facts, found, outputs[0], message("discovery.source.output"))
    elif outputs and facts.unit is None:
        # If there is no unit, the recovery itself starts the service, and needs a file for the service's output.
        folder, name = os.path.split(outputs[0])
        path = os.path.join(folder, re.sub(rf"[-_.]?{_DATE}", "", name).lstrip(".") or "server.log")
        told = message("discovery.source.beside_output", path=facts.relative(outputs[0]))
        _set_log(facts, found, path, told, examined=folder)
    elif facts.running:
        fixed = [path for path in rest if not _is_dated(path) and not path.startswith(f"{facts.app_dir}/")]
        if fixed:
            _set_log(facts, found, fixed[0], message("discovery.source.open"))
        else:
            found.set(
                "nexus_log_file",
                "",
                message("discovery.source.journal" if facts.unit else "discovery.source.no_output"),
            )
    elif facts.unit is not None:
        _log_of_unit(facts, found)
    _log_patterns(facts, found, [path for path in rest if path != found.value("nexus_log_file")])


def _set_log(facts: Facts, found: Proposal, path: str, source: Message, *, examined: str = "") -> None:
    properties: Mapping[str, str] = facts.unit.properties if facts.unit else {}
    # A process can replace its own output. Only the unit shows that root chose the file.
    of_unit = {properties.get(name, "").partition(":")[2] for name in ("StandardOutput", "StandardError")}
    ours = path in of_unit or paths.chosen_by_root(facts, path, _LOG_VARIABLES)
    paths.set_path(facts, found, "nexus_log_file", path, source, need=paths.CHANGE, ours=ours, examined=examined)


def _log_patterns(facts: Facts, found: Proposal, opened: Sequence[str]) -> None:
    """Propose patterns for the folders of logs. opened: logs that the process writes to."""
    # Maps a folder to the source, and to True if the folder is named after the unit. In this case, only root chose it.
    folders: Dict[str, Tuple[Message, bool]] = {}
    for each in (facts.disk or {}).get("logs") or ():
        told = message("discovery.source.log_folder", number=each["files"])
        folders[each["folder"]] = (told, each["of_unit"])
    for path in reversed(opened):
        folder = os.path.dirname(path)
        of_unit = folder in folders and folders[folder][1]
        folders[folder] = (message("discovery.source.open"), of_unit)
    patterns: Dict[str, Message] = {}
    for folder, (source, of_unit) in folders.items():
        ours = of_unit or paths.chosen_by_root(facts, folder, _LOG_VARIABLES)
        asked = paths.question(facts, folder, source, need=paths.CHANGE, ours=ours)
        if asked is None:
            patterns[_pattern(facts, folder)] = source
        else:
            found.ask("nexus_log_patterns", asked)
    # Keep the default pattern if a log matches it. If there are no logs, nothing is proposed, and the default stays.
    more = {pattern: source for pattern, source in patterns.items() if pattern != _LOG_PATTERN}
    if _LOG_PATTERN in patterns or more:
        default = [_LOG_PATTERN] if _LOG_PATTERN in patterns else []
        first = next(iter(more.values())) if more else patterns[_LOG_PATTERN]
        found.set("nexus_log_patterns", default + sorted(more), first)


def _pattern(facts: Facts, folder: str) -> str:
    """Return a pattern for all logs in a folder."""
    path = os.path.dirname(facts.relative(os.path.join(folder, "x.log")))
    return os.path.join(glob.escape(path), "*.log")


def _log_of_unit(facts: Facts, found: Proposal) -> None:
    """Propose the log file that the unit sets with StandardOutput=append:/path, or else the journal."""
    output = facts.unit.properties.get("StandardOutput", "") if facts.unit else ""
    kind, _colon, path = output.partition(":")
    source = facts.of_unit("StandardOutput")
    if kind in ("append", "file", "truncate") and path.startswith("/"):
        found.set("nexus_log_file", path, source)
    elif kind in ("append", "file", "truncate"):
        found.ask("nexus_log_file", message("discovery.question.log_file"))
    else:
        found.set("nexus_log_file", "", source)


def backups(facts: Facts, found: Proposal) -> None:
    """Propose the folders of backups, and the patterns of their names."""
    there: Sequence[Mapping[str, Any]] = (facts.disk or {}).get("backups") or ()
    if not there:
        if facts.disk is not None:
            found.ask("database_recovery_backup_dirs", message("discovery.question.backups"))
        return
    usual = [os.path.join(facts.app_dir, folder) for folder in files.BACKUP_FOLDERS]
    source = message("discovery.source.backups", number=sum(each["files"] for each in there))
    known: List[Mapping[str, Any]] = []
    for each in there:
        folder = each["folder"]
        ours = each["of_unit"] or paths.chosen_by_root(facts, folder, "BACKUP")
        asked = paths.question(facts, folder, source, need=paths.READ_ALL, ours=ours)
        if asked is None:
            known.append(each)
        else:
            found.ask("database_recovery_backup_dirs", asked)
    folders = [each["folder"] for each in known]
    more = [folder for folder in folders if folder not in usual]
    if more:
        found.set("database_recovery_backup_dirs", [*[each for each in usual if each in folders], *more], source)
    if folders:
        found.inform(message("discovery.information.backups", folders=[facts.relative(each) for each in folders]))
    path = found.value("nexus_db_path")
    if path:
        _backup_names(facts, found, os.path.join(facts.app_dir, path), known)


def _backup_names(facts: Facts, found: Proposal, database: str, there: Sequence[Mapping[str, Any]]) -> None:
    """Propose patterns if the newest backup in a folder has none of the usual names.

    A recovery applies each pattern to all folders of backups. If the service's user can choose a name, its pattern
    could match a backup of another service in a root-owned folder. Therefore, such a pattern must contain the name of
    the database.
    """
    usual = candidates.usual_names(database, beside=False)
    own = os.path.splitext(os.path.basename(database))[0]
    unusual: List[str] = []
    for each in there:
        name = each["names"][0]
        if candidates.has_name(name, usual):
            continue
        stem, ending = os.path.splitext(name)
        letters = (re.match(r"\D*", stem) or [""])[0]
        pattern = f"{glob.escape(letters)}*{glob.escape(ending)}"
        if letters.startswith(own) or not paths.may_be_changed(facts, each["folder"]):
            unusual.append(pattern)
            continue
        told = message("discovery.question.backup_names", name=name, folder=each["folder"], pattern=pattern)
        if not settings.is_path(letters + ending):
            source = message("discovery.source.backup_names", names=[facts.relative(each["folder"])])
            told = message("discovery.question.unusable", source=source)
        found.ask("database_recovery_backup_patterns", told)
    if unusual:
        source = message("discovery.source.backup_names", names=sorted({str(each["names"][0]) for each in there})[:3])
        found.set("database_recovery_backup_patterns", [*usual, *dict.fromkeys(unusual)], source)
