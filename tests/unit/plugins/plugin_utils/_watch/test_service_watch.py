# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source for rulebooks: the actions that it triggers once per outage, and when it suppresses them."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from http_servers import BAD, GOOD, Server, raw_server, silent

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import service_watch

ROOT = Path(__file__).resolve().parents[5]
SOURCE = (
    ROOT / "collections/ansible_collections/itsm_nexus/runbook/extensions/eda/plugins/event_source" / "service_watch.py"
)
PROCESS = {"manager": "systemd", "unit": "itsm-system", "app_dir": "/srv/app", "command": ["node", "server.js"]}
RUNNING = "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=812\n"
GONE = "LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\n"


def calls(answers, *, apart=1.0, **thresholds):
    """Return the triggered actions by probe number, starting at 1.

    answers: the results of the probes (+ healthy, - failed, x process gone). apart: the seconds between probes.
    """
    outage = service_watch.Outage(service_watch.Thresholds(**thresholds))
    found = {}
    for number, answer in enumerate(answers, 1):
        act = outage.see(good=answer == "+", gone=answer == "x", now=number * apart)
        if act:
            found[number] = act
            outage.called(act, now=number * apart)
    return found


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("+++++++", {}),
        ("--", {}),
        ("---", {3: "triage"}),
        ("-----", {3: "triage", 5: "recover"}),
        # Each action is triggered once, regardless of the length of the outage.
        ("-" * 500, {3: "triage", 5: "recover"}),
        ("x", {1: "recover"}),
        ("x" * 500, {1: "recover"}),
        ("-x", {2: "recover"}),
        ("---x-", {3: "triage", 4: "recover"}),
        # Flapping below the threshold does not trigger any action.
        ("--+" * 100, {}),
        # Flapping above the threshold counts as one outage until the service has been healthy for long enough.
        ("---+" * 100, {3: "triage"}),
        ("x+" * 100, {1: "recover"}),
        ("-----++++" * 50, {3: "triage", 5: "recover"}),
        # After that, the next failure starts a new outage.
        ("x+++++x", {1: "recover", 6: "restored", 7: "recover"}),
        ("---+++++---", {3: "triage", 8: "restored", 11: "triage"}),
        ("x+++++-----", {1: "recover", 6: "restored", 9: "triage", 11: "recover"}),
        # If a warning has ended, its failures do not count towards the next outage.
        ("---++--+--", {3: "triage"}),
    ],
)
def test_actions_triggered_by_answers(answers, expected):
    assert calls(answers) == expected


def test_thresholds_are_taken_from_the_settings():
    assert calls("--" + "++" + "--", warning_after=1, critical_after=2, restored_after=2) == {
        1: "triage",
        2: "recover",
        4: "restored",
        5: "triage",
        6: "recover",
    }


def test_recovery_is_repeated_only_if_configured():
    assert calls("x" * 7, apart=10, again_after=30) == {1: "recover", 4: "recover", 7: "recover"}


def test_a_missed_action_remains_due():
    outage = service_watch.Outage(service_watch.Thresholds())
    assert [outage.see(good=False, gone=True, now=now) for now in range(3)] == ["recover"] * 3


class Host:
    """A fake host.

    For a systemctl command, the host returns the unit's state. For any other command, it returns the maintenance
    window.
    """

    def __init__(self, unit=RUNNING, maintenance=None):
        self.unit, self.maintenance = unit, maintenance
        self.asked = []

    def run(self, argv, **_options):
        self.asked.append(list(argv))
        if "systemctl" in argv:
            return self._completed(argv, self.unit)
        if self.maintenance is None:
            return self._completed(argv, "", rc=1, stderr="cat: /var/lib/x: No such file or directory")
        return self._completed(argv, self.maintenance)

    @staticmethod
    def _completed(argv, stdout, *, rc=0, stderr=""):
        return commands.Completed(argv=argv, rc=rc, stdout=stdout, stderr=stderr, duration=0.0)


def watching(server, host, **changes):
    values = {
        "host": "app.one",
        "endpoints": [{"name": "http", "url": server.target().url}],
        "process": PROCESS,
        "state_dir": "/var/lib/itsm-runbook",
        "over": ["ssh", "app.one", "sudo"],
        **changes,
    }
    thresholds = service_watch.Thresholds()
    (target,) = service_watch.targets([values], thresholds, timeout=2.0, interval=1.0)
    return service_watch.Watch(target, thresholds, timeout=2.0, ok_statuses=["ok"], run=host.run)


def test_event_names_the_problem_and_the_host():
    with Server(BAD) as server:
        looker = watching(server, Host(GONE))
        event = looker.look()
    assert event["meta"] == {"hosts": "app.one"}
    outage = event["outage"]
    assert outage.pop("first_failure_at").endswith("Z")
    assert outage == {
        "host": "app.one",
        "act": "recover",
        "severity": "emergency",
        "consecutive_failures": 1,
        "process": "gone",
        "summary": "http: answered 503 instead of 200; the process is gone",
    }


def test_host_is_queried_only_after_a_failure():
    host = Host()
    with Server(GOOD, BAD) as server:
        looker = watching(server, host)
        assert looker.look() is None
        assert host.asked == []
        assert looker.look() is None
    ((ssh, name, sudo, systemctl, show, *_, unit),) = host.asked
    assert (ssh, name, sudo, systemctl, show, unit) == ("ssh", "app.one", "sudo", "systemctl", "show", "itsm-system")


def test_the_sudo_rule_allows_exactly_the_one_root_command():
    host = Host(GONE)
    with Server(BAD) as server:
        assert (
            watching(server, host, over=["ssh", "app.one"], as_root=["sudo", "-n"]).look()["outage"]["act"] == "recover"
        )
    (show, read) = host.asked
    assert show[:4] == ["ssh", "app.one", "systemctl", "show"]
    assert read[:6] == ["ssh", "app.one", "env", "LC_ALL=C", "sudo", "-n"]
    text = (ROOT / "docs/sudoers-watch").read_text(encoding="utf-8")
    (rule,) = [line for line in text.splitlines() if line and not line.startswith("#")]
    # The rule contains the complete command, without a wildcard or a regular expression.
    assert rule == "itsm-watch ALL=(root) NOPASSWD: /usr/bin/" + " ".join(read[6:])


def test_running_process_needs_five_failures():
    with Server(BAD) as server:
        looker = watching(server, Host())
        events = [looker.look() for _ in range(8)]
    acts = [event and (event["outage"]["act"], event["outage"]["severity"]) for event in events]
    assert acts == [None, None, ("triage", "warning"), None, ("recover", "critical"), None, None, None]
    assert len({event["outage"]["first_failure_at"] for event in events if event}) == 1


@pytest.mark.parametrize("unit", ["LoadState=not-found\nMainPID=0\n", ""])
def test_hidden_process_is_not_gone(unit, caplog):
    with Server(BAD) as server:
        assert watching(server, Host(unit)).look() is None
    assert "app.one: cannot check whether the process is running: " in caplog.text


def test_nothing_is_triggered_during_a_maintenance_window(monkeypatch, caplog):
    host = Host(GONE, json.dumps({"until": "2099-12-31T00:00:00Z"}))
    with Server(BAD) as server:
        looker = watching(server, host)
        assert [looker.look() for _ in range(7)] == [None] * 7
        # The maintenance window is not read again for every probe.
        assert sum("cat" in argv for argv in host.asked) == 1
        assert "app.one: under maintenance until 2099-12-31T00:00:00.000Z" in caplog.text
        # If the window ends early, the due action is triggered at that time.
        host.maintenance = None
        asked_at = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: asked_at + 16)
        assert looker.look()["outage"]["act"] == "recover"


@pytest.mark.parametrize(("accepted", "act"), [(True, "alarmed"), (False, "recover")])
def test_an_armed_controller_gets_the_alarm(monkeypatch, accepted, act):
    rung = []
    monkeypatch.setattr(service_watch.alarm, "ring", lambda path: rung.append(path) or accepted)
    with Server(BAD) as server:
        looker = watching(server, Host(GONE), alarm="/run/alarms/app.one")
        assert looker.look()["outage"]["act"] == act
        # One outage causes only one alarm.
        assert looker.look() is None
    assert rung == ["/run/alarms/app.one"]


@pytest.mark.parametrize(
    "maintenance", ["", "{}", '{"until": "soon"}', '{"until": "2020-01-01T00:00:00Z"}', '{"until": "2099-01-01T00:00"}']
)
def test_an_invalid_maintenance_window_does_not_prevent_an_action(maintenance):
    with Server(BAD) as server:
        assert watching(server, Host(GONE, maintenance)).look()["outage"]["act"] == "recover"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(
            (
                {"host": host},
                r"targets\[0\].host: must be the name of one host of the inventory .*, not " + re.escape(repr(host)),
            )
            for host in (
                "",
                "all",
                "ungrouped",
                "a,b",
                "web*",
                "@/etc/passwd",
                "-i",
                "app one",
                "app\n",
                ["app"],
                "a" * 254,
            )
        ),
        (
            {"hots": "x"},
            r"targets\[0\]: 'hots' is not known; known keys: host, endpoints, process, state_dir, over, as_root",
        ),
        ({"endpoints": "http://x"}, r"targets\[0\].endpoints: must be a list, not str"),
        ({"endpoints": []}, "targets, app.one: endpoints: at least one endpoint must have required=true"),
        ({"endpoints": [{"url": "http://x"}]}, r"targets\[0\].endpoints\[0\]: 'name' is missing"),
        ({"endpoints": [{"name": "x", "url": "ftp://x"}]}, "targets, app.one: endpoints: 'ftp://x' must be an http://"),
        ({"process": ["node"]}, r"targets\[0\].process: must be a mapping, not list"),
        (
            {"process": {**PROCESS, "manager": "process"}},
            r"targets\[0\].process.manager: must be systemd if 'over' is set, not 'process'",
        ),
        ({"as_root": "sudo -n"}, r"targets\[0\].as_root: must be a list of words, not 'sudo -n'"),
        ({"alarm": "alarm"}, r"targets\[0\].alarm: must be an absolute path, not 'alarm'"),
        ({"over": "ssh x"}, r"targets\[0\].over: must be a list of words, not 'ssh x'"),
        ({"state_dir": "/srv/a b"}, r"targets\[0\]: '/srv/a b' must not contain blanks or quotes if 'over' is set"),
        ({"process": {**PROCESS, "unit": "$(id)"}}, r"targets\[0\]: '\$\(id\)' must not contain blanks"),
    ],
)
def test_invalid_target(changes, words):
    values = {"host": "app.one", "endpoints": [{"name": "x", "url": "http://x"}], "over": ["ssh"], **changes}
    with pytest.raises(service_watch.WatchError, match=words):
        service_watch.targets([values], service_watch.Thresholds(), timeout=1.0, interval=1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "targets: must be a list of at least one"),
        ({"targets": []}, "targets: must be a list of at least one"),
        ({"target": []}, "target: is not known; known options: again_after, critical_after, interval"),
        ({"warning_after": 6}, "warning_after 6 and critical_after 5"),
        ({"restored_after": 0}, "restored_after: 0 must be at least 1"),
        ({"again_after": -1}, "again_after: -1.0 must not be less than 0"),
        ({"timeout": 0}, "timeout: 0.0 must be more than 0"),
    ],
)
def test_source_refuses_invalid_settings(arguments, words):
    values = {"targets": [{"host": "x", "endpoints": [{"name": "x", "url": "http://x"}]}]} if arguments else {}

    async def main():
        # Before Python 3.10, a queue needs a running event loop.
        await runpy.run_path(str(SOURCE))["main"](asyncio.Queue(), {**values, **arguments})

    with pytest.raises(Exception, match=words) as refusal:
        asyncio.run(main())
    assert type(refusal.value).__name__ == "WatchError"


def test_a_hanging_target_does_not_delay_others():
    async def first_events(arguments, number):
        queue = asyncio.Queue()
        task = asyncio.create_task(runpy.run_path(str(SOURCE))["main"](queue, arguments))
        try:
            return [await asyncio.wait_for(queue.get(), 8) for _ in range(number)]
        finally:
            task.cancel()

    def target(host, url):
        return {"host": host, "endpoints": [{"name": "http", "url": url}]}

    with Server(BAD) as broken, raw_server(silent) as port:
        targets = [target(f"hangs{number}", f"http://127.0.0.1:{port}/") for number in range(40)]
        targets.append(target("broken", broken.target().url))
        events = asyncio.run(first_events({"targets": targets, "interval": 0.05, "timeout": 2.0}, 2))
    # Each probe of a hanging target takes two seconds, but these probes do not delay the events.
    assert [(event["outage"]["host"], event["outage"]["act"]) for event in events] == [
        ("broken", "triage"),
        ("broken", "recover"),
    ]


def test_source_does_not_need_ansible():
    """The event source runs in the Python environment of ansible-rulebook.

    In this environment, ansible-core may be missing, and collections cannot be loaded.
    """
    code = f"import runpy; runpy.run_path({str(SOURCE)!r}); import sys; assert 'ansible' not in sys.modules"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def rules(name):
    (ruleset,) = yaml.safe_load((ROOT / "extensions/eda/rulebooks" / f"{name}.yml").read_text("utf-8"))
    return ruleset


@pytest.mark.parametrize("name", ["watch", "alertmanager"])
def test_both_kinds_of_rulebooks_differ_only_in_their_actions(name):
    by_playbook, by_template = rules(name), rules(f"{name}_awx")
    for ruleset in (by_playbook, by_template):
        ruleset.pop("name")
    asked = [[(rule.pop("action"), rule)[0] for rule in ruleset["rules"]] for ruleset in (by_playbook, by_template)]
    assert by_playbook == by_template
    for playbook, template in zip(*asked):
        if "debug" in playbook:
            assert playbook == template
            continue
        plays, launches = playbook["run_playbook"], template["run_job_template"]
        assert plays["name"] == f"itsm_nexus.runbook.{launches['name']}"
        assert plays.get("lock") == launches.get("lock")
        assert plays.get("extra_vars") == launches["job_args"].get("extra_vars")
        assert launches["include_events"] is False


@pytest.mark.parametrize("name", ["watch", "watch_awx", "alertmanager", "alertmanager_awx"])
def test_each_run_that_a_rulebook_starts_works_on_one_host_only(name):
    actions = [rule["action"] for rule in rules(name)["rules"] if "debug" not in rule["action"]]
    assert len(actions) == 2
    for action in actions:
        (arguments,) = action.values()
        given = arguments.get("extra_vars") or arguments["job_args"]["extra_vars"]
        assert given["outage_recover_single_host"] == "true"
