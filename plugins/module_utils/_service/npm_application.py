# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One application's folder, with its user, its lock, its modules, and folders that killed runs left behind.

A swap takes only a few renames, because all these entries are in the application's folder:

.npm_ci-*                a build folder; if it contains "complete", its tree was built, loaded and flushed to disk
node_modules.previous    the node_modules before the last swap
node_modules.older       the former node_modules.previous, during a swap
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from typing import Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm_load, npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_load import NodeReport
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_lock import Difference, NpmError

PREVIOUS = "node_modules.previous"
OLDER = "node_modules.older"
BUILD_PREFIX = ".npm_ci-"


def remove(path: str) -> bool:
    """Remove a tree or a link. Return True if the path no longer exists. The target of a link is never changed.

    Only root can remove a tree that root installed in the user's folder. When root removes such a tree, no links are
    followed.
    """
    with contextlib.suppress(OSError):
        if os.path.islink(path):
            os.unlink(path)
        else:
            atomic_files.remove_tree(path)
    if os.path.lexists(path) and os.geteuid() != os.getuid() and os.path.basename(path) in (PREVIOUS, OLDER):
        with safe_open.acting(None), contextlib.suppress(OSError):
            _remove_modules_of_root(path)
    return not os.path.lexists(path)


def _remove_modules_of_root(path: str) -> None:
    """Remove a tree in the user's folder if root installed it. Raises OSError.

    Any other tree is not removed, because the user may have moved another root-owned folder to this path.
    """
    parent, name = os.path.split(path)
    folder = safe_open.open_any(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, lend=False)
    try:
        mark = os.path.join(name, ".package-lock.json")
        if all(os.stat(each, dir_fd=folder, follow_symlinks=False).st_uid == 0 for each in (name, mark)):
            atomic_files.remove_tree(name, parent=folder)
    finally:
        os.close(folder)


class Application:
    """One application's folder and its installed modules. Its methods raise NpmError if they fail.

    user: the service's account. npm, package scripts and node also run as this account.
    """

    def __init__(
        self,
        *,
        app_dir: str,
        user: Optional[str] = None,
        node: str = "node",
        npm: str = "npm",
        omit_dev: bool = True,
        load_test: Optional[Sequence[str]] = None,
        run: commands.Runner = commands.run,
    ) -> None:
        if not os.path.isabs(app_dir) or not os.path.isdir(app_dir):
            raise NpmError(f"app_dir is {app_dir!r}: must be the absolute path of an existing folder")
        self.app_dir = os.path.realpath(app_dir)
        with npm_lock.explained("work_in", folder=app_dir):
            # A module tree that this user built must not become part of another account's application.
            judged, there = safe_open.look_up(app_dir, folder_too=False), os.stat(self.app_dir)
            if judged is None or not os.path.samestat(judged, there):
                raise OSError(0, "another folder has taken its place")
        with npm_lock.explained("act_as", user=repr(user), folder=app_dir):
            # Act as root only if no other account could replace the folder. If a third account owns the folder, never
            # act as that account. Packages of the service's user in the folder would run as that account.
            self.rights = safe_open.rights_on(app_dir, user=safe_open.account_rights(user))
            name = user or (run_as.name_of(self.rights[0]) if self.rights else None)
            self.account = run_as.resolve(name, folder=self.app_dir)
        self.omit_dev = omit_dev
        self.run = run
        self.npm = npm
        self.node = npm_load.find_program(node)
        with run_as.acting_as(self.account):
            self.theirs = self.rights is not None or os.access(self.app_dir, os.W_OK | os.X_OK, effective_ids=True)
            self.lock_file = npm_lock.lock_file(self.app_dir)
            self.sources = {
                os.path.basename(path): self._source(path)
                for path in (os.path.join(self.app_dir, "package.json"), self.lock_file)
            }
            self.wanted = npm_lock.installable(npm_lock.read_packages(self.lock_file), omit_dev=omit_dev)
        here = {npm_lock.package_name(folder) for folder in self.wanted}
        unknown = sorted(set(load_test or ()) - here)
        if unknown:
            raise NpmError(f"load_test is {unknown}: must contain only packages of {self.lock_file}")
        self.load_test = list(load_test) if load_test is not None else self._drivers()

    @staticmethod
    def _source(path: str) -> bytes:
        with npm_lock.explained("read", path=path):
            return npm_lock.read(path)

    def _drivers(self) -> List[str]:
        entries = {name: self.wanted.get(f"{npm_lock.TREE}/{name}") for name in npm_load.NATIVE_DRIVERS}
        return [name for name, entry in entries.items() if entry is not None and not entry.get("optional")]

    def path(self, name: str) -> str:
        """Return the path of an entry in the application's folder."""
        return os.path.join(self.app_dir, name)

    @contextlib.contextmanager
    def writing(self, deed: str, /, **values: str) -> Iterator[None]:
        """If the user may write to the folder, run the body of the with statement as the user.

        deed, values: see run_as.explained.
        """
        with npm_lock.explained(deed, **values), contextlib.ExitStack() as stack:
            if self.theirs:
                stack.enter_context(run_as.acting_as(self.account))
            yield

    def require_rights(self) -> None:
        """Raise NpmError if neither the user nor this process may write to the folder. Called before any change."""
        if not self.theirs and os.geteuid() != 0:
            raise NpmError(message("reason.npm.not_writable", folder=self.app_dir, user=repr(self.account.pw_name)))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this run. The kernel releases the lock when this process exits, even if it is killed."""
        with self.writing("open", folder=self.app_dir):
            descriptor = os.open(self.app_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NpmError(message("reason.npm.busy", folder=self.app_dir)) from None
            yield
        finally:
            os.close(descriptor)

    # Folders that a killed run left behind

    def litter(self) -> List[str]:
        """Return the folders that killed runs left behind, except folders in which a process (npm) is still working."""
        with npm_lock.explained("list", folder=self.app_dir):
            names = [
                entry.name
                for entry in os.scandir(self.app_dir)
                if entry.name.startswith(BUILD_PREFIX) and entry.is_dir(follow_symlinks=False)
            ]
        if os.path.lexists(self.path(OLDER)) and os.path.lexists(self.path(PREVIOUS)):
            names.append(OLDER)
        if not names:
            return []
        busy: Set[str] = set()
        with npm_lock.explained("find_workers", folder=self.app_dir):
            with safe_open.acting(None):  # only root can see the working directories of other users' processes
                processes = list(procfs.processes())
            for process in processes:
                if process.cwd is not None and process.cwd.startswith(self.app_dir + "/"):
                    busy.add(process.cwd[len(self.app_dir) + 1 :].split("/", 1)[0])
        return sorted(self.path(name) for name in names if name not in busy)

    # Checks

    def look(self) -> Tuple[List[Difference], NodeReport]:
        """Return the problems with the current tree (including native drivers that do not load), and node's report."""
        there = os.path.isdir(self.path(npm_lock.TREE))
        report = npm_load.ask_node(
            self.app_dir,
            names=self.load_test if there else [],
            node=self.node,
            account=self.account,
            run=self.run,
        )
        with run_as.acting_as(self.account):
            found = npm_lock.differences(self.app_dir, wanted=self.wanted, platform=report.platform, arch=report.arch)
        known = {difference.path for difference in found}
        for name, error in report.failures.items():
            folder = f"{npm_lock.TREE}/{name}"
            if folder not in known:
                found.append(
                    Difference(folder, "loads", "does not load", message("reason.npm.unloadable", name=name, why=error))
                )
        return found, report

    def count(self) -> int:
        """Return the number of packages that npm installed.

        If npm installs no packages, it writes no .package-lock.json.
        """
        with run_as.acting_as(self.account):
            path = self.path(f"{npm_lock.TREE}/.package-lock.json")
            return len(npm_lock.read_packages(path)) if os.path.exists(path) else 0

    # Build

    def fingerprint(self, report: NodeReport) -> str:
        """Return a digest of all inputs that determine the content of a built tree."""
        digest = hashlib.sha256(f"{report.platform}-{report.arch}-{report.abi} dev={not self.omit_dev}\n".encode())
        for name in sorted(self.sources):
            digest.update(hashlib.sha256(self.sources[name]).digest())
        return digest.hexdigest()

    def require_loads(self, folder: str) -> None:
        failures = npm_load.ask_node(
            folder, names=self.load_test, node=self.node, account=self.account, run=self.run
        ).failures
        if failures:
            said = "; ".join(f"{name}: {error}" for name, error in failures.items())
            raise NpmError(message("reason.npm.does_not_load", folder=self.app_dir, why=said))
