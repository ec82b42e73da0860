# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the entries that describe the current state of the host. No program is run, and an unchanged database is not
read.

Run collect() in a child process for two reasons. If a disk does not respond, only the child process hangs. The process
switches to the service's user and cannot switch back. Everything that the service's user could replace is read with the
rights of this user.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import socket
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import entries, environment, files, unit_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.entries import Entries, Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names, knex_tables

# Databases of the package managers dpkg, rpm and apk. See packages.py.
PACKAGES = (
    "/var/lib/dpkg/status",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/lib/apk/db/installed",
)
_LOCK_FILES = ("package-lock.json", "npm-shrinkwrap.json")
_KNEXFILES = tuple(f"{folder}knexfile.{kind}" for folder in ("", "backend/") for kind in ("js", "cjs", "mjs", "ts"))
_MIGRATIONS = ("migrations", "backend/migrations", "db/migrations", "src/migrations")
_COMMIT = lazy(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_REFERENCE = lazy(r"refs/[\w./-]+\Z")
_SMALL = 1 << 16
_LARGEST_REFS = 1 << 22
# Time limit in seconds for reading the schema.
_DATABASE = 2.0
# If a database changes continuously, its schema is read again after this number of seconds.
_SCHEMA_EVERY = 300.0
_MOST_TABLES = 5000


class Place(NamedTuple):
    """The service whose entries are collected. Relative paths are relative to app_dir.

    unit: empty if systemd does not manage the service. certificate, key: empty if their paths are in the environment.
    node: the program, empty if it is unknown. node_version: empty if it is unknown. rights: the account of the
    service's user, or None to keep the current account.
    """

    app_dir: str
    command: Sequence[str] = ()
    unit: str = ""
    environment_file: str = ""
    database: str = ""
    certificate: str = ""
    key: str = ""
    node: str = ""
    node_version: str = ""
    user: str = ""
    rights: safe_open.Rights = None
    # The start time of the service's process, in seconds since the epoch. The process may apply migrations when it
    # starts.
    started_at: float = 0.0
    unit_folders: Sequence[str] = unit_files.FOLDERS
    root: str = "/"

    def path(self, path: str) -> str:
        """Return the absolute path of one of the service's files."""
        return os.path.normpath(os.path.join(self.app_dir, path))

    def of_host(self, path: str) -> str:
        """Return the path of a file on the host. In tests, the root can be another folder."""
        return os.path.join(self.root, path.lstrip("/"))


def collect(place: Place, known: Optional[entries.Manifest], *, schema: bool = True) -> Entries:
    """Return all entries. known: the manifest. A file that is unchanged since the manifest is not read again.

    schema: True to read the tables and the migrations of the database if its files have changed. After the call, this
    process permanently runs as the service's user.
    """
    before = dict(known.entries) if known is not None else {}
    found: Entries = {}
    _host(place, before, found)
    _unit(place, before, found)
    _environment_files(place, before, found)
    if schema and place.database:
        files.add(found, _schema(place, before, known.at if known is not None else 0.0))
    if place.rights is not None:
        safe_open.become(*place.rights)
    _application(place, before, found)
    _certificate(place, before, found)
    _node(place, before, found)
    return found


def _host(place: Place, known: Entries, found: Entries) -> None:
    boot = ""
    with contextlib.suppress(OSError):
        boot = procfs.read_text("/proc/sys/kernel/random/boot_id").strip()
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    version = platform.python_version()
    files.add(
        found,
        Entry("kernel", "kernel", os.uname().release, since=booted_at),
        Entry("host", "boot", boot, since=booted_at),
        Entry("host", "hostname", entries.text(socket.gethostname())),
        Entry("python", "python", version),
        *(files.file("packages", place.of_host(path), known=known, name=path) for path in PACKAGES),
        *(
            files.file("network", place.of_host(path), known=known, read=files.digest, name=path)
            for path in ("/etc/hosts", "/etc/resolv.conf")
        ),
        _timezone(place),
    )


def _timezone(place: Place) -> Optional[Entry]:
    path = place.of_host("/etc/localtime")
    try:
        return Entry("timezone", "/etc/localtime", entries.text(os.readlink(path).rpartition("zoneinfo/")[2]))
    except OSError:
        return None


def _unit(place: Place, known: Entries, found: Entries) -> None:
    if not place.unit:
        return
    for path in unit_files.paths(place.unit, folders=place.unit_folders):
        if unit_files.is_masked(path):
            files.add(found, Entry("unit", path, "masked"))
        else:
            files.add(found, files.file("unit", path, known=known, read=unit_files.read))


def _environment_files(place: Place, known: Entries, found: Entries) -> None:
    named = [place.path(place.environment_file)] if place.environment_file else []
    for entry in list(found.values()):
        if entry.kind == "unit":
            named += unit_files.environment_files(entry.parts)
    for path in dict.fromkeys([*named, *map(place.path, environment_names.OWN_FILES)]):
        files.add(found, files.file("environment", path, known=known, read=environment.read))


def _application(place: Place, known: Entries, found: Entries) -> None:
    """Add the entries for the application's folder.

    The path of the folder may contain root-owned links to the current release.
    """
    files.add(found, _release_link(place), _commit(place))
    names = [("package_json", "package.json"), *(("lock_file", name) for name in _LOCK_FILES)]
    names.append(("modules", "node_modules/.package-lock.json"))
    for kind, name in names:
        files.add(found, files.file(kind, place.path(name), known=known, read=files.digest, name=name))
    files.add(found, files.folder("modules", place.path("node_modules"), known=known, name="node_modules"))
    # A knexfile may contain a password, so its content is not used.
    files.add(found, *(files.file("knexfile", place.path(name), known=known, name=name) for name in _KNEXFILES))
    script = next((word for word in place.command[1:] if not word.startswith("-")), "")
    folder = os.path.dirname(script) if not os.path.isabs(script) else ""
    files.add(found, files.code("code", place.path(folder), name=folder or ".", skipped=("migrations",)))
    for name in _MIGRATIONS:
        if os.path.isdir(place.path(name)):
            files.add(found, files.code("migrations", place.path(name), name=name))
            break
    if place.database:
        files.add(found, _database_file(place))


def _release_link(place: Place) -> Optional[Entry]:
    try:
        status = os.lstat(place.app_dir)
        target = os.readlink(place.app_dir)
    except OSError:
        return None
    return Entry("release", place.app_dir, entries.text(target), since=status.st_ctime)


def _commit(place: Place) -> Optional[Entry]:
    """Return the commit that is checked out, without running git."""
    folder = place.path(".git")
    head = _line(os.path.join(folder, "HEAD"))
    reference = head[len("ref: ") :] if head.startswith("ref: ") else ""
    commit = head
    if _REFERENCE.match(reference) and ".." not in reference:
        commit = _line(os.path.join(folder, reference)) or _packed(folder, reference)
    if not _COMMIT.match(commit):
        return None
    changed = [os.path.join(folder, name) for name in ("logs/HEAD", "HEAD")]
    times = [status.st_mtime for status in map(files.status, changed) if status is not None]
    return Entry("release", "git", commit, since=times[0] if times else 0.0)


def _line(path: str) -> str:
    """Return the first line of a small file, or an empty string."""
    try:
        return safe_open.read(path, limit=_SMALL).decode("utf-8", "replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _packed(folder: str, reference: str) -> str:
    try:
        text = safe_open.read(os.path.join(folder, "packed-refs"), limit=_LARGEST_REFS).decode("utf-8", "replace")
    except OSError:
        return ""
    return next((line.split()[0] for line in text.splitlines() if line.endswith(f" {reference}")), "")


def _certificate(place: Place, known: Entries, found: Entries) -> None:
    """Add the certificate and its key. The key's entry contains only its file status."""
    named: Dict[str, str] = {}
    for entry in found.values():
        if entry.kind in ("environment", "unit"):
            named = {**environment.named(entry.parts), **named}
    certificate = place.certificate or named.get("certificate", "")
    key = place.key or named.get("key", "")
    if certificate:
        key = key or f"{os.path.splitext(certificate)[0]}.key"
        path = place.path(certificate)
        there = files.file("certificate", path, known=known, read=_fingerprint, name="certificate")
        files.add(found, _at(there, certificate))
    if key:
        files.add(found, _at(files.file("key", place.path(key), known=known, name="key"), key))


def _at(entry: Optional[Entry], path: str) -> Optional[Entry]:
    """Return the entry with the path as an additional part. A new path then counts as a change to the same entry."""
    return entry and entry._replace(parts={**entry.parts, entries.PATH: path})


def _fingerprint(data: bytes) -> Tuple[str, Mapping[str, str]]:
    """Return the fingerprint and the expiry date of a certificate. This is a Reader (see files.py)."""
    try:
        der = x509.from_pem(data.decode("utf-8", "replace"))
        ends = x509.describe(der)["not_after"]
    except x509.CertificateError:
        return "unreadable", {}
    return hashlib.sha256(der).hexdigest()[: entries.DIGEST], {entries.UNTIL: entries.day(ends)}


def _node(place: Place, known: Entries, found: Entries) -> None:
    if not place.node:
        return
    path = os.path.realpath(place.node)
    entry = files.file("node", path, known=known, name="node")
    if entry is not None and place.node_version:
        entry = entry._replace(value=place.node_version)
    files.add(found, _at(entry, path))


def _database_file(place: Place) -> Optional[Entry]:
    """Return the entry for the database file.

    The content of the database changes continuously. Therefore, the entry shows only whether the file is missing, is
    empty or contains data.
    """
    entry = files.file("database", place.database, known={}, name="database")
    if entry is None or entry.stamp is None:
        return Entry("database", "database", "missing", parts={entries.PATH: place.database})
    value = "with data" if entry.stamp.size else "0 bytes"
    return _at(entry._replace(value=value, stamp=entry.stamp._replace(size=0, modified=0, at=0.0)), place.database)


def _schema(place: Place, known: Entries, known_at: float) -> Optional[Entry]:
    """Return the tables and the completed migrations.

    The database is read in each of these cases:

    - The manifest has no entry for the schema.
    - The service was started after the manifest was saved.
    - The database has changed, and its schema was read more than _SCHEMA_EVERY seconds ago.

    In all other cases, the known entry is returned. known_at: the time of the manifest.
    """
    before = known.get("schema database")
    gate = _gate(place.database)
    now = time.time()
    if before is not None and place.started_at <= known_at:
        if before.gate == gate:
            return before
        if 0 <= now - before.since < _SCHEMA_EVERY:
            return before._replace(gate="")
    try:
        tables = knex_tables.read_tables(place.database, user=place.user or None, timeout=_DATABASE)
    except (knex_tables.KnexError, OSError):
        return before and before._replace(gate="")
    return schema(tables)._replace(since=now, gate=gate)


def _gate(path: str) -> str:
    """Return the status of the database files. The status changes with each write."""
    there = [files.status(f"{path}{suffix}") for suffix in ("", "-wal")]
    return ",".join("" if each is None else ":".join(map(str, files.stamp_of(each)[:3])) for each in there)


def schema(tables: Any) -> Entry:
    """Return the entry for a schema: the digest of each object, and the names of the completed migrations."""
    parts: Dict[str, str] = {f"{kind} {name}": value for kind, name, value in tables.schema[:_MOST_TABLES]}
    parts.update({f"migration {name}": "" for name in tables.names[:_MOST_TABLES]})
    return Entry("schema", "database", "", None, parts)
