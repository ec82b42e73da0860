# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import handover, job, runs

AWX = "https://awx.example.com"
URL = f"{AWX}/#/jobs/playbook/7/output"


@pytest.mark.parametrize(
    ("number", "addresses", "expected"),
    [
        (7, [AWX], URL),
        ("7", [f"{AWX}/"], URL),
        (7, ["", AWX], URL),
        (7, [None, AWX], URL),
        (7, [AWX, "https://other.example.com"], URL),
        (7, ["https://awx.example.com:8443/awx"], "https://awx.example.com:8443/awx/#/jobs/playbook/7/output"),
        (7, ["http://[2001:db8::1]"], "http://[2001:db8::1]/#/jobs/playbook/7/output"),
        # The default values of AWX's setting are not real addresses.
        (7, ["https://towerhost"], ""),
        (7, ["https://platformhost/", AWX], URL),
        # No job.
        ("", [AWX], ""),
        (None, [AWX], ""),
        ("7/../8", [AWX], ""),
        # Addresses with a secret, a query, a fragment or control characters, and other schemes.
        (7, ["https://admin:secret@awx.example.com"], ""),
        (7, ["https://awx.example.com?token=secret"], ""),
        (7, ["https://awx.example.com/#x"], ""),
        (7, ["https://awx.example.com\n"], ""),
        (7, ["https://awx example.com"], ""),
        (7, ["javascript:alert(1)"], ""),
        (7, ["awx.example.com"], ""),
        (7, ["{{ lookup('env', 'HOME') }}"], ""),
        (7, ["https://" + "a" * 300], ""),
        (7, [], ""),
    ],
)
def test_url(number: Any, addresses: list[Any], expected: str) -> None:
    assert job.url(number, *addresses) == expected


@pytest.mark.parametrize(
    ("extra_vars", "environment", "expected"),
    [
        ({"awx_job_id": 7, "outage_recover_awx_url": AWX}, {"AWX_HOST": "https://towerhost"}, URL),
        ({"tower_job_id": 7}, {"AWX_HOST": AWX}, URL),
        ({"awx_job_id": 7}, {}, ""),
        ({"outage_recover_awx_url": AWX}, {"AWX_HOST": AWX}, ""),
    ],
)
def test_of_run(extra_vars: dict[str, Any], environment: dict[str, str], expected: str) -> None:
    assert job.of_run(extra_vars, environment) == expected


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [(URL, URL), ("https://evil.example.com/login", None), (["x"], None), (None, None)],
)
def test_a_timeline_from_a_host_names_only_the_url_of_a_job(recorded: Any, expected: str | None) -> None:
    entry = {"v": timeline_events.VERSION, "at": "2026-03-02T18:02:03.000Z", "run": "r", "kind": "run_start"}
    events = handover.accepted(timeline_events.encode({**entry, "job": recorded}), run="r", host="node1")
    assert runs.summary(events).job == expected
