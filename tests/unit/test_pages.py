# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands on the documentation pages are valid, and the files and settings that the pages mention exist."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from awx_server import described

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import service_watch

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


COMMANDS = [(page, text) for page in sorted(PAGES) for text in blocks(page, "sh")]


@pytest.mark.parametrize(("page", "text"), COMMANDS, ids=[f"{page}-{text.split()[0]}" for page, text in COMMANDS])
def test_commands_parse(page: str, text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", ["awx.md", "eda.md", "operations.md", "README.md", "README.ja.md"])
def test_project_files_in_commands_exist(page: str) -> None:
    named = {
        word.rstrip("/")
        for text in blocks(page, "sh")
        for word in re.findall(
            r"(?<![\w./~-])((?:playbooks|demo|docs|extensions|inventories|requirements-|execution-)[\w./*-]*)", text
        )
        if word != "inventories/mine" and not word.startswith("inventories/mine/")
    }
    assert named
    assert {name for name in named if not list(ROOT.glob(name))} == set()


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_a_readme_has_at_most_150_lines(page: str) -> None:
    assert len(PAGES[page].splitlines()) <= 150, "join rows of a table, or move text to docs/"


def test_the_pages_set_up_the_first_host_in_the_same_order() -> None:
    step = re.compile(r"playbooks/(outage_\w+\.yml(?: --check)?)|(escalation_contacts)")
    section = PAGES["operations.md"].partition("## The first host\n")[2].partition("\n### ")[0]
    # The first name in each item is the name of the step.
    items = [step.search(item) for item in re.split(r"^\d+\. ", section, flags=re.MULTILINE)[4:]]
    orders = [[found.group(1) or found.group(2) for found in items if found]]
    for page in ("README.md", "README.ja.md"):
        (block,) = [text for text in blocks(page, "sh") if "outage_discover.yml" in text]
        orders.append([name or contacts for name, contacts in step.findall(block)])
        assert "docs/escalation.md#sending-a-test-message" in PAGES[page]
    names = [*(f"outage_{name}.yml" for name in ("discover", "detect", "triage", "verify")), "escalation_contacts"]
    assert orders == [[*names, "outage_ready.yml", "outage_recover.yml --check", "outage_recover.yml"]] * 3


def test_rulebooks_and_playbooks_in_commands_exist() -> None:
    named = set(re.findall(r"itsm_nexus\.runbook\.(\w+) --(?:inventory|vars)", PAGES["eda.md"]))
    assert named == {path.stem for path in (ROOT / "extensions/eda/rulebooks").glob("*.yml")}


def test_settings_of_the_page_about_awx_are_read() -> None:
    known = described()
    shown: dict[str, Any] = {}
    for text in blocks("awx.md", "yaml"):
        shown.update(yaml.safe_load(text))
    assert shown
    assert shown.keys() - known.keys() == set()
    # The example must contain all keys. Otherwise, each run would report a change.
    assert shown["awx_notification_configuration"].keys() == known["awx_notification_configuration"].keys()
    assert (ROOT / shown["awx_inventory_path"]).is_file()


def test_watch_of_the_page_is_valid_and_has_the_defaults_of_the_rulebooks() -> None:
    (shown,) = [text for text in blocks("eda.md", "yaml") if "watch_targets" in text]
    thresholds = service_watch.Thresholds(warning_after=3, critical_after=5, restored_after=5, again_after=0)
    (target,) = service_watch.targets(yaml.safe_load(shown)["watch_targets"], thresholds, timeout=5, interval=2)
    (host,) = yaml.safe_load((ROOT / "inventories/production/hosts.yml").read_text("utf-8"))["itsm_nexus"]["hosts"]
    assert target.host == host
    (chapter,) = re.findall(r"^## 3\..*?(?=^## )", PAGES["eda.md"], re.MULTILINE | re.DOTALL)
    told: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| ((?:`watch_\w+`(?:, )?)+) \| ([^|]+) \| \w", chapter, re.MULTILINE):
        variables, values = re.findall(r"`(\w+)`", names), defaults.strip("` ").split(", ")
        assert len(variables) == len(values)
        told.update(zip(variables, values))
    assert told.pop("watch_targets") == "required"
    for rulebook in ("watch", "watch_awx"):
        text = (ROOT / f"extensions/eda/rulebooks/{rulebook}.yml").read_text(encoding="utf-8")
        defaults = dict(re.findall(r"\{\{ (watch_\w+) \| default\((.+?)\) \}\}", text))
        assert {name: value.replace("'", "") for name, value in defaults.items()} == told


def test_units_of_the_page_run_its_manual_commands() -> None:
    units = blocks("eda.md", "ini")
    assert len(units) == 2
    for unit in units:
        # Do not use strict mode, because a unit file may contain the same setting twice.
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(unit)
        command = parser["Service"]["ExecStart"].replace("/opt/runbook/.venv/bin/", "").replace("/etc/itsm-watch/", "")
        assert any(command in text for text in blocks("eda.md", "sh")), command
        users = re.findall(r"useradd --system .* (\S+) +# ◇$", PAGES["eda.md"], re.MULTILINE)
        assert [parser["Service"]["User"]] == users


def test_timers_of_the_page_are_settings_of_the_role() -> None:
    (shown,) = [text for text in blocks("eda.md", "yaml") if "roles:" in text]
    ((role,),) = [play["roles"] for play in yaml.safe_load(shown)]
    name = role.pop("role").rpartition(".")[2]
    specified = yaml.safe_load((ROOT / f"roles/{name}/meta/argument_specs.yml").read_text("utf-8"))
    options = specified["argument_specs"]["main"]["options"]
    assert role.keys() - options.keys() == set()
    states = re.findall(r"-e controller_timer_state=(\w+)", PAGES["eda.md"])
    assert states and set(states) <= set(options["controller_timer_state"]["choices"])
