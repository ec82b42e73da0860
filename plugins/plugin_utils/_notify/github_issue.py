# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publish a postmortem as an issue on GitHub or GitHub Enterprise Server, and its later versions as comments.

GitHub does not support idempotency keys, so the body contains two hidden markers. The incident marker identifies the
issue of an incident. The document marker shows that this version of the document has already been posted. The code
lists the issues and does not use GitHub's search, because GitHub updates its search index with a delay. See
https://docs.github.com/en/rest/issues.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports

# Maximum length of an issue body or a comment, in characters.
LONGEST = 65536
_PAGES = 10
_PER_PAGE = 100
_RETRIES = 4

# A function that sends a request (method, URL, headers and body). The function returns the status, the headers (names
# in lower case) and the body of the response.
Transport = Callable[[str, str, Mapping[str, str], Optional[bytes]], Tuple[int, Mapping[str, str], bytes]]


class IssueError(Exception):
    """The postmortem could not be published. The error message contains no secret."""


class _PassingError(Exception):
    """A temporary error, after which a retry may succeed.

    after: the seconds to wait, or None if the time is unknown.
    """

    def __init__(self, text: str, *, after: Optional[float] = None) -> None:
        super().__init__(text)
        self.after = after


class UnreachedError(Exception):
    """A request received no response. passing: True if a retry may succeed."""

    def __init__(self, text: str, *, passing: bool) -> None:
        """Set the error message."""
        super().__init__(text)
        self.passing = passing


@dataclasses.dataclass(frozen=True)
class Target:
    """The repository for the issues. api: URL of the REST API. repository: owner/name."""

    api: str
    repository: str
    token: str
    labels: Sequence[str] = ()
    assignees: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Published:
    """The result (created, commented or unchanged), the issue, and warnings about parts of the request that failed."""

    state: str
    url: str
    number: int
    warnings: List[str]


def body(document: str, *, incident: str, where: str) -> str:
    """Return a document (Markdown) as the body of an issue, with its hidden markers, within GitHub's size limit.

    If the document is too long, sections that do not fit are replaced by a reference to the full document. Earlier
    sections have priority.
    """
    marks = f"{marker(incident)}\n{_digest_mark(document)}\n"
    # The markers identify an issue. Other markers in the document are made invalid, because a host could include a
    # marker in its output.
    document = document.replace("<!--", "<!- -")
    room = LONGEST - len(marks)
    if _length(document) <= room:
        return marks + document
    head, *sections = re.split(r"(?m)^(?=## )", document)
    pointer = f"\n_Too long for an issue; the whole document: {where}_\n\n"
    short = [f"{section.splitlines()[0]}\n{pointer}" for section in sections]
    if _length(head) + sum(map(_length, short)) > room:
        return marks + head.encode("utf-16-le")[: 2 * (room - _length(pointer))].decode("utf-16-le", "ignore") + pointer
    left = room - _length(head) - sum(map(_length, short))
    told = []
    for section, stub in zip(sections, short):
        more = _length(section) - _length(stub)
        told.append(section if more <= left else stub)
        left -= more if more <= left else 0
    return marks + head + "".join(told)


def _length(text: str) -> int:
    """Return the length of the text as GitHub counts it: characters beyond the Basic Multilingual Plane count twice."""
    return len(text) + sum(character > "\uffff" for character in text)


def marker(incident: str) -> str:
    """Return the hidden marker for an incident. Characters that could end the marker are replaced."""
    return f"<!-- incident: {re.sub(r'[^A-Za-z0-9._-]', '_', incident)} -->"


def _digest_mark(document: str) -> str:
    return f"<!-- document: {hashlib.sha256(document.encode('utf-8', 'replace')).hexdigest()[:16]} -->"


def why_not(target: Target) -> str:
    """Return the reason why a target is invalid, or an empty string if it is valid."""
    if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", target.repository):
        return f"repository is {target.repository!r}: must have the form owner/name"
    wrong = transports.why_not_url(target.api)
    if wrong:
        return f"api_url {wrong}"
    if not target.token:
        return "token is empty, and neither ITSM_NEXUS_GITHUB_TOKEN nor GITHUB_TOKEN is set on the controller"
    return "" if target.token.isascii() and target.token.isprintable() else "token contains invalid characters"


def publish(
    target: Target,
    *,
    title: str,
    document: str,
    incident: str,
    since: str,
    where: str,
    patience: float,
    send: Transport,
    sleep: Callable[[float], None] = time.sleep,
) -> Published:
    """Create the issue for an incident, or comment on the existing one. Raises IssueError.

    since: a time before the incident began. patience: the maximum total delay between retries, in seconds.
    """
    text = body(document, incident=incident, where=where)
    client = _Client(target, send)
    waited = 0.0
    for attempt in range(_RETRIES):
        try:
            # Search for the issue again at each attempt, because a request without a response may have succeeded.
            return _publish(client, title=title, text=text, document=document, incident=incident, since=since)
        except _PassingError as error:
            wait = error.after if error.after is not None else float(2**attempt)
            if attempt + 1 == _RETRIES or waited + wait > patience:
                raise IssueError(str(error)) from None
            waited += wait
            sleep(wait)
    raise AssertionError


def _publish(client: _Client, *, title: str, text: str, document: str, incident: str, since: str) -> Published:
    found = client.find(marker(incident), since=since)
    if found is None:
        made, warnings = client.create(title, text)
        return Published("created", str(made.get("html_url") or ""), int(made.get("number") or 0), warnings)
    number, url = int(found["number"]), str(found.get("html_url") or "")
    if _digest_mark(document) in str(found.get("body")) or client.commented(number, _digest_mark(document)):
        return Published("unchanged", url, number, [])
    comment = client.call("POST", f"/issues/{number}/comments", {"body": text})
    return Published("commented", str(comment.get("html_url") or url), number, [])


class _Client:
    """API requests for one repository."""

    def __init__(self, target: Target, send: Transport) -> None:
        self.target = target
        self._send = send
        self._base = f"{target.api.rstrip('/')}/repos/{target.repository}"

    def find(self, mark: str, *, since: str) -> Optional[Dict[str, Any]]:
        """Return the issue with the marker, or None. Also search by time, because the label may have been removed."""
        queries = [{"since": since}]
        if self.target.labels:
            queries.insert(0, {"labels": self.target.labels[0]})
        for query in queries:
            for each in self.pages("/issues", {**query, "state": "all", "sort": "created", "direction": "desc"}):
                # The body of the incident's issue begins with the marker. Other issues may quote the marker later in
                # the text.
                if "pull_request" not in each and str(each.get("body") or "").startswith(mark):
                    return each
        return None

    def commented(self, number: int, mark: str) -> bool:
        """Return True if a comment on the issue contains the marker."""
        return any(mark in str(each.get("body") or "")[:300] for each in self.pages(f"/issues/{number}/comments", {}))

    def create(self, title: str, text: str) -> Tuple[Dict[str, Any], List[str]]:
        """Create an issue. Return the issue, and a warning if GitHub did not set all labels and assignees."""
        wanted: Dict[str, Any] = {"title": title[:256], "body": text}
        extras = {"labels": list(self.target.labels), "assignees": list(self.target.assignees)}
        try:
            made = self.call("POST", "/issues", {**wanted, **{name: each for name, each in extras.items() if each}})
        except _RefusedError as error:
            if not any(extras.values()):
                raise
            # Publish the issue without labels and assignees. They may be invalid: for example, an assignee may have
            # left the company.
            made = self.call("POST", "/issues", wanted)
            return made, [f"labels and assignees were refused: {error}"]
        got = {
            "labels": {each.get("name") for each in made.get("labels") or [] if isinstance(each, dict)},
            "assignees": {each.get("login") for each in made.get("assignees") or [] if isinstance(each, dict)},
        }
        lost = [f"{name[:-1]} {each}" for name, asked in extras.items() for each in asked if each not in got[name]]
        return made, [f"{self.target.repository} did not set {', '.join(lost)}"] if lost else []

    def pages(self, path: str, query: Mapping[str, str]) -> Iterator[Dict[str, Any]]:
        """Request a list page by page, and yield its items."""
        for page in range(1, _PAGES + 1):
            asked = urllib.parse.urlencode({**query, "per_page": _PER_PAGE, "page": page})
            listed = self.call("GET", f"{path}?{asked}")
            items = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
            yield from items
            if len(items) < _PER_PAGE:
                return

    def call(self, method: str, path: str, sent: Optional[Mapping[str, Any]] = None) -> Any:
        """Send a request to the API, and return the JSON response.

        Raises IssueError, _PassingError or _RefusedError.
        """
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.target.token}",
            "User-Agent": "itsm_nexus.runbook",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        data = None
        if sent is not None:
            data = json.dumps(sent).encode()
            headers["Content-Type"] = "application/json"
        try:
            status, answered, content = self._send(method, self._base + path, headers, data)
        except UnreachedError as error:
            told = f"{self._host()}: {error}"
            raise (_PassingError(told) if error.passing else IssueError(told)) from None
        if status in (200, 201):
            try:
                return json.loads(content)
            except ValueError:
                raise IssueError(f"{self._host()} did not answer with JSON: is {self.target.api} its API?") from None
        raise self._error(status, answered, content)

    def _host(self) -> str:
        return transports.host(self.target.api)

    def _error(self, status: int, answered: Mapping[str, str], content: bytes) -> Exception:
        told = f"{self._host()} answered {status} {http.client.responses.get(status, '')}".rstrip()
        said = _message(content)
        told = f"{told}: {said}" if said else told
        spent = answered.get("x-ratelimit-remaining") == "0" or "rate limit" in said.lower()
        if status == 429 or (status == 403 and (spent or "retry-after" in answered)):
            return _PassingError(told, after=_after(answered))
        if status >= 500:
            return _PassingError(told, after=_after(answered))
        if status == 422:
            return _RefusedError(told)
        if 300 <= status < 400:
            return IssueError(f"{told}; the repository has moved: set repository to its new name")
        hint = {
            401: "the token is wrong or has expired",
            403: "the token may not write issues there",
            404: f"there is no {self.target.repository}, or the token may not see it",
            410: "issues are disabled in the repository",
        }.get(status)
        return IssueError(f"{told}; {hint}" if hint else told)


class _RefusedError(IssueError):
    """The API understood the request but rejected its values."""


def _message(content: bytes) -> str:
    """Return the API's short error message. The message quotes the sent values, but never the token."""
    try:
        answer = json.loads(content)
    except ValueError:
        return ""
    if not isinstance(answer, dict):
        return ""
    parts = [str(answer.get("message") or "")]
    for each in answer.get("errors") or []:
        parts.append(
            " ".join(str(each[key]) for key in ("field", "code", "message") if each.get(key))
            if isinstance(each, dict)
            else str(each)
        )
    return " ".join("; ".join(filter(None, parts)).split())[:300]


def _after(answered: Mapping[str, str]) -> Optional[float]:
    """Return the number of seconds that the client must wait according to the server, or None."""
    # Retry-After may also be a date, but GitHub sends seconds.
    with contextlib.suppress(ValueError):
        if "retry-after" in answered:
            return max(float(answered["retry-after"]), 0.0)
        if answered.get("x-ratelimit-remaining") == "0" and "x-ratelimit-reset" in answered:
            return max(float(answered["x-ratelimit-reset"]) - time.time(), 0.0)
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because a redirect could send the token to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def transport(*, timeout: float, ca_path: Optional[str] = None) -> Transport:
    """Return the function that sends requests over HTTPS and verifies certificates. Raises DeliveryError."""
    context = transports.trust(ca_path)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())

    def send(
        method: str, url: str, headers: Mapping[str, str], data: Optional[bytes]
    ) -> Tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, _lower(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), error.read()
        except urllib.error.URLError as error:
            raise _unreached(error.reason) from None
        except http.client.HTTPException:
            raise UnreachedError("its response is not HTTP", passing=True) from None
        except OSError as error:
            raise _unreached(error) from None

    return send


def _unreached(error: object) -> UnreachedError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachedError(f"its certificate is not trusted: {error.verify_message}", passing=False)
    if isinstance(error, TimeoutError):
        return UnreachedError("no response in time", passing=True)
    told = getattr(error, "strerror", None) or type(error).__name__
    return UnreachedError(f"cannot be reached: {told}", passing=True)


def _lower(headers: Any) -> Dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}
