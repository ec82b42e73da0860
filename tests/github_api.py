# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A GitHub that is served over HTTP here: as much of its API of issues as publishing needs."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.parse

TOKEN = "ghp_CANARY"


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
