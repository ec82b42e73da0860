# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of published variables lists exactly the variables and keys that the playbooks publish."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.modules import postmortem_render
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import verdict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import document as ready_document
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import published_schema
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import published

ROOT = Path(__file__).resolve().parents[5]
FILES = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml")]


class Loader(yaml.SafeLoader):
    """Reads the tasks, and ignores the tags of ansible-core, such as `!unsafe`."""


Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def read(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 - this is a safe loader


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every dictionary inside a value."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts(inner)


def values(file: str, name: str) -> list[Any]:
    """Return the values that a file assigns to a name."""
    return [part[name] for part in parts(read(ROOT / file)) if name in part]


def literal(file: str, name: str) -> set[str]:
    """Return the keys of a dictionary in a template, without the keys of dictionaries inside it."""
    (template,) = values(file, name)
    entry = re.sub(r"^.*?\{inventory_hostname: \{|^.*?update\(\{name: \{", "", str(template), flags=re.DOTALL)
    while re.search(r": \{[^{}]*\}", entry):
        entry = re.sub(r": \{[^{}]*\}", ": ", entry)
    return set(re.findall(r"'(\w+)':", entry))


def test_the_table_lists_every_published_variable() -> None:
    tasks = [
        part["ansible.builtin.set_stats"]
        for file in FILES
        for part in parts(read(file))
        if "ansible.builtin.set_stats" in part
    ]
    assert {name for task in tasks for name in task["data"]} == set(published.VARIABLES)


APPROVAL = values("playbooks/outage_triage.yml", "_outage_triage_approval")[0]
PLACES = values("roles/postmortem/tasks/publish.yml", "_postmortem_places")[0]
ARTIFACT = values("roles/postmortem/vars/main.yml", "_postmortem_artifact")[0]
BACKUP = values("roles/backup/tasks/main.yml", "backup_result")[0]
DRILL = values("roles/restore_drill/tasks/main.yml", "_restore_drill_keys")[0]
KEYS = {
    "outage_detect": literal("playbooks/vars/outage_detect.yml", "_outage_detect_seen"),
    "outage_triage": literal("playbooks/outage_triage.yml", "outage_triage"),
    "outage_approval": {*APPROVAL, "text"},
    "outage_verify": literal("playbooks/outage_verify.yml", "outage_verify"),
    "outage_postmortem": {*PLACES, *re.findall(r"\{'(\w+)':", ARTIFACT)},
    "outage_backup": set(BACKUP),
    "outage_restore_drill": set(DRILL),
    "outage_ready": set(ready_document.as_data(catalogue.of("en"), [], at="")),
    "outage_discover": literal("playbooks/outage_discover.yml", "outage_discover"),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_table_lists_every_key(name: str) -> None:
    assert set(published.VARIABLES[name].keys) == KEYS[name]


def test_the_table_lists_every_key_of_a_rendered_document() -> None:
    returned = yaml.safe_load(postmortem_render.RETURN)["documents"]["contains"]
    assert set(published.VARIABLES["outage_postmortems"].keys.of) == set(returned)


FAILED = [
    ("playbooks/outage_backup.yml", "outage_backup"),
    ("playbooks/outage_restore_drill.yml", "outage_restore_drill"),
]


@pytest.mark.parametrize(("file", "name"), FAILED)
def test_a_failed_role_still_publishes_the_keys_that_are_always_present(file: str, name: str) -> None:
    (template,) = values(file, name)
    always = {key for key, each in published.VARIABLES[name].keys.items() if not each.only}
    assert set(re.findall(r"'(\w+)': ", template)) == always


def test_the_postmortem_role_adds_the_keys_of_this_case() -> None:
    (combined,) = values("roles/postmortem/tasks/main.yml", "postmortem_result")
    added = {name for name, key in published.OUTCOME.items() if published.DOCUMENTED in key.only}
    assert set(re.findall(r"'(\w+)': ", combined)) == added


def test_the_summary_has_the_keys_of_its_playbook() -> None:
    (template,) = values("playbooks/vars/outage_detect.yml", "_outage_detect_summary")
    outcomes = re.search(r"for outcome in \[(.*?)\]", template)
    assert outcomes
    detected = {"hosts", "stopped", *re.findall(r"'(\w+)'", outcomes[1])}
    recovered = set(verdict.summary({"hosts": ["a"], "outcomes": [], "failed": []}))
    for playbook, made in (("outage_detect.yml", detected), ("outage_recover.yml", recovered)):
        assert made == {name for name, key in published.SUMMARY.items() if not key.only or playbook in key.only}


VALIDATOR = jsonschema.Draft202012Validator(published_schema.schema())
VERIFIED = {"verified": True, "problems": [], "halted": "", "messages": {"halted": []}}


def test_the_schema_accepts_only_the_keys_and_kinds_of_the_table() -> None:
    jsonschema.Draft202012Validator.check_schema(published_schema.schema())
    VALIDATOR.validate({"outage_verify": {"app01": VERIFIED}})
    without = {name: value for name, value in VERIFIED.items() if name != "halted"}
    for wrong in (
        {"outage_verify": {"app01": {**VERIFIED, "surplus": 1}}},
        {"outage_verify": {"app01": {**VERIFIED, "verified": "yes"}}},
        {"outage_verify": {"app01": {**VERIFIED, "messages": {"halted": [{"id": 1}]}}}},
        {"outage_verify": {"app01": without}},
        {"outage_surplus": {}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(wrong)


def test_the_schema_and_the_page_in_the_documentation_are_those_of_the_table() -> None:
    written = json.loads((ROOT / "docs" / "published-schema.json").read_text(encoding="utf-8"))
    assert written == published_schema.schema()
    page = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert page.endswith("\n\n".join(published_schema.tables()) + "\n")
