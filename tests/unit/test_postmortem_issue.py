# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing as an issue, against an API of issues that is served over HTTP here."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.parse

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import issue

TOKEN = "ghp_CANARY"
DOCUMENT = (
    "# Postmortem\n\nIt fell.\n\n## 1. When\n\nAt night.\n\n## 7. Timeline\n\nA, then B.\n\n## Evidence\n\nSome.\n"
)


class Api(http.server.ThreadingHTTPServer):
    """As much of GitHub's REST API as issues need, with its rules: labels may be dropped, bodies may be too long."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.issues, self.comments, self.requests = [], {}, []
        self.troubles, self.drops_labels, self.page = [], False, 2
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, **keys):
        number = len(self.issues) + 1
        made = {"number": number, "html_url": f"https://git.example/o/r/issues/{number}", "labels": [], "assignees": []}
        self.issues.append({**made, "body": "", **keys})
        return self.issues[-1]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, content, **headers):
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def begin(self):
        """Return whether the request may go on: the token is right and no trouble is due."""
        self.server.requests.append((self.command, self.path))
        self.query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        self.route = urllib.parse.urlsplit(self.path).path.split("/repos/o/r")[-1]
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, {"message": "Bad credentials"})
        elif not urllib.parse.urlsplit(self.path).path.startswith("/repos/o/r/"):
            self.answer(404, {"message": "Not Found"})
        elif self.server.troubles and self.server.troubles[0][0] in (self.command, None):
            _command, status, headers = self.server.troubles.pop(0)
            self.answer(status, {"message": f"trouble {status}"}, **headers)
        else:
            return True
        return False

    def listed(self, items):
        # Fewer a page than asked for would be the end of the list: so the pages here are full or last.
        size, page = int(self.query["per_page"]), int(self.query["page"])
        self.answer(200, items[(page - 1) * size : page * size])

    def do_GET(self):
        if not self.begin():
            return
        if self.route == "/issues":
            wanted = self.query.get("labels")
            found = [each for each in self.server.issues if not wanted or wanted in [x["name"] for x in each["labels"]]]
            self.listed(found[::-1])
        else:
            number = int(re.fullmatch(r"/issues/(\d+)/comments", self.route)[1])
            self.listed(self.server.comments.get(number, []))

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.begin():
            return
        if len(sent["body"]) > 65536:
            self.answer(422, {"message": "Validation Failed", "errors": [{"field": "body", "code": "too_long"}]})
        elif self.route == "/issues":
            if "gone" in sent.get("assignees", []):
                self.answer(
                    422, {"message": "Validation Failed", "errors": [{"field": "assignees", "code": "invalid"}]}
                )
                return
            labels = [] if self.server.drops_labels else [{"name": name} for name in sent.get("labels", [])]
            assignees = [{"login": name} for name in sent.get("assignees", [])]
            self.answer(201, self.server.add(**{**sent, "labels": labels, "assignees": assignees}))
        else:
            number = int(re.fullmatch(r"/issues/(\d+)/comments", self.route)[1])
            self.server.comments.setdefault(number, []).append(sent)
            self.answer(201, {"html_url": f"https://git.example/o/r/issues/{number}#issuecomment-1"})


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
