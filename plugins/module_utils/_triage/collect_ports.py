# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the ports: the listening processes and their responses."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from typing import Any, Collection, Dict, List

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    found,
    identity,
    service_processes,
)

_MOST_OTHERS = 8


def ports(question: Question) -> Dict[str, Any]:
    """Return the listeners on the configured ports, and all listeners of the service itself."""
    configured = (question.service.https_port, question.service.http_port)
    ours = {item.pid for item in service_processes(question)}
    redactor = question.redactor
    facts = []
    for listener in sockets.listeners(range(1, 65536) if ours else configured):
        if listener.port not in configured and not ours.intersection(listener.pids):
            continue
        owners = []
        for pid in listener.pids:
            owner = procfs.read_process(pid)
            if owner is not None:
                owners.append(identity(owner, ours=pid in ours, redactor=redactor))
        facts.append({"port": listener.port, "address": listener.address, "owners": owners})
    return found(facts)


def _ask_port(address: str, port: int, *, tls: bool, timeout: float) -> Dict[str, Any]:
    """Send one request. Return True if there was a response, and the certificate if TLS is used."""
    started = time.monotonic()
    result: Dict[str, Any] = {"answered": False, "status": None, "error": None, "certificate": None}
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
    try:
        with contextlib.ExitStack() as stack:
            link: socket.socket = stack.enter_context(socket.create_connection((target, port), timeout=timeout))
            if tls:
                # The certificate is only inspected, so it need not be trusted.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                secure = stack.enter_context(context.wrap_socket(link))
                der = secure.getpeercert(binary_form=True)
                if der:
                    result["certificate"] = collect_certificate.described(der)
                link = secure
            link.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = link.recv(64)
            match = re.match(rb"HTTP/[\d.]+ (\d{3})", answer)
            result["answered"] = bool(answer)
            result["status"] = int(match.group(1)) if match else None
    except (OSError, ValueError, x509.CertificateError) as error:
        result["error"] = str(error)
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def answer(question: Question) -> Dict[str, Any]:
    """Return the responses from the listening ports."""
    service = question.service
    ports_asked = {name: port for name, port in (("https", service.https_port), ("http", service.http_port)) if port}
    listening = {listener.port: listener for listener in reversed(sockets.listeners(ports_asked.values()))}
    facts: Dict[str, Any] = {}

    def look(name: str, port: int) -> None:
        seen: Dict[str, Any] = {"port": port, "listening": port in listening}
        if port in listening:
            address = listening[port].address
            seen.update(_ask_port(address, port, tls=name == "https", timeout=question.patience))
        facts[name] = seen

    def look_elsewhere(address: str, port: int) -> None:
        # If a listener presents a certificate, it uses TLS.
        if _ask_port(address, port, tls=True, timeout=question.patience)["certificate"]:
            facts["tls_elsewhere"].append(port)

    threads = [threading.Thread(target=look, args=asked) for asked in ports_asked.items()]
    if service.https_port and service.https_port not in listening:
        facts["tls_elsewhere"] = []
        others = {item.port: item.address for item in _others(question, configured=ports_asked.values())}
        threads += [threading.Thread(target=look_elsewhere, args=(others[port], port)) for port in sorted(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found(facts)


def _others(question: Question, *, configured: Collection[int]) -> List[sockets.Listener]:
    """Return the service's own listeners on ports that are not configured, at most _MOST_OTHERS."""
    ours = {item.pid for item in service_processes(question)}
    every = sockets.listeners(range(1, 65536)) if ours else []
    return [item for item in every if item.port not in configured and ours.intersection(item.pids)][:_MOST_OTHERS]


def health(question: Question) -> Dict[str, Any]:
    """Send the detection's health request, because its response determines whether the service is considered down."""
    service = question.service
    ports_asked = (("https", service.https_port), ("http", service.http_port))
    targets = [
        probe_plan.Target(name=name, url=f"{name}://localhost:{port}{service.health_path}")
        for name, port in ports_asked
        if port
    ]
    answers = http_probe.probe(targets, timeout=question.patience, ok_statuses=service.health_ok_statuses)
    kept = ("name", "url", "ok", "status", "error", "messages")
    return found([{name: item[name] for name in kept} for item in answers])
