# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of values that occur in several tables: translatable messages, and row counts by table."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.kinds import NUMBER, TEXT, Each, Named

VALUES = 20
ROWS = Named(NUMBER)


def _message(depth: int) -> Mapping[str, Any]:
    """Return the kind for a message with up to `depth` levels of nesting. See module_utils/_common/message.py."""
    if depth == 1:
        return {"id": TEXT, "values": Named((NUMBER, TEXT), limit=VALUES)}
    inner = _message(depth - 1)
    return {"id": TEXT, "values": Named((NUMBER, TEXT, inner, Each((TEXT, inner), limit=VALUES)), limit=VALUES)}


MESSAGE = _message(3)
# If a value has several sentences, there is a message for each sentence. A message may contain a step's error. This
# error may contain the reasons for each method. Therefore, these messages can be two levels deeper.
DEEP = _message(5)
TOLD = (DEEP, Each(DEEP, limit=VALUES))
REASON = {"reason": TOLD}
ERROR = {"error": MESSAGE}
