#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a writer and then the steps of a clean start on its database. Check that no rows are lost.

The number of rounds is set with --rounds. Each round has these steps:

1. A writer commits numbered rows with synchronous=FULL and reports each commit. SIGKILL stops the writer at a random
moment.
2. The database steps of a clean start (check, evidence, backup, checkpoint, check) are run and killed.
3. The backups and the evidence are checked. Then the steps run again. All steps must succeed, and the database must
   contain every reported row.

The steps are killed in three ways, one after the other:

- just before or just after one of their calls (a boundary), each time at a different boundary,
- inside SQLite, at the start of a system call on the database or its WAL, each time at a different call (needs strace),
- at a random moment.

The boundaries are known from an uninterrupted run. At a boundary, either all processes of the steps are killed, or only
the process that reads or writes the database. If only this process is killed, its parent process must handle the kill.

After the rounds, backups are created while a writer is running. The number of backups is set with --backups. Each
backup must be undamaged and must contain all commits up to the time of the backup, without a gap.

At the end, writers fill one database with --supervised rows, and are killed repeatedly. A supervisor restarts the
writer after a delay, as systemd does, possibly while the steps are running. The steps may refuse to continue. Some runs
of the steps are also killed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import mmap
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    backup_copy,
    child_process,
    evidence_copy,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint

SYSCALLS = "pwrite64,fsync,fdatasync,ftruncate,unlink,close"
# Functions that the steps call to make a change, or just before or after a change. The steps can be killed before or
# after each of these calls.
POINTS: List[Tuple[Any, str]] = [
    (os, "mkdir"),
    (os, "link"),
    (os, "rename"),
    (os, "unlink"),
    (os, "fsync"),
    (os, "fchmod"),
    (os, "fork"),
    (shutil, "rmtree"),
    (tempfile, "mkdtemp"),
    (evidence_copy, "copy_bytes"),
    (backup_copy, "copy"),
    (backup_copy, "verify"),
    (sqlite_backup, "_publish"),
    (sqlite_backup, "_prune"),
    (sqlite_checkpoint, "_run"),
    (sqlite_checkpoint, "_prove"),
    (child_process, "in_child"),
]
WAYS = ("boundary", "boundary", "system call", "instant")
# Backups from earlier days. The retention must remove some of these.
OLD = ("backup_19990101T000000Z", "backup_19990102T000000Z")

# A moment just before or just after a call: its text, and the number of earlier moments with the same text. For a
# system call: the name of the call, and its number, counted from 1.
Boundary = Tuple[str, int]


class Lost(Exception):
    """A reported row is lost, a backup is wrong, or a required step has failed."""


def write_rows(path: str, pipe: int, *, seed: int, pause: float) -> None:
    """Write rows until this process is killed. After each COMMIT, write the last row number to `pipe`, then wait.

    pause: the waiting time in seconds. If `pause` is not 0, the rows are short, so that the database stays small during
    the test.
    """
    chance = random.Random(seed)  # noqa: S311 - chance, not secrets
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute(f"PRAGMA page_size={chance.choice([512, 1024, 4096, 4096, 8192, 65536])}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={chance.choice([0, 5, 30, 1000])}")
    connection.execute(f"PRAGMA cache_size={chance.choice([2, 20, 2000])}")  # a small cache spills before the commit
    connection.execute("CREATE TABLE IF NOT EXISTS numbered (number INTEGER PRIMARY KEY, text TEXT)")
    connection.execute("CREATE INDEX IF NOT EXISTS numbered_text ON numbered (text)")
    number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM numbered").fetchone()[0]
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
            connection.close()  # as a connection pool does; the last close checkpoints the WAL
            connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA synchronous=FULL")


class Writer:
    """A writer in a separate process."""

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
        """Return the last row number that the writer has reported."""
        while select.select([self._pipe], [], [], 0)[0]:
            chunk = os.read(self._pipe, 65536)
            if not chunk:
                break
            *lines, self._told = (self._told + chunk).split(b"\n")
            if lines:
                self._last = int(lines[-1])
        return self._last

    def kill(self) -> int:
        """Kill the writer, and return the last row number that it reported."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        last = self.last()
        os.close(self._pipe)
        return last


class Supervisor:
    """Restarts the writer after a delay whenever it exits, like systemd with Restart=always.

    delay: the maximum delay in seconds. The delay is random, because the duration of the steps hardly varies.
    """

    def __init__(self, path: str, *, seed: int, delay: float) -> None:
        self._pipe, writing = os.pipe()
        self._said = b""
        self._last = 0
        self._writers: List[int] = []
        self._pid = in_fork(lambda: self._keep(path, writing, seed=seed, delay=delay))
        os.close(writing)

    @staticmethod
    def _keep(path: str, writing: int, *, seed: int, delay: float) -> None:
        chance = random.Random(seed)  # noqa: S311 - chance, not secrets
        for number in itertools.count():
            pid = os.fork()
            if pid == 0:
                try:
                    os.write(writing, f"writer {os.getpid()}\n".encode())
                    write_rows(path, writing, seed=seed + number, pause=5e-4)
                finally:
                    os._exit(1)
            os.waitpid(pid, 0)
            time.sleep(chance.uniform(0.05, delay))

    def _read(self) -> None:
        while select.select([self._pipe], [], [], 0)[0]:
            chunk = os.read(self._pipe, 65536)
            if not chunk:
                break
            *lines, self._said = (self._said + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"writer "):
                    self._writers.append(int(line.split()[1]))
                else:
                    self._last = int(line)

    def last(self) -> int:
        """Return the last row number that the writers have reported."""
        self._read()
        return self._last

    def writers(self) -> int:
        """Return the number of writers that have been started."""
        self._read()
        return len(self._writers)

    def kill_writer(self) -> None:
        """Kill the current writer. The supervisor then starts the next one."""
        self._read()
        os.kill(self._writers[-1], signal.SIGKILL)

    def end(self) -> int:
        """Stop the supervisor and its writer, and return the last reported row number."""
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        # If no process has the other end of the pipe open, the writer has also exited.
        while select.select([self._pipe], [], [], 10)[0] and not self._ended():
            pass
        os.close(self._pipe)
        return self._last

    def _ended(self) -> bool:
        before = self._said, self._last, len(self._writers)
        self._read()
        return before == (self._said, self._last, len(self._writers))


class Boundaries:
    """The boundaries at which the steps can be killed: the moments just before and just after each of their calls."""

    def __init__(self) -> None:
        # All processes of the steps share this memory. The memory contains the length of a string (4 bytes), followed
        # by the string. The string has one line for each boundary.
        self._shared = mmap.mmap(-1, 1 << 18)
        self._step = ""
        self._wanted: Optional[Boundary] = None
        self._alone = False
        self._parent = 0

    def enter(self, step: str) -> None:
        """Set the name of the current step, which is part of the boundaries' names."""
        self._step = step

    def seen(self) -> List[str]:
        """Return the names of the boundaries that were passed, in order."""
        return self._shared[4 : 4 + int.from_bytes(self._shared[:4], "little")].decode().splitlines()

    def watch(self, wanted: Optional[Boundary], *, alone: bool) -> None:
        """From now on, record all boundaries in this process and its children.

        At the boundary `wanted`, kill all these processes. If `alone` is True, kill only the child process that reaches
        the boundary.
        """
        self._wanted, self._alone, self._parent = wanted, alone, os.getpid()
        for owner, name in POINTS:
            setattr(owner, name, self._around(getattr(owner, name), name.strip("_")))
        watched = self

        class Connection(sqlite3.Connection):
            """A database connection whose calls also count as boundaries."""

            def execute(self, sql: str, *parameters: Any) -> Any:
                if "wal_checkpoint" not in sql:
                    return super().execute(sql, *parameters)
                return watched._around(super().execute, "PRAGMA wal_checkpoint")(sql, *parameters)

            def backup(self, *arguments: Any, **named: Any) -> None:
                watched._around(super().backup, "copy of the pages")(*arguments, **named)

            def close(self) -> None:
                watched._around(super().close, "close")()

        connect = sqlite3.connect
        sqlite3.connect = lambda *arguments, **named: connect(*arguments, **named, factory=Connection)  # type: ignore

    def _around(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self._pass(f"{self._step}: before {name}")
            result = call(*arguments, **named)
            self._pass(f"{self._step}: after {name}")
            return result

        return run

    def _pass(self, name: str) -> None:
        wanted = self._wanted == (name, self.seen().count(name))
        line, length = f"{name}\n".encode(), int.from_bytes(self._shared[:4], "little")
        self._shared[4 + length : 4 + length + len(line)] = line
        self._shared[:4] = (length + len(line)).to_bytes(4, "little")
        if wanted and self._alone and os.getpid() != self._parent:
            os.kill(os.getpid(), signal.SIGKILL)
        elif wanted:
            os.killpg(0, signal.SIGKILL)


def steps(path: str, backups: str, boundaries: Optional[Boundaries] = None) -> Dict[str, Any]:
    """Run the database steps of a clean start, and return the result of the last check. Raises Lost."""

    def enter(step: str) -> None:
        if boundaries is not None:
            boundaries.enter(step)

    enter("look")
    before = sqlite_check.check(path=path)
    if not before["healthy"]:
        raise Lost(f"unhealthy: {before['problems']}")
    enter("evidence")
    sqlite_backup.backup(path=path, dest_dir=backups, evidence=True, prefix="evidence_")
    enter("backup")
    sqlite_backup.backup(path=path, dest_dir=backups, prefix="backup_", keep=2)
    enter("checkpoint")
    sqlite_checkpoint.checkpoint(path=path)
    enter("last look")
    return sqlite_check.check(path=path, checks=["quick", "integrity"], baseline=before["row_counts"])


def in_fork(work: Callable[[], Any]) -> int:
    """Start `work` in a forked process with its own process group. Return the PID immediately."""
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


def traced(path: str) -> List[str]:
    """Return the strace command that traces only system calls on a database and its -wal and -shm files."""
    files = [option for suffix in ("", "-wal", "-shm") for option in ("-P", f"{path}{suffix}")]
    return ["strace", "-f", "-qq", "-o", f"{path}.trace", *files, "-e", f"trace={SYSCALLS}"]


def itself(path: str, backups: str) -> List[str]:
    """Return the command that runs the steps in a new process."""
    return [sys.executable, __file__, "--steps", path, backups]


def system_calls(path: str, backups: str) -> List[Boundary]:
    """Run the steps. Return possible places for a kill: names of system calls, each with its number within a process.

    Returns an empty list if strace is missing or not allowed.
    """
    if shutil.which("strace") is None:
        return []
    done = subprocess.run([*traced(path), *itself(path, backups)], capture_output=True, check=False, timeout=120)
    if done.returncode != 0:  # Tracing is not allowed here.
        return []
    lines = re.findall(r"(?m)^(\d+) +(\w+)\(", Path(f"{path}.trace").read_text(encoding="utf-8", errors="replace"))
    most: Dict[str, int] = {}
    for (_pid, name), count in collections.Counter(lines).items():
        most[name] = max(most.get(name, 0), count)
    places = []
    for name, count in most.items():
        # All pages are written in the same way, so the first calls, the last calls and some calls in between are
        # enough.
        numbers = {1, 2, 3, count - 2, count - 1, count, *range(1, count, max(count // 6, 1))}
        places += [(name, number) for number in sorted(numbers) if 0 < number <= count]
    return places


class Plan:
    """Chooses how and where the steps are killed in each round.

    No place is used again until all places have been used.
    """

    def __init__(self, seed: int, where: Optional[str]) -> None:
        """Find the boundaries and system calls in uninterrupted runs. Raises Lost."""
        self.kills: Dict[str, int] = {}
        self.steps: Dict[str, int] = {}
        self._chance = random.Random(seed)  # noqa: S311 - chance, not secrets
        self._ways = itertools.cycle(WAYS)
        boundaries = Boundaries()
        with tempfile.TemporaryDirectory(dir=where) as folder:
            path, backups, _last = crashed(folder, seed, least=0.2)

            def work() -> None:
                boundaries.watch(None, alone=False)
                steps(path, backups, boundaries)

            if os.waitpid(in_fork(work), 0)[1] != 0:
                raise Lost("the steps failed although they were not killed")
        with tempfile.TemporaryDirectory(dir=where) as folder:
            path, backups, _last = crashed(folder, seed, least=0.2)
            self._calls = system_calls(path, backups)
        # A check makes no changes, so only the random kills interrupt a check.
        names = [name for name in boundaries.seen() if "look: " not in name]
        self._boundaries = [(name, names[:at].count(name)) for at, name in enumerate(names)]
        # Boundaries are counted from 0, system calls from 1.
        for pairs, first in ((self._boundaries, 0), (self._calls, 1)):
            self._chance.shuffle(pairs)
            # Place the first occurrence of each call before later occurrences, so that a short run covers as many
            # different calls as possible.
            pairs.sort(key=lambda pair, first=first: pair[1] > first)
        self._all = {"boundary": self._boundaries, "system call": self._calls}
        self._ahead = {way: list(places) for way, places in self._all.items()}
        self._met: Dict[str, Set[Boundary]] = {way: set() for way in self._all}

    @property
    def met(self) -> Dict[str, Tuple[int, int]]:
        """Return the number of used places and the total number of places for each way of killing the steps."""
        return {way: (len(self._met[way]), len(places)) for way, places in self._all.items()}

    def run_and_kill(self, path: str, backups: str) -> None:
        """Run the steps and kill them in the next of the three ways."""
        way = next(self._ways)
        if not self._all.get(way):
            way = "instant"
            killed = self._at_instant(path, backups)
        else:
            self._ahead[way] = self._ahead[way] or list(self._all[way])
            wanted = self._ahead[way].pop(0)
            killed = (self._at_call if way == "system call" else self._at_boundary)(wanted, path, backups)
            if killed:
                self._met[way].add(wanted)
            elif wanted not in self._met[way]:
                self._ahead[way].append(wanted)  # this boundary did not occur now, but may occur with the next database
        self.kills[way] = self.kills.get(way, 0) + killed

    def _at_instant(self, path: str, backups: str) -> bool:
        pid = in_fork(lambda: steps(path, backups))
        time.sleep(self._chance.random() * 0.12)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1] != 0

    def _at_call(self, wanted: Boundary, path: str, backups: str) -> bool:
        inject = f"inject={wanted[0]}:signal=KILL:when={wanted[1]}"
        command = [*traced(path), "-e", inject, *itself(path, backups)]
        return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode != 0

    def _at_boundary(self, wanted: Boundary, path: str, backups: str) -> bool:
        boundaries, alone = Boundaries(), self._chance.random() < 0.5

        def work() -> None:
            boundaries.watch(wanted, alone=alone)
            steps(path, backups, boundaries)

        os.waitpid(in_fork(work), 0)
        reached = boundaries.seen().count(wanted[0]) > wanted[1]
        step = wanted[0].split(":")[0]
        self.steps[step] = self.steps.get(step, 0) + reached
        return reached


def rows_of(path: str, *, immutable: bool) -> List[int]:
    """Return the row numbers in a database, read without our own code. Raises Lost if the database is damaged."""
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
    """Raise Lost if the row numbers have a gap, do not begin with 1, or lack the last reported number."""
    if numbers != list(range(1, len(numbers) + 1)):
        raise Lost(f"{what}: the rows have gaps")
    if len(numbers) < acknowledged:
        raise Lost(f"{what}: {acknowledged - len(numbers)} of {acknowledged} reported rows are gone")


def judge_copies(backups: str, *, acknowledged: int, only: Optional[List[str]] = None) -> int:
    """Check every backup and every evidence folder that has its final name. Return the number of backups. Raises Lost.

    only: the names to check. The default is all names in the folder.
    """
    count, names = 0, only
    if names is None:
        names = os.listdir(backups) if os.path.isdir(backups) else []
    for name in sorted(names):
        place = f"{backups}/{name}"
        if name.startswith("backup_") and name not in OLD:
            judge(rows_of(place, immutable=True), acknowledged=acknowledged, what=name)
            count += 1
        elif name.startswith("evidence_"):
            with tempfile.TemporaryDirectory() as folder:
                for file in os.listdir(place):
                    shutil.copy(f"{place}/{file}", folder)
                judge(rows_of(f"{folder}/itsm.db", immutable=False), acknowledged=acknowledged, what=name)
    return count


def crashed(folder: str, seed: int, *, least: float = 0) -> Tuple[str, str, int]:
    """Start a writer in an empty folder, and kill it at least `least` seconds after its first commit.

    Return the path of the database, the backup folder, and the last reported row number.
    """
    path, backups = f"{folder}/app/itsm.db", f"{folder}/backups"
    chance = random.Random(seed)  # noqa: S311 - chance, not secrets
    os.mkdir(f"{folder}/app")
    os.mkdir(backups)
    for name in OLD:
        Path(backups, name).write_text("old", encoding="utf-8")
    writer = Writer(path, seed=seed)
    until = time.monotonic() + 10
    while not writer.last() and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(least + chance.random() * 0.06)
    return path, backups, writer.kill()


def torture_round(seed: int, folder: str, plan: Plan) -> int:
    """Run one round in an empty folder, and return the number of reported rows. Raises Lost."""
    path, backups, acknowledged = crashed(folder, seed)
    for _ in range(1 + seed % 2):
        plan.run_and_kill(path, backups)
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
    judge(rows_of(path, immutable=True), acknowledged=acknowledged, what="the database")
    return acknowledged


def torture(rounds: int, seed: int, where: Optional[str]) -> Dict[str, Any]:
    """Run `rounds` rounds, and return the figures by name. Raises Lost with the seed of the failed round."""
    plan = Plan(seed, where)
    rows = 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            try:
                rows += torture_round(seed + number, folder, plan)
            except Exception as error:
                raise Lost(f"round {number}, seed {seed + number}: {error}") from error
        if (number + 1) % 50 == 0:
            print(f"round {number + 1}, {rows} rows", flush=True)
    figures: Dict[str, Any] = {"rounds": rounds, "kills": rounds + sum(plan.kills.values()), "rows": rows}
    figures["rows lost"] = 0  # Otherwise, Lost would have been raised.
    figures["writers killed"] = rounds
    for way, (different, total) in plan.met.items():
        figures[f"steps killed at a {way}"] = f"{plan.kills.get(way, 0)} ({different} of {total} different ones)"
    figures["steps killed at an instant"] = plan.kills.get("instant", 0)
    for step, count in plan.steps.items():
        figures[f"  at a boundary of {step}"] = count
    return figures


def live_backups(count: int, seed: int, where: Optional[str]) -> Dict[str, Any]:
    """Create `count` backups of a database while a writer uses it, and return the figures by name. Raises Lost."""
    figures: Dict[str, Any] = {"live backups": 0, "rows in the last": 0, "written meanwhile": 0}
    with tempfile.TemporaryDirectory(dir=where) as folder:
        path = f"{folder}/itsm.db"
        writer = Writer(path, seed=seed, pause=0.005)
        try:
            while writer.last() < 10:
                time.sleep(0.001)
            for number in range(count):
                before = writer.last()
                checked = sqlite_check.check(path=path)
                if not checked["healthy"]:
                    raise Lost(f"live check {number}: {checked['problems']}")
                result = sqlite_backup.backup(path=path, dest=f"{folder}/copies/{number}")
                numbers = rows_of(result["backup_file"], immutable=True)
                after = writer.last()
                judge(numbers, acknowledged=before, what=f"live backup {number}")
                if len(numbers) > after + 40:  # The largest transaction, which may not have been reported yet.
                    raise Lost(f"live backup {number}: {len(numbers)} rows, {after} reported")
                os.unlink(result["backup_file"])
                figures["live backups"] += 1
                figures["rows in the last"] = len(numbers)
                figures["written meanwhile"] += after - before
        finally:
            writer.kill()
    return figures


def supervised(rows: int, seed: int, where: Optional[str]) -> Dict[str, Any]:
    """Run the steps repeatedly until supervised writers have written `rows` rows. Return the figures by name.

    Raises Lost.
    """
    chance = random.Random(seed)  # noqa: S311 - chance, not secrets
    names = ("writers killed", "steps done", "steps refused", "steps killed", "writers that met steps")
    figures = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory(dir=where) as folder:
        path, backups = f"{folder}/app/itsm.db", f"{folder}/backups"
        os.mkdir(f"{folder}/app")
        os.mkdir(backups)
        supervisor = Supervisor(path, seed=seed, delay=1.0)
        judged: Set[str] = set()
        try:
            while supervisor.last() < rows:
                seen = supervisor.last()
                until = time.monotonic() + 30
                while supervisor.last() == seen and time.monotonic() < until:
                    time.sleep(0.001)
                if supervisor.last() == seen:
                    raise Lost(f"no writer could continue after row {seen}")
                time.sleep(chance.random() * 0.3)
                supervisor.kill_writer()
                figures["writers killed"] += 1
                # Wait until the writer has exited and all its reports are in the pipe. The supervisor's delay is longer
                # than this wait.
                time.sleep(chance.random() * 0.05)
                acknowledged, writers = supervisor.last(), supervisor.writers()
                pid = in_fork(lambda: steps(path, backups))
                killed = chance.random() < 0.3
                if killed:
                    time.sleep(chance.random() * 0.15)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                status = os.waitpid(pid, 0)[1]
                end = "steps done" if status == 0 else "steps killed" if killed else "steps refused"
                figures[end] += 1
                figures["writers that met steps"] += supervisor.writers() > writers
                new = [name for name in os.listdir(backups) if not name.startswith(".") and name not in judged]
                judge_copies(backups, acknowledged=acknowledged, only=new)
                judged.update(new)
        finally:
            acknowledged = supervisor.end()
        judge(rows_of(path, immutable=False), acknowledged=acknowledged, what="the database")
        after = steps(path, backups)
        if not after["healthy"] or after["data_loss_suspected"]:
            raise Lost(f"after the last run: {after['problems']}")
        judge(rows_of(path, immutable=True), acknowledged=acknowledged, what="the database after the steps")
    return {f"supervised, {name}": count for name, count in {"rows": acknowledged, "rows lost": 0, **figures}.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--backups", type=int, default=100)
    parser.add_argument("--supervised", type=int, default=100_000, help="rows")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first round; default: the current time")
    # Use a folder in memory, where a flush takes no time. If a process is killed, the remaining files are the same as
    # on a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parser.add_argument("--dir", default=memory, help="folder for the databases")
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
            **supervised(arguments.supervised, seed, arguments.dir),
        }
    except Lost as error:
        print(f"LOST: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(f"seconds: {time.monotonic() - started:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
