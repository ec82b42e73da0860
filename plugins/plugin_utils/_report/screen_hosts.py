# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The on-screen summary for a run on several hosts, which groups the hosts by outcome."""

from __future__ import annotations

from typing import List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import (
    ATTENTION,
    BAD,
    GOOD,
    WIDTH,
    columns,
    headed,
    wrap,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist

_INDENT = 24
# The outcomes that are not errors.
_FINE = ("healthy", "recovered", "recovered_by_systemd", "would_recover", "warning")


def hosts(words: Words, ended: Mapping[str, Sequence[str]], *, check_mode: bool = False) -> Tuple[str, List[str]]:
    """Return the tone, and the lines for all hosts in a run, grouped by outcome.

    Healthy hosts are counted but not listed.
    """
    counts = {name: ended.get(name) or [] for name in allowlist.SUMMARY}
    number = sum(map(len, counts.values()))
    what = [
        words.say("screen.hosts_of", number=words.number(len(names)), ended=_ended(words, name))
        for name, names in counts.items()
        if names
    ]
    head = words.say("screen.hosts", number=words.number(number), what=words.say("list.comma").join(what))
    lines: List[str] = []
    for name, names in counts.items():
        if name == "healthy" or not names:
            continue
        wrapped = wrap(" ".join(names), WIDTH - _INDENT)
        label = f"  {_ended(words, name)}"
        heads = [label + " " * max(_INDENT - columns(label), 1), *[" " * _INDENT] * len(wrapped)]
        lines += [before + line for before, line in zip(heads, wrapped)]
    bad = [name for name in counts if counts[name] and name not in _FINE]
    return BAD if bad else ATTENTION if counts["warning"] or counts["would_recover"] else GOOD, headed(
        words, [head, *lines], check_mode=check_mode
    )


def _ended(words: Words, name: str) -> str:
    return words.name("ended", name)
