# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the methods that database_recover.yml assessed: the rows that each one keeps or loses, and its option."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from typing import Any, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import names
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import (
    bare,
    message_of,
    messages_in,
    text_of,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_Data = Mapping[str, Any]
# Reasons that describe a problem with the damaged database.
_DAMAGED = ("reason.sqlite.check_failed", "reason.sqlite.check_failed_more")
# The messages about losses that the number of lost rows does not include.
_UNKNOWN_LOSS = ("reason.loss.uncounted", "reason.loss.written_later", "reason.loss.schema", "reason.loss.unread")
# Example values for backups in another folder with other names. If no patterns are set, only files with the usual names
# are found.
_ELSEWHERE = {"database_recovery_backup_dirs": ["/mnt/backup"], "database_recovery_backup_patterns": ["*.db"]}
# The reason for a backup that is chosen, although a salvage is possible.
_MORE_ROWS = "reason.restore.backup_holds_more"
# The reason if a method could not be examined because the database is open.
_OPEN = "reason.restore.open_in"
# Reasons about a single backup.
_OF_BACKUPS = ("reason.restore.worse_backup", "reason.restore.backup_unusable")


@dataclasses.dataclass(frozen=True)
class Described:
    """A method or another backup: a line that names it, and one line for each fact about it."""

    head: str
    facts: List[str] = dataclasses.field(default_factory=list)


def assessment(incident: incident_model.Incident) -> _Data:
    """Return the last run's sqlite_restore result with all methods, or an empty mapping."""
    last_run = incident.runs[-1].run if incident.runs else None
    planned = [
        step.data
        for step in incident.steps
        if step.run == last_run and allowlist.own_module(step.action or "") == "sqlite_restore" and "plan" in step.data
    ]
    # The first step assesses all methods. The second step only applies the chosen method.
    return planned[0] if planned else {}


def methods(words: Words, incident: incident_model.Incident, *, check_mode: bool = False) -> List[Described]:
    """Return each method and each other backup, or an empty list if no method was assessed.

    check_mode: True if the run did not stop the service. The backup that the method `backup` restores is not listed
    separately, because the method describes it.
    """
    found = assessment(incident)
    plan = found.get("plan") or []
    described = [each for way in plan for each in _method(words, way, found)]
    if check_mode and any(map(_is_open, plan)):
        described.append(Described(words.say("method.again")))
    return described


def choices(words: Words, incident: incident_model.Incident, *, check_mode: bool = False) -> List[str]:
    """Return the ansible-playbook options that choose another method, or an empty list if no method was assessed.

    check_mode: see methods. If a run in check mode could not examine a method because the database is open, the method
    `empty` is not offered. Each line ends with its option and is not wrapped.
    """
    found = assessment(incident)
    plan = found.get("plan") or []
    if not plan:
        return []
    # A person must also confirm the method `empty`, so this method has a separate line.
    methods = [str(each.get("method")) for each in plan if each.get("possible") and each.get("method") != "empty"]
    methods = [each for each in methods if each != found.get("method")]
    paths = [str(each.get("path")) for way in plan for each in way.get("backups") or [] if each.get("usable")]
    chosen = [str(way.get("source")) for way in plan if way.get("source")]
    others = [each for each in paths if each not in chosen] or paths
    lines = [
        *(words.say("choice.method", method=method) for method in methods),
        *([] if check_mode and any(map(_is_open, plan)) else [words.say("choice.empty")]),
        *(
            words.say("choice.backup", options=_extra(database_recovery_backup_patterns=[posixpath.basename(name)]))
            for name in others[:1]
        ),
        words.say("choice.folder", options=_extra(**_ELSEWHERE)),
    ]
    return list(map(Command, lines))


def _extra(**variables: object) -> str:
    """Return variables as an ansible-playbook option, quoted for a shell."""
    return "-e '" + json.dumps(variables).replace("'", "'\\''") + "'"


def _method(words: Words, way: _Data, found: _Data) -> List[Described]:
    method, backups = str(way.get("method")), way.get("backups") or []
    why = _without_backups(words, way) if backups else _why(words, way)
    if not way.get("possible"):
        unconfirmed = any(str(each.get("id")).endswith("unconfirmed") for each in _messages(way, "reason"))
        key = "unconfirmed" if unconfirmed else "open" if _is_open(way) else "impossible"
        told = Described(words.say(f"method.{key}", method=method, why=why))
    else:
        key = "method.chosen" if method == found.get("method") else "method.possible"
        head = words.say(key, method=method, choice=words.say(f"choice.{_choice(found)}"), why=why)
        rule = _rule(words, found) if key == "method.chosen" else []
        kept = sum((way.get("rows") or {}).values())
        told = Described(head, [*_kept_and_lost(words, kept, _losses(words, way)), *_more(words, way, found), *rule])
    unsure = _unsure(way)
    described = way.get("source") if way.get("possible") else None
    others = [each for each in backups if each.get("path") != described]
    return [told, *(_backup(words, each, found, unsure=unsure) for each in others)]


def _kept_and_lost(words: Words, kept: int, losses: Sequence[str]) -> List[str]:
    """Return the number of rows that a method keeps, and a line for each loss."""
    lost = [words.say("method.lost", lost=each) for each in losses]
    return [words.say("method.kept", kept=words.count("rows.count", kept)), *lost]


def _losses(words: Words, way: _Data) -> List[str]:
    """Return what a method loses. A timeline without messages contains one sentence."""
    known = [bare(words.message(each)) for each in _messages(way, "statement")]
    return known if known and all(known) else [text_of(words, way, "statement")]


def _is_open(way: _Data) -> bool:
    """Return True if a method is not possible, and one of its reasons is that a process has the database open."""
    return not way.get("possible") and names(message_of(way, "reason"), _OPEN)


def _unsure(way: _Data) -> bool:
    """Return True if some rows in the damaged database could not be counted."""
    return any(each.get("id") in _UNKNOWN_LOSS for each in _messages(way, "statement"))


def _more(words: Words, way: _Data, found: _Data) -> List[str]:
    """Return a line with the tables in which a backup has more rows than the database has now, or an empty list.

    These tables explain why a backup can keep more rows than a method that loses no rows.
    """
    now = _rows_now(found)
    if way.get("method") != "backup" or _unsure(way):
        return []
    rows = way.get("rows") or {}
    more = {table: number - now[table] for table, number in rows.items() if number > now.get(table, number)}
    tables = words.listed([f"{table} +{words.number(number)}" for table, number in more.items()], limit=3)
    return [words.say("method.more", tables=tables)] if more else []


def _rows_now(found: _Data) -> _Data:
    """Return the current row counts of an intact database, or an empty mapping.

    rows_before may contain the last good or the expected counts. The method `checkpoint` keeps exactly the rows that
    were counted in an intact database.
    """
    possible = [way for way in found.get("plan") or [] if way.get("possible")]
    return next((way.get("rows") or {} for way in possible if way.get("method") == "checkpoint"), {})


def _choice(found: _Data) -> str:
    """Return the last part of a message key. The message states why a method is chosen.

    See _choose in _sqlite/restore.py.
    """
    if any(each.get("id") == _MORE_ROWS for each in _messages(found, "reason")):
        return "more_rows"
    possible = [str(way.get("method")) for way in found.get("plan") or [] if way.get("possible")]
    return "first" if found.get("method") == next(iter(possible), "") else "asked_for"


def _rule(words: Words, found: _Data) -> List[str]:
    """Return the rule by which a backup was chosen instead of a salvage, or an empty list if no rule compared them."""
    if _choice(found) != "more_rows":
        return []
    rows = {str(way.get("method")): sum((way.get("rows") or {}).values()) for way in found.get("plan") or []}
    kept, saved = rows.get("backup", 0), rows.get("salvage", 0)
    return [words.say("method.rule", kept=words.count("rows.count", kept), saved=words.number(saved))]


def _messages(way: _Data, name: str) -> List[_Data]:
    """Return the messages for one of a method's text fields, such as the reason."""
    return messages_in(message_of(way, name))


def _why(words: Words, way: _Data) -> str:
    """Return the reasons why a method is or is not possible. Omit problems of the database. The cause states them."""
    known = _messages(way, "reason")
    rest = [each for each in known if each.get("id") not in _DAMAGED]
    if way.get("possible") or len(rest) == len(known):
        return text_of(words, way, "reason")
    return words.joined([words.say("method.damaged"), *([words.message(rest)] if rest else [])])


def _without_backups(words: Words, way: _Data) -> str:
    """Return the reasons for a method, without those that the lines of the backups already show."""
    told = message_of(way, "reason")
    known = [each for each in told if isinstance(each, Mapping)] if isinstance(told, list) else []
    rest = [each for each in known if each.get("id") not in _OF_BACKUPS]
    return bare(words.message(rest or known[:1], way.get("reason")))


def _backup(words: Words, backup: _Data, found: _Data, *, unsure: bool) -> Described:
    """Return the description of a backup. unsure: True if some rows in the damaged database could not be counted."""
    named = {"path": backup.get("path"), "at": words.when(backup.get("at"))}
    if not backup.get("usable"):
        return Described(words.say("method.unusable_backup", why=text_of(words, backup, "reason"), **named))
    kept = sum((backup.get("rows") or {}).values())
    lost = words.count("rows.counted" if unsure else "rows.count", sum((backup.get("lost") or {}).values()))
    known = bool(found.get("rows_before"))
    losses = [lost if known else words.say("unknown"), words.say("method.since")]
    return Described(words.say("method.backup", **named), _kept_and_lost(words, kept, losses))
