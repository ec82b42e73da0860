# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the paths that the service uses with the configured paths."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    Service,
    found,
    real_of_config,
    real_path,
    rights_of,
)


def _opened(question: Question, kind: str) -> List[str]:
    """Return the files that the service has open. kind: open_databases or open_logs."""
    return [path for item in question.known.processes for path in item[kind]]


def used_database(question: Question, *, links: bool) -> Tuple[str, str]:
    """Return the database that the service uses, and the source of this information.

    In order of priority, this is the database that the service has open, the database in its environment variables, or
    the configured database. Links that the service's user created stay in the path, so that later steps can check these
    links. This user could specify another account's database to make this collection operate on it. Therefore, a
    database's path is ignored if the user cannot change the database. links: True if links may be followed. If the disk
    does not respond, links must not be followed.
    """
    service, environment = question.service, question.known.environment
    place: Callable[[str], str] = safe_open.follow_ours if links else os.path.normpath
    configured = service.path(service.db_path)
    real = real_of_config(service, configured) if links else os.path.normpath(configured)
    names = _opened(question, "open_databases")
    if real in names:
        return place(configured), "open in the running process"
    claims = [(name, "open in the running process") for name in names]
    if environment.get("database_path"):
        claims.append((environment["database_path"], str(environment.get("database_path_source"))))
    for path, source in claims:
        if not links:
            return os.path.normpath(path), source
        if not _reached(path, service):
            continue
        path = path if path in names else place(path)  # noqa: PLW2901
        if real_path(service, path) == real or _may_be_theirs(path, user=service.user):
            return path, source
    return place(configured), "db_path"


def _reached(path: str, service: Service) -> bool:
    """Return True if the service's user can enter the folders above a path, or if a folder does not exist.

    Root must not examine other paths: the result would show this user which links exist in these folders.
    """
    try:
        with safe_open.acting(rights_of(service)):
            os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return True


def _may_be_theirs(path: str, *, user: str) -> bool:
    """Return True if the service's user can replace or write to a file, or if the user is unknown."""
    rights = safe_open.account_rights(user)
    if rights is None:
        return True
    with contextlib.suppress(OSError):
        if safe_open.rights_on(path, user=rights) is not None:
            return True
    with safe_open.acting(rights):
        return os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def _used_log(question: Question) -> Tuple[Optional[str], str]:
    """Return the log file that the service uses, or None if no log file is configured or open."""
    service, names = question.service, _opened(question, "open_logs")
    if not service.log_file:
        return None, ""
    return next(filter(service.is_log, names), next(iter(names), None)), "open in the running process"


def _used_folder(question: Question) -> Tuple[Optional[str], str]:
    processes = question.known.processes
    folder, source = question.known.unit.get("working_directory"), "the unit"
    if processes:
        folder, source = processes[0]["cwd"], "the running process"
        return (real_path(question.service, folder) if folder else None), source
    return (real_of_config(question.service, folder) if folder else None), source


def paths(question: Question, *, what: str) -> Dict[str, Any]:
    """Return the path that the service uses and the configured path. what: database, log or working directory."""
    service = question.service
    if what == "database":
        effective: Optional[str]
        configured = service.path(service.db_path)
        effective, source = used_database(question, links=True)
    elif what == "log":
        configured = service.log_file
        effective, source = _used_log(question)
    else:
        configured = service.app_dir
        effective, source = _used_folder(question)
    same = None if effective is None else real_path(service, effective) == real_of_config(service, configured)
    if what == "log" and effective is not None:
        same = service.is_log(effective)
    return found(
        {
            "what": what,
            "configured": safe_open.follow_ours(configured),
            "effective": effective,
            "source": source,
            "same": same,
        }
    )
