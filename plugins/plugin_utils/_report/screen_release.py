# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The on-screen summary of a run that only releases a hold."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose, screen_next_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare, text_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import Field, aligned
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import runs as timeline_runs


def lines(
    words: Words,
    incident: incident_model.Incident,
    events: Sequence[timeline_events.Event],
    *,
    document: Optional[str],
    check_mode: bool,
    target: str = "",
) -> List[str]:
    """Return the lines for a run that released a hold, or an empty list for any other run.

    Such a run makes no decision about the outage, so its summary must not show the outcome of an earlier run. events:
    the events of this run on the incident's host. document: the path of the postmortem, or None.
    target: see next_steps.target.
    """
    if not timeline_runs.is_release(events):
        return []
    known = {"subject": prose.subject(words, incident), "incident": incident.incident}
    if check_mode:
        told: List[Field] = [
            ("next", [*_compare(words, events, target), words.say("screen.release_it")]),
            ("accepts", _accepted(words, events)),
            ("recap", words.say("screen.counted")),
        ]
        return [words.say("screen.would_release", **known), *aligned(words, told)]
    fields: List[Field] = [
        ("next", screen_next_steps.start(words, target)),
        ("accepts", _accepted(words, events)),
        ("postmortem", document or ""),
    ]
    return [words.say("screen.released", **known), *aligned(words, fields)]


def _looks(events: Sequence[timeline_events.Event]) -> List[Mapping[str, Any]]:
    """Return the results of the database checks in this run."""
    return [each for each in timeline_events.results(events, "sqlite_info") if "problems" in each]


def _compare(words: Words, events: Sequence[timeline_events.Event], target: str) -> List[str]:
    """Return the command that shows how many rows each method would lose, or no lines if no damage was found."""
    looks = _looks(events)
    return screen_next_steps.compare(words, target) if looks and looks[-1]["problems"] else []


def _accepted(words: Words, events: Sequence[timeline_events.Event]) -> List[str]:
    """Return the database damage that a person accepted with this release, one line for each problem."""
    looks = _looks(events)
    if not looks:
        return [words.say("screen.accepts_unknown")]
    problems = [bare(text_of(words, each, "message")) for each in looks[-1]["problems"] or ()]
    return problems or [words.say("screen.accepts_nothing")]
