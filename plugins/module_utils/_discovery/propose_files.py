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
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts, Proposal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names, open_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates

_LOG_PATTERN = "backend/logs/*.log"
_DATABASE_VARIABLE = "DATABASE_PATH"
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
        found.set("nexus_db_path", facts.relative(path), message("discovery.source.open"))
    elif variable is not None:
        path = os.path.normpath(os.path.join(facts.app_dir, variable.value))
        found.set("nexus_db_path", facts.relative(path), variable.source)
        if opened and path not in opened:
            found.ask("nexus_db_path", message("discovery.question.open_databases", paths=opened))
    elif opened:
        found.ask("nexus_db_path", message("discovery.question.open_databases", paths=opened))
    elif facts.environment.is_set(_DATABASE_VARIABLE):
        found.ask("nexus_db_path", message("discovery.question.not_a_path", name=_DATABASE_VARIABLE))
    elif knex.get("path"):
        path = knex["path"]
        section = facts.section
        found.set(
            "nexus_db_path",
            facts.relative(path),
            message("discovery.source.knexfile", path=knex["file"], section=section),
        )
    else:
        there = list(disk.get("databases") or ())
        if len(there) == 1:
            path = there[0]
            found.set("nexus_db_path", facts.relative(path), message("discovery.source.only_database"))
        told = message("discovery.question.database", paths=[facts.relative(each) for each in there] or ["-"])
        found.ask("nexus_db_path", told)
    if path:
        _database_variable(facts, found, path)


def _database_variable(facts: Facts, found: Proposal, path: str) -> None:
    """Find the variable that contains the path of the database. Only the variable's name is used."""

    def leads(value: str) -> bool:
        same = {path}
        if facts.disk is not None:
            with contextlib.suppress(OSError):  # the service's user has just replaced the path
                same.add(os.path.realpath(path))
        return value.endswith(open_files.DATABASE_NAMES) and (
            os.path.normpath(os.path.join(facts.app_dir, value)) in same
        )

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
        "nexus_tls_cert_path": facts.environment.first(environment_names.names_certificate),
        "nexus_tls_key_path": facts.environment.first(environment_names.names_key),
    }
    # The files that each run reads. A file can be named relative to the application's folder.
    chosen = str(found.value("nexus_environment_file") or "")
    read = [*facts.environment_files, *environment_names.OWN_FILES, chosen, facts.relative(chosen)]
    for variable, setting in named.items():
        if setting is None:
            if variable == "nexus_tls_cert_path":
                found.ask(variable, message("discovery.question.certificate"))
            continue
        path = os.path.normpath(os.path.join(facts.app_dir, setting.value))
        if facts.environment.is_saved(setting.name, files=read):
            found.inform(
                message("discovery.information.certificate", variable=variable, path=path, source=setting.source)
            )
        else:
            found.set(variable, path, setting.source)
        if facts.disk is not None and setting.value in facts.disk["missing"]:
            found.ask("", message("discovery.question.missing_file", path=path))


def _is_dated(path: str) -> bool:
    return re.search(_DATE, os.path.basename(path)) is not None


def logs(facts: Facts, found: Proposal) -> None:
    """Propose the log file and the patterns of other logs."""
    outputs = [path for path in facts.outputs if path.startswith("/")]
    rest = [path for path in facts.logs if path not in outputs or _is_dated(path)]
    if outputs and not _is_dated(outputs[0]):
        found.set("nexus_log_file", outputs[0], message("discovery.source.output"))
    elif outputs and facts.unit is None:
        # Without a unit, the recovery itself starts the service, and needs a file for the service's output.
        path = re.sub(rf"[-_.]?{_DATE}", "", os.path.basename(outputs[0]))
        told = message("discovery.source.beside_output", path=facts.relative(outputs[0]))
        found.set("nexus_log_file", os.path.join(os.path.dirname(outputs[0]), path.lstrip(".") or "server.log"), told)
    elif facts.running:
        fixed = [path for path in rest if not _is_dated(path) and not path.startswith(f"{facts.app_dir}/")]
        if fixed:
            found.set("nexus_log_file", fixed[0], message("discovery.source.open"))
        else:
            found.set(
                "nexus_log_file",
                "",
                message("discovery.source.journal" if facts.unit else "discovery.source.no_output"),
            )
    elif facts.unit is not None:
        _log_of_unit(facts, found)
    patterns: Dict[str, Message] = {}
    for path in rest:
        if path != found.value("nexus_log_file"):
            patterns.setdefault(_pattern(facts, path), message("discovery.source.open"))
    for each in (facts.disk or {}).get("logs") or ():
        told = message("discovery.source.log_folder", number=each["files"])
        patterns.setdefault(_pattern(facts, os.path.join(each["folder"], "x.log")), told)
    # Keep the default pattern if a log matches it. If there are no logs, nothing is proposed, and the default stays.
    more = {pattern: source for pattern, source in patterns.items() if pattern != _LOG_PATTERN}
    if _LOG_PATTERN in patterns or more:
        default = [_LOG_PATTERN] if _LOG_PATTERN in patterns else []
        first = next(iter(more.values())) if more else patterns[_LOG_PATTERN]
        found.set("nexus_log_patterns", default + sorted(more), first)


def _pattern(facts: Facts, path: str) -> str:
    """Return a pattern for all logs in the folder that contains this log."""
    return os.path.join(os.path.dirname(facts.relative(path)), "*.log")


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
    folders = [each["folder"] for each in there]
    source = message("discovery.source.backups", number=sum(each["files"] for each in there))
    more = [folder for folder in folders if folder not in usual]
    if more:
        found.set("database_recovery_backup_dirs", [*[each for each in usual if each in folders], *more], source)
    found.inform(message("discovery.information.backups", folders=[facts.relative(each) for each in folders]))
    path = found.value("nexus_db_path")
    if path:
        _backup_names(os.path.join(facts.app_dir, path), there, found)


def _backup_names(database: str, there: Sequence[Mapping[str, Any]], found: Proposal) -> None:
    """Propose patterns if the newest backup in a folder has none of the usual names."""
    usual = candidates.usual_names(database, beside=False)
    unusual: List[str] = []
    for each in there:
        name = each["names"][0]
        if not candidates.has_name(name, usual):
            stem, ending = os.path.splitext(name)
            letters = re.match(r"\D*", stem)
            unusual.append(f"{glob.escape(letters.group() if letters else '')}*{glob.escape(ending)}")
    if unusual:
        source = message("discovery.source.backup_names", names=sorted({str(each["names"][0]) for each in there})[:3])
        found.set("database_recovery_backup_patterns", [*usual, *dict.fromkeys(unusual)], source)
