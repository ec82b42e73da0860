# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assemble the facts of a triage from the results of its parts and from the incident's record."""

from __future__ import annotations

import copy
import time
from typing import Any, Collection, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables, migration_names
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_changes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.collected import Pass
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Service

# A takeover stops the unit and records the time. Maximum number of seconds between the stop and the recorded time.
_OWN_STOP = 1.0

# Maximum number of seconds between a run's record of a start and systemd's log line about this start. The limit allows
# for the time that the service needs to stop first.
_OWN_START = 150.0


def of_pass(
    done: Pass,
    service: Service,
    *,
    own_parts: Collection[str],
    database: Mapping[str, str],
    places: Mapping[str, str],
    record: Optional[Mapping[str, Any]],
    window: float,
    until: Optional[str],
) -> Dict[str, Any]:
    """Return the facts from all parts so far, and the facts that this process determines itself.

    own_parts: the names of the parts that return no facts about the outage. database: the path of the database with its
    source. places: maps each purpose to its checked folder. record: the record of the open incident. window: the length
    of the log window in seconds. until: the end of the log window, or None for the current time.
    """
    facts = copy.deepcopy(done.facts)
    for name in own_parts:
        facts.pop(name, None)
    if record is not None:
        _as_before_the_takeover(facts, record)
        _mark_own_exits(facts, record)
    exists, pid_file = (facts.pop(name, None) for name in ("app_dir", "pid_file"))
    facts.pop("files", None)
    tables = facts["migrations"].pop("schema", None)
    read = None if tables is None else {"schema": tables, "names": facts["migrations"]["completed"]}
    version = done.of("node").get("version")
    facts["changes"] = collect_changes.with_schema(done.of("changes"), read, version)
    facts["migrations"] = with_pending(facts["migrations"], facts.pop("migrations_shipped"))
    for item in facts["disk"]:
        item.setdefault("path", places[item["use"]])
    for item in facts["paths"]:
        item.setdefault("what", item.pop("use", None))
    facts["database"] = {**facts["database"], **database}
    facts["service"] = {
        "app_dir": service.app_dir,
        "app_dir_exists": exists if isinstance(exists, bool) else None,
        "manager": service.manager,
        "unit": service.unit,
        "pid_file_exists": pid_file if isinstance(pid_file, bool) else None,
        "https_port": service.https_port,
        "http_port": service.http_port,
        "health_path": service.health_path,
    }
    first = procfs.read_process(1)
    facts["window"] = {
        "since": timestamps.iso(window_start(facts, window=window)),
        # If this triage starts the service, the window ends before the start.
        "until": until or timestamps.now(),
        # In a container, process 1 starts with the container.
        "booted_at": first.started_at if first is not None else None,
    }
    return facts


def with_pending(facts: Mapping[str, Any], shipped: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the facts, completed with the migrations that are in the application but not in the database."""
    if facts.get("error") or facts.get("pending") is not None:
        return dict(facts)
    if shipped.get("names") is None:
        return {**facts, "error": shipped["error"]}
    try:
        return {**facts, "pending": migration_names.pending(facts["completed"], shipped["names"])}
    except knex_tables.KnexError as error:
        return {**facts, "error": str(error)}


def window_start(facts: Mapping[str, Any], *, window: float) -> float:
    """Return the beginning of the log window.

    The window begins `window` seconds before the unit stopped, or before the current time if the unit has not stopped.
    """
    unit_facts = facts.get("unit") or {}
    ended = unit_facts.get("exited_at") or unit_facts.get("inactive_enter_at")
    if unit_facts.get("active_state") in ("failed", "inactive") and ended:
        return timestamps.epoch(ended) - window
    return time.time() - window


def _as_before_the_takeover(facts: Dict[str, Any], record: Mapping[str, Any]) -> None:
    """Restore the unit's state from before this incident's takeover, and omit the stop that the takeover caused.

    When a unit is stopped, systemd resets the unit's result, exit and restart counter. In the journal, a stop by the
    takeover looks like a stop by a person.
    """
    takeover, exited, unit = record.get("takeover"), record.get("last_exit"), facts.get("unit")
    if not takeover or not isinstance(unit, dict) or unit.get("active_state") != "inactive":
        return
    at = takeover["at"]
    journal = facts.get("journal")
    if isinstance(journal, dict):
        before = timestamps.iso(timestamps.epoch(at) - _OWN_STOP)
        journal["stops"] = [item for item in journal.get("stops") or () if item["at"] < before]
    unit["taken_over_at"] = at
    if exited:
        unit.update(
            active_state="activating",
            sub_state=takeover["sub_state"],
            result=exited["result"],
            exit_code=exited["code"] or None,
            exit_status=exited["status"],
            restarts=exited["restarts"],
            last_pid=exited["pid"] or unit.get("last_pid"),
            exited_at=exited["at"] or unit.get("exited_at"),
        )


def _mark_own_exits(facts: Dict[str, Any], record: Mapping[str, Any]) -> None:
    """Omit exits that a takeover caused. If a run had started the process that exited, mark the exit as `ours`."""
    journal = facts.get("journal")
    if not isinstance(journal, dict):
        return
    kills = [(kill["from"], kill["until"]) for kill in record.get("kills") or ()]
    exits = [item for item in journal.get("exits") or () if not any(a <= item["at"] <= b for a, b in kills)]
    starts = sorted(item["at"] for item in journal.get("starts") or ())
    own = set()
    for start in record.get("starts") or ():
        begun = timestamps.epoch(start["at"])
        own.add(next((at for at in starts if 0 <= timestamps.epoch(at) - begun <= _OWN_START), None))
    for item in exits:
        item["ours"] = max((at for at in starts if at <= item["at"]), default="") in own
    journal["exits"] = exits
