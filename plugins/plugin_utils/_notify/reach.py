# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that a channel can be reached, without sending a message. This module does not depend on Ansible.

- mail: connect to the mail server, with STARTTLS and the login if they are configured
- command: find the program
- types with a URL: connect to the server in the URL and verify its certificate; with a proxy, only connect to the proxy
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import smtplib
import socket
import urllib.parse
import urllib.request
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.contacts import channels, listed, name_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.transports import DeliveryError, Server

_PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
_PORTS = {"https": 443, "http": 80}
# Maximum number of channels that are checked at the same time.
_MOST = 8


class Reached(NamedTuple):
    """A channel of a contact.

    error: the reason why the channel cannot be reached, or empty. checked: False if the channel's type is custom.
    """

    contact: str
    name: str
    channel: str
    type: str
    error: str
    checked: bool


def all_channels(
    contacts: Mapping[str, Any], *, server: Server, timeout: float, ca_path: Optional[str]
) -> Tuple[List[Reached], List[str]]:
    """Check all channels in parallel. Return the results, and the names of the contacts without a channel.

    timeout: time limit for each channel, in seconds. Channels with the same target are checked only once.
    """
    wanted = [(each, contacts[key]["channels"][each.number]) for key in contacts for each in channels(contacts, key)]
    checks: Dict[Any, Callable[[], None]] = {}
    for _each, channel in wanted:
        check = _check(channel, server=server, timeout=timeout, ca_path=ca_path)
        if check is not None:
            checks.setdefault(_target(channel), check)
    errors: Dict[Any, str] = {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=_MOST) as pool:
        begun = {
            target: pool.submit(transports.deliver, check, timeout=timeout, retries=0, delay=0.0)
            for target, check in checks.items()
        }
        errors = {target: future.result().error for target, future in begun.items()}
    reached = [
        Reached(
            contact=each.contact,
            name=name_of(contacts, each.contact),
            channel=each.label,
            type=each.type,
            error=each.error or errors.get(_target(channel), ""),
            checked=_target(channel) in errors,
        )
        for each, channel in wanted
    ]
    without = [name_of(contacts, key) for key in contacts if not any(True for _each in channels(contacts, key))]
    return reached, without


def _target(channel: Mapping[str, Any]) -> Any:
    """Return a key for a channel's target. Channels with the same key are checked only once."""
    kind = str(channel.get("type"))
    return (kind, str(listed(channel.get("argv"))[:1])) if kind == "command" else (kind, str(channel.get("url") or ""))


def _check(
    channel: Mapping[str, Any], *, server: Server, timeout: float, ca_path: Optional[str]
) -> Optional[Callable[[], None]]:
    """Return a function that raises DeliveryError if the channel is unreachable. For an unknown type, return None."""
    kind = channel.get("type")
    if kind == "mail":
        return lambda: _mail_server(server, timeout=timeout, ca_path=ca_path)
    if kind == "command":
        return lambda: _program(str((listed(channel.get("argv")) or [""])[0]))
    if kind in ("http", "webhook", "pagerduty"):
        url = str(channel.get("url") or (_PAGERDUTY if kind == "pagerduty" else ""))
        return lambda: _web_server(url, timeout=timeout, ca_path=ca_path)
    return None


def _mail_server(server: Server, *, timeout: float, ca_path: Optional[str]) -> None:
    try:
        with transports.connected(server, timeout=timeout, ca_path=ca_path) as client:
            code, _text = client.noop()
    except smtplib.SMTPException as error:
        raise transports.smtp_error(error) from None
    except OSError as error:
        raise transports.network_error(error) from None
    if code >= 400:
        raise DeliveryError(f"answered {code}", passing=True)


def _program(program: str) -> None:
    if not shutil.which(program) or (os.path.dirname(program) and not os.path.isabs(program)):
        raise DeliveryError("the program does not exist on the controller", passing=False)


def _web_server(url: str, *, timeout: float, ca_path: Optional[str]) -> None:
    reason = transports.why_not_url(url)
    if reason:
        raise DeliveryError(f"its URL {reason}", passing=False)
    parts = urllib.parse.urlsplit(url)
    host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    proxy = urllib.request.getproxies().get(parts.scheme)
    try:
        if proxy and not urllib.request.proxy_bypass(host):
            # The proxy connects to the server, so only the connection to the proxy can be checked.
            by = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
            with socket.create_connection((str(by.hostname), by.port or _PORTS["http"]), timeout=timeout):
                return
        with socket.create_connection((host, port), timeout=timeout) as connection:
            if parts.scheme == "https":
                with transports.trust(ca_path).wrap_socket(connection, server_hostname=host):
                    pass
    except (OSError, ValueError) as error:
        raise (
            transports.network_error(error)
            if isinstance(error, OSError)
            else DeliveryError("its proxy is invalid", passing=False)
        ) from None
