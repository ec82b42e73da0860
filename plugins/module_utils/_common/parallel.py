# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Call functions ("questions") in parallel, each in a separate process with its own deadline.

Processes are used instead of threads. If a thread hangs in the kernel, for example on a dead mount, the thread cannot
be stopped and would keep the module from exiting. If a child process crashes (for example while it reads a mapped file
on a failing disk), only its result is lost.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import time
from typing import Any, Callable, Collection, Container, Dict, Mapping, NamedTuple, NoReturn, Optional

TIMED_OUT = "timed out"

_CHUNK = 1 << 16
# Time limit in seconds for reading a response that has already arrived.
_READING = 0.1


class Answer(NamedTuple):
    """The result of one question: its value (JSON data) or its error, and its duration in seconds."""

    seconds: float
    value: Any = None
    error: Optional[str] = None

    @property
    def report(self) -> Any:
        """Return the duration in seconds if the question was answered, otherwise the error."""
        return round(self.seconds, 3) if self.error is None else self.error


class _Child:
    __slots__ = ("data", "name", "pid", "pipe", "started", "until")

    def __init__(self, *, name: str, pid: int, pipe: int, started: float, until: float) -> None:
        self.name = name
        self.pid = pid
        self.pipe = pipe
        self.started = started
        self.until = until
        self.data = bytearray()


def _answer_and_exit(question: Callable[[], Any], pipe: int) -> NoReturn:
    try:
        # This process exits soon. A garbage collection would copy the memory that this process shares with its parent.
        gc.disable()
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        # The controller reads the module's output until every process has closed it. Therefore, a hanging child must
        # not keep the output open.
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != pipe:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = {"value": question()}
        except Exception as error:  # return the reason to the parent process
            answer = {"error": f"{type(error).__name__}: {error}"}
        data = json.dumps(answer, default=str).encode("utf-8", "replace")
        while data:
            data = data[os.write(pipe, data) :]
    finally:
        os._exit(0)


def _ask(name: str, question: Callable[[], Any], *, timeout: float) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer_and_exit(question, writing)
    os.close(writing)
    started = time.monotonic()
    return _Child(name=name, pid=pid, pipe=reading, started=started, until=started + timeout)


def _finish(child: _Child) -> Answer:
    seconds = time.monotonic() - child.started
    os.waitpid(child.pid, 0)
    try:
        answer = json.loads(bytes(child.data).decode("utf-8"))
    except ValueError:
        return Answer(seconds=seconds, error="ended without a result")
    return Answer(seconds=seconds, value=answer.get("value"), error=answer.get("error"))


def _give_up(child: _Child) -> Answer:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    # Do not wait for a child that hangs in the kernel. If the child outlives this process, init reaps the child.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    return Answer(seconds=time.monotonic() - child.started, error=TIMED_OUT)


def _do_meanwhile(function: Callable[[], Any], children: Collection[_Child]) -> None:
    """Call a function while child processes are running. If the function raises an exception, kill these processes."""
    try:
        function()
    except BaseException:
        for child in children:
            _give_up(child)
            os.close(child.pipe)
        raise
    # A response may have arrived in time while this process was busy. Leave enough time to read it.
    ready = time.monotonic() + _READING
    for child in children:
        child.until = max(child.until, ready)


def ask(
    questions: Mapping[str, Callable[[], Any]],
    *,
    timeout: float,
    after: Optional[Mapping[str, str]] = None,
    first: Container[str] = (),
    until: float = float("inf"),
    meanwhile: Callable[[], Any] = lambda: None,
) -> Dict[str, Answer]:
    """Run all questions in parallel, each for at most timeout seconds, and return the results by name.

    after: maps the name of a question to the name of the question that must end first. If the earlier question times
    out, the later question is not asked. Each time limit begins when its question starts. first: the questions to start
    first. List only slow questions here, because each start takes a few milliseconds. until: the deadline for all
    questions (time.monotonic seconds). meanwhile: a function that is called once, after the questions have started. If
    `meanwhile` raises an exception, the child processes are killed. Each question runs in a forked
    copy of this process. Therefore, do not call ask() while other threads are running.
    """
    later = dict(after or {})
    answers: Dict[str, Answer] = {}
    with selectors.DefaultSelector() as selector:
        waiting: Dict[str, _Child] = {}

        def begin(name: str) -> None:
            left = min(timeout, until - time.monotonic())
            waiting[name] = child = _ask(name, questions[name], timeout=left)
            selector.register(child.pipe, selectors.EVENT_READ, child)

        for name in sorted(questions, key=lambda name: name not in first):
            if name not in later:
                begin(name)
        _do_meanwhile(meanwhile, waiting.values())
        while waiting:
            remaining = min(child.until for child in waiting.values()) - time.monotonic()
            ended = []
            for key, _events in selector.select(max(0.0, remaining)):
                child = key.data
                chunk = os.read(child.pipe, _CHUNK)
                child.data += chunk
                if not chunk:
                    answers[child.name] = _finish(child)
                    ended.append(child)
            moment = time.monotonic()
            for child in waiting.values():
                if child not in ended and child.until <= moment:
                    answers[child.name] = _give_up(child)
                    ended.append(child)
            for child in ended:
                selector.unregister(child.pipe)
                os.close(child.pipe)
                del waiting[child.name]
                for name in [name for name, first in later.items() if first == child.name]:
                    if answers[child.name].error == TIMED_OUT:
                        answers[name] = Answer(seconds=0.0, error=f"not asked: {child.name} {TIMED_OUT}")
                    else:
                        begin(name)
    return {name: answers[name] for name in questions}
