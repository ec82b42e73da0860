# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The output of the demo."""

from __future__ import annotations

import runpy
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "demo" / "run"


def test_each_time_has_its_own_line_that_states_what_it_measures() -> None:
    durations = runpy.run_path(str(DEMO))["durations"]
    outage, playbook = durations({"durations": {"outage": 3.42}}, 13.26)
    assert outage.startswith("    Outage:   3.4 s, from the first sign of the outage")
    assert playbook.startswith("    Playbook: 13.3 s, from its start to its end")
