# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the service's node_modules match the lock file.

npm ci deletes node_modules before it downloads packages. If the registry does not answer, the service has no modules.
Therefore, npm works in a temporary folder inside the application's folder. The old tree is replaced only after node has
loaded packages from the new tree. See npm_lock (compare), npm_build (build) and npm_swap (swap).
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    messages,
    npm_application,
    npm_build,
    npm_lock,
    npm_swap,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_application import Application
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_lock import Difference, NpmError

_MOST_REASONS = 20


def _reasons(found: Sequence[Difference]) -> List[Message]:
    reasons = [difference.told for difference in found[:_MOST_REASONS]]
    if len(found) > _MOST_REASONS:
        reasons.append(message("reason.npm.more", number=len(found) - _MOST_REASONS))
    return reasons


def _diff(application: Application, found: Sequence[Difference]) -> Dict[str, str]:
    tree = application.path(npm_lock.TREE)
    return {
        "before_header": tree,
        "after_header": tree,
        "before": "".join(f"{item.path} {item.found}\n" for item in found if item.found is not None),
        "after": "".join(f"{item.path} {item.wanted}\n" for item in found if item.wanted is not None),
    }


def npm_ci(
    application: Application,
    *,
    always: bool = False,
    offline: bool = False,
    cache: Optional[str] = None,
    timeout: float = 600.0,
    build_only: bool = False,
    reserve: int = 0,
    check_mode: bool = False,
) -> Dict[str, Any]:
    """Make node_modules match the lock file, and return the result of the npm_ci module.

    build_only: True to leave the new tree in its build folder until the next call installs the tree. reserve: number of
    bytes that must stay free on the file system. Raises NpmError. If an error occurs, the old tree remains in place.
    """
    if cache and not os.path.isabs(cache):
        raise NpmError(f"cache is {cache!r}: must be an absolute path")
    if reserve < 0:
        raise NpmError(f"reserve is {reserve}: must be 0 bytes or more")
    with safe_open.acting(application.rights), npm_lock.explained("install", folder=application.app_dir):
        result: Dict[str, Any] = {"installed": 0, "swapped": False, "built": None, "restored": [], "leftovers": []}
        if check_mode:
            moves = npm_swap.interrupted(application)
            result["restored"] = [npm_swap.told(source, target) for source, target in moves]
            litter = application.litter()
            found, _report = application.look()
            # If the folder node_modules must first be moved back, its modules cannot be compared yet. Report only the
            # interrupted swap.
            if found and moves and moves[0][1] == npm_lock.TREE:
                found = [found[0]._replace(told=message("reason.npm.half_swapped"))]
            result["changed"] = bool(found or always or moves or litter)
        else:
            application.require_rights()
            with application.locked():
                _install(
                    application,
                    result,
                    always=always,
                    offline=offline,
                    cache=cache,
                    timeout=timeout,
                    build_only=build_only,
                    reserve=reserve,
                )
            found = result.pop("found")
        previous = application.path(npm_application.PREVIOUS)
        reasons = _reasons(found)
        result.update(
            messages=messages.plain(reasons=reasons, restored=result["restored"]),
            restored=[messages.english(told) for told in result["restored"]],
            needed=bool(found),
            reasons=[messages.english(told) for told in reasons],
            previous=previous if os.path.lexists(previous) else None,
            diff=_diff(application, found),
        )
        return result


def _install(
    application: Application,
    result: Dict[str, Any],
    *,
    always: bool,
    offline: bool,
    cache: Optional[str],
    timeout: float,
    build_only: bool,
    reserve: int,
) -> None:
    result["restored"] = npm_swap.restore(application)
    found, report = application.look()
    result["found"] = found
    fingerprint = application.fingerprint(report)
    build = npm_build.finished(application, fingerprint=fingerprint) if found or always else None
    is_new = False
    # Remove old build folders before the build, because the new tree needs their space.
    removed = [path for path in application.litter() if path != build and npm_application.remove(path)]
    if found or always:
        if build is None:
            build = npm_build.build(
                application, fingerprint=fingerprint, offline=offline, cache=cache, timeout=timeout, reserve=reserve
            )
            is_new = True
        if not build_only:
            _put_in_place(application, build)
            result["swapped"] = True
            result["installed"] = application.count()
    result["leftovers"] = [path for path in application.litter() if not (build_only and path == build)]
    result["built"] = build if build_only else None
    result["changed"] = bool(result["swapped"] or is_new or result["restored"] or removed)


def _put_in_place(application: Application, build: str) -> None:
    try:
        npm_swap.swap(application, build)
    finally:
        npm_application.remove(build)
    for path in application.litter():
        npm_application.remove(path)
