# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observers that do not depend on a run: a client that polls the service, and the unit journal."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import threading
import time
from typing import Any

from drills import STATE_DIR, Drill

# The message IDs of systemd (see systemd.journal-catalog), and our names for the events.
MESSAGES = {
    "7d4958e842da4a758f6c1cdc7b36dcc5": "starting",
    "39f53479d3a045ac8e11786248231fbf": "started",
    "de5b426a63be47a7b6ac3eaac82e2f6f": "stopping",
    "98e322203f7a4ed290d09fe03c09fe15": "exited",
    "5eb03494b6584870a536b337290809b3": "restart scheduled",
}


class Client:
    """Polls the service health from another machine every 50 ms, until close() is called."""

    def __init__(self, drill: Drill) -> None:
        self._drill = drill
        # (time of the request, time of the response or failure, True if healthy)
        self._asked: list[tuple[float, float, bool]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._ended.wait(0.05):
            address = (self._drill.output / "address").read_text(encoding="utf-8")
            asked_at, healthy = time.time(), False
            connection = http.client.HTTPConnection(address, int(self._drill.service.http_port), timeout=1)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/api/v1/health")
                healthy = connection.getresponse().status == 200
            connection.close()
            self._asked.append((asked_at, time.time(), healthy))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def healthy(self) -> bool:
        return bool(self._asked) and self._asked[-1][2]

    def healthy_since(self, since: float) -> float | None:
        """Return the Unix time of the first healthy response to a request sent after `since` (Unix time), or None."""
        return next((answered for asked, answered, healthy in list(self._asked) if asked > since and healthy), None)

    def outages(self, since: float) -> list[tuple[float, float]]:
        """Return a pair of times for each outage that ended after `since`.

        The first time is that of the last healthy response before the outage. The second time is that of the first
        healthy response after it.
        """
        found, last = [], None
        for asked, answered, healthy in list(self._asked):
            if asked < since - 1:
                continue
            if healthy and last is not None and last[1]:
                found.append((last[0], answered))
            if healthy:
                last = (answered, False)
            elif last is not None:
                last = (last[0], True)
        return [outage for outage in found if outage[1] > since]


def unit_events(drill: Drill, since: float) -> list[str]:
    """Return the names (see MESSAGES) of the unit events after `since`, oldest first."""
    asked = f"journalctl --unit={drill.service.unit} --since=@{since:.6f} --output=json"
    lines = drill.host.check_output(asked).splitlines()
    return [MESSAGES[id] for line in lines if (id := json.loads(line).get("MESSAGE_ID")) in MESSAGES]


def first_probe(drill: Drill, since: float) -> float | None:
    """Return the Unix time of the first probe on the host after `since` (Unix time), or None."""
    asked = "journalctl --output=json SYSLOG_IDENTIFIER=ansible-itsm_nexus.runbook.health_probe"
    lines = drill.host.check_output(f"{asked} --since=@{since:.6f}").splitlines()
    return int(json.loads(lines[0])["__REALTIME_TIMESTAMP"]) / 1e6 if lines else None


def seconds_of(instant: str) -> float:
    """Return the Unix time of a timestamp from a record."""
    return datetime.datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


def units_of_the_recovery(drill: Drill) -> str:
    """Return the transient recovery units on the host, one per line."""
    return drill.host.check_output("systemctl list-units --all --plain --no-legend 'itsm-runbook-*'")


def forget_restarts(drill: Drill) -> None:
    """Remove the records of all closed incidents except the latest incident.

    Otherwise, the rounds would count as a crash loop.
    """
    drill.host.check_output(f"systemctl reset-failed {drill.service.unit}")
    drill.host.check_output(f"cd {STATE_DIR}/incidents 2>/dev/null && ls -t | tail -n +2 | xargs -r rm; true")


def show(drill: Drill, *names: str) -> dict[str, Any]:
    """Return the values of the given service unit properties, by name."""
    lines = drill.host.check_output(f"systemctl show --property={','.join(names)} {drill.service.unit}").splitlines()
    return dict(line.split("=", 1) for line in lines)
