# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that concern a disk: no space left, or a read-only file system."""

from __future__ import annotations

from typing import Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# Purposes of the file systems that the service writes to. If other file systems are full, the service may still work.
_WRITTEN_TO = ("application", "database", "log")


def disk_full(facts: Facts) -> Optional[Finding]:
    """Report a full file system."""
    full = facts.disks.short_of_room()
    words = facts.errors.signature("disk_full") if facts.troubled or full else []
    if not full and not words:
        return None
    prevention = message("prevention.disk_full")
    if not full:
        return Finding(
            confidence=0.6,
            summary=message("finding.disk_full.past"),
            evidence=words,
            remedy=message("remedy.disk_full.past"),
            prevention=prevention,
            details={"mounts": []},
            past=True,
        )
    evidence = []
    for room in full:
        names = ("available", "size") if room["what"] == "bytes" else ("inodes_available", "inodes")
        free, size = (room[name] for name in names)
        where = f"{room['mount']} ({', '.join(room['uses'])})"
        evidence.append(says(where, message(f"evidence.free.{room['what']}", free=free, size=size)))
        if room["held"]:
            evidence.append(says(where, message("evidence.removed_files", bytes=room["held"])))
    matters = bool(words) or any(set(room["uses"]).intersection(_WRITTEN_TO) for room in full)
    # The space that a deleted file occupies is freed only when the file is closed.
    freed_by_restart = all(room["what"] == "bytes" and room["held"] >= room["wanted"] for room in full)
    mounts = sorted(room["mount"] for room in full)
    lacks = {room["what"] for room in full}
    what = "inodes" if lacks == {"inodes"} else "both" if "inodes" in lacks else "now"
    # If no inodes are free, no file can be created, but the service can start if its files exist.
    hinders = bool(words) or any(
        room["what"] == "bytes" and set(room["uses"]).intersection(_WRITTEN_TO) for room in full
    )
    return Finding(
        confidence=0.97 if words else 0.9 if matters else 0.4,
        summary=message(f"finding.disk_full.{what}", mounts=mounts),
        evidence=evidence + words,
        remedy=message("remedy.disk_full.restart")
        if freed_by_restart
        else message("remedy.disk_full.make_room", mounts=mounts),
        prevention=prevention,
        useless_rungs=RUNGS if hinders and not freed_by_restart else (),
        details={"mounts": [{name: room[name] for name in room if name not in ("uses", "held")} for room in full]},
    )


def disk_read_only(facts: Facts) -> Optional[Finding]:
    """Report a read-only file system that the service must write to."""
    closed = facts.disks.read_only()
    if not closed or not facts.troubled:
        return None
    mounts = sorted({str(item["mount"]) for item in closed})
    return Finding(
        confidence=0.9,
        summary=message("finding.disk_read_only", mounts=mounts),
        evidence=[
            says(f"{item['mount']} ({item['use']})", message("evidence.read_only", device=str(item.get("device"))))
            for item in closed
        ],
        remedy=message("remedy.disk_read_only"),
        prevention=message("prevention.disk_read_only"),
        useless_rungs=RUNGS if any(item["use"] == "database" for item in closed) else (),
    )
