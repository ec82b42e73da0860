#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exchange the file at a path just before each system call that uses the path, as a hostile service user could.

Each case calls our code as root on files owned by the service's user. The case is run once to record the system calls
whose argument is a path in the user's folder. A process that has permanently switched to the user's account has only
the permissions of this user. Therefore, the calls of such a process are recorded only with --every. After that, the
case is run again for each combination of a recorded call and an exchange. The exchange is made while the process is
paused just before the call. Some exchanges are undone just after the call. After each run, these conditions must hold:

- A tree of victims (root-only files, another account's files, a cron-like folder) is unchanged.
- No content from the victims is in the result, in a backup, in evidence or anywhere else outside that tree.
- Before its deadline, the call has returned a result or raised one of its documented errors.

Requires root. Prints the number of combinations and how many of them were harmful.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pwd
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cases
import tracer

USER = pwd.getpwnam("nobody")
OTHER = pwd.getpwnam("daemon")
DEADLINE = 20.0
_REPORT_EVERY = 500


class Exchange(NamedTuple):
    """An exchange of a file. back: True if the exchange is undone just after the system call."""

    kind: str
    back: bool

    @property
    def name(self) -> str:
        """Describe the exchange as text."""
        return f"{self.kind}, and back" if self.back else self.kind


KINDS = (
    "folder_to_link",
    "folder_to_account",
    "file_to_link",
    "file_to_account",
    "file_to_fifo",
    "folder_away",
    "mode",
)
EXCHANGES = [Exchange(kind, back) for kind in KINDS for back in (False, True)]


class Ground:
    """A folder with the user's application, our own state folder, and the victims."""

    def __init__(self, base: Path, case: cases.Case, *, every: bool) -> None:
        self.base = base
        self.case = case
        self._every = every
        self.theirs = base / "theirs"
        self.ours = base / "ours"
        self.victims = base / "victims"
        self._kept = base / "kept" / case.name.replace("/", "_")

    def lay(self) -> None:
        """Reset all folders to their initial state."""
        if not self._kept.exists():
            self._make()
            self._kept.mkdir(mode=0o700, parents=True)
            for folder in (self.theirs, self.victims):
                _copy(folder, self._kept / folder.name)
        self._clear()
        self.ours.mkdir(mode=0o700)
        for folder in (self.theirs, self.victims):
            _copy(self._kept / folder.name, folder)

    def _clear(self) -> None:
        for folder in (self.theirs, self.ours, self.victims):
            if folder.is_symlink():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)

    def _make(self) -> None:
        self._clear()
        self.theirs.mkdir()
        self.victims.mkdir(mode=0o755)
        self.case.lay(self.theirs)
        _give(self.theirs, USER)
        if self.case.after is not None:
            self.case.after(self.theirs)
        # The victims' folders contain the same files as the user's folder, so that each redirected path leads to a
        # file.
        for name, mark in (("root", cases.OF_ROOT), ("account", cases.OF_ACCOUNT)):
            folder = self.victims / name
            folder.mkdir(mode=0o700)
            self.case.lay(folder, mark=mark)
            for each in folder.rglob("*"):
                if each.is_file() and not each.is_symlink():
                    each.chmod(0o600)
        _give(self.victims / "account", OTHER)
        cron = self.victims / "cron.d"
        cron.mkdir(mode=0o755)
        (cron / "daily").write_text("# root's\n")

    def counts(self, call: tracer.Call) -> bool:
        """Return True if an exchange must be made before this call."""
        here = any(path.startswith(str(self.theirs)) for path in call.paths)
        return here and (self._every or not call.is_for_good())

    def digest(self) -> Dict[str, Tuple[object, ...]]:
        """Return the state of the victims: mode, owner, size, modification time and content."""
        found: Dict[str, Tuple[object, ...]] = {}
        for folder, folders, names in os.walk(self.victims):
            for name in [".", *folders, *names]:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                content = ""
                if stat.S_ISREG(status.st_mode):
                    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                facts = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, content)
                found[os.path.relpath(path, self.victims)] = facts
        return found

    def leaked(self) -> Optional[str]:
        """Return the path of a file that has the victims' content but is outside their tree, or None."""
        for top in (self.theirs, self.ours):
            for folder, _folders, names in os.walk(top):
                for name in names:
                    path = os.path.join(folder, name)
                    if stat.S_ISREG(os.lstat(path).st_mode) and _marked(Path(path).read_bytes()):
                        return path
        return None


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", source, target], check=True)


def _marked(data: bytes) -> bool:
    return cases.OF_ROOT in data or cases.OF_ACCOUNT in data


def _give(top: Path, account: pwd.struct_passwd) -> None:
    for folder, folders, names in os.walk(top):
        for name in [".", *folders, *names]:
            os.chown(os.path.join(folder, name), account.pw_uid, account.pw_gid, follow_symlinks=False)


def _as_user(act: Callable[[], None]) -> None:
    """Run an action with the permissions of the service's user. An action that is not permitted has no effect."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(USER.pw_gid, USER.pw_gid, USER.pw_gid)
            os.setresuid(USER.pw_uid, USER.pw_uid, USER.pw_uid)
            with contextlib.suppress(OSError):
                act()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _exchange(kind: str, path: str, ground: Ground) -> Tuple[Callable[[], None], Callable[[], None]]:
    """Return the action that the user performs on a path before a call, and the action that undoes it."""
    top = str(ground.theirs)
    folder = path if os.path.isdir(path) and not os.path.islink(path) else os.path.dirname(path)
    folder = folder if folder.startswith(top) else top
    target = folder if kind.startswith("folder") else path
    aside = f"{target}.aside"
    inside = os.path.relpath(target, top)
    victim = ground.victims / ("account" if kind.endswith("account") else "root") / inside

    def link() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, aside)
        os.symlink(victim, target)

    def fifo() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, aside)
        os.mkfifo(target)

    def away() -> None:
        os.rename(target, aside)

    def mode() -> None:
        os.chmod(target, 0)

    def return_it() -> None:
        with contextlib.suppress(OSError):
            os.unlink(target)
        os.rename(aside, target)

    def open_up() -> None:
        os.chmod(target, 0o700)

    act = {"file_to_fifo": fifo, "folder_away": away, "mode": mode}.get(kind, link)
    return act, open_up if kind == "mode" else return_it


def _work(ground: Ground) -> Callable[[], bytes]:
    def work() -> bytes:
        # Store temporary files in a folder that leaked() does not search.
        os.environ["TMPDIR"] = tempfile.tempdir = str(ground.base / "tmp")
        try:
            said = {"result": ground.case.run(ground.theirs, ground.ours)}
        except ground.case.errors as error:
            said = {"error": str(error)}
        except BaseException as error:
            said = {"unclear": f"{type(error).__name__}: {error}"}
        return json.dumps(said, default=str).encode()

    return work


def record(ground: Ground) -> List[tracer.Call]:
    """Run the case once without an exchange. Return the calls whose argument is a path in the user's folder."""
    ground.lay()
    calls: List[tracer.Call] = []

    def before(call: tracer.Call) -> None:
        if ground.counts(call):
            calls.append(call)

    said = json.loads(tracer.trace(_work(ground), before=before, timeout=DEADLINE))
    if "result" not in said:
        raise SystemExit(f"flip: {ground.case.name} fails undisturbed: {said}")
    return calls


def run(ground: Ground, *, number: int, exchange: Exchange) -> Optional[str]:
    """Run a case, with one exchange just before call `number`. Return the resulting harm, or None."""
    ground.lay()
    untouched = ground.digest()
    seen = -1

    def before(call: tracer.Call) -> Optional[Callable[[], None]]:
        nonlocal seen
        if not ground.counts(call):
            return None
        paths = [path for path in call.paths if path.startswith(str(ground.theirs))]
        seen += 1
        if seen != number:
            return None
        act, undo = _exchange(exchange.kind, paths[-1], ground)
        _as_user(act)
        return (lambda: _as_user(undo)) if exchange.back else None

    try:
        data = tracer.trace(_work(ground), before=before, timeout=DEADLINE)
    except tracer.TooLate:
        return f"it did not finish within {DEADLINE:g} s"
    said = json.loads(data or b'{"unclear": "the process exited without a result"}')
    if "unclear" in said:
        return f"no clear error: {said['unclear'][:300]}"
    if _marked(data):
        return f"the result contains data of the victims: {data[:300]!r}"
    changed = ground.digest()
    if changed != untouched:
        names = sorted(name for name in {*untouched, *changed} if untouched.get(name) != changed.get(name))
        return f"victims were changed: {', '.join(names[:5])}"
    leaked = ground.leaked()
    return f"{leaked} contains data of the victims" if leaked else None


def combinations(
    wanted: List[cases.Case], base: Path, *, every: bool
) -> Iterator[Tuple[Ground, int, tracer.Call, Exchange]]:
    """Yield every call in every case, combined with every exchange."""
    for case in wanted:
        ground = Ground(base, case, every=every)
        calls = record(ground)
        for number, call in enumerate(calls):
            for exchange in EXCHANGES:
                yield ground, number, call, exchange


def _shared(jobs: int, *, seed: int) -> int:
    """Run several copies of this program, each with a share of the combinations, and hide other processes in /proc.

    Some cases search for processes that have a file open. If other processes were visible, these cases would read
    thousands of links in /proc for each combination.
    """
    argv = [word for word in sys.argv if not word.startswith("--jobs=")]
    while "--jobs" in argv:
        at = argv.index("--jobs")
        del argv[at : at + 2]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
        alone = []  # Some containers do not allow this. The run then only takes longer.
    running = [
        subprocess.Popen([*alone, sys.executable, *argv, "--seed", str(seed), "--share", f"{number}/{jobs}"])
        for number in range(jobs)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        return max(each.wait() for each in running)
    finally:
        for each in running:
            each.kill()


def main() -> int:
    """Run the chosen combinations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="names of cases, default: all")
    parser.add_argument("--sample", type=int, help="how many random combinations; default: all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--jobs", type=int, default=1, help="how many processes share the work, each with its own files"
    )
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument(
        "--every", action="store_true", help="include calls by processes that have permanently become the user"
    )
    given = parser.parse_args()
    known = {case.name: case for case in cases.CASES}
    unknown = [name for name in given.cases if name not in known]
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are: {', '.join(known)}")
    if os.geteuid() != 0:
        parser.error("only root can act as the service's user")
    if given.jobs < 1:
        parser.error(f"--jobs is {given.jobs}: must be 1 or more")
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)  # noqa: S311
    if not given.share:
        return _shared(given.jobs, seed=seed)
    wanted = [known[name] for name in given.cases] or list(cases.CASES)
    # Other users can enter this folder. If possible, the folder is in memory, because each run flushes files to disk
    # many times.
    base = Path(tempfile.mkdtemp(prefix="flip-", dir="/var/tmp"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", base], check=False, capture_output=True).returncode == 0
    base.chmod(0o755)
    (base / "tmp").mkdir(mode=0o1777)
    (base / "tmp").chmod(0o1777)
    started = time.monotonic()
    done = harmed = 0
    try:
        chosen = list(combinations(wanted, base, every=given.every))
        whole = len(chosen)
        if given.sample is not None and given.sample < whole:
            chosen = random.Random(seed).sample(chosen, given.sample)  # noqa: S311
        first, of = map(int, given.share.split("/"))
        chosen = chosen[first::of]
        for ground, number, call, exchange in chosen:
            harm = run(ground, number=number, exchange=exchange)
            done += 1
            if done % _REPORT_EVERY == 0:
                print(f"flip: {done} of {len(chosen)}, {harmed} harmed so far", file=sys.stderr, flush=True)
            if harm is not None:
                harmed += 1
                print(f"HARMED {ground.case.name}, call {number} {call.name} {call.paths[-1]}, {exchange.name}: {harm}")
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", base], check=False)
        shutil.rmtree(base, ignore_errors=True)
    seconds = time.monotonic() - started
    print(f"flip: {done} of {whole} combinations in {len(wanted)} cases, seed {seed}, {seconds:.0f} s: {harmed} harmed")
    return 1 if harmed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
