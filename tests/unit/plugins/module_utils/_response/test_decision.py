# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision on whether a first response may start the service."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._response import decision, messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.table import CAUSES

ROOT = Path(__file__).resolve().parents[5]

RECORD = {"id": "INC-1", "attempts": [], "starts": [], "data": None}
PARTS = dict.fromkeys((*decision.NEEDED, "disk:database", "paths:database", "unit"), 0.1)


def finding(cause: str, **more: Any) -> dict[str, Any]:
    told = {"summary": {"id": "finding.unknown.gone", "values": {}}}
    return {"cause": cause, "messages": told, "blocks_start": False, "useless_rungs": [], **more}


def result() -> dict[str, Any]:
    """Return the triage result for a service that was killed and has not been started since."""
    return {
        "facts": {
            "process": {"state": "gone"},
            "unit": {"active_state": "failed", "load_state": "loaded"},
            "service": {"manager": "systemd"},
            "hold": {"held": None, "kept_by": "", "may_be_another": False, "replaced": False},
            "database": {"conclusive": True},
        },
        "findings": [finding("killed"), finding("wal_pending")],
        "parts": dict(PARTS),
        "rows_counted": True,
        "rows_missing": {},
        "data_loss_suspected": False,
        "modules_complete": True,
    }


def test_a_killed_service_is_started() -> None:
    assert decision.obstacle(result(), record=RECORD) is None


def test_a_unit_that_was_taken_over_is_no_obstacle() -> None:
    seen = result()
    seen["facts"]["unit"].update(active_state="activating", taken_over_at="2026-03-02T01:02:03.450Z")
    assert decision.obstacle(seen, record=RECORD) is None


def facts(part: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda seen: seen["facts"][part].update(values)


def with_finding(cause: str, **more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda seen: seen["findings"].append(finding(cause, **more))


OBSTACLES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "the process is back": ("running", facts("process", state="running")),
    "held": ("held", facts("hold", held={"incident": "INC-0"})),
    "another database": ("held", facts("hold", replaced=True)),
    "a database that was not found before": ("held", facts("hold", may_be_another=True)),
    "a pending restart": ("unit", facts("unit", active_state="activating")),
    "a running unit": ("unit", facts("unit", active_state="active")),
    "a masked unit": ("unit", facts("unit", load_state="masked")),
    "an unknown unit": ("unit", lambda seen: seen["facts"].pop("unit")),
    "an unread database": ("not_collected", lambda seen: seen["parts"].update(database="timed out")),
    "an unread disk": ("not_collected", lambda seen: seen["parts"].update({"disk:database": "timed out"})),
    "an incomplete check": ("unchecked", facts("database", conclusive=False)),
    "uncounted rows": ("unchecked", lambda seen: seen.update(rows_counted=False)),
    "missing rows": ("rows", lambda seen: seen.update(rows_missing={"users": (2, 1)})),
    "suspected loss": ("rows", lambda seen: seen.update(data_loss_suspected=True)),
    "a missing package": ("modules", lambda seen: seen.update(modules_complete=False)),
    "unknown modules": ("modules", lambda seen: seen.update(modules_complete=None)),
    "a finding that blocks a start": ("finding", with_finding("killed", blocks_start=True)),
    "a useless restart": ("finding", with_finding("unknown", useless_rungs=["restart"])),
    "an exception": ("finding", with_finding("unhandled_exception")),
    "a full disk": ("finding", with_finding("disk_full")),
    "a port of another program": ("finding", with_finding("port_conflict")),
    "an expired certificate": ("finding", with_finding("tls_expired")),
    "a missing environment file": ("finding", with_finding("environment_missing")),
    "a damaged database": ("finding", with_finding("db_corrupt")),
    "a crash loop": ("finding", with_finding("crash_loop")),
    "a cause that is not known here": ("finding", with_finding("a_new_cause")),
    "a remedy that comes first": ("finding", with_finding("oom_kill")),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_any_doubt_prevents_the_start(name: str) -> None:
    expected, change = OBSTACLES[name]
    seen = copy.deepcopy(result())
    change(seen)
    told = decision.obstacle(seen, record=RECORD)
    assert told is not None and told.id == f"reason.response.{expected}"
    assert messages.english(told)


@pytest.mark.parametrize(
    "record",
    [
        None,
        {**RECORD, "attempts": [{"rung": "restart"}]},
        {**RECORD, "starts": [{"run": "run-0"}]},
        {**RECORD, "data": {"state": "in_doubt"}},
        {**RECORD, "data": {"state": "not_found"}},
    ],
)
def test_only_a_new_incident_gets_a_first_response(record: dict[str, Any] | None) -> None:
    told = decision.obstacle(result(), record=record)
    assert told is not None and told.id == "reason.response.incident"


def test_a_harmless_cause_has_no_remedy() -> None:
    remedies = {path.stem for path in (ROOT / "roles" / "remediation" / "tasks").glob("*.yml")}
    assert not remedies & set(decision.HARMLESS)
    assert set(decision.HARMLESS) <= set(CAUSES)
