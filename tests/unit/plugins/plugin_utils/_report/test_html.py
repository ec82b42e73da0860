# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML page, its charts, the index, the Mermaid gantt, and the JSON document with its schema."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import json
import pathlib
import re

import jsonschema
import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    chart,
    document_store,
    mermaid,
    prose,
    prose_causes,
    prose_data,
    prose_impact,
    prose_ladder,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document as composed
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import schema as document_schema
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

from .._timeline.test_events import OUTCOME, Recording
from .test_render import HOSTILE

ROOT = pathlib.Path(__file__).resolve().parents[5]
LANGUAGES = [catalogue.of("en"), catalogue.of("ja", "Asia/Tokyo")]
VOID = {"meta", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """The elements, attributes and text of a page. Parsing fails if elements are not closed in the right order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def recovered():
    """Return an incident with two runs an hour apart.

    The first run was killed. The second run skipped a rung and succeeded.
    """
    first = Recording("run1").add("run_start", playbook="outage_recover.yml").down().opened()
    first.task(
        "triage_info",
        {"findings": [{"cause": "killed", "confidence": 0.9, "summary": "It was killed."}]},
        role="triage",
    )
    second = Recording("run2")
    second.add("run_start", playbook="outage_recover.yml").down().opened()
    second.task("node_process", {"pids_after": [7]}, "changed", "standard_recovery", duration=2.0)
    second.verified()
    outcome = {
        **OUTCOME,
        "service": "itsm-system",
        "outage_started_at": "2026-03-02T01:00:00.000Z",
        "detected_at": "2026-03-02T01:00:03.000Z",
        "mitigated_at": "2026-03-02T02:00:06.000Z",
        "rung": "standard_recovery",
        "rungs_tried": [
            {"rung": "standard_recovery", "held": True, "started_at": "2026-03-02T02:00:03.000Z", "seconds": 3.0}
        ],
        "rungs_skipped": [{"rung": "restart", "reason": "A package is missing.", "at": "2026-03-02T02:00:02.000Z"}],
        "impact": {"users": 3, "requests": 100, "requests_failed": 7, "requests_from": "/var/log/access.log"},
    }
    second.add("outcome", host="node1", data=outcome).ended()
    for event in second.events:
        event["at"] = event["at"].replace("T01:", "T02:")
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    return incident


def hostile():
    """Return an incident on a host that inserted markup into every result."""
    recording = Recording(host=HOSTILE).add("run_start", playbook=HOSTILE)
    recording.task(
        "health_probe", {"healthy": False, "severity": HOSTILE, "endpoints": [{"name": HOSTILE, "ok": False}]}
    )
    recording.opened(HOSTILE, outage_started={"earliest": HOSTILE, "source": HOSTILE}, outage_started_at=HOSTILE)
    finding = {"cause": HOSTILE, "confidence": 0.9, "summary": HOSTILE, "remedy": HOSTILE}
    finding["evidence"] = [{"source": HOSTILE, "text": HOSTILE}]
    recording.task(
        "triage_info", {"findings": [finding, {**finding, "confidence": 0.1}], "bundle": HOSTILE}, role="triage"
    )
    recording.task("npm_ci", {"swapped": True, "reasons": [HOSTILE]}, "changed", HOSTILE, task=HOSTILE)
    outcome = dict.fromkeys(("incident", "host", "service", "severity", "outcome", "cause", "cause_summary"), HOSTILE)
    outcome |= dict.fromkeys(("error", "next_step", "evidence", "backup_file"), HOSTILE)
    outcome |= {"rows_before": {HOSTILE: 1}, "escalation": {"to": [HOSTILE], "notified": [], "reason": HOSTILE}}
    outcome |= {"rungs_tried": [{"rung": HOSTILE, "held": False, "reason": HOSTILE}]}
    (incident,) = timeline_incidents.from_events(recording.add("outcome", host=HOSTILE, data=outcome).events)
    return incident


@pytest.mark.parametrize("spoken", LANGUAGES, ids=lambda each: each.language)
@pytest.mark.parametrize("make", [recovered, hostile])
def test_the_page_neither_loads_nor_runs_anything(spoken, make):
    text = html_report.page(spoken, make())
    page = Page(text)
    policy = next(each["content"] for each in page.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "script" not in policy and "unsafe" not in policy
    (style,) = [data for tag, data in page.texts if tag == "style"]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    tags = {tag for tag, _attributes in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a", "b/script"}
    attributes = {name for _tag, attributes in page.elements for name in attributes}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {"src", "href", "style", "srcset"}
    assert page.of("html") == [{"lang": spoken.language}]
    assert "url(" not in style and "@import" not in style


def test_the_page_has_the_content_of_the_markdown():
    for spoken in LANGUAGES:
        incident = recovered()
        text = "".join(data for _tag, data in Page(html_report.page(spoken, incident)).texts)
        titles = re.findall(r"^## (.*)$", markdown_report.markdown(spoken, incident), re.MULTILINE)
        assert len(titles) == 10
        for told in (
            *titles,
            prose.outcome(spoken, incident),
            prose_causes.cause(spoken, incident),
            prose_ladder.ladder(spoken, incident),
            prose_data.rows(spoken, incident),
            prose_impact.users(spoken, incident),
            prose_impact.requests(spoken, incident),
            "INC-1",
            "run1.jsonl",
        ):
            assert told in text


@pytest.mark.parametrize("make", [recovered, hostile])
def test_the_page_and_the_markdown_show_the_whole_content(make):
    for spoken in LANGUAGES:
        content = composed.compose(spoken, make())
        text = " ".join(data for _tag, data in Page(html_report.page(spoken, make())).texts)
        page, document = " ".join(text.split()), markdown_report.markdown(spoken, make())
        causes, climbs = [*content.causes, *content.noted], content.climbs
        for shown in (
            *(content.title, content.outcome, content.outage, content.login, content.told),
            *content.next_steps,
            *content.methods,
            *(content.no_evidence, content.not_copied, *content.notes, *content.sources, *content.detected),
            *(part for each in (*content.facts, *content.impact) for part in each),
            *(part for each in content.marks for part in (each.name, each.after)),
            *(each.value for each in content.measures),
            *(part for each in content.rows for part in (each.before, each.after)),
            *(part for each in causes for part in (each.name, each.sure, each.summary)),
            *(part for each in climbs for part in (each.held, each.took, each.reason, *each.facts)),
            *content.skips,
            *(each.why for each in content.actions),
            *(part for each in (*content.moments, *content.short) for part in (each.part, each.what, each.took)),
            *(part for each in content.tellings for part in (each.who, each.by, each.came)),
            *(name for name, _path in content.evidence),
        ):
            assert " ".join(shown.split()) in page
            assert markdown_report.escape(shown) in document


def test_the_charts_show_the_ladder_and_the_times():
    page = Page(html_report.page(LANGUAGES[0], recovered()))
    told = [data for tag, data in page.texts if tag == "text"]
    for name in ("service", "detection", "triage", "standard_recovery", "verification", "Outage began", "restart"):
        assert name in told
    assert {each["class"] for each in page.of("rect")} >= {"bar bad", "bar good", "rung held", "rung skipped", "cut"}
    assert any("omitted" in each for each in told)
    for rectangle in page.of("rect"):
        assert float(rectangle["x"]) >= 0 and float(rectangle["x"]) + float(rectangle["width"]) <= 960


def test_idle_time_is_cut_out_of_the_axis():
    pieces = chart.axis(recovered())
    assert [piece.cut for piece in pieces].count(True) == 1
    assert (pieces[0].left, round(pieces[-1].right, 6)) == (0.0, 1.0)
    lefts = [chart.place(pieces, piece.begin) for piece in pieces]
    assert lefts == sorted(lefts)
    (cut,) = [piece for piece in pieces if piece.cut]
    assert cut.right - cut.left < 0.1 and cut.end - cut.begin > 3000


def test_an_incident_without_times_has_no_timeline_chart():
    incident = timeline_incidents.model("INC-1", "node1", [[{"v": 1, "at": "x", "run": "r", "kind": "run_start"}]])
    assert chart.axis(incident) == []
    assert Page(html_report.page(LANGUAGES[0], incident)).of("svg")[0]["class"] == "ladder"


def gantt_of(*, role):
    told = Recording().down().opened().task("npm_ci", role=role, duration=1.5).ended().events
    lines = mermaid.gantt(LANGUAGES[0], timeline_incidents.from_events(told)[0])
    assert (lines[0], lines[-1]) == ("```mermaid", "```")
    assert all(
        re.fullmatch(r" {4}(?:title|dateFormat|axisFormat|section) .+| {4}[\w ()\uff08\uff09.-]+ :\w+, .+", each)
        for each in lines[2:-1]
    )
    return lines


def test_the_gantt_has_only_names_of_parts_and_times():
    lines = gantt_of(role="restart")
    assert "    restart :active, 2026-03-02 01:00:03.000, 2026-03-02 01:00:04.500" in lines
    assert "    down :crit, 2026-03-02 01:00:00.000, 2026-03-02 01:00:04.000" in lines


def test_several_bars_of_a_part_are_numbered_in_the_gantt():
    recording = Recording().down().opened()
    for role in ("triage", "restart", "triage"):
        recording.task("npm_ci", role=role, duration=0.5)
    lines = mermaid.gantt(LANGUAGES[0], timeline_incidents.from_events(recording.ended().events)[0])
    names = [each.partition(" :")[0].strip() for each in lines if " :" in each]
    assert names == ["down", "detection", "triage 1", "triage 2", "restart"]


@pytest.mark.parametrize("role", ["a :crit, b", "a\n    click a href x", "```\n# H", "a;%%b", HOSTILE])
def test_names_of_parts_are_escaped_in_the_gantt(role):
    assert len(gantt_of(role=role)) == len(gantt_of(role="another"))


def test_the_index_names_the_postmortems_of_a_folder(tmp_path):
    spoken = LANGUAGES[0]
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "other.html").write_text("")
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "torn.html").write_text("")
    (tmp_path / "INC-9.json").write_text('{"incident": "INC-9"}')
    assert "There is no postmortem" in document_store.index(str(tmp_path), spoken).text
    for incident in (recovered(), hostile()):
        for document in document_store.documents(str(tmp_path), spoken, incident):
            document.write()
    index = Page(document_store.index(str(tmp_path), spoken).text)
    links = [each["href"] for each in index.of("a")]
    assert "INC-1.html" in links and len(links) == 2
    assert all((tmp_path / each).exists() for each in links)
    assert "script" not in {tag for tag, _attributes in index.elements}


def test_the_index_marks_failed_recoveries(tmp_path):
    well, lost = recovered(), recovered()
    lost.incident, lost.outcome, lost.data_loss = "INC-2", "not_recovered", "suspected"
    for incident in (well, lost):
        for document in document_store.documents(str(tmp_path), LANGUAGES[0], incident):
            document.write()
    index = document_store.index(str(tmp_path), LANGUAGES[0]).text
    assert '<td class="about good"><b>RECOVERED</b></td>' in index
    assert '<td class="about bad"><b>NOT RECOVERED</b> <span class="lost">Data loss</span></td>' in index


def test_documents_of_an_earlier_run_do_not_mention_a_later_one(tmp_path):
    incident = recovered()
    made = document_store.documents(str(tmp_path), LANGUAGES[0], incident)
    assert not document_store.tells_all(made, {each.path: each.before() for each in made}, incident)
    for document in made:
        document.write()
    before = {each.path: each.before() for each in made}
    assert document_store.tells_all(made, before, incident)
    incident.runs = [*incident.runs, dataclasses.replace(incident.runs[0], run="later")]
    assert not document_store.tells_all(made, before, incident)
    torn = {path: "{" if path.endswith(".json") else text for path, text in before.items()}
    assert not document_store.tells_all(made, torn, recovered())


def test_the_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(document_schema.schema())


@pytest.mark.parametrize("make", [recovered, hostile])
def test_the_json_document_is_valid(make):
    described = document_schema.schema()
    incident = make()
    if make is hostile:
        incident.outcome = "unfinished"
        incident.times.last_good_at = incident.times.started_at = None
    jsonschema.Draft202012Validator(described).validate(json.loads(incident_model.to_json(incident)))


def test_the_schema_rejects_other_documents():
    told = json.loads(incident_model.to_json(recovered()))
    step, times = told["steps"][0], told["times"]
    validator = jsonschema.Draft202012Validator(document_schema.schema())
    validator.validate(told)
    for wrong in (
        {"outcome": "well"},
        {"durations": {}},
        {"surplus": 1},
        {"findings": [{"secret": "x"}]},
        {"times": {**times, "detected_at": "yesterday"}},
        {"steps": [{**step, "at": None}]},
        {"escalation": {"would": [{"secret": "x"}]}},
        {"escalation": {"otherwise": {"would": [{"secret": "x"}]}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**told, **wrong})


def test_the_schema_in_the_documentation_is_that_of_the_model():
    written = json.loads((ROOT / "docs" / "postmortem-schema.json").read_text(encoding="utf-8"))
    assert written == document_schema.schema()


@pytest.mark.parametrize(("waited", "bars"), [(2, 1), (40, 2)])
def test_waits_between_two_checks_are_not_work(waited, bars):
    recording = Recording().down()
    recording.second += waited
    incident = timeline_incidents.from_events(recording.down().opened().events)[0]
    assert len([bar for bar in chart.work(incident) if bar.lane == "detection"]) == bars
