# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event source for ansible-rulebook that watches the service with the same checks as outage_detect.yml."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
---
short_description: Watch the service and report each outage once
description:
  - Probes the service every few seconds, and counts consecutive failures. The event source sends an event only if an
    action is needed.
  - C(event.outage.act) is the action. V(triage) means that O(warning_after) consecutive probes failed. V(recover) means
    that O(critical_after) consecutive probes failed, or that a probe failed and the process is gone. V(restored) means
    that O(restored_after) consecutive probes were healthy after a V(triage) or V(recover) event.
  - During an outage, the event source repeats only V(recover) events, and only if O(again_after) is set.
  - C(event.outage) also contains C(host), C(severity), C(consecutive_failures), C(process), C(summary) and
    C(first_failure_at). C(event.meta.hosts) also contains the host, so that ansible-rulebook limits a playbook to this
    host.
options:
  targets:
    description:
      - The services to watch. Each item is a dictionary with C(host), C(endpoints), and optionally C(process),
        C(state_dir), C(over), C(as_root) and C(alarm).
      - C(host) is the host's name in the inventory.
      - C(endpoints) is a list of dictionaries with C(name), C(url), and optionally C(required), C(validate_certs) and
        C(ca_path), as for the C(health_probe) module.
      - C(process) describes the service process, with C(manager), C(unit), C(app_dir), C(command), C(user), C(pid_file)
        and C(ports). If C(process) is set, the event source also checks whether the process is gone.
      - C(state_dir) is the state folder on the host. If C(state_dir) is set, the event source sends only V(restored)
        events during a maintenance window.
      - C(over) is the command prefix for running commands on the host, for example V([ssh, -o, BatchMode=yes, HOST]).
        If C(over) is set, C(process.manager) must be V(systemd). If C(over) is not set, the event source checks the
        machine on which it runs.
      - C(as_root) is the command prefix for the command C(cat -- STATE_DIR/maintenance.json), for example V([sudo,
        -n]). No other command needs root on the host.
      - C(alarm) is the path of the socket on which C(outage_armed.yml) waits on this machine. If C(outage_armed.yml)
        accepts the alarm, C(act) is V(alarmed) instead of V(recover), because the recovery has already begun.
    type: list
    elements: dict
    required: true
  interval:
    description: Time from the start of a check to the start of the next check, in seconds.
    type: float
    default: 2
  timeout:
    description: Time limit for each request, in seconds.
    type: float
    default: 5
  ok_statuses:
    description: Values of C(status) in the response that mean healthy (case-insensitive).
    type: list
    elements: str
    default: [ok]
  warning_after:
    description: Number of consecutive failures after which the event source sends a V(triage) event.
    type: int
    default: 3
  critical_after:
    description: Number of consecutive failures after which the event source sends a V(recover) event.
    type: int
    default: 5
  restored_after:
    description: Number of consecutive healthy responses that end an outage. A later failure counts as a new outage.
    type: int
    default: 5
  again_after:
    description:
      - Time, in seconds, after which the event source repeats the V(recover) event if the outage continues. If V(0),
        the event source sends this event only once.
    type: float
    default: 0
"""

EXAMPLES = r"""
- itsm_nexus.runbook.service_watch:
    targets:
      - host: itsm-prod-01.example.com
        endpoints:
          - name: https
            url: https://itsm-prod-01.example.com:6443/api/v1/health
        over: [ssh, -o, BatchMode=yes, itsm-watch@itsm-prod-01.example.com]
        as_root: [sudo, -n]
        process:
          manager: systemd
          unit: itsm-system
          app_dir: /mnt/LinuxHDD/ITSM-System
          command: [node, backend/server.js]
        state_dir: /var/lib/itsm-runbook
"""

# ansible-rulebook runs this file by its path, so Python does not find the package `ansible_collections`. In this
# package, the path of this file is <namespace>/<name>/extensions/eda/plugins/event_source/<this file>. Do not resolve
# symbolic links in the path, because the collection may be a link to a checkout outside of this package.
sys.path.append(str(Path(__file__).absolute().parents[7]))

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import service_watch

_THRESHOLDS = {"warning_after": int, "critical_after": int, "restored_after": int, "again_after": float}
_OTHERS = {"targets", "interval", "timeout", "ok_statuses"}


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Watch all targets in parallel until the task is cancelled. Raises WatchError if a parameter is invalid."""
    for name in args:
        if name not in _OTHERS and name not in _THRESHOLDS:
            raise service_watch.WatchError(
                f"{name}: is not known; known options: {', '.join(sorted({*_OTHERS, *_THRESHOLDS}))}"
            )
    thresholds = service_watch.Thresholds(
        **{name: kind(args[name]) for name, kind in _THRESHOLDS.items() if name in args}
    )
    interval, timeout = float(args.get("interval", 2)), float(args.get("timeout", 5))
    targets = service_watch.targets(args.get("targets"), thresholds, timeout=timeout, interval=interval)
    ok_statuses = args.get("ok_statuses", ["ok"])
    loop = asyncio.get_running_loop()

    async def keep(looker: service_watch.Watch) -> None:
        while True:
            next_at = loop.time() + interval
            event = await loop.run_in_executor(threads, looker.look)
            if event is not None:
                await queue.put(event)
            await asyncio.sleep(next_at - loop.time())

    with concurrent.futures.ThreadPoolExecutor(max_workers=len(targets)) as threads:
        await asyncio.gather(
            *(keep(service_watch.Watch(each, thresholds, timeout=timeout, ok_statuses=ok_statuses)) for each in targets)
        )
