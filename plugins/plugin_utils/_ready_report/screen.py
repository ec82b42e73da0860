# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines that the readiness check shows for a host: first the verdict, then the problems and their remedies."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import document
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import READY
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import (
    LINES,
    WIDTH,
    columns,
    wrap,
)

_LABEL = 18
_CUT = " ..."
# Maximum number of lines for the text of a check, if the host is not ready because of this check, and otherwise.
_MOST_IF_NOT_READY, _MOST = 4, 3


def lines(words: Words, host: document.Host, *, last: Sequence[str]) -> List[str]:
    """Return at most LINES lines of at most WIDTH columns for a host. last: lines to add at the end."""
    head = words.say(
        "ready.screen.head", verdict=document.verdict(words, host.ready), subject=document.subject(words, host)
    )
    first = [*wrap(head, WIDTH), *_indented(document.counts(words, host))]
    good = [words.say(f"ready.name.{check.id}") for check in host.checks if check.verdict == READY]
    names = words.sentences["list.comma"].join(good)
    end = [*(_indented(words.say("ready.screen.ready", names=names)) if good else [])]
    end += [line for text in last for line in _indented(text)]
    ready = words.say(f"ready.verdict.{READY}")
    problems = [each for each in _grouped(document.lines(words, host)) if each[1].verdict != ready]
    return [*first, *_problems(words, problems, room=LINES - len(first) - len(end)), *end]


def _problems(words: Words, problems: Sequence[Tuple[List[str], document.Line]], *, room: int) -> List[str]:
    """Return at most `room` lines. If not all problems fit, the last lines list the other checks."""
    texts = [_of_check(words, names, each) for names, each in problems]
    for shown in range(len(texts), -1, -1):
        left = [
            words.say("ready.screen.verdict_of", name=name, verdict=each.verdict)
            for names, each in problems[shown:]
            for name in names
        ]
        more = _indented(words.say("ready.screen.more", names=words.sentences["list.comma"].join(left))) if left else []
        lines = [line for text in texts[:shown] for line in text] + more
        if len(lines) <= room:
            return lines
    return more[:room]


def notifications(words: Words, sent: Sequence[Mapping[str, Any]], *, names: Mapping[str, str]) -> List[str]:
    """Return one line about the notified contacts, and one line about the contacts that were not notified.

    sent: the notifications, each with contact, channel and ok. names: the names of the contacts, by key.
    """
    told = []
    for key, ok in (("notified", True), ("not_notified", False)):
        ways: Dict[str, List[str]] = {}
        for each in sent:
            if bool(each.get("ok")) is ok:
                contact = str(each.get("contact"))
                ways.setdefault(names.get(contact, contact), []).append(str(each.get("channel")))
        by = [
            words.say("notified.by", name=words.name("contact", name), ways=words.listed(channels))
            for name, channels in ways.items()
        ]
        if by:
            told.append(words.say(f"ready.screen.{key}", names=words.listed(by)))
    return told


def _grouped(lines: Sequence[document.Line]) -> List[Tuple[List[str], document.Line]]:
    """Return the lines for a host. Checks that could not be carried out for the same reason share one line."""
    groups: Dict[Tuple[str, str, bool], Tuple[List[str], document.Line]] = {}
    for each in lines:
        groups.setdefault((each.verdict, each.told, each.blocks), ([], each))[0].append(each.name)
    return list(groups.values())


def _of_check(words: Words, names: Sequence[str], each: document.Line) -> List[str]:
    """Return the lines for a check: its name, its text, and the action to take."""
    width = WIDTH - 2 - _LABEL
    text = each.told
    if len(names) > 1:
        text = words.say("label", name=words.sentences["list.comma"].join(names[1:]), text=each.told)
    told = wrap(words.say("label", name=each.verdict, text=text), width)
    most = _MOST_IF_NOT_READY if each.blocks else _MOST
    if len(told) > most:
        told = [*told[: most - 1], f"{wrap(told[most - 1], width - len(_CUT))[0]}{_CUT}"]
    remedy = wrap(words.say("ready.screen.do", remedy=each.remedy), width) if each.remedy else []
    name = f"  {each.name}{' ' * max(_LABEL - columns(each.name), 1)}"
    heads = [name, *[" " * (2 + _LABEL)] * (len(told) + len(remedy))]
    return [head + text for head, text in zip(heads, [*told, *remedy])]


def _indented(text: str) -> List[str]:
    first, *rest = wrap(text, WIDTH - 4)
    return [f"  {first}", *(f"    {each}" for each in rest)]
