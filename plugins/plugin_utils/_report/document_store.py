# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem folder on the controller.

Files: timelines (<run>.jsonl), documents (<incident>.md, .json and .html), and index.html. The managed hosts choose the
incident IDs. No file is written outside the folder, even if an ID is invalid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_INDEX = "index"

# Maximum number of postmortems in the index, which lists the latest ones.
_LISTED = 200

# Maximum difference in seconds between the clocks of the controller and the host. If the difference is larger, earlier
# runs are not found.
_CLOCK_SKEW = 86400.0


def _renderer(name: str) -> Any:
    """Import and return a module that renders documents. A run on a healthy service does not need this module."""
    return import_module(f"ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.{name}")


@dataclasses.dataclass(frozen=True)
class Document:
    """A postmortem file: its path and its content."""

    path: str
    text: str

    def before(self) -> Optional[str]:
        """Return the current content of the file, or None if it does not exist. Raises OSError."""
        try:
            with open(self.path, "rb") as stream:
                return stream.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def write(self) -> None:
        """Write the file so that only its owner can read it. Raises OSError."""
        atomic_files.write_atomically(self.path, self.text.encode("utf-8", "replace"))


def safe_name(identity: str) -> str:
    """Return `identity` if it is the ID of an incident, otherwise a unique name that is derived from it.

    A host chooses the ID. The names of all other files in the folder, such as the readiness report, do not begin with
    INC-.
    """
    if re.fullmatch(r"INC-[A-Za-z0-9._-]{1,116}", identity):
        return identity
    return _derived(identity)


def _derived(identity: str) -> str:
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', identity)[:100].strip('_-') or 'incident'}-{digest}"


def _host_in(path: str) -> str:
    """Return the host that an existing document (JSON) describes, or an empty string."""
    with contextlib.suppress(OSError, ValueError, AttributeError), open(path, encoding="utf-8") as stream:
        return str(json.load(stream).get("host") or "")
    return ""


def documents(folder: str, words: Words, incident: incident_model.Incident) -> List[Document]:
    """Return the documents for an incident: Markdown, JSON, HTML."""
    base = os.path.join(folder, safe_name(incident.incident))
    # A host could report the ID of another host's incident.
    if _host_in(f"{base}.json") not in ("", incident.host):
        base = os.path.join(folder, _derived(f"{incident.incident} {incident.host}"))
    return [
        Document(path=f"{base}.md", text=_renderer("markdown").markdown(words, incident)),
        Document(path=f"{base}.json", text=incident_model.to_json(incident)),
        Document(path=f"{base}.html", text=_renderer("html").page(words, incident)),
    ]


def write(made: Sequence[Document]) -> None:
    """Write all documents in parallel, which takes hardly longer than writing one document. Raises OSError."""
    try:
        with ThreadPoolExecutor() as pool:
            for _written in pool.map(Document.write, made):
                pass
    # If the system cannot start another thread, write the documents one at a time.
    except RuntimeError:
        for document in made:
            document.write()


def tells_all(made: Iterable[Document], before: Mapping[str, Optional[str]], incident: incident_model.Incident) -> bool:
    """Return True if the existing documents include every run that worked on an incident.

    before: the content of the documents, by path.
    """
    if None in before.values():
        return False
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
        text = next(before[document.path] for document in made if document.path.endswith(".json"))
        told = {(run["run"], run["last_event_at"]) for run in json.loads(text or "")["runs"]}
        return told >= {(run.run, run.last_event_at) for run in incident.runs}
    return False


def index(folder: str, words: Words) -> Document:
    """Return the page that lists the postmortems in a folder, latest first. Raises OSError."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json") and os.path.exists(f"{entry.path[:-5]}.html"):
                found.append((entry.stat().st_mtime, entry.path))
    html, listed = _renderer("html"), []
    for _changed, path in sorted(found, reverse=True)[:_LISTED]:
        # Skip files that are not postmortems from this collection, or that cannot be read as documents.
        with contextlib.suppress(ValueError), open(path, encoding="utf-8") as stream:
            told = json.load(stream)
            if isinstance(told, dict) and told.get("incident"):
                listed.append(html.Entry(told, os.path.basename(path)[:-5] + ".html"))
    return Document(path=os.path.join(folder, f"{_INDEX}.html"), text=html.index(words, listed))


def read(
    folder: str, *, incidents: Optional[Iterable[str]] = None, since: Optional[str] = None, besides: str = ""
) -> List[timeline_events.Event]:
    """Return the events from the timelines in a folder.

    If incidents are given, only timelines that mention one of them are included. since: a time. Timelines that were
    last written a day or more before this time are not read. besides: another run whose timeline is not read. Raises
    OSError.
    """
    wanted = None if incidents is None else [identity.encode() for identity in incidents]
    oldest = _oldest(since)
    events: List[timeline_events.Event] = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        run, ending = os.path.splitext(name)
        if ending != timeline_events.SUFFIX or run == besides or os.stat(path).st_mtime < oldest:
            continue
        with open(path, "rb") as stream:
            data = stream.read()
        if wanted is None or any(identity in data for identity in wanted):
            events += timeline_events.decode(data)
    return events


def _oldest(since: Optional[str]) -> float:
    try:
        return timestamps.epoch(since) - _CLOCK_SKEW if since else 0.0
    except ValueError:
        return 0.0
