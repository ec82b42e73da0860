# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An infinite time limit is rejected, and the error shows the option. ansible-core itself accepts .inf as a float."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"
PREFIX = "ansible_collections.itsm_nexus.runbook.plugins.modules"


def said_of(params):
    said = []
    numbers.require_finite(params, fail=lambda *, msg: said.append(msg))
    return said


def test_infinite_and_invalid_numbers_are_named():
    assert said_of({"timeout": float("inf")}) == ["timeout is inf: must be a finite number"]
    assert said_of({"a": 1, "login": {"timeout": float("nan")}}) == ["login.timeout is nan: must be a finite number"]
    assert said_of({"a": 1.5, "b": 10**400, "c": "inf", "d": None, "e": True, "f": {"g": -0.0}}) == []


@pytest.mark.parametrize(
    "plugin", sorted(path for folder in ("modules", "action") for path in (PLUGINS / folder).glob("*.py")), ids=str
)
def test_every_plugin_with_time_limits_checks_them(plugin):
    source = plugin.read_text(encoding="utf-8")
    # The triage options also contain time limits.
    limited = '"type": "float"' in source or "triage_options.ARGUMENTS" in source
    assert limited == ("numbers.require_finite(" in source)


@pytest.mark.parametrize("value", [".inf", "1e999", "nan"])
def test_a_module_fails_immediately(tmp_path, value):
    arguments = {"app_dir": str(tmp_path), "db_path": "itsm.db", "timeout": value.lstrip(".")}
    done = subprocess.run(
        [sys.executable, "-m", f"{PREFIX}.knex_migrate"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert json.loads(done.stdout)["msg"].startswith("timeout is ")
