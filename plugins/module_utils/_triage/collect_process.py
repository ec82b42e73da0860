# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the service's processes: limits, memory, open files."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    file,
    found,
    read,
    service_processes,
    status_fields,
    user_name,
)

_MOST_FILES = 500

_DATABASE_NAMES = (".db", ".sqlite", ".sqlite3")
_DELETED = " (deleted)"
# Paths of devices, in-memory files, and unnamed temporary files. See O_TMPFILE in open(2).
_NO_NAME = re.compile(r"/(?:dev|proc)/|/memfd:|.*/#\d+\Z")

OWN_FILES = (".env", "backend/.env")


def _limits(text: str) -> Dict[str, Optional[int]]:
    """Return the soft limits from the content of /proc/PID/limits. None means unlimited."""
    limits = {}
    for line in text.splitlines()[1:]:
        name, soft = line[:26].strip(), line[26:].split()
        if soft:
            limits[name] = int(soft[0]) if soft[0].isdecimal() else None
    return limits


def _open_files(pid: int) -> Tuple[int, List[Tuple[str, str]]]:
    """Return the number of open file descriptors of a process, and (descriptor, link target) of the first ones."""
    folder = f"/proc/{pid}/fd"
    numbers = sorted(os.listdir(folder), key=int)
    files = []
    for name in numbers[:_MOST_FILES]:
        with contextlib.suppress(OSError):
            files.append((name, os.readlink(f"{folder}/{name}")))
    return len(numbers), files


def _written(pid: int, descriptor: str) -> bool:
    """Return True if a descriptor is open for writing. For the octal flags, see proc_pid_fdinfo(5) and open(2)."""
    with contextlib.suppress(OSError, ValueError):
        flags = int(status_fields(read(f"/proc/{pid}/fdinfo/{descriptor}")).get("flags", "0"), 8)
        return flags & os.O_ACCMODE != os.O_RDONLY
    return False


def _kinds_of_files(pid: int, files: Sequence[Tuple[str, str]]) -> Dict[str, Any]:
    """Group the open files of a process: databases, logs, and deleted files that still occupy space.

    Only /proc is read, because accessing a file itself could hang on a dead disk.
    """
    databases, logs, deleted = set(), set(), []
    for descriptor, target in files:
        path = target[: -len(_DELETED)] if target.endswith(_DELETED) else target
        if not path.startswith("/") or _NO_NAME.match(path):
            continue
        if path.endswith(_DATABASE_NAMES):
            databases.add(path)
        elif _written(pid, descriptor) and (path.endswith(".log") or descriptor in ("1", "2")):
            logs.add(path)
        if target != path:
            deleted.append({"path": path, "descriptor": int(descriptor)})
    return {"open_databases": sorted(databases), "open_logs": sorted(logs), "deleted_files": deleted}


def _sizes(pid: int, deleted: Sequence[Dict[str, Any]]) -> Dict[str, Optional[int]]:
    sizes: Dict[str, Optional[int]] = {}
    for item in deleted:
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/fd/{item['descriptor']}")
            sizes[str(item["descriptor"])] = status.st_size if stat.S_ISREG(status.st_mode) else None
    return sizes


def _look_at(item: procfs.Process, *, keep: bool) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """Return facts about one process, and files for the evidence bundle. Raises OSError if the process has ended."""
    folder = f"/proc/{item.pid}"
    status = read(f"{folder}/status")
    fields = status_fields(status)
    texts = {}
    for name in ("wchan", "limits", "oom_score", "stack"):
        texts[name] = ""
        with contextlib.suppress(OSError):  # this account may not be allowed to read the file
            texts[name] = read(f"{folder}/{name}")
    count: Optional[int] = None
    files: List[Tuple[str, str]] = []
    with contextlib.suppress(OSError):
        count, files = _open_files(item.pid)
    kinds = _kinds_of_files(item.pid, files)
    if kinds["deleted_files"]:
        sizes = parallel.ask({"sizes": functools.partial(_sizes, item.pid, kinds["deleted_files"])}, timeout=0.5)[
            "sizes"
        ]
        kinds["deleted_files"] = [
            {"path": entry["path"], "size": (sizes.value or {}).get(str(entry["descriptor"]))}
            for entry in kinds["deleted_files"]
        ]
    limits = _limits(texts["limits"])

    def size(name: str) -> int:
        return int(fields.get(name, "0 kB").split()[0]) * 1024

    facts = {
        "pid": item.pid,
        "start_ticks": item.start_ticks,
        "ppid": item.ppid,
        "exe": item.exe,
        "cwd": item.cwd,
        "argv": item.argv,
        "user": user_name(item.uid),
        "state": item.state,
        "started_at": item.started_at,
        "rss": size("VmRSS"),
        "rss_peak": size("VmHWM"),
        "swap": size("VmSwap"),
        "threads": int(fields.get("Threads", "0")),
        "open_files": count,
        "open_files_max": limits.get("Max open files"),
        "core_max": limits.get("Max core file size"),
        "wait_channel": texts["wchan"] if texts["wchan"] not in ("", "0") else None,
        "oom_score": int(texts["oom_score"]) if texts["oom_score"].strip().isdecimal() else None,
        **kinds,
    }
    if not keep:
        return facts, []
    names = "\n".join(target for _descriptor, target in files)
    parts = [status, *(f"{name}:\n{text}" for name, text in texts.items() if text), f"open files:\n{names}\n"]
    source = f"{folder}/{{status,{','.join(texts)},fd}}"
    return facts, [file(f"process-{item.pid}.txt", source, "\n".join(parts))]


def process(question: Question) -> Dict[str, Any]:
    """Return facts about the service's processes."""
    facts, evidence, secrets = [], [], []
    for item in service_processes(question):
        values = procfs.environment(item.pid) or {}
        secrets += redact.secret_values(values) + redact.secret_arguments(item.argv)
        with contextlib.suppress(OSError):  # the process may end while its facts are read
            facts_of_it, files = _look_at(item, keep=question.keep)
            facts.append(facts_of_it)
            evidence.extend(files)
    return found(
        {"state": "running" if facts else "gone", "processes": facts},
        evidence=evidence,
        secrets=secrets,
    )
