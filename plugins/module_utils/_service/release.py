# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roll back the application to an earlier release that supports the current schema, and roll it forward again.

If releases are folders, the application's folder is a link to one of them, and a single rename replaces the link. If
the application is a git repository, another commit is checked out. If the checkout is killed midway, the next run
finishes the checkout. release.json in the state folder records the last step. After one rollback, no run automatically
rolls back any further. Otherwise, each new outage would cause a rollback to the next older release.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Dict, Set, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables, release_git, release_links
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.release_steps import (
    Refused,
    ReleaseError,
    Releases,
    Step,
)

_RECORD = "release.json"


class _Record:
    """The file on the host that records the last step."""

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, _RECORD)

    def read(self) -> Dict[str, str]:
        """Return the record, or an empty mapping if the record is missing or unreadable."""
        try:
            with safe_open.acting(None), open(self._path, encoding="utf-8") as stream:
                value = json.load(stream)
        except (OSError, ValueError):
            return {}
        return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}

    def write(self, *, app_dir: str, step: Step, finished: bool) -> None:
        """Record that a step has begun or is finished. Raises OSError."""
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
        """Remove the record, because the original release is back."""
        with safe_open.acting(None), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _checked(releases: Releases) -> None:
    for name in ("app_dir", "db_path", "state_dir"):
        if not os.path.isabs(getattr(releases, name)):
            raise ReleaseError(f"{name} is {getattr(releases, name)!r}: must be an absolute path")
    if releases.releases_dir and not os.path.isabs(releases.releases_dir):
        raise ReleaseError(f"releases_dir is {releases.releases_dir!r}: must be an absolute path")
    if not os.path.isdir(releases.app_dir):
        raise ReleaseError(message("reason.release.no_folder", path=repr(releases.app_dir)))
    if not releases.migrations_dir or os.path.isabs(releases.migrations_dir):
        raise ReleaseError(
            f"migrations_dir is {releases.migrations_dir!r}: must be relative to the application's folder"
        )
    if releases.release.startswith("-"):
        raise ReleaseError(f"option 'release' is {releases.release!r}: must be the name of a release")


def _refuse_lost_migrations(releases: Releases, step: Step, there: Set[str]) -> None:
    """Raise Refused if the target release lacks a migration of the database. there: the target's migrations."""
    try:
        timeout = min(releases.timeout, knex_tables.READ_SECONDS)
        applied = knex_tables.read_tables(releases.db_path, user=releases.user, timeout=timeout).names
    except knex_tables.KnexError as error:
        raise ReleaseError(error) from error
    missing = [name for name in applied if name not in there]
    if missing:
        if len(missing) > 3:
            names, number = missing[:3], len(missing) - 3
            raise Refused(message("reason.release.schema_newer_more", release=step.target, names=names, number=number))
        raise Refused(message("reason.release.schema_newer", release=step.target, names=missing))


def _act(releases: Releases, way: Union[release_links.Symlink, release_git.Git], step: Step, record: _Record) -> None:
    last = record.read()
    record.write(app_dir=releases.app_dir, step=step, finished=False)
    way.act(step)
    if (last.get("to"), last.get("from")) == (step.source, step.target):
        record.forget()  # the original release is back, so the next outage may roll back again
    else:
        record.write(app_dir=releases.app_dir, step=step, finished=True)


def roll_back(
    releases: Releases, *, strategy: str, check_mode: bool = False, run: commands.Runner = commands.run
) -> Dict[str, Any]:
    """Switch to another release, and return the result of the release_rollback module.

    strategy: symlink or git. Raises ReleaseError. A refusal is not an error: the result's `refused` key contains the
    reason.
    """
    begun = time.monotonic()
    _checked(releases)
    record = _Record(releases.state_dir)
    result: Dict[str, Any] = {"changed": False, "refused": "", "messages": {}, "from": None, "to": None}
    try:
        way: Union[release_links.Symlink, release_git.Git] = (
            release_links.Symlink(releases) if strategy == "symlink" else release_git.Git(releases, run=run)
        )
        with safe_open.acting(way.rights):
            step = way.step(record.read())
            result.update({"from": step.source, "to": step.target})
            if step.moves:
                way.check(step)
                _refuse_lost_migrations(releases, step, way.migrations(step))
                result["changed"] = True
                if not check_mode:
                    _act(releases, way, step, record)
    except Refused as refusal:
        result.update(refused=str(refusal), messages=plain(refused=refusal.told))
    except (OSError, commands.CommandError, run_as.IdentityError, procfs.HostError) as error:
        raise ReleaseError(
            message("reason.cannot.change_release", folder=releases.app_dir, why=run_as.why(error))
        ) from error
    result["diff"] = {
        "before": {"release": result["from"]},
        "after": {"release": result["to"] if result["changed"] else result["from"]},
    }
    result["duration"] = round(time.monotonic() - begun, 3)
    return result
