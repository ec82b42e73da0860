# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder

ROOT = Path(__file__).resolve().parents[5]
# The rules that identify causes use these groups of rungs.
GROUPS = {
    "RUNGS": ("restart", "standard_recovery", "clean_start_recovery"),
    "ONLY_START": ("restart",),
    "NO_REPAIR": ("restart",),
    "ABOVE_THE_FIRST": ("standard_recovery", "clean_start_recovery"),
    "KEEP_MODULES": ("restart", "standard_recovery"),
    "KEEP_SCHEMA": ("restart", "standard_recovery"),
    "MIGRATE": ("clean_start_recovery",),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_rungs(group):
    assert getattr(ladder, group) == GROUPS[group], (
        f"{group} in plugins/module_utils/_incident/ladder.py differs from {group} in GROUPS in this test. "
        f"Check all rules that use it: git grep -n {group} plugins. Then correct GROUPS"
    )


# Files whose list of rungs is intentionally incomplete, because the runs in these tests omit a rung.
LEFT_OUT = ("test_other_service.py",)


def test_no_test_or_drill_lists_rungs_with_a_gap():
    """If a rung is added between two others, it must be added to each list of the rungs that a run tries or skips."""
    gaps = []
    for file in [*ROOT.glob("tests/integration/*.py"), *ROOT.glob("molecule/*/tests/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.List, ast.Tuple)):
                continue
            texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
            places = [number for number, rung in enumerate(ladder.RUNGS) if rung in texts]
            lacking = set(ladder.RUNGS[places[0] : places[-1]]) - texts if places else set()
            if lacking and file.name not in LEFT_OUT:
                gaps.append(f"{file.relative_to(ROOT)}:{node.lineno} lacks {', '.join(sorted(lacking))}")
    assert gaps == [], "\n".join(gaps)
