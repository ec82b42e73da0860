# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing as an issue, against an API of issues that is served over HTTP here."""

from __future__ import annotations

import re

import pytest
from github_api import TOKEN, Api

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import issue

DOCUMENT = (
    "# Postmortem\n\nIt fell.\n\n## 1. When\n\nAt night.\n\n## 7. Timeline\n\nA, then B.\n\n## Evidence\n\nSome.\n"
)


@pytest.fixture
def api():
    with Api() as served:
        yield served
        served.shutdown()


def publish(served, document=DOCUMENT, *, slept=None, patience=60.0, **target):
    wanted = {"api": served.url, "repository": "o/r", "token": TOKEN, "labels": ["postmortem"], **target}
    return issue.publish(
        issue.Target(**wanted),
        title="Postmortem",
        document=document,
        incident="INC-1",
        since="2026-03-02T01:00:00.000Z",
        where="/state/INC-1.md",
        patience=patience,
        send=issue.transport(timeout=5),
        sleep=(slept if slept is not None else []).append,
    )


def test_made_once_then_commented_where_there_is_news(api):
    made = publish(api, labels=["postmortem", "itsm"], assignees=["lead"])
    assert (made.state, made.number, made.url, made.warnings) == ("created", 1, api.issues[0]["html_url"], [])
    assert api.issues[0]["body"].startswith("<!-- incident: INC-1 -->\n")
    assert DOCUMENT in api.issues[0]["body"]
    assert publish(api).state == "unchanged"
    news = DOCUMENT.replace("Some.", "More.")
    assert publish(api, news).state == "commented"
    assert publish(api, news).state == "unchanged"
    assert (len(api.issues), len(api.comments[1])) == (1, 1)


def test_found_again_though_its_label_was_dropped_or_it_is_pages_away(api):
    api.drops_labels = True
    assert publish(api).warnings == ["o/r did not take label postmortem"]
    for _ in range(250):
        api.add(body="Something else that quotes <!-- incident: INC-1 -->", labels=[{"name": "postmortem"}])
    api.add(body="<!-- incident: INC-1 -->", pull_request={})
    assert (publish(api).state, publish(api).number) == ("unchanged", 1)


def test_somebody_who_left_keeps_nothing_from_being_published(api):
    made = publish(api, assignees=["gone"])
    assert made.state == "created" and "assignees" in made.warnings[0]
    assert len(api.issues) == 1


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        pytest.param([("POST", 502, {})], [1.0], id="5xx"),
        pytest.param([("GET", 503, {"Retry_After": "7"})], [7.0], id="retry after"),
        pytest.param([(None, 429, {"Retry_After": "3"})], [3.0], id="429"),
        pytest.param([("POST", 403, {"Retry_After": "5"})], [5.0], id="secondary rate limit"),
        pytest.param([("GET", 500, {}), ("POST", 500, {}), (None, 500, {})], [1.0, 2.0, 4.0], id="three times"),
    ],
)
def test_what_passes_is_waited_for(api, trouble, waits):
    api.troubles, slept = list(trouble), []
    assert publish(api, slept=slept).state == "created"
    assert slept == waits
    assert len(api.issues) == 1


@pytest.mark.parametrize(
    ("troubles", "target", "told"),
    [
        pytest.param([], {"token": "wrong"}, "answered 401 Unauthorized: Bad credentials; the token", id="401"),
        pytest.param([("POST", 403, {})], {}, "the token may not write issues there", id="403"),
        pytest.param([], {"repository": "o/other"}, "there is no o/other, or the token may not see it", id="404"),
        pytest.param([("POST", 422, {})] * 2, {}, "answered 422", id="422"),
        pytest.param([(None, 301, {"Location": "http://127.0.0.1:1/"})], {}, "has moved", id="moved"),
        pytest.param([(None, 500, {})] * 9, {}, "answered 500", id="never"),
        pytest.param([(None, 429, {"Retry_After": "3600"})], {}, "answered 429", id="an hour"),
        pytest.param([], {"api": "http://127.0.0.1:1"}, "cannot be reached: Connection refused", id="nobody there"),
    ],
)
def test_what_does_not_pass_is_said(api, troubles, target, told):
    api.troubles = list(troubles)
    with pytest.raises(issue.IssueError, match=re.escape(told)) as raised:
        publish(api, **target)
    assert TOKEN not in str(raised.value) and "CANARY" not in str(raised.value)
    assert api.issues == []


def test_an_answer_that_was_lost_makes_no_second_issue(api):
    send = issue.transport(timeout=5)

    def losing(method, url, headers, data):
        answer = send(method, url, headers, data)
        if method == "POST" and len(api.requests) < 4:
            raise issue.UnreachedError("no answer in time", passing=True)
        return answer

    told = {"title": "P", "document": DOCUMENT, "incident": "INC-1", "since": "x", "where": "y", "patience": 60.0}
    target = issue.Target(api=api.url, repository="o/r", token=TOKEN)
    assert issue.publish(target, send=losing, sleep=lambda _seconds: None, **told).state == "unchanged"
    assert len(api.issues) == 1


def test_what_is_too_long_is_cut_at_sections():
    long = DOCUMENT.replace("A, then B.", "| step 😀 |\n" * 8000)
    text = issue.body(long, incident="INC-1", where="/state/INC-1.md")
    assert issue.LONGEST - 65400 < len(text.encode("utf-16-le")) // 2 <= issue.LONGEST
    assert "step" not in text and "## 7. Timeline\n" in text and "/state/INC-1.md" in text
    for kept in ("It fell.", "At night.", "## Evidence\n\nSome."):
        assert kept in text
    head = issue.body("😀" * 70000, incident="INC-1", where="/x")
    assert len(head.encode("utf-16-le")) // 2 <= issue.LONGEST and head.rstrip().endswith("/x_")
    assert issue.body(DOCUMENT, incident="INC-1", where="/x").endswith(DOCUMENT)


def test_an_id_cannot_end_its_mark():
    mark = issue.marker("INC --> <script>")
    assert mark.startswith("<!-- incident: INC_") and mark.index("-->") == len(mark) - 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"repository": "o/r/../x"}, "repository is 'o/r/../x'"),
        ({"api": "http://git.example/api/v3"}, "api_url is not https://"),
        ({"token": ""}, "token is empty"),
        ({"token": "a\nb"}, "token holds characters"),
    ],
)
def test_targets(changes, told):
    target = {"api": "https://git.example/api/v3", "repository": "o/r", "token": "t", **changes}
    assert issue.why_not(issue.Target(**target)).startswith(told)
    assert bool(told) == bool(issue.why_not(issue.Target(**target)))
