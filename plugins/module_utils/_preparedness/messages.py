# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""English messages about facts for the readiness report.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_preparedness.py, with the
same IDs.
"""

from __future__ import annotations

from typing import Dict

ENGLISH: Dict[str, str] = {
    # Reasons why a backup cannot be restored, or why the data in a backup file is older than the file itself.
    "ready.backup.older_schema": "it lacks {number} migrations, starting with {first}",
    "ready.backup.without_wal": (
        "it was copied without its -wal file: its newest data is from {last}, but when it was copied, the database "
        "already had data from {newest}"
    ),
    # Reasons why a fact was not collected.
    "ready.part.late": "no response within {seconds} s",
    "ready.part.settings": "the service settings are invalid",
    "ready.part.process": "the service is not managed by systemd",
    "ready.part.failed": "{why}",
    "ready.part.switched_off": "this check is disabled",
}
