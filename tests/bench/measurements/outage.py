# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the duration of outages (from the failure to the first healthy response) and of recoveries."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import core
import databases
import harness
import hosts
import model
import stand
from model import EMPTY, WHOLE, E, Goal, Measurement
from stand import Run, Stand

RIVALS = harness.ROOT / "tests" / "bench" / "rivals"
OURS = "outage_recover.yml"
LIMIT = "limit"
BY_HAND = "by hand"
TRANSCRIBED = "transcribed"
SHELL = "cp and sqlite3 shell"
FIRST = "first healthy response"
CONFIRMED = "confirmed"
TOTAL = WHOLE
CPU = "CPU of the controller"
DETECTION = "detection"
AFTER = "after the fifth failed probe"
PROBES = 5

local = functools.cache(stand.Local.new)
host = functools.cache(hosts.Host.new)


# One round


def limit(place: Stand, _folder: Path) -> dict[str, float | None]:
    """Crash the service and start it again without any other step. Return the time to the first response.

    No recovery can be faster than this.
    """
    place.begin()
    place.crash()
    with place.observer.watching() as first:
        fell = time.time()
        place.start()
        place.observer.wait()
    return {FIRST: first() - fell}


def crash(rung: str = "restart", program: str = "ansible-playbook", **changes: object) -> model.Contender:
    """Return a function that crashes the service and runs the full recovery playbook, including Ansible's start."""

    def measure(place: Stand, folder: Path) -> model.Measured:
        place.begin()
        place.crash()
        with place.observer.watching() as first:
            fell = time.time()
            run = place.recover(folder, rung=rung, program=program, **changes)
        figures = {
            FIRST: first() - fell,
            CONFIRMED: run.moment(stand.CONFIRMED) - fell,
            TOTAL: run.ended - run.started,
            **cost(run),
        }
        return model.Measured(figures, run.profile(until=first()))

    return measure


def armed(place: Stand, folder: Path) -> dict[str, float | None]:
    """While a run of outage_armed.yml waits, crash the service and send the alarm to the run at the same moment."""
    place.begin()
    with place.armed(folder) as recover:
        place.crash()
        with place.observer.watching() as first:
            fell = time.time()
            run = recover()
    return {FIRST: first() - fell, CONFIRMED: run.moment(stand.CONFIRMED) - fell, TOTAL: run.ended - fell}


def cost(run: Run) -> dict[str, float | None]:
    """Return a run's CPU time and memory on the controller, and the duration of its escalation and postmortem."""
    return {
        "escalation and postmortem": run.ended - run.moment(stand.CLOSING),
        CPU: run.cpu,
        "peak memory of the controller": run.memory,
    }


def scripted(script: str, **more: str) -> model.Contender:
    """Return a function that crashes the service and recovers it with one of the shell scripts in rivals/."""

    def measure(place: stand.Local, _folder: Path) -> dict[str, float | None]:
        place.begin()
        place.crash()
        environment = {**os.environ, **place.describe(), **more}
        with place.observer.watching() as first:
            fell = time.time()
            done = subprocess.run(
                ["setsid", "--wait", RIVALS / script],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            ended = time.time()
        if done.returncode != 0 or not done.stdout.endswith("confirmed\n"):
            raise model.BenchError(f"{script} ended with code {done.returncode}: {done.stdout[-300:]}")
        return {FIRST: first() - fell, CONFIRMED: ended - fell}

    return measure


def transcribed(place: stand.Local, folder: Path) -> dict[str, float | None]:
    """Crash the service, and recover it with a playbook that has one task per runbook command."""
    place.begin()
    place.crash()
    with place.observer.watching() as first:
        fell = time.time()
        run = place.play(str(RIVALS / "transcribed.yml"), folder)
    if run.code != 0:
        raise model.BenchError(f"it ended with code {run.code}: {run.screen.strip()[-300:]}")
    return {
        FIRST: first() - fell,
        CONFIRMED: run.ended - fell,
        TOTAL: run.ended - run.started,
        CPU: run.cpu,
        "peak memory of the controller": run.memory,
    }


def hang(place: Stand, folder: Path) -> dict[str, float | None]:
    """Make the service hang, and recover it."""
    place.begin()
    place.hang()
    with place.observer.watching() as first:
        fell = time.time()
        run = place.recover(folder)
    probe = run.seen("health_probe")
    if probe["consecutive_failures"] != PROBES:
        raise model.BenchError(f"it took {probe['consecutive_failures']} failed probes, not {PROBES}")
    # This task ends after the fifth request has failed.
    failed = run.moment(stand.DETECTED) - fell
    return {FIRST: first() - fell, DETECTION: failed, AFTER: first() - fell - failed, **cost(run)}


def healthy(program: str = "ansible-playbook") -> model.Contender:
    """Return a function that probes a healthy host."""

    def measure(place: Stand, folder: Path) -> dict[str, float | None]:
        place.begin()
        run = place.play("playbooks/outage_recover.yml", folder, program=program)
        if run.code != 0 or run.events:
            raise model.BenchError(f"it ended with code {run.code}: {run.screen.strip()[-300:]}")
        return {
            TOTAL: run.ended - run.started,
            CPU: run.cpu,
            "peak memory of the controller": run.memory,
        }

    return measure


def by_newest(contender: Callable[..., model.Contender]) -> model.Contender:
    """Return a contender that does the same work with the newer ansible-core."""

    def measure(place: Stand, folder: Path) -> float | model.Figures | model.Measured:
        return contender(program=core.newest())(place, folder)

    return measure


def nothing(place: Stand, folder: Path) -> dict[str, float | None]:
    """Run a play that does nothing, to measure how much time Ansible needs to start."""
    run = place.play(str(harness.ROOT / "tests" / "bench" / "plays" / "nothing.yml"), folder)
    return {TOTAL: run.ended - run.started, CPU: run.cpu}


def round_trips(place: stand.Local, folder: Path) -> float:
    """Return the number of modules that a run on a healthy host calls, as counted in the output of -vvv."""
    place.begin()
    run = place.play("playbooks/outage_recover.yml", folder, program=str(RIVALS.parent / "plays" / "aloud"))
    if run.code != 0:
        raise model.BenchError(f"it ended with code {run.code}: {run.screen.strip()[-300:]}")
    return float(len(re.findall(r"^<localhost> EXEC .*python", run.screen, flags=re.MULTILINE)))


# Standard recovery and clean start


def stale(place: stand.Local, folder: Path) -> model.Measured:
    """Crash the service while a package is missing, and recover it with a rung that rebuilds the modules."""
    place.begin()
    shutil.rmtree(place.service.app / "node_modules" / "express")
    return crash("standard_recovery", **offline())(place, folder)


@functools.cache
def npm_cache() -> str:
    """Return the folder of an npm cache that contains all packages for the service."""
    return str(Path(hosts.run(harness.ROOT / "demo" / "build")) / "npm-cache")


def offline() -> Mapping[str, object]:
    """Return the variables that make our recovery use the npm cache."""
    return {"nexus_npm_offline": True, "nexus_npm_cache": npm_cache()}


def stale_by_hand(place: stand.Local, folder: Path) -> dict[str, float | None]:
    """Crash the service, and recover it with the commands in chapter 4.1 of the runbook, using the npm cache."""
    return scripted("standard-by-hand", NPM_CACHE=npm_cache())(place, folder)


def _fill(database: Path, rows: int) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("CREATE TABLE archive (id INTEGER PRIMARY KEY, ticket TEXT NOT NULL UNIQUE, body TEXT)")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-500000")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO archive VALUES (?, ?, ?)",
        ((i, f"TICKET-{databases.number(i):012d}-{i:09d}", databases.prose(i, 220) * 4) for i in range(1, rows)),
    )
    connection.execute("COMMIT")
    connection.close()


def filled(name: str, mib: int) -> Callable[[], stand.Local]:
    """Return a function that installs a service with a database of `mib` MiB. Indexes take up a tenth of this size."""

    @functools.cache
    def lay() -> stand.Local:
        place = stand.Local.new()
        place.service.start()
        place.service.kill()
        # Fill the database in another process. If this process filled the database, all later programs would inherit
        # its peak memory.
        filler = multiprocessing.get_context("fork").Process(target=_fill, args=(place.service.database, mib * 1024))
        filler.start()
        filler.join()
        size = place.service.database.stat().st_size / harness.MIB
        if not 0.9 * mib <= size <= 1.2 * mib:
            raise model.BenchError(f"the database {name} has {size:.0f} MiB instead of {mib}")
        return place

    return lay


MORE_SQLITE_TIME = {"clean_start_recovery_modules": "auto", "verification_check_budget": 120.0}


def restarted(
    what: str, how: str, name: str, prepare: Callable[[], Stand], *, more: float | None = None
) -> Measurement:
    """Return a measurement in which the service from `prepare` crashes.

    more: the goal. Our figure may exceed the figure of LIMIT by at most this time, given in the unit E.
    """
    return Measurement(
        name=name,
        what=what,
        how=f"{how}. The limit is the time that the service alone needs to start. The observer queries the service "
        "every 20 ms",
        prepare=prepare,
        ours=(OURS, crash()),
        rivals={LIMIT: limit, EMPTY: nothing},
        goals=[] if more is None else [Goal(more, against=LIMIT, figure=FIRST, more=True, unit=E)],
        headline=FIRST,
        needs_hosts=True,
    )


MEASUREMENTS = [
    Measurement(
        name="crash-local",
        what="Crash, local connection",
        how="the benchmark kills the process, and all contenders start at this moment. An observer outside the run "
        "queries the service every 20 ms. The limit is the time that the service alone needs to start. The rival *by "
        "hand* is a script with the commands and wait times of runbook chapters 2.1, 2.2 and 5.1. The rival "
        "*transcribed* is a playbook with one task for each command in chapters 1, 2 and 5.1. A run is confirmed when "
        "the health check and the login succeed. The benchmark does not measure the stability check that follows, "
        "which takes one minute. Only the first round has to bundle the modules with their imports. A controller that "
        "checks the service regularly already has these bundles",
        prepare=local,
        ours=(OURS, crash()),
        rivals={LIMIT: limit, EMPTY: nothing, BY_HAND: scripted("by-hand"), TRANSCRIBED: transcribed},
        goals=[
            Goal(2.0, against=LIMIT, figure=FIRST, more=True, unit=E),
            Goal(0.4, against=BY_HAND, figure=CONFIRMED),
            Goal(0.15, against=TRANSCRIBED, figure=CONFIRMED),
            Goal(6.0, against=EMPTY, figure=TOTAL),
            Goal(6.0, against=EMPTY, figure=CPU),
        ],
        headline=FIRST,
    ),
    Measurement(
        name="crash-armed",
        what="Crash, local connection, armed controller",
        how="like crash-local, but outage_armed.yml starts before the crash. curl sends the alarm at the moment of the "
        "crash",
        prepare=local,
        ours=("outage_armed.yml", armed),
        rivals={LIMIT: limit, EMPTY: nothing, OURS: crash()},
        goals=[Goal(1.0, against=LIMIT, figure=FIRST, more=True, unit=E), Goal(0.75, against=OURS, figure=FIRST)],
        headline=FIRST,
    ),
    restarted(
        "Crash, over SSH with sudo",
        "a systemd host in a container, with OpenSSH and an unprivileged user with sudo. The times include the first "
        "connection",
        "crash-ssh",
        lambda: host("ssh"),
        more=2.6,
    ),
    restarted(
        "Crash, podman connection",
        "the same host with the containers.podman.podman connection, which starts podman several times per call",
        "crash-podman",
        lambda: host("podman", name="itsm-nexus-bench-podman"),
    ),
    Measurement(
        name="hang-local",
        what="Hang, local connection",
        how="the benchmark stops the process with SIGSTOP. Five probes follow, one per second, with a timeout of one "
        "second. The detection time includes the start of the playbook and these probes",
        prepare=local,
        ours=(OURS, hang),
        rivals={LIMIT: limit, EMPTY: nothing},
        goals=[Goal(2.0, against=LIMIT, figure=AFTER, rivals_figure=FIRST, more=True, unit=E)],
        headline=FIRST,
    ),
    Measurement(
        name="healthy-local",
        what="Healthy host, local connection",
        how="outage_recover.yml ends after detection. The rival starts Ansible for a play that does nothing",
        prepare=local,
        ours=(OURS, healthy()),
        rivals={EMPTY: nothing},
        goals=[Goal(1.8, against=EMPTY, figure=TOTAL)],
    ),
    Measurement(
        name="healthy-ssh",
        what="Healthy host, over SSH with sudo",
        how="like healthy-local, but on the host of crash-ssh",
        prepare=lambda: host("ssh"),
        ours=(OURS, healthy()),
        goals=[],
        needs_hosts=True,
    ),
    Measurement(
        name="healthy-trips",
        what="Round trips to a healthy host",
        how="the number of modules that run on the host, counted in the output of the connection plugin with `-vvv`",
        prepare=local,
        ours=(OURS, round_trips),
        goals=[Goal(2, unit="round trips")],
        rounds=1,
    ),
    Measurement(
        name="standard-intact",
        what="Standard recovery, modules intact",
        how="a crash, with the standard recovery as the only rung. The rival follows runbook chapter 4.1. In this "
        "chapter, npm ci rebuilds all modules, including the native driver, which is npm's default",
        prepare=local,
        ours=(OURS, crash("standard_recovery")),
        rivals={LIMIT: limit, BY_HAND: scripted("standard-by-hand")},
        goals=[
            Goal(0.1, against=BY_HAND, figure=FIRST),
            Goal(3.0, against=LIMIT, figure=FIRST, more=True),
        ],
        headline=FIRST,
    ),
    Measurement(
        name="standard-stale",
        what="Standard recovery, a package missing",
        how="like standard-intact, but the express package is missing. Our code builds the new modules in a separate "
        "folder before it replaces the old modules. Both contenders read the packages and the built driver from a "
        "cache on this machine",
        prepare=local,
        ours=(OURS, stale),
        rivals={BY_HAND: stale_by_hand},
        goals=[Goal(0.8, against=BY_HAND, figure=FIRST)],
        headline=FIRST,
    ),
    Measurement(
        name="clean-50",
        what="Clean start, 50 MiB database",
        how="a crash, with the clean start as the only rung. The clean start checks the database integrity, saves the "
        "evidence, makes a verified backup, checkpoints the WAL and applies the migrations. "
        "clean_start_recovery_modules is auto, and no package is missing",
        prepare=filled("clean-50", 50),
        ours=(OURS, crash("clean_start_recovery", **MORE_SQLITE_TIME)),
        rivals={LIMIT: limit},
        goals=[Goal(5.0, against=LIMIT, figure=FIRST, more=True)],
        headline=FIRST,
    ),
    Measurement(
        name="clean-900",
        what="Clean start, 0.9 GiB database",
        how="like clean-50, but with a larger database. The modules run on this machine, so the memory includes the "
        "database pages that they map. The rival copies the database with cp, checks the copy with the sqlite3 shell, "
        "and starts the service",
        prepare=filled("clean-900", 920),
        ours=(OURS, crash("clean_start_recovery", **MORE_SQLITE_TIME)),
        rivals={LIMIT: limit, SHELL: scripted("clean-by-hand")},
        goals=[Goal(1.0, against=SHELL, figure=FIRST)],
        headline=FIRST,
    ),
    Measurement(
        name="core-crash",
        what="Crash, ansible-core 2.21",
        how="like crash-local, but with ansible-core 2.21 and a Python version that ansible-core 2.21 supports. The "
        "rival is the same playbook with the ansible-core version of all other measurements",
        prepare=local,
        ours=("ansible-core 2.21", by_newest(crash)),
        rivals={f"ansible-core {core.here()}": crash()},
        goals=[],
    ),
    Measurement(
        name="core-healthy",
        what="Healthy host, ansible-core 2.21",
        how="like healthy-local, with the contenders of core-crash",
        prepare=local,
        ours=("ansible-core 2.21", by_newest(healthy)),
        rivals={f"ansible-core {core.here()}": healthy()},
        goals=[],
    ),
]
