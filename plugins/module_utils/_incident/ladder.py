# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rungs of the ladder, the gentlest first. Each rung is the role of that name."""

from __future__ import annotations

from typing import Tuple

RUNGS: Tuple[str, ...] = ("restart", "standard_recovery", "clean_start_recovery")
