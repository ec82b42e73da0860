# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The language of a document: sentences from a catalogue, and numbers, durations and times in the usual format.

A catalogue is a module of this package, named after its language. Its SENTENCES dictionary maps each key to a
str.format template. Each template is a complete sentence. Only names, numbers and lists are inserted into a template,
never parts of a sentence. Two kinds of keys are optional in a catalogue: <key>.one (the singular form), and keys that
belong to a family in OPEN.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import string
from typing import Iterable, List, Mapping, Optional, Sequence

import zoneinfo

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Listed
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import late_import

LANGUAGES = ("en", "ja")

# Maximum depth of nested messages.
_DEEPEST = 6

# Key families. If the catalogue does not contain a name from one of these families, the name itself is shown. For the
# `module` family, the name of the task is shown instead.
OPEN = (
    *(
        "cause",
        "summary",
        "part",
        "severity",
        "outcome",
        "contact",
        "escalation",
        "message",
        "next",
        "source",
    ),
    *("status", "module", "ended"),
)


class Command(str):
    """Text that people copy into a shell.

    A command is shown on its own line, unwrapped and without punctuation.
    """

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Words:
    """A language, and the time zone in which times are shown in addition to UTC. Create instances with of()."""

    language: str
    sentences: Mapping[str, str]
    zone: Optional[datetime.tzinfo] = None

    def say(self, key: str, **values: object) -> str:
        """Return the sentence for this key, with the values inserted."""
        return self.sentences[key].format(**values)

    def name(self, family: str, value: Optional[str], **values: object) -> str:
        """Return the name of `value` in this language. If the catalogue contains no name, return `value` itself."""
        key = f"{family}.{value}"
        return self.say(key, **values) if key in self.sentences else str(value or "")

    def message(self, told: object, text: object = "") -> str:
        """Return a message in this language, or `text` in quotation marks if the message is missing or unknown.

        told: a message as plain data (id and values) from a timeline, or a list with one message for each sentence. The
        data may come from a hostile host, or from a version with different IDs.
        """
        known = [self._message(each, depth=_DEEPEST) for each in (told if isinstance(told, (list, tuple)) else [told])]
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

    def _value(self, value: object, *, depth: int) -> Listed:
        values = value if isinstance(value, (list, tuple)) else [value]
        texts = [
            self._message(each, depth=depth) or self.say("unknown") if isinstance(each, Mapping) else self._plain(each)
            for each in values
        ]
        return Listed(texts, comma=self.sentences["list.comma"], clauses=self.sentences["list.clauses"])

    def _plain(self, value: object) -> str:
        """Return a value as text. Times have the format that is used for all times in this language."""
        told = self.short(value) if isinstance(value, str) and value.endswith("Z") else str(value)
        # In a template, a line break precedes each command, so a value must not contain a line break.
        return " ".join(told.splitlines())

    def quoted(self, text: object) -> str:
        """Return text in quotation marks. Use this for text without a message, such as text from an old timeline."""
        whole = " ".join(str(text or "").split()).rstrip(" .;")
        return self.say("quoted", text=whole) if whole else ""

    def knows(self, family: str, value: Optional[str]) -> bool:
        """Return True if the catalogue has an entry for `value`."""
        return f"{family}.{value}" in self.sentences

    def part(self, name: Optional[str]) -> str:
        """Return the name of a role, with the method if there is one: "database_recovery by salvage"."""
        base, by, how = str(name or "").partition(" by ")
        called = self.name("part", base)
        return self.say("part_by", part=called, how=how) if by else called

    def count(self, key: str, number: float) -> str:
        """Return a number with its unit, such as "1 row" or "2 rows"."""
        single = f"{key}.one"
        return self.say(single if number == 1 and single in self.sentences else key, number=self.number(number))

    def number(self, value: float) -> str:
        """Return a count with a thousands separator."""
        return f"{value:,.0f}"

    def size(self, number: float) -> str:
        """Return a number of bytes in human-readable form: "512 B", "3.4 MiB", "12 GiB"."""
        unit = "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if number < 1024:
                break
            number, unit = number / 1024, larger
        return f"{number:.1f} {unit}" if unit != "B" and number < 9.95 else f"{number:,.0f} {unit}"

    def listed(self, names: Sequence[str], *, limit: int = 5) -> str:
        """Return names as a list: "a, b and c", "a, b and 7 more"."""
        shown, comma = list(names[:limit]), self.sentences["list.comma"]
        if len(names) > limit:
            return self.say("list.more", names=comma.join(shown), number=len(names) - limit)
        if len(shown) < 2:
            return "".join(shown)
        return self.say("list.and", names=comma.join(shown[:-1]), last=shown[-1])

    def joined(self, clauses: Sequence[str]) -> str:
        """Join clauses into one line. Each clause must make sense without the others."""
        return self.sentences["list.clauses"].join(clauses)

    def paragraph(self, sentences: Iterable[str]) -> str:
        """Return sentences on one line. Empty sentences are omitted."""
        return self.sentences["list.sentences"].join(filter(None, sentences))

    def capitalized(self, text: str) -> str:
        """Return text with a capital first letter.

        Japanese text is not changed, because a Latin letter at its beginning is part of a name.
        """
        if self.language == "ja" or _begins_with_name(text):
            return text
        return text[:1].upper() + text[1:]

    def sentence(self, text: str, *, capital: bool = True) -> str:
        """Return text with a capital letter at the beginning and a full stop at the end.

        capital: False if the text begins with a name from the inventory, such as a contact's name.
        """
        whole = " ".join(text.split()).rstrip(" .;。")
        return self.say("sentence", text=self.capitalized(whole) if capital else whole)

    def lines(self, text: str) -> List[str]:
        """Return text as a sentence, followed by the command if the text ends with one.

        The command is the part after the line break. In the returned list, the command is a separate element (Command).
        """
        told, _break, command = text.partition("\n")
        if not command:
            return [self.sentence(told)]
        return [self.capitalized(told), Command(" ".join(command.splitlines()))]

    def duration(self, seconds: Optional[float]) -> str:
        """Return seconds in human-readable form: "0.4 s", "12 s", "3 min 5 s", "2 h 1 min", or "unknown" for None."""
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
        """Return an instant for a table, in the service's time zone, or "" if the instant or the zone is missing."""
        moment = self._in_zone(at)
        return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")

    def utc(self, at: Optional[str]) -> str:
        """Return an instant (UTC) in human-readable form, rounded down to the second. Tables show the exact time."""
        moment = _moment(at)
        return str(at or "") if moment is None else f"{self._date_time(moment)} UTC"

    def when(self, at: Optional[str]) -> str:
        """Return an instant in human-readable form: in UTC and, if it is set, in the service's time zone."""
        local, utc = self._in_zone(at), self.utc(at)
        return utc if local is None else self.say("date_time.both", local=self._zoned(local), utc=utc)

    def short(self, at: Optional[str]) -> str:
        """Return an instant in the service's time zone if the service has one, otherwise in UTC."""
        local = self._in_zone(at)
        return self.utc(at) if local is None else self._zoned(local)

    def _in_zone(self, at: Optional[str]) -> Optional[datetime.datetime]:
        moment = _moment(at)
        # An instant in the first or the last year of the calendar may not exist in another time zone.
        with contextlib.suppress(OverflowError):
            return None if moment is None or self.zone is None else moment.astimezone(self.zone)
        return None

    def _zoned(self, moment: datetime.datetime) -> str:
        return f"{self._date_time(moment)} {moment.tzname() or ''}".rstrip()

    def _date_time(self, moment: datetime.datetime) -> str:
        year, month, day, time = moment.strftime("%Y %m %d %H:%M:%S").split()
        return self.say("date_time", year=year, month=month, day=day, time=time)

    def zone_name(self, at: Optional[str] = None) -> str:
        """Return the abbreviation of the service's time zone (such as JST or CEST) at an instant."""
        moment = _moment(at) or datetime.datetime.now(datetime.timezone.utc)
        with contextlib.suppress(OverflowError):  # See _in_zone.
            return "" if self.zone is None else moment.astimezone(self.zone).tzname() or ""
        return ""


def _begins_with_name(text: str) -> bool:
    """Return True if the first word is the name of a variable, a file or a program."""
    word = text.partition(" ")[0].rstrip(".,:;")
    return word in ("systemd", "npm") or any(sign in word for sign in "_./")


def english(told: message.Message) -> str:
    """Return the English text of a message, without a final full stop."""
    return message.english(told, sentences("en"))


def places(identity: str) -> List[str]:
    """Return the names of the placeholders in a message's text, or an empty list if the ID is unknown."""
    parts = string.Formatter().parse(sentences("en").get(identity, ""))
    return [name for _text, name, _format, _conversion in parts if name]


def of(language: Optional[str], timezone: Optional[str] = None) -> Words:
    """Return the Words for a language, or for English if the language has no catalogue. An unknown zone is ignored."""
    known = language if language in LANGUAGES else "en"
    return Words(language=str(known), sentences=sentences(str(known)), zone=_zone(timezone))


@functools.lru_cache(maxsize=None)
def sentences(language: str) -> Mapping[str, str]:
    """Return the catalogue for one of LANGUAGES: the template for each key. The first call imports the catalogue."""
    known: Mapping[str, str] = late_import.module(f"_messages.{language}").SENTENCES
    return known


def knows_zone(timezone: object) -> bool:
    """Return True if this is the name of a time zone in the controller's tz database. UTC is always known."""
    return timezone == "UTC" or (isinstance(timezone, str) and _zone(timezone) is not None)


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
