# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide whether a path may be proposed for the inventory.

Root trusts the paths in the inventory, because the administrator chose them. The service's user chooses the
environment, the open files and the working directory of its process. If the paths were not checked here, this user
could choose the path of an inaccessible file, and root would use this file. A path that only root could have chosen
needs no check. Any other path is proposed only if it is below the application's folder, or if the service's user has
all permissions that a recovery needs. Otherwise, the path becomes a question to the administrator.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts, Proposal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import run_as

# Permissions that the service's user may need on a path. Each value is the last part of a message ID. READ is the
# permission to read a file, for example a certificate.
READ = "read"
# OWN: read a private key and own it. A recovery may change the owner and the mode of the key.
OWN = "own"
# CHANGE: change a file, and create and remove files in its folder. For a folder: create and remove files in it.
CHANGE = "change"
# READ_ALL: list a folder and read all files in it.
READ_ALL = "read_all"

_ROOT = "root"
# A recovery uses some of the paths in patterns, so a wildcard in such a path would match other files.
_WILD = re.compile(r"[*?\[\]]")


def access(paths: Sequence[str], *, user: str, rights: safe_open.Rights) -> Dict[str, List[str]]:
    """Return the permissions of the service's user on each path: a list of READ, OWN and CHANGE.

    rights: the rights of the service's user, or None for the rights of this process. If this process cannot act as the
    service's user, the permissions are unknown, and the result is empty.
    """
    ours = os.getuid()
    uid = rights[0] if rights and ours == 0 else ours
    if run_as.name_of(uid) != user:
        return {}
    with safe_open.acting(rights):
        return {path: _allowed(path, uid) for path in dict.fromkeys(paths) if "\0" not in path}


def _allowed(path: str, uid: int) -> List[str]:
    found = []
    with contextlib.suppress(OSError):
        status = os.stat(path)
        if os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0), effective_ids=True):
            found += [READ, *([OWN] if status.st_uid == uid else [])]
    with contextlib.suppress(OSError):
        # A link in the user's folder may lead to a file in another folder.
        if all(_may_change(each, uid) for each in dict.fromkeys((path, os.path.realpath(path)))):
            found.append(CHANGE)
    return found


def _may_change(path: str, uid: int) -> bool:
    """Return True if the user may change a file or folder as described at CHANGE. The file may be missing."""
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(path)
    status = os.stat(folder)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return False
    # In a folder such as /tmp, only the owner of a file may remove it.
    if status.st_mode & stat.S_ISVTX and status.st_uid != uid:
        return False
    return is_folder or not os.path.lexists(path) or os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def may_read_all(folder: str, *, rights: safe_open.Rights) -> bool:
    """Return True if the user may list a folder and read each file in it."""
    with contextlib.suppress(OSError), safe_open.acting(rights):
        return all(os.access(os.path.join(folder, name), os.R_OK, effective_ids=True) for name in os.listdir(folder))
    return False


def is_below(facts: Facts, path: str) -> bool:
    """Return True if a path is below the application's folder, and this folder is known for certain.

    If neither the unit nor the inventory contains the folder, it is the working directory of a process. Any account can
    start a process in a folder such as /etc, so this account must be allowed to change the folder.
    """
    certain = facts.certain_folder or CHANGE in _access(facts).get(facts.app_dir, ())
    return certain and facts.app_dir != "/" and path.startswith(facts.app_dir.rstrip("/") + "/")


def question(
    facts: Facts, path: str, source: Message, *, need: str, ours: bool = False, examined: str = ""
) -> Optional[Message]:
    """Return the question to ask instead of proposing a path, or None if the path may be proposed.

    need: READ, OWN, CHANGE or READ_ALL. ours: True if only root could have chosen the path. examined: the path whose
    permissions are checked, for example the folder of a file that does not exist yet.
    """
    if ours or facts.user == _ROOT:
        return None
    # Ansible replaces a ~ at the beginning of a path with a home folder.
    if not environment.is_path(path) or _WILD.search(path) or facts.relative(path).startswith("~"):
        return message("discovery.question.unusable", source=source)
    if is_below(facts, path):
        return None
    allowed = _access(facts).get(examined or path)
    if allowed is None:
        why = message("reason.discovery.may_not.unknown", user=facts.user)
    elif need in allowed:
        return None
    else:
        why = message(f"reason.discovery.may_not.{need}", user=facts.user)
    return message("discovery.question.path", path=path, source=source, why=why)


def set_path(
    facts: Facts, found: Proposal, variable: str, path: str, source: Message, *, value: str = "", **how: Any
) -> None:
    """Propose a path, or ask about it. value: the path as it is written, if different. how: see question()."""
    asked = question(facts, path, source, **how)
    if asked is None:
        found.set(variable, value or path, source)
    else:
        found.ask(variable, asked)


def may_be_changed(facts: Facts, path: str) -> bool:
    """Return True if the service's user may change a path, or if that is unknown."""
    return facts.user != _ROOT and CHANGE in _access(facts).get(path, (CHANGE,))


def chosen_by_root(facts: Facts, path: str, prefix: str) -> bool:
    """Return True if a variable that only root could have set contains this path or a file directly in this folder.

    prefix: the beginning of the variable's name, for example LOG.
    """
    chosen = {facts.absolute(value) for value in facts.environment.values_of_root(prefix)}
    return path in chosen or path in {os.path.dirname(each) for each in chosen if each.endswith(".log")}


def _access(facts: Facts) -> Dict[str, Sequence[str]]:
    return dict((facts.disk or {}).get("access") or {})
