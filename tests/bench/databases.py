# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Databases for measurements.

Each database is created once and cached in a folder. The name of the folder contains a hash of the database's recipe.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itsm-nexus-runbook" / "bench"

# An ITSM system after some years of use. The indexes are created before the rows, so that the pages of the indexes are
# scattered across the file, as in a database that has grown over time.
SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, role TEXT);
CREATE TABLE assets (id INTEGER PRIMARY KEY, tag TEXT NOT NULL UNIQUE, owner_id INTEGER REFERENCES users (id));
CREATE TABLE incidents (id INTEGER PRIMARY KEY, ticket_id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, description TEXT,
  priority TEXT NOT NULL, status TEXT NOT NULL, reporter_id INTEGER NOT NULL REFERENCES users (id),
  asset_id INTEGER REFERENCES assets (id), created_at TEXT NOT NULL);
CREATE TABLE comments (id INTEGER PRIMARY KEY, incident_id INTEGER NOT NULL REFERENCES incidents (id),
  author_id INTEGER NOT NULL REFERENCES users (id), body TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE audit_log (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id), action TEXT NOT NULL,
  entity TEXT NOT NULL, entity_id INTEGER NOT NULL, hash TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE knex_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, batch INTEGER, migration_time TEXT);
CREATE TABLE knex_migrations_lock ("index" INTEGER PRIMARY KEY, is_locked INTEGER);
CREATE INDEX assets_owner ON assets (owner_id);
CREATE INDEX incidents_status ON incidents (status, priority);
CREATE INDEX incidents_created ON incidents (created_at);
CREATE INDEX incidents_reporter ON incidents (reporter_id);
CREATE INDEX comments_incident ON comments (incident_id, created_at);
CREATE INDEX comments_author ON comments (author_id);
CREATE INDEX audit_log_entity ON audit_log (entity, entity_id);
CREATE INDEX audit_log_user ON audit_log (user_id, created_at);
"""
USERS, ASSETS = 2000, 50_000
WORDS = ["server", "network", "printer", "password", "reset", "slow", "mail", "certificate", "update", "disk"]
WORDS += ["memory", "request", "approved", "rejected"]


@dataclass(frozen=True)
class Recipe:
    """The size of a database: the number of incidents (other rows are proportional to it), and the WAL size in MiB."""

    name: str
    incidents: int
    wal_mib: int = 0

    @property
    def folder(self) -> Path:
        """Return the database's cache folder.

        The folder's name contains a hash of the recipe and of this source file.
        """
        text = f"{self!r} {inspect.getsource(sys.modules[__name__])}"
        return CACHE / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def database(self) -> Path:
        """Return the path of the database file. The file exists only after a call to made()."""
        return self.folder / "itsm.db"

    def made(self) -> Path:
        """Create the database if it is not in the cache, read its files into memory, and return its path."""
        if not self.folder.is_dir():
            print(f"Making the database {self.name}, once", file=sys.stderr, flush=True)
            CACHE.mkdir(parents=True, exist_ok=True)
            for old in CACHE.glob(f"{self.name}-*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=CACHE / "work") as work:
                make(Path(work), self)
                (Path(work) / "made").rename(self.folder)
        for file in self.folder.iterdir():
            with file.open("rb", buffering=0) as stream:
                while stream.read(1 << 20):
                    pass
        return self.database


def number(value: int) -> int:
    """Return a pseudo-random number of 31 bits. The same value always yields the same number."""
    value = value * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    return (value ^ value >> 29) * 0xBF58476D1CE4E5B9 >> 20 & 0x7FFFFFFF


def moment(value: int) -> str:
    """Return a time in 2020 or later, as text. A higher value yields a later time."""
    return (
        f"20{20 + value // 400_000:02d}-{value // 40_000 % 10 + 1:02d}-{value // 1500 % 27 + 1:02d}T{value % 1440:04d}Z"
    )


# Build these strings once, because millions of rows use them.
SENTENCES = [" ".join(WORDS[number(value * 31 + place) % len(WORDS)] for place in range(30)) for value in range(1009)]


def prose(value: int, length: int) -> str:
    """Return words that have `length` characters in total. The words depend only on `value`."""
    return SENTENCES[number(value) % len(SENTENCES)][:length]


def incident(i: int) -> tuple[object, ...]:
    """Return row `i` of the incidents table."""
    return (
        i,
        f"INC-{i:08d}",
        prose(i, 35),
        prose(i + 9, 170),
        f"P{number(i) % 4}",
        f"status{number(i + 1) % 6}",
        1 + number(i + 2) % USERS,
        1 + number(i + 3) % ASSETS,
        moment(i),
    )


def comments(i: int) -> Iterator[tuple[object, ...]]:
    """Yield the comments that are written together with incident `i`.

    They refer to this incident or to older incidents.
    """
    for number_of in (2 * i - 1, 2 * i):
        on = 1 + number(number_of) % i
        yield number_of, on, 1 + number(number_of + 1) % USERS, prose(number_of, 125), moment(i)


def audit(i: int) -> Iterator[tuple[object, ...]]:
    """Yield the audit log entries that are written together with incident `i`."""
    for entry in (3 * i - 2, 3 * i - 1, 3 * i):
        chance = number(entry)
        user, hashed = 1 + chance % USERS, hashlib.md5(str(entry).encode(), usedforsecurity=False).hexdigest()
        yield entry, user, f"action{chance % 9}", f"entity{chance % 6}", 1 + number(entry + 1) % i, hashed, moment(i)


def fill(connection: sqlite3.Connection, numbers: range) -> None:
    """Insert the incidents with the given numbers, their comments and their audit log entries."""
    connection.executemany("INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", map(incident, numbers))
    connection.executemany("INSERT INTO comments VALUES (?, ?, ?, ?, ?)", (row for i in numbers for row in comments(i)))
    connection.executemany(
        "INSERT INTO audit_log VALUES (?, ?, ?, ?, ?, ?, ?)", (row for i in numbers for row in audit(i))
    )


def make(work: Path, recipe: Recipe) -> None:
    """Create the database and its WAL in the folder `work`/made. Raises sqlite3.Error, OSError."""
    source, target = work / "itsm.db", work / "made"
    connection = sqlite3.connect(source, isolation_level=None)
    # Keep all pages in memory and write them once at the end, because every second row changes a page of an index.
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-1500000")
    connection.executescript(SCHEMA)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO users VALUES (?, ?, ?, ?)",
        ((i, f"user{i}", f"user{i}@example.org", f"role{i % 5}") for i in range(1, USERS + 1)),
    )
    connection.executemany(
        "INSERT INTO assets VALUES (?, ?, ?)",
        ((i, f"AST-{i:06d}", 1 + number(i) % USERS) for i in range(1, ASSETS + 1)),
    )
    connection.executemany("INSERT INTO settings VALUES (?, ?)", ((f"setting{i}", prose(i, 20)) for i in range(60)))
    connection.executemany(
        "INSERT INTO knex_migrations VALUES (?, ?, 1, ?)",
        ((i, f"20250101{i:06d}_change.js", moment(i)) for i in range(1, 26)),
    )
    connection.execute("INSERT INTO knex_migrations_lock VALUES (1, 0)")
    for start in range(1, recipe.incidents + 1, 1000):
        fill(connection, range(start, min(start + 1000, recipe.incidents + 1)))
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    target.mkdir()
    if not recipe.wal_mib:
        connection.close()
        source.rename(target / source.name)
        return
    connection.execute("PRAGMA wal_autocheckpoint=0")
    wal, start = Path(f"{source}-wal"), recipe.incidents + 1
    while not wal.exists() or wal.stat().st_size < recipe.wal_mib << 20:
        connection.execute("BEGIN")
        fill(connection, range(start, start + 20))
        connection.execute("COMMIT")
        start += 20
    for suffix in ("", "-wal"):  # before the connection is closed, because a crash leaves the same files
        shutil.copy(f"{source}{suffix}", target / f"{source.name}{suffix}")
    connection.close()
