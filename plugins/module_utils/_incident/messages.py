# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""English for the errors of holding and releasing a service. See _service/messages.py for the format."""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages

ENGLISH: Dict[str, str] = {
    **messages.ENGLISH,
    "reason.holding.not_held": "Cannot hold unit {unit}: {why:;}",
    "reason.holding.not_reloaded": "Cannot make systemd read the drop-ins of {unit}: {why}",
    "reason.holding.start_unknown": "Unit {unit} is held; whether a start is on its way is unknown: {why}",
    "reason.holding.start_goes_on": "Unit {unit} is held, but its start that is on its way goes on: {why}",
    "reason.holding.not_released": "Cannot release unit {unit}: {path}: {why}",
}
