# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text about restarts by systemd that no run observed.

Notifications, documents and the summary contain this text.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words


def text(words: Words, ends: Optional[Mapping[str, Any]]) -> str:
    """Return a text such as "3 restarts by systemd in the last hour, 2 after SIGSEGV", or "" if there are none.

    ends: the value of `ends` in the result of health_probe, or None.
    """
    number = int((ends or {}).get("restarts") or 0)
    if not number:
        return ""
    after = (ends or {}).get("after") or {}
    ranked = sorted(after.items(), key=lambda item: (-item[1], item[0]))
    told = [words.say("ends.after", number=words.number(times), how=_how(words, how)) for how, times in ranked]
    return words.say("list.comma").join([words.count("ends.restarts", number), *told])


def _how(words: Words, how: str) -> str:
    return words.name("ended_how", how) if words.knows("ended_how", how) else how
