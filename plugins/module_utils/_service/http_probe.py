# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send requests to the service's endpoints over HTTP and HTTPS, and log in.

Proxy settings in the environment are ignored, because only the service's own response is relevant.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Login, Target

_BODY_LIMIT = 64 * 1024
# IDs of the messages about responses that have status code 200 but do not state the service's health.
WITHOUT_HEALTH = ("reason.probe.not_json", "reason.probe.no_status")
_TOO_MANY_REQUESTS = 429  # a server that enforces a rate limit is alive
_AGENT = "itsm_nexus.runbook"


def _context(target: Target) -> ssl.SSLContext:
    if target.validate_certs:
        return ssl.create_default_context(cafile=target.ca_path or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception, *, timeout: float) -> Message:
    """Return a short reason why there was no response."""
    said = str(getattr(error, "strerror", None) or type(error).__name__)
    kinds: Tuple[Tuple[Any, Message], ...] = (
        ((socket.timeout, TimeoutError), _silent(timeout)),
        (
            ssl.SSLCertVerificationError,
            message("reason.probe.not_trusted", why=str(getattr(error, "verify_message", ""))),
        ),
        (ssl.SSLError, message("reason.probe.tls", why=str(getattr(error, "reason", None) or said))),
        (ConnectionRefusedError, message("reason.probe.refused")),
        (ConnectionError, message("reason.probe.lost", why=said)),
        ((http.client.HTTPException, ValueError), message("reason.probe.not_http", why=said)),
    )
    known = next((told for kind, told in kinds if isinstance(error, kind)), None)
    return known or message("reason.probe.not_connected", why=said)


def _silent(timeout: float) -> Message:
    return message("reason.probe.silent", seconds=f"{timeout:g}")


def _certificate(der: Optional[bytes]) -> Optional[Dict[str, Any]]:
    try:
        described = x509.describe(der or b"")
    except x509.CertificateError:
        return None
    not_after = float(str(described["not_after"]))
    return {
        "not_after": timestamps.iso(not_after),
        "subject": described["subject"],
        "expired": not_after < time.time(),
    }


class _Request:
    """One request in its own thread, with one time limit for name lookup, connection, handshake, headers and body.

    A socket's timeout restarts with each byte, so a server that sends one byte at a time would never trigger the
    timeout. Therefore, the socket is shut down when the time limit is reached.
    """

    def __init__(self, target: Target, *, timeout: float, body: Optional[bytes] = None) -> None:
        self.target = target
        self.status: Optional[int] = None
        self.answer = b""
        self.error: Optional[Message] = None
        self.certificate: Optional[Dict[str, Any]] = None
        self.latency = 0.0
        # True if there was no response within the time limit.
        self.silent = False
        self._timeout = timeout
        self._body = body
        self._problem: Optional[Message] = None  # the error for which the thread is still collecting details
        self._sockets: List[socket.socket] = []
        self._over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = time.monotonic()
        self._thread.start()

    def result(self) -> _Request:
        """Wait for the response, at most until the time limit, and return this request."""
        self._thread.join(max(0.0, self._begun + self._timeout - time.monotonic()))
        with self._lock:
            if self._thread.is_alive() and not self._over:
                self._over = True
                self.status, self.answer = None, b""
                self.silent = self._problem is None
                self.error = self._problem or _silent(self._timeout)
                self.latency = time.monotonic() - self._begun
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    # The thread may be using the TLS layer, so shut down only the socket.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)
        return self

    def _run(self) -> None:
        status: Optional[int] = None
        answer, error, silent = b"", None, False
        try:
            status, answer = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as problem:
            silent = isinstance(problem, (socket.timeout, TimeoutError))
            error = self._problem = _reason(problem, timeout=self._timeout)
            if isinstance(problem, ssl.SSLCertVerificationError):
                self._look_at_certificate()
        with self._lock:
            if not self._over:
                self._over = True
                self.status, self.answer, self.error = status, answer, error
                self.silent = silent
                self.latency = time.monotonic() - self._begun

    def _connect(self, parts: urllib.parse.SplitResult) -> socket.socket:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connected = socket.create_connection((parts.hostname or "", port), timeout=self._timeout)
        with self._lock:
            self._sockets.append(connected)
            if self._over:
                raise socket.timeout
        return connected

    def _wrap(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        wrapped = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        # wrap_socket has moved the descriptor to a new object, so the old object can no longer shut down the socket.
        with self._lock:
            self._sockets[-1] = wrapped
            if self._over:
                raise socket.timeout
        wrapped.do_handshake()
        return wrapped

    def _ask(self) -> Tuple[int, bytes]:
        parts = urllib.parse.urlsplit(self.target.url)
        host = parts.hostname or ""
        connection = http.client.HTTPConnection(host, parts.port, timeout=self._timeout)
        connected = self._connect(parts)
        try:
            if parts.scheme == "https":
                connected = self._wrap(connected, _context(self.target), host)
                self.certificate = _certificate(connected.getpeercert(binary_form=True))
            connection.sock = connected
            headers = {"Host": parts.netloc, "Accept": "application/json", "User-Agent": _AGENT, "Connection": "close"}
            if self._body is not None:
                headers["Content-Type"] = "application/json"
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request("GET" if self._body is None else "POST", path, body=self._body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(_BODY_LIMIT)
        finally:
            connected.close()

    def _look_at_certificate(self) -> None:
        """Fetch the untrusted certificate, because the report shows its subject and expiry date."""
        parts = urllib.parse.urlsplit(self.target.url)
        with contextlib.suppress(OSError, ValueError):
            connected = self._connect(parts)
            try:
                unproved = self.target._replace(validate_certs=False)
                connected = self._wrap(connected, _context(unproved), parts.hostname or "")
                self.certificate = _certificate(connected.getpeercert(binary_form=True))
            finally:
                connected.close()


def _judge_body(answer: bytes, ok_statuses: Sequence[str]) -> Optional[Message]:
    try:
        body = json.loads(answer.decode("utf-8"))
    except (ValueError, RecursionError):
        return message("reason.probe.not_json")
    word = body.get("status") if isinstance(body, dict) else None
    if not isinstance(word, str):
        return message("reason.probe.no_status")
    if word.casefold() not in {good.casefold() for good in ok_statuses}:
        return message("reason.probe.wrong_status", status=repr(word[:40]), expected=" or ".join(ok_statuses))
    return None


def _judge(request: _Request, ok_statuses: Sequence[str]) -> Optional[Message]:
    """Return the problem with a response, or None if there is no problem."""
    if request.error is not None or request.status == _TOO_MANY_REQUESTS:
        return request.error
    if request.status != http.client.OK:
        return message("reason.probe.not_200", status=str(request.status))
    return _judge_body(request.answer, ok_statuses)


def probe(targets: Sequence[Target], *, timeout: float, ok_statuses: Sequence[str]) -> List[Dict[str, Any]]:
    """Probe all targets in parallel for at most timeout seconds. Return the result for each target."""
    requests = [_Request(target, timeout=timeout) for target in targets]
    answers = []
    for request in requests:
        request.result()
        error = _judge(request, ok_statuses)
        answers.append(
            {
                "name": request.target.name,
                "url": request.target.url,
                "required": request.target.required,
                "ok": error is None,
                "status": request.status,
                "latency_ms": round(request.latency * 1000, 1),
                "error": None if error is None else messages.english(error),
                "messages": messages.plain(error=error),
                "silent": request.silent,
                "certificate": request.certificate,
            }
        )
    return answers


class Fetched(NamedTuple):
    """The status and the body of a response, or the reason why there was no response."""

    status: Optional[int]
    body: bytes
    error: Optional[Message]


def fetch(target: Target, *, timeout: float) -> Fetched:
    """Send one GET request, wait for at most `timeout` seconds, and return the response."""
    request = _Request(target, timeout=timeout).result()
    return Fetched(request.status, request.answer, request.error)


def ask(target: Target, *, timeout: float) -> Dict[str, Any]:
    """Send one request. Return the HTTP status, and the value of `status` in the response's JSON body.

    A value is None if it is unknown.
    """
    answer = fetch(target, timeout=timeout)
    try:
        body = json.loads(answer.body.decode("utf-8")) if answer.error is None else None
    except (ValueError, RecursionError):
        body = None
    word = body.get("status") if isinstance(body, dict) else None
    return {"status": answer.status, "word": word[:40] if isinstance(word, str) else None}


def log_in(login: Login, *, timeout: float) -> Dict[str, Any]:
    """Try to log in. Return the result without the response's body, because the body contains a token.

    If the rate limit is reached (429), the login counts as successful. In this case, `checked` is False in the result,
    because the password was not tested.
    """
    body = json.dumps({"username": login.username, "password": login.password}).encode()
    request = _Request(login.target, timeout=timeout, body=body).result()
    error = request.error
    limited = request.status == _TOO_MANY_REQUESTS
    good = request.status is not None and (200 <= request.status < 300 or limited)
    if error is None and not good:
        error = message("reason.probe.login_refused", status=str(request.status))
    elif limited:
        error = message("reason.probe.rate_limited")
    return {
        "ok": good,
        "checked": request.status is not None and not limited,
        "status": request.status,
        "error": None if error is None else messages.english(error),
        "messages": messages.plain(error=error),
    }
