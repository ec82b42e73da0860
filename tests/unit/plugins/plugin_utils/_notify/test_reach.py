# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A check of the channels sends no message. Each target is checked once, and no error contains a secret."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receivers import MailServer, Receiver, authority
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import reach
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.transports import Server

SECRET = "canary-6b1e"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


def checked(*channels: dict[str, Any], server: Server | None = None, ca_path: str | None = None) -> list[str]:
    """Return the errors from one contact's channels."""
    contacts = {"dba": {"name": "DBA", "channels": list(channels)}}
    mail = server or Server(host="127.0.0.1", port=free_port(), security="none")
    found, without = reach.all_channels(contacts, server=mail, timeout=5, ca_path=ca_path)
    assert without == []
    assert SECRET not in repr(found)
    return [each.error for each in found]


def test_a_web_server_is_reached_without_a_request(receiver: Receiver) -> None:
    url = f"{receiver.url}/services/{SECRET}"
    channels = [
        {"type": "webhook", "shape": "slack", "url": url},
        {"type": "http", "url": url, "secret": SECRET * 3},
        {"type": "pagerduty", "routing_key": SECRET, "url": url},
    ]
    assert checked(*channels) == ["", "", ""]
    assert receiver.requests == []


def test_a_closed_port_is_an_error() -> None:
    assert checked({"type": "webhook", "shape": "slack", "url": f"http://127.0.0.1:{free_port()}/{SECRET}"}) == [
        "cannot be reached: Connection refused"
    ]


def test_the_certificate_of_a_web_server_is_verified(tmp_path: Path) -> None:
    context = authority(tmp_path)
    with contextlib.closing(Receiver(context=context)) as receiver:
        channel = {"type": "http", "url": receiver.url, "secret": SECRET * 3}
        assert "not trusted" in checked(channel)[0]
        assert checked(channel, ca_path=str(tmp_path / "ca.pem")) == [""]
        assert receiver.requests == []


def test_an_invalid_url_is_an_error() -> None:
    assert "not https://" in checked({"type": "http", "url": f"http://example.com/{SECRET}", "secret": "x"})[0]


def test_a_mail_server_gets_no_mail() -> None:
    with contextlib.closing(MailServer()) as server:
        mail = Server(host="127.0.0.1", port=server.port, security="none")
        assert checked({"type": "mail", "to": "dba@example.com"}, server=mail) == [""]
        assert list(server.mails) == []


def test_a_mail_server_that_is_down_is_an_error() -> None:
    assert "cannot be reached" in checked({"type": "mail", "to": "dba@example.com"})[0]


def test_a_command_is_only_looked_for(tmp_path: Path) -> None:
    program = tmp_path / "ring"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n", encoding="ascii")
    program.chmod(0o755)
    assert checked({"type": "command", "argv": [str(program), SECRET]}, {"type": "command", "argv": ["sh"]}) == ["", ""]
    assert not (tmp_path / "called").exists()
    program.chmod(0o644)
    assert "does not exist" in checked({"type": "command", "argv": [str(program)]})[0]


def test_a_silent_server_ends_at_the_time_limit_and_channels_are_checked_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        channels = [
            {"type": "http", "url": f"https://127.0.0.1:{port}/{number}", "secret": SECRET * 3} for number in range(5)
        ]
        contacts = {"dba": {"channels": channels}, "leader": "only a name"}
        begun = time.monotonic()
        found, without = reach.all_channels(contacts, server=Server("127.0.0.1", 25, "none"), timeout=1.0, ca_path=None)
        assert time.monotonic() - begun < 4
    assert all(each.error for each in found)
    assert without == ["only a name"]


def test_an_unknown_type_is_not_checked() -> None:
    contacts = {"dba": {"channels": [{"type": "pigeon", "loft": "north"}]}}
    found, _without = reach.all_channels(contacts, server=Server("127.0.0.1", 25, "none"), timeout=1, ca_path=None)
    assert [(each.error, each.checked) for each in found] == [("", False)]
