# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The beginning and the end of an outage, and the reason for its end.

Numbers are seconds since the incident was opened.
"""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record

OPENED = timestamps.epoch("2026-03-02T01:02:03.000Z")
PROBE, START, LOOK = outage_window.PROBE, outage_window.PROCESS_START, outage_window.LATER_LOOK


def at(seconds):
    return None if seconds is None else timestamps.iso(OPENED + seconds)


def sign(seconds, kind="bad", source=PROBE):
    return {"at": at(seconds), "kind": kind, "source": source}


def record(
    *,
    signs=(),
    starts=(),
    answered=None,
    mitigated=None,
    attempts=(),
    takeover=None,
    last_exit=None,
    outcome=None,
    severity=None,
    first_severity=None,
    down=None,
):
    return {
        **incident_record._new_record("INC-20260302T010203Z-0000", clock=host_lease.Clock(wall=lambda: OPENED)),
        "signs": [sign(*each) for each in signs],
        "starts": [{"at": at(each), "run": "run-1"} for each in starts],
        "answered_at": at(answered),
        "mitigated_at": at(mitigated),
        "attempts": [
            {"rung": "restart", "started_at": at(each[0]), "held": each[1], "seconds": each[2]} for each in attempts
        ],
        "takeover": None if takeover is None else {"at": at(takeover), "timer": "t", "last_exit": {}},
        "last_exit": None if last_exit is None else {"at": at(last_exit), "result": "signal"},
        "outcome": outcome,
        "severity": severity,
        "first_severity": first_severity,
        "down_at": at(down),
    }


@pytest.mark.parametrize(
    ("signs", "earliest", "latest"),
    [
        pytest.param([(-4,), (-1, "good")], -4, -4, id="answers again before the incident is opened"),
        pytest.param(
            [(-4,), (-1, "good"), (-0.5, "good", "log: last request answered well")],
            -4,
            -4,
            id="and answers its users again",
        ),
        pytest.param(
            [(-4,), (-1, "good"), (-60, "good", "last healthy run"), (-15, "bad", "journal: exited")],
            -60,
            -15,
            id="the exit in the journal is earlier than the first failed probe",
        ),
        pytest.param(
            [(-4,), (-300, "bad", "journal: exited"), (-60, "good", "last healthy run")],
            -60,
            -4,
            id="an exit followed by a healthy response",
        ),
        pytest.param([(-4,), (30,), (35, "good")], -4, -4, id="signs after the opening"),
        pytest.param(
            [(-9, "bad", "unit x: main process ended"), (-3, "good", "log")], -3, 0, id="none of our probes has failed"
        ),
    ],
)
def test_start_of_the_outage(signs, earliest, latest):
    began = outage_window.start(record(signs=signs))
    assert (began["earliest"], began["latest"]) == (at(earliest), at(latest))


@pytest.mark.parametrize(
    ("changes", "latest"),
    [
        ({}, 0),
        ({"severity": "emergency"}, -20),
        # The first run found the service down, and this run finds it degraded.
        ({"signs": [(-4,)]}, -20),
        ({"signs": [(-15, "bad", outage_window.EARLIER_PROBE)]}, -20),
        ({"attempts": [(5, True, 1.0)]}, -20),
        ({"starts": [5]}, -20),
        ({"first_severity": "critical", "starts": [5]}, -20),
        # The first run found the service degraded, and a run stopped it to repair the database.
        ({"first_severity": "degraded", "starts": [5], "takeover": 3}, 0),
        ({"first_severity": "degraded", "attempts": [(5, True, 1.0)]}, 0),
        ({"first_severity": "degraded", "starts": [5], "signs": [(7,)]}, 0),
        # systemd restarted the service after a crash, and the next run found the service degraded.
        ({"first_severity": "emergency"}, -20),
        ({"first_severity": "degraded", "starts": [5], "down": 4}, -20),
    ],
)
def test_a_stop_by_a_person_does_not_begin_the_incident_of_a_service_that_only_was_degraded(changes, latest):
    seen = [(-20, "bad", "journal: Stopped itsm-system.service"), (-60, "good", "last healthy run")]
    known = {"severity": "degraded", **changes, "signs": [*seen, *changes.get("signs", [])]}
    began = outage_window.start(record(**known))
    assert (began["earliest"], began["latest"]) == (at(-60), at(latest))


@pytest.mark.parametrize(
    ("signs", "ended", "earliest", "latest"),
    [
        pytest.param([(-3,)], -12, -12, -12, id="exit unknown to systemd"),
        pytest.param([(-3,), (-60, "good", "log")], -12, -60, -12, id="after the last good sign"),
        pytest.param([(-3,), (-6, "good", "log")], -12, -6, -3, id="an exit before the last good sign"),
        pytest.param([(-3,)], 20, -3, -3, id="an exit after the opening"),
        pytest.param(
            [(-1, "good"), (-90, "good", "last healthy run"), (-0.5, "good", "log")],
            -12,
            -90,
            -12,
            id="no probe has failed",
        ),
        pytest.param(
            [(-1, "good"), (-9, "bad", "journal: exited")], -12, -12, -12, id="failed twice before the first probe"
        ),
    ],
)
def test_exit_before_a_takeover_is_the_start(signs, ended, earliest, latest):
    began = outage_window.start(record(signs=signs, last_exit=ended))
    assert (began["earliest"], began["latest"]) == (at(earliest), at(latest))


@pytest.mark.parametrize(
    ("failed", "process", "said", "expected"),
    [
        pytest.param(1, 2, 3, (9, PROBE), id="a probe saw its end"),
        pytest.param(None, 2, 3, (3, outage_window.PROCESS_LOG), id="the service logged it"),
        pytest.param(None, 2, None, (2, START), id="no log line"),
        pytest.param(None, 2, 1, (2, START), id="log line of another process"),
        pytest.param(None, None, None, (9, PROBE), id="process not visible"),
    ],
)
def test_start_of_answers(failed, process, said, expected):
    found = outage_window.first_answer(
        first_failure_at=at(failed), first_healthy_at=at(9), process_started_at=at(process), said_at=at(said)
    )
    assert (found["at"], found["source"]) == (at(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("said", "serving", "signs", "ended", "source"),
    [
        (6, 4, (), 6, outage_window.PROCESS_LOG),
        pytest.param(3, 4, (), 4, START, id="of another process"),
        pytest.param(101, 4, (), 4, START, id="after the check"),
        pytest.param(6, 4, [(-4,), (8,)], 8, START, id="and did not answer then"),
        pytest.param(6, 4, [(-4,), (50,)], 100, LOOK, id="and failed"),
        pytest.param(6, None, (), 100, LOOK, id="process not visible"),
    ],
)
def test_log_of_the_process_gives_the_first_answer(said, serving, signs, ended, source):
    found = outage_window.ending(
        record(starts=[2], signs=signs), seen_at=at(100), serving_since=at(serving), said_at=at(said)
    )
    assert (found.at, found.source, found.estimated) == (at(ended), source, True)


# In these cases, a check finds the service healthy at second 100.
@pytest.mark.parametrize(
    ("known", "serving", "restarts", "expected"),
    [
        # The last start of the service: by a run, by systemd or by a person.
        pytest.param(
            {"starts": [2]}, 4, 0, ("recovered", 4, START), id="killed between its start and the first answer"
        ),
        pytest.param({"starts": [2]}, 4, None, ("recovered", 4, START), id="the same without systemd"),
        pytest.param(
            {"starts": [2]}, 1.99, None, ("recovered", 1.99, START), id="a clock tick before the start on record"
        ),
        pytest.param(
            {"starts": [2], "answered": 5}, 4, 0, ("recovered", 5, PROBE), id="killed during the stability check"
        ),
        pytest.param({"mitigated": 5}, None, None, ("recovered", 5, PROBE), id="killed after verification"),
        pytest.param({"starts": [2, 20]}, 22, 0, ("recovered", 22, START), id="the second start"),
        pytest.param(
            {"starts": [-200]}, 60, 0, ("resolved_manually", 60, START), id="started long after the start on record"
        ),
        pytest.param(
            {"starts": [2]}, -40, 0, ("resolved_manually", 100, LOOK), id="a process from before the start on record"
        ),
        pytest.param({}, 30, 0, ("resolved_manually", 30, START), id="started by a person"),
        pytest.param({}, 30, None, ("resolved_manually", 30, START), id="a person, without systemd"),
        pytest.param({}, None, None, ("resolved_manually", 100, LOOK), id="process not visible"),
        pytest.param({}, 12, 1, ("recovered_by_systemd", 12, START), id="systemd's automatic restart"),
        pytest.param(
            {"starts": [2]}, 12, 1, ("recovered_by_systemd", 12, START), id="failed after our start, and systemd's"
        ),
        pytest.param(
            {"starts": [2], "answered": 14},
            12,
            1,
            ("recovered_by_systemd", 14, PROBE),
            id="recorded by a killed run",
        ),
        pytest.param({"takeover": 1}, 62, 0, ("recovered_by_systemd", 62, START), id="the timer of a takeover"),
        pytest.param({"takeover": 1}, 30, 0, ("resolved_manually", 30, START), id="a person, before the timer fires"),
        pytest.param({"takeover": 1}, 0, 0, ("resolved_manually", 0, START), id="a process from before the takeover"),
        pytest.param({"takeover": 1, "starts": [5]}, 7, 0, ("recovered", 7, START), id="the run, after its takeover"),
        pytest.param(
            {"takeover": 1, "starts": [-200]}, 62, 0, ("recovered_by_systemd", 62, START), id="an earlier start"
        ),
        pytest.param(
            {"takeover": 1, "outcome": "not_recovered", "signs": [(10,)]},
            62,
            0,
            ("resolved_manually", 62, START),
            id="the run that took over has ended",
        ),
        # The end of the outage.
        pytest.param(
            {"signs": [(-4,), (-1, "good")]},
            -3,
            1,
            ("recovered_by_systemd", -1, PROBE),
            id="answered before it was opened",
        ),
        pytest.param(
            {"signs": [(-4,), (-1, "good")]}, -900, 0, ("resolved_manually", -1, PROBE), id="hung and answers again"
        ),
        pytest.param(
            {"signs": [(-4,), (50,)], "starts": [2]},
            4,
            0,
            ("resolved_manually", 100, LOOK),
            id="failed during the stability check",
        ),
        pytest.param(
            {"signs": [(-4,), (8,)], "starts": [2]}, 4, 0, ("recovered", 8, START), id="failed during its start"
        ),
        pytest.param(
            {"attempts": [(1, False, 60)], "starts": [2]},
            4,
            0,
            ("resolved_manually", 100, LOOK),
            id="the rung failed",
        ),
        # The process started after the rung of the first run had failed. restarts: how often systemd restarted the
        # service, or None without systemd.
        *[
            pytest.param(
                {"attempts": [(1, False, 20)], "starts": starts},
                60,
                restarts,
                (outcome, 60, START),
                id=f"{who}, {restarts}",
            )
            for restarts in (0, None)
            for who, starts, outcome in (
                ("a person, after the rung failed", [2], "resolved_manually"),
                ("a second run, killed after its start", [2, 58], "recovered"),
            )
        ],
        pytest.param(
            {"attempts": [(1, False, 20)], "starts": [2]},
            60,
            1,
            ("recovered_by_systemd", 60, START),
            id="systemd, after the rung failed",
        ),
        pytest.param(
            {"attempts": [(1, None, None)], "starts": [2]},
            60,
            None,
            ("recovered", 60, START),
            id="a run that was killed during the rung, without systemd",
        ),
        pytest.param({"starts": [2]}, 140, 0, ("recovered", 100, LOOK), id="a process started after the check"),
    ],
)
def test_end_of_the_outage(known, serving, restarts, expected):
    ended = outage_window.ending(record(**known), seen_at=at(100), serving_since=at(serving), restarts=restarts)
    outcome, seconds, source = expected
    assert (ended.outcome, ended.at, ended.source) == (outcome, at(seconds), source)
    assert ended.estimated is (source != PROBE)
