# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the changes since the service was last healthy."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import (
    collect,
    compare,
    entries,
    packages,
    rank,
    relations,
    store,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.compare import Change
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, Value, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import outage_signs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, found, program
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import says

# Listing the packages may take at most this share of the remaining time.
_PACKAGES = 0.5
# Maximum number of changes that are added to the evidence of a finding.
_EVIDENCE = 2
# Number of lines to search at the end of each log. The lines are searched for the names of changed objects.
_LINES = 40


def changes(question: Question) -> Dict[str, Any]:
    """Compare the host with the manifest of the last healthy run.

    The result contains the changes and, for with_schema(), the known schema. If there is no manifest, nothing is
    compared.
    """
    known = store.read(question.service.state_dir)
    if known is None:
        return found({"since": None, "changes": [], "schema": {}})
    seen = collect.collect(_place(question), known, schema=False)
    schema = entries.plain({key: entry for key, entry in known.entries.items() if entry.kind == "schema"})
    files = {key: entry for key, entry in known.entries.items() if entry.kind != "schema"}
    differences = compare.differences(known._replace(entries=files), seen, now=time.time())
    # collect() has switched this process to the service's user. This user can read the package manager's data, but only
    # root can replace it.
    named = packages.detailed(differences, run=question.run, timeout=question.left * _PACKAGES)
    waiting = {key: list(times) for key, times in known.waiting.items()}
    return found(
        {
            "since": timestamps.iso(known.at),
            "changes": [change.as_dict() for change in named],
            "schema": {"entries": schema, "waiting": waiting},
        }
    )


def _place(question: Question) -> collect.Place:
    service, known = question.service, question.known
    user = str(known.unit.get("user") or service.user)
    return collect.Place(
        app_dir=service.app_dir,
        command=service.command,
        unit=service.unit if service.manager == "systemd" else "",
        environment_file=service.environment_file,
        database=known.database_path,
        certificate=service.tls_cert_path,
        key=service.tls_key_path,
        node=program(question) or "",
        user=user,
        rights=safe_open.account_rights(user),
    )


def with_schema(
    facts: Mapping[str, Any], tables: Optional[Mapping[str, Any]], version: Optional[str]
) -> Dict[str, Any]:
    """Return the facts, completed with the schema changes and the version of Node.

    Other parts of the triage have already read the schema and the version. tables: names and schema as in
    knex_tables.Tables, or None if the database could not be read.
    """
    if not facts.get("since"):
        return {"since": None, "changes": [], **({"error": facts["error"]} if facts.get("error") else {})}
    listed = [Change(**change) for change in facts["changes"]]
    listed = [each._replace(after=version or "") if each.kind == "node" else each for each in listed]
    known = facts["schema"]
    if tables is not None and known["entries"]:
        before = entries.of_plain(known["entries"])
        now = collect.schema(knex_tables.Tables(names=tables["names"], schema=tables["schema"]))
        manifest = entries.Manifest(timestamps.epoch(facts["since"]), before, known["waiting"])
        listed += compare.differences(manifest, {now.key: now}, now=time.time())
    return {"since": facts["since"], "changes": [each.as_dict() for each in listed]}


def ranked(
    facts: Mapping[str, Any], findings: List[Dict[str, Any]], *, record: Optional[Mapping[str, Any]]
) -> Dict[str, Any]:
    """Return the changes in the order of their rank.

    If a change explains a finding, add the change to the finding's evidence.

    record: the record of the open incident, or None.
    """
    listed = facts.get("changes") or {}
    if not listed.get("since"):
        return {"since": None, "failed_at": None, "items": [], "omitted": 0, **_error(listed)}
    since = timestamps.epoch(listed["since"])
    signs: Sequence[Mapping[str, Any]] = [*((record or {}).get("signs") or ()), *outage_signs.signs(facts)]
    failed_at = rank.failure_time(signs, since=since, now=time.time())
    every = [Change(**change) for change in listed["changes"]]
    items = rank.ranked(every, rank.findings(findings, log=_log(facts)), failed_at=failed_at)
    for finding in findings:
        related = [each for each in items if each.cause == finding["cause"] and each.relation in relations.SUSPECTS]
        finding["evidence"] += [
            says(message("evidence.source.changes"), sentence(each)) for each in related[:_EVIDENCE]
        ]
    return {
        "since": listed["since"],
        "failed_at": timestamps.iso(failed_at),
        "items": [each.as_dict() for each in items],
        "omitted": len(every) - len(items),
    }


def _log(facts: Mapping[str, Any]) -> str:
    """Return the last lines of the log and of the journal."""
    lines: List[str] = []
    for part in ("log", "journal"):
        known = facts.get(part)
        lines += ((known if isinstance(known, Mapping) else {}).get("lines") or [])[-_LINES:]
    return "".join(f"\n{line}" for line in lines)


def _error(listed: Mapping[str, Any]) -> Dict[str, Any]:
    return {"error": listed["error"]} if listed.get("error") else {}


def sentence(each: rank.Ranked) -> Message:
    """Return a change as evidence."""
    change = each.change
    told: Dict[str, Value] = {
        "name": f"{change.inside}: {change.name}" if change.inside else change.name,
        "what": message(f"evidence.change.what.{change.what}"),
    }
    with_values = bool(change.before or change.after)
    if with_values:
        nothing = message("evidence.change.nothing")
        told.update(before=change.before or nothing, now=change.after or nothing)
    if each.before_failure is None:
        told.update(begin=timestamps.iso(change.earliest), end=timestamps.iso(change.latest))
        return message("evidence.change.values_between" if with_values else "evidence.change.between", **told)
    unit, number = timestamps.span(abs(each.before_failure))
    told.update(at=timestamps.iso(change.at or 0.0), number=number, unit=message(f"evidence.change.unit.{unit}"))
    return message("evidence.change.values_at" if with_values else "evidence.change.at", **told)
