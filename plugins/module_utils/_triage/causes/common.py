# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Constants and helpers that the rules for several subjects share."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ONLY_START
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import mismatches
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts

# Symptoms of a service that answers but is degraded.
DEGRADES = ("not_ready", "slow", "login_refused")

FALLS = ("unhandled_exception", "crash_loop", "stopped", "killed", "wal_pending")

# Causes that a configuration mismatch explains, grouped by the affected part of the service. See mismatches.py.
OF_MISFITS: Dict[str, Tuple[str, ...]] = {
    mismatches.START: FALLS,
    mismatches.MODULES: ("modules_broken",),
    mismatches.DATABASE: ("db_corrupt", "db_unchecked", "migration_pending"),
    mismatches.HTTPS: ("tls_expired",),
}

LOOP_FALLS = 3

# If the service has failed to start this many times in a row without a change, assume that the next start will also
# fail.
PROOF = 2


def only_start(facts: Facts) -> Tuple[str, ...]:
    """If the service keeps crashing, return the rungs that only start the service.

    Return an empty tuple if the process is running. Also return an empty tuple if the unit or its settings were changed
    after the last exit. In this case, the next start may succeed.
    """
    return ONLY_START if facts.process.gone and not facts.process.changed_since(facts.start.changed_at) else ()


def process_details(process: Mapping[str, Any], **more: Any) -> Dict[str, Any]:
    known = {name: process.get(name) for name in ("start_ticks", "user", "command", "exe")}
    # The pid of a process in another PID namespace is reported as 0.
    return {**more, "pid": process.get("pid") or None, **known, "ours": bool(process.get("ours"))}


def end_of_lock(holder: Mapping[str, Any], *, restart: bool) -> Message:
    """Return the remedy for a lock of another process: a command that ends it, and the stop policy for the next run.

    holder: pid, command and user. restart: True if the service must be restarted afterwards.
    """
    pid, command, user = holder.get("pid"), holder.get("command"), holder.get("user")
    # A process in another PID namespace has the pid 0, and `kill 0` would end the shell itself. The user is None if
    # unknown.
    if not pid or not command or not isinstance(user, str):
        return message("remedy.db_locked.wait_restart" if restart else "remedy.db_locked.wait")
    # The policy must match the whole command line. Here, only its beginning is known, from which the secrets have been
    # removed.
    shown = [re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", part) for part in str(command).split(redact.MASK)]
    pattern = ".*".join([*shown, ""])
    policy = json.dumps([{"user": user, "command": pattern}], separators=(",", ":"))
    return message("remedy.db_locked.end_restart" if restart else "remedy.db_locked.end", pid=str(pid), policy=policy)
