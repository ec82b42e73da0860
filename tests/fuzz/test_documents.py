# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents about arbitrary data contain no active content, and the screen shows no control characters."""

from __future__ import annotations

import html.parser
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import content as notification_content
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import github_issue, transports
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    document_store,
    screen_layout,
    screen_without_incident,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, kinds
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

HOSTILE = st.sampled_from(
    [
        *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</code></pre></details>"),
        *("[a](javascript:alert(1))", "![i](http://192.0.2.1/)", "```\n# H\n```mermaid\ngraph TD", "|a|b|\n|--|--|"),
        *("{{ 7 * 7 }}", "{% for x in y %}", "${7*7}", "\x1b]0;x\x07\x1b[2J", "\x9b31m\u202e", "a\r\nBcc: x@a.example"),
        *("@everyone", "#1", "<!channel>", "<!-- incident: x -->", "../../etc/passwd", "/etc/passwd", "\udc9b"),
        *("2026-03-02T01:02:03.456Z", "9999-99-99T99:99:99.999Z", "restart", "recovered", "0"),
        "\u65e5\u672c\n  data loss none",
    ]
)
TEXT = st.one_of(HOSTILE, st.text(max_size=40), st.lists(HOSTILE, max_size=3).map("".join))
NUMBERS = st.one_of(st.integers(-(10**18), 10**18), st.floats())
VALUE = st.one_of(TEXT, st.none(), st.booleans(), NUMBERS, st.lists(TEXT, max_size=2))
LINES = st.lists(VALUE.map(lambda each: json.dumps(each).encode()), max_size=4).map(b"\n".join)


def of_kind(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy that draws values of a kind in the allowlist.

    The strategy sometimes draws values of other kinds.
    """
    if isinstance(kind, kinds.Each):
        good = st.lists(of_kind(kind.of), max_size=3)
    elif isinstance(kind, kinds.Named):
        good = st.dictionaries(TEXT, of_kind(kind.of), max_size=3)
    elif isinstance(kind, tuple):
        good = st.one_of(*map(of_kind, kind))
    elif isinstance(kind, str):
        good = {
            kinds.NUMBER: st.one_of(st.integers(-10, 10**15), st.floats()),
            kinds.FLAG: st.booleans(),
        }.get(kind, TEXT)
    else:
        good = st.fixed_dictionaries({}, optional={name: of_kind(each) for name, each in kind.items()})
    return good if isinstance(kind, (dict, kinds.Each)) else st.one_of(good, good, good, VALUE)


RESULT = st.sampled_from(sorted(allowlist.RESULTS)).flatmap(
    lambda module: st.tuples(st.just(module), of_kind(allowlist.RESULTS[module]))
)
ROLES = ["detection", "triage", "remediation", "restart", "clean_start_recovery", "verification", "postmortem", None]


@st.composite
def events(draw: Any) -> list[timeline_events.Event]:
    """Draw events as the callback writes them for arbitrary results from a host."""
    told: list[timeline_events.Event] = []

    def tell(kind: str, **keys: Any) -> None:
        at = f"2026-03-02T01:02:{len(told):02d}.000Z"
        told.append({"v": timeline_events.VERSION, "at": at, "run": "run", "kind": kind, **keys})

    tell("run_start", playbook="outage_recover.yml", check=False, core="2.19.0")
    opened = {"id": draw(TEXT.filter(bool)), "opened_at": draw(TEXT)}
    results = [("incident", opened), *draw(st.lists(RESULT, max_size=6))]
    for module, result in results:
        action = f"{allowlist.COLLECTION}.{module}"
        failed = draw(st.booleans())
        about = {"msg": kinds.text(draw(TEXT))} if failed else {}
        role = draw(st.sampled_from(ROLES))
        status = "failed" if failed else draw(st.sampled_from(["ok", "changed"]))
        data = allowlist.of_result(action, result)
        tell("task", host="host", task="Do it", role=role, action=action, status=status, data=data, **about)
    if draw(st.booleans()):
        tell("outcome", host="host", data=kinds.pick(allowlist.OUTCOME, draw(of_kind(allowlist.OUTCOME))))
    tell("stats", hosts={})
    return timeline_events.decode(b"".join(map(timeline_events.encode, told)))


TAGS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "section",
        "footer",
        "h1",
        "h2",
        "p",
        "b",
        "br",
        "div",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "ol",
        "li",
        "code",
        "details",
        "summary",
        "span",
        "small",
        "a",
        "svg",
        "g",
        "rect",
        "line",
        "text",
        "path",
    ]
)


class Page(html.parser.HTMLParser):
    """Collects the elements that a browser would create from a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.problems.append(tag)
        self.problems += [f"{tag} {name}" for name, value in attrs if name.startswith("on")]
        self.problems += [f"{tag} {value}" for name, value in attrs if name in ("href", "src") and ":" in str(value)]

    def handle_comment(self, data: str) -> None:
        self.problems.append(data)


def without_code(text: str) -> str:
    """Return Markdown without its code spans and fenced blocks."""
    text = re.sub(r"(?ms)^```mermaid\n.*?^```$", "", text)
    return re.sub(r"(?<![\\`])(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text)


SPOKEN = [catalogue.of("en", "UTC"), catalogue.of("ja", "Asia/Tokyo")]


def check(incident: incident_model.Incident) -> None:
    for spoken in SPOKEN:
        page = html_report.page(spoken, incident)
        assert Page(page).problems == []
        assert not sanitize.ACTIVE.search(page)
        document = markdown_report.markdown(spoken, incident)
        assert not sanitize.ACTIVE.search(document)
        assert not re.search(r"<(?!/?(?:details|summary)>|br>)", without_code(document)), document
        assert not re.search(r"(?<!\\)!?\[[^\]\n]*\]\((?!#)", without_code(document))
        text = github_issue.body(document, incident=incident.incident, where="/x")
        assert text.count("<!-- incident:") == text.count("<!-- document:") == 1
        for line in screen_report.summary(spoken, incident, document=None):
            shown = screen_layout.one_line(line)
            assert len(shown.splitlines()) <= 1 and not sanitize.ACTIVE.search(shown)
    json.loads(incident_model.to_json(incident))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", document_store.safe_name(incident.incident))


# An example takes half a second.
@settings(max_examples=min(settings.default.max_examples, rounds(10, thorough=3000)))
@given(events())
def test_any_answers_result_in_inert_documents(told):
    for incident in timeline_incidents.from_events(told):
        check(incident)
    for host, of_host in timeline_events.without_incident(told).items():
        screen_without_incident.without_incident(SPOKEN[0], host, of_host)


@given(st.one_of(st.binary(max_size=300), LINES))
def test_any_bytes_as_a_timeline(data):
    timeline_incidents.from_events(timeline_events.decode(data))


@given(TEXT, TEXT, TEXT)
def test_a_host_cannot_control_a_mail_header(subject, text, incident):
    sent = transports.compose(
        sender="a@example.com", to=["b@example.com"], subject=subject, text=text, message_id=incident, thread=incident
    )
    head = sent.as_bytes().partition(b"\r\n\r\n")[0].decode("ascii")
    names = [line.partition(":")[0] for line in head.split("\r\n") if line[:1] not in (" ", "\t")]
    assert sorted(names) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "Content-Type",
         "Content-Transfer-Encoding", "MIME-Version"]
    )  # fmt: skip


TOLD = st.dictionaries(st.sampled_from(["subject", "text", "host", "cause_summary", "event"]), TEXT)


@given(TOLD, st.sampled_from(notification_content.SHAPES))
def test_notifications_are_one_line_and_inert(message, shape):
    told = notification_content.facts(message)
    assert all(len(str(value).splitlines()) <= 1 and not sanitize.ACTIVE.search(str(value)) for value in told.values())
    body = notification_content.body({"subject": "", "text": "", **told}, shape)
    if shape == "slack":
        # The blocks are plain text. Slack interprets mentions only in the value of `text`.
        assert "<" not in body["text"]
    if shape == "mattermost":
        fence = re.match("`+", body["text"])
        assert fence and body["text"].count(fence.group()) == 2
