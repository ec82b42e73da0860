# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The input and the result of each check: facts from a host, facts from the controller, and the limits."""

from __future__ import annotations

import math
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    from_dict,
    message,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import limits as readiness_limits

# Verdicts, from the best to the worst.
READY, WARNING, NOT_CHECKED, NOT_READY = "ready", "warning", "not_checked", "not_ready"
VERDICTS = (READY, WARNING, NOT_CHECKED, NOT_READY)


class NotCheckedError(Exception):
    """A check could not be carried out. The argument is the reason."""

    def __init__(self, told: Message) -> None:
        """Set the reason."""
        super().__init__(told.id)
        self.told = told


class Judged(NamedTuple):
    """The verdict of a check, and its text. The remedy's text has the same ID, followed by .do."""

    verdict: str
    told: Message


class Limits(NamedTuple):
    """The limits for the checks of a host. See the preparedness_report module. open_files_percent: 0 for no limit."""

    rpo_hours: float = 24.0
    drill_days: float = 35.0
    certificate_days: float = readiness_limits.Limits().certificate_days
    open_files_percent: float = readiness_limits.Limits().open_files_percent


# Limits that must be greater than 0. The other limits come from the readiness checks, where 0 is allowed.
_POSITIVE = ("rpo_hours", "drill_days")


def limits_of(host: str, given: Mapping[str, Any]) -> Limits:
    """Return the limits of a host.

    If a limit is missing, its default value is used. Raises ValueError if a limit is invalid.
    """
    found = Limits()
    for name, value in given.items():
        if name not in Limits._fields:
            raise ValueError(f"seen: limits.{name} of {host} is unknown: must be one of {', '.join(Limits._fields)}")
        try:
            limit = float(value)
        except (TypeError, ValueError):
            limit = math.nan
        if not (math.isfinite(limit) and limit >= 0 and (limit or name not in _POSITIVE)):
            allowed = "a number above 0" if name in _POSITIVE else "0 or a number above 0"
            raise ValueError(f"seen: limits.{name} of {host} is {value!r}: must be {allowed}")
        found = found._replace(**{name: limit})
    return found


class Channel(NamedTuple):
    """A channel of a contact.

    error: the reason why the channel cannot be reached, or empty. tested: True if a test message was sent. checked:
    False if only a test message can show whether the channel works, because its type is custom.
    """

    contact: str
    name: str
    error: str
    tested: bool = False
    checked: bool = True


class Contacts(NamedTuple):
    """The contacts. problems: invalid settings. without: the contacts without a channel.

    unknown: the keys in outage_ready_notify that are not contacts.
    """

    channels: Sequence[Channel] = ()
    without: Sequence[str] = ()
    problems: Sequence[str] = ()
    unknown: Sequence[str] = ()


class Login(NamedTuple):
    """The login check. configured: True if there is a password. declined: True if the inventory sets an empty one.

    check_mode: True if no login was tried because of check mode. result: the result of the health_probe module, or None
    if the module was not called.
    """

    configured: bool
    declined: bool = False
    check_mode: bool = False
    result: Optional[Mapping[str, Any]] = None


class Facts(NamedTuple):
    """Everything that is known about one host.

    host: the facts from the preparedness_info module. parts: the missing parts of these facts, each with the reason.
    error: the reason why the module returned no facts, or None. contacts: the contacts, or None if they were not
    checked. now: seconds since the epoch.
    """

    host: Mapping[str, Any]
    parts: Mapping[str, Any]
    error: Optional[Message]
    unreachable: bool
    round_trip: Optional[float]
    answered_at: str
    contacts: Optional[Contacts]
    https: bool
    login: Login
    limits: Limits
    now: float

    def of(self, part: str) -> Mapping[str, Any]:
        """Return the facts from one part of the module's result. Raises NotCheckedError if the facts are missing."""
        found = self.host.get(part)
        if isinstance(found, Mapping):
            return found
        raise NotCheckedError(self.why_not(part))

    def listed(self, part: str) -> List[Mapping[str, Any]]:
        """Return the list of facts from one part of the module's result.

        Raises NotCheckedError if the facts are missing.
        """
        found = self.host.get(part)
        if isinstance(found, (list, tuple)):
            return [each for each in found if isinstance(each, Mapping)]
        raise NotCheckedError(self.why_not(part))

    def why_not(self, part: str) -> Message:
        """Return the reason why the facts from one part of the module's result are missing."""
        if self.error is not None:
            return message("ready.no_facts", why=self.error)
        return known_message(self.parts.get(part)) or message("ready.unknown_fact")


def known_message(told: object) -> Optional[Message]:
    """Convert plain data from a host to a message, or return None if the data is not a message."""
    if isinstance(told, Mapping) and isinstance(told.get("id"), str):
        return from_dict(told)
    return None


def text_or_message(texts: Mapping[str, Any], name: str) -> Message:
    """Return the message for text in a module's result, or the quoted text if there is no message."""
    told = texts.get("messages")
    return known_message(told.get(name) if isinstance(told, Mapping) else None) or quoted(texts.get(name))


Decide = Callable[[Facts], Judged]
