# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recorded timelines of real drills, and the documents generated from them. tests/record writes both."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

FOLDER = Path(__file__).parent / "unit" / "recorded"
SPOKEN = {"en": catalogue.of("en"), "ja": catalogue.of("ja", "Asia/Tokyo")}


def drills() -> List[str]:
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def incident(drill: str) -> incident_model.Incident:
    """Return the incident in a drill's recorded timeline. Each timeline has exactly one incident."""
    (told,) = timeline_incidents.from_events(timeline_events.decode((FOLDER / f"{drill}.jsonl").read_bytes()))
    return told


def documents(drill: str) -> Dict[str, str]:
    """Generate the documents of a drill from its recorded timeline. Return the documents' text by file name."""
    told = incident(drill)
    texts = {f"{drill}.{language}.md": markdown_report.markdown(spoken, told) for language, spoken in SPOKEN.items()}
    return {**texts, f"{drill}.json": incident_model.to_json(told)}


def page(drill: str, language: str) -> str:
    return html_report.page(SPOKEN[language], incident(drill))
