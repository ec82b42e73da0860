# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The language of a document: sentences from a catalogue, numbers, durations and times as people there write them.

A catalogue is a module of this package, named by its language. Its mapping SENTENCES maps a key to a template of
C(str.format). A sentence is one entry: only names, numbers and lists are put into it, never half a sentence. Two kinds
of keys need not be in every catalogue: C(<key>.one), for exactly one, and the families in OPEN, which translate the
English text of modules and playbooks.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from typing import List, Mapping, Optional, Pattern, Sequence, Tuple

import zoneinfo

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import en as messages_en
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import ja as messages_ja

CATALOGUES: Mapping[str, Mapping[str, str]] = {"en": messages_en.SENTENCES, "ja": messages_ja.SENTENCES}

# Families of names: without an entry the name stands for itself, in the family module the name of the task.
OPEN = (
    *(
        "cause",
        "summary",
        "part",
        "severity",
        "outcome",
        "contact",
        "escalation",
        "next",
        "source",
    ),
    *("status", "module", "said", "ended"),
)
_CLAUSES = re.compile(r";\s+|\.\s+(?=[A-Z])")
_LABELLED = re.compile(r"(https?|login): (.*)")


@functools.lru_cache(maxsize=None)
def _patterns(language: str, *, whole: bool) -> List[Tuple[Pattern[str], str]]:
    """Return what modules say in English, with places for what they put in, and what that is here.

    With C(whole) only what has more than one clause, which is looked for before it is parted. Made when first asked
    for: a run that finds the service well says none of it.
    """
    found = []
    for key, sentence in CATALOGUES[language].items():
        family, _separator, text = key.partition(".")
        if family == "said" and (not whole or _CLAUSES.search(key)):
            # What is put in is named once, and is anything.
            places = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(text))
            found.append((re.compile(places, re.DOTALL), sentence))
    return found


@dataclasses.dataclass(frozen=True)
class Words:
    """A language, and the time zone that times are given in beside UTC; see M(of)."""

    language: str
    sentences: Mapping[str, str]
    zone: Optional[datetime.tzinfo] = None

    def say(self, key: str, **values: object) -> str:
        """Return the sentence C(key) with C(values) in it."""
        return self.sentences[key].format(**values)

    def name(self, family: str, value: Optional[str], **values: object) -> str:
        """Return what C(value) is called here; a name that the catalogue does not have stands for itself."""
        key = f"{family}.{value}"
        return self.say(key, **values) if key in self.sentences else str(value or "")

    def message(self, told: object, text: object = "") -> str:
        """Return a message in this language; without one, C(text) as a quotation.

        told: a message as plain data (id and values), as a timeline has it, or a list of them, one for each sentence.
        It may come from a hostile host, or from a version with other ids.
        """
        known = [self._message(each, depth=4) for each in (told if isinstance(told, (list, tuple)) else [told])]
        return self.joined([str(each) for each in known]) if known and None not in known else self.quoted(text)

    def _message(self, told: object, *, depth: int) -> Optional[str]:
        if not isinstance(told, Mapping) or not depth:
            return None
        template = self.sentences.get(str(told.get("id")))
        values = told.get("values") or {}
        if template is None or not isinstance(values, Mapping):
            return None
        put_in = {str(name): self._value(value, depth=depth - 1) for name, value in values.items()}
        try:
            return template.format(**put_in)
        except KeyError:
            return None

    def _value(self, value: object, *, depth: int) -> str:
        if isinstance(value, Mapping):
            return self._message(value, depth=depth) or self.say("unknown")
        if isinstance(value, (list, tuple)):
            return self.sentences["list.comma"].join(self._value(each, depth=depth) for each in value)
        return str(value)

    def quoted(self, text: object) -> str:
        """Return a text that is not ours, or older than the ids of messages, as a quotation."""
        whole = " ".join(str(text or "").split()).rstrip(" .;")
        return self.say("quoted", text=whole) if whole else ""

    def said(self, text: object) -> str:
        """Return what a module or a playbook says in English; all of it stays where a clause has no words here."""
        whole = " ".join(str(text or "").split()).rstrip(" .;")
        translated = self.translated(whole)
        return whole if translated is None else translated

    def translated(self, text: object) -> Optional[str]:
        """Return the same, C(None) where a clause has no words here."""
        whole = " ".join(str(text or "").split()).rstrip(" .;")
        known = self._match(whole, whole=True)
        if known is not None:
            return known
        told = [self._clause(clause) for clause in _CLAUSES.split(whole)]
        return None if None in told else self.sentences["list.clauses"].join(map(str, told))

    def _clause(self, clause: str) -> Optional[str]:
        known = self._match(clause)
        if known is not None:
            return known
        labelled = _LABELLED.fullmatch(clause)
        inner = self._clause(labelled[2]) if labelled else None
        return self.say("label", name=labelled[1], text=inner) if labelled and inner else None

    def _match(self, text: str, *, whole: bool = False) -> Optional[str]:
        """Return the sentence whose pattern all of C(text) fits, with what was put into it."""
        for pattern, sentence in _patterns(self.language, whole=whole):
            match = pattern.fullmatch(text)
            if match:
                return sentence.format(**{name: self._put_in(value) for name, value in match.groupdict().items()})
        return None

    def _put_in(self, value: str) -> str:
        """Return what a module put into a sentence; reasons that have words here are translated too."""
        whole = self._match(value)
        if whole is not None:
            return whole
        reasons = [self._match(each) for each in value.split(", ")]
        return value if None in reasons else self.sentences["list.comma"].join(map(str, reasons))

    def knows(self, family: str, value: Optional[str]) -> bool:
        """Say whether the catalogue has a word of its own for C(value)."""
        return f"{family}.{value}" in self.sentences

    def count(self, key: str, number: float) -> str:
        """Return C(1 row), C(2 rows)."""
        single = f"{key}.one"
        return self.say(single if number == 1 and single in self.sentences else key, number=self.number(number))

    def number(self, value: float) -> str:
        """Return a count with thousands separated."""
        return f"{value:,.0f}"

    def size(self, number: float) -> str:
        """Return bytes as a person says them: C(512 B), C(3.4 MiB), C(12 GiB)."""
        unit = "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if number < 1024:
                break
            number, unit = number / 1024, larger
        return f"{number:.1f} {unit}" if unit != "B" and number < 9.95 else f"{number:,.0f} {unit}"

    def listed(self, names: Sequence[str], *, limit: int = 5) -> str:
        """Return C(a, b and c), C(a, b and 7 more)."""
        shown, comma = list(names[:limit]), self.sentences["list.comma"]
        if len(names) > limit:
            return self.say("list.more", names=comma.join(shown), number=len(names) - limit)
        if len(shown) < 2:
            return "".join(shown)
        return self.say("list.and", names=comma.join(shown[:-1]), last=shown[-1])

    def joined(self, clauses: Sequence[str]) -> str:
        """Return clauses, each of which could stand alone, in one line."""
        return self.sentences["list.clauses"].join(clauses)

    def sentence(self, text: str) -> str:
        """Return text with a capital at its beginning and a full stop at its end."""
        return self.say("sentence", text=text[:1].upper() + " ".join(text[1:].split()).rstrip(" .;。"))

    def duration(self, seconds: Optional[float]) -> str:
        """Return seconds as a person says them: C(0.4 s), C(12 s), C(3 min 5 s), C(2 h 1 min); unknown for C(None)."""
        if seconds is None:
            return self.say("unknown")
        if seconds < 9.95:
            return self.say("duration.s", s=f"{seconds:.1f}")
        whole = round(seconds)
        if whole < 60:
            return self.say("duration.s", s=whole)
        minutes, rest = divmod(whole, 60)
        if minutes < 60:
            return self.say("duration.min_s" if rest else "duration.min", min=minutes, s=rest)
        hours, minutes = divmod(minutes, 60)
        return self.say("duration.h_min" if minutes else "duration.h", h=hours, min=minutes)

    def local(self, at: Optional[str]) -> str:
        """Return an instant (UTC) in the zone of the service, empty where there is no such zone or no instant."""
        moment = _moment(at)
        return "" if moment is None or self.zone is None else moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def utc(self, at: Optional[str]) -> str:
        """Return an instant (UTC) to the second, as a reader wants it; the whole one stands in tables."""
        moment = _moment(at)
        return str(at or "") if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")

    def when(self, at: Optional[str]) -> str:
        """Return an instant as a reader wants it: in the zone of the service where there is one, and in UTC."""
        local = self.local(at)
        return f"{local} {self.zone_name(at)} ({self.utc(at)})" if local else self.utc(at)

    def short(self, at: Optional[str]) -> str:
        """Return an instant where there is room for one time alone: that of the service's zone, else UTC."""
        local = self.local(at)
        return f"{local} {self.zone_name(at)}" if local else self.utc(at)

    def zone_name(self, at: Optional[str] = None) -> str:
        """Return what the zone of the service is called at an instant: C(JST), C(CEST)."""
        moment = _moment(at) or datetime.datetime.now(datetime.timezone.utc)
        return "" if self.zone is None else moment.astimezone(self.zone).tzname() or ""


def english(told: message.Message) -> str:
    """Return the English text of a message, without a stop at its end."""
    return message.english(told, messages_en.SENTENCES)


def of(language: Optional[str], timezone: Optional[str] = None) -> Words:
    """Return the words of a language, of English where it has no catalogue; a zone nobody knows is left out."""
    known = language if language in CATALOGUES else "en"
    return Words(language=str(known), sentences=CATALOGUES[str(known)], zone=_zone(timezone))


def _zone(timezone: Optional[str]) -> Optional[datetime.tzinfo]:
    if not timezone or timezone == "UTC":
        return None
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


@functools.lru_cache(maxsize=4096)
def _moment(at: Optional[str]) -> Optional[datetime.datetime]:
    try:
        return datetime.datetime.strptime(at or "", "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
