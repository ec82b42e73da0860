# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the service's ports: the processes that listen on them, and their responses."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.certificate import Validity
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import NOTHING, Part
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.service import Service

# A TLS error counts as a response if the peer sent any data, such as an alert or plain text.
_TLS_ANSWER = re.compile(r"\[SSL: (?!UNEXPECTED_EOF)")


class Answer(Part):
    """The response from one port. certificate: the served certificate."""

    port: int = 0
    listening: Optional[bool] = None
    answered: Optional[bool] = None
    certificate: Mapping[str, Any] = NOTHING

    @property
    def waiting(self) -> bool:
        """True if the port has a listener but does not answer."""
        return self.listening is not False and self.answered is False and not _TLS_ANSWER.search(self.error or "")


class Health(Part):
    """The response to the health request on one port. status: the HTTP status, or 0 if there was no response."""

    name: str = ""
    ok: Optional[bool] = None
    status: int = 0
    messages: Mapping[str, Any] = NOTHING

    @property
    def problem(self) -> str:
        """The ID of the message about an unhealthy response, or an empty string if the response was healthy."""
        return str((self.messages.get("error") or {}).get("id") or "")


class Ports(NamedTuple):
    """The configured ports and their listeners. tls_elsewhere: other ports on which the service uses TLS."""

    https: Answer
    http: Answer
    tls_elsewhere: Sequence[int]
    listeners: Sequence[Mapping[str, Any]]
    answers: Sequence[Health]
    service: Service
    gone: bool

    @property
    def waiting(self) -> List[Answer]:
        """The configured ports that have a listener but do not answer."""
        return [answer for answer in (self.https, self.http) if answer.waiting]

    @property
    def silent(self) -> bool:
        """True if the process exists and a configured port has a listener but does not answer."""
        return not self.gone and bool(self.waiting)

    @property
    def unserved(self) -> List[str]:
        """The URL schemes whose port has no listener."""
        both = (("https", self.https), ("http", self.http))
        return [name for name, answer in both if answer.listening is False]

    @property
    def served_certificate(self) -> Validity:
        """The certificate that the HTTPS port presents."""
        return Validity.of(self.https.certificate)

    @property
    def own_ports(self) -> Set[int]:
        """The ports that the service itself listens on."""
        return {item["port"] for item in self.listeners if any(owner["ours"] for owner in item["owners"])}

    @property
    def main_port(self) -> int:
        """The port that users connect to: the HTTPS port if there is one, otherwise the HTTP port."""
        return int(self.service.https_port or self.service.http_port)

    @property
    def proven(self) -> bool:
        """True if the listener on the main port is known to be the service."""
        there = [item for item in self.listeners if item["port"] == self.main_port]
        return bool(there) and all(any(owner["ours"] for owner in item["owners"]) for item in there)

    @property
    def health(self) -> Health:
        """The response to the health request on the main port. If no request was sent, the response is unknown."""
        name = "https" if self.service.https_port else "http"
        return next((item for item in self.answers if item.name == name), Health())

    @property
    def misplaced(self) -> List[int]:
        """The configured ports that the service does not listen on."""
        ours = self.own_ports
        return [port for port in (self.service.https_port, self.service.http_port) if port and port not in ours]

    @property
    def elsewhere(self) -> List[int]:
        """The ports that the service uses instead of the main port.

        If the service listens on neither configured port, the list contains all its ports. If the service listens on
        the other configured port, the list contains only the ports with TLS that are not configured. If there is such a
        port, the certificate is usable, and HTTPS is on the wrong port. A port without TLS proves nothing, because it
        could serve any purpose.
        """
        ours, configured = self.own_ports, {self.service.https_port, self.service.http_port}
        if self.main_port in ours:
            return []
        return sorted(self.tls_elsewhere) if ours & configured else sorted(ours)
