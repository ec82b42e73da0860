# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the service's processes: limits, memory, open files."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import open_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    file,
    found,
    read,
    service_processes,
    status_fields,
    user_name,
)


def _limits(text: str) -> Dict[str, Optional[int]]:
    """Return the soft limits from the content of /proc/PID/limits. None means unlimited."""
    limits = {}
    for line in text.splitlines()[1:]:
        name, soft = line[:26].strip(), line[26:].split()
        if soft:
            limits[name] = int(soft[0]) if soft[0].isdecimal() else None
    return limits


def _sizes(pid: int, deleted: Sequence[Dict[str, Any]]) -> Dict[str, Optional[int]]:
    sizes: Dict[str, Optional[int]] = {}
    for item in deleted:
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/fd/{item['descriptor']}")
            sizes[str(item["descriptor"])] = status.st_size if stat.S_ISREG(status.st_mode) else None
    return sizes


def _look_at(item: procfs.Process, *, search: procfs.Search, keep: bool) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """Return facts about one process, and files for the evidence bundle. Raises OSError if the process has exited."""
    folder = f"/proc/{item.pid}"
    status = read(f"{folder}/status")
    fields = status_fields(status)
    texts = {}
    for name in ("wchan", "limits", "oom_score", "stack"):
        texts[name] = ""
        with contextlib.suppress(OSError):  # this account may lack permission to read the file
            texts[name] = read(f"{folder}/{name}")
    count: Optional[int] = None
    files: List[Tuple[str, str]] = []
    with contextlib.suppress(OSError):
        count, files = open_files.descriptors(item.pid, search)
    kinds = open_files.kinds(item.pid, files)
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
    search = open_files.search()
    for item in service_processes(question):
        values = procfs.environment(item.pid) or {}
        secrets += redact.secret_values(values) + redact.secret_arguments(item.argv)
        with contextlib.suppress(OSError):  # the process may exit while its facts are read
            facts_of_it, files = _look_at(item, search=search, keep=question.keep)
            facts.append(facts_of_it)
            evidence.extend(files)
    return found(
        {"state": "running" if facts else "gone", "processes": facts},
        evidence=evidence,
        secrets=secrets,
    )
