#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a writer, then kill what clean start does to its database, and count the rows that are lost: none may be.

Each round: a writer commits numbered rows with C(synchronous=FULL) and reports each commit; SIGKILL at a random
instant. Then the database steps of clean start (check, evidence, backup, checkpoint, check) run and are killed as
well: at a random instant, at a call of theirs that changes files, or, where strace is installed, inside SQLite at the
entry of a system call. Whatever is there then is judged, the steps run again and have to succeed, and every reported
row has to be there.

With --backups it takes live backups under a writer: each is reopened, sound, and a prefix of the commits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import (
    _sqlite_backup,
    _sqlite_check,
    _sqlite_checkpoint,
    _sqlite_view,
)

SYSCALLS = "pwrite64,fsync,fdatasync,ftruncate,unlink,rename,link,close,mkdir,write"
# Calls of the steps that change something; each may be the last thing a process does.
POINTS: List[Tuple[Any, str]] = [
    (os, "mkdir"),
    (os, "link"),
    (os, "rename"),
    (os, "unlink"),
    (os, "fsync"),
    (os, "fchmod"),
    (os, "fork"),
    (os, "waitpid"),
    (shutil, "rmtree"),
    (tempfile, "mkdtemp"),
    (_sqlite_view, "connect"),
    (_sqlite_view, "in_child"),
    (sqlite3, "connect"),
]


class Lost(Exception):
    """A reported row is gone, a backup is not what it claims to be, or a step failed where it had to succeed."""


def write_rows(path: str, pipe: int, *, seed: int, pause: float) -> None:
    """Be the writer until killed; report each number once its COMMIT has returned, then wait C(pause) seconds.

    With a pause the rows are short, so that the database stays small for as long as it is written to.
    """
    chance = random.Random(seed)  # noqa: S311 - chance, not secrets
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute(f"PRAGMA page_size={chance.choice([512, 1024, 4096, 4096, 8192, 65536])}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={chance.choice([0, 5, 30, 1000])}")
    connection.execute(f"PRAGMA cache_size={chance.choice([2, 20, 2000])}")  # a small one spills before the commit
    connection.execute("CREATE TABLE IF NOT EXISTS numbered (number INTEGER PRIMARY KEY, text TEXT)")
    connection.execute("CREATE INDEX IF NOT EXISTS numbered_text ON numbered (text)")
    number = 1
    while True:
        connection.execute("BEGIN IMMEDIATE")
        last = number + chance.choice([1, 1, 1, 5, 40]) - 1
        for value in range(number, last + 1):
            text = f"{value}:" + "x" * chance.randrange(20 if pause else chance.choice([20, 600, 5000]))
            connection.execute("INSERT INTO numbered VALUES (?, ?)", (value, text))
        connection.execute("COMMIT")
        os.write(pipe, f"{last}\n".encode())
        time.sleep(pause)
        number = last + 1
        if chance.random() < 0.02:
            connection.close()  # as an application with a pool does; the last close checkpoints
            connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA synchronous=FULL")


class Writer:
    """A writer in a process of its own."""

    def __init__(self, path: str, *, seed: int, pause: float = 0) -> None:
        self._pipe, writing = os.pipe()
        self._told = b""
        self._last = 0
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._pipe)
                write_rows(path, writing, seed=seed, pause=pause)
            finally:
                os._exit(1)
        os.close(writing)

    def last(self) -> int:
        """Return the last number it has reported."""
        while select.select([self._pipe], [], [], 0)[0]:
            chunk = os.read(self._pipe, 65536)
            if not chunk:
                break
            *lines, self._told = (self._told + chunk).split(b"\n")
            if lines:
                self._last = int(lines[-1])
        return self._last

    def kill(self) -> int:
        """Kill it; return the last number it reported."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        last = self.last()
        os.close(self._pipe)
        return last


def steps(path: str, backups: str) -> Dict[str, Any]:
    """Do what clean start does to the database of the stopped service."""
    before = _sqlite_check.check(path=path)
    if not before["healthy"]:
        raise Lost(f"unhealthy: {before['problems']}")
    _sqlite_backup.backup(path=path, dest_dir=backups, evidence=True, prefix="evidence_")
    _sqlite_backup.backup(path=path, dest_dir=backups, prefix="backup_", keep=3)
    _sqlite_checkpoint.checkpoint(path=path)
    return _sqlite_check.check(path=path, checks=["quick", "integrity"], baseline=before["row_counts"])


def in_fork(work: Callable[[], Any]) -> int:
    """Run C(work) in a process group of its own; return its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            work()
            status = 0
        finally:
            os._exit(status)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return pid


def kill_at_point(number: int) -> None:
    """Let the process that makes call C(number) of POINTS die there: even numbers before the call, odd ones after."""
    left = [number]

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run

    for owner, name in POINTS:
        setattr(owner, name, wrapped(getattr(owner, name)))


def run_and_kill(chance: random.Random, path: str, backups: str) -> Tuple[str, bool]:
    """Run the steps and kill them one way or another; return which way, and whether they were killed."""
    ways = ["instant", "point", "point"]
    if shutil.which("strace"):
        ways.append("system call")
    way = chance.choice(ways)
    if way == "system call":
        command = [sys.executable, __file__, "--steps", path, backups]
        number = chance.randrange(1, 60)
        inject = f"inject={SYSCALLS}:signal=KILL:when={number}"
        # Only calls on the files of this round count.
        trace = ["strace", "-f", "-qq", "-o", os.devnull, "-P", path, "-P", f"{path}-wal", "-P", f"{path}-shm"]
        done = subprocess.run(
            [*trace, "-e", f"trace={SYSCALLS}", "-e", inject, *command], capture_output=True, check=False, timeout=120
        )
        return way, done.returncode != 0

    def work() -> None:
        if way == "point":
            kill_at_point(chance.randrange(0, 110))
        steps(path, backups)

    pid = in_fork(work)
    if way == "instant":
        time.sleep(chance.random() * 0.12)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _pid, status = os.waitpid(pid, 0)
    return way, status != 0


def rows_of(path: str, *, immutable: bool) -> List[int]:
    """Return the numbers in a database, read by nothing of ours. Raises Lost where it is not sound."""
    query = "mode=ro&immutable=1" if immutable else "mode=rw"
    connection = sqlite3.connect(f"file:{path}?{query}", uri=True)
    try:
        answer = connection.execute("PRAGMA integrity_check").fetchall()
        if answer != [("ok",)]:
            raise Lost(f"{path}: integrity_check says {answer[:3]}")
        return [row[0] for row in connection.execute("SELECT number FROM numbered ORDER BY number")]
    finally:
        connection.close()


def judge(numbers: List[int], *, acknowledged: int, what: str) -> None:
    """Raise Lost unless C(numbers) is 1 to n without a gap, n at least the last reported one."""
    if numbers != list(range(1, len(numbers) + 1)):
        raise Lost(f"{what}: the rows have gaps")
    if len(numbers) < acknowledged:
        raise Lost(f"{what}: {acknowledged - len(numbers)} of {acknowledged} reported rows are gone")


def judge_copies(backups: str, *, acknowledged: int) -> int:
    """Judge every backup and every evidence folder that has its final name; return how many backups there are."""
    count = 0
    for name in sorted(os.listdir(backups)) if os.path.isdir(backups) else []:
        place = f"{backups}/{name}"
        if name.startswith("backup_"):
            judge(rows_of(place, immutable=True), acknowledged=acknowledged, what=name)
            count += 1
        elif name.startswith("evidence_"):
            with tempfile.TemporaryDirectory() as folder:
                for file in os.listdir(place):
                    shutil.copy(f"{place}/{file}", folder)
                judge(rows_of(f"{folder}/itsm.db", immutable=False), acknowledged=acknowledged, what=name)
    return count


def torture_round(seed: int, folder: str) -> Dict[str, Any]:
    """Run one round in an empty C(folder). Raises Lost."""
    chance = random.Random(seed)  # noqa: S311 - chance, not secrets
    path, backups = f"{folder}/app/itsm.db", f"{folder}/backups"
    os.mkdir(f"{folder}/app")
    writer = Writer(path, seed=seed)
    until = time.monotonic() + 10
    while not writer.last() and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(chance.random() * 0.06)
    acknowledged = writer.kill()
    kills: Dict[str, int] = {}
    for _ in range(chance.choice([1, 1, 2])):
        way, killed = run_and_kill(chance, path, backups)
        kills[way] = kills.get(way, 0) + killed
        judge_copies(backups, acknowledged=acknowledged)
    after = steps(path, backups)
    if not after["healthy"] or after["data_loss_suspected"]:
        raise Lost(f"after the last run: {after['problems']}")
    if after["wal"]["size"]:
        raise Lost(f"left in the WAL: {after['wal']}")
    leftovers = [name for name in os.listdir(backups) if name.startswith(".")]
    if leftovers:
        raise Lost(f"left beside the backups: {leftovers}")
    if not judge_copies(backups, acknowledged=acknowledged):
        raise Lost("there is no backup")
    numbers = rows_of(path, immutable=True)
    judge(numbers, acknowledged=acknowledged, what="the database")
    return {"rows": acknowledged, "kills": kills}


def torture(rounds: int, seed: int, where: Optional[str]) -> Dict[str, Any]:
    """Run C(rounds) rounds; return the figures. Raises Lost with the seed of the round that lost something."""
    figures: Dict[str, Any] = {"rounds": 0, "writers killed": 0, "rows": 0, "rows lost": 0, "kills": {}}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            try:
                result = torture_round(seed + number, folder)
            except Exception as error:
                raise Lost(f"round {number}, seed {seed + number}: {error}") from error
        figures["rounds"] += 1
        figures["writers killed"] += 1
        figures["rows"] += result["rows"]
        for way, count in result["kills"].items():
            figures["kills"][way] = figures["kills"].get(way, 0) + count
        if figures["rounds"] % 50 == 0:
            print(f"round {figures['rounds']}, {figures['rows']} rows", flush=True)
    return figures


def live_backups(count: int, seed: int, where: Optional[str]) -> Dict[str, Any]:
    """Take C(count) backups of a database that is being written to; return the figures. Raises Lost."""
    figures: Dict[str, Any] = {"live backups": 0, "rows in the last": 0, "written meanwhile": 0}
    with tempfile.TemporaryDirectory(dir=where) as folder:
        path = f"{folder}/itsm.db"
        writer = Writer(path, seed=seed, pause=0.005)
        try:
            while writer.last() < 10:
                time.sleep(0.001)
            for number in range(count):
                before = writer.last()
                checked = _sqlite_check.check(path=path)
                if not checked["healthy"]:
                    raise Lost(f"live check {number}: {checked['problems']}")
                result = _sqlite_backup.backup(path=path, dest=f"{folder}/copies/{number}")
                numbers = rows_of(result["backup_file"], immutable=True)
                after = writer.last()
                judge(numbers, acknowledged=before, what=f"live backup {number}")
                if len(numbers) > after + 40:  # the largest transaction that may not have been reported yet
                    raise Lost(f"live backup {number}: {len(numbers)} rows, {after} reported")
                os.unlink(result["backup_file"])
                figures["live backups"] += 1
                figures["rows in the last"] = len(numbers)
                figures["written meanwhile"] += after - before
        finally:
            writer.kill()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--backups", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the time by default")
    # A killed process leaves the same in memory as on a disk, and a flush costs nothing there.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parser.add_argument("--dir", default=memory, help="where the databases are made")
    parser.add_argument("--steps", nargs=2, metavar=("DATABASE", "BACKUPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps:
        steps(*arguments.steps)
        return 0
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    try:
        figures = {
            **torture(arguments.rounds, seed, arguments.dir),
            **live_backups(arguments.backups, seed, arguments.dir),
        }
    except Lost as error:
        print(f"LOST: {error}", file=sys.stderr)
        return 1
    kills = figures.pop("kills")
    for name, value in {**figures, **{f"kills at {way}": count for way, count in sorted(kills.items())}}.items():
        print(f"{name}: {value}")
    print(f"seconds: {time.monotonic() - started:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
