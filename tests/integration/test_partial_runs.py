# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs with --tags, --skip-tags or --start-at-task: playbooks refuse these options before their first task."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT


def run(playbook: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment.update(LC_ALL="C.UTF-8", ITSM_NEXUS_POSTMORTEM_DIR=str(folder))
    argv = ["ansible-playbook", "-i", ROOT / "inventories" / "demo", f"playbooks/{playbook}", *arguments]
    return subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# A unit test proves that each play in each playbook refuses such options in the same way.
@pytest.mark.parametrize(
    ("playbook", "option", "value"),
    [
        ("outage_recover.yml", "--tags", "x"),
        ("outage_recover.yml", "--skip-tags", "all"),
        ("outage_recover.yml", "--start-at-task", "Summarize the results of all hosts"),
        ("outage_clean_start.yml", "--tags", "x"),
    ],
)
def test_a_partial_run_is_refused_before_any_change(playbook: str, option: str, value: str, tmp_path: Path) -> None:
    done = run(playbook, option, value, folder=tmp_path)

    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    assert f"{option} '{value}' would skip tasks of the playbook" in told
    assert f"Run the whole playbook without {option}; use outage_recover_rungs" in told
    assert "TASK [" not in told
    assert not list(tmp_path.iterdir())


def test_options_that_skip_no_task_are_allowed(tmp_path: Path) -> None:
    for arguments in (["--list-tasks", "--tags", "x"], ["--syntax-check", "--skip-tags", "x"]):
        done = run("outage_recover.yml", *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr

    # The option --tags all is also allowed. Because of the invalid state, this run ends early.
    done = run("outage_maintenance.yml", "--tags", "all", "-e", "outage_maintenance_state=x", folder=tmp_path)
    assert "must be present or absent" in done.stdout + done.stderr
