# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection is lost during a run of the main playbook. A step whose result was lost does not count as failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from .conftest import ROOT, Run, Service
from .connection.lossy import cuts

PLUGINS = Path(__file__).parent / "connection"


@pytest.fixture
def play(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Return a function that kills the service and then runs a playbook with planned connection losses."""
    plan = tmp_path / "cuts.json"
    monkeypatch.setenv("LOSSY_CUTS", str(plan))

    def play(*planned: tuple[str, str, float], playbook: str = "outage_recover", **changes: Any) -> Run:
        cuts(plan, *planned)
        # Service.play removes Ansible's environment variables, so a configuration file sets the plugin's folder.
        settings = tmp_path / "ansible.cfg"
        given = (ROOT / "ansible.cfg").read_text(encoding="utf-8")
        given = given.replace("collections_path = collections", f"collections_path = {ROOT}/collections")
        settings.write_text(given.replace("[defaults]\n", f"[defaults]\nconnection_plugins = {PLUGINS}\n"), "utf-8")
        service.kill()
        run = service.play(
            str(ROOT / "playbooks" / f"{playbook}.yml"),
            project=tmp_path,
            ansible_connection="lossy",
            **{"outage_recover_unreachable_dir": str(tmp_path / "unreachable"), **changes},
        )
        assert json.loads(plan.read_text(encoding="utf-8"))["cuts"] == [], "a planned loss did not happen"
        return run

    return play


def told(run: Run) -> dict[str, Any]:
    return json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))


def starts(service: Service) -> int:
    records = [*service.state.glob("incidents/*.json"), *service.state.glob("incident.json")]
    return sum(len(json.loads(path.read_text(encoding="utf-8"))["starts"]) for path in records)


@pytest.mark.parametrize(
    "lost",
    [
        [("first_response", "before", 1), ("sqlite_info", "after", 0)],
        [("first_response", "during", 1)],
        [("first_response", "died", 0), ("first_response", "after", 2)],
    ],
    ids=["before", "during", "after"],
)
def test_a_lost_first_response_starts_the_service_once(
    service: Service, play: Callable[..., Run], lost: list[tuple[str, str, float]]
) -> None:
    run = play(*lost)
    assert run.rc == 0 and service.healthy()
    document = told(run)
    assert (document["outcome"], document["cause"]) == ("recovered", "killed")
    assert [(each["rung"], each["held"]) for each in document["rungs_tried"]] == [("restart", True)]
    assert starts(service) == 1
    assert run.recap()["failed"] == 0
    assert "was lost during first_response" in " ".join(run.screen.split())


@pytest.mark.parametrize("when", ["during", "after"])
def test_without_its_answer_the_run_learns_from_the_host_that_the_service_was_started(
    service: Service, play: Callable[..., Run], when: str
) -> None:
    run = play(("first_response", when, 0), outage_recover_reconnect=0)
    assert run.rc == 0 and service.healthy()
    document = told(run)
    assert (document["outcome"], document["cause"]) == ("recovered", "killed")
    assert [(each["rung"], each["held"]) for each in document["rungs_tried"]] == [("restart", True)]
    assert starts(service) == 1 and len(service.pids()) == 1


def test_a_host_that_is_lost_during_the_first_response_is_reported_as_unreachable(
    service: Service, play: Callable[..., Run]
) -> None:
    run = play(("first_response", "during", 600), outage_recover_reconnect=2)
    assert run.rc == 2
    assert told(run)["outcome"] == "unreachable"
    assert "RECOVERED" not in run.screen and "nothing was changed" not in run.screen
    assert "may have started the service" in " ".join(run.screen.split())


@pytest.mark.parametrize(
    "lost",
    [
        [("triage_info", "before", 1), ("node_process", "before", 0), ("sqlite_info", "after", 0)],
        [("triage_info", "during", 0), ("node_process", "during", 1)],
        [("node_process", "died", 0), ("node_process", "after", 2)],
    ],
    ids=["before", "during", "after"],
)
def test_a_lost_answer_does_not_count_as_a_failed_step(
    service: Service, play: Callable[..., Run], lost: list[tuple[str, str, float]]
) -> None:
    run = play(*lost, outage_recover_first_response=False)
    assert run.rc == 0 and service.healthy()
    document = told(run)
    assert document["outcome"] == "recovered"
    assert [(each["rung"], each["held"]) for each in document["rungs_tried"]] == [("restart", True)]
    # The module that starts the service did so only once, even if the module was called twice.
    assert starts(service) == 1
    assert run.recap()["failed"] == 0
    # The lost connection is reported on the screen and in the document.
    assert "was lost during node_process" in " ".join(run.screen.split())
    (markdown,) = run.documents(".md")
    assert "the connection was lost for" in markdown.read_text(encoding="utf-8")


def test_many_losses_during_a_clean_start(service: Service, play: Callable[..., Run]) -> None:
    modules = ("node_process", "sqlite_backup", "sqlite_wal", "node_process", "health_probe", "incident")
    run = play(
        *((module, "after", 0) for module in modules),
        playbook="outage_clean_start",
        clean_start_recovery_modules="auto",
    )
    assert run.rc == 0 and service.healthy()
    assert told(run)["outcome"] == "recovered" and starts(service) == 1
    assert run.recap()["failed"] == 0


def test_a_service_that_recovered_while_its_host_was_lost_is_left_running(
    service: Service, play: Callable[..., Run]
) -> None:
    run = play(("node_process", "during", 0), outage_recover_reconnect=0, outage_recover_first_response=False)
    assert run.rc == 0 and service.healthy()
    assert [(each["rung"], each["held"]) for each in told(run)["rungs_tried"]] == [("restart", True)]
    assert starts(service) == 1


def test_a_lost_host_is_reported_as_unreachable(service: Service, play: Callable[..., Run]) -> None:
    run = play(("node_process", "during", 600), outage_recover_reconnect=2, outage_recover_first_response=False)
    assert run.rc == 2
    document = told(run)
    assert document["outcome"] == "unreachable"
    assert "UNREACHABLE" in run.screen and "RECOVERED" not in run.screen
    assert "restart failed" not in run.screen and "nothing was changed" not in run.screen


def test_a_rung_that_never_started_is_tried_again(service: Service, play: Callable[..., Run]) -> None:
    settings = {"outage_recover_first_response": False, "outage_recover_reconnect": 0, "verification_deadline": 2}
    run = play(("node_process", "before", 0), **settings)
    assert run.rc == 0 and service.healthy()
    assert [(each["rung"], each["held"]) for each in told(run)["rungs_tried"]] == [
        ("restart", False),
        ("restart", True),
    ]
    assert starts(service) == 1


def test_without_a_limit_the_host_is_given_up_immediately(service: Service, play: Callable[..., Run]) -> None:
    run = play(("first_response", "before", 600), outage_recover_reconnect=0)
    assert run.rc == 2 and told(run)["outcome"] == "unreachable"
