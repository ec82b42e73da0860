# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the service's data: its rows, lost rows, and the files that were kept."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import data_verdict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import message_of, messages_in
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, row_counts, statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def rows(words: Words, incident: incident_model.Incident) -> str:
    """Return one sentence about the database's row counts before and after the outage.

    If data_loss() already states that no table has fewer rows, the sentence does not repeat it.
    """
    before, after = incident.rows_before, incident.rows_after
    if not before and not after:
        return words.say("not_counted")
    if not before:
        return words.say(
            "rows.after_only", after=words.number(sum(after.values())), tables=words.count("tables", len(after))
        )
    numbers = {"before": words.number(sum(before.values())), "tables": words.count("tables", len(before))}
    if not after:
        return words.say("rows.before_only", **numbers)
    if incident.rows_replaced:
        own = sum(after.values()) + sum(incident.rows_seeded.values())
        return words.say("rows.replaced", **{**numbers, "after": words.count("rows.count", own)})
    sum_after = words.number(sum(after.values()))
    numbers["after"] = words.say("rows.after", after=sum_after)
    grown = {table: count - before.get(table, 0) for table, count in after.items() if count > before.get(table, 0)}
    if grown:
        more = words.listed([f"{table} +{words.number(count)}" for table, count in grown.items()], limit=3)
        numbers["after"] = words.say("rows.after_grown", after=sum_after, grown=more)
    if incident.rows_seeded:
        numbers["after"] = words.say("rows.after_seeded", after=numbers["after"], seeded=_seeded(words, incident))
    if incident.rows_stale:
        numbers["after"] = words.say("rows.after_stale", after=numbers["after"])
    lost = incident.rows_lost()
    why = statements.why_of_data_loss(incident.statements)
    # The data-loss verdict may already state that no table has fewer rows.
    said = incident.data_loss == statements.NONE or why == statements.WRITTEN_SINCE
    key = "partly" if why == statements.UNCOUNTED else "fewer" if lost else "counts" if said else "none_fewer"
    told = words.say(f"rows.{key}", fewer=fewer(words, lost), **numbers)
    added = _added_since(words, incident) if key == "fewer" else ""
    return words.say("rows.added_since", told=told, added=added) if added else told


def fewer(words: Words, lost: Mapping[str, Tuple[float, float]]) -> str:
    """Return the tables that have fewer rows, with both numbers. lost: see statements.rows_fewer."""
    return words.listed([f"{table} {words.number(was)} -> {words.number(now)}" for table, (was, now) in lost.items()])


def _added_since(words: Words, incident: incident_model.Incident) -> str:
    """Return the tables in which rows were added after the last database recovery, or an empty string.

    These rows explain why more rows may be lost than the counts before and after the outage show.
    """
    recovered = [each for each in _recoveries(incident) if each.get("rows_after")]
    # If the last run was killed, the last count may have been made before the recovery.
    if not recovered or incident.outcome == "unfinished":
        return ""
    own = row_counts.counts(recovered[-1]["rows_after"])
    added = {table: now - own[table] for table, now in incident.rows_after.items() if now > own.get(table, now)}
    return words.listed([f"{table} +{words.number(number)}" for table, number in added.items()], limit=3)


def seeded(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return a note about the rows that the service created when it started, and the command that removes them.

    If no run has recorded this command, the list is empty.
    """
    removal = incident.rows_seeded_removal
    return [words.say("rows.seeded", rows=_seeded(words, incident)), Command(" ".join(removal))] if removal else []


def _seeded(words: Words, incident: incident_model.Incident) -> str:
    return words.listed([f"{table} {words.number(count)}" for table, count in incident.rows_seeded.items()], limit=3)


def data_loss(words: Words, incident: incident_model.Incident) -> str:
    """Return the text of the data-loss verdict."""
    told = data_verdict.text(words, incident.data_loss, statements.why_of_data_loss(incident.statements))
    if incident.data_loss == statements.KNOWN:
        told = _known_loss(words, incident) or told
    untouched = incident.data_loss == statements.SUSPECTED and incident.stated("nothing_started") == statements.YES
    return words.say("data_loss.untouched", verdict=told) if untouched else told


def _known_loss(words: Words, incident: incident_model.Incident) -> str:
    """Return the number of rows that were lost in the database recoveries, and the time of the count.

    If the number is unknown, return "".
    """
    done = _recoveries(incident)
    # A later count is used only if there is no other number, because the service may write rows after a recovery.
    lost, later = _number_lost(done), sum(was - now for was, now in incident.rows_lost().values())
    if not lost:
        return words.say("data_loss.known_rows", rows=words.count("rows.count", later)) if later else ""
    losses = _losses(done[-1])
    # Between two recoveries, the service may have written rows that are also lost. An old timeline does not contain the
    # messages that state whether more rows may be lost.
    exact = len(done) == 1 and set(losses) == {"reason.loss.rows"}
    told = words.say(f"data_loss.known_{'exact' if exact else 'least'}", rows=words.count("rows.count", lost))
    told = words.say("data_loss.known_counted", told=told)
    since = losses.get("reason.loss.since")
    return words.say("data_loss.known_since", told=told, at=words.short(str(since.get("at")))) if since else told


def _recoveries(incident: incident_model.Incident) -> List[Mapping[str, Any]]:
    """Return the results of the database recoveries that changed the database, oldest first."""
    steps = [each for each in incident.steps if allowlist.own_module(each.action or "") == "sqlite_restore"]
    return [each.data for each in steps if each.status == "changed"]


def _losses(recovery: Mapping[str, Any]) -> Dict[str, Mapping[str, Any]]:
    """Return the values of the messages about lost data, by message ID."""
    found = messages_in(message_of(recovery, "statement"))
    return {str(each.get("id")): each.get("values") or {} for each in found}


def _number_lost(done: Sequence[Mapping[str, Any]]) -> float:
    """Return the number of rows that were lost in the database recoveries, or 0 if this number is unknown.

    A later recovery may restore lost rows, or repeat a recovery that was killed. Therefore, the numbers from several
    recoveries are not added up.
    """
    counted: float = sum(sum(row_counts.counts(each.get("rows_lost")).values()) for each in done[-1:])
    if len(done) > 1:
        after = done[-1].get("rows_after") or {}
        before = [row_counts.counts(each.get("rows_before")) for each in done]
        first = {table: max(each.get(table, 0) for each in before) for each in before for table in each}
        # A missing table counts as 0 rows, but a value that is not a number is unknown.
        known = row_counts.counts({table: after.get(table, 0) for table in first})
        counted = sum(max(first[table] - rows, 0) for table, rows in known.items())
    return counted


def kept(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return the names and paths of files on the host that a person must check or remove after the recovery."""
    places = [
        ("kept.evidence", incident.evidence),
        *(("kept.copy", path) for path in incident.database_copies),
        ("kept.backup", incident.backup_file),
        ("kept.database", incident.database_kept),
        ("kept.modules", incident.modules_kept),
        ("kept.record", incident.record_in_memory),
    ]
    return [(words.say(name), path) for name, path in places if path]


def not_copied(words: Words, incident: incident_model.Incident) -> str:
    """Return the reason why the files of a suspect database were not copied to the evidence folder, or ""."""
    if incident.database_copied or not incident.database_not_copied:
        return ""
    told = incident.messages.get("database_not_copied")
    later = data_verdict.copied_later(incident.outcome, told)
    key = "kept.not_copied_yet" if later else "kept.not_copied"
    return words.say(key, reason=words.message(told, incident.database_not_copied))
