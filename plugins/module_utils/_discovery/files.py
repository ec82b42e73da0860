# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the application's folder and the folders of its logs and backups.

The service's user can replace files and folders there. Therefore, folders are listed with the rights of this user, and
files are opened with safe_open.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment, knexfile
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import paths as checks
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import open_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files

# Folders for logs, databases and backups, relative to the application's folder. The backup folders are the
# database_recovery role's defaults.
LOG_FOLDERS = ("backend/logs", "logs", "log", "backend/log")
BACKUP_FOLDERS = (
    *("backups", "backend/backups"),
    *("backend/backups/daily", "backend/backups/weekly", "backend/backups/monthly"),
)
_MORE_BACKUP_FOLDERS = (
    "backups/daily",
    "backups/weekly",
    "backups/monthly",
    "backup",
    "backend/backup",
    "data/backups",
)
_DATABASE_FOLDERS = ("", "backend", "data", "backend/data", "db", "database", "backend/database")
_SIDE_FILES = ("-wal", "-shm", "-journal")
_MOST_ENTRIES = 5000
_LARGEST = 1 << 20
_HEADER = 100


class Place(NamedTuple):
    """The application's folder, and the rights of the service's user, or None for the rights of this process.

    user: the name of the service's user, or empty if unknown.
    """

    app_dir: str
    rights: safe_open.Rights
    user: str = ""

    def path(self, path: str) -> str:
        """Return the absolute path. Relative paths are relative to the application's folder."""
        return os.path.normpath(os.path.join(self.app_dir, path))


def _entries(folder: str, place: Place, *, theirs: bool = False) -> List[Tuple[str, os.stat_result]]:
    """Return the name and status of each regular file in a folder, or nothing if the folder cannot be read.

    theirs: True if the service's user chose the folder. Such a folder is read with this user's rights.
    """
    found = []
    with contextlib.suppress(OSError):
        rights = place.rights if theirs else safe_open.rights_on(folder, user=place.rights)
        with safe_open.acting(rights):
            found = _regular(folder)
    return found


def _regular(folder: str) -> List[Tuple[str, os.stat_result]]:
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder))[:_MOST_ENTRIES]:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                if stat.S_ISREG(status.st_mode):
                    found.append((name, status))
    return found


def _read(path: str) -> Optional[str]:
    with contextlib.suppress(OSError):
        return safe_open.read(path, limit=_LARGEST).decode("utf-8", "replace")
    return None


def _is_database(path: str, *, rights: safe_open.Rights = None) -> bool:
    with contextlib.suppress(OSError), safe_open.acting(rights):
        descriptor = safe_open.open_file(path)
        with os.fdopen(descriptor, "rb") as stream:
            return sqlite_files.parse_header(stream.read(_HEADER)) is not None
    return False


def package(place: Place) -> Dict[str, Any]:
    """Return the name, version and start script from package.json, or {} if it cannot be read."""
    try:
        data = json.loads(_read(place.path("package.json")) or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    scripts = data.get("scripts")
    found = {"name": data.get("name"), "version": data.get("version")}
    found["start"] = scripts.get("start") if isinstance(scripts, dict) else None
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def knex_database(place: Place, *, section: str, known: environment.Environment) -> Dict[str, Any]:
    """Return the name of the knexfile, and the database from the given section.

    path: the path of the database, or None if it cannot be determined without running the knexfile.
    """

    def variable(name: str) -> Optional[str]:
        found = known.get(name)
        return found.value if found else None

    for name in knexfile.NAMES:
        path = place.path(name)
        text = _read(path)
        if text is None:
            continue
        try:
            found = knexfile.database(text, section=section, path=path, app_dir=place.app_dir, variable=variable)
        except RecursionError:
            found = knexfile.Database(None)
        return {
            "file": name,
            "has_section": found is not None,
            "path": found.path if found and environment.is_path(found.path or "") else None,
        }
    return {}


def databases(place: Place) -> List[str]:
    """Return the SQLite databases in the usual folders of the application."""
    found = []
    for folder in _DATABASE_FOLDERS:
        for name, _status in _entries(place.path(folder), place):
            path = place.path(os.path.join(folder, name))
            if name.endswith(open_files.DATABASE_NAMES) and _is_database(path):
                found.append(path)
    return found


def logs(place: Place, *, more: Sequence[str], theirs: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """Return the folders that contain *.log files, with the number of these files and the time of the newest one.

    more: folders that are named after the unit. The result `of_unit` is True for them. theirs: folders from the
    service's environment.
    """
    found = []
    for folder, chosen in _folders(place, [*LOG_FOLDERS, *more], theirs):
        times = [status.st_mtime for name, status in _entries(folder, place, theirs=chosen) if name.endswith(".log")]
        if times:
            found.append({"folder": folder, "files": len(times), "newest": max(times), "of_unit": folder in more})
    return found


def _folders(place: Place, usual: Sequence[str], theirs: Sequence[str]) -> List[Tuple[str, bool]]:
    """Return pairs: the absolute path of a folder, and True if the service's user chose this folder."""
    found = {place.path(folder): True for folder in theirs}
    found.update({place.path(folder): False for folder in usual})
    return sorted(found.items())


def backups(place: Place, *, more: Sequence[str], theirs: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """Return the folders with copies of a SQLite database, the names of the copies, and the time of the newest copy.

    A folder is returned only if its newest file is a SQLite database. more, theirs: see logs().
    """
    found = []
    for folder, chosen in _folders(place, [*BACKUP_FOLDERS, *_MORE_BACKUP_FOLDERS, *more], theirs):
        files = [
            (status.st_mtime, name)
            for name, status in _entries(folder, place, theirs=chosen)
            if re.search(r"\.(?:db|sqlite3?|bak)\b|\.backup_", name) and not name.endswith(_SIDE_FILES)
        ]
        rights = place.rights if chosen else None
        if files and _is_database(os.path.join(folder, max(files)[1]), rights=rights):
            names = [name for _time, name in sorted(files, reverse=True)]
            newest = max(files)[0]
            found.append(
                {
                    "folder": folder,
                    "names": names[:50],
                    "files": len(files),
                    "newest": newest,
                    "of_unit": folder in more,
                }
            )
    return found


def survey(
    place: Place,
    *,
    section: str,
    known: environment.Environment,
    paths: Sequence[str],
    unit: str,
    log_folders: Sequence[str],
    backup_folders: Sequence[str],
    examined: Sequence[str] = (),
) -> Dict[str, Any]:
    """Return all facts from the disk.

    paths: files whose existence is checked, relative to the application's folder. unit: the name of the unit, or empty.
    log_folders, backup_folders: folders from the service's environment. examined: further paths that may be proposed.
    The result `access` lists the permissions of the service's user on each path that may be proposed.
    """
    missing = []
    with safe_open.acting(place.rights):
        for path in paths:
            if not os.path.isfile(place.path(path)):
                missing.append(path)
        link = os.readlink(place.app_dir) if os.path.islink(place.app_dir) else ""
        git = os.path.isdir(place.path(".git"))
        has_folder = os.path.isdir(place.app_dir)
    found = {
        "folder": has_folder,
        "link": link,
        "git": git,
        "missing": missing,
        "package": package(place),
        "knexfile": knex_database(place, section=section, known=known),
        "databases": databases(place),
        "logs": logs(place, more=[f"/var/log/{unit}"] if unit else [], theirs=log_folders),
        "backups": backups(place, more=[f"/var/backups/{unit}"] if unit else [], theirs=backup_folders),
    }
    return {**found, "access": _access(place, found, [*map(place.path, paths), *examined])}


def _access(place: Place, found: Mapping[str, Any], examined: Sequence[str]) -> Dict[str, List[str]]:
    """Return the permissions of the service's user on each path. See checks.access."""
    folders = [each["folder"] for each in found["backups"]]
    named = [found["knexfile"].get("path") or "", *found["databases"], *(each["folder"] for each in found["logs"])]
    known = checks.access(
        [place.app_dir, *filter(None, named), *folders, *examined], user=place.user, rights=place.rights
    )
    for folder in folders:
        if folder in known and checks.may_read_all(folder, rights=place.rights):
            known[folder].append(checks.READ_ALL)
    return known
