# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare our database check and our backup with those of the sqlite3 shell.

Also measure the time to read a WAL, and the memory usage.
"""

from __future__ import annotations

from pathlib import Path

import databases
import harness
from harness import MIB
from model import Goal, Measurement

LARGE = databases.Recipe("large", incidents=797_000)
WAL_100 = databases.Recipe("wal-100", incidents=20_000, wal_mib=100)
WAL_4 = databases.Recipe("wal-4", incidents=20_000, wal_mib=4)
SHELL = "sqlite3 shell"
MEMORY = Goal(150, unit="MiB")

CHECKED = "[r['checks']['integrity'], r['checks']['row_counts'], r['conclusive']]"
INTEGRITY = (
    "_sqlite.check",
    f"(lambda r: {CHECKED})(check.check(**arguments, checks=['integrity'], time_budget=600))",
)
BACKUP = ("_sqlite.backup", "(lambda r: [r['integrity'], len(r['sha256'])])(backup.backup(**arguments))")
ANALYSED = (
    "_sqlite.check",
    "(lambda w: [w['complete'], w['frames_total'] == w['frames_committed'] > 0])"
    "(check.check(**arguments, checks=[], row_counts=False)['wal'])",
)


def shell_backup(database: Path, folder: Path) -> float:
    """Back up the database with the sqlite3 shell and check the copy. Return the duration in seconds."""
    script = 'sqlite3 -batch "$1" ".backup \'$2\'" && exec sqlite3 -batch "$2" "PRAGMA integrity_check"'
    return harness.timed(["sh", "-c", script, "sh", str(database), f"{folder}/copy.db"], expect="ok")


def wal(name: str, recipe: databases.Recipe, goal: float) -> Measurement:
    """Return a measurement of the time that it takes to read a WAL."""
    return Measurement(
        name=f"sqlite-{name}",
        what=f"Analysis of a {recipe.wal_mib} MiB WAL",
        how="sqlite_info without a database check. The module verifies the header, and the salt and checksum of every "
        "frame. It reports pending, torn and lost data",
        prepare=recipe.made,
        ours=("sqlite_info", lambda path, _: harness.timed_on_host(*ANALYSED, expect="[True, True]", path=str(path))),
        goals=[Goal(goal)],
    )


def memory(name: str, what: str, prepare: databases.Recipe, call: tuple[str, str], expect: str) -> Measurement:
    """Return a measurement of a function's memory usage. call: the arguments `logic` and `call` for harness.on_host."""

    def measure(path: Path, folder: Path) -> float:
        place = {"dest": f"{folder}/copy.db"} if call is BACKUP else {}
        limit = int(MEMORY.at_most * MIB)
        return harness.memory_on_host(*call, expect=expect, limit=limit, path=str(path), **place)

    return Measurement(
        name=f"sqlite-{name}-memory",
        what=f"Private memory of {what}",
        how="the maximum of three rounds, for all processes together. The value includes the interpreter, but not the "
        f"pages of mapped files. Each process has an RLIMIT_DATA of {MEMORY.at_most:g} MiB",
        prepare=prepare.made,
        ours=(name, measure),
        goals=[MEMORY],
        rounds=3,
    )


MEASUREMENTS = [
    Measurement(
        name="sqlite-integrity",
        what="Full integrity check of a 0.9 GiB database",
        how="sqlite_info runs quick_check on all tables and indexes, and counts the rows of all tables. The shell runs "
        "PRAGMA integrity_check",
        prepare=LARGE.made,
        ours=(
            "sqlite_info",
            lambda path, _: harness.timed_on_host(*INTEGRITY, expect="['ok', 'ok', True]", path=str(path)),
        ),
        rivals={
            SHELL: lambda path, _: harness.timed(
                ["sqlite3", "-batch", str(path), "PRAGMA integrity_check"], expect="ok"
            )
        },
        goals=[Goal(0.7, against=SHELL)],
    ),
    Measurement(
        name="sqlite-backup",
        what="Verified backup of a 0.9 GiB database",
        how="sqlite_backup copies the database as one snapshot, flushes the copy to disk, checks its integrity, "
        "compares the row counts and computes the SHA-256 checksum. The shell runs .backup and then PRAGMA "
        "integrity_check on the copy",
        prepare=LARGE.made,
        ours=(
            "sqlite_backup",
            lambda path, folder: harness.timed_on_host(
                *BACKUP, expect="['ok', 64]", path=str(path), dest=f"{folder}/copy.db"
            ),
        ),
        rivals={SHELL: shell_backup},
        goals=[Goal(1.3, against=SHELL)],
    ),
    wal("wal-large", WAL_100, 4),
    wal("wal-small", WAL_4, 0.3),
    memory("check", "the integrity check of a 0.9 GiB database", LARGE, INTEGRITY, "['ok', 'ok', True]"),
    memory("backup", "the verified backup of a 0.9 GiB database", LARGE, BACKUP, "['ok', 64]"),
    memory("wal", "the analysis of a 100 MiB WAL", WAL_100, ANALYSED, "[True, True]"),
]
