# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only profiles contain the names of a drill's service.

The variables of a deployed service are determined by discovery.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import variables

ROOT = Path(__file__).resolve().parents[2]
MOLECULE = ROOT / "molecule"
PROFILES = sorted((MOLECULE / "profiles").iterdir())
GROUPS = yaml.safe_load((MOLECULE / "inventory" / "hosts.yml").read_text(encoding="utf-8"))["itsm_nexus"]
# Variables for which discovery asks a question, because their values cannot be determined on the host. A remedy changes
# the permissions of a key only if a person has set nexus_tls_key_path.
ASKED = {"nexus_release_strategy", "nexus_tls_key_path"}


def names(profile: Path) -> dict[str, str]:
    lines = profile.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_each_profile_has_the_same_names() -> None:
    assert {profile.name for profile in PROFILES} == {names(profile)["profile"] for profile in PROFILES}
    assert len({tuple(names(profile)) for profile in PROFILES}) == 1


def test_each_drill_has_a_profile() -> None:
    drills = {path.parent.name for path in MOLECULE.glob("*/molecule.yml")}
    assert sorted(name for group in GROUPS["children"].values() for name in group["hosts"]) == sorted(drills)
    assert set(GROUPS["children"]) == {profile.name for profile in PROFILES}


@pytest.mark.parametrize("drill", sorted(GROUPS["children"]["deployed"]["hosts"]))
def test_no_variable_that_can_be_discovered_is_set(drill: str) -> None:
    deployed = GROUPS["children"]["deployed"]
    known: dict[str, Any] = {**GROUPS["vars"], **deployed["vars"], **(deployed["hosts"][drill] or {})}
    assert set(known) & set(variables.NAMES) - ASKED == set()


def test_no_other_file_repeats_a_name() -> None:
    paths = {value for profile in PROFILES for value in names(profile).values() if value.startswith("/")}
    units = {names(profile)["unit"] for profile in PROFILES}
    repeated = re.compile("|".join(rf"{re.escape(name)}(?![\w.-])" for name in paths | units))
    found = {
        str(path.relative_to(MOLECULE)): match.group()
        for path in MOLECULE.rglob("*")
        if path.is_file() and path not in PROFILES and "__pycache__" not in path.parts
        for match in [repeated.search(path.read_text(encoding="utf-8"))]
        if match
    }
    assert found == {}
