# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Define and run measurements. The contenders run alternately on the same machine within the same few minutes."""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from model import BenchError, Measured, Measurement, Result

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "ansible_collections/itsm_nexus/runbook"
MIB = 1 << 20
_SAMPLE = 0.005  # Time between two memory measurements, in seconds.


def run(measurement: Measurement, *, work: Path) -> Result:
    """Run all contenders in turn. Each round begins with a different contender. Raises BenchError."""
    subject = measurement.prepare()
    contenders = [measurement.ours, *measurement.rivals.items()]
    figures: dict[str, dict[str, list[float | None]]] = {name: {} for name, _function in contenders}
    profile: Sequence[tuple[float, float, str]] = ()
    for number in range(measurement.rounds):
        turn = number % len(contenders)
        for name, function in [*contenders[turn:], *contenders[:turn]]:
            folder = Path(tempfile.mkdtemp(dir=work))
            os.sync()  # Pending writes of the previous contender must not slow down this contender.
            try:
                measured = function(subject, folder)
            except BenchError as error:
                raise BenchError(f"{measurement.name}: {name}: {error}") from error
            finally:
                shutil.rmtree(folder)
            if isinstance(measured, Measured):
                profile = measured.profile if name == measurement.ours[0] else profile
                measured = measured.figures
            of_round = measured if isinstance(measured, Mapping) else {"": measured}
            for figure, value in of_round.items():
                figures[name].setdefault(figure, []).append(value)
            told = ", ".join(f"{figure} {_told(value)}".strip() for figure, value in of_round.items())
            print(f"  {name}: {told}", file=sys.stderr, flush=True)
    return Result(measurement, figures, profile)


def _told(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f}"


def timed(argv: Sequence[str], *, expect: str, environment: Mapping[str, str] | None = None) -> float:
    """Return the duration of a command in seconds.

    Raises BenchError if the command fails or its output is not `expect`.
    """
    started = time.monotonic()
    done = subprocess.run(argv, capture_output=True, check=False, text=True, env=environment)
    seconds = time.monotonic() - started
    _judge(done.returncode, done.stdout, done.stderr, expect=expect)
    return seconds


def environment(**more: str) -> dict[str, str]:
    """Return the environment variables for a run of Ansible: the variables that all contenders share, and `more`."""
    # PYTHONUNBUFFERED is removed, because it makes Python read a piped module byte by byte.
    unwanted = ("ANSIBLE_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "LC_ALL": "C.UTF-8", **more}


def timed_ansible(argv: Sequence[str], folder: Path, *, says: str = "") -> float:
    """Run an Ansible command that writes its postmortems to `folder`, and return the duration in seconds.

    Raises BenchError if the command fails, or if `says` is not in its output.
    """
    started = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment(ITSM_NEXUS_POSTMORTEM_DIR=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode != 0 or says not in done.stdout:
        raise BenchError(f"{' '.join(argv)} ended with code {done.returncode}: {done.stdout.strip()[-300:]}")
    return seconds


def _judge(code: int, said: str, errors: str, *, expect: str) -> None:
    if code != 0 or said.strip() != expect:
        told = (errors.strip() or said.strip()).splitlines()
        raise BenchError(f"it ended with code {code}: {told[-1] if told else 'no output'}")


@functools.cache
def _archive() -> str:
    """Return the path of a zip file as a managed host receives it: module_utils without compiled code."""
    folder = tempfile.mkdtemp(prefix="itsm-nexus-bench-")
    path = f"{folder}/logic.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        place = ""
        for part in [*COLLECTION.split("/"), "plugins", "module_utils"]:
            place += f"{part}/"
            archive.writestr(f"{place}__init__.py", "")
        logic = ROOT / "plugins" / "module_utils"
        for file in logic.rglob("*.py"):
            archive.write(file, f"{place}{file.relative_to(logic)}")
    return path


def discard_archive() -> None:
    """Remove the zip file that on_host uses."""
    if _archive.cache_info().currsize:
        shutil.rmtree(Path(_archive()).parent)


def on_host(logic: str, call: str, **arguments: Any) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment for a Python process that does a module's work, as if on a managed host.

    logic: a file below plugins/module_utils, such as _sqlite.check. call: an expression whose value the process prints.
    The expression can use the name of the file and the dict `arguments`.
    """
    package, name = logic.split(".")
    code = (
        "import json, sys\n"
        f"from {COLLECTION.replace('/', '.')}.plugins.module_utils.{package} import {name}\n"
        f"arguments = json.loads(sys.argv[1])\nprint({call})\n"
    )
    environment = {**os.environ, "PYTHONPATH": _archive(), "PYTHONDONTWRITEBYTECODE": "1"}
    return [sys.executable, "-c", code, json.dumps(arguments)], environment


def timed_on_host(logic: str, call: str, *, expect: str, **arguments: Any) -> float:
    """Run the process of on_host, and return its duration in seconds. See timed."""
    argv, environment = on_host(logic, call, **arguments)
    return timed(argv, expect=expect, environment=environment)


def memory_on_host(logic: str, call: str, *, expect: str, limit: int, **arguments: Any) -> float:
    """Return the peak private memory of the process from on_host together with its children, in MiB.

    Private memory is resident memory without file-backed pages (RssAnon). The processes are measured every few
    milliseconds. Memory that a child still shares with its parent is counted twice. RLIMIT_DATA limits each process to
    `limit` bytes, so that no process can use more memory between two measurements. Raises BenchError.
    """
    argv, environment = on_host(logic, call, **arguments)
    process = psutil.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    with _peak(process) as most:
        said, errors = process.communicate()
    _judge(process.returncode, said, errors, expect=expect)
    return most[0] / MIB


@contextmanager
def _peak(process: psutil.Process) -> Iterator[list[int]]:
    """Measure the private memory of a process and its children.

    Yield a list that contains the current maximum, in bytes.
    """
    most, done = [0], threading.Event()

    def private(one: psutil.Process) -> int:
        with suppress(psutil.Error):
            memory = one.memory_info()
            return int(memory.rss - memory.shared)
        return 0

    def watch() -> None:
        while not done.wait(_SAMPLE):
            with suppress(psutil.Error):
                most[0] = max(most[0], sum(private(one) for one in [process, *process.children(recursive=True)]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
