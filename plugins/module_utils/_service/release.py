# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Going back to an earlier release of the application, where its schema still fits, and forward again.

With releases in folders the application's folder is a link to one of them, and another link takes its place in one
rename. With git another commit is checked out; where that was killed midway, the next run finishes it. What was done
stands in C(release.json) in the state folder: a release that was gone back to is not left for a still older one by
itself, or every further fall would lead one step back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import re
import stat
import tempfile
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables

_RECORD = "release.json"
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


class ReleaseError(Exception):
    """The releases could not be looked at, or the change failed; the message names a parameter that is to blame."""


class _Refused(Exception):
    """Why it is not done."""


@dataclasses.dataclass(frozen=True)
class Releases:
    """Where the releases of the application are; each field is the parameter of the same name."""

    app_dir: str
    db_path: str
    state_dir: str
    release: str = ""
    releases_dir: str = ""
    migrations_dir: str = "backend/migrations"
    protect: Sequence[str] = ()
    user: str = ""
    timeout: float = 60.0


@dataclasses.dataclass(frozen=True)
class _Step:
    """From which release to which: C(source) and C(target) for people; with git, the commits say it exactly.

    C(again): it takes up one that was killed midway.
    """

    source: str
    target: str
    source_commit: str
    target_commit: str
    again: bool = False

    @property
    def moves(self) -> bool:
        """Whether there is anything to do."""
        return self.again or self.source_commit != self.target_commit


def _natural(name: str) -> List[Tuple[int, int, str]]:
    """Sort key that counts numbers as numbers: v1.9 before v1.10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", name)]


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _rights(path: str, user: str) -> safe_open.Rights:
    """Return with whose rights (uid, gid) to change what lies at a path, None if it is root's alone. Raises OSError."""
    return safe_open.rights_on(path, user=safe_open.account_rights(user))


def _not_of_root(folder: str) -> Optional[str]:
    """Return an entry of a tree that others than root can change, None if there is none. Raises OSError."""
    for place, folders, names in os.walk(folder):
        for name in [".", *folders, *names]:
            status = os.lstat(os.path.join(place, name))
            others = not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022
            if status.st_uid != 0 or others:
                return os.path.normpath(os.path.join(place, name))
    return None


class _Record:
    """What was done last, on the host."""

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, _RECORD)

    def read(self) -> Dict[str, str]:
        """Return it; empty where there is none, or none that can be read."""
        try:
            with safe_open.acting(None), open(self._path, encoding="utf-8") as stream:
                value = json.load(stream)
        except (OSError, ValueError):
            return {}
        return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}

    def write(self, *, app_dir: str, step: _Step, finished: bool) -> None:
        """Note that a step is begun, or done. Raises OSError."""
        value = {
            "app_dir": app_dir,
            "from": step.source,
            "to": step.target,
            "from_commit": step.source_commit,
            "to_commit": step.target_commit,
            "at": timestamps.now(),
            "state": "done" if finished else "begun",
        }
        with safe_open.acting(None):
            atomic_files.private_folder(os.path.dirname(self._path))
            atomic_files.write_atomically(self._path, json.dumps(value, sort_keys=True).encode("utf-8") + b"\n")

    def forget(self) -> None:
        """Take it away: the release that was left is back."""
        with safe_open.acting(None), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


class _Symlink:
    """Releases in folders beside each other, one of them linked to."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.rights = _rights(os.path.dirname(releases.app_dir.rstrip("/")), releases.user)
        with safe_open.acting(self.rights):
            self._current = os.path.realpath(releases.app_dir)
            self._folder = os.path.realpath(releases.releases_dir or os.path.dirname(self._current))

    def _names(self) -> List[str]:
        try:
            names = [
                entry.name
                for entry in os.scandir(self._folder)
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
        except OSError as error:
            raise ReleaseError(f"releases_dir: cannot list {self._folder}: {error.strerror}") from error
        return sorted((name for name in names if os.path.isfile(self.path(name, "package.json"))), key=_natural)

    def path(self, name: str, *parts: str) -> str:
        return os.path.join(self._folder, name, *parts)

    def step(self, record: Mapping[str, str]) -> _Step:
        app_dir = self._releases.app_dir
        if not os.path.islink(app_dir):
            raise _Refused(f"{app_dir} is no symbolic link to a release")
        names = self._names()
        source = os.path.basename(self._current)

        def to(target: str) -> _Step:
            return _Step(source=source, target=target, source_commit=source, target_commit=target)

        if self.path(source) != self._current or source not in names:
            raise _Refused(f"{app_dir} leads to {self._current}, which is no release in {self._folder}")
        if self._releases.release:
            if self._releases.release not in names:
                raise _Refused(f"there is no release {self._releases.release!r} in {self._folder}")
            return to(self._releases.release)
        if record.get("to_commit") == source:
            raise _Refused(_gone_back(record))
        earlier = names[: names.index(source)]
        if not earlier:
            raise _Refused(f"there is no release before {source} in {self._folder}")
        return to(earlier[-1])

    def migrations(self, step: _Step) -> Set[str]:
        try:
            return set(os.listdir(self.path(step.target, self._releases.migrations_dir)))
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise ReleaseError(f"migrations_dir: cannot list it in release {step.target}: {error.strerror}") from error

    def check(self, step: _Step) -> None:
        """Refuse where the service would lose sight of its database or its environment."""
        for path in (self._releases.db_path, *self._releases.protect):
            # By a path through the link, another release may well lead to the same file, by links of its own.
            through = os.path.relpath(os.path.abspath(path), os.path.abspath(self._releases.app_dir))
            other = os.path.join(self.path(step.target), through)
            same = not through.startswith("..") and os.path.realpath(other) == os.path.realpath(path)
            if _inside(os.path.realpath(path), self._current) or (not through.startswith("..") and not same):
                raise _Refused(f"{path} belongs to release {step.source} alone; keep it outside of the releases")

    def act(self, step: _Step) -> None:
        link = self._releases.app_dir.rstrip("/")
        folder = os.path.dirname(link)
        target = self.path(step.target)
        if not os.path.isabs(os.readlink(link)):
            target = os.path.relpath(target, os.path.realpath(folder))
        # A name that nobody can have taken before: a folder of our own.
        made = tempfile.mkdtemp(prefix=".itsm-nexus-release-", dir=folder)
        try:
            os.symlink(target, f"{made}/link")
            os.replace(f"{made}/link", link)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(f"{made}/link")
            os.rmdir(made)
        atomic_files.fsync_folder(folder)


class _Git:
    """One folder with the application's repository, its releases tags or other commits."""

    def __init__(self, releases: Releases, *, run: commands.Runner) -> None:
        self._releases = releases
        self._run = run
        self.rights = _rights(releases.app_dir, releases.user)
        other = _not_of_root(releases.app_dir) if self.rights is None and os.getuid() == 0 else None
        if other:
            raise ReleaseError(
                f"app_dir: git would run as root in {releases.app_dir}, and others can change {other}: go to another "
                "release by hand, or give the repository to one account"
            )
        uid = self.rights[0] if self.rights else os.getuid()
        self._account: pwd.struct_passwd = run_as.resolve(run_as.name_of(uid), folder=releases.app_dir)

    def _git(self, *arguments: str, timeout: Optional[float] = None) -> commands.Completed:
        # As the owner of the folder, without its hooks and helpers: they are programs of whoever may write there.
        settings = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "advice.detachedHead=false")
        argv = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
        environment = {
            "HOME": self._account.pw_dir,
            "PATH": procfs.STANDARD_PATH,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        done = self._run(
            argv,
            timeout=timeout or self._releases.timeout,
            cwd=self._releases.app_dir,
            env=environment,
            user=self._account.pw_name,
        )
        if done.timed_out:
            raise ReleaseError(f"git {arguments[0]} in {self._releases.app_dir} did not end in time and was ended")
        return done

    def _said(self, *arguments: str) -> Optional[str]:
        """Return what git says, C(None) where it says no."""
        done = self._git(*arguments)
        return done.stdout.strip("\n") if done.ok else None

    def _asked(self, *arguments: str) -> str:
        done = self._git(*arguments)
        if not done.ok:
            said = (done.stderr.strip().splitlines() or [f"code {done.rc}"])[0]
            raise ReleaseError(f"git {arguments[0]} in {self._releases.app_dir} failed: {said}")
        return done.stdout.strip("\n")

    def _commit(self, name: str) -> str:
        found = self._said("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if not found:
            raise _Refused(f"{self._releases.app_dir} has no release {name!r}")
        return found

    def step(self, record: Mapping[str, str]) -> _Step:
        app_dir = self._releases.app_dir
        top = self._said("rev-parse", "--show-toplevel")
        if top is None or os.path.realpath(top) != os.path.realpath(app_dir):
            raise _Refused(f"{app_dir} is not the top folder of a git repository")
        head = self._commit("HEAD")
        # Files that a checkout changed before it was killed are not changes by hand, as long as nobody went elsewhere.
        begun = (record.get("state"), record.get("app_dir")) == ("begun", app_dir) and head in (
            record.get("from_commit"),
            record.get("to_commit"),
        )
        if not begun and self._asked("status", "--porcelain", "--untracked-files=no"):
            raise _Refused(f"files of {app_dir} were changed by hand since they were checked out")
        name = self._releases.release
        if not name and begun:
            name = record.get("to_commit", "")
        elif not name:
            if record.get("to_commit") == head:
                raise _Refused(_gone_back(record))
            name = self._said("describe", "--tags", "--abbrev=0", "HEAD^") or ""
            if not name:
                raise _Refused(f"no release before the present one has a tag in {app_dir}")
        source = self._said("symbolic-ref", "--quiet", "--short", "HEAD") or self._named(head)
        target = record["to"] if begun and not self._releases.release else name
        return _Step(source=source, target=target, source_commit=head, target_commit=self._commit(name), again=begun)

    def _named(self, commit: str) -> str:
        return self._said("describe", "--tags", "--exact-match", commit) or commit

    def migrations(self, step: _Step) -> Set[str]:
        folder = self._releases.migrations_dir.strip("/")
        listed = self._asked("ls-tree", "-z", "--name-only", step.target_commit, "--", f"{folder}/")
        return {os.path.basename(name) for name in listed.split("\0") if name}

    def check(self, step: _Step) -> None:
        """Refuse where a checkout would write over the database or the environment."""
        folder = os.path.realpath(self._releases.app_dir)
        databases = [self._releases.db_path + suffix for suffix in _SIDE_FILES]
        for path in (*databases, *self._releases.protect):
            real = os.path.realpath(path)
            if not _inside(real, folder):
                continue
            name = os.path.relpath(real, folder)
            for commit in ("HEAD", step.target_commit):
                if self._asked("ls-tree", "--name-only", commit, "--", name):
                    raise _Refused(f"{path} is part of the release: going to another would write over it")

    def act(self, step: _Step) -> None:
        if step.again:
            self._clear_lock()
        # A branch that was left is taken up again as one; anything else is a commit.
        branch = self._said("show-ref", "--verify", "--quiet", f"refs/heads/{step.target}") is not None
        arguments = ["checkout", "--quiet", "--no-overwrite-ignore", *(["--force"] if step.again else [])]
        self._asked(*arguments, *([step.target] if branch else ["--detach", step.target_commit]), "--")
        if self._commit("HEAD") != step.target_commit or self._asked("status", "--porcelain", "--untracked-files=no"):
            raise ReleaseError(f"{self._releases.app_dir} is not at {step.target} after git checkout")

    def _clear_lock(self) -> None:
        """Take away the lock of a git that was killed, where no git works in the folder."""
        folder = os.path.realpath(self._releases.app_dir)
        with safe_open.acting(None):
            processes = list(procfs.processes())
        for process in processes:
            is_git = os.path.basename(process.exe or "") == "git"
            if process.alive and is_git and (process.cwd is None or _inside(process.cwd, folder)):
                raise ReleaseError(f"git is at work in {folder}, as pid {process.pid}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, ".git", "index.lock"))


def _gone_back(record: Mapping[str, str]) -> str:
    return (
        f"the release was already taken back, from {record.get('from')} to {record.get('to')} at {record.get('at')}; "
        "to go further, name the release"
    )


def _checked(releases: Releases) -> None:
    for name in ("app_dir", "db_path", "state_dir"):
        if not os.path.isabs(getattr(releases, name)):
            raise ReleaseError(f"{name} is {getattr(releases, name)!r}: must be an absolute path")
    if releases.releases_dir and not os.path.isabs(releases.releases_dir):
        raise ReleaseError(f"releases_dir is {releases.releases_dir!r}: must be an absolute path")
    if not os.path.isdir(releases.app_dir):
        raise ReleaseError(f"app_dir: {releases.app_dir!r} is not a folder on this host")
    if not releases.migrations_dir or os.path.isabs(releases.migrations_dir):
        raise ReleaseError(
            f"migrations_dir is {releases.migrations_dir!r}: must be relative to the application's folder"
        )
    if releases.release.startswith("-"):
        raise ReleaseError(f"release is {releases.release!r}: must be the name of a release")


def _refuse_lost_migrations(releases: Releases, step: _Step, there: Set[str]) -> None:
    """Refuse a release that does not know the schema as it is now."""
    try:
        applied = knex_tables.read_tables(releases.db_path, user=releases.user).names
    except knex_tables.KnexError as error:
        raise ReleaseError(str(error)) from error
    missing = [name for name in applied if name not in there]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise _Refused(
            f"the schema has gone forward since {step.target}: it knows nothing of {', '.join(missing[:3])}{more}"
        )


def _act(releases: Releases, way: Union[_Symlink, _Git], step: _Step, record: _Record) -> None:
    last = record.read()
    record.write(app_dir=releases.app_dir, step=step, finished=False)
    way.act(step)
    if (last.get("to"), last.get("from")) == (step.source, step.target):
        record.forget()  # forward again: the next fall may go back once more
    else:
        record.write(app_dir=releases.app_dir, step=step, finished=True)


def roll_back(
    releases: Releases, *, strategy: str, check_mode: bool = False, run: commands.Runner = commands.run
) -> Dict[str, Any]:
    """Go to another release; return the result as the module C(release_rollback) documents it.

    C(strategy): C(symlink) or C(git). Raises ReleaseError; what speaks against it is no error but C(refused).
    """
    begun = time.monotonic()
    _checked(releases)
    record = _Record(releases.state_dir)
    result: Dict[str, Any] = {"changed": False, "refused": "", "from": None, "to": None}
    try:
        way: Union[_Symlink, _Git] = _Symlink(releases) if strategy == "symlink" else _Git(releases, run=run)
        with safe_open.acting(way.rights):
            step = way.step(record.read())
            result.update({"from": step.source, "to": step.target})
            if step.moves:
                way.check(step)
                _refuse_lost_migrations(releases, step, way.migrations(step))
                result["changed"] = True
                if not check_mode:
                    _act(releases, way, step, record)
    except _Refused as refusal:
        result["refused"] = str(refusal)
    except (OSError, commands.CommandError, run_as.IdentityError, procfs.ProcfsError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ReleaseError(f"Cannot go to another release of {releases.app_dir}: {reason}") from error
    result["diff"] = {
        "before": {"release": result["from"]},
        "after": {"release": result["to"] if result["changed"] else result["from"]},
    }
    result["duration"] = round(time.monotonic() - begun, 3)
    return result
