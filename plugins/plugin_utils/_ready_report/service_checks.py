# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the service and its data: settings, modules, database, backups, certificate, secrets, contacts."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import backups as known_backups
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    NOT_READY,
    READY,
    WARNING,
    Contacts,
    Facts,
    Judged,
    NotCheckedError,
    known_message,
    text_or_message,
)

_DAY, _HOUR = 86400.0, 3600.0
_MOST_LISTED = 3  # Maximum number of problems in a line.


def age(seconds: float) -> Message:
    """Return an age as a message, such as "31 hours"."""
    unit, number = timestamps.span(max(seconds, 0.0))
    return message(f"reason.age.{unit}", number=number)


def settings(facts: Facts) -> Judged:
    """Report whether the variables of the service are valid on the host."""
    found = facts.of("settings")
    problems = [text_or_message(each, "message") for each in found["problems"]]
    if problems:
        return Judged(NOT_READY, message("ready.settings.invalid", problems=problems[:_MOST_LISTED]))
    resolved = found.get("resolved") or {}
    if resolved.get("state_dir_writable") is False:
        return Judged(NOT_READY, message("ready.settings.state_dir"))
    differences = [str(each.get("variable")) for each in found.get("mismatches") or []]
    if differences:
        return Judged(WARNING, message("ready.settings.differ", names=differences))
    return Judged(READY, message("ready.settings.ok"))


def login(facts: Facts) -> Judged:
    """Report whether the login check of a recovery would succeed now."""
    if not facts.login.configured:
        if facts.login.declined:
            raise NotCheckedError(message("ready.login.declined"))
        return Judged(WARNING, message("ready.login.unset"))
    tried = facts.login.result
    if tried is None and facts.login.check_mode and facts.error is None:
        raise NotCheckedError(message("ready.login.check_mode"))
    if tried is None:
        raise NotCheckedError(facts.why_not("login"))
    if tried.get("failed"):
        raise NotCheckedError(text_or_message(tried, "msg"))
    found = tried.get("login")
    if not isinstance(found, Mapping):
        raise NotCheckedError(message("ready.login.unhealthy", why=text_or_message(tried, "summary")))
    if not found["ok"]:
        return Judged(NOT_READY, message("ready.login.failed", why=text_or_message(found, "error")))
    if not found["checked"]:
        raise NotCheckedError(message("ready.login.limited"))
    return Judged(READY, message("ready.login.ok"))


def incident(facts: Facts) -> Judged:
    """Report whether an open incident or a hold prevents the service from starting."""
    found = facts.of("incident")
    held = found.get("hold")
    if isinstance(held, Mapping):
        name = str(held.get("incident") or "") or None
        return Judged(NOT_READY, message("ready.incident.held", incident=name))
    if found.get("open"):
        return Judged(WARNING, message("ready.incident.open", incident=str(found["open"])))
    return Judged(READY, message("ready.incident.ok"))


def modules(facts: Facts) -> Judged:
    """Report whether the modules could be rebuilt offline and loaded."""
    found = facts.of("modules")
    if found.get("ok") is True:
        values: Any = {"packages": int(found.get("packages") or 0), "seconds": f"{found.get('seconds') or 0:.0f}"}
        return Judged(READY, message("ready.modules.ok", **values))
    why = known_message(found.get("why")) or message("ready.unknown_fact")
    return Judged(NOT_READY, message("ready.modules.failed", why=why))


def database(facts: Facts) -> Judged:
    """Report whether the service's database is intact now."""
    found = facts.of("database")
    path = str(found.get("path"))
    if found.get("healthy") is not True:
        problems = [text_or_message(each, "message") for each in found.get("problems") or []]
        return Judged(NOT_READY, message("ready.database.unsound", path=path, problems=problems[:_MOST_LISTED]))
    if found.get("conclusive") is not True:
        raise NotCheckedError(message("ready.database.late", path=path))
    return Judged(READY, message("ready.database.ok", path=path, rows=int(found.get("rows") or 0)))


def backup(facts: Facts) -> Judged:
    """Compare the age of the newest restorable backup with the recovery point objective."""
    found = facts.of("backups")
    known = [each for each in found.get("found") or [] if isinstance(each, Mapping)]
    unread = [each for each in map(known_message, found.get("unread") or []) if each is not None]
    bad = [_unusable(each) for each in known if each.get("kind") != candidates.SOUND]
    good = [each for each in known if each.get("kind") in known_backups.RESTORABLE and each.get("written_at")]
    limit = f"{facts.limits.rpo_hours:g}"
    if not good:
        if any(each.get("kind") == candidates.NOT_CHECKED for each in known):
            raise NotCheckedError(message("ready.backup.none_checked", backups=bad[:_MOST_LISTED]))
        if bad or unread:
            why = [*bad, *unread][:_MOST_LISTED]
            return Judged(NOT_READY, message("ready.backup.none_restorable", backups=why, number=len(known)))
        return Judged(NOT_READY, message("ready.backup.none"))
    newest = max(good, key=lambda each: str(each["written_at"]))
    seconds = facts.now - timestamps.epoch(str(newest["written_at"]))
    values: Any = {"path": str(newest.get("path")), "age": age(seconds), "hours": limit}
    if seconds > facts.limits.rpo_hours * _HOUR:
        told = "ready.backup.old_and_bad" if bad else "ready.backup.old"
        return Judged(NOT_READY, message(told, **values, **({"backups": bad[:_MOST_LISTED]} if bad else {})))
    if newest.get("kind") == known_backups.OLDER_SCHEMA:
        return Judged(WARNING, message("ready.backup.schema", **values, why=_why(newest)))
    if bad:
        return Judged(WARNING, message("ready.backup.newer_bad", **values, backups=bad[:_MOST_LISTED]))
    return Judged(READY, message("ready.backup.ok", **values))


def _why(each: Mapping[str, Any]) -> Message:
    return known_message(each.get("why")) or message("ready.unknown_fact")


def _unusable(each: Mapping[str, Any]) -> Message:
    why = _why(each)
    # Most reasons already contain the path of the file. Add the path to the others.
    return why if "path" in why.values else message("ready.backup.one", path=str(each.get("path")), why=why)


def drill(facts: Facts) -> Judged:
    """Report the result and the age of the last restore drill."""
    found = facts.of("drill")
    if found.get("missing"):
        return Judged(WARNING, message("ready.drill.none"))
    at = str(found.get("at"))
    try:
        seconds = facts.now - timestamps.epoch(at)
    except ValueError:
        raise NotCheckedError(message("ready.unknown_fact")) from None
    if found.get("ok") is not True:
        problems = [known_message(each) or quoted(each) for each in found.get("problems") or []]
        problems = problems or [message("ready.unknown_fact")]
        return Judged(NOT_READY, message("ready.drill.failed", at=at, problems=problems[:_MOST_LISTED]))
    values: Any = {"age": age(seconds), "days": f"{facts.limits.drill_days:g}"}
    if seconds > facts.limits.drill_days * _DAY:
        return Judged(WARNING, message("ready.drill.old", **values))
    return Judged(READY, message("ready.drill.ok", **values, seconds=f"{float(found.get('rto_seconds') or 0):.0f}"))


def certificate(facts: Facts) -> Judged:
    """Report whether the certificate and its key can be used, and when the certificate expires."""
    if not facts.https:
        return Judged(READY, message("ready.certificate.no_https"))
    found = facts.of("certificate")
    if not found.get("path"):
        raise NotCheckedError(message("ready.certificate.unknown"))
    why = _unusable_pair(found, found.get("key") or {})
    return Judged(NOT_READY, why) if why else _expiry(facts, found)


def _unusable_pair(found: Mapping[str, Any], key: Mapping[str, Any]) -> Optional[Message]:
    """Return the reason why a certificate and its key cannot be used, or None."""
    names = {"path": str(found["path"]), "private_key": str(key.get("path"))}
    if key.get("matches") is False:
        return message("ready.certificate.key", **names)
    error = found.get("error") or key.get("error")
    if error:
        return message("ready.certificate.unusable", why=quoted(error))
    if found.get("readable_by_service") is False or key.get("readable") is False:
        return message("ready.certificate.unreadable", **names)
    return None


def _expiry(facts: Facts, found: Mapping[str, Any]) -> Judged:
    at, path = str(found.get("not_after")), str(found["path"])
    try:
        left = timestamps.epoch(at) - facts.now
    except ValueError:
        raise NotCheckedError(message("ready.unknown_fact")) from None
    if left < _DAY:
        when = "expired" if left <= 0 else "tonight"
        return Judged(NOT_READY, message(f"ready.certificate.{when}", path=path, at=at))
    values: Any = {"path": path, "at": at, "days": int(left / _DAY)}
    if left < facts.limits.certificate_days * _DAY:
        return Judged(WARNING, message("ready.certificate.soon", **values))
    return Judged(READY, message("ready.certificate.ok", **values))


def secrets(facts: Facts) -> Judged:
    """Report missing and weak secrets, files that every account can read, and missing hard link protection."""
    found = facts.of("secrets")
    missing, weak = found.get("missing"), found.get("weak") or []
    if missing is None:
        raise NotCheckedError(message("ready.secrets.unknown"))
    if missing:
        return Judged(NOT_READY, message("ready.secrets.missing", names=list(map(str, missing))))
    exposed = found.get("exposed") or []
    if exposed:
        files = [message("ready.secrets.file", path=str(each["path"]), mode=str(each["mode"])) for each in exposed]
        return Judged(NOT_READY, message("ready.secrets.exposed", files=files))
    if weak:
        return Judged(WARNING, message("ready.secrets.weak", names=list(map(str, weak))))
    if found.get("hard_links_protected") is False:
        return Judged(WARNING, message("ready.secrets.hard_links"))
    return Judged(READY, message("ready.secrets.ok"))


def guard(facts: Facts) -> Judged:
    """Report whether the start guard and the restart recorder are installed."""
    found = facts.of("guard")
    there: List[str] = [name for name in ("guard", "recorder") if found.get(name) is True]
    if len(there) == 2:
        return Judged(READY, message("ready.guard.ok"))
    if not found.get("installed"):
        return Judged(WARNING, message("ready.guard.none"))
    return Judged(NOT_READY, message("ready.guard.half", path=str(found.get("dropin"))))


def contacts(facts: Facts) -> Judged:
    """Report whether the channels of the contacts can be reached."""
    found: Optional[Contacts] = facts.contacts
    if found is None:
        raise NotCheckedError(message("ready.contacts.not_asked"))
    if found.problems:
        return Judged(NOT_READY, message("ready.contacts.invalid", problems=list(found.problems)[:_MOST_LISTED]))
    if found.unknown:
        return Judged(NOT_READY, message("ready.contacts.unknown", names=list(found.unknown)))
    failed = [each for each in found.channels if each.error]
    if failed:
        lines = [
            message("ready.contacts.channel", contact=each.contact, channel=each.name, why=quoted(each.error))
            for each in failed[:_MOST_LISTED]
        ]
        return Judged(NOT_READY, message("ready.contacts.unreachable", channels=lines))
    if not found.channels:
        return Judged(NOT_READY, message("ready.contacts.nobody"))
    return _reached(found)


def _reached(found: Contacts) -> Judged:
    """Judge the channels if none of them has failed."""
    number = len(found.channels)
    unchecked = [f"{each.contact} ({each.name})" for each in found.channels if not (each.checked or each.tested)]
    tested = sum(each.tested for each in found.channels)
    if unchecked:
        reached = message("ready.contacts.unchecked", good=number - len(unchecked), number=number, channels=unchecked)
    elif 0 < tested < number:
        reached = message("ready.contacts.partly_tested", tested=tested, number=number)
    else:
        reached = message("ready.contacts.tested" if tested else "ready.contacts.ok", number=number)
    if found.without:
        return Judged(WARNING, message("ready.contacts.without", contacts=list(found.without), reached=reached))
    return Judged(WARNING if unchecked else READY, reached)
