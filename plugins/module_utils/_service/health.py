# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the service answers: its endpoints over HTTP and HTTPS, and its process, asked until a verdict stands.

Proxies of the environment are not used: the question is whether this service answers, not whether a proxy does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import takeover
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

_BODY_LIMIT = 64 * 1024
# What is said of an answer that tells of something else than health.
NOT_JSON = "answered 200 with a body that is not JSON"
NO_STATUS = 'answered 200 with JSON that has no "status"'
_TOO_MANY_REQUESTS = 429  # rate limiting: whoever says so is alive
_AGENT = "itsm_nexus.runbook"
# How long a unit may be without a process beyond its RestartSec, and how often it may end after a start, before we give
# up: the second time is allowed to systemd's own restart, which may find what the first one lacked.
_RESTART_GRACE = 3.0
_ENDS_ALLOWED = 1
# A service that somebody starts is waited for, _SETTLE seconds in all: until its unit is up, and then until it answers,
# as long as its process is younger than _YOUNG seconds. It is asked every _YOUNG_INTERVAL seconds meanwhile. Longer
# waits would reach the deadline of the role detection, which means a host that gives no answer.
_SETTLE = 25.0
_YOUNG = 20.0
_YOUNG_INTERVAL = 0.2


class HealthError(Exception):
    """A parameter makes no sense; the message names it. A service that does not answer is no error."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One URL and how its server is proved. C(ca_path) is a file of certificates to trust, C("") the system's."""

    name: str
    url: str
    required: bool = True
    validate_certs: bool = False
    ca_path: str = ""


@dataclasses.dataclass(frozen=True)
class Login:
    """A log-in that must succeed for the service to be healthy."""

    target: Target
    username: str
    password: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to ask, and when a verdict stands. Times in seconds; C(interval) from the start of a probe to the next."""

    mode: str = "watch"
    ok_statuses: Sequence[str] = ("ok",)
    timeout: float = 5.0
    interval: float = 1.0
    warning_after: int = 3
    critical_after: int = 5
    deadline: float = 60.0
    count: int = 6
    # Whether nobody but the caller starts the service: then systemd's own restart is not waited for.
    sole_starter: bool = False


# Parameters


def _check_target(target: Target, *, parameter: str) -> None:
    parts = urllib.parse.urlsplit(target.url)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        usable = False
    if not usable:
        raise HealthError(f"{parameter}: {target.url!r} must be an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise HealthError(f"{parameter}: the URL of {target.name!r} must not hold a user or password")
    if target.ca_path and not os.access(target.ca_path, os.R_OK):
        raise HealthError(f"{parameter}: ca_path {target.ca_path!r} must be a readable file of certificates")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(targets: Sequence[Target], plan: Plan, *, login: Optional[Login] = None) -> None:
    """Raise HealthError where the parameters make no sense together."""
    if not any(target.required for target in targets):
        raise HealthError("endpoints: at least one endpoint must be required")
    for target in targets:
        _check_target(target, parameter="endpoints")
    if not 1 <= plan.warning_after <= plan.critical_after:
        raise HealthError(
            f"warning_after {plan.warning_after} and critical_after {plan.critical_after} must be "
            "1 <= warning_after <= critical_after"
        )
    for name in ("timeout", "deadline"):
        if not getattr(plan, name) > 0:
            raise HealthError(f"{name}: {getattr(plan, name)} must be more than 0 seconds")
    if not plan.interval >= 0:
        raise HealthError(f"interval: {plan.interval} must not be less than 0 seconds")
    if plan.count < 1:
        raise HealthError(f"count: {plan.count} must be at least 1")
    if not plan.ok_statuses:
        raise HealthError("ok_statuses: at least one word must be good")
    if login is not None:
        _check_login(login, plan)


def _check_login(login: Login, plan: Plan) -> None:
    if plan.mode == "watch":
        raise HealthError("login: can be tried with mode=await or mode=hold, not with mode=watch")
    _check_target(login.target, parameter="login")
    parts = urllib.parse.urlsplit(login.target.url)
    proved = parts.scheme == "https" and login.target.validate_certs
    if not proved and not _is_loopback(parts.hostname or ""):
        raise HealthError(
            f"login: a password goes to {parts.hostname} only over https with validate_certs=true; "
            "without it, only to a loopback address"
        )


# One request


def _context(target: Target) -> ssl.SSLContext:
    if target.validate_certs:
        return ssl.create_default_context(cafile=target.ca_path or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception, *, timeout: float) -> str:
    """Say in a few words why there was no answer."""
    said = getattr(error, "strerror", None) or type(error).__name__
    kinds: Tuple[Tuple[Any, str], ...] = (
        ((socket.timeout, TimeoutError), f"no answer within {timeout:g} s"),
        (ssl.SSLCertVerificationError, f"certificate not trusted: {getattr(error, 'verify_message', '')}"),
        (ssl.SSLError, f"TLS error: {getattr(error, 'reason', None) or said}"),
        (ConnectionRefusedError, "connection refused: nothing listens there"),
        (ConnectionError, f"connection lost: {said}"),
        ((http.client.HTTPException, ValueError), f"answer is not HTTP: {said}"),
    )
    return next((text for kind, text in kinds if isinstance(error, kind)), f"cannot connect: {said}")


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
    """One request in a thread of its own, with an end to all of it: name, connection, handshake, headers and body.

    A time-out of a socket starts anew with each byte, so a server that drips would never meet it; here the socket is
    shut when the time is over.
    """

    def __init__(self, target: Target, *, timeout: float, body: Optional[bytes] = None) -> None:
        self.target = target
        self.status: Optional[int] = None
        self.answer = b""
        self.error: Optional[str] = None
        self.certificate: Optional[Dict[str, Any]] = None
        self.latency = 0.0
        # Whether the time went by without a word.
        self.silent = False
        self._timeout = timeout
        self._body = body
        self._problem: Optional[str] = None  # what went wrong, while more is being found out about it
        self._sockets: List[socket.socket] = []
        self._over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = time.monotonic()
        self._thread.start()

    def result(self) -> _Request:
        """Wait for the answer, at most for the rest of the time."""
        self._thread.join(max(0.0, self._begun + self._timeout - time.monotonic()))
        with self._lock:
            if self._thread.is_alive() and not self._over:
                self._over = True
                self.status, self.answer = None, b""
                self.silent = self._problem is None
                self.error = self._problem or f"no answer within {self._timeout:g} s"
                self.latency = time.monotonic() - self._begun
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # not TLS's own, which the thread may be using
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
        with self._lock:  # wrapping moves the descriptor: the old object would shut nothing
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
        """Fetch the certificate that was not trusted: which one it is, and when it ended, is what must be known."""
        parts = urllib.parse.urlsplit(self.target.url)
        with contextlib.suppress(OSError, ValueError):
            connected = self._connect(parts)
            try:
                unproved = dataclasses.replace(self.target, validate_certs=False)
                connected = self._wrap(connected, _context(unproved), parts.hostname or "")
                self.certificate = _certificate(connected.getpeercert(binary_form=True))
            finally:
                connected.close()


def _judge_body(answer: bytes, ok_statuses: Sequence[str]) -> Optional[str]:
    try:
        body = json.loads(answer.decode("utf-8"))
    except (ValueError, RecursionError):
        return NOT_JSON
    word = body.get("status") if isinstance(body, dict) else None
    if not isinstance(word, str):
        return NO_STATUS
    if word.casefold() not in {good.casefold() for good in ok_statuses}:
        return f"answered 200 with status {word[:40]!r} instead of {' or '.join(ok_statuses)}"
    return None


def _judge(request: _Request, ok_statuses: Sequence[str]) -> Optional[str]:
    """Return what is wrong with an answer, C(None) where it is good."""
    if request.error is not None or request.status == _TOO_MANY_REQUESTS:
        return request.error
    if request.status != http.client.OK:
        return f"answered {request.status} instead of 200"
    return _judge_body(request.answer, ok_statuses)


def probe(targets: Sequence[Target], *, timeout: float, ok_statuses: Sequence[str]) -> List[Dict[str, Any]]:
    """Ask all targets at once and return what each said; takes at most C(timeout) seconds."""
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
                "error": error,
                "silent": request.silent,
                "certificate": request.certificate,
            }
        )
    return answers


def log_in(login: Login, *, timeout: float) -> Dict[str, Any]:
    """Try the log-in; what the service answers, a token, is thrown away.

    Rate limiting is no failure of the service, but it says nothing of the password: C(checked) is false then.
    """
    body = json.dumps({"username": login.username, "password": login.password}).encode()
    request = _Request(login.target, timeout=timeout, body=body).result()
    error = request.error
    limited = request.status == _TOO_MANY_REQUESTS
    good = request.status is not None and (200 <= request.status < 300 or limited)
    if error is None and not good:
        error = f"answered {request.status}"
    elif limited:
        error = "rate limited (429): the service lives, the password was not tried"
    return {"ok": good, "checked": request.status is not None and not limited, "status": request.status, "error": error}


# The process


def _process(state: str, found: Sequence[procfs.Process], properties: Mapping[str, str]) -> Dict[str, Any]:
    restarts = properties.get("NRestarts", "")
    return {
        "state": state,
        "pids": [process.pid for process in found],
        "started_at": found[0].started_at if found else None,
        "restarts": int(restarts) if restarts.isdecimal() else None,
    }


def look_at_process(
    service: service_process.Service, *, run: commands.Runner = commands.run, proc_root: str = "/proc"
) -> Tuple[Dict[str, Any], Mapping[str, str]]:
    """Return the service's process (C(running), C(gone) or C(unknown)) and the properties of its unit.

    Raises HealthError where there is no such unit or user.
    """
    properties: Mapping[str, str] = {}
    found: List[procfs.Process] = []
    try:
        if service.manager == "systemd":
            properties = procfs.unit_properties(service.unit, service_process.UNIT_PROPERTIES, run=run)
            service_process.require_loaded(service, properties)
            main = procfs.read_process(service_process.main_pid(properties), proc_root=proc_root)
            found = [main] if main is not None and main.alive else []
        # Without a unit's process, one that was started by hand may still be serving.
        found = found or service_process.find(service, proc_root=proc_root)
        hidden = not found and service_process.is_hidden(service)
    except procfs.ProcfsError:
        return _process("unknown", [], {}), {}
    except service_process.NodeProcessError as error:
        raise HealthError(str(error)) from error
    state = "running" if found else "unknown" if hidden else "gone"
    return _process(state, found, properties), properties


# The verdict


class _Watch:
    """One run of probes: what was seen so far, and what it means."""

    def __init__(
        self,
        service: service_process.Service,
        targets: Sequence[Target],
        plan: Plan,
        *,
        run: commands.Runner,
        proc_root: str,
        doubt: Callable[[bool], Optional[str]],
        busy: Callable[[], bool],
    ) -> None:
        self.service = service
        self.targets = targets
        self.plan = plan
        # Asked before somebody else's start is waited for; the argument says whether there is time for a closer look.
        self._doubt = doubt
        # Whether another run is at work: then the start is its own, and not waited for.
        self._busy = busy
        self.doubted: Optional[str] = None
        # What systemd did with the unit at the first probe, and for how many seconds its start was waited for.
        self.first_phase: Optional[str] = None
        self.waited = 0.0
        # Whether an automatic restart that was due in a moment was waited for.
        self.restart_awaited = False
        self.endpoints: List[Dict[str, Any]] = []
        self.silent = False
        self.process: Dict[str, Any] = _process("unknown", [], {})
        self.properties: Mapping[str, str] = {}
        self.good = False
        self.attempts = 0
        self.failures = 0
        self.most_failures = 0
        self.first_failure_at: Optional[str] = None
        self.last_success_at: Optional[str] = None
        self.first_healthy_at: Optional[str] = None
        self._begun = self._probe_begun = time.monotonic()
        self._run = run
        self._proc_root = proc_root

    @property
    def gone(self) -> bool:
        return bool(self.process["state"] == "gone")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def probe(self) -> bool:
        """Ask once, and see to the process; return whether every required endpoint is good."""
        timeout = self.plan.timeout
        if self.plan.mode == "await":
            timeout = max(0.1, min(timeout, self.plan.deadline - self.elapsed))
        began_at = timestamps.now()
        self._probe_begun = time.monotonic()
        self.endpoints = probe(self.targets, timeout=timeout, ok_statuses=self.plan.ok_statuses)
        self.process, self.properties = look_at_process(self.service, run=self._run, proc_root=self._proc_root)
        self.silent = (self.silent or self.attempts == 0) and all(endpoint["silent"] for endpoint in self.endpoints)
        self.attempts += 1
        required = [endpoint["ok"] for endpoint in self.endpoints if endpoint["required"]]
        self.good = bool(required) and all(required)
        if self.good:
            self.failures = 0
            self.last_success_at = timestamps.now()
            self.first_healthy_at = self.first_healthy_at or self.last_success_at
        else:
            self.failures += 1
            self.most_failures = max(self.failures, self.most_failures)
            self.first_failure_at = self.first_failure_at or began_at
        return self.good

    def pause(self) -> None:
        """Wait for the next probe's turn."""
        time.sleep(max(0.0, self._probe_begun + self.plan.interval - time.monotonic()))

    def severity(self, *, healthy: bool) -> str:
        """Return the severity of what was seen; an unhealthy service is worth a warning at least.

        One that answers again after so many failures that they are a warning is looked into all the same.
        """
        if healthy:
            return "warning" if self.most_failures >= self.plan.warning_after and self.plan.mode == "watch" else "none"
        # Nobody may start it on a database in doubt: it is down, whatever still runs at this moment.
        if (self.gone or self.doubted) and not self.good:
            return "emergency"
        return "critical" if self.failures >= self.plan.critical_after else "warning"

    def summary(self) -> str:
        """Return one line on what is wrong, or that nothing is."""
        wrong = [f"{end['name']}: {end['error']}" for end in self.endpoints if end["required"] and not end["ok"]]
        if self.gone:
            wrong.append("the process is gone")
        return "; ".join(wrong) or "answers"

    # Each way to ask returns whether the service is healthy.

    def watch(self) -> bool:
        """Ask until the first good answer, the threshold of failures, or the end of the process.

        If somebody starts the service already (systemd, a person) or is about to, the start is waited for and does not
        count.
        """
        while not self.probe():
            phase = self.phase
            self.first_phase = self.first_phase or phase
            # Once: a service that falls again after that start is left to the run.
            soon = not self.restart_awaited and takeover.is_imminent(self.properties)
            comes = phase == takeover.STARTING or soon
            self.doubted = self._doubt(comes)
            if self.doubted:
                return False
            wait = self.waited < _SETTLE and not self._busy()
            if wait and (comes or phase == takeover.STOPPING):
                self.restart_awaited = self.restart_awaited or soon
                self._settle()
            elif wait and self._is_young():
                self._not_counted()
                self.waited += _YOUNG_INTERVAL
                time.sleep(_YOUNG_INTERVAL)
            elif self.gone or self.failures >= self.plan.critical_after:
                return False
            else:
                self.pause()
        self.first_phase = self.first_phase or self.phase
        return True

    @property
    def phase(self) -> Optional[str]:
        """What systemd does with the unit, C(None) if there is none or systemd did not answer."""
        return takeover.phase(self.properties) if self.properties else None

    def _is_young(self) -> bool:
        """Whether the unit has a process that may still be starting: it is young, and nobody listens yet."""
        begun = any(endpoint["ok"] or endpoint["silent"] for endpoint in self.endpoints)
        return bool(
            self.phase == takeover.UP
            and not self.gone
            and not begun
            and takeover.started_within(self.properties, seconds=_YOUNG)
        )

    def _not_counted(self) -> None:
        """Do not count the failure of a probe that came while the service was being started."""
        self.failures -= 1
        self.most_failures = min(self.most_failures, self.failures)

    def _settle(self) -> None:
        """Wait until the unit is up or down."""
        self._not_counted()
        begun = time.monotonic()
        limits = (self.properties.get(name, "") for name in ("TimeoutStartUSec", "TimeoutStopUSec"))
        spans = [procfs.timespan(limit) or _SETTLE for limit in limits]
        with contextlib.suppress(procfs.ProcfsError):
            takeover.settle(self.service.unit, limit=min(sum(spans), _SETTLE - self.waited), run=self._run)
        self.waited += max(0.01, time.monotonic() - begun)

    @property
    def by_systemd(self) -> bool:
        """Whether systemd's own restart, a short time ago, is why it answers."""
        return bool(
            self.good
            and self.plan.mode == "watch"
            and takeover.restarted_by_systemd(self.properties)
            and takeover.started_within(self.properties, seconds=takeover.RECENT)
        )

    def wait(self) -> bool:
        """Ask until all is good, the deadline, or the process is gone for good."""
        gone_since: Optional[float] = None
        restarts_at_first: Optional[int] = None
        while not self.probe():
            restarts = self.process["restarts"] or 0
            restarts_at_first = restarts if restarts_at_first is None else restarts_at_first
            if self.gone and self.plan.sole_starter:
                return False
            if restarts - restarts_at_first + int(self.gone) > _ENDS_ALLOWED:
                return False  # each time it is back only to end again
            if not self.gone:
                gone_since = None
            elif gone_since is None:
                gone_since = self.elapsed
            elif self.elapsed - gone_since >= self._grace():
                return False
            if self.elapsed + self.plan.interval >= self.plan.deadline:
                return False
            self.pause()
        return True

    def _grace(self) -> float:
        """How long the process may be away: nothing, unless systemd is about to start it again."""
        if not service_process.waits_for_restart(self.properties):
            return 0.0
        return (procfs.timespan(self.properties.get("RestartUSec", "")) or 0.0) + _RESTART_GRACE

    def hold(self) -> bool:
        """Ask C(count) times; one bad answer or another process, and it did not hold."""
        pids: Optional[List[int]] = None
        while self.probe():
            pids = self.process["pids"] if pids is None else pids
            if self.process["pids"] != pids:
                return False
            if self.attempts >= self.plan.count:
                return True
            self.pause()
        return False


def ask(
    service: service_process.Service,
    targets: Sequence[Target],
    plan: Plan,
    *,
    login: Optional[Login] = None,
    endpoints_needed: bool = True,
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
    doubt: Callable[[bool], Optional[str]] = lambda closely: None,
    busy: Callable[[], bool] = lambda: False,
) -> Dict[str, Any]:
    """Ask the service how it is, in the plan's mode, and return what the module returns.

    Without endpoints, if none are needed, it looks for the process alone and never calls the service healthy. C(doubt)
    returns why nothing may be started on the service's database, C(None) if nothing speaks against it; its argument
    says whether there are seconds for a closer look. C(busy) tells whether another run is at work. Raises HealthError.
    """
    if targets or endpoints_needed:
        check(targets, plan, login=login)
    watch = _Watch(service, targets, plan, run=run, proc_root=proc_root, doubt=doubt, busy=busy)
    healthy = {"watch": watch.watch, "await": watch.wait, "hold": watch.hold}[plan.mode]()
    logged_in = log_in(login, timeout=plan.timeout) if login is not None and healthy else None
    healthy = healthy and (logged_in is None or logged_in["ok"])
    summary = watch.summary()
    if logged_in is not None and not logged_in["ok"]:
        summary = f"login: {logged_in['error']}"
    elif not healthy and watch.good:
        summary = "another process answers than at first"
    return {
        "healthy": healthy,
        "summary": summary,
        "severity": watch.severity(healthy=healthy),
        "consecutive_failures": watch.failures,
        "max_consecutive_failures": watch.most_failures,
        "process": watch.process,
        "endpoints": watch.endpoints,
        "silent": watch.silent,
        "first_failure_at": watch.first_failure_at,
        "last_success_at": watch.last_success_at,
        "first_healthy_at": watch.first_healthy_at,
        "attempts": watch.attempts,
        "duration": round(watch.elapsed, 3),
        "login": logged_in,
        "supervisor": {
            "phase": watch.first_phase,
            "waited": round(watch.waited, 3),
            "restarted": watch.by_systemd,
            "started_at": watch.process["started_at"],
        },
        "doubt": watch.doubted,
        "signs": [
            {"at": at, "kind": kind, "source": "health probe"}
            for at, kind in ((watch.last_success_at, "good"), (watch.first_failure_at, "bad"))
            if at
        ],
    }
