# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A local HTTP server that follows GitHub's rules for issues.

Its requests and responses are checked against GitHub's own description of the API.
"""

from __future__ import annotations

import copy
import functools
import http.server
import json
import re
import subprocess
import threading
import urllib.parse
from pathlib import Path

import openapi_core
from openapi_core.testing import MockRequest, MockResponse

TOKEN = "ghp_CANARY"
# For each kind of server: the file name of its API description, and the base path of its API.
SERVERS = {"api.github.com": "", "enterprise-server": "/api/v3"}
ISSUES = "/repos/{owner}/{repo}/issues"
COMMENTS = ISSUES + "/{issue_number}/comments"
# Status codes that a proxy in front of the API can return. They are not listed in GitHub's description.
ANYWHERE = {401, 429, 500, 502, 503}


@functools.cache
def described(server):
    """Return GitHub's description of the operations on issues, which github/describe downloads once per machine."""
    script = Path(__file__).parent / "github" / "describe"
    folder = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout.strip()
    return json.loads((Path(folder) / f"{server}.json").read_text(encoding="utf-8"))


@functools.cache
def rules(server):
    return openapi_core.OpenAPI.from_dict(described(server))


class Api(http.server.ThreadingHTTPServer):
    """The part of GitHub's REST API that manages issues.

    The API limits the length of a body. Tests can make the API drop labels or return errors.

    If GitHub's description does not allow a request, the response has the status 422. The list `violations` contains
    such requests, and responses that the description does not list. At the end, a test asserts that the list is empty.
    """

    def __init__(self, server="api.github.com"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base, self.rules = SERVERS[server], rules(server)
        self.issues, self.comments, self.requests, self.violations = [], {}, [], []
        # The planned errors: (method, status, headers). If the method is None, the error applies to any request.
        self.troubles, self.drops_labels = [], False
        paths = described(server)["paths"]
        self.examples = {
            path: paths[path]["post"]["responses"]["201"]["content"]["application/json"]["examples"]["default"]["value"]
            for path in (ISSUES, COMMENTS)
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}{self.base}"

    def add(self, *, title="Something else", body="", labels=(), assignees=(), **keys):
        """Add an issue. Missing fields are taken from the example in GitHub's documentation."""
        example = copy.deepcopy(self.examples[ISSUES])
        # GitHub's example is both an issue and a pull request.
        example.pop("pull_request", None)
        number = len(self.issues) + 1
        example.update(
            number=number,
            html_url=f"https://git.example/o/r/issues/{number}",
            title=title,
            body=body,
            labels=[{**example["labels"][0], "name": name} for name in labels],
            assignees=[{**example["assignees"][0], "login": login} for login in assignees],
            **keys,
        )
        self.issues.append(example)
        return example

    def comment(self, number, body):
        url = f"https://git.example/o/r/issues/{number}#issuecomment-1"
        made = {**copy.deepcopy(self.examples[COMMENTS]), "body": body, "html_url": url}
        self.comments.setdefault(number, []).append(made)
        return made


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, content, **headers):
        if status not in ANYWHERE and not self.path_is_foreign:
            known = MockResponse(json.dumps(content).encode(), status_code=status, content_type="application/json")
            self.hold_to(lambda: self.server.rules.validate_response(self.asked(), known), f"answer {status}")
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def trouble(self, status, message, *errors, **headers):
        told = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
        self.answer(status, {**told, "errors": list(errors)} if errors else told, **headers)

    def asked(self):
        return MockRequest(
            "http://127.0.0.1",
            self.command.lower(),
            urllib.parse.urlsplit(self.path).path,
            args=self.query,
            headers=dict(self.headers.items()),
            data=self.sent,
            content_type=self.headers["Content-Type"] or "",
        )

    def hold_to(self, check, what):
        """Return True if `check` raises no error.

        If `check` raises an error, add a violation. what: the request or the response.
        """
        try:
            check()
        except openapi_core.exceptions.OpenAPIError as error:
            told = getattr(error.__cause__, "schema_errors", None) or [error]
            self.server.violations.append(
                f"{self.command} {self.path}: {what}: "
                + "; ".join(getattr(each, "message", str(each)) for each in told)
            )
            return False
        return True

    def begin(self):
        """Read the request.

        Return True if the request is valid and no error is planned. Otherwise, send an error response.
        """
        self.sent = self.rfile.read(int(self.headers["Content-Length"] or 0)) or None
        self.server.requests.append((self.command, self.path))
        place = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(place.query))
        self.route = place.path.removeprefix(f"{self.server.base}/repos/o/r")
        self.path_is_foreign = not place.path.startswith(f"{self.server.base}/repos/o/r/")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.trouble(401, "Bad credentials")
        elif self.path_is_foreign:
            self.trouble(404, "Not Found")
        elif not self.hold_to(lambda: self.server.rules.validate_request(self.asked()), "request"):
            self.trouble(422, "Validation Failed")
        elif self.server.troubles and self.server.troubles[0][0] in (self.command, None):
            _command, status, headers = self.server.troubles.pop(0)
            self.trouble(status, f"trouble {status}", **headers)
        else:
            return True
        return False

    def listed(self, items):
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
        if not self.begin():
            return
        sent = json.loads(self.sent)
        if len(sent["body"].encode("utf-16-le")) > 2 * 65536:
            self.refuse("body", "body is too long (maximum is 65536 characters)")
        elif self.route != "/issues":
            number = int(re.fullmatch(r"/issues/(\d+)/comments", self.route)[1])
            self.answer(201, self.server.comment(number, sent["body"]))
        elif "gone" in sent.get("assignees", []):
            self.refuse("assignees")
        else:
            labels = [] if self.server.drops_labels else sent.get("labels", [])
            self.answer(201, self.server.add(**{**sent, "labels": labels}))

    def refuse(self, field, message="is invalid"):
        self.trouble(
            422,
            "Validation Failed",
            {
                "resource": "Issue",
                "field": field,
                "code": "custom" if " " in message else "invalid",
                "message": message,
            },
        )
