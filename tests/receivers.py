# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers for HTTP, HTTPS and SMTP (with aiosmtpd) on the loopback interface.

The servers receive and store messages.
"""

from __future__ import annotations

import dataclasses
import email
import email.message
import email.policy
import http.server
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


@dataclasses.dataclass
class Request:
    path: str
    headers: Dict[str, str]
    body: bytes
    method: str = "POST"


class Receiver:
    """Returns the next status code in `answers` for each request, and repeats the last code. None: no response."""

    def __init__(self, answers: Sequence[Optional[int]] = (200,), *, context: Optional[ssl.SSLContext] = None) -> None:
        self.requests: List[Request] = []
        self.released = threading.Event()
        receiver, left = self, list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, headers, body, self.command))
                answer = left.pop(0) if len(left) > 1 else left[0]
                if answer is None:
                    receiver.released.wait(20)
                    return
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_PUT = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = int(self.server.server_address[1])
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class _Controller(Controller):
    """A mail server on any free port. aiosmtpd needs the port number to check that the server is running."""

    def _trigger_server(self) -> None:
        self.port = int(self.server.sockets[0].getsockname()[1])
        super()._trigger_server()


class MailServer:
    """Stores the received emails.

    login: the required (user, password), or None. context: the TLS context if TLS is offered. refuse: the recipients
    that are refused, with the SMTP reply to each.
    """

    def __init__(
        self,
        *,
        login: Optional[tuple] = None,
        context: Optional[ssl.SSLContext] = None,
        refuse: Optional[Dict[str, str]] = None,
    ) -> None:
        self.mails: List[email.message.EmailMessage] = []
        self.recipients: List[List[str]] = []
        self.logins: List[LoginPassword] = []
        outer = self

        class Handler:
            async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
                if refuse and address in refuse:
                    return refuse[address]
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                outer.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
                outer.recipients.append(list(envelope.rcpt_tos))
                return "250 OK"

        def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            outer.logins.append(data)
            return AuthResult(success=(data.login.decode(), data.password.decode()) == login, handled=False)

        options: Dict[str, Any] = {"tls_context": context} if context else {"auth_require_tls": False}
        if login:
            options.update(authenticator=authenticate, auth_required=True)
        self.controller = _Controller(Handler(), hostname="127.0.0.1", port=0, **options)
        self.controller.start()
        self.port = self.controller.port

    def close(self) -> None:
        self.controller.stop()


def authority(folder: Path) -> ssl.SSLContext:
    """Write ca.pem, a self-signed certificate for 127.0.0.1, and return the server's TLS context."""
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "ca.pem", folder / "key.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        ["openssl", *asked.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
