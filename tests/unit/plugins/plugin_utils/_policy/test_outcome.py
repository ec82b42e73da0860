# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome that playbooks publish, which has the same structure for every playbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.modules import incident
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import database_verdict, outcome, verdict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import published_schema
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, published

ROOT = Path(__file__).resolve().parents[5]
RECORD = {
    **{
        "id": "INC-1",
        "lasted": 12.5,
        "outage_seconds": 11.5,
        "notified": [],
        "severity": "emergency",
        "cause": "killed",
    },
    **{"outcome": "resolved_manually", "outage_started_at": "10:00", "detected_at": "10:01", "mitigated_at": "10:02"},
    **{"mitigated_from": "health probe", "mitigated_estimated": False},
}
NOTIFIED = {
    **{"rule": "down", "level": "down", "reason": "It is down"},
    **{"to": ["leader"], "contacts": [], "notified": [{"ok": True}]},
}
WHERE = {
    **{"host": "app01", "service": "itsm", "language": "ja", "timezone": "Asia/Tokyo"},
    **{"reason": "alarm", "ticket": "T-1"},
}
DOWN = {"detection": {"severity": "emergency"}, "tried": [{"rung": "restart", "held": False, "reason": "It fell"}]}


def of_recovery(**changes: Any) -> dict[str, Any]:
    judged = verdict.of_run({**DOWN, **changes})
    return outcome.of_run({**WHERE, "verdict": judged, "record": RECORD, "escalation": NOTIFIED})


def of_database_recovery(**changes: Any) -> dict[str, Any]:
    judged = database_verdict.of_run({"severity": "critical", **changes})
    return outcome.of_run({**WHERE, "verdict": judged, "record": RECORD, "escalation": NOTIFIED})


def of_unreachable_host() -> dict[str, Any]:
    seen = {"record": RECORD, "seconds": "7", "escalation": NOTIFIED, "why": "Connection timed out", "why_message": {}}
    seen["halted"] = ""
    return outcome.of_unreachable_host({**WHERE, **seen})


def of_closed_incident(**changes: Any) -> dict[str, Any]:
    record = {**RECORD, **changes}
    return outcome.of_closed_incident({**WHERE, "record": record, "closed_at": "10:03", "escalation": NOTIFIED})


ALL = [of_recovery, of_database_recovery, of_unreachable_host, of_closed_incident]


CASES = [
    (of_recovery, published.RUN),
    (of_database_recovery, published.RUN),
    (of_unreachable_host, published.UNREACHABLE),
    (of_closed_incident, published.CLOSED),
]
VALIDATOR = jsonschema.Draft202012Validator(published_schema.schema())


@pytest.mark.parametrize(("composed", "case"), CASES)
def test_every_outcome_has_exactly_the_keys_of_the_table(composed: Any, case: str) -> None:
    made = composed()
    assert set(made) == {name for name, key in published.OUTCOME.items() if not key.only or case in key.only}
    VALIDATOR.validate({"outage_recover": {"app01": made}, "outage_incidents": {"INC-1": made}})


def test_an_outcome_without_documents_has_no_other_keys() -> None:
    made = of_recovery()
    failed = outcome.without_documents(made, "It fell", [])
    assert set(failed) == set(made)
    VALIDATOR.validate({"outage_recover": {"app01": failed}})


@pytest.mark.parametrize("composed", ALL)
def test_every_field_reaches_the_timeline(composed: Any) -> None:
    # In the outcome, `halted` is for the next workflow steps. In the timeline, `halted` is recorded with the rung.
    assert set(composed()) - set(allowlist.OUTCOME) == {"halted"}


@pytest.mark.parametrize("composed", ALL)
def test_every_outcome_has_the_common_fields(composed: Any) -> None:
    made = composed()
    assert (made["incident"], made["host"], made["service"]) == ("INC-1", "app01", "itsm")
    assert {"severity", "outcome", "cause", "outage_seconds", "detected_at", "escalation", "remediation"} <= set(made)


def test_a_run_publishes_its_purpose_and_its_statements() -> None:
    made = of_recovery()
    assert (made["reason"], made["ticket"], made["outage_seconds"]) == ("alarm", "T-1", 12.5)
    assert made["data_loss"] == made["statements"]["data_loss"]["value"] == "unknown"


def test_no_statement_is_made_about_an_unreachable_host() -> None:
    made = of_unreachable_host()
    assert (made["outcome"], made["severity"], made["data_loss"], made["mitigated_at"]) == (
        *("unreachable", "unreachable", "unknown"),
        None,
    )
    assert (made["outage_seconds"], made["error"]) == (7.0, "Connection timed out")
    assert made["next_step"].startswith("Connect to the host in another way")


def test_a_closed_incident_makes_no_statement_about_the_data() -> None:
    made = of_closed_incident()
    assert not {"data_loss", "rows_before", "rows_after", "statements", "next_step"} & set(made)
    assert (made["outcome"], made["resolved_at"], made["outage_seconds"]) == ("resolved_manually", "10:03", 11.5)


def test_the_resolution_is_announced_only_to_notified_people() -> None:
    assert of_closed_incident()["escalation"] == {"to": [], "contacts": [], "notified": []}
    told = of_closed_incident(notified=[{"ok": True}])["escalation"]
    assert (told["to"], told["rule"], told["reason"]) == (["leader"], None, None)


ERRORS = [
    (of_recovery, {}, "itsm on app01 is not recovered. Cause: unknown: No cause was found. Next step: "),
    (of_recovery, {"tried": [{"rung": "restart", "serves": True}]}, "itsm on app01 is serving, login failed. Cause: "),
    (
        of_recovery,
        {"lost": "gone"},
        "itsm on app01 is in an unknown state, because its host cannot be reached. Cause: ",
    ),
    (of_database_recovery, {"error": "no method"}, "itsm on app01 is not recovered. Reason: no method. Next step: "),
    (of_database_recovery, {}, "itsm on app01 is not recovered. Reason: the service did not stay up. Next step: "),
]


@pytest.mark.parametrize(("composed", "changes", "words"), ERRORS)
def test_the_error_names_host_state_cause_and_next_step(composed: Any, changes: dict[str, Any], words: str) -> None:
    message = outcome.error_message(composed(**changes))
    assert message.startswith(words)
    assert len(message) > len(words)


def test_the_error_of_an_unreachable_host_has_the_same_label_for_the_next_step() -> None:
    tasks = yaml.safe_load((ROOT / "playbooks" / "tasks" / "host_unreachable.yml").read_text(encoding="utf-8"))
    (told,) = [facts["outage_recover_failed"] for task in tasks if "outage_recover_failed" in (facts := _facts(task))]
    assert told.endswith(". Next step: {{ _outage_recover_reach }}")


def _facts(task: dict[str, Any]) -> dict[str, Any]:
    return dict(task.get("ansible.builtin.set_fact") or {})


OF_BOTH = {"host", "service", "record", "escalation"}
DOCUMENTS = {"language", "timezone"}
STARTED_FOR = {"reason", "ticket"}
HANDED = [
    ("vars/incident.yml", "recovery_outcome", {*OF_BOTH, *STARTED_FOR, "verdict"}),
    (
        *("tasks/host_unreachable.yml", "recovery_unreachable_outcome"),
        {*OF_BOTH, *STARTED_FOR, *DOCUMENTS, "seconds", "why", "why_message", "halted"},
    ),
    ("tasks/publish_closed_incident.yml", "recovery_closed_outcome", {*OF_BOTH, *DOCUMENTS, "closed_at", "cause"}),
]


@pytest.mark.parametrize(("file", "name", "keys"), HANDED)
def test_the_playbook_passes_the_facts_that_are_read(file: str, name: str, keys: set[str]) -> None:
    text = (ROOT / "playbooks" / file).read_text(encoding="utf-8")
    (expression,) = re.findall(rf"\{{\{{((?:(?!\{{\{{).)*?)\| itsm_nexus\.runbook\.{name}\n", text, re.DOTALL)
    assert set(re.findall(r"'(\w+)': ", expression)) == keys


@pytest.mark.parametrize("judged", [verdict.of_run(DOWN), database_verdict.of_run({"severity": "critical"})])
def test_the_record_of_an_incident_takes_every_field_of_a_rung(judged: dict[str, Any]) -> None:
    options = set(incident.UPDATE["attempts"]["options"])
    assert [set(each) - options for each in judged["tried"]] == [set()]


def test_two_incidents_of_a_host_do_not_mix() -> None:
    """set_stats merges values with the same key, so each incident needs its own key."""
    places = [
        *(ROOT / "playbooks" / "tasks").glob("*.yml"),
        ROOT / "roles" / "postmortem" / "tasks" / "main.yml",
    ]
    published = [
        task["ansible.builtin.set_stats"]["data"]
        for path in places
        for task in tasks(yaml.safe_load(path.read_text("utf-8")))
        if "outage_recover" in (task.get("ansible.builtin.set_stats") or {}).get("data", {})
    ]
    assert [set(each) for each in published] == [{"outage_recover", "outage_incidents"}] * 4
    # In check mode, no incident has an ID. The hosts of a run must not have the same key either.
    keys = [re.match(r"\{\{ \{(.+?): ", each["outage_incidents"]) for each in published]
    assert [key and key[1].partition(".")[2] for key in keys] == ["incident or inventory_hostname"] * 4


def tasks(nodes: Any) -> Any:
    """Yield every task in a list, including the tasks inside blocks."""
    for node in nodes:
        yield node
        for part in ("block", "rescue", "always"):
            yield from tasks(node.get(part, []))


class Lazy(dict):
    """A dict that cannot be copied. Newer releases of ansible-core pass such dicts to filters."""

    def __init__(self, *values: Any, whole: bool = False) -> None:
        assert whole, "Direct construction of lazy containers is not supported"
        super().__init__(*values)


def test_an_outage_that_was_not_measured_has_no_length() -> None:
    """In check mode, the incident's record is not written, so the outage has no duration."""
    judged = verdict.of_run({**DOWN, "check_mode": True})
    record = {**RECORD, "lasted": None}
    made = outcome.of_run({**WHERE, "verdict": judged, "record": record, "escalation": NOTIFIED})
    assert made["outage_seconds"] is None
    assert of_recovery()["outage_seconds"] == 12.5


def test_results_of_modules_are_passed_without_a_copy() -> None:
    judged = verdict.of_run({**DOWN, "tried": [Lazy({"rung": "restart"}, whole=True)]})
    notified = Lazy(NOTIFIED, whole=True)
    made = outcome.of_run({**WHERE, "verdict": judged, "record": RECORD, "escalation": notified})
    assert made["escalation"] is notified
