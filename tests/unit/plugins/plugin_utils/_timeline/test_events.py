# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The format of a timeline, and the hosts that have an incident in a timeline."""

from __future__ import annotations

import json

import pytest
from timeline_samples import OUTCOME, Recording

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def test_a_run_that_left_the_incident_to_another_run_is_not_part_of_it():
    other = {"run": "run-7", "until": "2026-03-02T01:04:00.000Z"}
    recording = Recording("run2").opened(run=None, locked_by=other).ended()
    assert timeline_events.opened(recording.events) == {}
    assert list(timeline_events.without_incident(recording.events)) == ["node1"]
    # A run in check mode is part of the incident, even if another run holds the lease.
    recording.events[-2]["status"] = "changed"
    assert list(timeline_events.opened(recording.events)) == ["node1"]


def test_truncated_or_foreign_lines_are_ignored():
    good = timeline_events.encode(Recording().down().events[0])
    data = good + b"not json\n" + b'{"v":99,"run":"r","at":"x"}\n' + b"[]\n" + b"\xff\xfe\n" + good[:-10]
    assert len(timeline_events.decode(data)) == 1


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_timeline_is_readable_with_any_ending(cut):
    recording = Recording().add("run_start", playbook="x.yml").down().opened()
    recording.add("outcome", host="node1", data=OUTCOME).ended()
    data = b"".join(map(timeline_events.encode, recording.events))
    for end in range(0, len(data), cut):
        for incident in timeline_incidents.from_events(timeline_events.decode(data[:end])):
            json.loads(incident_model.to_json(incident))


def test_an_older_timeline_is_read_with_the_new_names() -> None:
    told = [{"contact": "leader", "channel": "mail", "ok": True}]
    data = {"outcome": "mended_by_hand", "escalation": {"to": ["leader"], "told": told}}
    event = {"v": 1, "at": "2026-03-02T01:02:03.000Z", "run": "r", "kind": "outcome", "host": "h", "data": data}
    (read,) = timeline_events.decode(timeline_events.encode(event))
    assert read["data"] == {"outcome": "resolved_manually", "escalation": {"to": ["leader"], "notified": told}}
