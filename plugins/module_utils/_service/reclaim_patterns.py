# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the files that match the patterns of a rule, without following links."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import pwd
import re
import stat
import time
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_files

_DEEP = "**"
_WILD = re.compile(r"[*?\[]")
MOST_SKIPPED = 50
# Limits of a search: the depth of nested folders, the number of names in all folders, and the time in seconds. The
# service's user can create any number of files and nested folders.
_DEEPEST, _MOST_NAMES, _MOST_SECONDS = 50, 500_000, 60.0
_BLOCK = 512  # st_blocks counts units of this many bytes on every file system
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# The operating system needs the files below these folders. /usr/local is managed by the host's administrator.
_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
# The subfolders of these folders are used by different users or programs.
_SHARED = (["usr", "local"], ["var", "lib"], ["var", "spool"])

Identity = Tuple[int, int]


class DiskReclaimError(Exception):
    """A parameter is invalid, or a file system could not be checked."""


class Rule(NamedTuple):
    """A rule for files that may be removed: all files that match an absolute pattern, except the newest files.

    keep: the number of the newest files to keep in each series. See Candidate.series. as_user: always act with the
    rights of the service's user, even in a root-owned folder. This is for patterns that contain a path from the
    service's environment.
    """

    pattern: str
    keep: int = 0
    as_user: bool = False


class Target(NamedTuple):
    """The requested free space, in bytes and inodes, on the file system that contains `path`."""

    path: str
    available: int = 0
    inodes: int = 0


class Candidate(NamedTuple):
    """A file that matches a pattern, its status at the time of the check, and the rights needed to remove it."""

    folder: str
    name: str
    status: os.stat_result
    rights: safe_open.Rights = None

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def identity(self) -> Identity:
        return (self.status.st_dev, self.status.st_ino)

    @property
    def series(self) -> str:
        """Return the series of logs or copies that includes the file. See log_files.series."""
        return log_files.series(self.name)

    @property
    def frees(self) -> int:
        return self.status.st_blocks * _BLOCK


def why_not_pattern(pattern: str) -> str:
    """Return the requirement that a pattern does not meet, or an empty string if the pattern is valid."""
    parts = [part for part in pattern.split("/") if part]
    if not pattern.startswith("/") or pattern.endswith("/") or "\0" in pattern or {".", ".."} & set(parts):
        return "must be an absolute path pattern for files, without . and .. and not ending with /"
    plain = list(itertools.takewhile(lambda part: not _WILD.search(part), parts[:-1]))
    deepest = len(plain) == len(parts) - 1 and parts[-1] != _DEEP
    if not plain:
        return "must specify a folder below the root"
    if plain[0] in _SYSTEM and (plain[:2] != ["usr", "local"] or len(plain) < 3):
        return f"must not match system files, and all files below /{plain[0]} are system files"
    if not deepest and (len(plain) < 2 or plain in _SHARED):
        shown = "/".join(plain)
        return f"must specify one folder in /{shown}, for example /{shown}/name/{'/'.join(parts[len(plain) :])}"
    return ""


def checked(rules: Sequence[Rule], targets: Sequence[Target], others: Sequence[str]) -> None:
    for rule in rules:
        reason = why_not_pattern(rule.pattern)
        if reason:
            raise DiskReclaimError(f"globs: {rule.pattern!r} {reason}")
        if rule.keep < 0:
            raise DiskReclaimError(f"globs: 'keep' of {rule.pattern!r} is {rule.keep}: must be 0 or more")
    for target in targets:
        if not os.path.isabs(target.path) or target.available < 0 or target.inodes < 0:
            raise DiskReclaimError(
                f"targets: {target.path!r} must be an absolute path; bytes and inodes must be 0 or more, "
                f"not {target.available} and {target.inodes}"
            )
    for path in others:
        if not os.path.isabs(path):
            raise DiskReclaimError(f"protect, state_dir: {path!r} must be an absolute path")


def account(user: str, rules: Sequence[Rule]) -> safe_open.Rights:
    """Return the rights of the service's user, or None if no user is given or this process does not run as root.

    Raises DiskReclaimError if the user does not exist, or is not given although a rule requires it.
    """
    if os.geteuid() != 0:
        return None
    if not user:
        if any(rule.as_user for rule in rules):
            raise DiskReclaimError("user: must be set if as_user is true in globs")
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise DiskReclaimError(f"user: there is no user {user!r}") from None
    return entry.pw_uid, entry.pw_gid


class Walk:
    """Finds the files that match patterns, and records why some of them were skipped.

    user: the rights of the service's user. A folder that another account could replace is listed, and its files are
    removed, with these rights. Otherwise, the service's user could make root remove another account's files.
    """

    def __init__(self, *, skip: Any, user: safe_open.Rights = None) -> None:
        self._skip = skip
        self._user = user
        self._left = _MOST_NAMES
        self._until = time.monotonic() + _MOST_SECONDS

    def find(self, rule: Rule) -> List[Candidate]:
        parts = [part for part in rule.pattern.split("/") if part]
        start = "/" + "/".join(itertools.takewhile(lambda part: not _WILD.search(part), parts[:-1]))
        found: List[Candidate] = []
        try:
            with safe_open.acting(self._rights(start, rule)):
                descriptor = os.open("/", FOLDER)
                try:
                    found += self._below(descriptor, "", parts)
                finally:
                    os.close(descriptor)
        except OSError as error:
            self._skip(start, f"cannot be searched: {error.strerror}")
        return [
            each
            for folder, same in itertools.groupby(found, lambda each: each.folder)
            for each in self._with_rights(folder, same, rule)
        ]

    def _with_rights(self, folder: str, files: Iterable[Candidate], rule: Rule) -> List[Candidate]:
        """Add the rights to the files in a folder. Skip the folder if its rights cannot be determined."""
        try:
            rights = self._rights(folder, rule)
        except OSError as error:
            self._skip(folder, f"cannot be changed safely: {error.strerror}")
            return []
        return [each._replace(rights=rights) for each in files]

    def _rights(self, folder: str, rule: Rule) -> safe_open.Rights:
        """Return the rights for a folder. Raises OSError if they cannot be determined, so that root does not act."""
        return self._user if rule.as_user else safe_open.rights_on(folder, user=self._user)

    def _enter(self, descriptor: int, path: str, name: str) -> Optional[int]:
        try:
            return os.open(name, FOLDER, dir_fd=descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            with contextlib.suppress(OSError):
                if stat.S_ISREG(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    return None  # the pattern requires a folder with this name, so the file does not match
            linked = "it is reached through a symbolic link; specify its real path"
            is_link = _is_link(name, descriptor)
            self._skip(f"{path}/{name}", linked if is_link else f"cannot be entered: {error.strerror}")
            return None

    def _below(self, descriptor: int, path: str, parts: Sequence[str]) -> Iterator[Candidate]:
        part, rest = parts[0], parts[1:]
        if part == _DEEP:
            yield from self._below(descriptor, path, rest or ["*"])
            for name in self._names(descriptor, path):
                if _is_folder(name, descriptor):
                    yield from self._within(descriptor, path, name, parts)
        elif rest:
            plain = not _WILD.search(part)
            for name in [part] if plain else self._names(descriptor, path, part):
                if plain or _is_folder(name, descriptor):
                    yield from self._within(descriptor, path, name, rest)
        else:
            for name in self._names(descriptor, path, part):
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield Candidate(folder=path, name=name, status=status)
                    elif stat.S_ISLNK(status.st_mode):
                        self._skip(f"{path}/{name}", "it is a symbolic link")

    def _within(self, descriptor: int, path: str, name: str, parts: Sequence[str]) -> Iterator[Candidate]:
        if path.count("/") >= _DEEPEST:
            self._skip(f"{path}/{name}", f"it is below more than {_DEEPEST} folders")
            return
        inner = self._enter(descriptor, path, name)
        if inner is not None:
            try:
                yield from self._below(inner, f"{path}/{name}", parts)
            finally:
                os.close(inner)

    def _listed(self, descriptor: int) -> List[str]:
        """Return the names in a folder. Stop at the limits of the search. Raises OSError."""
        most = self._left if time.monotonic() <= self._until else 0
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            with os.scandir(opened) as entries:
                return [entry.name for entry in itertools.islice(entries, max(0, most))]
        finally:
            os.close(opened)

    def _names(self, descriptor: int, path: str, pattern: str = "*") -> List[str]:
        try:
            names = self._listed(descriptor)
        except OSError as error:
            self._skip(path or "/", f"cannot be listed: {error.strerror}")
            return []
        self._left -= len(names)
        if self._left <= 0 or time.monotonic() > self._until:
            self._skip(path or "/", "cannot be searched completely, because there are too many files")
        # As in a shell, a pattern matches hidden names only if it begins with a dot.
        hidden = pattern.startswith(".")
        return sorted(name for name in names if name.startswith(".") <= hidden and fnmatch.fnmatchcase(name, pattern))


def _is_link(name: str, descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    return False


def _is_folder(name: str, descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    return False
