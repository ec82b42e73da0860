# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases in sibling folders, with a link to one of them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import List, Mapping, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release_steps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.release_steps import (
    Refused,
    ReleaseError,
    Releases,
    Step,
)


class Symlink:
    """Releases in sibling folders. The application's folder is a link to one of them."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.rights = release_steps.rights(os.path.dirname(releases.app_dir.rstrip("/")), releases.user)
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
            raise ReleaseError(
                message("reason.release.not_listed", path=self._folder, why=str(error.strerror))
            ) from error
        return sorted(
            (name for name in names if os.path.isfile(self.path(name, "package.json"))), key=release_steps.natural
        )

    def path(self, name: str, *parts: str) -> str:
        return os.path.join(self._folder, name, *parts)

    def step(self, record: Mapping[str, str]) -> Step:
        app_dir = self._releases.app_dir
        if not os.path.islink(app_dir):
            raise Refused(message("reason.release.no_link", path=app_dir))
        names = self._names()
        source = os.path.basename(self._current)

        def to(target: str) -> Step:
            return Step(source=source, target=target, source_commit=source, target_commit=target)

        if self.path(source) != self._current or source not in names:
            where = {"target": self._current, "folder": self._folder}
            raise Refused(message("reason.release.leads_elsewhere", path=app_dir, **where))
        if self._releases.release:
            if self._releases.release not in names:
                name = repr(self._releases.release)
                raise Refused(message("reason.release.none_named", release=name, folder=self._folder))
            return to(self._releases.release)
        if record.get("to_commit") == source:
            raise Refused(release_steps.gone_back(record))
        earlier = names[: names.index(source)]
        if not earlier:
            raise Refused(message("reason.release.none_before", release=source, folder=self._folder))
        return to(earlier[-1])

    def migrations(self, step: Step) -> Set[str]:
        try:
            return set(os.listdir(self.path(step.target, self._releases.migrations_dir)))
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            told = message("reason.release.migrations_unread", release=step.target, why=str(error.strerror))
            raise ReleaseError(told) from error

    def check(self, step: Step) -> None:
        """Raise Refused if the service would no longer find its database or a protected file."""
        for path in (self._releases.db_path, *self._releases.protect):
            # A path through the link may lead to the same file in both releases, for example if each release contains a
            # link to a shared folder.
            through = os.path.relpath(os.path.abspath(path), os.path.abspath(self._releases.app_dir))
            other = os.path.join(self.path(step.target), through)
            same = not through.startswith("..") and os.path.realpath(other) == os.path.realpath(path)
            if release_steps.inside(os.path.realpath(path), self._current) or (
                not through.startswith("..") and not same
            ):
                raise Refused(message("reason.release.belongs_to_it", path=path, release=step.source))

    def act(self, step: Step) -> None:
        link = self._releases.app_dir.rstrip("/")
        folder = os.path.dirname(link)
        target = self.path(step.target)
        if not os.path.isabs(os.readlink(link)):
            target = os.path.relpath(target, os.path.realpath(folder))
        # Create the link in a new folder. No other account can have created a file with the same name there.
        made = tempfile.mkdtemp(prefix=".itsm-nexus-release-", dir=folder)
        try:
            os.symlink(target, f"{made}/link")
            os.replace(f"{made}/link", link)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(f"{made}/link")
            os.rmdir(made)
        atomic_files.fsync_folder(folder)
