# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rungs of the recovery ladder, least invasive first. Each rung is a role with the same name.

For each cause, one of the groups below lists the rungs that cannot fix this cause. Except for ABOVE_THE_FIRST, each
group selects rungs by their actions, not by their positions.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Rung(NamedTuple):
    """A rung, and what it does in addition to starting the service.

    repairs_modules: builds npm modules that are missing or broken. renews_modules: also rebuilds modules that seem
    intact. migrates: applies pending migrations.
    """

    name: str
    repairs_modules: bool = False
    renews_modules: bool = False
    migrates: bool = False


LADDER: Tuple[Rung, ...] = (
    Rung("restart"),
    Rung("standard_recovery", repairs_modules=True),
    Rung("clean_start_recovery", repairs_modules=True, renews_modules=True, migrates=True),
)
RUNGS: Tuple[str, ...] = tuple(rung.name for rung in LADDER)
# The rung that the first response performs. This rung only starts the service.
FIRST_RESPONSE = LADDER[0].name

# Groups of rungs. All rungs start the service in the same way. Some causes can be fixed only by starting the service.
# If the first rung fails to fix such a cause, the higher rungs cannot help.
ABOVE_THE_FIRST: Tuple[str, ...] = RUNGS[1:]
# The first group contains the rungs that only start the service. The second group contains the rungs that do not repair
# npm modules. A rung with another action is only in the second group.
ONLY_START: Tuple[str, ...] = tuple(rung.name for rung in LADDER if not any(rung[1:]))
NO_REPAIR: Tuple[str, ...] = tuple(rung.name for rung in LADDER if not rung.repairs_modules)
KEEP_MODULES: Tuple[str, ...] = tuple(rung.name for rung in LADDER if not rung.renews_modules)
KEEP_SCHEMA: Tuple[str, ...] = tuple(rung.name for rung in LADDER if not rung.migrates)
MIGRATE: Tuple[str, ...] = tuple(rung.name for rung in LADDER if rung.migrates)
