# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A few rounds of the torture test, so that every run of the tests has some; the long one is a command of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TORTURE = Path(__file__).resolve().parents[1] / "torture" / "sqlite_torture.py"


def test_no_reported_row_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, str(TORTURE), "--rounds", "4", "--backups", "3", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(line.split(": ") for line in done.stdout.splitlines() if ": " in line)
    assert figures["rows lost"] == "0"
    assert int(figures["rows"]) > 0
    assert sum(int(count) for name, count in figures.items() if name.startswith("kills at")) > 0
    assert list(tmp_path.iterdir()) == []
