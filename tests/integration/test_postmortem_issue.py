# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A postmortem is published as an issue. The API in these tests matches GitHub's own description of its API."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import pytest
from github_api import SERVERS, TOKEN, Api

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import github_issue

DOCUMENT = (
    "# Postmortem\n\nIt fell.\n\n## 1. When\n\nAt night.\n\n## 7. Timeline\n\nA, then B.\n\n## Evidence\n\nSome.\n"
)
SINCE = "2026-03-02T01:00:00.000Z"


@pytest.fixture(params=SERVERS)
def api(request):
    with Api(request.param) as served:
        yield served
        served.shutdown()
    assert served.violations == []


def publish(served, document=DOCUMENT, *, slept=None, patience=60.0, **target):
    wanted = {"api": served.url, "repository": "o/r", "token": TOKEN, "labels": ["postmortem"], **target}
    return github_issue.publish(
        github_issue.Target(**wanted),
        title="Postmortem",
        document=document,
        incident="INC-1",
        since=SINCE,
        where="/state/INC-1.md",
        patience=patience,
        send=github_issue.transport(timeout=5),
        sleep=(slept if slept is not None else []).append,
    )


def test_issue_is_created_once_and_then_commented_if_there_is_news(api):
    made = publish(api, labels=["postmortem", "itsm"], assignees=["lead"])
    assert (made.state, made.number, made.url, made.warnings) == ("created", 1, api.issues[0]["html_url"], [])
    assert api.issues[0]["body"].startswith("<!-- incident: INC-1 -->\n")
    assert DOCUMENT in api.issues[0]["body"]
    assert publish(api).state == "unchanged"
    news = DOCUMENT.replace("Some.", "More.")
    assert publish(api, news).state == "commented"
    assert publish(api, news).state == "unchanged"
    assert (len(api.issues), len(api.comments[1])) == (1, 1)


def test_issue_is_found_without_its_label_or_on_a_later_page(api):
    api.drops_labels = True
    assert publish(api).warnings == ["o/r did not set label postmortem"]
    for _ in range(250):
        api.add(body="Something else that quotes <!-- incident: INC-1 -->", labels=["postmortem"])
    api.add(
        body="<!-- incident: INC-1 -->",
        pull_request={"url": None, "html_url": None, "diff_url": None, "patch_url": None},
    )
    assert (publish(api).state, publish(api).number) == ("unchanged", 1)


def test_a_former_assignee_does_not_prevent_publishing(api):
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
def test_temporary_errors_are_retried(api, trouble, waits):
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
def test_permanent_errors_are_reported(api, troubles, target, told):
    api.troubles = list(troubles)
    with pytest.raises(github_issue.IssueError, match=re.escape(told)) as raised:
        publish(api, **target)
    assert TOKEN not in str(raised.value) and "CANARY" not in str(raised.value)
    assert api.issues == []


def test_a_lost_answer_creates_no_second_issue(api):
    send = github_issue.transport(timeout=5)

    def losing(method, url, headers, data):
        answer = send(method, url, headers, data)
        if method == "POST" and len(api.requests) < 4:
            raise github_issue.UnreachedError("no answer in time", passing=True)
        return answer

    told = {"title": "P", "document": DOCUMENT, "incident": "INC-1", "since": SINCE, "where": "y", "patience": 60.0}
    target = github_issue.Target(api=api.url, repository="o/r", token=TOKEN)
    assert github_issue.publish(target, send=losing, sleep=lambda _seconds: None, **told).state == "unchanged"
    assert len(api.issues) == 1


def test_a_long_body_is_shortened_with_a_pointer(api):
    long = DOCUMENT.replace("A, then B.", "| step 😀 |\n" * 8000)
    assert publish(api, long).state == "created"
    assert publish(api, long.replace("Some.", "More.")).state == "commented"
    for text in (api.issues[0]["body"], api.comments[1][0]["body"]):
        assert "It fell." in text and "step" not in text and "/state/INC-1.md" in text


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        pytest.param("POST", "/issues", {"body": "b"}, "'title' is a required property", id="no title"),
        pytest.param("POST", "/issues", {"title": "t", "body": "b", "labels": 5}, "5 is not of type", id="labels"),
        pytest.param("POST", "/issues/1/comments", {"text": "b"}, "'body' is a required property", id="comment"),
        pytest.param("GET", "/issues?state=any&per_page=1&page=1", None, "'any' is not one of", id="state"),
        pytest.param("GET", "/issues?since=yesterday&per_page=1&page=1", None, "'date-time'", id="since"),
    ],
)
def test_this_api_accepts_only_requests_that_github_describes(api, method, path, body, told):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api.url}/repos/o/r{path}", data=data, headers=headers, method=method)
    with pytest.raises(urllib.error.HTTPError, match="422"):
        urllib.request.urlopen(request, timeout=5)
    (violation,) = api.violations
    assert told in violation
    api.violations.clear()


def test_this_api_returns_only_answers_that_github_describes(api):
    del api.add(labels=["postmortem"])["node_id"]
    publish(api)
    assert "'node_id' is a required property" in api.violations[0]
    api.violations.clear()
