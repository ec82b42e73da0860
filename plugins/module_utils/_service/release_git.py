# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases as tags or commits of the application's repository."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Mapping, Optional, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release_steps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.release_steps import (
    Refused,
    ReleaseError,
    Releases,
    Step,
)


class Git:
    """The folder of the application's repository, in which releases are tags or commits."""

    def __init__(self, releases: Releases, *, run: commands.Runner) -> None:
        self._releases = releases
        self._run = run
        self.rights = release_steps.rights(releases.app_dir, releases.user)
        other = release_steps.not_of_root(releases.app_dir) if self.rights is None and os.getuid() == 0 else None
        if other:
            raise ReleaseError(message("reason.release.git_as_root", folder=releases.app_dir, path=other))
        uid = self.rights[0] if self.rights else os.getuid()
        self._account: pwd.struct_passwd = run_as.resolve(run_as.name_of(uid), folder=releases.app_dir)

    def _git(self, *arguments: str, timeout: Optional[float] = None) -> commands.Completed:
        # Run git as the owner of the folder. Do not run the repository's hooks and helpers. Any account that can write
        # to the folder could have changed them.
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
            raise ReleaseError(message("reason.release.git_late", command=arguments[0], folder=self._releases.app_dir))
        return done

    def _said(self, *arguments: str) -> Optional[str]:
        """Return the output of git, or None if git fails."""
        done = self._git(*arguments)
        return done.stdout.strip("\n") if done.ok else None

    def _asked(self, *arguments: str) -> str:
        done = self._git(*arguments)
        if not done.ok:
            said = (done.stderr.strip().splitlines() or [f"code {done.rc}"])[0]
            about = {"command": arguments[0], "folder": self._releases.app_dir}
            raise ReleaseError(message("reason.release.git_failed", **about, why=said))
        return done.stdout.strip("\n")

    def _commit(self, name: str) -> str:
        found = self._said("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if not found:
            raise Refused(message("reason.release.unknown", folder=self._releases.app_dir, release=repr(name)))
        return found

    def step(self, record: Mapping[str, str]) -> Step:
        app_dir = self._releases.app_dir
        top = self._said("rev-parse", "--show-toplevel")
        if top is None or os.path.realpath(top) != os.path.realpath(app_dir):
            raise Refused(message("reason.release.no_repository", folder=app_dir))
        head = self._commit("HEAD")
        # If a checkout is killed, it leaves changed files behind, and HEAD points to either the old commit or the new
        # one.
        begun = (record.get("state"), record.get("app_dir")) == ("begun", app_dir) and head in (
            record.get("from_commit"),
            record.get("to_commit"),
        )
        if not begun and self._asked("status", "--porcelain", "--untracked-files=no"):
            raise Refused(message("reason.release.changed_by_hand", folder=app_dir))
        name = self._releases.release
        if not name and begun:
            name = record.get("to_commit", "")
        elif not name:
            if record.get("to_commit") == head:
                raise Refused(release_steps.gone_back(record))
            name = self._said("describe", "--tags", "--abbrev=0", "HEAD^") or ""
            if not name:
                raise Refused(message("reason.release.no_tag", folder=app_dir))
        source = self._said("symbolic-ref", "--quiet", "--short", "HEAD") or self._named(head)
        target = record["to"] if begun and not self._releases.release else name
        return Step(source=source, target=target, source_commit=head, target_commit=self._commit(name), again=begun)

    def _named(self, commit: str) -> str:
        return self._said("describe", "--tags", "--exact-match", commit) or commit

    def migrations(self, step: Step) -> Set[str]:
        folder = self._releases.migrations_dir.strip("/")
        listed = self._asked("ls-tree", "-z", "--name-only", step.target_commit, "--", f"{folder}/")
        return {os.path.basename(name) for name in listed.split("\0") if name}

    def check(self, step: Step) -> None:
        """Raise Refused if a checkout would overwrite the database or a protected file."""
        folder = os.path.realpath(self._releases.app_dir)
        databases = [self._releases.db_path + suffix for suffix in release_steps.SIDE_FILES]
        for path in (*databases, *self._releases.protect):
            real = os.path.realpath(path)
            if not release_steps.inside(real, folder):
                continue
            name = os.path.relpath(real, folder)
            for commit in ("HEAD", step.target_commit):
                if self._asked("ls-tree", "--name-only", commit, "--", name):
                    raise Refused(message("reason.release.part_of_it", path=path))

    def act(self, step: Step) -> None:
        if step.again:
            self._clear_lock()
        # If the target is the name of a local branch, check out this branch. Otherwise, check out the commit.
        branch = self._said("show-ref", "--verify", "--quiet", f"refs/heads/{step.target}") is not None
        arguments = ["checkout", "--quiet", "--no-overwrite-ignore", *(["--force"] if step.again else [])]
        self._asked(*arguments, *([step.target] if branch else ["--detach", step.target_commit]), "--")
        if self._commit("HEAD") != step.target_commit or self._asked("status", "--porcelain", "--untracked-files=no"):
            told = message("reason.release.not_there", folder=self._releases.app_dir, release=step.target)
            raise ReleaseError(told)

    def _clear_lock(self) -> None:
        """Remove the lock file of a killed git process. Raises ReleaseError if git is running in the folder."""
        folder = os.path.realpath(self._releases.app_dir)
        with safe_open.acting(None):
            processes = list(procfs.processes())
        for process in processes:
            is_git = os.path.basename(process.exe or "") == "git"
            if process.alive and is_git and (process.cwd is None or release_steps.inside(process.cwd, folder)):
                raise ReleaseError(message("reason.release.git_runs", folder=folder, pid=process.pid))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, ".git", "index.lock"))
