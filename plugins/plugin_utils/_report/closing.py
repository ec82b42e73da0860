# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conclude a run: write its incident documents and the index, and show the summary on the screen."""

from __future__ import annotations

import os
from typing import Iterator, List, Optional, Protocol, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    document_store,
    screen_hosts,
    screen_layout,
    screen_open_incident,
    screen_release,
    screen_without_incident,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import wording as run_wording
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


class Screen(Protocol):
    """Shows the summary."""

    def title(self, text: str) -> None:
        """Show a heading."""

    def say(self, line: str, tone: Optional[str] = None) -> None:
        """Show a line. tone: screen_layout's GOOD, ATTENTION or BAD, or None for a plain line."""

    def warn(self, text: str) -> None:
        """Show a warning."""


class Closing:
    """Writes the documents of one run and shows its summary."""

    def __init__(
        self,
        run: str,
        *,
        folder: str,
        check: bool,
        wording: run_wording.Wording,
        screen: Screen,
        inventories: Sequence[str] = (),
    ) -> None:
        """Set the run and the destinations for its output.

        folder: the folder for timelines and documents. check: True in check mode, in which nothing is written.
        inventories: the run's inventories, which the commands on the screen contain.
        """
        self._run = run
        self._folder = folder
        self._check = check
        self._wording = wording
        self._screen = screen
        self._inventories = inventories

    def conclude(self, events: List[timeline_events.Event]) -> None:
        """Write the documents, then show the summary. events: all events of the run. Raises OSError.

        If the documents of one incident cannot be written, the error is raised only after all other documents are
        written.
        """
        shown = False
        failed: Optional[Exception] = None
        for incident in self._incidents(events):
            mine = [event for event in events if event.get("host") == incident.host]
            try:
                self._show(incident, self._write(incident), events=mine, first=not shown)
            except Exception as error:  # An error on one host must not hide the outcomes of the other hosts.
                failed = failed or error
            shown = True
        if shown and not self._check:
            self._write_index()
        summaries = [event["data"] for event in events if event["kind"] == "summary"]
        together = summaries[-1] if summaries and sum(map(len, summaries[-1].values())) > 1 else {}
        for host, of_host in timeline_events.without_incident(events).items():
            if any(event["kind"] == "outcome" for event in of_host):
                self._show(timeline_incidents.model("", host, [of_host]), None, events=of_host, first=not shown)
                shown = True
                continue
            if screen_without_incident.already_reported(events, host):
                continue
            tone, lines = screen_without_incident.without_incident(
                self._wording.of_run(), host, of_host, check_mode=self._check, target=self._target(host)
            )
            # If there are several hosts, healthy hosts are only counted.
            if together and tone == screen_layout.GOOD and host in together.get("healthy", []):
                continue
            self._say(lines, tone)
        if together:
            tone, lines = screen_hosts.hosts(self._wording.of_run(), together, check_mode=self._check)
            self._say(lines, tone)
        if failed is not None:
            raise failed

    def _incidents(self, events: List[timeline_events.Event]) -> Iterator[incident_model.Incident]:
        """Yield this run's incidents, with the events of earlier runs that worked on the same incidents."""
        mine = timeline_events.opened(events)
        if not mine:
            return
        records = [event["data"] for event in events if timeline_events.opens(event)]
        opened_at = [record["opened_at"] for record in records if record.get("opened_at")]
        earlier: List[timeline_events.Event] = []
        # If a run in check mode has no verdict and found the service healthy, the findings of earlier runs are shown.
        # For any other run in check mode, only the plan of this run is shown.
        wanted = [each for host, each in mine.items() if not self._check or not _decided(events, host)]
        if wanted and os.path.isdir(self._folder):
            earlier = document_store.read(
                self._folder,
                incidents=wanted,
                since=min(opened_at) if opened_at else None,
                besides=self._run,
            )
        for incident in timeline_incidents.each_from_events([*earlier, *events]):
            if mine.get(incident.host) == incident.incident:
                yield incident

    def _write(self, incident: incident_model.Incident) -> Optional[str]:
        """Write the documents for an incident. Return the path of the first document, or None if there is none."""
        if self._check:
            return None
        words = self._wording.of(incident.language, incident.timezone)
        documents = document_store.documents(self._folder, words, incident)
        try:
            document_store.write(documents)
        except OSError as error:
            self._screen.warn(f"Cannot write the postmortem to {self._folder}: {error}")
            return None
        return documents[0].path

    def _write_index(self) -> None:
        try:
            document_store.index(self._folder, self._wording.of_run()).write()
        except OSError as error:
            self._screen.warn(f"Cannot write the index of the postmortems: {error}")

    def _show(
        self,
        incident: incident_model.Incident,
        document: Optional[str],
        *,
        events: List[timeline_events.Event],
        first: bool,
    ) -> None:
        words = self._wording.of(incident.language, incident.timezone)
        if first:
            self._screen.title(words.say("screen.title"))
        target = self._target(incident.host)
        release = screen_release.lines(
            words, incident, events, document=document, check_mode=self._check, target=target
        )
        if release:
            self._say(release[:1], screen_layout.ATTENTION)
            self._say(release[1:])
            return
        unclosed = screen_open_incident.lines(words, incident) if self._check else []
        if unclosed:
            self._say(unclosed[:1], screen_layout.ATTENTION)
            self._say(unclosed[1:])
            return
        places = [event["data"] for event in events if event["kind"] == "published"]
        head, *fields = screen_report.summary(
            words,
            incident,
            document=document,
            places=places[-1] if places else {},
            check_mode=self._check,
            target=target,
        )
        self._say([head], screen_report.tone(incident))
        self._say(fields)

    def _target(self, host: str) -> str:
        """Return the options of ansible-playbook for a command on the screen."""
        return next_steps.target(host, self._inventories)

    def _say(self, lines: List[str], tone: Optional[str] = None) -> None:
        for line in lines:
            self._screen.say(screen_layout.one_line(line), tone)


def _decided(events: Sequence[timeline_events.Event], host: str) -> bool:
    """Return True if a run has a verdict on the host, or if the host was not healthy at its last probe."""
    mine = [event for event in events if event.get("host") == host]
    looks = list(timeline_events.results(mine, "health_probe"))
    healthy = bool(looks) and bool(looks[-1].get("healthy"))
    return any(event["kind"] == "outcome" for event in mine) or not healthy
