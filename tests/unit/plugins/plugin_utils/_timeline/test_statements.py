# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statements that a run is allowed to make, as tables of cases. Each statement requires a specific check."""

from __future__ import annotations

import html
import pathlib
import re
import shlex

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_data
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.statements import Facts

ROOT = pathlib.Path(__file__).resolve().parents[5]
EN, JA = catalogue.of("en"), catalogue.of("ja")
BEFORE, MORE, FEWER = {"users": 3, "cmdb": 9}, {"users": 4, "cmdb": 9}, {"users": 2, "cmdb": 9}


def test_the_documented_table_matches_the_code():
    page = (ROOT / "docs" / "statements.md").read_text(encoding="utf-8")
    first, second = page.split("## Data loss")
    assert re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE) == list(statements.VALUES)
    assert sorted(re.findall(r"^\| `(\w+)` \|", second, re.MULTILINE)) == sorted(statements.VALUES["data_loss"])
    reasons = (
        statements.NOT_COUNTED,
        statements.NOT_BEFORE,
        statements.NOT_AFTER,
        statements.STARTED_SINCE,
        statements.RESTARTED_SINCE,
        statements.FEWER_SINCE,
        statements.NOT_COMPARED,
    )
    assert all(f"`{why}`" in second and EN.knows("uncounted", why) and JA.knows("uncounted", why) for why in reasons)
    for name in ("README.md", "docs/architecture.md"):
        assert "statements.md" in (ROOT / name).read_text(encoding="utf-8")


def test_rows_seeded_after_a_recovery_are_no_recovered_rows():
    removal = 'DELETE FROM "incidents" WHERE rowid BETWEEN 1 AND 3;'
    run = {
        "outcome": "recovered",
        "tried": [{}],
        "recovery": {
            "replaced": True,
            "rows_before": {"users": 3, "incidents": 10},
            "rows_after": {"users": 3, "incidents": 0},
            "data_loss": "known",
        },
        "verification": {
            "row_counts": {"users": 3, "incidents": 3},
            "seeded": [{"table": "incidents", "rows": 3, "statement": removal}],
        },
    }
    said = statements.of_run(run)
    assert (said["rows_after"], said["rows_seeded"]) == ({"users": 3}, {"incidents": 3})
    assert (said["rows_seeded_removal"], said["data_loss"]) == ([removal], "known")
    run["verification"]["database"] = {"path": "/srv/it's/itsm.db", "user": "itsm"}
    (command,) = statements.of_run(run)["rows_seeded_removal"]
    assert shlex.split(command) == [
        *("sudo", "-u", "itsm", "sqlite3", "-cmd", ".timeout 5000", "-cmd", "PRAGMA wal_autocheckpoint=0"),
        *("/srv/it's/itsm.db", removal),
    ]
    run["verification"]["database"]["user"] = ""
    assert statements.of_run(run)["rows_seeded_removal"][0].startswith("sqlite3 ")
    # Three seeded rows do not replace ten lost rows, even if the recovery did not report the loss.
    unaware = {**run, "recovery": {**run["recovery"], "data_loss": "none"}}
    unaware["verification"]["row_counts"]["incidents"] = 12
    assert statements.of_run(unaware)["data_loss"] == "suspected"


@pytest.mark.parametrize(
    ("facts", "verdict", "why"),
    [
        pytest.param({}, "unknown", "not_counted", id="no check"),
        pytest.param({"rows_before": BEFORE}, "unknown", "not_after", id="before only"),
        pytest.param({"rows_after": BEFORE}, "unknown", "not_before", id="after only"),
        pytest.param({"rows_before": BEFORE, "rows_after": MORE}, "none", "", id="none is fewer"),
        pytest.param({"rows_before": BEFORE, "rows_after": FEWER}, "suspected", "", id="fewer"),
        pytest.param({"rows_before": BEFORE, "rows_after": {"users": 3}}, "suspected", "", id="a table is gone"),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": MORE, "suspected": True},
            "suspected",
            "",
            id="the database has a reason",
        ),
        pytest.param({"suspected": True}, "suspected", "", id="a reason without counts"),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": BEFORE, "started_since": True},
            "unknown",
            "started_since",
            id="old count",
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": FEWER, "started_since": True}, "suspected", "", id="old count, fewer"
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": FEWER, "rows_from": "last_good"},
            "unknown",
            "fewer_since",
            id="ordinary work",
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": MORE, "rows_from": "last_good"},
            "unknown",
            "written_since",
            id="the service wrote rows after the last good count",
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": FEWER, "lost": True}, "known", "", id="counted by the recovery"
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": FEWER, "lost": True, "suspected": True},
            "suspected",
            "already_lost",
            id="lost by the recovery, and damaged again",
        ),
        pytest.param({"suspected": True, "accepted": True}, "suspected", "accepted", id="accepted by a person"),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": FEWER, "suspected": True, "accepted": True},
            "suspected",
            "",
            id="accepted by a person, and rows lost since",
        ),
        pytest.param(
            {"lost": True, "suspected": True, "accepted": True}, "known", "", id="lost by the recovery, then accepted"
        ),
        pytest.param(
            {"rows_before": BEFORE, "rows_after": MORE, "uncounted": True},
            "unknown",
            "uncounted",
            id="not by the recovery",
        ),
    ],
)
def test_data_loss(facts, verdict, why):
    said = statements.data_loss(Facts(**facts))
    assert (said.value, said.why, said.allowed) == (verdict, why, verdict != "unknown")
    assert said.value in statements.VALUES["data_loss"]


@pytest.mark.parametrize(
    ("said", "loss", "login_failed", "expected"),
    [
        pytest.param({}, None, False, ("unknown", ""), id="nothing known"),
        pytest.param({}, None, True, ("unknown", "not_compared"), id="nothing known, the login failed before"),
        pytest.param({}, "known", True, ("known", ""), id="only the record shows the loss"),
        pytest.param(
            {}, "unknown", True, ("unknown", "uncounted"), id="only the record shows that nothing was counted"
        ),
        pytest.param({"value": "none", "why": ""}, None, True, ("none", ""), id="no row was lost"),
        pytest.param({"value": "none", "why": ""}, "none", False, ("none", ""), id="the record agrees"),
        pytest.param(
            {"value": "none", "why": ""}, "unknown", False, ("unknown", "uncounted"), id="the record overrides"
        ),
        pytest.param({"value": "none", "why": ""}, "known", False, ("known", ""), id="a recovery lost rows"),
        pytest.param({"value": "suspected", "why": ""}, "unknown", False, ("suspected", ""), id="a loss is suspected"),
        pytest.param(
            {"value": "suspected", "why": "accepted"}, None, False, ("suspected", "accepted"), id="accepted by a person"
        ),
        pytest.param(
            {"value": "unknown", "why": "not_after"}, None, True, ("unknown", "not_after"), id="not counted afterwards"
        ),
        pytest.param({"value": "unknown", "why": "not_after"}, "unknown", False, ("unknown", "uncounted"), id="both"),
        pytest.param({"value": "known", "why": ""}, "unknown", False, ("known", ""), id="the timeline shows the loss"),
    ],
)
def test_an_outage_that_ended_without_the_run(said, loss, login_failed, expected):
    told = statements.of_ended_outage({"said": said, "data": {"loss": loss}, "login_failed": login_failed})
    assert (told["data_loss"]["value"], told["data_loss"]["why"]) == expected
    assert told["login_checked"]["value"] == "unknown"
    checked = statements.of_ended_outage({"said": said, "data": {"loss": loss}, "login": "checked"})
    assert checked["login_checked"] == {"value": "yes", "why": ""}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, {}, id="no check"),
        pytest.param(
            {
                "outcome": "recovered",
                "answers": True,
                "login": "checked",
                "started": True,
                "running": True,
                "changed": True,
            },
            {"healthy": "yes", "still_down": "no", "resolved": "yes", "login_checked": "yes", "nothing_started": "no"}
            | {"nothing_changed": "no"},
            id="recovered",
        ),
        pytest.param(
            {"outcome": "recovered", "answers": True, "suspected": True},
            {"healthy": "yes", "still_down": "no", "resolved": "no", "data_loss": "suspected"},
            id="recovered, rows are missing",
        ),
        pytest.param({"outcome": "resolved_manually"}, {"resolved": "unknown"}, id="resolved, without a check"),
        pytest.param(
            {"outcome": "login_failed", "answers": True, "login": "failed"},
            {"healthy": "no", "still_down": "no", "login_checked": "no"},
            id="serves, and the login fails",
        ),
        pytest.param(
            {"outcome": "recovered", "answers": True, "login": "rate limit"},
            {"healthy": "yes", "still_down": "no", "resolved": "yes"},
            id="the login was not tried",
        ),
        pytest.param(
            {"outcome": "not_recovered", "answers": False, "started": False, "running": False, "changed": False},
            {"healthy": "no", "still_down": "yes", "nothing_started": "yes", "nothing_changed": "yes"},
            id="down, and nothing was done",
        ),
        pytest.param(
            {"outcome": "not_recovered", "answers": None, "started": True},
            {"nothing_started": "no"},
            id="started, without a check",
        ),
        pytest.param(
            {"outcome": "not_recovered", "answers": False, "started": False, "running": True},
            {"healthy": "no", "still_down": "yes", "nothing_started": "no"},
            id="started by somebody else",
        ),
        pytest.param(
            {"outcome": "data_in_doubt", "answers": True, "suspected": True, "started": False, "running": True},
            {"healthy": "yes", "still_down": "no", "data_loss": "suspected", "nothing_started": "no"},
            id="answers on a database in doubt",
        ),
        pytest.param(
            {"outcome": "data_in_doubt", "stopped": True, "suspected": True},
            {"healthy": "no", "still_down": "yes", "data_loss": "suspected"},
            id="stopped on a database in doubt",
        ),
    ],
)
def test_statements(facts, expected):
    said = {name: each.value for name, each in statements.decide(Facts(**facts)).items()}
    assert list(said) == list(statements.VALUES)
    assert all(said[name] in values for name, values in statements.VALUES.items())
    not_back = facts.get("outcome") not in ("recovered", "resolved_manually")
    assert {name: value for name, value in said.items() if value != "unknown"} == {
        **({"resolved": "no"} if not_back else {}),
        **{name: value for name, value in expected.items() if value != "unknown"},
    }


def test_seeded_rows_do_not_count_as_rows_after():
    before, after = {"users": 3, "incidents": 0}, {"users": 3, "incidents": 3, "demo": 2, "empty": 0}
    assert statements.rows_seeded(before, after) == {"incidents": 3, "demo": 2}
    assert statements.rows_seeded({}, after) == {}
    run = {
        "outcome": "recovered",
        "tried": [{}],
        "first": {"row_counts": before},
        "verification": {"row_counts": after},
    }
    said = statements.of_run(run)
    assert (said["rows_after"], said["rows_seeded"]) == ({"users": 3, "empty": 0}, {"incidents": 3, "demo": 2})
    assert said["data_loss"] == "none"


DOWN = {"healthy": False, "first": {"row_counts": BEFORE}, "last": {"facts": {"process": {"processes": []}}}}
TRIED = {**DOWN, "tried": [{"rung": "restart"}]}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            {**DOWN, "outcome": "not_recovered"},
            {"still_down": "yes", "data_loss": "unknown", "nothing_started": "yes", "nothing_changed": "yes"},
            id="nothing was tried",
        ),
        pytest.param(
            {**DOWN, "outcome": "not_recovered", "changes": [[], None, {"unit": "x"}]},
            {"still_down": "yes", "nothing_changed": "no"},
            id="only taken over",
        ),
        pytest.param(
            {
                **TRIED,
                "outcome": "recovered",
                "verification": {"verified": True, "row_counts": MORE, "login": "checked"},
            },
            {"healthy": "yes", "still_down": "no", "data_loss": "none", "login_checked": "yes"},
            id="a rung succeeded",
        ),
        pytest.param(
            {**TRIED, "outcome": "not_recovered", "verification": {"verified": False, "serves": False}},
            {"healthy": "no", "still_down": "yes"},
            id="a rung failed its verification",
        ),
        pytest.param(
            {**TRIED, "outcome": "not_recovered", "last": {}, "starts": [{}]},
            {"still_down": "unknown", "nothing_started": "no"},
            id="a rung failed, without a later check",
        ),
        pytest.param(
            {**TRIED, "outcome": "not_recovered"}, {"still_down": "yes"}, id="a rung failed, triage saw no process"
        ),
        pytest.param(
            {**TRIED, "outcome": "unreachable"}, {"healthy": "unknown", "still_down": "unknown"}, id="the host was lost"
        ),
        pytest.param(
            {**TRIED, "clean_start": {"rows_after": BEFORE}, "attempts": [{"started": True}]},
            {"data_loss": "unknown"},
            id="counted before the start only",
        ),
        pytest.param(
            {**TRIED, "clean_start": {"rows_after": BEFORE}, "attempts": [{"started": False}]},
            {"data_loss": "none"},
            id="counted after the checkpoint, not started",
        ),
        pytest.param(
            {"healthy": True, "outcome": "recovered_by_systemd", "last": {"rows_before": BEFORE, "row_counts": MORE}},
            {"healthy": "yes", "resolved": "yes", "data_loss": "unknown"},
            id="systemd was first",
        ),
        pytest.param(
            {
                "healthy": True,
                "outcome": "recovered_by_systemd",
                "first": {"row_counts": MORE},
                "last": {"row_counts": MORE},
            },
            {"resolved": "yes", "data_loss": "unknown"},
            id="systemd was first, without row counts",
        ),
        pytest.param(
            {"healthy": True, "outcome": "data_in_doubt", "suspected": True, "stopped": True, "changes": [True]},
            {"still_down": "yes", "data_loss": "suspected", "nothing_changed": "no"},
            id="stopped in doubt",
        ),
        pytest.param(
            {
                "healthy": False,
                "outcome": "recovered",
                "tried": [{}],
                "verification": {"verified": True, "row_counts": MORE},
                "recovery": {"data_loss": "none", "rows_before": BEFORE, "rows_after": BEFORE},
            },
            {"healthy": "yes", "data_loss": "none"},
            id="database recovered",
        ),
        pytest.param(
            {
                "healthy": False,
                "tried": [{}],
                "recovery": {"data_loss": "unknown", "rows_before": {}, "rows_after": BEFORE},
            },
            {"data_loss": "unknown"},
            id="unknown content of the database",
        ),
        pytest.param(
            {
                "healthy": False,
                "outcome": "not_recovered",
                "tried": [{}],
                "recovery": {"data_loss": "none", "rows_before": BEFORE, "rows_after": BEFORE, "replaced": False},
            },
            {"data_loss": "unknown"},
            id="the announced recovery of the database did not happen",
        ),
        pytest.param(
            {
                "healthy": False,
                "outcome": "not_recovered",
                "tried": [{}],
                "recovery": {"data_loss": "known", "rows_before": BEFORE, "rows_after": FEWER, "replaced": False},
            },
            {"data_loss": "unknown"},
            id="the announced loss did not happen",
        ),
    ],
)
def test_statements_of_a_run(seen, expected):
    said = statements.of_run(seen)
    assert {name: said["statements"][name]["value"] for name in expected} == expected
    assert said["data_loss"] == said["statements"]["data_loss"]["value"]


# Row counts and data loss must be the same in the published outcome, in the model and in the documents.


def told(before, after, loss, **more):
    start = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "run_start"}
    data = {"incident": "INC-1", "outcome": "recovered", "data_loss": loss, "rows_before": before, "rows_after": after}
    event = {"v": 1, "at": "2026-03-02T01:00:09.000Z", "run": "r", "kind": "outcome", "host": "node1"}
    return timeline_incidents.model("INC-1", "node1", [[start, {**event, "data": {**data, **more}}]])


@pytest.mark.parametrize("words_of", [EN, JA])
@pytest.mark.parametrize("loss", ["none", "unknown", "suspected", "known"])
@pytest.mark.parametrize("before", [{}, BEFORE])
@pytest.mark.parametrize("after", [{}, BEFORE, FEWER])
def test_rows_and_data_loss_agree_everywhere(words_of, before, after, loss):
    incident = told(before, after, loss)
    rows, verdict = prose_data.rows(words_of, incident), prose_data.data_loss(words_of, incident)
    counted = bool(before and after)
    assert (verdict == words_of.say("data_loss.none")) == (
        counted and after == BEFORE and loss not in ("suspected", "known")
    )
    if incident.data_loss == "unknown":
        why = {(False, False): "not_counted", (True, False): "not_after", (False, True): "not_before"}
        key = why[(bool(before), bool(after))]
        assert verdict == words_of.say("data_loss.unknown", why=words_of.say(f"uncounted.{key}"))
        assert (rows == words_of.say("not_counted")) == (key == "not_counted")
    document = markdown_report.markdown(words_of, incident)
    assert incident.data_loss == incident.statements["data_loss"]["value"]
    assert document.count(f"{words_of.say('doc.data_loss')}") >= 1
    for text in (
        document,
        html_report.page(words_of, incident),
        "".join(screen_report.summary(words_of, incident, document="")),
    ):
        assert not (words_of.say("data_loss.none") in text and incident.data_loss != "none")


def test_row_counts_of_two_runs_are_compared():
    start = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r1", "kind": "run_start"}
    first = {"v": 1, "at": "2026-03-02T01:00:09.000Z", "run": "r1", "kind": "outcome", "host": "node1"}
    data = {
        "incident": "INC-1",
        "outcome": "not_recovered",
        "data_loss": "unknown",
        "rows_before": BEFORE,
        "rows_after": {},
    }
    again = {**data, "outcome": "recovered", "rows_before": {}, "rows_after": BEFORE}
    runs = [[start, {**first, "data": data}], [{**start, "run": "r2"}, {**first, "run": "r2", "data": again}]]
    incident = timeline_incidents.model("INC-1", "node1", runs)
    assert (incident.rows_before, incident.rows_after, incident.data_loss) == (BEFORE, BEFORE, "none")
    assert prose_data.rows(EN, incident) == "12 in 2 tables before, 12 after"


def test_rows_seeded_after_a_recovery_are_shown_with_the_statement_that_removes_them():
    removal = 'DELETE FROM "incidents" WHERE rowid BETWEEN 1 AND 3;'
    incident = told(
        {"users": 3, "incidents": 10},
        {"users": 3},
        "known",
        rows_seeded={"incidents": 3},
        rows_seeded_removal=[removal],
    )
    assert (incident.rows_after, incident.rows_seeded) == ({"users": 3}, {"incidents": 3})
    assert incident.rows_lost() == {"incidents": (10, 0)}
    assert "not counting rows that the service created at startup: incidents 3" in prose_data.rows(EN, incident)
    for words_of in (EN, JA):
        for text in (
            markdown_report.markdown(words_of, incident),
            html.unescape(html_report.page(words_of, incident)),
            " ".join(" ".join(screen_report.summary(words_of, incident, document="/d/x.md")).split()),
        ):
            assert removal in text.replace("\\", "")


def test_seeded_rows_are_distinguished():
    incident = told({"users": 3, "incidents": 0}, {"users": 3}, "none", rows_seeded={"incidents": 3})
    assert incident.rows_seeded == {"incidents": 3}
    text = "3 in 2 tables before, 3 after, not counting rows that the service created at startup: incidents 3"
    assert prose_data.rows(EN, incident) == text


def of_runs(*outcomes):
    """Return an incident with several runs. `outcomes` contains the data of each run's outcome."""
    start = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "kind": "run_start"}
    event = {"v": 1, "at": "2026-03-02T01:00:09.000Z", "kind": "outcome", "host": "node1"}
    runs = [
        [{**start, "run": f"r{number}"}, {**event, "run": f"r{number}", "data": {"incident": "INC-1", **data}}]
        for number, data in enumerate(outcomes)
    ]
    return timeline_incidents.model("INC-1", "node1", runs)


LOST = {"outcome": "not_recovered", "data_loss": "known", "rows_before": BEFORE, "rows_after": FEWER}
LATER = {"outcome": "not_recovered", "data_loss": "none", "rows_before": FEWER, "rows_after": FEWER}


def test_a_known_loss_is_still_known_in_a_later_run():
    """The later run compares only the remaining rows, so this run cannot detect the loss."""
    incident = of_runs(LOST, LATER)
    assert (incident.data_loss, incident.statements["data_loss"]["why"]) == ("known", "")
    assert prose_data.data_loss(EN, incident) == "YES. The database recovery lost 1 row, according to the row counts"
    assert "FEWER ROWS IN" in prose_data.rows(EN, incident)


def test_new_damage_after_a_known_loss_does_not_hide_it():
    incident = of_runs(LOST, {**LATER, "outcome": "data_in_doubt", "data_loss": "suspected"})
    assert (incident.data_loss, incident.statements["data_loss"]["why"]) == ("suspected", "already_lost")
    assert incident.stated("resolved") == "no"
    assert prose_data.data_loss(EN, incident).endswith("The database recovery has already lost rows")
    # The earlier loss is still known after the new damage has been repaired.
    said = {"statements": {"data_loss": {"value": "suspected", "why": "already_lost"}}}
    damaged = {**LATER, "outcome": "data_in_doubt", "data_loss": "suspected", **said}
    assert of_runs(damaged, LATER).data_loss == "known"


@pytest.mark.parametrize(
    ("loss", "suspected", "expected"),
    [
        ("known", False, ("known", "")),
        ("known", True, ("suspected", "already_lost")),
        ("unknown", False, ("unknown", "uncounted")),
        ("unknown", True, ("suspected", "")),
        ("none", False, ("none", "")),
    ],
)
def test_the_loss_of_a_recovery_is_known_to_later_runs_from_the_record(loss, suspected, expected):
    rows = {"first": {"row_counts": FEWER}, "verification": {"verified": True, "row_counts": FEWER}}
    run = {"outcome": "recovered", "tried": [{}], "data": {"loss": loss}, "suspected": suspected, **rows}
    said = statements.of_run(run)["statements"]
    assert (said["data_loss"]["value"], said["data_loss"]["why"]) == expected
    assert said["resolved"]["value"] == ("no" if suspected else "yes")


@pytest.mark.parametrize("outcome", ["not_recovered", "unreachable", "login_failed"])
def test_a_plan_that_was_not_carried_out_lost_no_rows(outcome):
    plan = {"data_loss": "known", "rows_before": BEFORE, "rows_after": FEWER, "replaced": False}
    said = statements.of_run({"outcome": outcome, "tried": [{}], "recovery": plan})
    assert (said["data_loss"], said["rows_after"]) == ("unknown", {})


SOUND = {"facts": {"database": {"conclusive": True, "problems": []}}}


def test_a_sound_database_after_damage_was_not_counted_before_the_damage():
    """A person replaced a damaged database with a copy, and then ran database_recover.yml or outage_recover.yml."""
    triage = {"row_counts": BEFORE, "rows_before": BEFORE, **SOUND}
    run = {"outcome": "recovered", "tried": [{}], "data": {"unseen": True}, "last": triage}
    kept = {"rows_before": BEFORE, "rows_after": BEFORE, "replaced": False, "data_loss": "none"}
    for seen in ({"first": triage, "verification": {"verified": True, "row_counts": BEFORE}}, {"recovery": kept}):
        said = statements.of_run({**run, **seen})
        assert said["statements"]["data_loss"]["value"] == "unknown", seen
        assert said["rows_from"] == "last_good"
    # The recovery itself counts the rows of the damaged database.
    damaged = {**triage, "facts": {"database": {"conclusive": True, "problems": [{"code": "corrupt"}]}}}
    made = {"rows_before": BEFORE, "rows_after": BEFORE, "replaced": True, "data_loss": "none"}
    said = statements.of_run({**run, "last": damaged, "recovery": made})
    assert said["statements"]["data_loss"]["value"] == "none"


def test_a_database_that_the_first_triage_did_not_find_was_not_counted_before():
    last_good = {"row_counts": FEWER, "rows_before": BEFORE, **SOUND}
    rows = {"first": last_good, "verification": {"verified": True, "row_counts": FEWER}}
    run = {"outcome": "recovered", "tried": [{}], "data": {"unseen": True}, **rows}
    said = statements.of_run(run)
    assert said["statements"]["data_loss"] == {"value": "unknown", "why": "fewer_since"}
    assert (said["rows_before"], said["rows_from"]) == (BEFORE, "last_good")
    said = statements.of_run({**run, "first": {"row_counts": FEWER, **SOUND}})
    assert said["statements"]["data_loss"] == {"value": "unknown", "why": "not_before"}


@pytest.mark.parametrize(("after", "why"), [(FEWER, "fewer_since"), (BEFORE, "written_since")])
def test_rows_that_were_not_counted_before_the_start_are_compared_with_the_last_good_count(after, why):
    verification = {"verified": True, "row_counts": after}
    seen = {"first": {"row_counts": {}, "rows_before": BEFORE}, "verification": verification}
    said = statements.of_run({"outcome": "recovered", "tried": [{}], **seen})
    assert said["statements"]["data_loss"] == {"value": "unknown", "why": why}
    assert (said["rows_before"], said["rows_from"]) == (BEFORE, "last_good")


def test_the_rows_of_a_new_database_are_not_compared():
    last = {"row_counts": BEFORE, "database_replaced": True}
    said = statements.of_run({"outcome": "not_recovered", "first": {"row_counts": BEFORE}, "last": last})
    assert said["rows_replaced"] is True
    incident = told(BEFORE, BEFORE, "suspected", rows_replaced=True)
    assert prose_data.rows(EN, incident) == (
        "12 in 2 tables before. The new database contains none of these rows, but it contains 12 rows created later"
    )
    # In this case, the recovery restored the earlier database.
    recovery = {"rows_before": BEFORE, "rows_after": BEFORE, "replaced": True, "data_loss": "none"}
    said = statements.of_run({"outcome": "recovered", "last": last, "recovery": recovery})
    assert said["rows_replaced"] is False


def test_rows_that_the_recovery_could_not_count_are_not_declared_safe_by_a_later_run():
    by_recovery = {"statements": {"data_loss": {"value": "unknown", "why": "uncounted"}}}
    incident = of_runs({**LOST, "data_loss": "unknown", **by_recovery}, {**LATER, "outcome": "recovered"})
    assert incident.statements["data_loss"] == {"value": "unknown", "why": "uncounted"}
    assert prose_data.data_loss(EN, incident) == (
        "unknown (the database recovery could not determine whether rows were lost)"
    )
    assert "(not everything in the earlier database could be counted)" in prose_data.rows(EN, incident)


def test_a_suspected_loss_is_not_resolved_whatever_the_verdict_says():
    said = {"resolved": {"value": "yes", "why": ""}}
    incident = of_runs({**LATER, "rows_before": BEFORE, "outcome": "recovered", "statements": said})
    assert (incident.data_loss, incident.stated("resolved")) == ("suspected", "no")


@pytest.mark.parametrize(
    ("triage", "started", "changed"),
    [({}, "unknown", "unknown"), ({"findings": [], "started_by_run": "2026-03-02T01:02:03.450Z"}, "no", "no")],
)
def test_a_first_response_is_a_start_that_may_be_unknown(triage, started, changed):
    # The first response checked for processes before it started the service.
    seen = {"outcome": "unreachable", "responded": True, "last": {**triage, "facts": {"process": {"processes": []}}}}
    said = statements.of_run(seen)["statements"]
    assert (said["nothing_started"]["value"], said["nothing_changed"]["value"]) == (started, changed)
