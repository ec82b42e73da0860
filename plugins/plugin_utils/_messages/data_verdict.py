# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of the data-loss verdict for documents and notifications, and the check for files that are copied later."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

# The ID of the message that states that a process has the database open.
_IN_USE = "reason.sqlite.files_in_use"


def text(words: Words, value: str, why: str) -> str:
    """Return the verdict. value: none, suspected, known or unknown. why: the reason, or an empty string."""
    if value != "unknown":
        if why and words.knows(f"data_loss.{value}", why):
            return words.say(f"data_loss.{value}.{why}")
        return words.say(f"data_loss.{value}")
    known = words.sentences.get(f"uncounted.{why}")
    return words.say("data_loss.unknown", why=known) if known else words.say("unknown")


def copied_later(outcome: object, not_copied: object) -> bool:
    """Return True if the running service is the only reason why the database files were not copied.

    In this case, database_recover.yml copies the files after it has stopped the service. not_copied: the message that
    states why the files were not copied, as plain data, or None.
    """
    return outcome == "degraded" and isinstance(not_copied, Mapping) and not_copied.get("id") == _IN_USE
