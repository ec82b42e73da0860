# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide, after the first probe, whether the first response may start the service before the cause is known."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import FIRST_RESPONSE


def allowed(seen: Mapping[str, Any]) -> bool:
    """Return True if the first response may start the service. The host then checks whether anything blocks the start.

    seen: detection (the detection result), wanted (the setting), rungs and acting (see verdict.course), halted_before
    (why an earlier step of a workflow ended the ladder, or empty), check_mode, linear (True if hosts wait for each
    other).
    """
    detection = seen["detection"]
    opened = detection.get("opened") or {}
    gone = detection["severity"] == "emergency" and (detection.get("process") or {}).get("state") == "gone"
    new = bool(opened.get("run")) and not opened.get("failed") and not opened.get("continued")
    doubts = (
        seen["halted_before"],
        detection.get("hold"),
        detection.get("doubt"),
        detection.get("data_in_doubt"),
        (detection.get("preflight") or {}).get("problems"),
        (detection.get("supervisor") or {}).get("restarted"),
        opened.get("maintenance"),
        (opened.get("crash_loop") or {}).get("looping"),
    )
    wanted = bool(seen["wanted"] and seen["acting"]) and list(seen["rungs"])[:1] == [FIRST_RESPONSE]
    return wanted and gone and new and not any(doubts) and not seen["check_mode"] and not seen["linear"]


def already_started(seen: Mapping[str, Any]) -> bool:
    """Return True if the first response has started the service. In this case, the run only verifies the rung.

    seen: triage (the triage result), untouched (True if no remedy and no rung has changed the service).
    """
    triage = seen["triage"] or {}
    # If the start could not be recorded, only the result of the module shows that the service was started.
    started = triage.get("started_by_run") or (triage.get("response") or {}).get("started")
    return bool(started) and bool(seen["untouched"])
