# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
import time

import pytest
from http_servers import BAD, GOOD, Server, raw_server, silent
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import health as service_health
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

HealthError = probe_plan.HealthError
Plan, Target = probe_plan.Plan, probe_plan.Target


@pytest.fixture
def service(tmp_path):
    return service_process.Service(app_dir=str(tmp_path), command=["sleep", "60"])


@pytest.fixture
def running(service):
    with subprocess.Popen(list(service.command), cwd=service.app_dir) as child:
        while not procfs.environment(child.pid):  # The arguments become readable shortly after the program starts.
            time.sleep(0.001)
        yield child
        child.kill()


def ask(service, targets, *, login=None, run=commands.run, **plan):
    plan = {"interval": 0.02, "timeout": 1.0, **plan}
    return service_health.ask(service, targets, Plan(**plan), login=login, run=run)


def test_healthy_at_the_first_answer(service, running):
    with Server() as server:
        result = ask(service, [server.target()])
    assert (result["healthy"], result["severity"], result["attempts"]) == (True, "none", 1)
    assert result["process"]["state"] == "running" and result["process"]["pids"] == [running.pid]
    assert result["process"]["restarts"] is None
    assert result["first_failure_at"] is None
    assert result["first_healthy_at"] == result["last_success_at"]
    assert abs(timestamps.epoch(result["last_success_at"]) - time.time()) < 5


def test_five_consecutive_failures_are_critical_and_end_the_check(service, running):
    with Server(BAD) as server:
        result = ask(service, [server.target()])
        assert len(server.requests) == 5
    assert (result["healthy"], result["severity"], result["attempts"]) == (False, "critical", 5)
    assert result["consecutive_failures"] == result["max_consecutive_failures"] == 5
    assert result["last_success_at"] is None
    assert timestamps.epoch(result["first_failure_at"]) <= time.time() - 0.08


def test_hung_process_is_critical_within_the_sum_of_the_timeouts(service, running):
    with raw_server(silent) as port:
        targets = [Target(name="one", url=f"http://127.0.0.1:{port}/")]
        result = ask(service, targets, timeout=0.1, critical_after=4)
    assert (result["severity"], result["process"]["state"]) == ("critical", "running")
    assert 0.4 <= result["duration"] < 1


def test_a_service_that_recovers_by_itself_is_healthy_and_its_failures_are_reported(service, running):
    with Server(BAD, BAD, BAD, GOOD) as server:
        result = ask(service, [server.target()])
    assert (result["healthy"], result["severity"], result["attempts"]) == (True, "warning", 4)
    assert (result["consecutive_failures"], result["max_consecutive_failures"]) == (0, 3)
    assert result["first_failure_at"] < result["first_healthy_at"]


def test_service_that_flaps_is_a_warning_from_the_threshold_on(service, running):
    for failures, severity in ((2, "none"), (3, "warning")):
        with Server(*[BAD] * failures, GOOD) as server:
            result = ask(service, [server.target()])
        assert (result["healthy"], result["severity"], result["max_consecutive_failures"]) == (True, severity, failures)
    with Server(*[BAD] * 4, GOOD) as server:
        assert ask(service, [server.target()], mode="await")["severity"] == "none"  # The service was still starting.


def test_summary_is_one_line_with_the_problem(service, running):
    with Server() as server:
        assert ask(service, [server.target()])["summary"] == "answers"
    with Server(BAD) as server:
        targets = [server.target(), server.target("two"), server.target("three", required=False)]
        summary = ask(service, targets, warning_after=1, critical_after=1)["summary"]
        assert summary == "one: answered 503 instead of 200; two: answered 503 instead of 200"
        running.kill()
        running.wait()
        assert ask(service, targets[:1])["summary"] == "one: answered 503 instead of 200; the process is gone"


def test_missing_process_is_an_emergency_immediately(service):
    with Server(BAD) as server:
        result = ask(service, [server.target()])
        assert len(server.requests) == 1
    assert (result["healthy"], result["severity"], result["attempts"]) == (False, "emergency", 1)
    assert result["process"] == {"state": "gone", "pids": [], "started_at": None, "restarts": None}


def test_hidden_process_is_unknown_and_not_an_emergency(service, monkeypatch):
    monkeypatch.setattr(service_process, "is_hidden", lambda _service: True)
    with Server(BAD) as server:
        result = ask(service, [server.target()])
    assert (result["severity"], result["process"]["state"], result["attempts"]) == ("critical", "unknown", 5)


def test_only_required_endpoints_count(service, running):
    missing = Target(name="http", url=f"http://127.0.0.1:{free_port()}/", required=False)
    with Server() as server:
        result = ask(service, [server.target(), missing])
    assert result["healthy"] and [endpoint["ok"] for endpoint in result["endpoints"]] == [True, False]
    with Server(BAD) as server:
        result = ask(service, [server.target(), missing], warning_after=1, critical_after=1)
    assert not result["healthy"]


def test_interval_is_from_start_to_start(service, running):
    with raw_server(silent) as port:
        targets = [Target(name="one", url=f"http://127.0.0.1:{port}/")]
        result = ask(service, targets, timeout=0.15, interval=0.2, warning_after=1, critical_after=3)
    assert 0.55 <= result["duration"] < 0.8


# Waiting after a start


def test_await_until_it_answers(service, running):
    with Server(BAD, BAD, BAD, BAD, BAD, BAD, BAD, GOOD) as server:
        result = ask(service, [server.target()], mode="await", deadline=10)
    assert (result["healthy"], result["severity"], result["attempts"]) == (True, "none", 8)


def test_await_ends_at_its_deadline_if_nothing_answers(service, running):
    with raw_server(silent) as port:
        targets = [Target(name="one", url=f"http://127.0.0.1:{port}/")]
        begun = time.monotonic()
        result = ask(service, targets, mode="await", deadline=0.6, timeout=5)
        assert time.monotonic() - begun < 1.2
    assert (result["healthy"], result["severity"]) == (False, "warning")


def test_await_ends_early_if_the_process_is_gone(service):
    with Server(BAD) as server:
        result = ask(service, [server.target()], mode="await", deadline=30)
    assert (result["healthy"], result["severity"], result["attempts"]) == (False, "emergency", 2)


class Unit:
    """A fake systemctl.

    Each `show` call returns the next set of properties. Further calls return the last set again.
    """

    def __init__(self, *states):
        self.states = list(states)

    def __call__(self, argv, *, timeout, **_more):
        assert argv[:2] == ["systemctl", "show"]
        properties = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        out = "".join(f"{name}={value}\n" for name, value in {"LoadState": "loaded", **properties}.items())
        return commands.Completed(argv=argv, rc=0, stdout=out, stderr="", duration=0.0)


def waiting(restarts=0, seconds="100ms"):
    return {
        "ActiveState": "activating",
        "SubState": "auto-restart",
        "MainPID": "0",
        "NRestarts": str(restarts),
        "RestartUSec": seconds,
    }


def up(pid, restarts=0):
    return {"ActiveState": "active", "SubState": "running", "MainPID": str(pid), "NRestarts": str(restarts)}


@pytest.fixture
def unit_service(service):
    return service_process.Service(app_dir=service.app_dir, command=["nothing"], manager="systemd", unit="itsm-system")


def test_unit_that_waits_for_its_restart_has_no_process(unit_service):
    with Server(BAD) as server:
        result = ask(unit_service, [server.target()], run=Unit(waiting(restarts=4)))
    assert (result["severity"], result["process"]["state"], result["process"]["restarts"]) == ("emergency", "gone", 4)


def starting(restarts=0):
    return {**waiting(restarts), "SubState": "start-pre", "Job": "196"}


def young(pid, restarts=0):
    started = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6))
    return {**up(pid, restarts), "ExecMainStartTimestampMonotonic": started}


@pytest.mark.parametrize(("restarts", "by_systemd"), [(1, True), (0, False)])
def test_a_start_in_progress_is_waited_for(unit_service, running, restarts, by_systemd):
    with Server(BAD, GOOD) as server:
        states = [starting(restarts), starting(restarts), young(running.pid, restarts)]
        result = ask(unit_service, [server.target()], run=Unit(*states))
    assert (result["healthy"], result["severity"], result["max_consecutive_failures"]) == (True, "none", 0)
    assert (result["supervisor"]["phase"], result["supervisor"]["restarted"]) == ("starting", by_systemd)
    assert result["supervisor"]["waited"] > 0


def test_an_imminent_restart_is_waited_for_and_not_taken_over(unit_service, running):
    """If a takeover cancelled the restart too late, it would stop the process that systemd has just started."""
    now = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6))
    soon = {**waiting(1, "1s"), "StateChangeTimestampMonotonic": now}
    with Server(BAD, GOOD) as server:
        states = [soon, soon, starting(1), young(running.pid, 1)]
        result = ask(unit_service, [server.target()], run=Unit(*states))
    assert (result["healthy"], result["severity"], result["max_consecutive_failures"]) == (True, "none", 0)
    assert (result["supervisor"]["restarted"], result["supervisor"]["waited"] > 0) == (True, True)


def test_a_service_that_fails_again_after_such_a_restart_is_not_waited_for(unit_service):
    def soon(restarts):
        now = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6))
        return {**waiting(restarts), "StateChangeTimestampMonotonic": now}

    with Server(BAD) as server:
        states = [soon(1), starting(1), *(soon(number) for number in range(2, 40))]
        begun = time.monotonic()
        result = ask(unit_service, [server.target()], run=Unit(*states))
    assert (result["severity"], result["process"]["state"]) == ("emergency", "gone")
    assert result["supervisor"]["waited"] > 0
    assert time.monotonic() - begun < 2


def test_a_young_process_is_given_time_to_listen(unit_service, running, monkeypatch):
    monkeypatch.setattr(service_health, "_YOUNG_INTERVAL", 0.01)
    with Server(BAD, BAD, BAD, BAD, BAD, BAD, GOOD) as server:
        result = ask(unit_service, [server.target()], run=Unit(young(running.pid)))
    assert (result["healthy"], result["attempts"], result["max_consecutive_failures"]) == (True, 7, 0)


def test_a_young_process_that_listens_and_does_not_answer_is_counted(unit_service, running):
    with raw_server(silent) as port:
        target = Target(name="http", url=f"http://localhost:{port}/")
        result = ask(unit_service, [target], run=Unit(young(running.pid)), timeout=0.1)
    assert (result["severity"], result["consecutive_failures"]) == ("critical", 5)


def test_the_start_of_another_run_is_not_waited_for(unit_service):
    with Server(BAD) as server:
        result = service_health.ask(
            unit_service, [server.target()], Plan(interval=0.02), run=Unit(starting()), busy=lambda: True
        )
    assert (result["severity"], result["supervisor"]["waited"]) == ("emergency", 0.0)


def test_nothing_is_waited_for_on_a_database_in_doubt(unit_service):
    asked = []

    def doubt(closely, pids):
        asked.append((closely, pids))
        return "it has 0 bytes beside its WAL"

    with Server(BAD) as server:
        result = service_health.ask(unit_service, [server.target()], Plan(), run=Unit(starting(1)), doubt=doubt)
    assert (result["doubt"], result["severity"], asked) == ("it has 0 bytes beside its WAL", "emergency", [(True, [])])


def test_the_database_is_checked_closely_while_a_process_is_young_but_only_once(unit_service, running, monkeypatch):
    """A process that is not listening yet may not have opened its database either."""
    monkeypatch.setattr(service_health, "_YOUNG_INTERVAL", 0.01)
    asked = []

    def doubt(closely, pids):
        asked.append((closely, pids))

    with Server(BAD, BAD, BAD, GOOD) as server:
        result = service_health.ask(unit_service, [server.target()], Plan(), run=Unit(young(running.pid)), doubt=doubt)
    assert result["healthy"]
    assert asked == [(True, [running.pid]), (False, [running.pid]), (False, [running.pid])]


def test_the_database_is_not_checked_closely_again_after_a_start_that_was_waited_for(unit_service, running):
    asked = []

    def doubt(closely, pids):
        asked.append((closely, pids))

    with Server(BAD, BAD, GOOD) as server:
        states = [starting(1), starting(1), young(running.pid, 1)]
        assert service_health.ask(unit_service, [server.target()], Plan(), run=Unit(*states), doubt=doubt)["healthy"]
    # While the unit is still in ExecStartPre=, no existing process can be the new process.
    assert asked[0] == (True, []) and not any(closely for closely, _pids in asked[1:])


def test_a_process_on_a_database_in_doubt_is_always_an_emergency(unit_service, running):
    with Server(BAD) as server:
        result = service_health.ask(
            unit_service, [server.target()], Plan(), run=Unit(young(running.pid)), doubt=lambda *_: "it is empty"
        )
    assert (result["process"]["state"], result["severity"], result["attempts"]) == ("running", "emergency", 1)


def test_the_run_that_starts_it_does_not_wait_for_systemd(unit_service):
    with Server(BAD) as server:
        result = ask(unit_service, [server.target()], mode="await", sole_starter=True, run=Unit(waiting(seconds="9s")))
    assert (result["severity"], result["attempts"]) == ("emergency", 1)


def test_await_gives_systemd_time_to_restart_the_service(unit_service, running, monkeypatch):
    monkeypatch.setattr(service_health, "_RESTART_GRACE", 0.2)
    with Server(BAD, BAD, BAD, GOOD) as server:
        states = [waiting(), waiting(), waiting(), up(running.pid, restarts=1)]
        result = ask(unit_service, [server.target()], mode="await", run=Unit(*states))
    assert result["healthy"] and result["process"]["pids"] == [running.pid]


def test_await_ends_if_systemd_does_not_restart_the_service(unit_service, monkeypatch):
    monkeypatch.setattr(service_health, "_RESTART_GRACE", 0.1)
    with Server(BAD) as server:
        result = ask(unit_service, [server.target()], mode="await", run=Unit(waiting(seconds="200ms")))
    assert result["severity"] == "emergency" and 0.3 <= result["duration"] < 1


@pytest.mark.parametrize(
    ("restarts", "attempts"), [((2, 3, 4, 5), 3), ((0, None, 1, None, 2), 4), ((None, 1, None), 3)]
)
def test_await_ends_early_in_a_crash_loop(unit_service, running, restarts, attempts):
    # Each item in `restarts` is the value of NRestarts at a probe. None means that the unit is waiting for a restart,
    # with NRestarts unchanged.
    count, states = 0, []
    for each in restarts:
        count = count if each is None else each
        states.append(waiting(count, seconds="10s") if each is None else up(running.pid, restarts=count))
    with Server(BAD) as server:
        result = ask(unit_service, [server.target()], mode="await", run=Unit(*states))
    assert (result["healthy"], result["attempts"]) == (False, attempts)
    assert result["severity"] == ("emergency" if restarts[attempts - 1] is None else "warning")


def test_manually_started_process_is_found_although_its_unit_is_dead(service, running):
    by_hand = service_process.Service(
        app_dir=service.app_dir, command=service.command, manager="systemd", unit="itsm-system"
    )
    process, _properties = service_health.look_at_process(by_hand, run=Unit({"ActiveState": "failed", "MainPID": "0"}))
    assert (process["state"], process["pids"]) == ("running", [running.pid])


def test_missing_unit_is_named_and_silent_systemd_is_unknown(unit_service):
    with pytest.raises(HealthError, match=r"^unit: this host has no unit 'itsm-system'"):
        service_health.look_at_process(unit_service, run=Unit({"LoadState": "not-found"}))

    def refuse(argv, **_more):
        return commands.Completed(argv=argv, rc=1, stdout="", stderr="no bus", duration=0.0)

    assert service_health.look_at_process(unit_service, run=refuse)[0]["state"] == "unknown"


# Stability check


def test_hold_requires_all_answers_to_be_good(service, running):
    with Server() as server:
        result = ask(service, [server.target()], mode="hold", count=4, interval=0.1)
    assert (result["healthy"], result["attempts"]) == (True, 4)
    assert 0.3 <= result["duration"] < 0.8


def test_hold_ends_at_the_first_bad_answer(service, running):
    with Server(GOOD, BAD, GOOD) as server:
        result = ask(service, [server.target()], mode="hold", count=5)
    assert (result["healthy"], result["severity"], result["attempts"]) == (False, "warning", 2)


def test_hold_ends_if_the_process_changes(unit_service, running):
    with subprocess.Popen(["sleep", "60"]) as other, Server() as server:
        try:
            run = Unit(up(running.pid), up(running.pid), up(other.pid, restarts=1))
            result = ask(unit_service, [server.target()], mode="hold", count=5, run=run)
        finally:
            other.kill()
    assert (result["healthy"], result["severity"], result["attempts"]) == (False, "warning", 3)
    assert result["summary"] == "a different process answers now"


# Login


def login(server, **more):
    return probe_plan.Login(target=server.target("login", path="/login", **more), username="admin", password="hunter2")


@pytest.mark.parametrize("mode", ["await", "hold"])
@pytest.mark.parametrize(
    ("answer", "good", "error"),
    [
        ((200, b'{"token":"eyJsecret"}'), True, None),
        ((201, b""), True, None),
        ((401, b'{"error":"eyJsecret"}'), False, "answered 401"),
        ((500, b""), False, "answered 500"),
        ((302, b""), False, "answered 302"),
        ((429, b""), True, "rate limited (429): the service is up, but the password was not checked"),
    ],
)
def test_login(service, running, *, mode, answer, good, error):
    with Server() as health, Server(answer) as server:
        result = ask(service, [health.target()], login=login(server), mode=mode, count=2)
        ((method, _path, headers, body),) = server.requests
    assert (method, headers["Content-Type"]) == ("POST", "application/json")
    assert json.loads(body) == {"username": "admin", "password": "hunter2"}
    assert result["healthy"] is good
    assert result["severity"] == ("none" if good else "warning")
    assert result["summary"] == ("answers" if good else f"login: {error}")
    told = result["login"].pop("messages")
    assert result["login"] == {"ok": good, "checked": answer[0] != 429, "status": answer[0], "error": error}
    assert bool(told) is (error is not None)
    assert "eyJsecret" not in str(result) and "hunter2" not in str(result)


def test_hanging_login_has_a_time_limit(service, running):
    with Server() as health, raw_server(silent) as port:
        hanging = probe_plan.Login(
            target=Target(name="login", url=f"http://127.0.0.1:{port}/"), username="a", password="b"
        )
        result = ask(service, [health.target()], login=hanging, mode="await", timeout=0.3)
    assert (result["healthy"], result["login"]["error"]) == (False, "no response within 0.3 s")
    assert result["login"]["checked"] is False


def test_no_login_to_an_unhealthy_service(service):
    with Server(BAD) as health, Server() as server:
        result = ask(service, [health.target()], login=login(server), mode="await")
        assert (result["login"], server.requests) == (None, [])


@pytest.mark.parametrize(
    ("target", "plan", "said"),
    [
        ({"url": "ftp://localhost/"}, {}, r"^endpoints: 'ftp://localhost/' must be an http"),
        ({"url": "localhost:6443"}, {}, r"^endpoints: 'localhost:6443' must be"),
        ({"url": "http:///path"}, {}, r"^endpoints: .* with a host"),
        ({"url": "http://localhost:99999/"}, {}, r"^endpoints: .*99999"),
        ({"url": "http://localhost:0/"}, {}, r"^endpoints: .*:0"),
        (
            {"url": "http://me:hunter2@localhost/"},
            {},
            r"^endpoints: the URL of 'one' must not contain a user",
        ),
        ({"ca_path": "/nowhere.pem"}, {}, r"^endpoints: ca_path '/nowhere.pem' must be a readable file"),
        ({"required": False}, {}, r"^endpoints: at least one endpoint must have required=true"),
        ({}, {"warning_after": 6}, r"^warning_after 6 and critical_after 5 must be 1 <= "),
        ({}, {"warning_after": 0}, r"^warning_after 0 and "),
        ({}, {"timeout": 0}, r"^timeout: 0 must be more than 0 seconds"),
        ({}, {"timeout": float("nan")}, r"^timeout: nan must be"),
        ({}, {"deadline": -1}, r"^deadline: -1 must be"),
        ({}, {"interval": -1}, r"^interval: -1 must not be"),
        ({}, {"count": 0}, r"^count: 0 must be at least 1"),
        ({}, {"ok_statuses": []}, r"^ok_statuses: "),
    ],
)
def test_invalid_parameters(service, target, plan, said):
    with pytest.raises(HealthError, match=said):
        ask(service, [Target(**{"name": "one", "url": "http://localhost/", **target})], **plan)


def test_login_during_a_stability_check_is_refused(service):
    with Server() as server, pytest.raises(
        HealthError, match=r"^login: allowed with mode=watch only together with readiness$"
    ):
        ask(service, [server.target()], login=login(server))


def test_silent_endpoint_gave_no_answer_at_any_attempt(service, running):
    plan = {"mode": "watch", "timeout": 0.3, "interval": 0.01, "warning_after": 1, "critical_after": 2}
    with raw_server(silent) as port, Server((503, b"{}")) as server:
        mute = Target(name="one", url=f"http://127.0.0.1:{port}/")
        assert ask(service, [mute], **plan)["silent"] is True
        assert ask(service, [mute, server.target()], **plan)["silent"] is False
        assert ask(service, [server.target()], **plan)["silent"] is False
