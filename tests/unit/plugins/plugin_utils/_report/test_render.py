# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The documents and the screen summary of an incident, and the files that are written for it."""

from __future__ import annotations

import dataclasses
import html
import json
import pathlib
import re
import shlex

import pytest
import recorded

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    chart,
    document_store,
    prose,
    prose_actions,
    prose_data,
    prose_impact,
    prose_ladder,
    prose_methods,
    prose_notifications,
    prose_steps,
    prose_times,
    screen_hosts,
    screen_layout,
    screen_without_incident,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document as report_document
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, kinds
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

EN, JA = catalogue.of("en"), catalogue.of("ja", "Asia/Tokyo")
ROOT = pathlib.Path(__file__).resolve().parents[5]

HOSTILE = "a|b`c\n# <script>x</script> [l](http://e) ![i](x) *b* _u_ $m$ @team #12 ~~s~~"


def incident(**changes):
    told = timeline_incidents.model(
        "INC-1", "node1", [[{"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "run_start"}]]
    )
    told.times.started_at = "2026-03-02T01:00:00.000Z"
    for name, value in changes.items():
        setattr(told, name, value)
    return told


def rung(name="restart", **changes):
    return incident_model.Rung(
        **{
            "rung": name,
            "held": True,
            "halted": False,
            "serves": None,
            "restored": None,
            "reason": None,
            "messages": {},
            "started_at": None,
            "seconds": 2.0,
            "run": "r",
            **changes,
        }
    )


def step(module="node_process", data=None, **changes):
    return incident_model.Step(
        **{
            "at": "2026-03-02T01:00:05.000Z",
            "run": "r",
            "kind": "task",
            "weight": incident_model.CHANGE,
            "role": "restart",
            "action": f"itsm_nexus.runbook.{module}",
            "task": f"Use {module}",
            "status": "changed",
            "seconds": 1.0,
            "data": data or {},
            "message": None,
            **changes,
        }
    )


def runs(*names):
    return [
        incident_model.Run(name, "outage_recover.yml", None, None, "", "", True, False, None, None) for name in names
    ]


def section(document, title):
    return document[document.index(f"## {title}") :].split("\n## ")[0]


def durations(**seconds):
    return incident_model.Durations(
        **{"outage": None, "detect": None, "mitigate": None, "resolve": None, "uncertain": None, **seconds}
    )


def skip(**changes):
    return incident_model.Skip(
        **{"rung": "restart", "reason": "A package is missing.", "messages": {}, "at": None, "run": "r", **changes}
    )


def remedy(**changes):
    return incident_model.Remedy(
        **{
            "cause": "disk_full",
            "action": "removed old logs",
            "changed": True,
            "failed": False,
            "detail": ["/var/log/itsm/server.log.1"],
            "reason": None,
            "messages": {},
            "seconds": 0.5,
            "run": "r",
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain words, db_path=/srv/a_b.db", "plain words, db_path=/srv/a_b.db"),
        ("a|b`c\nd", "a\\|b\\`c d"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("> a 3 -> 0 > b -->", "&gt; a 3 -> 0 &gt; b --&gt;"),
        ("*x* _y_ [z](u) ~s~ $m$", "\\*x\\* \\_y\\_ \\[z\\](u) \\~s\\~ \\$m\\$"),
        ("@team #12 me@host", "@&#8203;team #&#8203;12 me@host"),
        ("other/name#12 gh-3", "other/name#&#8203;12 gh-&#8203;3"),
        (
            "https://github.com/other/name/issues/1 www.example.com",
            "https:&#8203;//github.com/other/name/issues/1 www&#8203;.example.com",
        ),
    ],
)
def test_escape(text, escaped):
    assert markdown_report.escape(text) == escaped


@pytest.mark.parametrize(
    ("text", "span"), [("a|b\nc", "`a\\|b c`"), ("a`b", "``a`b``"), ("`a``", "``` `a`` ```"), ("", "")]
)
def test_code(text, span):
    assert markdown_report.code(text) == span


def test_text_from_hosts_is_inert_everywhere():
    failed = step("npm_ci", weight=incident_model.FAILURE, task=HOSTILE, status="failed", message=HOSTILE)
    changed = step("npm_ci", {"swapped": True, "reasons": [HOSTILE]})
    finding = {"cause": HOSTILE, "confidence": 0.5, "summary": HOSTILE, "remedy": HOSTILE}
    finding["evidence"] = [{"source": HOSTILE, "text": HOSTILE}]
    document = markdown_report.markdown(
        EN,
        incident(
            host=HOSTILE,
            incident=HOSTILE,
            cause=HOSTILE,
            cause_summary=HOSTILE,
            severity=HOSTILE,
            outcome=HOSTILE,
            error=HOSTILE,
            next_step=HOSTILE,
            evidence=HOSTILE,
            findings=[finding],
            service=HOSTILE,
            login="failed",
            login_error=HOSTILE,
            modules_kept=HOSTILE,
            steps=[failed, changed],
            rungs_tried=[rung(HOSTILE, reason=HOSTILE)],
            rows_before={HOSTILE: 1},
            escalation={"to": [HOSTILE], "notified": [], "reason": HOSTILE},
        ),
    )
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", document.replace("\\`", ""))
    for markup in ("<script", "[l](", "![i](", "@team", " #12"):
        assert markup not in outside_code
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in document.splitlines() if line.startswith("|")}
    assert columns == {4, 5}


def test_all_required_fields_are_present():
    document = markdown_report.markdown(EN, incident())
    titles = re.findall(r"^## (.*)$", document, re.MULTILINE)
    assert [title.split(". ")[0] for title in titles[:7]] == list("1234567")
    assert titles[7:] == ["8. What changed before the failure", "9. Notifications", "10. Evidence"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param({"durations": durations(detect=5.0)}, {"Review the alert thresholds": False}, id="seen soon"),
        pytest.param({"durations": durations(detect=900.0)}, {"Review the alert thresholds": True}, id="seen late"),
        pytest.param({}, {"Review the alert thresholds": True, "Check log rotation": True}, id="nothing known"),
        pytest.param(
            {"findings": [{"cause": "oom_kill"}]},
            {"Consider more memory or disk": True, "Check log rotation": False},
            id="memory",
        ),
        pytest.param(
            {"findings": [{"cause": "disk_full"}]},
            {"Consider more memory or disk": True, "Check log rotation": True},
            id="disk",
        ),
        pytest.param(
            {"findings": [{"cause": "hung", "confidence": 0.9, "remedy": "Read the stacks."}]},
            {"Consider more memory or disk": False, "Read the stacks": True},
            id="neither",
        ),
        pytest.param(
            {"outcome": "recovered", "rungs_tried": [rung()], "durations": durations(detect=5.0)},
            {"Consider automatic recovery": False},
            id="recovered",
        ),
        pytest.param({"outcome": "not_recovered"}, {"Consider automatic recovery": False}, id="not recovered"),
        pytest.param(
            {
                "outcome": "not_recovered",
                "findings": [{"cause": "db_corrupt", "confidence": 0.9, "blocks_start": True}],
            },
            {"Consider automatic recovery": False},
            id="for a person",
        ),
        pytest.param(
            {"findings": [{"cause": "hung"}], "resources": {"log": {"path": "/var/log/x", "size": 3 << 30}}},
            {"Check log rotation": True, "Consider more memory or disk": False},
            id="large log",
        ),
        pytest.param(
            {"findings": [{"cause": "hung"}], "resources": {"memory": {"total": 4 << 30, "available": 1 << 28}}},
            {"Check log rotation": False, "Consider more memory or disk": True},
            id="scarce memory",
        ),
        pytest.param(
            {"findings": [{"cause": "hung"}], "resources": {"disk": [{"mount": "/", "size": 100, "available": 9}]}},
            {"Check log rotation": False, "Consider more memory or disk": True},
            id="scarce disk",
        ),
    ],
)
def test_the_checklist_gives_reasons_from_the_incident(changes, wanted):
    actions = prose_actions.actions(EN, incident(**changes))
    assert [action.title for action in actions[:4]] == [
        "Review the alert thresholds",
        "Consider automatic recovery",
        "Check log rotation",
        "Consider more memory or disk",
    ]
    assert {action.title: action.wanted for action in actions if action.title in wanted} == wanted
    assert all(action.why for action in actions)


def test_a_cause_without_a_remedy_is_listed_as_missing_automation():
    told = incident(
        outcome="not_recovered",
        findings=[{"cause": "disk_full", "confidence": 0.9}],
        remedies=[remedy(reason="remediation_allowed does not include this cause", action=None, changed=False)],
    )
    action = prose_actions.actions(EN, told)[1]
    assert action.wanted
    assert "(disk_full: remediation_allowed does not include this cause)" in action.why
    # If the timeline contains no message IDs, the English text is quoted.
    assert "「remediation_allowed does not include this cause」" in prose_actions.actions(JA, told)[1].why
    told.remedies[0].messages = {"reason": [{"id": "reason.remedy.not_allowed", "values": {}}]}
    assert "許可されていない" in prose_actions.actions(JA, told)[1].why


def test_measurements_are_shown_if_nothing_was_wrong():
    gib = 1 << 30
    disk, memory = [{"mount": "/", "size": 40 * gib, "available": 30 * gib}], {"total": 4 * gib, "available": 3 * gib}
    measured = prose_actions.actions(EN, incident(findings=[], resources={"disk": disk, "memory": memory}))[2:4]
    assert [(action.wanted, "30 GiB of 40 GiB" in action.why) for action in measured] == [(False, True)] * 2
    # If only the disk was measured, the document must not state that there is enough memory.
    half = prose_actions.actions(EN, incident(findings=[], resources={"disk": disk}))[2:4]
    assert [action.wanted for action in half] == [False, True]
    neither = prose_actions.actions(EN, incident(findings=[]))[2:4]
    assert all(action.wanted and "recorded no findings" in action.why for action in neither)


def test_memory_and_disk_are_judged_by_the_free_amount():
    gib = 1 << 30
    resources = {
        "disk": [
            {"mount": "/", "size": 40 * gib, "available": 30 * gib},
            {"mount": "/srv", "size": 8 * gib, "available": gib},
        ],
        "memory": {"total": 4 * gib, "available": 1.5 * gib},
        "log": {"path": "/var/log/itsm/server.log", "size": 2048},
    }
    told = incident(findings=[{"cause": "killed", "confidence": 0.9}], resources=resources)
    why = {action.title: action.why for action in prose_actions.actions(EN, told)}
    assert why["Check log rotation"] == (
        "no full file system was found (1.0 GiB of 8.0 GiB was free on /srv; "
        "the size of /var/log/itsm/server.log was 2.0 KiB)"
    )
    assert why["Consider more memory or disk"] == (
        "memory and disk were sufficient (free memory: 1.5 GiB of 4.0 GiB; 1.0 GiB of 8.0 GiB was free on /srv)"
    )


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (12 << 30, "12 GiB"), (5 << 50, "5,120 TiB")]
)
def test_sizes(size, told):
    assert EN.size(size) == told


def test_an_unlikely_cause_is_not_an_open_item():
    finding = {"cause": "wal_pending", "confidence": 0.2, "remedy": "Leave the WAL alone."}
    assert all("WAL" not in action.title for action in prose_actions.actions(EN, incident(findings=[finding])))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7265, "2 h 1 min"),
    ],
)
def test_duration(seconds, words):
    assert EN.duration(seconds) == words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, "not counted"),
        ({"a": 1200}, {}, "1,200 in 1 table before, not counted after"),
        ({"a": 2, "b": 1}, {"a": 3, "b": 1}, "3 in 2 tables before, 4 after (a +1); no table has fewer rows"),
        (
            {"a": 2},
            {"a": 3, "b": 1, "c": 1, "d": 1},
            "2 in 1 table before, 6 after (a +1, b +1, c +1 and 1 more); no table has fewer rows",
        ),
        ({"a": 2, "b": 1}, {"a": 1}, "3 in 2 tables before, 1 after; FEWER ROWS IN a 2 -> 1 and b 1 -> 0"),
    ],
)
def test_rows(before, after, words):
    assert prose_data.rows(EN, incident(rows_before=before, rows_after=after)) == words


@pytest.mark.parametrize(
    ("loss", "why", "told"),
    [
        ("none", "", False),
        ("unknown", "written_since", False),
        ("unknown", "started_since", True),
        ("suspected", "", True),
    ],
)
def test_that_no_table_has_fewer_rows_is_said_once(loss, why, told):
    of_rows = incident(rows_before={"a": 2}, rows_after={"a": 2}, data_loss=loss, runs=runs("r"))
    of_rows.statements["data_loss"] = {"value": loss, "why": why}
    shown = fields(screen_report.summary(EN, of_rows, document=None))
    assert shown["rows"] == "2 in 1 table before, 2 after" + ("; no table has fewer rows" if told else "")
    assert " ".join(shown.values()).count("no table has fewer rows") <= 1


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        pytest.param(
            {"outcome": "recovered", "rung": "restart", "rungs_tried": [rung()], "data_loss": "none"},
            screen_report.GOOD,
            ["RECOVERED: node1", "restart succeeded", "/d/INC-1.md"],
            id="recovered",
        ),
        pytest.param(
            {
                "outcome": "recovered",
                "service": "itsm-system",
                "rungs_tried": [rung()],
                "steps": [step(data={"stopped": [{"pid": 2308, "signal": "TERM"}], "pids_after": [6994]})],
                "login": "no_password",
                "evidence": "/var/evidence",
                "backup_file": "/app/itsm.db.backup",
                "database_kept": "/app/itsm.db.damaged",
                "modules_kept": "/app/node_modules.previous",
                "escalation": {"to": ["Lead"], "notified": [], "reason": "It fell often."},
            },
            screen_report.GOOD,
            [
                "RECOVERED: itsm-system on node1, incident INC-1",
                "done        restart: stopped pid 2308, started pid 6994\n",
                "login       not checked (no password was given)\n",
                "kept        evidence on the host: /var/evidence\n",
                "database backup on the host: /app/itsm.db.backup\n",
                "damaged database on the host: /app/itsm.db.damaged\n",
                "old node_modules on the host: /app/node_modules.previous\n",
                "reason: It fell often",
            ],
            id="recovered, with all fields",
        ),
        pytest.param(
            {"outcome": "would_recover", "rungs_tried": [rung()], "service": "itsm-system"},
            screen_report.ATTENTION,
            ["nothing changed): itsm-system on node1", "would try   restart", "would do    nothing"],
            id="dry run",
        ),
        pytest.param(
            {
                "outcome": "would_recover",
                "rungs_tried": [rung("database_recovery by salvage")],
                "database": {"healthy": False, "database": {"path": "/copy/itsm.db"}},
            },
            screen_report.ATTENTION,
            ["  database    /copy/itsm.db\n"],
            id="dry run on a database",
        ),
        pytest.param(
            {
                "outcome": "recovered",
                "rungs_tried": [rung("database_recovery by salvage")],
                "database": {"healthy": True, "database": {"path": "/app/itsm.db"}},
            },
            screen_report.GOOD,
            ["  database    /app/itsm.db\n"],
            id="recovered a database",
        ),
        pytest.param(
            {"outcome": "recovered", "rungs_tried": [rung()], "data_loss": "suspected", "next_step": "Call the DBA"},
            screen_report.BAD,
            ["SUSPECTED", "Call the DBA"],
            id="recovered with loss",
        ),
        pytest.param(
            {
                "outcome": "not_recovered",
                "rungs_tried": [
                    rung(held=False, reason="no answer"),
                    rung("standard_recovery", held=False, halted=True),
                ],
                "escalation": {
                    "to": ["Lead", "DBA"],
                    "contacts": ["lead", "dba"],
                    "notified": [
                        {"contact": "lead", "channel": "mail lead@x", "ok": True, "error": ""},
                        {"contact": "dba", "channel": "slack chat.x", "ok": False, "error": "connection refused"},
                    ],
                    "reason": "unknown cause",
                },
                "next_step": "Look at the evidence",
                "statements": {"still_down": {"value": "yes", "why": ""}},
            },
            screen_report.BAD,
            [
                "NOT RECOVERED",
                "restart failed, then standard_recovery ended the recovery",
                "restart: no answer",
                "notified    NOT NOTIFIED, call them: DBA\n",
                "            Lead by mail lead@x; NOT SENT to DBA by slack chat.x: connection refused",
                "next step   Look at the evidence",
                "still down",
            ],
            id="not recovered",
        ),
        pytest.param(
            {
                "outcome": "not_recovered",
                "escalation": {
                    "to": ["Lead"],
                    "contacts": ["lead"],
                    "names": {"lead": "Lead", "dba": "DBA"},
                    "notified": [
                        {"contact": "lead", "channel": "mail lead@x", "ok": True, "error": "", "new": False},
                        {"contact": "dba", "channel": "mail dba@x", "ok": False, "error": "refused", "new": False},
                        {"contact": "dba", "channel": "mail dba@x", "ok": True, "error": "", "new": True},
                    ],
                    "reason": "unknown cause",
                },
            },
            screen_report.BAD,
            ["notified    DBA by mail dba@x. Reason: unknown cause; before this run: Lead by mail lead@x"],
            id="notified by an earlier run",
        ),
        pytest.param({}, screen_report.BAD, ["UNFINISHED", "the run ended before it reached a verdict"], id="killed"),
    ],
)
def test_summary(changes, tone, words):
    told_of = incident(**changes)
    assert screen_report.tone(told_of) == tone
    lines = screen_report.summary(EN, told_of, document="/d/INC-1.md")
    for part in words:
        assert part in "\n".join(lines)
    assert all(len(line) <= screen_layout.WIDTH for line in lines)
    assert all(line[14] != " " for line in lines[1:])


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("drill", recorded.drills())
def test_a_summary_fits_on_a_screen_and_begins_with_the_next_step(drill, language):
    told, spoken = recorded.incident(drill), recorded.SPOKEN[language]
    # A long reason must not push other lines off the screen.
    told.rungs_tried[-1:] = [dataclasses.replace(each, reason="no answer " * 60) for each in told.rungs_tried[-1:]]
    told.error, told.messages = "The command failed: " + "line " * 400, {**told.messages, "error": []}
    lines = screen_report.summary(spoken, told, document=f"/d/{told.incident}.md")
    assert len(lines) <= 24
    # A command is not wrapped, so that it can be copied.
    wide = [line for line in lines if screen_layout.columns(line) > 100]
    assert [line.split()[0] for line in wide] == ["ansible-playbook"] * len(wide)
    back = told.outcome in incident_model.BACK
    assert lines[1].split()[0] == spoken.say("screen.why" if back else "screen.next").split()[0]
    assert lines[-1].endswith(f"/d/{told.incident}.md")
    # If there is no postmortem, no text is truncated.
    whole = " ".join(" ".join(screen_report.summary(spoken, told, document=None)).split())
    assert whole.count("line ") >= 399 and " ..." not in whole
    assert " ..." in " ".join(lines)


@pytest.mark.parametrize("outcome", ["unreachable", "would_recover"])
def test_a_check_shows_errors_of_channels_and_invalid_settings(outcome):
    problem = "escalation_contacts.dba.channels[0].shape is 'telegram': must be one of slack, teams"
    failed = step("fail_settings", data={"problems": [problem]}, weight=incident_model.FAILURE, role="escalation")
    would = [{"name": "DBA", "channel": "chat", "error": "is not set up"}]
    told_of = incident(outcome=outcome, steps=[failed], escalation={"to": ["DBA"], "would": would})
    shown = " ".join(" ".join(screen_report.summary(EN, told_of, document=None, check_mode=True)).split())
    assert "to notify DBA by chat: is not set up" in shown
    assert f"invalid {problem}" in shown
    assert "NOT NOTIFIED" not in shown


def test_each_rung_names_its_run_if_there_are_several():
    told_of = incident(
        runs=runs("r1", "r2", "r3"),
        outcome="recovered",
        rungs_tried=[rung(held=False, reason="no answer", run="r1"), rung(run="r3")],
        steps=[step(data={"pids_after": [1]}, run="r1"), step(data={"pids_after": [3]}, run="r3")],
    )
    screen = "\n".join(screen_report.summary(EN, told_of, document=None))
    earlier, last = "run 1: restart failed; run 2: none tried", "run 3: restart succeeded"
    assert f"rungs       {earlier}\n              {last}\n" in screen
    assert "done        run 3, restart: started pid 3\n" in screen
    assert "pid 1" not in screen
    told = section(markdown_report.markdown(EN, told_of), "5.")
    rungs = "1. **run 1, restart** failed, result after 2.0 s: no answer\n   - started pid 1\n2. **run 3, restart**"
    assert rungs in told
    assert told.endswith("   - started pid 3\n")


@pytest.mark.parametrize(
    ("outage", "uncertain", "text"),
    [
        (1.0, 31.0, "1.0 s, possibly up to 31 s longer"),
        (1.0, 0.7, "1.0 s"),
        (100.0, 1.5, "1 min 40 s"),
        (1.0, None, "1.0 s"),
    ],
)
def test_a_short_outage_says_how_much_longer_it_may_have_been(outage, uncertain, text):
    told = incident(outcome="recovered", durations=durations(outage=outage, uncertain=uncertain))
    assert prose_times.lasted(EN, told) == text


@pytest.mark.parametrize(
    ("module", "data", "status", "label"),
    [
        ("sqlite_restore", {}, "ok", "各復旧方法で戻るデータと失われるデータを算出"),
        ("sqlite_restore", {}, "changed", "データベースを復旧"),
        ("sqlite_restore", {}, "failed", "データベースの復旧処理"),
        ("service_hold", {"state": "held"}, "ok", "起動保留の状態を確認"),
        ("service_hold", {"state": "held"}, "changed", "起動保留を設定"),
        ("service_hold", {"state": "released"}, "changed", "起動保留を解除"),
        ("service_hold", {"state": "any"}, "changed", "起動保留を変更"),
        ("service_hold", {}, "changed", "起動保留を変更"),
    ],
)
def test_a_label_names_what_the_module_did(module, data, status, label):
    done = step(module, {"rows_after": {"users": 1}, **data}, status=status)
    assert prose_steps._name(JA, done) == label


def test_a_release_is_named_in_the_list_of_runs():
    told_of = incident(runs=runs("r1", "r2", "r3"), rungs_tried=[rung(held=False, run="r1"), rung(run="r3")])
    told_of.runs[1].released = True
    screen = "\n".join(screen_report.summary(EN, told_of, document=None))
    assert "rungs       run 1: restart failed; run 2: only the hold was released\n" in screen
    assert "run 2: only the hold was released; run 3: restart succeeded" in markdown_report.markdown(EN, told_of)
    alone = incident(runs=runs("r1"), rung=None, rungs_tried=[])
    alone.runs[0].released = True
    assert prose_ladder.by_run(EN, alone) == ["only the hold was released"]


def test_of_many_earlier_runs_only_the_latest_are_shown():
    names = [f"r{number}" for number in range(1, 9)]
    told_of = incident(runs=runs(*names), rungs_tried=[rung(held=False, run=run) for run in names])
    screen = "\n".join(screen_report.summary(EN, told_of, document="/d/INC-1.md"))
    earlier = "4 earlier runs; run 5: restart failed; run 6: restart failed; run 7: restart failed"
    assert f"rungs       {earlier}\n              run 8: restart failed\n" in screen
    # If there is no postmortem, all runs are shown.
    assert "run 1: restart failed" in "\n".join(screen_report.summary(EN, told_of, document=None))


def test_changes_are_listed_under_their_rung():
    told_of = incident(
        rungs_tried=[
            rung(held=False, started_at="2026-03-02T01:00:01.000Z"),
            rung(started_at="2026-03-02T01:00:04.000Z"),
            rung("database_recovery by salvage"),
        ],
        steps=[
            step(data={"pids_after": [1]}, at="2026-03-02T01:00:02.000Z"),
            step(data={"pids_after": [2]}),
            step(data={"pids_after": [3]}, role="database_recovery"),
            step(data={"pids_after": [4]}, role=None),
            step("notify_mail", role="escalation"),
            step(weight=incident_model.DETAIL),
        ],
    )
    assert [(climb.rung and climb.rung.rung, climb.facts) for climb in prose_ladder.climbs(EN, told_of)] == [
        ("restart", ["started pid 1"]),
        ("restart", ["started pid 2"]),
        ("database_recovery by salvage", ["started pid 3"]),
        (None, ["started pid 4"]),
    ]


@pytest.mark.parametrize(
    ("module", "data", "words"),
    [
        ("node_process", {"stopped": [{"pid": 1, "signal": "systemd"}], "pids_before": [1]}, "stopped pid 1"),
        (
            "node_process",
            {"stopped": [{"pid": 1, "signal": "KILL", "seconds": 30.0}], "pids_before": [1], "pids_after": [2]},
            "stopped pid 1 with SIGKILL after 30 s, started pid 2",
        ),
        ("node_process", {"state": "started", "pids_before": [7]}, "the service would be restarted (pid 7)"),
        ("node_process", {"state": "started", "pids_before": []}, "the service would be started"),
        ("node_process", {"state": "stopped", "pids_before": [7]}, "the service would be stopped"),
        ("node_process", {"state": "stopped", "pids_before": []}, "stopped"),
        ("npm_ci", {"swapped": True, "reasons": ["express is missing."]}, "dependencies rebuilt: express is missing"),
        ("npm_ci", {"needed": False}, "Use npm_ci"),
        ("knex_migrate", {"applied": ["1.js", "2.js"]}, "migrations applied: 1.js and 2.js"),
        ("sqlite_backup", {"backup_file": "/app/itsm.db.backup_1"}, "database backed up as itsm.db.backup_1"),
        (
            "sqlite_backup",
            {"evidence_dir": "/e/INC-1/itsm.db.evidence_1"},
            "database files copied as itsm.db.evidence_1",
        ),
        ("sqlite_wal", {"frames_committed": 2}, "2 frames of the WAL checkpointed into the database"),
        ("sqlite_wal", {"frames_committed": 0}, "Use sqlite_wal"),
    ],
)
def test_a_change_is_stated_as_a_plain_fact(module, data, words):
    assert prose_steps.deed(EN, step(module, data)) == words


@pytest.mark.parametrize(
    ("data", "japanese"),
    [
        ({"state": "started", "pids_before": []}, "サービスを起動する予定"),
        ({"state": "restarted", "pids_before": [7]}, "サービスを再起動する予定（PID 7）"),
        ({"state": "stopped", "pids_before": [7]}, "サービスを停止する予定"),
    ],
)
def test_a_planned_start_or_stop_is_an_action(data, japanese):
    assert prose_steps.deed(JA, step(data=data)) == japanese


def test_a_plan_states_which_data_would_be_lost():
    data = {"method": "empty", "reason": "confirmed", "statement": "all"}
    restored = step("sqlite_restore", data)
    assert "; would be lost: " in prose_steps.deed(EN, restored, planned=True)
    assert "失われるデータ：" in prose_steps.deed(JA, restored, planned=True)
    assert "失われたデータ：" in prose_steps.deed(JA, restored)
    # The summary also lists the methods, with the loss of each one.
    listed = step("sqlite_restore", {**data, "plan": [{"method": "empty", "possible": True}]})
    assert prose_steps.deed(EN, listed, planned=True).endswith(
        "confirmed; for the data that would be lost, see the method marked CHOSEN"
    )
    assert "「選択」と表示された方法" in prose_steps.deed(JA, listed, planned=True)
    assert "; lost: " in prose_steps.deed(EN, listed)


def test_an_existing_state_is_explained():
    done = step(
        data={"state": "stopped"}, status="ok", weight=incident_model.DETAIL, task="Bring it to the state asked for"
    )
    assert prose_steps.happened(EN, done) == "Already stopped"


def test_a_name_is_never_capitalized():
    assert JA.sentence("systemd のユニットがない") == "systemd のユニットがない。"
    assert JA.lines("ansible で実行する：\nx")[0] == "ansible で実行する："
    assert EN.sentence("known_hosts contains no key") == "known_hosts contains no key."
    assert EN.sentence("systemd refuses the start") == "systemd refuses the start."
    assert EN.sentence("the service answers") == "The service answers."


def test_the_name_of_a_contact_is_never_capitalized():
    escalation = {"to": ["anna"], "names": {"lead": "anna"}, "rule": "long_outage", "reason": "It is down."}
    sent_by = {"contact": "lead", "channel": "mail", "ok": True, "level": "long_outage", "new": True}
    told = incident(escalation={**escalation, "notified": [sent_by]})
    assert prose_notifications.sentence(EN, told).startswith("anna by mail")
    nobody = incident(escalation={"to": [], "rule": "record_only", "reason": "It recovered."})
    assert prose_notifications.sentence(EN, nobody).startswith("Nobody ")


def test_items_without_work_have_no_checkbox():
    told_of = incident(
        durations=durations(detect=5.0), findings=[{"cause": "hung", "confidence": 0.9, "remedy": "Read."}]
    )
    told_of.outcome = "not_recovered"
    lines = section(markdown_report.markdown(EN, told_of), "6.").splitlines()[2:-1]
    assert "[x]" not in "".join(lines)
    assert "- [ ] Read (not confirmed as fixed: hung)" in lines
    assert "- Check log rotation (not needed): no full file system was found" in lines
    assert lines == sorted(lines, key=lambda line: not line.startswith("- [ ] "))


TOLD = {
    "to": ["project leader", "DBA"],
    "contacts": ["project_leader", "dba"],
    "rule": "not_recovered",
    "notified": [
        {
            "level": "not_recovered",
            "contact": "project_leader",
            "channel": "mail",
            "at": "2026-03-02T01:02:00.000Z",
            "ok": True,
        },
        {
            "contact": "dba",
            "channel": "pager|duty",
            "at": "2026-03-02T01:03:00.000Z",
            "ok": False,
            "error": "no *answer*.",
        },
    ],
}


def test_each_notification_attempt_is_listed():
    document = markdown_report.markdown(EN, incident(escalation=TOLD))
    told = section(document, "9. Notifications")
    assert "| 2026-03-02T01:02:00.000Z | project leader | mail | notified (not recovered) |" in told
    assert "| 2026-03-02T01:03:00.000Z | DBA | pager\\|duty | NOT SENT: no \\*answer\\* |" in told
    assert "- Notified: NOT NOTIFIED, call them: DBA; project leader by mail; NOT SENT to DBA by pager" in document
    told = section(markdown_report.markdown(JA, incident(escalation=TOLD)), "9. 連絡先と通知状況")
    assert (
        "| 2026-03-02T01:02:00.000Z | 2026-03-02 10:02:00 | プロジェクトリーダー | mail | 通知済み（未復旧） |" in told
    )
    assert "|" not in section(markdown_report.markdown(EN, incident()), "9. Notifications")


def sent(level, contact, channel="mail x", *, new=True, error=""):
    ok, at = not error, "2026-03-02T01:02:00.000Z"
    about = {"level": level, "contact": contact, "channel": channel, "at": at}
    return {**about, "ok": ok, "error": error, "new": new}


EARLIER = sent("not_recovered", "lead", new=False)
GONE = "it is no longer set in escalation_contacts"


@pytest.mark.parametrize(
    ("rule", "to", "notified", "english", "japanese"),
    [
        pytest.param(
            "not_recovered",
            ["Lead"],
            [EARLIER],
            "nobody in this run: all contacts already have this message or a more urgent one; "
            "before this run: Lead by mail x (not recovered, 2026-03-02 01:02:00 UTC)",
            "この実行では通知なし（同じ通知、またはより緊急の通知を送信済みのため）。"
            "Lead（mail x）（未復旧、2026年03月02日 10:02:00 JST）には以前の実行で通知済み",
            id="nothing new",
        ),
        pytest.param(
            "record_only",
            [],
            [EARLIER, sent("resolved", "lead", new=False)],
            "nobody in this run (It is recorded); before this run: "
            "Lead by mail x (not recovered, 2026-03-02 01:02:00 UTC) and "
            "Lead by mail x (resolved, 2026-03-02 01:02:00 UTC)",
            None,
            id="this run has decided to notify nobody",
        ),
        pytest.param(
            "record_only",
            [],
            [EARLIER, sent("our_own", "dba", new=False), sent("resolved", "lead")],
            "resolved: Lead by mail x. Reason: It is recorded; "
            "before this run: DBA by mail x (our_own, 2026-03-02 01:02:00 UTC)",
            None,
            id="a message that is not about an outage, and a level of the inventory",
        ),
        pytest.param(
            "record_only",
            [],
            [EARLIER, sent("resolved", "lead", error=GONE)],
            f"NOT NOTIFIED that the outage is over, call them: Lead (mail x: {GONE}); "
            "nobody in this run (It is recorded); "
            "before this run: Lead by mail x (not recovered, 2026-03-02 01:02:00 UTC)",
            f"停止の終了を未通知（要連絡）：Lead（mail x：{GONE}）。"
            "この実行では通知なし（復旧したため、ログ記録のみ）。"
            "Lead（mail x）（未復旧、2026年03月02日 10:02:00 JST）には以前の実行で通知済み",
            id="not notified of the end",
        ),
        pytest.param(
            "record_only",
            [],
            [EARLIER, sent("resolved", "lead", "chat", error=GONE), sent("resolved", "lead")],
            f"resolved: Lead by mail x; NOT SENT to Lead by chat: {GONE}. Reason: It is recorded",
            None,
            id="notified of the end through another channel",
        ),
        pytest.param(
            "record_only",
            [],
            [sent("resolved", "lead", new=False), sent("resolved", "lead", "chat", error=GONE)],
            f"NOT SENT to Lead by chat: {GONE}. Reason: It is recorded; "
            "before this run: Lead by mail x (resolved, 2026-03-02 01:02:00 UTC)",
            None,
            id="an earlier run has notified of the end through another channel",
        ),
        pytest.param(
            "repeated_restarts",
            ["Lead"],
            [sent("resolved", "lead", "chat", error=GONE), sent("repeated_restarts", "lead")],
            f"Lead by mail x; NOT SENT to Lead by chat: {GONE}. Reason: It is recorded",
            None,
            id="another message of this run says that the service is back",
        ),
        pytest.param(
            "repeated_restarts",
            ["Lead"],
            [sent("resolved", "lead")],
            "resolved: Lead by mail x. The message also says: It is recorded",
            "Lead（mail x）に通知済み（解決）。通知には次の理由も記載：復旧の実行によるサービスの起動が、"
            "全インシデントの合計で基準の回数に達したため",
            id="the reason of the rule is not the reason for the message about the end",
        ),
    ],
)
def test_each_message_is_shown_with_its_time(rule, to, notified, english, japanese):
    names = {"lead": "Lead", "dba": "DBA"}
    escalation = {"rule": rule, "to": to, "names": names, "notified": notified, "reason": "It is recorded."}
    told = incident(outcome="recovered", escalation=escalation)
    assert prose_notifications.whom(EN, told) == english
    if japanese:
        assert prose_notifications.whom(JA, told) == japanese


BEFORE = "before this run: Lead by mail x (login failed, 2026-03-02 01:02:00 UTC)"
NOBODY_NOW = "nobody in this run"
UNKNOWN_NOW = "unknown for this run, because it ended without recording a notification"


@pytest.mark.parametrize(
    ("outcome", "steps", "english"),
    [
        ("login_failed", [], NOBODY_NOW),
        ("unfinished", [], UNKNOWN_NOW),
        ("login_failed", [step("notify_mail", role="escalation")], UNKNOWN_NOW),
        # A custom channel may use any module.
        ("login_failed", [step(role="escalation", action="ansible.builtin.uri", status="ok")], UNKNOWN_NOW),
        # The settings are validated before a message is sent.
        ("login_failed", [step("fail_settings", role="escalation", status="failed")], NOBODY_NOW),
        ("login_failed", [step(role="escalation", action="ansible.builtin.set_fact", status="failed")], NOBODY_NOW),
    ],
)
def test_a_run_without_a_verdict_shows_the_notifications_of_earlier_runs(outcome, steps, english):
    entry = {**sent("login_failed", "lead", new=False), "at": "2026-03-02T01:02:00.000Z"}
    escalation = {"names": {"lead": "Lead"}, "notified": [entry]}
    told = incident(outcome=outcome, runs=runs("r"), steps=steps, escalation=escalation)
    assert prose_notifications.whom(EN, told) == f"{english}; {BEFORE}"
    assert ("通知なし" in prose_notifications.whom(JA, told)) is (english == NOBODY_NOW)
    assert prose_notifications.would_tell(EN, told) == ["not determined, because the run ended early"]


@pytest.mark.parametrize(
    ("outcome", "notified", "call", "english", "japanese"),
    [
        (
            "login_failed",
            [sent("login_failed", "lead", new=False), sent("login_failed", "dba", new=False, error="no answer")],
            "NOT NOTIFIED, call them: DBA",
            f"{NOBODY_NOW}; {BEFORE}",
            "未通知（要連絡）：DBA。この実行では通知なし。",
        ),
        (
            "login_failed",
            [sent("login_failed", "dba", new=False, error="no answer")],
            "NOT NOTIFIED, call them: DBA",
            NOBODY_NOW,
            "未通知（要連絡）：DBA。この実行では通知なし",
        ),
        ("login_failed", [], "NOT NOTIFIED, call them: DBA", NOBODY_NOW, "未通知（要連絡）：DBA。この実行では通知なし"),
        (
            "unfinished",
            [],
            "NOT NOTIFIED before this run, call them: DBA",
            UNKNOWN_NOW,
            "以前の実行では未通知（要連絡）：DBA。この実行については不明",
        ),
    ],
)
def test_a_run_without_a_verdict_names_the_contacts_to_call(outcome, notified, call, english, japanese):
    escalation = {"names": {"lead": "Lead", "dba": "DBA"}, "notified": notified, "unreached": ["DBA"]}
    told = incident(outcome=outcome, runs=runs("r"), escalation=escalation)
    assert prose_notifications.calls(EN, told) == [call]
    assert prose_notifications.whom(EN, told) == f"{call}; {english}"
    assert prose_notifications.whom(JA, told).startswith(japanese)
    assert call in "\n".join(screen_report.summary(EN, told, document=None))


def test_a_killed_run_shows_the_notifications_that_it_recorded():
    """The rest of the run is unknown. Earlier notifications of the same contact are not listed again."""
    notified = [EARLIER, sent("login_failed", "lead"), sent("login_failed", "dba", "chat", error="no answer")]
    escalation = {"names": {"lead": "Lead", "dba": "DBA"}, "notified": notified, "unreached": ["DBA"]}
    told = incident(outcome="unfinished", runs=runs("r"), escalation=escalation)
    assert prose_notifications.whom(EN, told) == (
        "NOT NOTIFIED, call them: DBA; Lead by mail x; NOT SENT to DBA by chat: no answer; "
        "it is unknown whether this run notified other contacts"
    )
    assert prose_notifications.whom(JA, told).endswith("この実行でほかの連絡先にも通知したかは不明")


FAILED_NOW = sent("login_failed", "dba", "chat", error="no answer")
FAILED_BEFORE = sent("login_failed", "dba", new=False, error="no answer")


@pytest.mark.parametrize(
    ("outcome", "notified", "unreached", "english", "japanese"),
    [
        pytest.param(
            "unfinished",
            [FAILED_NOW],
            ["DBA"],
            ["NOT NOTIFIED, call them: DBA"],
            ["未通知（要連絡）：DBA"],
            id="only in the killed run",
        ),
        pytest.param(
            "unfinished",
            [FAILED_BEFORE, FAILED_NOW],
            ["DBA"],
            ["NOT NOTIFIED, call them: DBA"],
            None,
            id="in an earlier run and again in the killed run",
        ),
        pytest.param(
            "unfinished",
            [FAILED_BEFORE],
            ["DBA"],
            ["NOT NOTIFIED before this run, call them: DBA"],
            ["以前の実行では未通知（要連絡）：DBA"],
            id="only in an earlier run",
        ),
        pytest.param(
            "unfinished",
            [FAILED_NOW],
            ["Lead", "DBA"],
            ["NOT NOTIFIED, call them: DBA", "NOT NOTIFIED before this run, call them: Lead"],
            ["未通知（要連絡）：DBA", "以前の実行では未通知（要連絡）：Lead"],
            id="each contact in another run",
        ),
        pytest.param(
            "login_failed",
            [FAILED_BEFORE],
            ["Lead", "DBA"],
            ["NOT NOTIFIED, call them: Lead and DBA"],
            None,
            id="a complete run notified nobody",
        ),
    ],
)
def test_a_failed_notification_belongs_to_the_run_that_tried_it(outcome, notified, unreached, english, japanese):
    escalation = {"names": {"lead": "Lead", "dba": "DBA"}, "notified": notified, "unreached": unreached}
    told = incident(outcome=outcome, runs=runs("r"), escalation=escalation)
    assert prose_notifications.calls(EN, told) == english
    if japanese:
        assert prose_notifications.calls(JA, told) == japanese


OVER = f"NOT NOTIFIED that the outage is over, call them: Lead (mail x: {GONE})"


@pytest.mark.parametrize(
    ("outcome", "steps", "calls"),
    [
        ("recovered", [], [OVER]),
        ("resolved_manually", [], [OVER]),
        ("warning", [], [OVER]),
        ("healthy", [], [OVER]),
        # The service is down again.
        ("not_recovered", [], []),
        ("login_failed", [], []),
        ("unfinished", [], []),
        # The last run was killed, so the last verdict decides.
        ("unfinished", ["not_recovered", "recovered"], [OVER]),
        ("unfinished", ["recovered", "not_recovered"], []),
        ("not_recovered", ["recovered"], []),
    ],
)
def test_contacts_are_called_about_the_end_only_if_the_outage_is_over(outcome, steps, calls):
    verdicts = [step(kind="outcome", action="set_stats", data={"outcome": each}) for each in steps]
    notified = [EARLIER, sent("resolved", "lead", new=False, error=GONE)]
    told = incident(outcome=outcome, steps=verdicts, escalation={"names": {"lead": "Lead"}, "notified": notified})
    assert prose_notifications.calls(EN, told) == calls
    came = f"NOT NOTIFIED that the outage is over: {GONE}" if calls else f"NOT SENT: {GONE} (resolved)"
    assert prose_notifications.tellings(EN, told)[-1].came == came


KILLED = [{"v": 1, "at": "2026-03-02T01:05:00.000Z", "run": "killed", "kind": "run_start"}]


def in_killed_run(module, data, status="ok"):
    at, action = "2026-03-02T01:06:00.000Z", f"itsm_nexus.runbook.{module}"
    known = {"v": 1, "at": at, "run": "killed", "kind": "task", "host": "node1", "role": "restart"}
    return {**known, "action": action, "task": f"Use {module}", "status": status, "data": data}


FOUND_DOWN = in_killed_run("health_probe", {"healthy": False, "severity": "emergency"})
FOUND_UP = in_killed_run("health_probe", {"healthy": True, "severity": "ok"})
LOGIN_REFUSED = in_killed_run("health_probe", {"healthy": False, "severity": "critical", "login": {"ok": False}})
STARTED = in_killed_run("node_process", {"pids_after": [7]}, "changed")
STOPPED = in_killed_run("node_process", {"pids_after": []}, "changed")


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        pytest.param([], [OVER], id="nothing checked"),
        pytest.param([FOUND_UP], [OVER], id="up"),
        pytest.param([LOGIN_REFUSED], [OVER], id="up, login failed"),
        pytest.param([FOUND_DOWN], [], id="down"),
        pytest.param([FOUND_DOWN, STARTED], [], id="down, started, not checked again"),
        pytest.param([FOUND_DOWN, STARTED, FOUND_UP], [OVER], id="down, recovered"),
        pytest.param([FOUND_UP, STOPPED], [], id="up, stopped"),
    ],
)
def test_a_killed_run_that_found_the_service_down_does_not_say_that_the_outage_is_over(events, calls):
    notified = [EARLIER, sent("resolved", "lead", error=GONE)]
    data = {"outcome": "recovered", "escalation": {"names": {"lead": "Lead"}, "notified": notified}}
    verdict = {"v": 1, "at": "2026-03-02T01:02:00.000Z", "run": "r", "kind": "outcome", "host": "node1", "data": data}
    told = timeline_incidents.model("INC-1", "node1", [[verdict], [*KILLED, *events]])
    assert prose_notifications.calls(EN, told) == calls


@pytest.mark.parametrize(("new", "calls"), [(True, [OVER]), (False, [])])
def test_without_a_verdict_only_a_message_of_the_last_run_shows_that_the_outage_is_over(new, calls):
    notified = [EARLIER, sent("resolved", "lead", new=new, error=GONE)]
    escalation = {"names": {"lead": "Lead"}, "notified": notified}
    # A playbook that only includes the escalation role has a result, but no outcome.
    told = incident(outcome="unfinished", steps=[step(kind="outcome", action="set_stats")], escalation=escalation)
    assert prose_notifications.calls(EN, told) == calls


def test_a_failed_message_about_the_end_is_named_if_the_outage_is_not_over():
    escalation = {"to": [], "names": {"lead": "Lead"}, "notified": [EARLIER, sent("resolved", "lead", error=GONE)]}
    told = incident(outcome="not_recovered", escalation=escalation)
    assert prose_notifications.whom(EN, told).startswith(f"NOT SENT to Lead by mail x: {GONE}; before this run: Lead")


def test_a_contact_who_does_not_know_of_the_end_is_in_the_document():
    escalation = {"rule": "record_only", "to": [], "notified": [sent("resolved", "lead", error=GONE)]}
    document = markdown_report.markdown(EN, incident(outcome="recovered", escalation=escalation))
    assert f"| lead | mail x | NOT NOTIFIED that the outage is over: {GONE} |" in document


def test_a_recovery_that_notifies_nobody_is_said_once():
    escalation = {"rule": "record_only", "to": [], "reason": "The service recovered. The incident is recorded."}
    told = incident(outcome="recovered", escalation=escalation)
    whom = fields(screen_report.summary(EN, told, document=None))["notified"]
    assert whom == "nobody (The service recovered. The incident is recorded)"
    assert prose_notifications.whom(JA, told).count("記録のみ") == 1


def test_starter_and_ticket_are_shown():
    document = markdown_report.markdown(EN, incident(reason="An *alert* of Prometheus.", ticket="INC-4711"))
    assert "Started because: An \\*alert\\* of Prometheus." in section(document, "2.")
    assert "- Ticket: INC-4711" in document
    document = markdown_report.markdown(EN, incident())
    assert "Started because" not in document and "Ticket" not in document


def test_the_first_reason_and_the_last_ticket_are_shown():
    def run(name, **verdict):
        common = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": name}
        data = kinds.pick(allowlist.OUTCOME, {"outcome": "not_recovered", "reason": "", "ticket": "", **verdict})
        return [{**common, "kind": "run_start"}, {**common, "kind": "outcome", "host": "node1", "data": data}]

    told = timeline_incidents.model(
        "INC-1", "node1", [run("a", reason="The phone rang"), run("b", ticket="T-1"), run("c")]
    )
    assert (told.reason, told.ticket) == ("The phone rang", "T-1")


def test_an_intended_failure_of_a_playbook_is_not_listed():
    seen = step("health_probe", {"healthy": False}, weight=incident_model.DECISION, role="verification", status="ok")
    fails = step(weight=incident_model.FAILURE, role="verification", status="failed", action="ansible.builtin.fail")
    elsewhere = step(weight=incident_model.FAILURE, role="restart", status="failed", action="ansible.builtin.fail")
    speaks = step(
        weight=incident_model.FAILURE, role="verification", status="failed", action="ansible.builtin.fail", message="!"
    )
    assert prose_steps.short([seen, fails]) == [seen]
    assert prose_steps.short([fails, seen]) == [fails, seen]
    assert prose_steps.short([seen, elsewhere]) == [seen, elsewhere]
    assert prose_steps.short([seen, speaks]) == [seen, speaks]


def test_an_unreachable_host_is_not_reported_as_down():
    why = "the host cannot be reached: no route."
    lost = incident(
        outcome="unreachable",
        source="verdict",
        severity="unreachable",
        cause="unreachable",
        cause_summary=why,
        error=why,
        probe={"healthy": False, "severity": "unreachable"},
        durations=durations(outage=4.0, detect=1.0),
        steps=[step("health_probe", {"healthy": False}, role="detection", weight=incident_model.DECISION)],
    )
    document = markdown_report.markdown(EN, lost)
    assert "- Outage: unknown; the playbook has had no access to the host for 4.0 s" in document
    assert "- No access since: 2026-03-02 01:00:00 UTC" in document
    assert (
        "By a run of this playbook that had no access to the host (the host cannot be reached: no route)."
        in section(document, "2.")
    )
    assert "Outage began" not in document and "still down" not in document and "stopped by an error" not in document
    assert "section Service" not in document and "gantt" in document
    assert "| First healthy response | none yet |" in document
    assert "- Consider automatic recovery (not needed)" in document
    screen = "\n".join(screen_report.summary(EN, lost, document="x"))
    assert "still down" not in screen and screen.count("no route") == 1
    assert [bar.tone for bar in chart.service(lost)] == [chart.UNSURE]
    assert "停止中" not in markdown_report.markdown(JA, lost)


def test_an_interrupted_run_states_the_next_step():
    killed = incident(findings=[{"cause": "killed", "confidence": 0.9, "remedy": "Start it."}])
    assert killed.outcome == "unfinished"
    document = markdown_report.markdown(EN, killed)
    assert "**Next step**: Run the playbook again" in document
    assert "- [ ] Start it (the run ended before it was fixed: killed)" in document
    assert "- Affected users: not measured" in document and "- Failed requests: not measured" in document
    assert "再度実行する" in markdown_report.markdown(JA, killed)
    killed.runs = [*runs("r"), dataclasses.replace(runs("s")[0], complete=False, last_event_at="x", last_task="Watch")]
    page = markdown_report.markdown(EN, killed)
    assert "| x |  | **Run 2: ended early; the last recorded event is in Watch** |  |" in page


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        ((None, None), "unknown"),
        ((0, 0), "unknown, because /a.log has no requests from that time"),
        ((1, 0), "none of 1 request logged in /a.log failed"),
        ((12, 3), "at least 3 of 12 requests logged in /a.log returned 5xx"),
    ],
)
def test_unlogged_requests_are_not_counted_as_successful(counted, told):
    impact = incident_model.Impact(None, None, *counted, "/a.log", None, {})
    assert prose_impact.requests(EN, incident(impact=impact)).startswith(told)


def test_only_a_likely_unexplained_cause_is_a_root_cause():
    full = {"cause": "disk_full", "confidence": 0.9, "summary": "The disk is full."}
    killed = {"cause": "killed", "confidence": 0.9, "summary": "Killed.", "explained_by": "disk_full", "remedy": "Ask."}
    maybe = {"cause": "wal_pending", "confidence": 0.2, "summary": "Pending."}
    causes, noted = section(markdown_report.markdown(EN, incident(findings=[full, killed, maybe])), "4.").split(
        "Also noted"
    )
    assert re.findall(r"^- \*\*(\w+)", causes, re.MULTILINE) == ["disk_full"]
    assert "- **killed** (confidence 90%, explained by disk_full): Killed." in noted
    assert "- **wal_pending** (confidence that this is the cause: 20%): Pending." in noted
    assert all(action.title != "Ask" for action in prose_actions.actions(EN, incident(findings=[full, killed])))
    assert "Not established" in section(markdown_report.markdown(EN, incident(findings=[maybe])), "4.")


@pytest.mark.parametrize(("details", "folded"), [(1, False), (2, True)])
def test_all_steps_are_listed_again_only_if_most_are_new(details, folded):
    detail = step("sqlite_info", {"healthy": True}, status="ok", weight=incident_model.DETAIL)
    record = step("incident", {"id": "INC-1"}, weight=incident_model.DETAIL, task="Record the incident")
    told = section(markdown_report.markdown(EN, incident(steps=[step(), *[detail] * details, *[record] * 5])), "7.")
    assert ("<details>" in told) is folded
    assert told.count("Use sqlite_info: sound") == details
    assert "Record the incident" not in told


COUNTED = {"users": 20, "assets": 2}
LAST_GOOD = {"rows": {"users": 25, "assets": 1}, "at": "2026-03-02T01:00:00.000Z", "replaced": True}
LOOK = {"healthy": False, "severity": "emergency", "summary": "https: connection refused; the process is gone"}


def event(module="health_probe", data=None, role="detection", status="ok", **keys):
    return {
        **{"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "task", "host": "node1", "role": role},
        **{"action": f"itsm_nexus.runbook.{module}", "task": f"Use {module}", "status": status, "data": data or {}},
        **keys,
    }


OTHER_RUN = {
    "run": "run-7",
    "since": "2026-03-02T01:02:03.456Z",
    "step": "restart",
    "until": "2026-03-02T01:04:00.000Z",
    "pid": 4711,
}
MAINTENANCE = {"until": "2026-03-02T04:00:00.000Z", "reason": "Patch day", "source": "/state/maintenance.json"}

END = event(status="failed", action="ansible.builtin.fail", task="Fail if the service is not recovered")


DAMAGE = message("finding.db_corrupt.in_use", path="/db", why=message("reason.database.corrupt"))
ACCEPTED = message("finding.accepted", summary=DAMAGE, at="10:00", reason="CHG-4711").to_dict()
NO_FILE = {"variable": "nexus_log_file", "message": "nexus_log_file is '/log': must exist."}
CORRECT = (
    "  next step   Correct the inventory or the host: nexus_log_file. To see which values the host uses:",
    "              ansible-playbook --limit node1 playbooks/outage_discover.yml --check",
)
CLOSE_IT = [
    "  next step   If the outage is over, this command closes the incident, unless another run is working",
    "              on it. If the login failed in an earlier run, the command checks the login first:",
    "              ansible-playbook --limit node1 playbooks/outage_recover.yml",
]
TRIAGE_IT = (
    "  next step   To find the cause, and to see what a recovery would do:",
    "              ansible-playbook --limit node1 playbooks/outage_recover.yml --check",
)


@pytest.mark.parametrize(
    ("events", "tone", "lines"),
    [
        pytest.param(
            [event(data=LOOK), END],
            screen_report.BAD,
            [
                "DOWN: node1, emergency: https: connection refused; the process is gone; "
                "this run did not change the service",
                *TRIAGE_IT,
            ],
            id="down",
        ),
        pytest.param(
            [event(data={**LOOK, "severity": "warning", "summary": "another process answers"}), END],
            screen_report.BAD,
            ["NOT HEALTHY: node1, warning: another process answers; this run did not change the service", *TRIAGE_IT],
            id="not healthy",
        ),
        pytest.param(
            [event(data={**LOOK, "severity": "degraded", "messages": {"summary": [ACCEPTED]}}), END],
            screen_report.BAD,
            [
                "DEGRADED: node1, The database /db is not sound: pages are damaged. Accepted by a person on 10:00: "
                "CHG-4711; this run did not change the service",
                "  next step   1. See how many rows each method would lose. This check changes nothing:",
                "              ansible-playbook --limit node1 playbooks/database_recover.yml --check",
                "              2. Agree with the DBA on a time to stop the service. Until then, the service keeps",
                "              running.",
                "              3. At that time, run the command that the check above shows as its next step. It stops",
                "              the service, recovers the database and starts the service.",
            ],
            id="accepted by a person",
        ),
        pytest.param(
            [event(data=LOOK), event("incident", status="failed", msg="Another run holds the lock.")],
            screen_report.BAD,
            ["STOPPED: node1, Use incident: failed: Another run holds the lock; this run did not change the service"],
            id="down and locked",
        ),
        pytest.param(
            [event(data=LOOK), event("incident", {"locked_by": OTHER_RUN}, status="failed", msg="Another run.")],
            screen_report.BAD,
            [
                "STOPPED: node1, another run is working on it; this run did not change the service",
                "  other run   run-7, since 2026-03-02 01:02:03 UTC",
                "  its step    restart; process 4711 is running",
                "  next step   Wait until the other run ends. To make this playbook wait, run it again with -e",
                "              outage_recover_wait=600. It waits up to 600 seconds and then starts. If the other run",
                "              has crashed, its lock expires at 2026-03-02 01:04:00 UTC, or one minute after its last",
                "              process ends.",
            ],
            id="another run",
        ),
        pytest.param(
            [event(data={**LOOK, "summary": "silent"}), event("incident", {"maintenance": MAINTENANCE}), END],
            screen_report.ATTENTION,
            [
                "MAINTENANCE: node1, emergency: silent; "
                "no recovery will start until 2026-03-02 04:00:00 UTC (Patch day)",
                "  next step   People are working on the service. To recover it now, end the maintenance:",
                "              ansible-playbook --limit node1 playbooks/outage_maintenance.yml "
                "-e outage_maintenance_state=absent",
            ],
            id="maintenance",
        ),
        pytest.param(
            [
                event(data={**LOOK, "summary": "silent"}),
                event("incident", {"maintenance": {**MAINTENANCE, "reason": "", "source": "variable"}}),
                END,
            ],
            screen_report.ATTENTION,
            [
                "MAINTENANCE: node1, emergency: silent; no recovery will start until 2026-03-02 04:00:00 UTC",
                "  next step   People are working on the service. To recover it now, remove nexus_maintenance_until.",
            ],
            id="maintenance of a variable",
        ),
        pytest.param(
            [event("service_preflight_info", {"problems": [{"message": "Can't operate."}]}), END],
            screen_report.BAD,
            ["STOPPED: node1, Can't operate; this run did not change the service"],
            id="one problem",
        ),
        pytest.param(
            [event(data=LOOK), event("service_preflight_info", {"problems": [{"message": "No folder."}]}), END],
            screen_report.BAD,
            ["STOPPED: node1, No folder; this run did not change the service"],
            id="down, and then a problem",
        ),
        pytest.param(
            [event("service_preflight_info", {"problems": [{"message": "No folder."}, {"message": "No\nuser."}]}), END],
            screen_report.BAD,
            ["STOPPED: node1, 2 problems; this run did not change the service", "  - No folder", "  - No user"],
            id="several problems",
        ),
        pytest.param(
            [
                event(data={"healthy": True}),
                event("incident", {"id": "INC-1", "run": None, "locked_by": {**OTHER_RUN, "pid": None}}, None),
            ],
            screen_report.ATTENTION,
            [
                "HEALTHY: node1, incident INC-1 is still open, because another run is working on the host; "
                "this run did not change the service",
                "  other run   run-7, since 2026-03-02 01:02:03 UTC",
                "  its step    restart, no process is running now",
                "  next step   The other run closes the incident when it ends. If the other run has crashed, run this",
                "              playbook again after 2026-03-02 01:04:00 UTC. Or run it now with -e",
                "              outage_recover_wait=600: it then waits for the lock and closes the incident.",
            ],
            id="up, with the incident open in another run",
        ),
        pytest.param(
            [
                event(
                    "triage_info",
                    {
                        "unreachable_host": True,
                        "messages": {
                            "why": message("reason.unreached", why="me@x: Permission denied (publickey)").to_dict()
                        },
                    },
                    status="failed",
                    msg="Cannot run triage_info on node1: the host cannot be reached: "
                    "me@x: Permission denied (publickey).",
                ),
                END,
            ],
            screen_report.BAD,
            [
                "UNREACHABLE: node1, the host cannot be reached: me@x: Permission denied (publickey); "
                "this run did not change the service",
                "  next step   The host refuses the login. Check ansible_user, its key or password, and",
                "              authorized_keys on the host, then run the playbook again.",
            ],
            id="lost to another run",
        ),
        pytest.param(
            [event(data={"healthy": True})],
            screen_report.GOOD,
            ["HEALTHY: node1, this run did not change the service"],
            id="up",
        ),
        pytest.param(
            [event(data={"healthy": True, "login_asked": False})],
            screen_report.GOOD,
            [
                "HEALTHY: node1, login not checked (outage_verify.yml checks it, if a password is set); "
                "this run did not change the service"
            ],
            id="up, without a login",
        ),
        pytest.param(
            [event(data={"healthy": True, "login_asked": True, "login": None})],
            screen_report.GOOD,
            ["HEALTHY: node1, this run did not change the service"],
            id="up, and the login is one of the readiness checks",
        ),
        pytest.param(
            [event(data={"healthy": True, "open_incident": True})],
            screen_report.ATTENTION,
            ["HEALTHY: node1, an incident is still open; this run did not change the service", *CLOSE_IT],
            id="up, but an incident is open",
        ),
        pytest.param(
            [event(data={"healthy": True, "open_incident": True, "login": {"ok": True}}, role="verification")],
            screen_report.ATTENTION,
            [
                "HEALTHY: node1, login succeeded; an incident is still open; this run did not change the service",
                *CLOSE_IT,
            ],
            id="verified, but an incident is open",
        ),
        pytest.param(
            [
                event(data={"healthy": True, "open_incident": True}),
                event("sqlite_info", {"healthy": True, "database": {"path": "/app/itsm.db"}}, "database_recovery"),
            ],
            screen_report.ATTENTION,
            [
                "HEALTHY: node1, the database /app/itsm.db is sound; an incident is still open; "
                "this run did not change the service",
                *CLOSE_IT,
            ],
            id="nothing to recover, but an incident is open",
        ),
        pytest.param(
            [event(data={"healthy": True, "login": None}, role="verification")],
            screen_report.GOOD,
            ["HEALTHY: node1, login not checked (no password was given); this run did not change the service"],
            id="verified",
        ),
        pytest.param(
            [
                event(data={"healthy": True}),
                event("sqlite_info", {"healthy": True, "database": {"path": "/app/itsm.db"}}, "database_recovery"),
            ],
            screen_report.GOOD,
            ["HEALTHY: node1, the database /app/itsm.db is sound; this run did not change the service"],
            id="nothing to recover",
        ),
        pytest.param(
            [
                event(data={"healthy": True}, role="verification"),
                event(
                    "sqlite_info",
                    {"healthy": False, "problems": [{"code": "missing", "message": "There is no database /app/x.db"}]},
                    "verification",
                ),
                event("ansible.builtin.fail", role="verification", status="failed"),
            ],
            screen_report.BAD,
            [
                "STOPPED: node1, Use sqlite_info: not sound: There is no database /app/x.db; "
                "this run did not change the service"
            ],
            id="verified against no database",
        ),
        pytest.param(
            [
                event(data={"healthy": True, "login": None}, role="verification"),
                event("sqlite_info", {"healthy": True, "row_counts": COUNTED, "last_good": LAST_GOOD}, "verification"),
            ],
            screen_report.GOOD,
            [
                "HEALTHY: node1, login not checked (no password was given); this run did not change the service",
                "  rows        22 rows in 2 tables, stored as the last good count",
                "              Previous good count: 26 rows on 2026-03-02 01:00:00 UTC. FEWER ROWS NOW: users 25 ->",
                "              20",
            ],
            id="verified, with the rows",
        ),
        pytest.param(
            [
                event(data={"healthy": True}),
                event(
                    "sqlite_info",
                    {"healthy": True, "row_counts": {"users": 20}, "data_loss_suspected": True},
                    "verification",
                ),
            ],
            screen_report.GOOD,
            ["HEALTHY: node1, this run did not change the service", "  rows        20 rows in 1 table"],
            id="verified, with fewer rows than before",
        ),
        pytest.param(
            [event("incident", {"maintenance": MAINTENANCE}, "nexus", status="changed")],
            screen_report.GOOD,
            [
                "MAINTENANCE STARTED: node1; no recovery will start until 2026-03-02 04:00:00 UTC (Patch day)",
                "  next step   To end the maintenance earlier:",
                "              ansible-playbook --limit node1 playbooks/outage_maintenance.yml "
                "-e outage_maintenance_state=absent",
            ],
            id="maintenance begun",
        ),
        pytest.param(
            [event("incident", {"maintenance": None}, "nexus")],
            screen_report.GOOD,
            ["MAINTENANCE ENDED: node1, recovery is enabled again"],
            id="maintenance ended",
        ),
        pytest.param(
            [event(data={**LOOK, "hold": {"incident": "INC-1", "cause": "db_corrupt"}}), END],
            screen_report.BAD,
            [
                "DOWN: node1, emergency: https: connection refused; the process is gone; "
                "this run did not change the service",
                "  next step   The service is held because of incident INC-1 (db_corrupt). Its postmortem lists the",
                "              evidence and the people who were notified.",
                "              1. Do not start the service. Give the evidence to the DBA.",
                "              2. See how many rows each method would lose. This check changes nothing:",
                "              ansible-playbook --limit node1 playbooks/database_recover.yml --check",
                "              3. If the DBA agrees, run the command that the check above shows as its next step. It",
                "              recovers the database and starts the service.",
            ],
            id="held",
        ),
        pytest.param(
            [event(data={**LOOK, "hold": {"incident": "INC-1", "cause": "db_unchecked"}}), END],
            screen_report.BAD,
            [
                "DOWN: node1, emergency: https: connection refused; the process is gone; "
                "this run did not change the service",
                "  next step   The service is held because of incident INC-1 (db_unchecked). Its postmortem lists the",
                "              evidence and the people who were notified.",
                "              Do not start the service. To see what must be done before the hold is released:",
                "              ansible-playbook --limit node1 playbooks/outage_recover.yml --check",
            ],
            id="held, with the disk away",
        ),
        pytest.param(
            [event("service_preflight_info", {"problems": [NO_FILE]}), END],
            screen_report.BAD,
            [
                "STOPPED: node1, nexus_log_file is '/log': must exist; this run did not change the service",
                *CORRECT,
            ],
            id="a variable that does not match the host",
        ),
        pytest.param(
            [
                event("service_preflight_info", {"problems": [NO_FILE]}, "nexus"),
                event("triage_info", {"findings": []}, "triage"),
            ],
            screen_report.ATTENTION,
            [
                "INVALID SETTINGS: node1, 1 problem, but no cause of an outage was found; "
                "this run did not change the service",
                "  invalid     nexus_log_file is '/log': must exist",
                *CORRECT,
            ],
            id="nothing found, but a variable does not match the host",
        ),
        pytest.param(
            [event("triage_info", {"findings": []}, "triage")],
            screen_report.GOOD,
            [
                "NOTHING WRONG FOUND: node1, login not checked (outage_verify.yml checks it, if a password is set); "
                "this run did not change the service"
            ],
            id="nothing found",
        ),
        pytest.param(
            [
                event(
                    "triage_info",
                    {
                        "findings": [
                            {"cause": "stopped", "confidence": 0.5, "summary": "It was stopped."},
                            {"cause": "wal_pending", "confidence": 0.2},
                        ],
                        "bundle": "/e/INC-1",
                    },
                    "triage",
                )
            ],
            screen_report.ATTENTION,
            ["CAUSE: node1, stopped (confidence 50%): It was stopped; evidence on the host: /e/INC-1"],
            id="cause",
        ),
        pytest.param([event("sqlite_info", {"healthy": True})], screen_report.GOOD, [], id="no message"),
    ],
)
def test_closing_line_without_an_incident(events, tone, lines):
    assert screen_without_incident.without_incident(EN, "node1", events, target="--limit node1") == (tone, lines)


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([message("reason.rung.highest", rung=message("part.restart")).to_dict()], "許可されている最も高い復旧段階は"),
        ([], "The highest allowed rung is restart"),
        ([{"id": "reason.of_another_version"}], "The highest allowed rung is restart"),
        ([{"id": "reason.only_notifies"}] * 2, "The highest allowed rung is restart"),
    ],
)
def test_a_problem_that_a_playbook_found_is_translated_if_it_has_a_message(messages, shown):
    data = {"problems": ["The highest allowed rung is restart."], "messages": {"problems": messages}}
    events = [event("fail_settings", data, None, status="failed")]
    _tone, (line, *_) = screen_without_incident.without_incident(JA, "node1", events, target="--limit node1")
    assert shown in line


@pytest.mark.parametrize("outcome", ["would_recover", "not_recovered"])
def test_the_recap_in_check_mode_is_explained_for_every_outcome(outcome):
    told = incident(outcome=outcome, runs=runs("r"))
    counted = "changed= counts the changes that a run would make"
    assert counted in "\n".join(screen_report.summary(EN, told, document=None, check_mode=True))
    assert "RECOVER (check mode, nothing changed)" in screen_report.summary(EN, told, document=None, check_mode=True)[0]
    real = incident(outcome="not_recovered", runs=runs("r"))
    assert counted not in "\n".join(screen_report.summary(EN, real, document=None))


@pytest.mark.parametrize(
    ("in_awx", "places", "shown"),
    [
        (False, {}, "/d/INC-1.md"),
        (False, {"on_host": "/s/postmortems", "artifact": True}, "/d/INC-1.md"),
        (False, {"issue": "https://g/7", "copies": ["https://w/1"]}, "issue: https://g/7 https://w/1 /d/INC-1.md"),
        # A path in a job's container cannot be read after the job has ended.
        (True, {"on_host": "/s/postmortems"}, "on node1: /s/postmortems/INC-1.md"),
        (
            True,
            {"copies": ["https://w/1"], "artifact": True},
            "https://w/1 in the artifacts of this job: outage_postmortem",
        ),
        (True, {}, "/d/INC-1.md"),
    ],
)
def test_the_summary_names_the_places_where_the_postmortem_can_be_read(monkeypatch, in_awx, places, shown):
    monkeypatch.delenv("AWX_HOST", raising=False)
    if in_awx:
        monkeypatch.setenv("AWX_HOST", "https://awx.example.com")
    told = incident(outcome="recovered", runs=runs("r"))
    lines = screen_report.summary(EN, told, document="/d/INC-1.md", places=places)
    assert fields(lines)["postmortem"] == shown


@pytest.mark.parametrize("outcome", ["would_recover", "not_recovered", "degraded"])
def test_a_check_lists_the_hold_that_a_run_would_set(outcome):
    damaged = {"cause": "db_corrupt", "confidence": 0.95, "blocks_start": True}
    told = incident(outcome=outcome, findings=[damaged], runs=runs("r"))
    planned = fields(screen_report.summary(EN, told, document=None, check_mode=True))["would do"]
    assert "would be held" in planned
    # The text about a hold on a running service must not suggest that the service is stopped.
    assert ("it would not be stopped" in planned) == (outcome == "degraded")
    told.held_by = "INC-1"
    assert fields(screen_report.summary(EN, told, document=None, check_mode=True))["would do"] == "nothing"
    told = incident(outcome=outcome, findings=[{**damaged, "blocks_start": False}], runs=runs("r"))
    assert fields(screen_report.summary(EN, told, document=None, check_mode=True))["would do"] == "nothing"


def test_the_hold_of_a_running_service_does_not_sound_like_a_stop():
    told = incident(outcome="degraded", held_by="INC-1", runs=runs("r"))
    shown = fields(screen_report.summary(EN, told, document="x"))["next step"]
    assert "The running service is not stopped. If it exits, neither this collection nor systemd starts it" in shown
    told.outcome = "not_recovered"
    shown = fields(screen_report.summary(EN, told, document="x"))["next step"]
    assert "The service is held by incident INC-1: until the hold is released" in shown


def test_a_check_names_the_run_that_holds_the_service_as_the_first_step():
    damaged = {"cause": "db_corrupt", "confidence": 0.95, "blocks_start": True}
    told = incident(outcome="not_recovered", findings=[damaged], next_step="Call the DBA", runs=runs("r"))
    lines = screen_report.summary(EN, told, document=None, check_mode=True)
    assert fields(lines)["next step"].startswith("Run the playbook without --check. It holds the service")
    # database_recover.yml does not set a hold.
    told.steps, told.rungs_tried = [step("sqlite_restore", PLAN)], [rung("database_recovery by backup")]
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))
    assert "held" not in shown["would do"] and "without --check" not in shown["next step"]


def test_a_degraded_service_that_was_stopped_for_its_recovery_has_no_outage_of_that_length():
    told = incident(outcome="recovered", severity="degraded", rungs_tried=[rung("database_recovery by backup")])
    told.durations.outage = 87.0
    shown = prose_times.outage(EN, told)
    assert shown.endswith(" in which the service was degraded or stopped")
    assert prose_times.lasted(EN, told) == shown
    # The length of the outage has the same uncertainty as the time to mitigate.
    told.durations = durations(outage=87.0, mitigate=87.0, uncertain=31.0)
    shown = "1 min 27 s in which the service was degraded or stopped, possibly up to 31 s longer"
    assert prose_times.outage(EN, told) == prose_times.lasted(EN, told) == shown
    assert prose_times.measures(EN, told)[1].value == "1 min 27 s, possibly up to 31 s longer"
    told.severity = "emergency"
    assert "degraded" not in prose_times.outage(EN, told)


def test_an_endpoint_that_still_answers_is_named():
    endpoints = [{"name": "https", "ok": False}, {"name": "http", "ok": True}]
    probe = step("health_probe", {"healthy": False, "endpoints": endpoints}, run="r")
    told = incident(outcome="not_recovered", steps=[probe], statements={"still_down": {"value": "yes"}}, runs=runs("r"))
    assert "still down, although http answers" in fields(screen_report.summary(EN, told, document="x"))["outage"]
    endpoints[1]["ok"] = False
    assert fields(screen_report.summary(EN, told, document="x"))["outage"].endswith("still down")


def test_a_removed_hold_is_one_of_the_changes():
    told = incident(outcome="recovered", steps=[step("triage_info", {"released": True, "findings": []})])
    assert "hold removed" in fields(screen_report.summary(EN, told, document="x"))["done"]
    # Later triage in the same run may hold the service again.
    told.held_by = "INC-1"
    assert "hold removed" not in fields(screen_report.summary(EN, told, document="x"))["done"]


def test_every_copy_of_a_database_in_doubt_is_named():
    copies = ["/s/evidence/INC-1/itsm.db.evidence_1", "/s/evidence/INC-1/itsm.db.evidence_2"]
    told = incident(outcome="not_recovered", evidence="/s/evidence/INC-1", database_copies=copies, runs=runs("r"))
    shown = fields(screen_report.summary(EN, told, document=None))["kept"]
    in_order = "itsm.db.evidence_1 and itsm.db.evidence_2 (copies of the database files, oldest first)"
    assert shown.endswith(f"in this folder: {in_order}")
    told.backup_file = "/s/evidence/INC-1/b"
    shown = fields(screen_report.summary(EN, told, document=None))["kept"]
    assert shown.endswith(f"in this folder: {in_order} and b (database backup)")


def test_a_check_lists_other_problems_that_can_prevent_the_recovery():
    found = [
        {"cause": "stopped", "confidence": 0.5, "summary": "It was stopped"},
        {"cause": "tls_expired", "confidence": 0.45, "summary": "No key"},
        {"cause": "too_many_files", "confidence": 0.9, "summary": "Open", "explained_by": "stopped"},
        {"cause": "wal_pending", "confidence": 0.2, "summary": "A note"},
    ]
    told = incident(outcome="would_recover", cause="stopped", findings=found, runs=runs("r"))
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))["also found"]
    assert shown == "tls_expired: No key"
    told.rungs_tried = [rung("restart")]
    lines = screen_report.summary(EN, told, document=None, check_mode=True)
    assert "First fix the other problem below" in fields(lines)["next step"]
    # A recovery fixes this problem itself. Because of the hold, a person must not start the service.
    told.cause, told.findings = "db_corrupt", [{"cause": "db_corrupt", "confidence": 0.9}, found[0]]
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))
    assert "stopped" in shown["also found"] and "First fix" not in shown.get("next step", "")
    # database_recover.yml itself checks the database and fixes this problem.
    told.cause, told.findings = "stopped", [found[0], {"cause": "db_corrupt", "confidence": 0.6, "summary": "In a log"}]
    told.next_step = "Run it"
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))
    assert "First fix the other problem below" in shown["next step"]
    told.steps = [
        step("sqlite_restore", {"method": "checkpoint", "plan": [{"method": "checkpoint", "possible": True}]})
    ]
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))
    assert "db_corrupt: In a log" in shown["also found"] and "First fix" not in shown["next step"]


@pytest.mark.parametrize("outcome", incident_model.OUTCOMES)
@pytest.mark.parametrize(("tongue", "words"), [(EN, "check mode"), (JA, "チェックモード")])
def test_every_headline_names_the_check_mode(outcome, tongue, words):
    told = incident(outcome=outcome, runs=runs("r"))
    (head, *_fields) = screen_report.summary(tongue, told, document=None, check_mode=True)
    assert head.count(words) == 1
    if outcome != "would_recover":
        assert words not in screen_report.summary(tongue, told, document=None)[0]


def test_a_check_states_no_outage_that_was_not_measured():
    told = incident(outcome="recovered_by_systemd", runs=runs("r"))
    assert "outage" not in fields(screen_report.summary(EN, told, document=None, check_mode=True))
    told.durations.outage = 7.0
    shown = fields(screen_report.summary(EN, told, document=None, check_mode=True))
    assert shown["outage"].startswith("7.0 s")


def test_a_check_without_an_incident_says_so_and_changes_nothing():
    planned = event("node_process", {"state": "started", "pids_before": []}, status="changed")
    _tone, lines = screen_without_incident.without_incident(
        EN, "node1", [event(data={"healthy": True}), planned], check_mode=True
    )
    assert lines == ["HEALTHY: node1, this run did not change the service (check mode)"]
    assert screen_without_incident.without_incident(EN, "node1", [event("sqlite_info")], check_mode=True)[1] == []
    _tone, (head, *_lines) = screen_hosts.hosts(EN, {"healthy": ["a", "b"]}, check_mode=True)
    assert head == "2 HOSTS: 2 healthy (check mode)"


def test_a_write_error_is_reported_although_the_service_is_back():
    told = incident(outcome="recovered", error="Postmortem not written: postmortem_language is 'jp'", runs=runs("r"))
    assert "  why         Postmortem not written: postmortem_language is 'jp'" in screen_report.summary(
        EN, told, document=None
    )


def test_an_outage_that_systemd_ended_is_good_news():
    told = incident(
        outcome="recovered_by_systemd",
        cause="killed",
        next_step="x",
        runs=runs("r"),
        durations=durations(mitigate=14.0),
        data_loss="none",
    )
    lines = screen_report.summary(EN, told, document="x")
    assert lines[0].startswith("RECOVERED by systemd: ")
    assert not [line for line in lines if line.startswith(("  why", "  next")) or "still down" in line]
    assert screen_report.tone(told) == screen_report.GOOD
    (automation,) = [each for each in prose_actions.actions(EN, told) if each.title == "Consider automatic recovery"]
    assert (automation.wanted, automation.why) == (
        False,
        "systemd restarted the service automatically; time to mitigate: 14 s",
    )


def test_a_hold_is_described_by_its_result_and_not_by_the_name_of_its_task():
    told = [prose_steps.deed(EN, step("service_hold", {"state": state})) for state in ("released", "held")]
    assert told == ["hold released", "service held"]
    assert prose_steps.deed(JA, step("service_hold", {"state": "released"})) == "起動保留を解除"


def test_a_run_that_tried_nothing_does_not_hide_what_the_run_before_it_did():
    tried = [rung(rung="standard_recovery", run="first", held=False, serves=True)]
    for names in (("first", "second"), ("first", "second", "third")):
        for login, last in (("checked", "the login was checked again and works"), (None, "none tried")):
            told = incident(outcome="recovered", cause="killed", runs=runs(*names), rungs_tried=tried, login=login)
            lines = screen_report.summary(EN, told, document="x")
            (place,) = [number for number, line in enumerate(lines) if line.startswith("  rungs")]
            assert "run 1: standard_recovery made the service answer, but the login failed" in lines[place]
            assert f"run {len(names)}: {last}" in " ".join(lines[place : place + 3])


def test_a_run_whose_login_failed_again_is_not_described_as_idle():
    tried = [rung(rung="standard_recovery", run="first", held=False, serves=True)]
    probe = {"role": "verification", "weight": incident_model.DECISION}
    failed = step("health_probe", {"healthy": True, "login": {"ok": False}}, run="second", **probe)
    told = incident(outcome="recovered", runs=runs("first", "second", "third"), rungs_tried=tried, login="checked")
    for steps, last in (([failed], "the login was checked again and failed"), ([], "none tried")):
        told.steps = steps
        lines = prose_ladder.by_run(EN, told)
        assert lines[1:] == [f"run 2: {last}", "run 3: the login was checked again and works"]
    told.steps = [failed]
    (automation,) = [each for each in prose_actions.actions(EN, told) if each.title == "Consider automatic recovery"]
    assert "none tried" not in automation.why


def test_the_command_that_checks_the_login_again_is_on_the_screen():
    command = {"id": "next_step.command", "values": {"command": "ansible-playbook playbooks/outage_recover.yml"}}
    steps = [{"id": "next_step.login_failed", "values": {}}, command]
    told = incident(outcome="login_failed", next_step="x", runs=runs("r"), messages={"next_step": steps})
    lines = [" ".join(line.split()) for line in screen_report.summary(EN, told, document="x")]
    assert "ansible-playbook playbooks/outage_recover.yml" in lines
    # In an old timeline, the next step may be about the cause of the outage.
    old = incident(outcome="login_failed", next_step="Fix the cause", runs=runs("r"))
    assert "Check that people can log in" in " ".join(screen_report.summary(EN, old, document="x"))


@pytest.mark.parametrize(
    ("outcome", "rule", "shown"),
    [
        ("recovered", "repeated_restarts", True),
        ("recovered_by_systemd", "repeated_restarts", True),
        ("recovered", "record_only", False),
        ("would_recover", "repeated_restarts", False),
    ],
)
def test_too_many_starts_have_the_same_next_step_as_in_the_notification(outcome, rule, shown):
    steps = [{"id": "next_step.recovered", "values": {}}]
    told = incident(outcome=outcome, next_step="x", runs=runs("r"), messages={"next_step": steps}, data_loss="none")
    told.escalation = {"rule": rule, "to": ["Lead"], "notified": []}
    first = f"{EN.say('asked.repeated_restarts')}."
    last = "Complete the open prevention items."
    assert prose.next_steps(EN, told) == ([first, last] if shown else [last])
    on_screen = fields(screen_report.summary(EN, told, document="x")).get("next step", "")
    assert (first[:30] in on_screen and last in on_screen) is shown
    assert f"- {first}\n- {last}" in markdown_report.markdown(EN, told) or not shown
    assert "サービスの起動が繰り返された理由を調べる" in prose.next_steps(JA, told)[0] or not shown


def test_an_incident_that_a_later_run_closed_names_its_open_items():
    why = "login: answered 401"
    tried = [rung(rung="standard_recovery", run="first", held=False, serves=True, reason=why)]
    told = incident(outcome="recovered", runs=runs("first", "second"), rungs_tried=tried, login="rate_limited")
    told.data_loss = "none"
    assert prose.next_steps(EN, told) == ["Complete the open prevention items."]
    assert "- [ ] Find out why the login check failed: " in section(markdown_report.markdown(EN, told), "6.")
    assert "- [ ] ログイン確認に失敗した理由を調べる：" in markdown_report.markdown(JA, told)
    # The second run has shown that the login works again.
    told.login = "checked"
    (settled,) = [each for each in prose_actions.actions(EN, told) if each.title.startswith("Find out why the login")]
    assert (settled.wanted, settled.why) == (False, "the login was checked again and works")
    assert not any(line.startswith("  next step") for line in screen_report.summary(EN, told, document="x"))
    told.rungs_tried = [rung(run="first")]
    assert "login check" not in markdown_report.markdown(EN, told)
    told.outcome = "unreachable"
    assert prose.next_steps(EN, told) == []


@pytest.mark.parametrize(("remedy", "item"), [("unhandled_exception", "tried.unhandled_exception"), ("start", None)])
def test_after_failed_rungs_no_item_proposes_another_start(remedy, item):
    texts = {"remedy": "x", "messages": {"remedy": message(f"remedy.{remedy}").to_dict()}}
    finding = {"cause": "unhandled_exception", "confidence": 0.9, **texts}
    told = incident(outcome="not_recovered", runs=runs("r"), findings=[finding], rungs_tried=[rung(held=False)])
    titles = [each.title for each in prose_actions.actions(EN, told)]
    assert not any("Start the service" in each for each in titles)
    assert (EN.say(f"remedy.{item}") in titles) if item else len(titles) == 4
    told.rungs_tried = []
    assert EN.say(f"remedy.{remedy}") in [each.title for each in prose_actions.actions(EN, told)]


def test_a_recovery_of_the_database_is_no_reason_for_automatic_recovery():
    told = incident(outcome="recovered", cause="db_corrupt", runs=runs("r"), steps=[step("sqlite_restore")])
    (automation,) = [each for each in prose_actions.actions(EN, told) if each.title == "Consider automatic recovery"]
    assert not automation.wanted
    assert automation.why.startswith("a person has to decide how to recover the database")


def test_a_recovery_after_a_failed_run_is_no_reason_for_automatic_recovery():
    def why(*tried):
        told = incident(outcome="recovered", cause="syntax_error", runs=runs("first", "second"), rungs_tried=tried)
        actions = prose_actions.actions(EN, told)
        (automation,) = [each for each in actions if each.title == "Consider automatic recovery"]
        assert not automation.wanted
        return automation.why

    failed = rung(run="first", held=False)
    assert "an earlier run did not recover the service" in why(failed, rung(run="second", held=True))
    # In an AWX workflow, each rung has its own run. No person was involved.
    higher = rung(rung="standard_recovery", run="second", held=True)
    assert "this playbook recovered the service" in why(failed, higher)


@pytest.mark.parametrize(
    ("rungs", "words"),
    [([], "so the playbook does not restart it"), ([rung(held=True)], "this playbook recovered the")],
)
def test_a_degraded_service_may_have_been_restarted(rungs, words):
    told = incident(outcome="degraded", cause="db_locked", runs=runs("r"), rungs_tried=rungs)
    (automation,) = [each for each in prose_actions.actions(EN, told) if each.title == "Consider automatic recovery"]
    assert words in automation.why


@pytest.mark.parametrize(
    ("cause", "outcome", "english", "japanese"),
    [
        ("db_locked", "degraded", "users can read, but they cannot save", "保存できない"),
        ("db_locked", "recovered", "users could read, but they could not save", "保存できなかった"),
        ("login_refused", "degraded", "users may be unable to log in", "ログインできない可能性がある"),
        ("slow", "degraded", "none: the service answers", "停止なし"),
    ],
)
def test_the_outage_of_a_degraded_service_names_what_does_not_work(cause, outcome, english, japanese):
    told = incident(outcome=outcome, severity="degraded", cause=cause, runs=runs("r"), durations=durations(outage=9.0))
    assert english in fields(screen_report.summary(EN, told, document="x"))["outage"]
    for words, text in ((EN, english), (JA, japanese)):
        assert text in prose_times.outage(words, told)
        assert text in report_document.compose(words, told).outage


@pytest.mark.parametrize(
    ("changes", "label", "detect"),
    [
        ({}, "Outage began (possibly up to 1.9 s earlier)", "0.0 s, possibly up to 1.9 s longer"),
        ({"durations": durations(detect=60.0, uncertain=1.9)}, "Outage began (possibly up to 1.9 s earlier)", "1 min"),
        ({"durations": durations(detect=0.0, uncertain=0.0)}, "Outage began", "0.0 s"),
        ({"outcome": "degraded", "severity": "degraded"}, "Degraded since", "0.0 s"),
    ],
)
def test_the_start_of_an_outage_states_how_much_earlier_it_may_be(changes, label, detect):
    told = incident(**{"outcome": "recovered", "durations": durations(detect=0.0, uncertain=1.9), **changes})
    document = markdown_report.markdown(EN, told)
    assert f"| {label} | 2026-03-02T01:00:00.000Z |" in section(document, "1.")
    assert f"| **{label}** |" in section(document, "7.")
    assert f"is the MTTD): {detect}\n" in document


@pytest.mark.parametrize(
    ("outcome", "mitigated", "closed"),
    [
        ("degraded", "none yet", "none yet"),
        ("not_recovered", "none yet", "none yet"),
        ("login_failed", "unknown", "none yet"),
        ("data_in_doubt", "unknown", "none yet"),
        ("unfinished", "unknown", "unknown"),
    ],
)
def test_an_incident_that_is_open_has_not_ended_yet(outcome, mitigated, closed):
    document = markdown_report.markdown(EN, incident(outcome=outcome, severity="degraded"))
    assert f"| First healthy response | {mitigated} |" in document
    assert f"| Closed | {closed} |" in document
    assert f"how long users had to wait): {mitigated}\n" in document


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("degraded", 'Source of the time "Degraded since": a health probe.'),
        ("resolved_manually", 'Source of the time "Degraded since": a health probe.'),
        ("not_recovered", "Source of the outage's start time: a health probe."),
    ],
)
def test_the_source_of_the_start_names_no_outage_if_the_service_answered(outcome, words):
    told = incident(outcome=outcome, severity="degraded")
    told.times.started_from = "health probe"
    assert words in prose_times.sources(EN, told)


def at(month):
    return f"2026-{month:02}-01T01:00:00.000Z"


REASON = {"id": "reason.restore.nothing_there", "values": {}}
MORE_ROWS = message("reason.restore.backup_holds_more", saved=5, kept=11).to_dict()
RULE = "backup was chosen only because it keeps more rows: 11 rows, compared with 5 for salvage"
PLAN = {
    "method": "backup",
    "messages": {"reason": [MORE_ROWS]},
    "rows_before": {"a": 12},
    "plan": [
        {"method": "checkpoint", "possible": False, "reason": "damaged"},
        {
            **{"method": "salvage", "possible": True, "rows": {"a": 5}, "reason": "it reads", "statement": "7 rows"},
            "messages": {"reason": [REASON]},
        },
        {
            **{"method": "backup", "possible": True, "rows": {"a": 11}, "reason": "the latest", "statement": "1 row"},
            "source": "/b/itsm_1.db",
            "backups": [
                {"path": "/b/itsm_1.db", "at": at(3), "usable": True, "rows": {"a": 11}, "lost": {"a": 1}},
                {"path": "/b/it's_2.db", "at": at(2), "usable": True, "rows": {"a": 2}, "lost": {"a": 10}},
                {"path": "/b/itsm_3.db", "at": at(1), "usable": False, "reason": "pages are damaged"},
            ],
        },
        {"method": "empty", "possible": False, "reason": "all rows would be lost"},
    ],
}


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("outcome", ["would_recover", "not_recovered"])
def test_a_method_that_an_open_database_prevents_is_not_called_impossible(outcome, check_mode):
    holders = message("reason.restore.open_in", holders="pid 7 (node)")
    unread = message("reason.restore.wal_unread", why=[holders]).to_dict()
    salvage = {"method": "salvage", "possible": False, "reason": "open", "messages": {"reason": [unread]}}
    plan = {**PLAN, "plan": [PLAN["plan"][0], salvage, PLAN["plan"][2]]}
    told = incident(outcome=outcome, runs=runs("r"), steps=[step("sqlite_restore", plan)])
    checkpoint, shown, *others = (each.head for each in prose_methods.methods(EN, told, check_mode=check_mode))
    assert checkpoint == "checkpoint (not possible): damaged"
    assert shown == (
        "salvage (unknown as long as the database is open): the WAL of the database could not be read to the end: "
        "the database is open in pid 7 (node)"
    )
    line = (
        "without --check, database_recover.yml stops the service if it is running, then examines the methods again, "
        "and may choose another one"
    )
    assert (others[-1] == line) is check_mode
    # After a run has stopped the service, an empty database is an option. In check mode, a salvage may still be
    # possible.
    options = " ".join(prose_methods.choices(EN, told, check_mode=check_mode))
    assert ("database_recovery_method=empty" in options) is not check_mode
    screen = " ".join(" ".join(screen_report.summary(EN, told, document=None, check_mode=check_mode)).split())
    assert (line in screen) is (check_mode or outcome == "would_recover")


@pytest.mark.parametrize("why", [{"id": "reason.restore.open_in", "values": {"holders": "pid 7"}}, "open", None, 7])
def test_the_reason_for_a_method_need_not_be_a_list(why):
    unread = {"id": "reason.restore.wal_unread", "values": {"why": why}}
    salvage = {"method": "salvage", "possible": False, "reason": "open", "messages": {"reason": unread}}
    asked = incident(runs=runs("r"), steps=[step("sqlite_restore", {**PLAN, "plan": [salvage]})])
    (method,) = prose_methods.methods(EN, asked)
    assert method.head.startswith("salvage (unknown as long") is isinstance(why, dict)


def test_an_unknown_number_of_rows_is_listed_only_once():
    unread = message("reason.restore.wal_unread", why=[message("reason.sqlite.too_long")])
    lost = [message("reason.loss.unread", why=unread), message("reason.loss.schema")]
    backup = {**PLAN["plan"][2], "messages": {"statement": [each.to_dict() for each in lost]}}
    told = incident(outcome="not_recovered", runs=runs("r"), steps=[step("sqlite_restore", {**PLAN, "plan": [backup]})])
    for words, unknown, wal in (
        (EN, "unknown number of rows", "the unread part of the WAL"),
        (JA, "行数不明", "WAL の"),
    ):
        shown = " ".join(prose_methods.methods(words, told)[0].facts)
        assert shown.count(unknown) == 1
        assert wal in shown


@pytest.mark.parametrize("outcome", ["would_recover", "not_recovered", "data_in_doubt"])
def test_every_method_of_a_database_recovery_is_shown_with_its_rows(outcome):
    told = incident(
        outcome=outcome,
        next_step="Recover it",
        runs=runs("r"),
        rungs_tried=[rung("database_recovery by backup")],
        steps=[step("sqlite_restore", PLAN), step("sqlite_restore", {**PLAN, "plan": PLAN["plan"][2:3]})],
    )
    shown = " ".join(" ".join(screen_report.summary(EN, told, document="x", check_mode=True)).split())
    for text in (
        "checkpoint (not possible): damaged",
        "salvage: there is neither a database nor a WAL to salvage - Kept: 5 rows - Lost: 7 rows",
        f"backup (CHOSEN, it keeps more rows than salvage): the latest - Kept: 11 rows - Lost: 1 row - {RULE}",
        "Compare what both methods would lose other backup: ",
        "other backup: /b/it's_2.db, 2026-02-01 01:00:00 UTC - Kept: 2 rows - Lost: 10 rows"
        " - Lost: all changes since then",
        "backup file /b/itsm_3.db, 2026-01-01 01:00:00 UTC: not usable: pages are damaged",
        "empty (not possible): all rows would be lost",
        "To use the method salvage: add -e database_recovery_method=salvage",
        "-e database_recovery_confirm_empty=true",
        '-e \'{"database_recovery_backup_dirs": ["/mnt/backup"], "database_recovery_backup_patterns": ["*.db"]}\'',
    ):
        assert text in shown
    # The line of the method already describes the chosen backup.
    assert "itsm_1.db, 2026" not in shown
    # The option restores a backup other than the chosen one. A shell must be able to parse this option.
    (option,) = [line for line in prose_methods.choices(JA, told) if "method=backup" in line]
    words = shlex.split(option[option.index("-e '") :])
    assert json.loads(words[1]) == {"database_recovery_backup_patterns": ["it's_2.db"]}
    # The role's argument specification contains each variable that the text mentions.
    specs = (ROOT / "roles/database_recovery/meta/argument_specs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"database_recovery_\w+", " ".join(prose_methods.choices(EN, told)))) <= set(
        re.findall(r"^      (database_recovery_\w+):", specs, re.MULTILINE)
    )
    # The documents contain one item for each method and for each other backup, and one item for each fact about it.
    listed = prose_methods.methods(EN, told)
    lines = [
        f"{' ' * indent}- {markdown_report.escape(text)}"
        for each in listed
        for indent, text in [(2, each.head), *((4, fact) for fact in each.facts)]
    ]
    document = markdown_report.markdown(EN, told).splitlines()
    begin = document.index("- Methods to recover the database:") + 1
    assert document[begin : begin + len(lines)] == lines
    page = html_report.page(EN, told)
    assert all(f"<li>{html.escape(each.head, quote=False)}<" in page for each in listed[:2])
    assert all(f"<li>{html.escape(fact, quote=False)}</li>" in page for each in listed for fact in each.facts)


@pytest.mark.parametrize(
    ("method", "reason", "words", "ruled"),
    [
        ("backup", MORE_ROWS, "backup (CHOSEN, it keeps more rows than salvage)", True),
        ("backup", REASON, "backup (CHOSEN, as requested)", False),
        ("salvage", REASON, "salvage (CHOSEN, the first possible method)", False),
    ],
)
def test_a_method_is_chosen_by_the_rule_that_the_module_names(method, reason, words, ruled):
    assessed = step("sqlite_restore", {**PLAN, "method": method, "messages": {"reason": [reason]}})
    told = prose_methods.methods(EN, incident(runs=runs("r"), steps=[assessed]))
    (chosen,) = [each for each in told if each.head.startswith(words)]
    assert any(fact.startswith(RULE) for fact in chosen.facts) is ruled


@pytest.mark.parametrize("loss", ["unknown", "suspected"])
def test_a_service_on_a_database_in_doubt_is_bad_news_and_not_down(loss):
    told = incident(
        outcome="data_in_doubt",
        cause="db_corrupt",
        next_step="Hand the database to the DBA",
        data_loss=loss,
        runs=runs("r"),
    )
    lines = screen_report.summary(EN, told, document="x")
    assert lines[0].startswith("DATA IN DOUBT: ")
    assert "  next step   Hand the database to the DBA." in lines
    assert "still down" not in "\n".join(lines)
    assert screen_report.tone(told) == screen_report.BAD
    assert "データベースの確認を DBA に依頼する" in prose.next_steps(JA, told)[0]
    (automation,) = [each for each in prose_actions.actions(EN, told) if each.title == "Consider automatic recovery"]
    assert not automation.wanted and "its database is in doubt" in automation.why


def test_an_outage_that_ended_without_a_run_is_good_news_and_needs_no_step():
    told = incident(outcome="resolved_manually", cause="killed", next_step="x", runs=runs("r"), data_loss="none")
    lines = screen_report.summary(EN, told, document="x")
    assert lines[0].startswith("RESOLVED, but not by the playbook: ")
    assert not [line for line in lines if line.startswith(("  why", "  next"))]
    assert screen_report.tone(told) == screen_report.GOOD


@pytest.mark.parametrize("outcome", incident_model.BACK)
@pytest.mark.parametrize(
    ("why", "step"),
    [
        ("not_counted", "count_rows"),
        ("not_after", "count_rows"),
        ("started_since", "count_rows"),
        ("restarted_since", "count_rows"),
        ("not_compared", "count_rows"),
        ("not_before", "check_data"),
        ("uncounted", "check_data"),
        ("fewer_since", "check_data"),
        ("written_since", ""),
    ],
)
def test_if_it_is_unknown_whether_rows_were_lost_the_next_step_says_how_to_find_out(outcome, why, step):
    told = incident(outcome=outcome, runs=runs("r"), data_loss="unknown")
    told.statements = {"data_loss": {"value": "unknown", "why": why}}
    on_screen = " ".join(
        fields(screen_report.summary(EN, told, document="x", target="--limit n")).get("next step", "").split()
    )
    command = "ansible-playbook --limit n playbooks/outage_verify.yml"
    expected = EN.say(f"next_step.{step}", command=command).replace("\n", " ") if step else ""
    assert on_screen.rstrip(".") == expected
    assert screen_report.tone(told) == screen_report.GOOD
    assert (command.replace("-limit n ", "-limit node1 ") in markdown_report.markdown(EN, told)) is (
        step == "count_rows"
    )
    told.outcome = "not_recovered"
    assert command.replace("-limit n ", "-limit node1 ") not in markdown_report.markdown(EN, told)


def test_a_long_path_is_not_broken():
    path = "/a" * 80
    assert f"  postmortem  {path}" in screen_report.summary(EN, incident(), document=path)


@pytest.mark.parametrize(
    "identity",
    ["../../etc/passwd", "/etc/x", ".hidden", "", "a/b", "a\x00b", "x" * 300, "..", "é", "index", "readiness", "INC-"],
)
def test_documents_stay_within_the_folder(identity, tmp_path):
    for document in document_store.documents(str(tmp_path), EN, incident(incident=identity)):
        document.write()
    assert len(list(tmp_path.iterdir())) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "index.", "readiness."))]


def test_a_host_cannot_replace_the_documents_of_another_host(tmp_path):
    for host, number in (("node1", 3), ("node2", 6), ("node2", 6), ("node1", 6)):
        for document in document_store.documents(str(tmp_path), EN, incident(host=host)):
            document.write()
        assert len(list(tmp_path.iterdir())) == number
        of_first = json.loads((tmp_path / f"{incident().incident}.json").read_text(encoding="utf-8"))
        assert of_first["host"] == "node1"


def test_different_ids_get_different_names():
    assert len({document_store.safe_name(identity) for identity in ["a/b", "a_b", "a.b", "a:b", "a//b"]}) == 5


def test_a_rung_that_could_not_help_is_shown_with_its_reason():
    told = incident(
        outcome="recovered",
        rungs_tried=[rung("standard_recovery", started_at="2026-03-02T01:00:02.000Z")],
        rungs_skipped=[skip(at="2026-03-02T01:00:01.000Z")],
        runs=runs("r"),
    )
    lines = "\n".join(screen_report.summary(EN, told, document=None))
    assert "restart skipped (cannot help), then standard_recovery succeeded" in lines
    assert "restart skipped: A package is missing" in lines
    assert "- Restart skipped: A package is missing." in section(
        markdown_report.markdown(EN, told), "5. Recovery steps"
    )


def not_reached(name, **changes):
    return incident_model.NotReached(**{"rung": name, "reason": None, "messages": {}, "run": "r", **changes})


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (["r"], ["restart skipped: A package is missing.", "clean_start_recovery not tried: no memory"]),
        (
            ["r", "s"],
            [
                "run 1 and run 2: restart skipped: A package is missing.",
                "run 1: clean_start_recovery not tried: no memory",
            ],
        ),
    ],
)
def test_a_rung_that_was_not_tried_names_its_run(names, lines):
    told = incident(
        outcome="recovered",
        runs=runs(*names),
        rungs_skipped=[skip(run=each) for each in names],
        rungs_not_reached=[not_reached("clean_start_recovery", reason="no memory")],
    )
    shown = [each.replace('"', "") for each in prose_ladder.skips(EN, told)]
    assert [each.rstrip(".") for each in shown] == [each.rstrip(".") for each in lines]
    assert not any(each.startswith("run ") for each in prose_ladder.skips(EN, told, run="r"))


@pytest.mark.parametrize(
    ("at", "run", "words"),
    [
        ("01:00:06", "r", "succeeded, result after 55 s, including the verification"),
        ("01:01:06", "r", "succeeded, result after 55 s"),
        ("00:59:06", "r", "succeeded, result after 55 s"),
        ("01:00:06", "s", "succeeded, result after 55 s"),
    ],
)
def test_the_time_of_a_rung_says_if_it_includes_the_verification(at, run, words):
    check = step("health_probe", role="verification", at=f"2026-03-02T{at}.000Z", run=run)
    tried = rung(started_at="2026-03-02T01:00:03.000Z", seconds=55.0)
    document = markdown_report.markdown(EN, incident(runs=runs("r"), rungs_tried=[tried], steps=[check]))
    assert f"1. **restart** {words}\n" in document


def test_a_failed_recovery_names_the_rungs_that_it_did_not_reach():
    rest = [not_reached(name, reason="no memory") for name in ("standard_recovery", "clean_start_recovery")]
    told = incident(
        outcome="not_recovered", runs=runs("r"), rungs_tried=[rung(held=False, reason="x")], rungs_not_reached=rest
    )
    shown = fields(screen_report.summary(EN, told, document=None))
    assert shown["rungs"] == "restart failed standard_recovery and clean_start_recovery not tried: no memory"
    document = section(markdown_report.markdown(EN, told), "5. Recovery steps")
    assert "- standard_recovery and clean_start_recovery not tried: no memory." in document
    assert "標準復旧、クリーンスタートは未実施" in "".join(screen_report.summary(JA, told, document=None))


def test_a_reason_on_the_screen_is_not_repeated_and_the_rung_is_still_named():
    told = incident(outcome="not_recovered", runs=runs("r"), cause="oom_kill", cause_summary="Memory ran out")
    told.error = "A package is missing."
    told.rungs_skipped = [skip(), skip(rung="standard_recovery", reason="No Node.")]
    told.rungs_not_reached = [not_reached("clean_start_recovery", reason="Memory ran out")]
    shown = fields(screen_report.summary(EN, told, document=None))
    assert shown["rungs"] == (
        "restart skipped (cannot help), then standard_recovery skipped (cannot help) "
        "standard_recovery skipped: No Node clean_start_recovery not tried: ruled out, see cause"
    )


def fields(lines):
    """Return a dict that maps the labels in a summary to their values. The headline is omitted."""
    told, label = {}, ""
    for line in lines[1:]:
        label = line[:14].strip() or label
        told[label] = f"{told.get(label, '')} {line[14:]}".strip()
    return told


LEFT = {"changed": False, "action": None, "detail": [], "reason": "not in remediation_allowed"}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({}, "done", "remediation: disk_full: removed old logs (/var/log/itsm/server.log.1)"),
        (
            {"failed": True, "detail": ["rm: no"]},
            "rungs",
            "remediation: disk_full: removed old logs (FAILED: rm: no)",
        ),
        (LEFT, "rungs", "remediation: disk_full: not remedied; not in remediation_allowed"),
        (
            {**LEFT, "messages": {"reason": [{"id": "reason.remedy.past", "values": {}}]}},
            "rungs",
            "remediation: disk_full: no remedy applied, because the cause seems to be gone",
        ),
    ],
)
def test_only_an_applied_remedy_is_listed_as_done(changes, field, words):
    told = incident(
        outcome="recovered", remedies=[remedy(**changes)], rungs_tried=[rung()], steps=[step()], runs=runs("r")
    )
    shown = fields(screen_report.summary(EN, told, document=None))
    assert [name for name, text in shown.items() if "disk_full" in text] == [field]
    assert words in shown[field]


@pytest.mark.parametrize("changes", [{}, {"failed": True, "detail": ["rm: no"]}])
def test_a_remedy_is_listed_before_the_rungs_of_the_document(changes):
    told = incident(outcome="recovered", remedies=[remedy(**changes)], rungs_tried=[rung()], steps=[step()])
    document = section(markdown_report.markdown(EN, told), "5. Recovery steps")
    assert document.index("1. **Remediation**") < document.index("2. **restart**")


def test_a_remedy_that_was_not_applied_is_no_step_of_the_document():
    told = incident(outcome="recovered", remedies=[remedy(**LEFT)], rungs_tried=[rung()], steps=[step()])
    document = section(markdown_report.markdown(EN, told), "5. Recovery steps")
    assert "1. **restart**" in document
    assert "- Remediation: disk_full: not remedied; not in remediation_allowed." in document


@pytest.mark.parametrize(
    "failure", [{"rungs_tried": [rung(held=False, reason="no room")]}, {"remedies": [remedy(failed=True)]}]
)
def test_a_failure_without_a_recorded_change_is_not_called_untried(failure):
    told = incident(outcome="not_recovered", runs=runs("r"), **failure)
    told.statements["nothing_changed"] = {"value": "no", "why": ""}
    assert fields(screen_report.summary(EN, told, document=None))["done"] == "no change is recorded"


@pytest.mark.parametrize(("outcome", "wanted"), [("recovered", False), ("not_recovered", True)])
def test_the_remedy_is_not_an_open_item_after_recovery(outcome, wanted):
    finding = {"cause": "killed", "confidence": 0.9, "remedy": "Restart it.", "prevention": "Find out who killed it."}
    titles = [each.title for each in prose_actions.actions(EN, incident(outcome=outcome, findings=[finding]))]
    assert ("Restart it" in titles) is wanted
    assert "Find out who killed it" in titles


def test_damage_to_the_database_has_an_item_for_each_task():
    messages = {"prevention": message("prevention.db_corrupt").to_dict()}
    finding = {"cause": "db_corrupt", "confidence": 0.9, "prevention": "Find out.", "messages": messages}
    items = prose_actions.actions(EN, incident(outcome="recovered", findings=[finding]))
    assert [each.title for each in items if each.of_cause] == [
        "Find out what damaged the database",
        "Back up the database often, and test that the backups can be restored",
    ]


@pytest.mark.parametrize(
    ("outcome", "kept", "wanted"),
    [
        ("recovered", "/srv/itsm.db.damaged_1", True),
        ("recovered", None, False),
        ("not_recovered", "/srv/itsm.db.damaged_1", False),
    ],
)
def test_a_damaged_database_that_was_replaced_is_an_open_item(outcome, kept, wanted):
    told = incident(outcome=outcome, database_kept=kept)
    items = [each.title for each in prose_actions.actions(EN, told) if each.wanted]
    assert ("When the DBA no longer needs /srv/itsm.db.damaged_1, remove it" in items) is wanted


RECOVERED = step("sqlite_restore", {"healthy_before": False})
PLANNED = step("sqlite_restore", {"healthy_before": False}, status="ok")
DAMAGED = step("triage_info", {"findings": [{"cause": "db_corrupt"}]}, status="ok")
RECOVER_IT = "After the DBA has agreed, recover the database with database_recover.yml."


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([DAMAGED], True),
        ([DAMAGED, PLANNED], True),
        ([DAMAGED, step("sqlite_restore", status="failed")], True),
        ([DAMAGED, PLANNED, RECOVERED], False),
        ([RECOVERED, step("sqlite_info", {"healthy": True, "data_loss_suspected": False})], False),
        ([RECOVERED, step("triage_info", {"findings": [{"cause": "killed"}]})], False),
        ([RECOVERED, step("sqlite_info", {"healthy": False})], True),
        ([RECOVERED, step("sqlite_info", {"healthy": True, "data_loss_suspected": True})], True),
        ([RECOVERED, DAMAGED], True),
        ([RECOVERED, step("triage_info", {"findings": [{"cause": "db_unchecked"}]})], True),
        ([RECOVERED, PLANNED], True),
        ([RECOVERED, step("sqlite_restore", {"healthy_before": True}, status="ok")], False),
    ],
)
@pytest.mark.parametrize("remedy", ["db_corrupt", "db_corrupt.in_use"])
def test_a_database_that_was_recovered_is_not_recovered_again(steps, wanted, remedy):
    told = {"remedy": message(f"remedy.{remedy}").to_dict()}
    finding = {"cause": "db_corrupt", "confidence": 0.98, "remedy": "x", "messages": told, "blocks_start": True}
    shown = incident(outcome="login_failed", data_loss="known", findings=[finding], steps=steps)
    items = [each for each in prose_actions.actions(EN, shown) if each.why.startswith("not confirmed as fixed: ")]
    assert [each.wanted for each in items] == [True] * wanted
    starts = RECOVER_IT if remedy == "db_corrupt" else "Do not restart the service"
    assert all(each.title.startswith(starts) for each in items)


def test_a_database_without_damage_is_not_recovered() -> None:
    """Only the log reports damage. The DBA checks whether the service uses another file."""
    said = {"summary": message("finding.db_corrupt.reported", path="/a.db"), "remedy": message("remedy.db_corrupt")}
    told = {name: each.to_dict() for name, each in said.items()}
    finding = {"cause": "db_corrupt", "confidence": 0.6, "remedy": "x", "messages": told, "blocks_start": True}
    titles = [each.title for each in prose_actions.actions(EN, incident(outcome="not_recovered", findings=[finding]))]
    assert any(each.startswith("Start nothing and change nothing") for each in titles)
    assert not any(each.startswith(RECOVER_IT) for each in titles)


def test_a_failed_notification_is_never_the_reason() -> None:
    told = incident(outcome="not_recovered", cause="killed", cause_summary="It was killed", runs=runs("r1", "r2"))
    told.rungs_tried = [rung(held=False, reason="no answer", run="r1")]
    failed = {"weight": incident_model.FAILURE, "status": "failed"}
    repeated = step(action="ansible.builtin.fail", task="Fail if the verification found a problem", run="r1", **failed)
    channel = step(action="ansible.builtin.include_tasks", role="escalation", run="r2", **failed)
    refused = step("fail_settings", {"problems": ["x is wrong"]}, role="remediation", run="r2", **failed)
    told.steps = [repeated, channel, refused]

    def why() -> str:
        return next(line for line in screen_report.summary(EN, told, document=None) if line.startswith("  why "))

    assert why().endswith("  run 1, restart: no answer")
    # The error that stopped the last run is shown instead of the error from the rung.
    told.steps.append(step("triage_info", message="no room", run="r2", **failed))
    assert why().endswith("  Use triage_info: failed: no room")
    told.steps, told.rungs_tried = told.steps[:3], []
    assert why().endswith("  killed: It was killed")


def test_the_reason_does_not_repeat_the_cause() -> None:
    told = incident(outcome="not_recovered", cause="port_conflict", cause_summary="Port 1 is taken.", runs=runs("r1"))
    told.error = "Port 1 is taken."
    lines = screen_report.summary(EN, told, document=None)
    assert "\n".join(lines).count("is taken") == 1
    why = "  why         no rung in outage_recover_rungs can fix the cause below"
    assert any(line.startswith(why) for line in lines)
    told.error = "Port 1 is taken. Data loss is suspected."
    assert "\n".join(screen_report.summary(EN, told, document=None)).count("is taken") == 2


def test_a_dry_run_lists_the_contacts_for_success_and_failure() -> None:
    told = incident(
        outcome="would_recover",
        rungs_tried=[rung()],
        escalation={
            "rule": "record_only",
            "to": [],
            "would": [{"name": "Lead", "channel": "mail lead@x", "error": ""}],
            "otherwise": {
                "rule": "of_ours",
                "to": ["Lead", "DBA"],
                "reason": "It is down.",
                "would": [
                    {"name": "Lead", "channel": "mail lead@x", "error": ""},
                    {"name": "Lead", "channel": "chat", "error": "there is no such channel"},
                ],
            },
        },
    )
    lines = "\n".join(screen_report.summary(EN, told, document=None))
    assert "  to notify   if the recovery succeeds: Lead by mail lead@x (the message that the outage is over)" in lines
    assert "  recap       changed= counts the changes that a run would make" in lines
    flat = " ".join(lines.split())
    assert "recovered. The" not in flat
    assert "if the recovery fails: Lead by mail lead@x and chat: there is no such channel" in flat
    assert "DBA (no channel is set). Reason: It is down" in flat
    taken = {"contact": "dba", "channel": "mail dba@x", "ok": True, "new": False}
    told.escalation = {**told.escalation, "notified": [taken], "names": {"dba": "DBA"}}
    flat = " ".join(" ".join(screen_report.summary(EN, told, document=None)).split())
    assert "DBA (already notified). Reason: It is down" in flat
    told.escalation = {}
    assert "to notify not determined" in " ".join(" ".join(screen_report.summary(EN, told, document=None)).split())


def test_the_next_steps_of_a_recovered_service_are_shown() -> None:
    steps = [
        message("next_step.recovered"),
        message("next_step.accepted.planned", at="2026-03-02T01:00:00.000Z", reason="CHG-4711", command="x"),
    ]
    told = incident(outcome="recovered", next_step="x", messages={"next_step": [each.to_dict() for each in steps]})
    lines = " ".join(" ".join(screen_report.summary(EN, told, document=None)).split())
    # The service is back, but the database must still be repaired.
    assert "next step Complete the open prevention items. On 2026-03-02 01:00:00 UTC, a person accepted" in lines
    first, second, command, *_count = prose.next_steps(JA, told)
    assert command == "x --check"
    assert first == "未完了の再発防止策に対応する。" and second.startswith("データベースの破損は、担当者が")


@pytest.mark.parametrize(
    ("after", "english", "japanese"),
    [
        (
            {"users": 90},
            "YES. The database recovery lost 12 rows, according to the row counts",
            "12行が失われた",
        ),
        ({}, "YES. The database recovery lost rows", "行が失われた"),
    ],
)
def test_the_number_of_lost_rows_is_never_shortened(after, english, japanese):
    told = incident(outcome="recovered", data_loss="known", rows_before={"users": 102}, rows_after=after)
    assert prose_data.data_loss(EN, told) == english
    assert japanese in prose_data.data_loss(JA, told)
    assert {"data_loss", "rows"} <= set(screen_layout._WHOLE)
    # The service has written rows since the recovery.
    planned = step("sqlite_restore", {"rows_lost": {"users": 99}}, status="ok")
    told.steps = [planned, step("sqlite_restore", {"rows_lost": {"users": 15}})]
    counted = ", counted right after the recovery"
    assert prose_data.data_loss(EN, told) == f"YES. The database recovery lost at least 15 rows{counted}"
    assert prose_data.data_loss(JA, told).endswith("少なくとも15行が失われた（復旧直後の集計）")


def test_the_lost_rows_of_several_recoveries_are_not_added():
    """The database was emptied, and then restored from a backup."""
    told = incident(outcome="recovered", data_loss="known")
    told.steps = [
        step("sqlite_restore", {"rows_before": {"users": 100}, "rows_after": {}, "rows_lost": {"users": 100}}),
        step(
            "sqlite_restore", {"rows_before": {"users": 100}, "rows_after": {"users": 80}, "rows_lost": {"users": 20}}
        ),
    ]
    assert "lost at least 20 rows" in prose_data.data_loss(EN, told)
    # If the value of a table is not a number, it is unknown whether the table lost rows.
    told.steps[-1].data["rows_after"]["tags"] = told.steps[-1].data["rows_lost"]["tags"] = None
    told.steps[0].data["rows_before"].update(tags=5, logs=None)
    assert "lost at least 20 rows" in prose_data.data_loss(EN, told)
    assert "lost at least 20 rows" in prose_data.data_loss(EN, dataclasses.replace(told, steps=told.steps[1:]))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([message("reason.loss.rows", rows=3, tables=["a"])], "lost 3 rows, counted right after the recovery"),
        ([message("reason.loss.rows_at_least", rows=3, tables=["a"])], "lost at least 3 rows, counted right after"),
        # An old timeline contains only the English text, which may mention tables with an unknown loss.
        ([], "lost at least 3 rows, counted right after the recovery"),
        (
            [message("reason.loss.rows", rows=3, tables=["a"]), message("reason.loss.since", at=at(1))],
            "lost at least 3 rows, counted right after the recovery. All changes since "
            "2026-01-01 01:00:00 UTC are also lost",
        ),
    ],
)
def test_the_loss_names_the_moment_of_the_count_and_the_lost_changes(losses, expected):
    recovered = {"rows_lost": {"a": 3}, "messages": {"statement": [each.to_dict() for each in losses]}}
    told = incident(outcome="recovered", data_loss="known", steps=[step("sqlite_restore", recovered)])
    assert expected in prose_data.data_loss(EN, told)


@pytest.mark.parametrize(
    ("outcome", "after", "expected"),
    [
        ("recovered", {"a": 2}, "; FEWER ROWS IN a 4 -> 2. Rows added since the database was recovered: a +1"),
        ("recovered", {"a": 1}, "; FEWER ROWS IN a 4 -> 1"),
        ("unfinished", {"a": 2}, "; FEWER ROWS IN a 4 -> 2"),
        # The number of rows in table b after the recovery is unknown.
        ("recovered", {"a": 2, "b": 1}, "; FEWER ROWS IN a 4 -> 2. Rows added since the database was recovered: a +1"),
    ],
)
def test_rows_that_were_added_after_a_recovery_are_named(outcome, after, expected):
    recovered = step("sqlite_restore", {"rows_lost": {"a": 3}, "rows_after": {"a": 1, "b": None}})
    counts = {"rows_before": {"a": 4}, "rows_after": after, "data_loss": "known"}
    told = incident(outcome=outcome, steps=[recovered], **counts)
    assert prose_data.rows(EN, told).endswith(expected)


def test_documents_are_written_even_if_no_thread_can_be_started(tmp_path, monkeypatch):
    def refused(_thread):
        raise RuntimeError("can't start new thread")

    made = document_store.documents(str(tmp_path), EN, incident(incident="INC-1"))
    monkeypatch.setattr("threading.Thread.start", refused)
    document_store.write(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["INC-1.html", "INC-1.json", "INC-1.md"]


def test_an_unobserved_end_is_called_an_estimate_everywhere():
    told = incident(outcome="recovered", runs=runs("r"), durations=durations(outage=9.0))
    told.times.mitigated_at, told.times.mitigated_from = "2026-03-02T01:00:09.000Z", "start of the process that serves"
    told.times.mitigated_estimated = True
    sentence = "Source of the estimated end of the outage: the start time of the running process."
    assert sentence in prose_times.sources(EN, told)
    assert sentence in markdown_report.markdown(EN, told)
    assert sentence in html_report.page(EN, told)
    assert "稼働中のプロセスの起動時刻。" in html_report.page(JA, told)
    assert [line for line in screen_report.summary(EN, told, document="x") if "its end is an estimate" in line]
    told.times.mitigated_estimated = False
    assert "estimate" not in html_report.page(EN, told) + "".join(screen_report.summary(EN, told, document="x"))


@pytest.mark.parametrize(
    ("host", "apart", "sentence"),
    [
        (0.5, None, None),
        (2.9, None, None),
        (-1.9, None, None),
        (75.0, 74.0, "The host's clock is 1 min 14 s ahead of the controller's"),
        (-30.0, -30.0, "The host's clock is 30 s behind the controller's"),
    ],
)
def test_different_clocks_are_reported(host, apart, sentence):
    # By the controller's clock, the task begins at second 0 and ends at second 1.
    def at(seconds):
        return timestamps.iso(timestamps.epoch("2026-03-02T01:00:00.000Z") + seconds)

    event = {"v": 1, "run": "r", "host": "node1", "task": "Probe", "role": "detection", "status": "ok"}
    event.update(kind="task", action="itsm_nexus.runbook.health_probe", at=at(1), start=at(0), duration=1.0)
    event["data"] = {"healthy": False, "severity": "critical", "first_failure_at": at(host)}
    told = timeline_incidents.model("INC-1", "node1", [[{"v": 1, "at": at(0), "run": "r", "kind": "run_start"}, event]])
    assert told.times.clocks_apart == apart
    assert [each for each in prose_times.sources(EN, told) if "clock" in each] == (
        [f"{sentence}; this timeline uses both clocks."] if sentence else []
    )
    assert (sentence or "1. When") in markdown_report.markdown(EN, told)


@pytest.mark.parametrize("tongue", [EN, JA])
def test_a_database_that_could_not_be_copied_is_reported(tongue):
    """A person who forwards the evidence to the DBA must know that the evidence does not contain the database."""
    told = incident(evidence="/e", database_not_copied="it is open in pid 12 (scanner)", runs=runs("r"))
    said = prose_data.not_copied(tongue, told)
    assert "pid 12" in said
    screen = " ".join(" ".join(screen_report.summary(tongue, told, document=None)).split())
    assert "pid 12 (scanner)" in screen
    assert "pid 12" in markdown_report.markdown(tongue, told) and "pid 12" in html_report.page(tongue, told)
    assert "database_recover.yml" not in said
    told.database_copied, told.database_copies = "/e/itsm.db.evidence_x", ["/e/itsm.db.evidence_x"]
    assert prose_data.not_copied(tongue, told) == ""
    assert "itsm.db.evidence_x" in " ".join(screen_report.summary(tongue, told, document=None))


@pytest.mark.parametrize("tongue", [EN, JA])
def test_only_the_files_of_a_running_service_are_copied_later(tongue):
    in_use = message("reason.sqlite.files_in_use", path="/a", holders="pid 7 (node)")
    for reason, later in ((in_use, True), (message("reason.sqlite.no_files", path="/a"), False)):
        text, messages = catalogue.english(reason), {"database_not_copied": reason.to_dict()}
        told = incident(outcome="degraded", database_not_copied=text, messages=messages, runs=runs("r"))
        said = prose_data.not_copied(tongue, told)
        assert ("database_recover.yml" in said) is later
        assert tongue.message(reason.to_dict()) in said


def test_the_reason_for_a_missing_copy_is_read_from_the_timeline():
    start = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "run_start"}
    reason = message("reason.sqlite.no_files", path="/a").to_dict()
    copied = {"path": None, "not_copied": "no files", "messages": {"not_copied": reason}}
    look = event("triage_info", {"findings": [], "data_evidence": copied}, "triage")
    told = timeline_incidents.model("INC-1", "node1", [[start, look]])
    assert JA.message(reason) in prose_data.not_copied(JA, told)


def test_a_table_without_a_number_is_not_counted():
    """A host can return a value that is not a number."""
    start = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "run_start"}
    look = event("triage_info", {"findings": [], "row_counts": {"users": 3, "notes": None}}, "triage")
    told = timeline_incidents.model("INC-1", "node1", [[start, look]])
    assert told.rows_before == {"users": 3}
    assert "3" in prose_data.rows(EN, told)


@pytest.mark.parametrize("tongue", [EN, JA])
@pytest.mark.parametrize(
    ("changed", "held_by", "key"),
    [("yes", None, "screen.nothing_changed"), ("no", "INC-1", "taken.only_held"), ("no", None, "taken.none")],
)
def test_nothing_was_changed_is_stated_only_if_true(tongue, changed, held_by, key):
    """A hold or a takeover also changes the host."""
    statements = {"nothing_changed": {"value": changed, "why": ""}}
    told = incident(outcome="not_recovered", held_by=held_by, runs=runs("r"))
    told.statements.update(statements)
    wanted = tongue.say(key)
    screen = " ".join(" ".join(screen_report.summary(tongue, told, document=None)).split())
    assert wanted.replace(" ", "") in screen.replace(" ", "")
    assert tongue.sentence(wanted) in markdown_report.markdown(tongue, told)
    assert tongue.sentence(wanted) in html_report.page(tongue, told)
    false = tongue.say("screen.nothing_changed")
    assert (false in screen) == (changed == "yes")


def told(*messages):
    return {"next_step": "x", "messages": {"next_step": [each.to_dict() for each in messages]}}


COMPARE = message("next_step.database.compare", number=1, command="ansible-playbook -i inv --limit h " + "x" * 99)


def test_a_next_step_of_a_recovered_service_is_shown_although_the_loss_is_unknown():
    """The database was restored from a backup, so nobody knows how many rows were written after that backup."""
    loss = message("next_step.database.loss", statement=message("reason.loss.since", at="10:00"), kept="/k")
    lines = screen_report.summary(EN, incident(outcome="recovered", data_loss="unknown", **told(loss)), document="x")
    assert "Inform the data owners about the loss (changes to rows since 10:00). The" in lines[1]
    prevention = incident(outcome="recovered", data_loss="none", **told(message("next_step.recovered")))
    assert "next step" not in "\n".join(screen_report.summary(EN, prevention, document="x"))


@pytest.mark.parametrize("spoken", [EN, JA])
def test_a_command_is_on_its_own_line_in_the_summary_and_the_documents(spoken):
    steps = (COMPARE, message("next_step.database.agreed", number=2))
    held = incident(outcome="not_recovered", held_by="INC-1", **told(*steps))
    command = f"ansible-playbook -i inv --limit h {'x' * 99} --check"
    assert f"{' ' * 14}{command}" in screen_report.summary(spoken, held, document="x")
    document = markdown_report.markdown(spoken, held)
    label = spoken.say("label", name=f"**{spoken.say('doc.next')}**", text="").rstrip()
    first, second, last = (each for each in prose.next_steps(spoken, held) if each != command)
    assert f"\n{label}\n\n{first}\n   `{command}`\n{second}\n- {last}\n" in document
    page = html_report.page(spoken, held)
    assert f"<p><code>{command}</code></p>" in page and f"<p>{second}</p>" in page


def test_a_host_cannot_add_a_command_to_a_next_step():
    forged = message("next_step.not_recovered", remedy=message("quoted", text="Wait:\nrm -rf /\u2028rm"))
    (line,) = prose.next_steps(EN, incident(outcome="not_recovered", **told(forged)))
    assert line == "Fix the cause: Wait: rm -rf / rm. Then run the playbook again."


def test_seeded_rows_are_removed_only_after_an_import():
    seeded = incident(rows_before={"a": 3}, rows_seeded={"a": 4}, rows_seeded_removal=["sqlite3 /a.db 'DELETE'"])
    note, command = prose_data.seeded(EN, seeded)
    assert "leave them for now" in note and command == "sqlite3 /a.db 'DELETE'"
    assert f"{' ' * 14}{command}" in screen_report.summary(EN, seeded, document="x")
    table = section(markdown_report.markdown(EN, seeded), "3.")
    assert "| `a` | 3 | 0 (+4 seeded) |" in table


def test_the_most_important_lines_are_never_cut_off():
    names = [f"r{number}" for number in range(1, 5)]
    problem = "escalation_contacts.dba.channels[0].argv begins with a relative path, " + "word " * 20
    invalid = step("fail_settings", {"problems": [problem]}, weight=incident_model.FAILURE, role="escalation", run="r4")
    notified = [sent("not_recovered", "lead", error="refused " * 60), sent("not_recovered", "dba")]
    long = incident(
        outcome="not_recovered",
        runs=runs(*names),
        rungs_tried=[rung("standard_recovery by a long way", held=False, run=name) for name in names],
        rungs_skipped=[skip(run="r4", reason="no " * 200)],
        remedies=[remedy(**LEFT, run="r4")],
        error="broke " * 200,
        cause="db_corrupt",
        cause_summary="The database is damaged " * 40,
        escalation={"to": ["Lead"], "names": {"lead": "Lead", "dba": "DBA"}, "notified": notified},
        evidence="/var/lib/itsm-runbook/evidence/INC-1",
        database_copies=["/var/lib/itsm-runbook/evidence/INC-1/itsm.db.evidence_1"],
        backup_file="/var/lib/itsm-runbook/evidence/INC-1/itsm.db.backup_1",
        steps=[invalid],
        **told(message("next_step.helpless")),
    )
    lines = screen_report.summary(EN, long, document="/d/INC-1.md")
    shown = " ".join(" ".join(lines).split())
    assert len(lines) <= 24
    for text in (
        "2 earlier runs; run 3: standard_recovery by a long way failed",
        "run 4: restart skipped (cannot help), then standard_recovery by a long way failed",
        "remediation: disk_full: not remedied; not in remediation_allowed",
        f"invalid {problem.strip()}",
        "notified NOT NOTIFIED, call them: Lead",
        "kept evidence on the host: /var/lib/itsm-runbook/evidence/INC-1",
        "in this folder: itsm.db.evidence_1 (copy of the database files) and itsm.db.backup_1 (database backup)",
    ):
        assert text in shown
    assert "cause db_corrupt" in shown and shown.count(" ...") >= 2


@pytest.mark.parametrize("changes", [{"held_by": "INC-1"}, {"data_loss": "suspected"}])
def test_no_start_is_proposed_while_the_service_must_not_be_started(changes):
    found = [
        {"cause": cause, "confidence": 0.9, "remedy": "x", "messages": {"remedy": message(f"remedy.{name}").to_dict()}}
        for cause, name in (("killed", "start"), ("oom_kill", "oom_kill"), ("disk_filling", "disk_filling"))
    ]
    titles = [each.title for each in prose_actions.actions(EN, incident(outcome="not_recovered", findings=found))]
    assert "Start the service" in titles
    doubt = incident(outcome="not_recovered", findings=found, **changes)
    titles = [each.title for each in prose_actions.actions(EN, doubt)]
    assert "Start the service" not in titles
    assert any(each.startswith("When the service may be started again: Restart the service.") for each in titles)
    assert any(each.startswith("Make room on this file system") for each in titles)


@pytest.mark.parametrize(
    ("other", "proposed"),
    [
        ({"confidence": 0.96, "useless_rungs": ["restart", "standard_recovery", "clean_start_recovery"]}, False),
        ({"confidence": 0.96, "useless_rungs": []}, True),
        ({"confidence": 0.3, "useless_rungs": ["restart"]}, True),
        ({"confidence": 0.96, "useless_rungs": ["restart"], "explained_by": "killed"}, True),
    ],
)
def test_no_start_is_proposed_if_another_cause_makes_it_useless(other, proposed):
    remedy_of = {name: {"remedy": message(f"remedy.{name}").to_dict()} for name in ("start", "oom_kill")}
    found = [
        {"cause": "syntax_error", "remedy": "Correct the file.", **other},
        {"cause": "killed", "confidence": 0.9, "remedy": "Start.", "messages": remedy_of["start"]},
        {"cause": "oom_kill", "confidence": 0.9, "remedy": "Restart.", "messages": remedy_of["oom_kill"]},
    ]
    titles = [each.title for each in prose_actions.actions(EN, incident(outcome="not_recovered", findings=found))]
    assert ("Start the service" in titles) is proposed
    assert any(each.startswith("Restart the service. ") for each in titles)


def test_the_detection_names_the_problem_of_a_degraded_service():
    probe = {"severity": "degraded", "summary": "x", "messages": {"summary": message("finding.slow.waits").to_dict()}}
    problem = EN.message(probe["messages"]["summary"]) or "x"
    (line,) = prose_impact.detected(EN, incident(probe={**probe, "summary": "the database is locked", "messages": {}}))
    assert problem and line == "Health probe: severity degraded: the database is locked."


@pytest.mark.parametrize(("loss", "words"), [("known", "resolved, with data loss"), ("none", "resolved")])
def test_the_message_about_the_end_names_the_data_loss(loss, words):
    escalation = {"to": [], "names": {"dba": "DBA"}, "notified": [sent("resolved", "dba")]}
    shown = incident(outcome="recovered", data_loss=loss, escalation=escalation)
    assert prose_notifications.whom(EN, shown).startswith(f"{words}: DBA by mail x")
    (telling,) = prose_notifications.tellings(EN, shown)
    assert telling.came == f"notified ({words})"


@pytest.mark.parametrize(
    ("outcome", "whom", "came"),
    [
        ("recovered", "resolved, with data loss: Lead by mail x and DBA by mail x", ["resolved, with data loss"] * 2),
        (
            "login_failed",
            "Lead by mail x; resolved, with data loss: DBA by mail x",
            ["database restored from a backup", "resolved, with data loss"],
        ),
    ],
)
def test_contacts_with_the_same_message_are_named_together(outcome, whom, came):
    notified = [sent("database_from_backup", "lead"), sent("resolved", "dba")]
    escalation = {"to": ["Lead"], "names": {"lead": "Lead", "dba": "DBA"}, "notified": notified}
    shown = incident(outcome=outcome, data_loss="known", escalation=escalation)
    assert prose_notifications.whom(EN, shown).startswith(whom)
    tellings = prose_notifications.tellings(EN, shown)
    assert [each.came for each in tellings] == [f"notified ({each})" for each in came]


KEEPS_ALL = {"method": "checkpoint", "possible": True, "reason": "sound", "rows": {"a": 1, "b": 5}, "statement": "none"}
SALVAGED = {"method": "salvage", "possible": True, "reason": "it reads", "rows": {"a": 10}, "statement": "none"}


@pytest.mark.parametrize(
    ("others", "before", "loss", "more"),
    [
        ([KEEPS_ALL], {"a": 1, "b": 5}, "since", "a +7"),
        ([KEEPS_ALL], {"a": 1, "b": 5}, "unread", ""),
        # The database has lost most of its rows, so rows_before contains the last good counts.
        ([KEEPS_ALL], {"a": 6, "b": 5}, "since", "a +7"),
        ([KEEPS_ALL], {"a": 8, "b": 5}, "since", "a +7"),
        # A new database has replaced the original one. Therefore, the plan contains neither the method checkpoint nor
        # salvage.
        ([], {"a": 1}, "since", ""),
        # In a damaged database, rows_before may contain the expected counts.
        ([{**KEEPS_ALL, "possible": False, "rows": {}}, SALVAGED], {"a": 1}, "since", ""),
        ([{**KEEPS_ALL, "possible": False}], {"a": 1, "b": 5}, "since", ""),
    ],
)
def test_a_backup_that_keeps_rows_that_were_lost_before_says_so(others, before, loss, more):
    """If the current rows of the database are unknown, the numbers cannot be compared."""
    statement = message(f"reason.loss.{loss}", at="10:00", why="x")
    backup = {"method": "backup", "possible": True, "reason": "it is new", "rows": {"a": 8, "b": 1, "c": 2}}
    plan = [*others, {**backup, "messages": {"statement": [statement.to_dict()]}}]
    assessed = step("sqlite_restore", {"method": "checkpoint", "rows_before": before, "plan": plan})
    last = prose_methods.methods(EN, incident(runs=runs("r"), steps=[assessed]))[-1]
    told = [f"Tables with more rows in the backup than in the database now: {more}"] if more else []
    assert last.facts == ["Kept: 11 rows", f"Lost: {EN.message(statement.to_dict())}", *told]


def test_the_reasons_for_a_method_are_short():
    problems = [
        message("reason.sqlite.check_failed", path="/a.db", check=name, lines=["bad"]) for name in ("quick", "b")
    ]
    uncounted = message("reason.loss.uncounted", tables=[message("reason.loss.table_now", table="a", rows=3)])
    older = {"path": "/b/1.db", "at": at(3), "usable": True, "rows": {"a": 3}, "lost": {}}
    plan = [
        {"method": "checkpoint", "possible": False, "messages": {"reason": [each.to_dict() for each in problems]}},
        {"method": "salvage", "possible": True, "reason": "it reads", "rows": {"a": 5}, "statement": "0 rows"},
        {
            **{"method": "backup", "possible": True, "reason": "it is new", "rows": {"a": 3}, "backups": [older]},
            "messages": {"statement": [uncounted.to_dict()]},
        },
        {
            **{"method": "empty", "possible": False},
            "messages": {"reason": [message("reason.restore.unconfirmed").to_dict()]},
        },
    ]
    assessed = step("sqlite_restore", {"method": "backup", "rows_before": {"a": 3}, "plan": plan})
    asked = incident(runs=runs("r"), steps=[assessed])
    checkpoint, salvage, chosen, made, empty = prose_methods.methods(EN, asked)
    assert checkpoint.head == "checkpoint (not possible): the database is damaged"
    assert chosen.head.startswith("backup (CHOSEN, as requested): ") and salvage.head.startswith("salvage: ")
    assert "a (3 rows kept)" in chosen.facts[1]
    assert made.facts[1:] == ["Lost: 0 counted rows", "Lost: all changes since then"]
    assert empty.head.startswith("empty (needs confirmation): all rows would be lost")


def test_the_method_of_a_recovery_is_named_once():
    data = {"method": "salvage", "reason": "it reads", "statement": "nothing"}
    restored = step("sqlite_restore", data, role="database_recovery")
    done = incident(runs=runs("r"), rungs_tried=[rung("database_recovery by salvage")], steps=[restored])
    (climb,) = prose_ladder.climbs(EN, done)
    assert climb.facts == ["it reads; lost: nothing"]


@pytest.mark.parametrize(
    ("tool", "how"),
    [("shell", "read with the sqlite3 shell's .recover"), ("dump", "read with a dump that skips the damaged parts")],
)
def test_the_reason_for_a_salvage_suits_a_plan_and_its_result(tool, how):
    reason = message(f"reason.restore.by_{tool}", rows=1, tables=2).to_dict()
    result = {"method": "salvage", "statement": "nothing", "messages": {"reason": [reason]}}
    plan = [{**result, "possible": True, "rows": {"a": 1}}]
    asked = incident(runs=runs("r"), steps=[step("sqlite_restore", {**result, "plan": plan})])
    (method,) = prose_methods.methods(EN, asked)
    assert method.head.endswith(f": 1 row in 2 tables, {how}") and method.facts == ["Kept: 1 row", "Lost: nothing"]
    restored = step("sqlite_restore", result, role="database_recovery")
    done = incident(runs=runs("r"), rungs_tried=[rung("database_recovery by salvage")], steps=[restored])
    assert prose_ladder.climbs(EN, done)[0].facts[0].startswith(f"1 row in 2 tables, {how}; lost: ")


def test_the_paths_of_kept_files_are_shortened_before_the_cause():
    folder = "/var/lib/itsm-runbook/evidence/INC-1"
    long = incident(
        outcome="not_recovered",
        cause="db_corrupt",
        cause_summary="The database is damaged " * 8,
        error="broke " * 200,
        escalation={"to": ["Lead"], "names": {"lead": "Lead"}, "notified": [], "reason": "it broke " * 40},
        evidence=folder,
        database_copies=[f"{folder}/itsm.db.evidence_1"],
        database_kept=f"/srv/{'x' * 70}/itsm.db.damaged_1",
        record_in_memory="/run/itsm/incident.json",
        **told(message("next_step.helpless")),
    )
    lines = screen_report.summary(EN, long, document="/d/INC-1.md")
    shown = fields(lines)
    assert len(lines) <= 24 and " ..." not in shown["cause"] and "damaged_1" not in "".join(lines)
    (place,) = [number for number, line in enumerate(lines) if "NOT NOTIFIED, call them: Lead" in line]
    assert lines[place + 1].startswith(f"{' ' * 14}reason: it broke")
    shown = " ".join(" ".join(lines).split())
    assert "(copy of the database files)" in shown and "/run/itsm/incident.json" in shown
    whole = " ".join(screen_report.summary(EN, long, document=None))
    assert "damaged_1" in whole
    assert prose_notifications.whom(EN, long).startswith("NOT NOTIFIED, call them: Lead. Reason: it broke")


def test_a_long_path_in_a_cause_is_shown_and_the_severity_is_left_out_for_it():
    path = f"/srv/{'x' * 70}/itsm.db"
    long = incident(
        outcome="recovered",
        severity="emergency",
        cause="db_corrupt",
        cause_summary=f"The database {path} is damaged " + "word " * 40,
        data_loss="known",
        runs=runs("r1", "r2"),
        rungs_tried=[rung(run="r2")],
        **told(message("next_step.database.loss", statement="row " * 230, kept="/k")),
    )
    lines = screen_report.summary(EN, long, document="/d/INC-1.md")
    assert len(lines) == 24 and any(path in line for line in lines)
    shown = fields(lines)
    assert "severity" not in shown and shown["cause"].endswith(" ...")
    # Short runs share a line.
    assert shown["rungs"] == "run 1: none tried; run 2: restart succeeded"


@pytest.mark.parametrize("filled", [196, 214, 232])
def test_the_names_of_the_notified_contacts_are_cut_off_last(filled):
    names = {"lead": "Ms Lead, extension 4711", "dba": "the DBA, extension 4712"}
    channels = [("lead", "command page.sh"), ("lead", "slack 127.0.0.1"), ("dba", "command dba-file")]
    long = incident(
        outcome="recovered",
        severity="emergency",
        cause="db_corrupt",
        cause_summary="The database /srv/itsm.db is damaged " + "word " * 70,
        data_loss="known",
        runs=runs("r1"),
        rungs_tried=[rung(run="r1")],
        escalation={"names": names, "to": [], "notified": [sent("resolved", *each) for each in channels]},
        **told(message("next_step.database.loss", statement="row " * filled, kept="/k")),
    )
    long.escalation["reason"] = "it broke " * 40
    shown = fields(screen_report.summary(EN, long, document="/d/INC-1.md"))
    assert "the DBA, extension 4712 by command dba-file." in shown["notified"] and shown["notified"].endswith(" ...")
    assert shown["cause"].endswith(" ...") and "severity" not in shown
    # In Japanese, the name of the message follows the names of the contacts, and may be cut off.
    (beginning,) = prose_notifications.names(JA, long, prose_notifications.informed(JA, long))
    assert beginning.endswith("the DBA, extension 4712（command dba-file）")
    long.escalation["notified"] = []
    assert prose_notifications.names(JA, long, prose_notifications.informed(JA, long)) == []


def test_the_severity_is_left_out_before_the_names_of_contacts_are_cut_off():
    path = f"/srv/{'x' * 70}/itsm_daily_1.db"
    cut = {"done": [f"database_recovery: the latest good backup is {path}"], "severity": ["emergency"]}
    lines = screen_layout.aligned(EN, [*cut.items(), ("escalation", ["Lead by mail " * 10])], most=4)
    assert len(lines) == 4 and not any(" ..." in line or "emergency" in line for line in lines)


def test_a_field_is_not_cut_off_directly_before_a_path():
    path = f"/srv/{'x' * 70}/itsm_daily_1.db"
    cut = {
        "done": [f"database_recovery by backup: the latest good backup is {path}, 6 minutes older than the last write"]
    }
    others = {"cause": "The database is damaged " * 30, "escalation": ["Lead by mail lead@x " * 20]}
    lines = screen_layout.aligned(EN, list({**cut, **others}.items()), most=8)
    assert len(lines) == 8
    assert [line.strip() for line in lines if path in line] == [f"{path}, ..."]
    # If no other field can be shortened, the limit on the number of lines has priority.
    (line,) = screen_layout.aligned(EN, list(cut.items()), most=1)
    assert line.endswith("the latest good backup is ...")


@pytest.mark.parametrize(("cause", "shown"), [("db_corrupt", False), ("config_mismatch", True)])
def test_the_path_of_the_database_is_left_out_only_if_the_cause_is_its_damage(cause, shown):
    recovered = incident(
        outcome="recovered",
        cause=cause,
        cause_summary="The database /a/itsm.db is not as expected",
        rungs_tried=[rung("database_recovery by salvage")],
        database={"database": {"path": "/a/itsm.db"}},
    )
    assert ("database" in fields(screen_report.summary(EN, recovered, document="x"))) is shown
    recovered.outcome = "would_recover"
    assert fields(screen_report.summary(EN, recovered, document=None, check_mode=True))["database"] == "/a/itsm.db"
