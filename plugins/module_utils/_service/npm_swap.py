# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace node_modules with a new tree by renaming, and undo a swap that was killed midway."""

from __future__ import annotations

import os
from typing import List, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm_application, npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_application import Application
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_lock import NpmError


def interrupted(application: Application) -> List[Tuple[str, str]]:
    """Return the renames (from, to) that undo a killed swap, in order."""
    there = {
        name
        for name in (npm_lock.TREE, npm_application.PREVIOUS, npm_application.OLDER)
        if os.path.lexists(application.path(name))
    }
    moves: List[Tuple[str, str]] = []
    for source, target in (
        (npm_application.PREVIOUS, npm_lock.TREE),
        (npm_application.OLDER, npm_application.PREVIOUS),
    ):
        if source in there and target not in there:
            moves.append((source, target))
            there = (there - {source}) | {target}
    return moves


def restore(application: Application) -> List[Message]:
    """Undo a swap that was killed midway. Return a message for each rename."""
    moves = interrupted(application)
    for source, target in moves:
        with application.writing("put_back", path=application.path(source), target=target):
            os.rename(application.path(source), application.path(target))
            atomic_files.fsync_folder(application.app_dir)
    return [told(source, target) for source, target in moves]


def told(source: str, target: str) -> Message:
    """Return the message for a tree that was moved back."""
    return message("deed.npm.put_back", source=source, target=target)


def swap(application: Application, build: str) -> None:
    """Install the new tree and keep the old tree. If this fails or the new tree does not load, undo the swap."""
    tree, previous, older = (
        application.path(name) for name in (npm_lock.TREE, npm_application.PREVIOUS, npm_application.OLDER)
    )
    if not os.path.lexists(tree):
        moves = []
    else:
        if os.path.lexists(older) and not npm_application.remove(older):
            raise NpmError(message("reason.npm.not_swapped", folder=application.app_dir, older=older))
        moves = [(previous, older)] if os.path.lexists(previous) else []
        moves.append((tree, previous))
    moves.append((os.path.join(build, npm_lock.TREE), tree))
    done: List[Tuple[str, str]] = []
    try:
        with application.writing("swap", folder=application.app_dir):
            for source, target in moves:
                os.rename(source, target)
                done.append((source, target))
            atomic_files.fsync_folder(application.app_dir)
        application.require_loads(application.app_dir)
    except NpmError:
        with application.writing("put_old_back", folder=application.app_dir):
            for source, target in reversed(done):
                os.rename(target, source)
        raise
