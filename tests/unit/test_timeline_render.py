# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model to document, screen and file."""

from __future__ import annotations

import re

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import (
    folder,
    prose,
    render_markdown,
    render_screen,
    timeline,
)

HOSTILE = "a|b`c\n# <script>x</script> [l](http://e) ![i](x) *b* _u_ $m$ @team #12 ~~s~~"


def incident(**changes):
    model = timeline.model(
        "INC-1", "node1", [[{"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "r", "kind": "run_start"}]]
    )
    model.times.started_at = "2026-03-02T01:00:00.000Z"
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def rung(name="restart", **changes):
    return timeline.Rung(
        **{
            "rung": name,
            "held": True,
            "halted": False,
            "reason": None,
            "started_at": None,
            "seconds": 2.0,
            "run": "r",
            **changes,
        }
    )


def durations(**seconds):
    return timeline.Durations(**{"outage": None, "detect": None, "mitigate": None, "resolve": None, **seconds})


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain words, db_path=/srv/a_b.db", "plain words, db_path=/srv/a_b.db"),
        ("a|b`c\nd", "a\\|b\\`c d"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("*x* _y_ [z](u) ~s~ $m$", "\\*x\\* \\_y\\_ \\[z\\](u) \\~s\\~ \\$m\\$"),
        ("@team #12 me@host", "&#64;team &#35;12 me@host"),
    ],
)
def test_escape(text, escaped):
    assert render_markdown.escape(text) == escaped


@pytest.mark.parametrize(
    ("text", "span"), [("a|b\nc", "`a\\|b c`"), ("a`b", "``a`b``"), ("`a``", "``` `a`` ```"), ("", "")]
)
def test_code(text, span):
    assert render_markdown.code(text) == span


def test_text_of_hosts_stays_inert_everywhere():
    step = timeline.Step(
        at="2026-03-02T01:00:00.000Z",
        run="r",
        kind="task",
        weight=timeline.FAILURE,
        role="restart",
        action="itsm_nexus.runbook.npm_ci",
        task=HOSTILE,
        status="failed",
        seconds=1.0,
        data={},
        message=HOSTILE,
    )
    finding = {"cause": HOSTILE, "confidence": 0.5, "summary": HOSTILE, "remedy": HOSTILE}
    finding["evidence"] = [{"source": HOSTILE, "text": HOSTILE}]
    document = render_markdown.markdown(
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
            steps=[step],
            rungs_tried=[rung(HOSTILE, reason=HOSTILE)],
            rows_before={HOSTILE: 1},
            escalation={"to": [HOSTILE], "told": [], "reason": HOSTILE},
        )
    )
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", document.replace("\\`", ""))
    for markup in ("<script", "[l](", "![i](", "@team", " #12"):
        assert markup not in outside_code
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in document.splitlines() if line.startswith("|")}
    assert columns == {4, 5}


def test_the_seven_fields_and_what_else_is_asked_for_are_there():
    document = render_markdown.markdown(incident())
    titles = re.findall(r"^## (.*)$", document, re.MULTILINE)
    assert [title.split(". ")[0] for title in titles[:7]] == list("1234567")
    assert titles[7:] == ["Who is to be told", "Evidence"]


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
        pytest.param({"outcome": "not_recovered"}, {"Consider automatic recovery": True}, id="not recovered"),
    ],
)
def test_the_checklist_is_argued_from_the_incident(changes, wanted):
    actions = prose.actions(incident(**changes))
    assert [action.title for action in actions[:4]] == [
        "Review the alert thresholds",
        "Consider automatic recovery",
        "Check log rotation",
        "Consider more memory or disk",
    ]
    assert {action.title: action.wanted for action in actions if action.title in wanted} == wanted
    assert all(action.why for action in actions)


def test_what_is_merely_possible_is_no_item_to_settle():
    finding = {"cause": "wal_pending", "confidence": 0.2, "remedy": "Leave the WAL alone."}
    assert all("WAL" not in action.title for action in prose.actions(incident(findings=[finding])))


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
    assert prose.duration(seconds) == words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, "not counted"),
        ({"a": 1200}, {}, "1,200 in 1 table before, not counted after"),
        ({"a": 2, "b": 1}, {"a": 3, "b": 1}, "3 in 2 tables before, 4 after; no table has fewer rows"),
        ({"a": 2, "b": 1}, {"a": 1}, "3 in 2 tables before, 1 after; FEWER IN a 2 -> 1 and b 1 -> 0"),
    ],
)
def test_rows(before, after, words):
    assert prose.rows(incident(rows_before=before, rows_after=after)) == words


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        pytest.param(
            {"outcome": "recovered", "rung": "restart", "rungs_tried": [rung()], "data_loss": "none"},
            render_screen.GOOD,
            ["RECOVERED: node1", "restart held", "/d/INC-1.md"],
            id="recovered",
        ),
        pytest.param(
            {"outcome": "recovered", "rungs_tried": [rung()], "data_loss": "suspected", "next_step": "Call the DBA"},
            render_screen.BAD,
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
                "escalation": {"to": ["Lead", "DBA"], "told": ["Lead"], "reason": "unknown cause"},
                "next_step": "Look at the evidence",
            },
            render_screen.BAD,
            [
                "NOT RECOVERED",
                "restart did not hold, then standard_recovery stopped the climb",
                "restart: no answer",
                "told: Lead; TO BE TOLD: DBA (unknown cause)",
                "next step   Look at the evidence",
                "still down",
            ],
            id="not recovered",
        ),
        pytest.param({}, render_screen.BAD, ["UNFINISHED", "the run ended before its verdict"], id="killed"),
    ],
)
def test_summary(changes, tone, words):
    model = incident(**changes)
    assert render_screen.tone(model) == tone
    lines = render_screen.summary(model, document="/d/INC-1.md")
    for part in words:
        assert part in "\n".join(lines)
    assert all(len(line) <= render_screen.WIDTH for line in lines)
    assert all(line[14] != " " for line in lines[1:])


def test_a_long_path_is_not_broken():
    path = "/a" * 80
    assert f"  postmortem  {path}" in render_screen.summary(incident(), document=path)


@pytest.mark.parametrize(
    "identity", ["../../etc/passwd", "/etc/x", ".hidden", "", "a/b", "a\x00b", "x" * 300, "..", "é"]
)
def test_documents_stay_within_the_folder(identity, tmp_path):
    for document in folder.documents(str(tmp_path), incident(incident=identity)):
        document.write()
    assert len(list(tmp_path.iterdir())) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_ids_that_differ_get_names_that_differ():
    assert len({folder.safe_name(identity) for identity in ["a/b", "a_b", "a.b", "a:b", "a//b"]}) == 5


def test_recorder_creates_private_files_and_reads_what_it_wrote(tmp_path):
    place = str(tmp_path / "x" / "postmortems")
    recorder = folder.Recorder(place, "run1")
    event = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "run1", "kind": "run_start", "note": "INC-7 ✓ \udcff"}
    recorder.append(timeline.encode(event), durable=True)
    assert [each["kind"] for each in folder.read(place, incidents=["INC-7"])] == ["run_start"]
    assert folder.read(place, incidents=["INC-8"]) == []
    assert folder.read(place, since="2999-01-01T00:00:00.000Z") == []
    assert len(folder.read(place, since="no instant")) == 1
    recorder.close()
    with pytest.raises(FileExistsError):
        folder.Recorder(place, "run1")
