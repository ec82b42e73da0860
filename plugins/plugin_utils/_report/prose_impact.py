# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about how an outage was detected, and about the users and requests that it affected."""

from __future__ import annotations

import dataclasses
from typing import List

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import restarts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_results, prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare, message_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def detection(words: Words, incident: incident_model.Incident) -> str:
    """Return how the outage was detected."""
    probe = incident.probe
    if not probe:
        return words.say("detection.no_probe")
    if probe.get("severity") == "unreachable":
        return words.say(
            "detection.unreached",
            why=words.message(incident.messages.get("cause_summary"), incident.cause_summary) or words.say("unknown"),
        )
    parts = []
    if (probe.get("process") or {}).get("state") == "gone":
        parts.append(words.say("detection.gone"))
    failures = probe.get("max_consecutive_failures") or probe.get("consecutive_failures")
    if failures and failures > 1:
        parts.append(words.say("detection.failures", number=words.number(failures)))
    failing = [each for each in probe.get("endpoints") or [] if each.get("ok") is False]
    if failing:
        parts.append(words.listed([prose_results.endpoint(words, each) for each in failing]))
    if not parts:
        severity = words.name("severity", probe.get("severity") or "unknown")
        told = words.say("detection.severity", severity=severity)
        problem = bare(words.message(message_of(probe, "summary"), probe.get("summary")))
        parts = [words.say("label", name=told, text=problem) if problem else told]
    return words.say("detection.probe", found=words.joined(parts))


def detected(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return how the outage was detected and, if it was given, the reason for starting the playbook."""
    why = [words.say("label", name=words.say("doc.reason"), text=bare(incident.reason))] if incident.reason else []
    told = restarted(words, incident)
    return [words.sentence(each) for each in (detection(words, incident), *([told] if told else []), *why)]


def restarted(words: Words, incident: incident_model.Incident) -> str:
    """Return a sentence about the restarts by systemd before the first run, or an empty string if there were none."""
    probes = (step.data for step in incident.steps if prose_steps.probed(step))
    return next(filter(None, (restarts.text(words, probe.get("ends")) for probe in probes)), "")


def _unmeasured(incident: incident_model.Incident) -> bool:
    """Return True if no run reached the step that measures the impact."""
    return incident.source == "events" and not any(value for value in dataclasses.astuple(incident.impact))


def users(words: Words, incident: incident_model.Incident) -> str:
    """Return the number of affected users, or the reason why it is unknown."""
    impact = incident.impact
    if _unmeasured(incident):
        return words.say("unmeasured")
    if impact.users is not None:
        return words.say("users", users=words.count("users.count", impact.users))
    return _unknown(words, impact, "users_unknown")


def requests(words: Words, incident: incident_model.Incident) -> str:
    """Return the number of failed requests, or the reason why it is unknown."""
    impact = incident.impact
    if _unmeasured(incident):
        return words.say("unmeasured")
    if impact.requests == 0:
        return words.say("requests.nothing", log=impact.requests_from)
    if impact.requests is not None and impact.requests_failed is not None:
        return words.say(
            "requests" if impact.requests_failed else "requests.none",
            failed=words.number(impact.requests_failed),
            requests=words.count("requests.count", impact.requests),
            log=impact.requests_from,
        )
    return _unknown(words, impact, "requests_unknown")


def _unknown(words: Words, impact: incident_model.Impact, name: str) -> str:
    """Return a sentence stating that a number is unknown, with the reason if it is known."""
    why = words.message(impact.messages.get(name), getattr(impact, name))
    return words.say("unknown_why", why=why) if why else words.say("unknown")
