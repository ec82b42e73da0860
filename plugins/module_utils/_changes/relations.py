# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The possible relations between a change and an outage.

The controller imports only these names, not the code for the host.
"""

from __future__ import annotations

# All relations, in the order in which they are ranked.
NAMED, EXPLAINS, POSSIBLE, UNLIKELY, AFTER, OURS = "named", "explains", "possible", "unlikely", "after", "ours"
ORDER = (NAMED, EXPLAINS, POSSIBLE, UNLIKELY, AFTER, OURS)
# A change with one of these relations may have caused the outage.
SUSPECTS = (NAMED, EXPLAINS, POSSIBLE)
# If a change has one of these relations, a finding mentions or explains it.
RELATED = (NAMED, EXPLAINS)
