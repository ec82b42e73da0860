# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary on the screen after a check that found the service healthy, but an incident still open."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose,
    prose_causes,
    prose_notifications,
    prose_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import Field, aligned
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def lines(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the lines for a run in check mode that would only close the incident, or an empty list for any other run.

    Such a run has no verdict. A run without --check closes the incident if it also finds the service healthy.
    """
    last = [each for each in incident.steps if incident.runs and each.run == incident.runs[-1].run]
    looks = [each.data for each in last if prose_steps.probed(each)]
    records = [each.data for each in last if prose_steps.recorded(each) and each.data.get("id")]
    failed = any(each.weight == incident_model.FAILURE for each in last)
    if incident.source != "events" or failed or not looks or not looks[-1].get("healthy") or not records:
        return []
    # The first record is the one that this run has read. Later records contain what the run would change.
    return _lines(words, incident, records[0])


def _lines(words: Words, incident: incident_model.Incident, record: Dict[str, Any]) -> List[str]:
    by_login = record.get("outcome") == "login_failed"
    outcome = words.say("outcome.in_check_mode", outcome=words.say("screen.unclosed"))
    cause = incident.cause or record.get("cause")
    fields: List[Field] = [
        ("next", words.sentence(words.say("screen.would_close_login" if by_login else "screen.would_close"))),
        ("cause", prose_causes.cause(words, incident) if incident.cause else words.name("cause", cause)),
        ("login", words.say("screen.login_unchecked") if by_login else ""),
        ("would_tell", prose_notifications.would_close(words, incident)),
        ("recap", words.say("screen.counted")),
    ]
    subject = prose.subject(words, incident)
    head = words.say("screen.head", outcome=outcome, subject=subject, incident=incident.incident)
    return [head, *aligned(words, fields)]
