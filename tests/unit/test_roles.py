# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of the roles: defaults match argument specifications, variables are used and named correctly."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: Path) -> dict:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def options(role: str) -> dict:
    return load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specifications_match(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    specified = options(role)
    assert set(defaults) == {name for name, option in specified.items() if not option.get("required")}
    for name, value in defaults.items():
        if "default" in specified[name]:
            assert specified[name]["default"] == value, name
        else:
            # A default made of other variables, or too long for a table, is described in text.
            assert isinstance(value, (list, dict)) or "{{" in str(value), name


@pytest.mark.parametrize("role", ROLES)
def test_public_variables_carry_the_name_of_their_role(role: str) -> None:
    for name in options(role):
        assert name.startswith((f"{role}_", "nexus_")), name


@functools.cache
def words_read() -> set[str]:
    """Return the words of the code without those that only get a value."""
    return {
        word
        for folder in ("roles", "playbooks", "plugins")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".yml", ".py", ".j2"} and path.name != "argument_specs.yml"
        for word in re.findall(r"\w+\b(?!:)", path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_used(role: str) -> None:
    for name in options(role):
        assert name in words_read(), f"{name} is specified, but nothing reads it"


@pytest.mark.parametrize("role", ROLES)
def test_main_tasks_stay_short(role: str) -> None:
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8"))
    assert len(tasks) <= 8
    assert all(task["name"][0].isupper() for task in tasks)
