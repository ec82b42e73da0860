# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the causes of an outage."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import message_of, summed_up
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_LIKELY = 0.5
# If the confidence in a finding is below this value, the screen does not show the finding.
_NOTEWORTHY = 0.4
# A recovery starts the service and thereby solves these problems.
_ENDED_BY_A_START = ("stopped", "killed", "crash_loop", "wal_pending")


def cause(words: Words, incident: incident_model.Incident) -> str:
    """Return the cause and its summary on one line."""
    if not incident.cause:
        return words.say("cause_unknown")
    summary = summed_up(words, incident.cause, incident.cause_summary, incident.messages.get("cause_summary"))
    name = words.name("cause", incident.cause)
    return words.say("label", name=name, text=summary) if summary else name


def others(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return each problem that was found in addition to the cause. Omit problems that another finding explains.

    Such a problem did not cause the outage, but it can prevent the recovery.
    """
    return [
        words.say(
            "label",
            name=words.name("cause", str(each["cause"])),
            text=summed_up(words, str(each["cause"]), each.get("summary"), message_of(each, "summary")),
        )
        for each in _others(incident)
    ]


def _others(incident: incident_model.Incident) -> List[Mapping[str, Any]]:
    return [
        each
        for each in incident.findings
        if each.get("cause") != incident.cause
        and not each.get("explained_by")
        and float(each.get("confidence") or 0) >= _NOTEWORTHY
    ]


def may_prevent_a_recovery(incident: incident_model.Incident, *, of_database: bool) -> bool:
    """Return True if a problem in addition to the cause may prevent the recovery. See others().

    of_database: True for database_recover.yml, which checks the database itself and replaces a damaged one.
    """
    ended = (*_ENDED_BY_A_START, "db_corrupt") if of_database else _ENDED_BY_A_START
    return any(each.get("cause") not in ended for each in _others(incident))


def original(words: Words, finding: Mapping[str, Any]) -> str:
    """Return the English summary if the translation is only general text (see summed_up), or an empty string."""
    told_less = not words.message(message_of(finding, "summary")) and words.knows("summary", finding.get("cause"))
    return words.quoted(finding.get("summary")) if told_less else ""


def named(words: Words, findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of the causes in the findings."""
    return words.listed([words.name("cause", str(each.get("cause") or "unknown")) for each in findings])


def likely(finding: Mapping[str, Any]) -> bool:
    """Return True if a finding is a root cause: its confidence is at least 50 %, and no other finding explains it."""
    return float(finding.get("confidence") or 0) >= _LIKELY and not finding.get("explained_by")


def sure(words: Words, finding: Mapping[str, Any]) -> str:
    """Return a finding's confidence, and the cause that explains the finding.

    For example: "confidence 90%, explained by disk_full". A low confidence does not mean that the finding itself is
    uncertain. It means that the finding is probably not the cause.
    """
    confidence, by = finding.get("confidence"), finding.get("explained_by")
    parts = []
    if confidence is not None:
        key = "sure" if confidence >= _LIKELY else "sure_unlikely"
        parts.append(words.say(key, percent=f"{confidence:.0%}"))
    parts += [words.say("explained_by", cause=words.name("cause", by))] if by else []
    return words.say("list.comma").join(parts)
