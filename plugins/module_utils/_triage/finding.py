# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cause of an outage, as a triage rule reports it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import QUOTED, Message, with_stop
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages

_LONGEST = 500


def says(source: Union[str, Message], text: Any) -> Dict[str, Any]:
    """Return a piece of evidence: its source and its text.

    Quoted text is a str, and text from this collection is a Message. Only messages are translated.
    """
    told = {
        name: each
        for name, each in (("source", source), ("text", text))
        if isinstance(each, Message) and each.id != QUOTED
    }
    shown = {"source": _shown(source), "text": _shown(text)[:_LONGEST]}
    return {**shown, "messages": {name: each.to_dict() for name, each in told.items()}} if told else shown


def _shown(text: Any) -> str:
    return messages.english(text) if isinstance(text, Message) else str(text)


class Finding(NamedTuple):
    """A cause, with its confidence (0 to 1), a summary, evidence, and actions.

    confidence: if it is at least 0.5, the cause is likely. Otherwise, the cause is only a note. summary, remedy (the
    action to take now) and prevention (how to prevent the cause in the future) are messages. See messages.py.
    blocks_start: True if starting the service would do harm. useless_rungs: the rungs of the ladder that cannot help.
    details: data that the remedies need. explains: the consequences (from the table of causes) that apply here, or None
    if all apply. only_by: the only causes that can explain this finding, or None for all causes. past: True if the
    cause no longer exists. Past causes rank below current causes.
    """

    confidence: float
    summary: Message
    evidence: List[Dict[str, str]]
    remedy: Message
    prevention: Message
    blocks_start: bool = False
    useless_rungs: Sequence[str] = ()
    details: Mapping[str, Any] = MappingProxyType({})
    explains: Optional[Sequence[str]] = None
    only_by: Optional[Sequence[str]] = None
    past: bool = False
    cause: str = ""
    explained_by: Optional[str] = None

    @property
    def rungs_help(self) -> bool:
        """True if at least one rung of the ladder can help."""
        return set(self.useless_rungs) != set(RUNGS)

    def as_dict(self) -> Dict[str, Any]:
        """Return the finding as triage_info returns it, with each text in English and as a translatable message."""
        found = self._asdict()
        del found["explains"], found["only_by"]
        texts = {"summary": self.summary, "remedy": self.remedy, "prevention": self.prevention}
        return {
            **found,
            **{name: with_stop(messages.english(told)) for name, told in texts.items()},
            "messages": {name: told.to_dict() for name, told in texts.items()},
            "details": dict(self.details),
            "useless_rungs": list(self.useless_rungs),
            "rungs_help": self.rungs_help,
        }
