# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sample events of runs, and the resulting incident."""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents

OUTCOME = {
    "incident": "INC-1",
    "severity": "critical",
    "outcome": "recovered",
    "cause": "hung",
    "rung": "restart",
    "rungs_tried": [{"rung": "restart", "held": True, "halted": False, "reason": "", "seconds": 3.0}],
    "outage_seconds": 12.5,
    "data_loss": "none",
    "rows_before": {"users": 3},
    "rows_after": {"users": 3},
}


class Recording:
    """Creates the events of a run. Each event takes place one second after the previous one."""

    def __init__(self, run="run1", host="node1"):
        self.run, self.host, self.second, self.events = run, host, 0, []

    def add(self, kind, **keys):
        self.second += 1
        at = f"2026-03-02T01:00:{self.second:02d}.000Z"
        self.events.append({"v": 1, "at": at, "run": self.run, "kind": kind, **keys})
        return self

    def task(self, module, data=None, status="ok", role=None, **keys):
        return self.add(
            "task",
            host=keys.pop("host", self.host),
            task=keys.pop("task", module),
            role=role,
            action=f"itsm_nexus.runbook.{module}",
            status=status,
            **({"data": data} if data else {}),
            **keys,
        )

    def down(self):
        data = {"healthy": False, "severity": "emergency", "first_failure_at": "2026-03-02T01:00:00.000Z"}
        return self.task("health_probe", data, role="detection")

    def opened(self, identity="INC-1", **keys):
        return self.task("incident", {"id": identity, **keys})

    def begun(self, module, role="verification"):
        return self.add("started", host=self.host, task=module, role=role, action=f"itsm_nexus.runbook.{module}")

    def verified(self, healthy=True):
        at = f"2026-03-02T01:00:{self.second + 1:02d}.000Z"
        return self.task(
            "health_probe", {"healthy": healthy, "first_healthy_at": at if healthy else None}, role="verification"
        )

    def ended(self):
        return self.add("stats", hosts={})


def only(recording):
    (incident,) = timeline_incidents.from_events(recording.events)
    return incident
