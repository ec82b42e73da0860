# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find secrets of the service that are missing, too weak, or readable by every account. No value is returned.

Also find out whether the kernel prevents accounts from creating hard links to files that they cannot read and change.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Any, Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, service_processes

_SECRET = re.compile(r"(?i)secret|password|passwd|token|(?:^|_)key$")
_PLACEHOLDER = re.compile(r"(?i)change.?me|change.?this|replace.?me|your[-_ ]|placeholder|example|(.)\1{7}")
_SHORTEST = 16
_HARD_LINKS = "/proc/sys/fs/protected_hardlinks"


def examine(question: Question) -> Dict[str, Any]:
    """Return the names of missing variables, the names of weak variables, and the files that every account can read.

    `missing` is None if the service's variables are unknown. `hard_links_protected` is None if the kernel setting
    fs.protected_hardlinks is unknown.
    """
    values = _values(question)
    required = question.service.required_environment
    weak = [name for name in required if _SECRET.search(name) and values.get(name) and _is_weak(values[name])]
    missing = question.known.environment.get("required_missing")
    protected = _hard_links_protected()
    return {"missing": missing, "weak": weak, "exposed": _exposed(question), "hard_links_protected": protected}


def _hard_links_protected() -> Optional[bool]:
    """Return True if accounts can create hard links only to files that they can read and change. See proc_sys_fs(5)."""
    with contextlib.suppress(OSError):
        return procfs.read_text(_HARD_LINKS).strip() != "0"
    return None


def _values(question: Question) -> Dict[str, str]:
    """Return the variables of the running service or, if it is not running, of its environment files."""
    for process in service_processes(question):
        values = procfs.environment(process.pid)
        if values:
            return dict(values)
    found: Dict[str, str] = {}
    for path in _files(question):
        with contextlib.suppress(env_file.EnvironmentFileError):
            found.update(env_file.read_environment_file(path))
    return found


def _files(question: Question) -> List[str]:
    own = question.service.environment_file
    files = [question.service.path(own)] if own else []
    return list(dict.fromkeys([*files, *question.known.unit.get("environment_files", [])]))


def _is_weak(value: str) -> bool:
    return len(value) < _SHORTEST or _PLACEHOLDER.search(value) is not None


def _exposed(question: Question) -> List[Dict[str, str]]:
    """Return the secret files (environment files, private key) that accounts outside the file's group can read."""
    key = question.service.tls_key_path or (question.known.environment.get("key") or {}).get("path")
    found = []
    for path in (*_files(question), *([question.service.path(key)] if key else [])):
        with contextlib.suppress(OSError):
            status = safe_open.look_up(path, folder_too=False)
            # If others cannot enter a folder, its files are protected.
            if status is not None and status.st_mode & stat.S_IROTH and _reachable(path):
                found.append({"path": path, "mode": f"{stat.S_IMODE(status.st_mode):04o}"})
    return found


def _reachable(path: str) -> bool:
    """Return True if every account can enter the folders above a path."""
    folder = os.path.dirname(os.path.realpath(path))
    while True:
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return False
        if folder == "/":
            return True
        folder = os.path.dirname(folder)
