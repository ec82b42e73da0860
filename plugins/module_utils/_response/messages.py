# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""English messages that explain why a first response did not start the service.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_response.py, with the same
IDs.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages as triage_messages

ENGLISH: Dict[str, str] = {
    **triage_messages.ENGLISH,
    "reason.response.running": "a process of the service is running",
    "reason.response.incident": "the incident is not new, or the data is in doubt",
    "reason.response.held": "the service is held",
    "reason.response.unit": "the unit is {state}",
    "reason.response.not_collected": "the part {part} of the triage could not be collected",
    "reason.response.unchecked": "the database could not be checked completely",
    "reason.response.rows": "rows of the database may be lost",
    "reason.response.modules": "node_modules does not match the lock file, or the two could not be compared",
    "reason.response.finding": "triage found: {summary}",
    "reason.response.evidence": "the evidence could not be saved: {why}",
    "reason.response.unrecorded": "the start attempt could not be recorded: {why}",
    "reason.response.not_started": "the start failed: {why}",
}


def english(told: Message) -> str:
    """Return a message from this package as English text."""
    return message.english(told, ENGLISH)
