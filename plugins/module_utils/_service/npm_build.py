# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build a new node_modules in a temporary folder next to the old node_modules, load it, and flush it to disk."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from typing import List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm_application, npm_load, npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_application import Application
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_lock import NpmError

_COMPLETE = "complete"
_FLUSH_TIMEOUT = 300.0
_MEBIBYTE = 1024 * 1024
_MOST_ERROR_TEXT = 600


def npm_message(stderr: str, *, redactor: redact.Redactor) -> str:
    """Return npm's error message on one line, shortened and without secrets."""
    lines = [line.strip() for line in stderr.splitlines()]
    said = [re.sub(r"^npm (?:error|ERR!)\s*", "", line) for line in lines if re.match(r"npm (?:error|ERR!)", line)]
    said = [line for line in (said or lines) if line and "complete log of this run" not in line]
    # Long output is usually printed by a compiler: the first lines show the failed step, and lines with "error" contain
    # the reason.
    chosen = said[:4] + [line for line in said[4:] if re.search(r"(?i)\berror\b|ERR!.*stack", line)][:3]
    message = redactor.text("; ".join(chosen) or "it printed nothing")
    return message if len(message) <= _MOST_ERROR_TEXT else message[:_MOST_ERROR_TEXT] + "..."


def _npmrc_secrets(paths: Sequence[str]) -> List[str]:
    found: List[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            text = npm_lock.read(path).decode("utf-8", "replace")
            found.extend(re.findall(r"(?im)^[^#;=\n]*(?:_auth|_authToken|_password|password)\s*=\s*(\S+)", text))
    return [value.strip("\"'") for value in found]


def _measure(tree: str) -> Tuple[int, int]:
    """Return the size of a tree on disk, in bytes, and the number of its entries."""
    size = count = 0
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
                count += 1
    return size, count


def finished(application: Application, *, fingerprint: str) -> Optional[str]:
    """Return the folder of a tree that a killed run built completely but did not install, or None."""
    for folder in application.litter():
        with run_as.acting_as(application.account), contextlib.suppress(OSError):
            complete = npm_lock.read(os.path.join(folder, _COMPLETE)).decode("ascii", "replace")
            if complete == fingerprint and os.path.isdir(os.path.join(folder, npm_lock.TREE)):
                return folder
    return None


def _refuse_links(application: Application) -> None:
    linked = sorted(
        str(entry.get("resolved", folder)) for folder, entry in application.wanted.items() if entry.get("link")
    )
    if linked:
        raise NpmError(message("reason.npm.linked", folder=application.app_dir, links=linked[:5]))


def room_for(application: Application) -> Tuple[int, int]:
    """Return the number of bytes and of inodes that a new tree needs."""
    size, count = _measure(application.path(npm_lock.TREE))
    return max(size + size // 4, len(application.wanted) * _MEBIBYTE // 2), count + count // 4


def _check_room(application: Application, *, folder: str, reserve: int = 0) -> None:
    needed, inodes = room_for(application)
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed + reserve:
        if reserve:
            raise NpmError(
                message("reason.npm.no_room_reserve", folder=folder, needed=needed, free=free, reserve=reserve)
            )
        raise NpmError(message("reason.npm.no_room", folder=folder, needed=needed, free=free))
    # File systems without a fixed number of inodes report 0.
    if status.f_files and status.f_favail < inodes:
        raise NpmError(message("reason.npm.no_inodes", folder=folder, needed=inodes, free=status.f_favail))


def _lay_out(application: Application) -> str:
    """Create the build folder in the application's folder, and fill it. See _fill."""
    with application.writing("make_build_folder", folder=application.app_dir):
        build = tempfile.mkdtemp(prefix=npm_application.BUILD_PREFIX, dir=application.app_dir)
        if not application.theirs:
            os.chown(build, application.account.pw_uid, application.account.pw_gid)
    try:
        _fill(application, build, above=os.pardir)
    except NpmError:
        npm_application.remove(build)
        raise
    return build


def _fill(application: Application, build: str, *, above: Optional[str]) -> None:
    """Copy package.json and the lock file into a build folder. Link to the other files, because scripts may read them.

    above: the path of the application's folder, relative to the build folder, or None to create no links.
    """
    with npm_lock.explained("prepare", path=build), run_as.acting_as(application.account):
        for name, data in application.sources.items():
            with open(os.path.join(build, name), "xb") as stream:
                stream.write(data)
        for entry in os.listdir(application.app_dir) if above else ():
            ours = entry.startswith((npm_application.BUILD_PREFIX, npm_lock.TREE)) or entry in (
                *npm_lock.LOCK_FILES,
                "package.json",
                ".git",
            )
            if not ours:
                os.symlink(os.path.join(str(above), entry), os.path.join(build, entry))


def _home(application: Application, build: str) -> str:
    """Return the home folder for npm: the user's home if npm can write its cache there, else a subfolder of `build`."""
    home = application.account.pw_dir
    with run_as.acting_as(application.account):
        cache = os.path.join(home, ".npm")
        usable = os.access(cache if os.path.lexists(cache) else home, os.W_OK | os.X_OK, effective_ids=True)
        if usable and home != "/":
            return home
        home = os.path.join(build, ".npm_ci-home")
        with npm_lock.explained("prepare", path=build):
            os.mkdir(home, 0o700)
    return home


def _run_npm_ci(
    application: Application,
    build: str,
    *,
    offline: bool,
    cache: Optional[str],
    timeout: float,
    home: str,
    temporary: str = "",
) -> None:
    npm = npm_load.find_program(application.npm)
    argv = [npm, "ci", "--omit=dev" if application.omit_dev else "--include=dev"]
    argv += ["--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--loglevel=error", "--logs-max=0"]
    argv.append("--offline" if offline else "--prefer-offline")
    if cache:
        argv += ["--cache", cache]
    with npm_lock.explained("run_npm", folder=application.app_dir):
        done = application.run(
            argv,
            timeout=timeout,
            cwd=build,
            env={
                **npm_load.environment(application.account, home=home, node=application.node),
                **({"TMPDIR": temporary} if temporary else {}),
            },
            user=application.account.pw_name,
        )
    if done.timed_out:
        raise NpmError(message("reason.npm.late", folder=application.app_dir, seconds=f"{timeout:g}"))
    if not done.ok:
        with run_as.acting_as(application.account):
            secrets = _npmrc_secrets([application.path(".npmrc"), os.path.join(home, ".npmrc")])
        redactor = redact.Redactor([*secrets, *redact.secret_values(os.environ)])
        why = quoted(npm_message(done.stderr, redactor=redactor))
        raise NpmError(message("reason.npm.failed", folder=application.app_dir, code=str(done.rc), why=why))


def _refuse_absolute_links(application: Application, build: str) -> None:
    for folder, folders, names in os.walk(os.path.join(build, npm_lock.TREE)):
        for name in folders + names:
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.readlink(path).startswith(build):
                link = os.path.relpath(path, build)
                raise NpmError(message("reason.npm.absolute_link", folder=application.app_dir, link=link))


def _hand_over(application: Application, build: str) -> None:
    """If the user cannot write to the application's folder, give a built tree the owner of the old tree."""
    if application.theirs:
        return
    old = application.path(npm_lock.TREE)
    owner = os.lstat(old if os.path.lexists(old) else application.app_dir)
    with npm_lock.explained("hand_over", path=build):
        for _folder, folders, names, descriptor in os.fwalk(os.path.join(build, npm_lock.TREE), follow_symlinks=False):
            for name in [".", *folders, *names]:
                _give(application, name, descriptor, owner)


def _give(application: Application, name: str, folder: int, owner: os.stat_result) -> None:
    """Change the owner of an entry that the user created.

    Raises OSError, for example if another file has replaced the entry.
    """
    opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(opened)
        if status.st_uid not in (application.account.pw_uid, owner.st_uid):
            raise OSError(0, f"{name} was not created by user {application.account.pw_name}")
        if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
            raise OSError(0, f"{name} has another hard link, through which the user could still change it")
        if status.st_uid != owner.st_uid:
            os.chown(f"/proc/self/fd/{opened}", owner.st_uid, owner.st_gid)
    finally:
        os.close(opened)


def build(
    application: Application, *, fingerprint: str, offline: bool, cache: Optional[str], timeout: float, reserve: int = 0
) -> str:
    """Build a tree, load it, and flush it to disk. Return the build folder, which the caller must remove.

    reserve: number of bytes that must stay free. The old tree is not changed. Raises NpmError.
    """
    _refuse_links(application)
    _check_room(application, folder=application.app_dir, reserve=reserve)
    build = _lay_out(application)
    try:
        home = _home(application, build)
        _run_npm_ci(application, build, offline=offline, cache=cache, timeout=timeout, home=home)
        _require_tree(application, build)
        _hand_over(application, build)
        with npm_lock.explained("flush", path=build):
            flushed = application.run(["sync", "-f", os.path.join(build, npm_lock.TREE)], timeout=_FLUSH_TIMEOUT)
        if not flushed.ok:
            said = npm_load.first_line(flushed.stderr)
            late = message("reason.npm.no_end")
            raise NpmError(message("reason.npm.not_flushed", folder=build, why=quoted(said) if said else late))
        with npm_lock.explained("finish", path=build), run_as.acting_as(application.account):
            atomic_files.write_atomically(os.path.join(build, _COMPLETE), fingerprint.encode("ascii"))
    except BaseException:
        npm_application.remove(build)
        raise
    return build


def _require_tree(application: Application, build: str) -> None:
    """Raise NpmError if the tree that npm has built cannot be used."""
    if not os.path.isdir(os.path.join(build, npm_lock.TREE)):
        # npm does not create node_modules for an application without dependencies.
        with npm_lock.explained("prepare", path=build), run_as.acting_as(application.account):
            os.mkdir(os.path.join(build, npm_lock.TREE))
    application.require_loads(build)
    _refuse_absolute_links(application, build)


def try_build(application: Application, folder: str, *, cache: Optional[str], timeout: float, confined: bool) -> None:
    """Build a tree offline in an empty folder of the user, and load it. Nothing outside the folder is changed.

    confined: True if this process and its children can write only to the folder (see _host/confine.py). Otherwise, no
    links to the application's files are created for the package scripts, and npm uses an empty home folder. Raises
    NpmError.
    """
    _refuse_links(application)
    _check_room(application, folder=folder)
    build, temporary, home = (os.path.join(folder, name) for name in ("build", "tmp", "home"))
    with npm_lock.explained("prepare", path=folder), run_as.acting_as(application.account):
        for path in (build, temporary, home):
            os.mkdir(path, 0o700)
        _show_cache(cache or os.path.join(application.account.pw_dir, ".npm"), os.path.join(folder, "cache"))
    _fill(application, build, above=application.app_dir if confined else None)
    _run_npm_ci(
        application,
        build,
        offline=True,
        cache=os.path.join(folder, "cache"),
        timeout=timeout,
        home=application.account.pw_dir if confined else home,
        temporary=temporary,
    )
    _require_tree(application, build)


def _show_cache(source: str, target: str) -> None:
    """Create a folder that npm can use as its cache, with links to the content of the cache `source`. Raises OSError.

    npm creates folders in its cache even if npm only reads from the cache.
    """
    os.mkdir(target, 0o700)
    content = os.path.join(target, "_cacache")
    os.mkdir(content, 0o700)
    for above, below, own in ((source, target, ("_cacache", "_logs")), (f"{source}/_cacache", content, ("tmp",))):
        for name in os.listdir(above) if os.path.isdir(above) else ():
            if name not in own:
                os.symlink(os.path.join(above, name), os.path.join(below, name))
