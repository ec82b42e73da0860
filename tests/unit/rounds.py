# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The number of times that a test repeats its work: a few in make test, many with TEST_THOROUGH=1 (make nightly)."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("TEST_THOROUGH") == "1"


def rounds(few: int, *, thorough: int) -> int:
    """Return the number of rounds for a test."""
    return thorough if THOROUGH else few


def step(number: int) -> int:
    """Return the distance between the positions that a test tries. A thorough test tries every position."""
    return 1 if THOROUGH else number
