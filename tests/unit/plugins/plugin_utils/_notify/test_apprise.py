# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real program apprise as a channel, with the arguments and the configuration from docs/escalation.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import List

import pytest
import yaml
from receivers import Receiver

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import settings, transports

ROOT = Path(__file__).resolve().parents[5]
PAGE = ROOT / "docs/escalation.md"
TEXT = "DOWN: itsm-system on itsm-01 for 3 minutes\n\nCause: the disk is full. 原因: ディスク満杯\n"


def blocks() -> List[str]:
    section = re.search(r"^### Apprise\n(.+?)^### ", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section
    return re.findall(r"^```yaml\n(.+?)^```", section[1], re.MULTILINE | re.DOTALL)


def channels() -> List[dict]:
    return yaml.safe_load(blocks()[0])["escalation_contacts"]["dba"]["channels"]


def send(folder: Path, tag: str, *urls: str) -> None:
    """Send the text as the documented channel with this tag does. The documented addresses are replaced with urls."""
    (channel,) = [each for each in channels() if each["argv"][-1] == tag]
    own = yaml.safe_load(blocks()[1])["urls"]
    configuration = folder / "apprise.yml"
    entries = [{url: next(iter(entry.values()))} for url, entry in zip(urls, own)]
    configuration.write_text(yaml.safe_dump({"urls": entries}), encoding="utf-8")
    argv = [str(configuration) if word.endswith("/apprise.yml") else word for word in channel["argv"]]
    argv[0] = str(Path(sys.executable).with_name(argv[0]))
    transports.command(argv, stdin=TEXT.encode(), timeout=20)


def test_the_documented_settings_are_valid_and_each_channel_has_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    contacts = yaml.safe_load(blocks()[0])["escalation_contacts"]
    defaults = yaml.safe_load((ROOT / "roles/escalation/defaults/main.yml").read_text("utf-8"))
    found = settings.problems(contacts, rules=[], types=["command"], languages=["en"], settings=defaults)
    assert [problem for problem in found if "dba" in problem] == []
    tags = [tag["tag"] for entry in yaml.safe_load(blocks()[1])["urls"] for tag in next(iter(entry.values()))]
    assert [channel["argv"][-1] for channel in channels()] == tags


def test_the_message_is_sent_to_the_address_of_the_tag_only(tmp_path: Path) -> None:
    with contextlib.closing(Receiver()) as chosen, contextlib.closing(Receiver()) as other:
        send(tmp_path, "dba-telegram", *(f"json://127.0.0.1:{each.port}" for each in (chosen, other)))
        (request,) = chosen.requests
        assert json.loads(request.body)["message"].strip() == TEXT.strip()
        assert other.requests == []


def test_a_rejected_message_and_an_unknown_tag_are_failures(tmp_path: Path) -> None:
    with contextlib.closing(Receiver([500])) as receiver, pytest.raises(transports.DeliveryError, match="with code 1"):
        send(tmp_path, "dba-telegram", f"json://127.0.0.1:{receiver.port}")
    with pytest.raises(transports.DeliveryError, match="with code 3"):
        send(tmp_path, "dba-sms", "json://127.0.0.1:1")
