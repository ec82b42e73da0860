# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If an incident spans several runs, its record contains the correct start, end and events."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window, record_update
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue

from .conftest import Run, Service

RECOVER = "playbooks/outage_recover.yml"


def verdict(run: Run, number: int = -1) -> dict[str, Any]:
    return json.loads(run.documents(".json")[number].read_text(encoding="utf-8"))


def records(service: Service) -> list[dict[str, Any]]:
    paths = sorted((service.state / "incidents").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def contacts(told: Path) -> dict[str, Any]:
    """Return contacts whose only channel appends to the file `told`."""
    channel = {"type": "command", "argv": ["tee", "-a", str(told)]}
    return {name: {"channels": [channel]} for name in ("project_leader", "dba", "everyone")}


def fell_while_watched(service: Service) -> threading.Thread:
    """Start and return a thread that kills the service as soon as a run begins its stability check."""

    def watch() -> None:
        deadline = time.monotonic() + 280
        while time.monotonic() < deadline and not service.begun("Check that the service stays up"):
            time.sleep(0.05)
        service.kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_failed_stability_check_leads_to_the_next_rung_now_and_later(service: Service) -> None:
    service.kill()
    falling = fell_while_watched(service)
    run = service.play(RECOVER, verification_stability_count=5)
    falling.join()
    assert run.rc == 0
    told = verdict(run)
    assert [(each["rung"], each["held"]) for each in told["rungs_tried"]] == [
        ("restart", False),
        ("standard_recovery", True),
    ]
    assert "failed again" in told["rungs_tried"][0]["reason"]

    service.kill()
    run = service.play(RECOVER)
    assert run.rc == 0
    again = verdict(run)
    assert again["incident"] != told["incident"]
    assert [each["rung"] for each in again["rungs_skipped"]] == ["restart"]
    assert "failed again during the stability check" in again["rungs_skipped"][0]["reason"]
    assert [each["rung"] for each in again["rungs_tried"]] == ["standard_recovery"]
    # No work is needed while the service is stopped, so one call stops and starts it.
    calls = [each for each in again["steps"] if each["action"] == "itsm_nexus.runbook.node_process"]
    assert len(calls) == 1


def fall(service: Service) -> str:
    """Send a request that the service answers, and then crash the service with an exception.

    Return the time of the crash (ISO 8601).
    """
    with service.environment_file.open("a", encoding="utf-8") as stream:
        stream.write("NEXUS_DEMO_FAULTS=on\n")
    service.kill()
    service.start()
    service.write("the last good request")
    began = timestamps.iso(time.time())
    service.request("/faults/rejection", {})
    deadline = time.monotonic() + 10
    while service.pids():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return began


def test_an_outage_begins_at_the_first_failure_that_a_detection_found(service: Service) -> None:
    assert service.play(RECOVER).rc == 0
    (pid,) = service.pids()
    os.kill(pid, signal.SIGSTOP)
    first = service.state / "first_failure.json"
    assert service.play("playbooks/outage_detect.yml", "--check").rc == 2
    assert not first.exists()
    assert service.play("playbooks/outage_detect.yml").rc == 2
    found = json.loads(first.read_text(encoding="utf-8"))["first_at"]

    run = service.play(RECOVER)
    assert run.rc == 0

    (record,) = records(service)
    assert {"at": found, "kind": "bad", "source": "earlier health probe"} in record["signs"]
    assert verdict(run)["times"]["started_at"] == found
    assert not first.exists()


def test_the_start_is_a_range_and_each_limit_has_its_source(service: Service) -> None:
    assert service.play(RECOVER).rc == 0
    began = fall(service)

    assert service.play(RECOVER).rc == 0

    (record,) = records(service)
    sources = {sign["source"].split(":")[0] for sign in record["signs"]}
    assert sources >= {"last healthy run", "health probe", "log"}
    good = [sign for sign in record["signs"] if sign["source"] == "log: last request answered well"]
    bad = [sign for sign in record["signs"] if sign["kind"] == "bad" and sign["source"].startswith("log: ")]
    assert good and bad
    start = outage_window.start(record)
    assert start["earliest_source"] == "log: last request answered well"
    assert start["source"] == bad[0]["source"] and "Background job failed" in start["source"]
    assert start["earliest"] <= start["latest"] < record["detected_at"]
    assert timestamps.epoch(start["latest"]) >= timestamps.epoch(began) - 1


def test_the_start_is_recorded_if_no_rung_is_tried(service: Service) -> None:
    fall(service)
    assert service.play(RECOVER, outage_recover_rungs=[]).rc != 0
    record = json.loads((service.state / "incident.json").read_text(encoding="utf-8"))
    assert record["attempts"] == []
    assert outage_window.start(record)["earliest_source"] == "log: last request answered well"


def opened(service: Service, **changes: Any) -> dict[str, Any]:
    """Create and return the record of an open incident, as after a failed recovery that notified the leader."""
    entry = {"level": "not_recovered", "contact": "project_leader", "channel": "command tee", "ok": True, "error": ""}
    call = {"state_dir": str(service.state)}
    run = incident_record.call(**call, state="open", lease=60)["run"]
    summary = [{"id": "finding.hung.silent", "values": {}}]
    known = {"outcome": "not_recovered", "cause": "hung", "cause_summary": summary}
    update = record_update.Update(**known, notified=[{**entry, "at": timestamps.now()}])
    return incident_record.call(**call, state="closed", run=run, update=update)


@pytest.mark.parametrize("playbooks", [[RECOVER], ["playbooks/database_recover.yml", RECOVER]])
def test_a_manual_resolution_is_notified_once_and_recorded(
    service: Service, tmp_path: Path, playbooks: list[str]
) -> None:
    incident, told = opened(service), tmp_path / "told"
    for number, playbook in enumerate(playbooks):
        run = service.play(playbook, escalation_contacts=contacts(told))
        assert run.rc == 0
        assert told.read_text(encoding="utf-8").count("RESOLVED: ") == 1
        assert "Cause: hung: The process is running but does not answer" in told.read_text(encoding="utf-8")
        assert ("RESOLVED, but not by the playbook" in run.screen) is (number == 0)
    document = verdict(run)
    assert (document["outcome"], document["source"]) == ("resolved_manually", "verdict")
    assert [(each["level"], each["ok"]) for each in document["escalation"]["notified"]] == [
        ("not_recovered", True),
        ("resolved", True),
    ]
    (record,) = records(service)
    assert (record["id"], record["outcome"]) == (incident["id"], "resolved_manually")
    assert [(each["level"], each["ok"]) for each in record["notified"]] == [("not_recovered", True), ("resolved", True)]


def test_a_login_that_works_again_is_notified_and_earlier_statements_stay(service: Service, tmp_path: Path) -> None:
    told = tmp_path / "told"
    service.kill()
    first = service.play(RECOVER, escalation_contacts=contacts(told), nexus_login_password="wrong")
    assert (first.rc, verdict(first)["data_loss"]) == (2, "none")
    known = told.read_text(encoding="utf-8")
    run = service.play(RECOVER, escalation_contacts=contacts(told))
    assert run.rc == 0
    said = told.read_text(encoding="utf-8")[len(known) :]
    assert said.count("RESOLVED: ") == 1
    assert "Done: the login was checked again and works\n" in said and "answered 401" not in said
    assert "Data loss: none (no table has fewer rows than before)\n" in said
    document = verdict(run)
    assert (document["outcome"], document["data_loss"], document["login"]) == ("recovered", "none", "checked")
    assert document["rows_after"] == verdict(first)["rows_after"]


def test_a_resolution_after_a_release_is_notified_with_the_accepted_damage(service: Service, tmp_path: Path) -> None:
    opened(service)
    path, told = service.state / "incident.json", tmp_path / "told"
    record = json.loads(path.read_text(encoding="utf-8"))
    accepted = {"accepted": ["db_corrupt"], "accepted_at": "2026-03-02T01:00:00.000Z", "accepted_reason": "CHG-4711"}
    path.write_text(json.dumps({**record, "data": {**(record["data"] or {}), **accepted}}), encoding="utf-8")
    assert service.play(RECOVER, escalation_contacts=contacts(told)).rc == 0
    said = told.read_text(encoding="utf-8")
    assert said.count("RESOLVED: ") == 1
    assert "CHG-4711" in said and "playbooks/database_recover.yml --check" in said


def test_an_incident_of_another_run_is_not_reported_as_resolved(service: Service, tmp_path: Path) -> None:
    opened(service)
    other = incident_record.call(state_dir=str(service.state), state="open", step="verification", lease=600)
    assert other["continued"]
    run = service.play(RECOVER, escalation_contacts=contacts(tmp_path / "told"))
    assert run.rc == 0
    assert not (tmp_path / "told").exists()
    left = incident_record.call(state_dir=str(service.state), state="present")
    assert (left["id"], left["outcome"], left["locked_by"]["run"]) == (other["id"], "not_recovered", other["run"])


def test_a_run_interrupted_in_its_stability_check_recorded_the_end_of_the_outage(service: Service) -> None:
    service.kill()
    service.interrupt(RECOVER, at="Check that the service stays up", verification_stability_count=200)
    assert service.healthy()
    left = json.loads((service.state / "incident.json").read_text(encoding="utf-8"))
    assert left["answered_at"] and not left["mitigated_at"]

    # The lease of the interrupted run is still valid, so nothing is reported as resolved.
    run = service.play(RECOVER)
    assert run.rc == 0
    assert "RECOVERED" not in run.screen
    end = " ".join(run.screen[run.screen.index("HEALTHY: ") :].split())
    held = host_lease.Seat(state_dir=str(service.state)).holder()
    assert held and held["run"] == left["runs"][0]
    until = catalogue.of("en").utc(held["until"])
    for words in (f"incident {left['id']} is still open", held["run"], f"after {until}"):
        assert words in end
    assert json.loads((service.state / "incident.json").read_text(encoding="utf-8"))["runs"] == left["runs"]

    # After the wait, the incident ends at the recorded time, not at the time of the check.
    host_lease.Seat(state_dir=str(service.state)).take(run=left["runs"][0], step="its last", seconds=4)
    run = service.play(RECOVER, outage_recover_wait=60)
    assert run.rc == 0
    assert "RECOVERED" in run.screen
    (record,) = records(service)
    assert (record["id"], record["outcome"], record["mitigated_at"]) == (left["id"], "recovered", left["answered_at"])
    assert timestamps.epoch(record["closed_at"]) - timestamps.epoch(record["mitigated_at"]) > 4
    told = verdict(run)
    assert (told["outcome"], told["times"]["mitigated_at"]) == ("recovered", left["answered_at"])
    assert told["durations"]["outage"] == told["durations"]["mitigate"]
    assert told["rows_before"] and not told["rung"]


class Observer:
    """Polls the service every 20 ms, and records the times (Unix time) of its state changes in `down` and `up`."""

    def __init__(self, service: Service) -> None:
        self.down: list[float] = []
        self.up: list[float] = []
        self._service = service
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        before = True
        while not self._done.is_set():
            begun = time.time()
            now = self._service.healthy()
            if now != before:
                (self.up if now else self.down).append(time.time() if now else begun)
            before = now
            time.sleep(0.02)

    def ended(self) -> float:
        """Stop polling. Return the Unix time at which the service answered again after its only outage."""
        self._done.set()
        self._thread.join()
        assert len(self.down) == len(self.up) == 1, (self.down, self.up)
        return self.up[0]


def connected(port: int) -> bool:
    """Return True if this machine has an established TCP connection from or to a local port."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return any(int(each[1].rpartition(":")[2], 16) == port and each[3] == "01" for each in fields)


def test_the_window_of_an_outage_that_ended_before_the_incident_was_opened(service: Service) -> None:
    service.play(RECOVER)
    observer = Observer(service)
    service.signal(signal.SIGSTOP)
    stopped = time.time()

    def resume() -> None:
        deadline = time.monotonic() + 60
        # Wait for a connection to the HTTP port. This connection is from the probe, because the observer uses HTTPS.
        while not connected(service.http_port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Each probe has a timeout of one second. Therefore, this pause causes more than three and fewer than ten failed
        # probes.
        time.sleep(4.5)
        service.signal(signal.SIGCONT)

    thread = threading.Thread(target=resume, daemon=True)
    thread.start()
    run = service.play(RECOVER, detection_critical_after=10)
    thread.join()
    assert run.rc == 0 and "WARNING, nothing restarted" in run.screen
    answered = observer.ended()
    (record,) = records(service)
    start = outage_window.start(record)
    assert (start["source"], record["outcome"]) == ("health probe", "warning")
    assert timestamps.epoch(start["earliest"]) <= stopped <= timestamps.epoch(start["latest"]) < answered - 3
    assert abs(timestamps.epoch(record["mitigated_at"]) - answered) < 1
    told = verdict(run)
    assert (told["times"]["started_at"], told["times"]["mitigated_at"]) == (start["latest"], record["mitigated_at"])
    assert told["durations"]["outage"] == told["durations"]["mitigate"] > 3


def test_the_recovery_is_attributed_to_a_run_killed_before_the_first_answer(service: Service) -> None:
    service.play(RECOVER)
    observer = Observer(service)
    service.kill()

    def started() -> bool:
        record = service.state / "incident.json"
        return (
            record.exists() and bool(json.loads(record.read_text(encoding="utf-8"))["starts"]) and bool(service.pids())
        )

    # Disable the first response. Otherwise, the process of the first response would continue on the host after the run
    # has ended, and would record the healthy response itself.
    service.end(RECOVER, when=started, by=signal.SIGKILL, outage_recover_first_response=False)
    deadline = time.monotonic() + 30
    while not service.healthy():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.5)  # The service is healthy, but no run has checked it.
    left = json.loads((service.state / "incident.json").read_text(encoding="utf-8"))
    assert not left["answered_at"] and not left["mitigated_at"]
    answered = observer.ended()
    host_lease.Seat(state_dir=str(service.state)).release(run=left["runs"][0])

    run = service.play(RECOVER)
    assert run.rc == 0
    assert "RECOVERED: " in run.screen and "RESOLVED, but not by the playbook" not in run.screen
    assert "its end is an estimate" in " ".join(run.screen.split())
    (record,) = records(service)
    assert (record["id"], record["outcome"]) == (left["id"], "recovered")
    assert abs(timestamps.epoch(record["mitigated_at"]) - answered) < 1
    told = verdict(run)
    assert (told["outcome"], told["times"]["mitigated_estimated"]) == ("recovered", True)
    assert abs(told["durations"]["outage"] - (answered - timestamps.epoch(told["times"]["started_at"]))) < 1


def test_a_service_that_fails_during_the_wait_for_another_run_is_recovered(service: Service) -> None:
    opened(service)
    other = incident_record.call(state_dir=str(service.state), state="open", lease=60)
    seat = host_lease.Seat(state_dir=str(service.state))

    def fall() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (service.state / "last_healthy").exists():
            time.sleep(0.1)
        time.sleep(6)  # After the detection, the run needs less than 6 s until its wait begins.
        service.kill()
        seat.release(run=other["run"])

    thread = threading.Thread(target=fall, daemon=True)
    thread.start()
    run = service.play(RECOVER, outage_recover_wait=120)
    thread.join()
    assert (run.rc, service.healthy()) == (0, True)
    (record,) = records(service)
    assert (record["id"], record["outcome"]) == (other["id"], "recovered")


def test_a_damaged_database_is_not_touched_during_a_maintenance(service: Service) -> None:
    service.state.mkdir(mode=0o700)
    (service.state / "maintenance.json").write_text('{"until": "2099-12-31T09:00:00+09:00", "reason": "Release 4.2"}')
    pids = service.pids()
    run = service.play("playbooks/database_recover.yml", database_recovery_method="backup")
    assert run.rc != 0
    assert "is under maintenance until 2099-12-31T00:00:00.000Z (Release 4.2): nothing was done" in run.screen
    assert service.pids() == pids
    # If the service is healthy, the probe saves the time of the response and the measurements for trends.
    saved = {path.name for path in service.state.iterdir()} - {"last_healthy", "manifest.json", "readiness.json"}
    assert saved == {"maintenance.json"}
