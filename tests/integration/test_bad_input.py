# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Invalid input ends a run before it changes anything. One line of the output names the variable."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease

from .conftest import ROOT, Run, Service, on_screen

Breaking = Callable[[Service, Path], "dict[str, Any]"]


def loose_environment_file(service: Service, folder: Path) -> dict[str, Any]:
    path = folder / "loose.env"
    path.write_text("JWT_SECRET=hunter2\n", encoding="utf-8")
    path.chmod(0o644)
    return {"nexus_environment_file": str(path)}


def folder_as_database(service: Service, folder: Path) -> dict[str, Any]:
    (folder / "db").mkdir()
    return {"nexus_db_path": str(folder / "db")}


def no_node(service: Service, folder: Path) -> dict[str, Any]:
    return {"nexus_command": ["node-that-is-not-there", "backend/server.js"]}


# Invalid variables, and the expected error text for each.
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "unknown manager": ({"nexus_manager": "upstart"}, {"nexus_manager": "upstart"}),
    "thresholds": (
        {"detection_warning_after": 3, "detection_critical_after": 2, "detection_interval": -1},
        {"detection_critical_after": "2", "detection_interval": "-1"},
    ),
    "threshold that is no number": ({"detection_interval": "abc"}, {"detection_interval": "float"}),
    "switch that is neither true nor false": ({"nexus_ready_enabled": "perhaps"}, {"nexus_ready_enabled": "bool"}),
    "settings of the run": (
        {
            # A role that is not a rung.
            "outage_recover_rungs": ["database_recovery", "triage"],
            "outage_recover_highest_rung": "restrat",
            "outage_recover_hihgest_rung": "restart",
            "outage_recover_act_on": "crtical",
            "outage_recover_wait": "soon",
            "outage_recover_task_timeout": "soon",
            "outage_recover_serial": "soon",
            "outage_recover_strategy": "fre",
        },
        {
            "outage_recover_rungs": "contains 'database_recovery'",
            "outage_recover_highest_rung": "is 'restrat'",
            "outage_recover_hihgest_rung": "is not a setting. Use outage_recover_highest_rung instead",
            "outage_recover_act_on": "is 'crtical'",
            "outage_recover_wait": "is 'soon'",
            "outage_recover_task_timeout": "is 'soon'",
            "outage_recover_serial": "is 'soon'",
            "outage_recover_strategy": "is 'fre'",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_invalid_input_is_named_before_any_change(laid: Service, name: str) -> None:
    wrong, said = CASES[name]
    run = laid.play("playbooks/outage_recover.yml", **wrong)
    assert run.rc != 0
    # The summary at the end of the output also contains the variables.
    assert "STOPPED: localhost" in run.screen
    end = " ".join(run.screen[run.screen.index("STOPPED: localhost") :].split())
    for variable, text in said.items():
        told = f"{variable} {text}" if len(said) > 2 else text
        named = [line for line in run.screen.splitlines() if variable in line and told in line]
        assert named, f"no line contains {variable} and {text}"
        assert variable in end
        # If ansible-core rejects the input, no value has been recorded.
        assert (told in end) == (name != "unknown manager")
    assert not laid.state.exists()
    assert not laid.pids()
    assert not laid.database.exists()
    assert "Traceback" not in run.screen
    assert "hunter2" not in run.screen


# Each case contains the variable, its value, the cause, True if the run still recovers the service, and a function that
# returns the invalid variables.
DOWN: dict[str, tuple[str, str, str, bool, Breaking]] = {
    "relative app dir": ("nexus_app_dir", "srv/app", "", False, lambda *_: {"nexus_app_dir": "srv/app"}),
    "missing app dir": ("nexus_app_dir", "/nowhere/app", "", False, lambda *_: {"nexus_app_dir": "/nowhere/app"}),
    "port out of range": ("nexus_https_port", "70000", "", True, lambda *_: {"nexus_https_port": 70000}),
    "no port at all": (
        "nexus_https_port",
        "0",
        "config_mismatch",
        False,
        lambda *_: {"nexus_https_port": 0, "nexus_http_port": 0},
    ),
    "missing environment file": (
        "nexus_environment_file",
        "/nowhere/itsm.env",
        "environment_missing",
        False,
        lambda *_: {"nexus_environment_file": "/nowhere/itsm.env"},
    ),
    "environment file open to all": (
        "nexus_environment_file",
        "loose.env",
        "config_mismatch",
        False,
        loose_environment_file,
    ),
    "no node": ("nexus_command", "node-that-is-not-there", "config_mismatch", False, no_node),
    "folder as database": ("nexus_db_path", "/db", "config_mismatch", False, folder_as_database),
    "unknown user": (
        "nexus_user",
        "nobody-of-this-name",
        "config_mismatch",
        False,
        lambda *_: {"nexus_user": "nobody-of-this-name"},
    ),
}


@pytest.mark.parametrize("name", DOWN)
def test_a_wrong_setting_of_a_service_that_is_down_opens_an_incident(
    service: Service, tmp_path: Path, name: str
) -> None:
    variable, value, cause, back, breaking = DOWN[name]
    service.kill()
    changes = breaking(service, tmp_path)
    run = service.play("playbooks/outage_recover.yml", **changes)
    assert (run.rc == 0, bool(service.pids())) == (back, back)
    (told,) = (json.loads(path.read_text(encoding="utf-8")) for path in run.documents(".json"))
    assert told["outcome"] == ("recovered" if back else "not_recovered")
    assert told["severity"] == "emergency"
    assert cause in ("", told["cause"])
    assert told["escalation"]["to"] != [] or back
    assert told["evidence"] and Path(told["evidence"]).is_dir()
    found = json.dumps(told["findings"])
    assert variable in found and value in found and "must" in found
    assert (told["rungs_tried"] == []) != back
    assert "Traceback" not in run.screen and "hunter2" not in run.screen


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, template: Service) -> Iterator[Service]:
    """Return a running service for all tests that make no changes."""
    service = Service(tmp_path_factory.mktemp("healthy"))
    service.install_copy(template)
    service.start()
    yield service
    service.kill()


@pytest.mark.parametrize("name", DOWN)
def test_a_wrong_setting_of_a_healthy_service_is_named_and_changes_nothing(
    healthy: Service, tmp_path: Path, name: str
) -> None:
    variable, value, _cause, _back, breaking = DOWN[name]
    before = healthy.pids()
    run = healthy.play("playbooks/outage_recover.yml", **breaking(healthy, tmp_path))
    end = run.screen[run.screen.index("STOPPED: localhost") :]
    assert run.rc != 0 and variable in end and value in end
    assert healthy.pids() == before and not healthy.state.exists()


def test_invalid_settings_of_the_verification_end_the_ladder_after_the_first_start(service: Service) -> None:
    service.kill()
    run = service.play("playbooks/outage_recover.yml", verification_deadline="soon")
    assert (run.rc, bool(service.pids())) == (2, True)
    (told,) = (json.loads(path.read_text(encoding="utf-8")) for path in run.documents(".json"))
    assert told["outcome"] == "not_recovered"
    assert [each["rung"] for each in told["rungs_tried"]] == ["restart"]
    assert "verification_deadline" in told["rungs_tried"][0]["reason"]
    assert "verification_deadline" in summary(run)


POLICY = {
    "remediation_allowed": ["disk_fulll"],
    "remediation_stop_timeout": "abc",
    "remediation_disk_globs": [{"glob": "/var/log/../*"}],
    "remediation_stop_policy": [{"user": "root", "command": "("}],
    "remediation_tls_disable_https_until": "tomorrow",
}


def test_an_invalid_remediation_policy_is_reported_and_a_restart_is_still_tried(laid: Service) -> None:
    laid.start()
    before = laid.pids()
    well = laid.play("playbooks/outage_recover.yml", **POLICY)
    assert well.rc != 0
    for name, value in zip(POLICY, ("disk_fulll", "abc", "/var/log/../*", "'('", "tomorrow")):
        assert f"{name} " in well.screen and value in well.screen, name
    assert laid.pids() == before
    laid.kill()
    down = laid.play("playbooks/outage_recover.yml", **POLICY)
    assert (down.rc, laid.healthy()) == (0, True)
    assert "No cause will be remedied before the ladder" in down.screen
    (told,) = (json.loads(path.read_text(encoding="utf-8")) for path in down.documents(".json"))
    (left,) = told["remedies"]
    assert (left["cause"], left["changed"]) == ("killed", False)
    assert "remediation_stop_timeout" in left["reason"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("nexus_app_dir", "/nowhere/app"), ("nexus_manager", "upstart")],
)
def test_triage_with_a_wrong_setting_ends_with_one_clear_error(laid: Service, variable: str, value: str) -> None:
    run = laid.play("playbooks/outage_detect.yml", **{variable: value})
    assert run.rc == 2
    last = run.screen[run.screen.index("PLAY [Summarize the results of all hosts]") :]
    (error,) = re.findall(r"FAILED! => (.*)", last)
    assert variable in error and value in error
    assert "has no attribute" not in run.screen
    # For every variable except nexus_manager, the summary also reports that the service is down.
    assert ("DOWN: localhost" in run.screen) == (variable != "nexus_manager")


def test_a_host_missing_from_the_inventory_is_an_error(laid: Service) -> None:
    run = laid.play("playbooks/outage_recover.yml", outage_recover_hosts="lcoalhost")
    assert run.rc != 0
    assert "host pattern, ignoring: lcoalhost" in run.screen


def summary(run: Run) -> str:
    return " ".join(run.screen[run.screen.index("OUTAGE SUMMARY") :].split())


def test_an_undefined_nested_variable_is_reported_at_the_end(laid: Service) -> None:
    made = {"nexus_login_password": "{{ vault_that_is_not_there }}"}
    laid.start()
    for playbook in ("outage_recover", "outage_verify"):
        well = laid.play(f"playbooks/{playbook}.yml", **made)
        assert well.rc == 2
        assert "vault_that_is_not_there is not defined" in well.screen[well.screen.index("STOPPED: localhost") :]
    laid.kill()
    down = laid.play("playbooks/outage_recover.yml", **made)
    assert down.rc == 2
    assert "vault_that_is_not_there is not defined" in summary(down)
    assert '"msg": "Notifying the whole team: The cause is unknown' in down.screen
    assert "notified NOT NOTIFIED, call them: the whole team reason: The cause is unknown" in summary(down)
    # The run has ended and no longer holds the lease.
    assert host_lease.Seat(state_dir=str(laid.state)).holder() is None


def test_notified_and_unreached_contacts_are_listed_despite_an_undefined_variable(
    laid: Service, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    ways = [
        {"type": "command", "argv": ["tee", "-a", str(told)]},
        {"type": "webhook", "name": "chat", "shape": "slack", "url": "{{ vault_that_is_not_there }}"},
    ]
    contacts = {"everyone": {"name": "the whole team", "channels": ways}, "project_leader": "leader", "dba": "DBA"}
    made = {"nexus_login_password": "{{ vault_that_is_not_there }}", "escalation_contacts": contacts}
    laid.start()
    laid.kill()
    first = "notified the whole team by command tee; NOT SENT to the whole team by chat: its url cannot be"
    second = "notified NOT SENT to the whole team by chat: its url cannot be"
    for notified in (first, second):
        down = laid.play("playbooks/outage_recover.yml", **made)
        assert down.rc == 2
        assert notified in summary(down)
    # The second run continues the incident and repeats no notification.
    assert told.read_text(encoding="utf-8").count("INC-") == 1

    # If only the documents need an undefined variable, the service is still recovered. The variable is reported as an
    # error.
    back = laid.play("playbooks/outage_recover.yml", postmortem_github_token="{{ vault_that_is_not_there }}")
    assert (back.rc, laid.healthy()) == (2, True)
    assert summary(back).startswith("OUTAGE SUMMARY") and "RECOVERED: itsm-system" in summary(back)
    assert 'FAILED! => {"changed": false, "msg": "the variable vault_that_is_not_there is not def' in back.screen
    assert not (laid.state / "incident.json").exists()


def test_outcome_of_a_database_recovery_is_shown_if_it_cannot_be_written(laid: Service) -> None:
    laid.start()
    token = {"postmortem_github_token": "{{ vault_that_is_not_there }}"}
    run = laid.play("playbooks/database_recover.yml", database_recovery_method="checkpoint", **token)
    assert (run.rc, laid.healthy()) == (2, True)
    assert "RECOVERED: " in summary(run) and "without recording" not in summary(run)
    assert "vault_that_is_not_there is not defined" in run.screen[run.screen.index("TASK [Fail unless") :]
    assert not (laid.state / "incident.json").exists()
    assert host_lease.Seat(state_dir=str(laid.state)).holder() is None


def test_an_unknown_method_is_refused_before_any_notification(laid: Service) -> None:
    laid.start()
    pids = laid.pids()
    run = laid.play("playbooks/database_recover.yml", database_recovery_method="salvge")
    assert (run.rc, laid.pids()) == (2, pids)
    assert "salvge" in run.screen
    assert "database_recovery_method" in run.screen[run.screen.index("STOPPED: localhost") :]
    assert not (laid.state / "incident.json").exists()


def test_a_severity_below_the_limit_is_given_as_the_reason(laid: Service) -> None:
    run = laid.play("playbooks/outage_recover.yml", outage_recover_act_on=["critical"])
    assert (run.rc, laid.pids()) == (2, [])
    assert "emergency is not in outage_recover_act_on (critical): nothing was tried" in " ".join(summary(run).split())


def test_an_unknown_language_is_reported_if_healthy_and_after_a_recovery(laid: Service) -> None:
    laid.start()
    laid.kill()
    back = laid.play("playbooks/outage_recover.yml", postmortem_language="jp")
    assert (back.rc, laid.healthy()) == (2, True)
    end = " ".join(summary(back).split())
    assert "RECOVERED: itsm-system" in end and "why Postmortem not written: " in end and "postmortem_language" in end
    well = laid.play("playbooks/outage_recover.yml", postmortem_language="jp")
    assert well.rc == 2
    assert "postmortem_language" in well.screen[well.screen.index("STOPPED: localhost") :]


def test_unreachable_contacts_are_named_at_the_end_if_the_service_is_healthy(laid: Service) -> None:
    laid.start()
    contacts = {"project_leader": {"name": "project leader", "channels": [{"type": "pigeon"}]}}
    run = laid.play("playbooks/outage_escalate.yml", escalation_contacts=contacts)
    assert run.rc == 2
    assert "STOPPED: localhost" in run.screen
    end = run.screen[run.screen.index("STOPPED: localhost") :]
    assert "pigeon" in end and "Fail if" not in end


@pytest.mark.parametrize("playbook", ["outage_recover", "outage_escalate"])
def test_a_check_of_an_unreachable_host_names_invalid_channels(tmp_path: Path, playbook: str) -> None:
    wrong = {"type": "webhook", "name": "chat", "url": "https://chat.example.com/hook", "shape": "telegram"}
    leader = {"name": "leader", "channels": [wrong, {"type": "pigeon", "name": "pigeon"}]}
    contacts = {"project_leader": leader, "dba": "DBA", "everyone": "all"}
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_become": False}
    inventory = tmp_path / "hosts.json"
    variables = {"escalation_contacts": contacts, "outage_recover_unreachable_dir": str(tmp_path / "unreachable")}
    inventory.write_text(json.dumps({"itsm_nexus": {"hosts": {"gone": gone}, "vars": variables}}), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = on_screen(
        ["ansible-playbook", "-i", inventory, f"playbooks/{playbook}.yml", "--check"],
        timeout=120,
        cwd=ROOT,
        env={**environment, "LC_ALL": "C.UTF-8", "ITSM_NEXUS_POSTMORTEM_DIR": str(tmp_path / "postmortems")},
    )
    end = " ".join(done.stdout[done.stdout.index("OUTAGE SUMMARY") :].split())
    assert done.returncode == 2 and "UNREACHABLE" in end
    assert "channels[0].shape is 'telegram': must be one of" in end
    assert "channels[1].type is 'pigeon'" in end
    assert "NOT NOTIFIED" not in end and not (tmp_path / "unreachable").exists()


def test_settings_of_the_connection_given_with_e_do_not_prevent_the_notification(tmp_path: Path) -> None:
    """Values given with -e also apply to the tasks that run on the controller."""
    page, paged = tmp_path / "page", tmp_path / "paged"
    page.write_text(f"#!/bin/sh\ncat >>{paged}\n", encoding="utf-8")
    page.chmod(0o755)
    leader = {"name": "leader", "channels": [{"type": "command", "argv": [str(page)]}]}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"itsm_nexus": {"hosts": {"gone": {}}}}), encoding="utf-8")
    given = {
        **{"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
        **{"ansible_become": True, "ansible_python_interpreter": "/of/the/host/python3"},
        "escalation_contacts": {"project_leader": leader, "dba": "DBA", "everyone": "all"},
        "outage_recover_unreachable_dir": str(tmp_path / "unreachable"),
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = on_screen(
        ["ansible-playbook", "-i", inventory, "playbooks/outage_recover.yml", "-e", json.dumps(given)],
        timeout=120,
        cwd=ROOT,
        env={**environment, "LC_ALL": "C.UTF-8", "ITSM_NEXUS_POSTMORTEM_DIR": str(tmp_path / "postmortems")},
    )
    end = " ".join(done.stdout[done.stdout.index("OUTAGE SUMMARY") :].split())
    assert done.returncode == 2 and "UNREACHABLE" in end and "notified leader by command page" in end
    assert "gone" in paged.read_text(encoding="utf-8")
    assert list((tmp_path / "unreachable").rglob("incident.json"))


def test_a_first_response_that_does_not_start_the_service_leaves_the_check_to_the_restart(service: Service) -> None:
    """The first response finds the cause, so there is no other triage. It does not need this setting."""
    service.kill()
    with service.log.open("a", encoding="utf-8") as log:
        log.write(
            f"{service.app}/backend/server.js:3\n        throw new Error('boom');\n        ^\n\nError: boom\n"
            f"    at Object.<anonymous> ({service.app}/backend/server.js:3:15)\n\nNode.js v20.1.0\n"
        )
    run = service.play("playbooks/outage_recover.yml", outage_recover_rungs=["restart"], nexus_npm_timeout="abc")
    rung = run.screen[run.screen.index("Try the rung: restart") : run.screen.index("Record why the rung failed")]
    assert run.rc != 0 and "argument 'nexus_npm_timeout' is of type" in rung
    # Nothing could verify a start, so the service is not started in its previous state either.
    assert "Start or stop the service" not in run.screen
    assert "started pid" not in run.screen and not service.pids()
