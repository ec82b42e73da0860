# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory-related causes: the kernel's out-of-memory killer, and the Node.js heap."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# Exit statuses for the signal ABRT: systemd reports the number of the signal, and shells report 128 + this number.
_ABORTED = (6, 134)

_KILLED_RSS = re.compile(r"anon-rss:(\d+)kB")

_OF_CGROUP = re.compile(r"task_memcg=([^,\s]+).*?\bpid=(\d+)")

# The heap size that V8 prints for its last garbage collections: "Mark-Compact 2046.3 (2083.1) -> 2045.4 (2083.1) MB".
_HEAP = re.compile(r"(?:Mark-[Cc]ompact|Mark-sweep|Scavenge)[^\d\n]*(\d+)(?:\.\d+)? \(\d+")


def oom_kill(facts: Facts) -> Optional[Finding]:
    """Report that the kernel's out-of-memory killer killed the process."""
    if not facts.troubled:
        return None
    unit, kernel = facts.unit, facts.kernel
    by_unit = facts.unit.ending() if unit.result == "oom-kill" else []
    results = facts.journal.results
    if facts.process.restarted and results and "'oom-kill'" in results[-1]["text"]:
        by_unit = [says("journal", results[-1]["text"])]
    seen = kernel.out_of_memory
    groups = {int(pid): group for line in seen for group, pid in _OF_CGROUP.findall(line["text"])}
    pids = {unit.last_pid} - {None, 0}
    named = re.sub(r"\.service\Z", "", unit.name or "")
    sure, perhaps, others = [], [], []
    for line in seen:
        if line["pid"] is None:
            continue
        group = groups.get(line["pid"], "")
        if line["pid"] in pids or (named and f"/{named}.service/" in f"{group}/"):
            sure.append(line)
        elif not group and _may_be_node(line["name"]) and facts.process.ended_at(line["at"]):
            perhaps.append(line)
        else:
            others.append(line)
    killed = sure or perhaps
    if not by_unit and not killed:
        return None
    rss = [int(size) * 1024 for line in killed for size in _KILLED_RSS.findall(line["text"])]
    bounded = any("emory cgroup out of memory" in line["text"] for line in killed)
    sizes = _sizes(facts, rss=max(rss, default=None), bounded=bounded)
    return Finding(
        confidence=0.97 if by_unit else 0.9 if sure else 0.75,
        summary=message("finding.oom_kill.limit" if bounded else "finding.oom_kill.host"),
        evidence=by_unit + [says(kernel.source or "kernel log", line["text"]) for line in [*killed[-3:], *others[-1:]]],
        remedy=message("remedy.oom_kill"),
        prevention=message("prevention.oom_kill"),
        details=sizes,
    )


def _may_be_node(name: Optional[str]) -> bool:
    return (name or "").startswith(("node", "MainThread"))


def heap_oom(facts: Facts) -> Optional[Finding]:
    """Report that the heap reached V8's limit, not a limit of the kernel."""
    words = facts.errors.signature("heap_oom")
    if not words or not facts.troubled:
        return None
    aborted = facts.unit.exit_status in _ABORTED
    # Log lines may contain text from a request. If the process is known to have terminated for another reason, these
    # lines prove nothing.
    refuted = facts.process.ended_by_others and not any("status=6/ABRT" in item["text"] for item in facts.process.exits)
    lines = [*facts.log.lines, *facts.journal.lines]
    heaps = [int(size) << 20 for line in lines for size in _HEAP.findall(line)]
    heaps += [size << 20 for size in (facts.environment.max_old_space_size,) if size]
    return Finding(
        confidence=0.45 if refuted else 0.97 if aborted else 0.93,
        summary=message("finding.heap_oom.refuted" if refuted else "finding.heap_oom.now"),
        evidence=words + (facts.unit.ending() if aborted else []),
        remedy=message("remedy.heap_oom"),
        prevention=message("prevention.heap_oom"),
        details=_sizes(facts, heap=max(heaps, default=None)),
    )


def _sizes(
    facts: Facts, *, rss: Optional[int] = None, heap: Optional[int] = None, bounded: bool = False
) -> Dict[str, Any]:
    """Return the measured memory sizes and the proposed limits. See Memory.limits.

    rss: resident memory of the process in bytes when it was killed. heap, bounded: see Memory.limits.
    """
    memory, unit = facts.memory, facts.unit
    peaks = [size for size in (rss, memory.control_group.get("peak"), unit.memory_peak) if isinstance(size, int)]
    return {
        "measured": {
            "total": memory.total or None,
            "available": memory.available,
            "swap_free": memory.swap_free,
            "memory_max": unit.memory_max,
            "peak": max(peaks, default=None),
            "heap": heap,
            "max_old_space_size": facts.environment.max_old_space_size,
        },
        "proposal": memory.limits(used=facts.process.rss, unit_max=unit.memory_max, heap=heap, bounded=bounded),
    }
