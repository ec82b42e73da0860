# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a change is related to an outage. The controller's texts need only these names, not the code for the host."""

from __future__ import annotations

# In the order of the ranking.
NAMED, EXPLAINS, POSSIBLE, UNLIKELY, AFTER, OURS = "named", "explains", "possible", "unlikely", "after", "ours"
ORDER = (NAMED, EXPLAINS, POSSIBLE, UNLIKELY, AFTER, OURS)
# A change with one of these relations may have caused the outage.
SUSPECTS = (NAMED, EXPLAINS, POSSIBLE)
# A change with one of these relations is related to a finding.
RELATED = (NAMED, EXPLAINS)
