# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send one message through one channel: JSON over HTTPS, mail, or a local command.

This code does not depend on Ansible.

The address of a channel (a webhook's URL, a key, a password) is a secret. Therefore, an error message never quotes the
error of a library. It contains no part of a URL except the host.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import email.message
import email.policy
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import re
import smtplib
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps

# Secrets in base64 start with this prefix, as defined by https://www.standardwebhooks.com.
_BASE64_SECRET = "whsec_"  # noqa: S105
GITHUB_TOKENS = ("ITSM_NEXUS_GITHUB_TOKEN", "GITHUB_TOKEN")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Names and values of headers as defined by RFC 9110, 5.1 and 5.5. Values are limited to ASCII.
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+\Z", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")


class DeliveryError(Exception):
    """A channel did not accept the message. passing: True if a retry may succeed."""

    def __init__(self, text: str, *, passing: bool) -> None:
        """Set the error message. text: the message, which must not contain a secret."""
        super().__init__(text)
        self.passing = passing


@dataclasses.dataclass(frozen=True)
class Delivered:
    """The time of the last attempt, True if the message was accepted, the number of attempts, and the error."""

    ok: bool
    at: str
    attempts: int
    error: str


def deliver(
    send: Callable[[], None],
    *,
    timeout: float,
    retries: int,
    delay: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivered:
    """Call send() until it succeeds, with a limited number of retries and a delay between the attempts.

    An attempt that takes longer than `timeout` seconds counts as failed. The error is returned, not raised, because an
    undeliverable message must not prevent later messages from being sent.
    """
    attempts = 0
    while True:
        attempts += 1
        error = _attempt(send, timeout=timeout)
        if error is None:
            return Delivered(ok=True, at=timestamps.now(), attempts=attempts, error="")
        if not error.passing or attempts > retries:
            return Delivered(ok=False, at=timestamps.now(), attempts=attempts, error=str(error))
        sleep(delay)


def _attempt(send: Callable[[], None], *, timeout: float) -> Optional[DeliveryError]:
    """Call send() once. Return the error, or None if the call succeeded."""
    outcome: List[Optional[DeliveryError]] = []

    def run() -> None:
        try:
            send()
            outcome.append(None)
        except DeliveryError as error:
            outcome.append(error)
        except Exception as error:
            # Report only the type of an exception that a library raises, because the text of the exception may quote a
            # secret.
            outcome.append(DeliveryError(f"it failed ({type(error).__name__})", passing=False))

    # A socket timeout limits each step of an attempt, but not the name lookup. thread.join limits the whole attempt.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    return outcome[0] if outcome else DeliveryError(f"no response within {timeout:g} s", passing=True)


def trust(ca_path: Optional[str]) -> ssl.SSLContext:
    """Return a TLS context that verifies servers (certificate and name) with the CAs in ca_path or the system's CAs."""
    try:
        if ca_path and os.path.isdir(ca_path):
            return ssl.create_default_context(capath=ca_path)
        return ssl.create_default_context(cafile=ca_path or None)
    except OSError as error:
        raise DeliveryError(f"no certificates can be read from {ca_path}: {error.strerror}", passing=False) from None


def network_error(error: OSError) -> DeliveryError:
    """Return the error for a failed connection, without secrets."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return DeliveryError(f"its certificate is not trusted: {error.verify_message}", passing=False)
    if isinstance(error, ssl.SSLError):
        return DeliveryError(f"TLS failed: {error.reason or 'no reason given'}", passing=True)
    if isinstance(error, socket.timeout):
        return DeliveryError("no response in time", passing=True)
    return DeliveryError(f"cannot be reached: {error.strerror or type(error).__name__}", passing=True)


# JSON over HTTPS.


def host(url: str) -> str:
    """Return the host in a URL, or an empty string if there is none.

    The other parts of a URL may contain secrets, so they must not be shown.
    """
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""


def why_not_url(url: object) -> str:
    """Return the reason why posting to a URL is not allowed, or an empty string if it is allowed.

    The reason does not contain the URL.
    """
    try:
        parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
        if parts is None or not parts.hostname or (parts.port or 1) < 1:
            return "is not a URL with a host"
    except ValueError:
        return "is not a URL"
    if any(ord(character) <= 0x20 or ord(character) >= 0x7F for character in str(url)):
        return "contains characters that are not allowed in a URL"
    if parts.username is not None or parts.password is not None:
        return "contains a user or a password, which are not sent"
    if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in LOOPBACK):
        return "is not https:// (http:// is only allowed for this machine)"
    return ""


def signing_key(secret: str) -> bytes:
    """Return the HMAC key. Raises ValueError.

    If the secret begins with whsec_, the key is the decoded base64 after this prefix. Otherwise, the key is the secret
    itself, as bytes.
    """
    if not secret.startswith(_BASE64_SECRET):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(_BASE64_SECRET) :], validate=True)
    except binascii.Error:
        raise ValueError("the text after whsec_ is not base64") from None


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> Dict[str, str]:
    """Return the headers that sign a request body. A receiver with the same secret can verify the sender and the time.

    The format is defined by https://www.standardwebhooks.com: HMAC-SHA256 over id.timestamp.body, in base64. The
    receiver rejects a timestamp that differs from the current time by more than five minutes, and an ID that it has
    already received.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because the POST would become a GET, and its headers would be sent to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _why_not_headers(headers: Mapping[str, object]) -> str:
    """Return the reason why the headers are invalid, without quoting a value, or "" if they are valid."""
    for name, value in headers.items():
        if not _HEADER_NAME.match(str(name)):
            return "one of its headers has an invalid name"
        if not isinstance(value, str) or not _HEADER_VALUE.match(value):
            return f"its header {name} has an invalid value: one line of ASCII is allowed"
    return ""


def post(
    *,
    url: str,
    body: Mapping[str, Any],
    timeout: float,
    ca_path: Optional[str] = None,
    secret: Optional[str] = None,
    message_id: str = "",
    method: str = "POST",
    headers: Optional[Mapping[str, str]] = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Post the body as JSON.

    If `secret` is set, the request is signed. A 2xx response means success. Raises DeliveryError.

    headers: additional headers, which may contain secrets. These headers cannot replace the signature headers.
    """
    reason = why_not_url(url)
    if reason:
        raise DeliveryError(f"its URL {reason}", passing=False)
    reason = _why_not_headers(headers or {})
    if reason:
        raise DeliveryError(reason, passing=False)
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    # Later headers replace earlier ones, regardless of case.
    sent = {"Content-Type": "application/json", "User-Agent": "itsm_nexus.runbook", **(headers or {})}
    if secret is not None:
        signed = signature(secret, message_id=message_id, timestamp=int(clock()), body=data)
        sent = {**{name: value for name, value in sent.items() if name.lower() not in signed}, **signed}
    request = urllib.request.Request(url, data=data, headers=sent, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust(ca_path)), _NoRedirect())
    try:
        with opener.open(request, timeout=timeout):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        meaning = http.client.responses.get(error.code, "unknown status")
        raise DeliveryError(
            f"answered {error.code} {meaning}", passing=error.code in (408, 425, 429) or error.code >= 500
        ) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError):
            raise network_error(error.reason) from None
        raise DeliveryError("cannot be reached", passing=True) from None
    except http.client.HTTPException:
        raise DeliveryError("its response is not HTTP", passing=True) from None
    except OSError as error:
        raise network_error(error) from None


# Mail.


@dataclasses.dataclass(frozen=True)
class Server:
    """The mail server. security: tls (from the first byte), starttls, or none."""

    host: str
    port: int
    security: str
    username: str = ""
    password: str = ""


def why_not_address(address: object) -> str:
    """Return the reason why an address is not a valid mail address, or an empty string if it is valid."""
    if not isinstance(address, str) or any(ord(character) < 0x20 or ord(character) == 0x7F for character in address):
        return "is not text on one line"
    if len(email.utils.getaddresses([address])) != 1:
        return "has more than one address"
    name, at, domain = email.utils.parseaddr(address)[1].rpartition("@")
    return "" if name and at and domain and " " not in domain else "is not a mail address"


def compose(
    *, sender: str, to: Sequence[str], subject: str, text: str, message_id: str, thread: str
) -> email.message.EmailMessage:
    """Return the email. thread: the incident ID, which mail programs use to group emails."""
    domain = email.utils.parseaddr(sender)[1].rpartition("@")[2]
    # Use the 7bit encoding, because every mail server accepts it.
    message = email.message.EmailMessage(policy=email.policy.SMTP.clone(cte_type="7bit"))
    message["From"] = sender
    message["To"] = ", ".join(to)
    # Remove line breaks from headers, because a host may have provided the text.
    message["Subject"] = " ".join("".join(c if c.isprintable() else " " for c in subject).split())
    message["Date"] = email.utils.formatdate(localtime=True)
    message["Message-ID"] = f"<{_atom(message_id)}@{domain}>"
    message["References"] = f"<{_atom(thread)}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    # Replace lone surrogates (from names that are not UTF-8). Otherwise, the email could not be encoded.
    message.set_content(text.encode("utf-8", "replace").decode("utf-8"), charset="utf-8")
    return message


def _atom(text: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in text) or "none"


@contextlib.contextmanager
def connected(server: Server, *, timeout: float, ca_path: Optional[str] = None) -> Iterator[smtplib.SMTP]:
    """Yield a connection to the mail server, after STARTTLS and the login.

    Raises DeliveryError, smtplib.SMTPException and OSError.
    """
    if server.password and server.security == "none" and server.host not in LOOPBACK:
        raise DeliveryError("its password would be sent unprotected", passing=False)
    name = socket.gethostname()
    # If local_hostname is not set, smtplib looks up the fully qualified host name. If no name server answers, this
    # lookup takes a long time.
    local = name if "." in name else "[127.0.0.1]"
    if server.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host, server.port, local_hostname=local, timeout=timeout, context=trust(ca_path)
        )
    else:
        client = smtplib.SMTP(server.host, server.port, local_hostname=local, timeout=timeout)
    with client:
        if server.security == "starttls":
            client.starttls(context=trust(ca_path))
        if server.username:
            client.login(server.username, server.password)
        yield client


def mail(message: email.message.EmailMessage, *, server: Server, timeout: float, ca_path: Optional[str] = None) -> None:
    """Send the email to all recipients through the server. Raises DeliveryError."""
    try:
        with connected(server, timeout=timeout, ca_path=ca_path) as client:
            refused = client.send_message(message)
    except smtplib.SMTPException as error:
        raise smtp_error(error) from None
    except OSError as error:
        raise network_error(error) from None
    if refused:
        raise DeliveryError(f"refused {len(refused)} of the recipients and accepted the others", passing=False)


def smtp_error(error: smtplib.SMTPException) -> DeliveryError:
    """Return the error for a failure of the mail server, without secrets."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _text in error.recipients.values()})
        return DeliveryError(
            f"refused all recipients ({', '.join(map(str, codes))})", passing=all(400 <= code < 500 for code in codes)
        )
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return DeliveryError("does not support STARTTLS or the login", passing=False)
    if isinstance(error, smtplib.SMTPResponseException):
        what = "refused the login" if isinstance(error, smtplib.SMTPAuthenticationError) else "refused the mail"
        return DeliveryError(f"{what} ({error.smtp_code})", passing=400 <= error.smtp_code < 500)
    return DeliveryError(f"closed the connection unexpectedly ({type(error).__name__})", passing=True)


# A local command.


def command(argv: Sequence[str], *, stdin: bytes, timeout: float) -> None:
    """Run a command without a shell, with stdin as its input. Exit code 0 means success. Raises DeliveryError.

    The command inherits the environment of this process, except the tokens for publishing issues.
    """
    environment = {name: value for name, value in os.environ.items() if name not in GITHUB_TOKENS}
    try:
        completed = commands.run(argv, timeout=timeout, stdin=stdin, env=environment)
    except commands.CommandError as error:
        cause = error.__cause__
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else "it cannot be run"
        raise DeliveryError(f"did not start: {why}", passing=False) from None
    if completed.timed_out:
        raise DeliveryError(f"was killed after {timeout:g} s", passing=True)
    if not completed.ok:
        raise DeliveryError(f"exited with code {completed.rc}", passing=True)
