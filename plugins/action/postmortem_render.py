# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import postmortem_options
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document_store, prose
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads and writes files on the controller only. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Render the documents and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "dir": {"type": "path"},
                "incident": {"type": "str", "default": ""},
                "host": {"type": "str", "default": ""},
                "language": {"type": "str", "default": "", "choices": ["", *catalogue.LANGUAGES]},
                "timezone": {"type": "str", "default": ""},
            }
        )
        path = options["dir"] or postmortem_options.get("dir")
        try:
            rendered, diff = _render(path, options, dry=self._task.check_mode)
        except OSError as error:
            raise AnsibleActionFail(f"Cannot render the postmortems in {path}: {error}") from error
        if options["incident"] and not options["host"] and not rendered:
            raise AnsibleActionFail(f"No timeline in {path} contains the incident {options['incident']!r}")
        result.update(dir=path, changed=any(each["changed"] for each in rendered), documents=rendered)
        # Ansible adds a returned diff to the output and to the result of a job, even if no diff was requested.
        return {**result, "diff": diff} if self._task.diff else result


def _words(told: incident_model.Incident, options: Mapping[str, str]) -> catalogue.Words:
    """Return the message catalogue for the language.

    The language is taken from the task, the incident or the configuration, in this order of priority.
    """
    language = options["language"] or told.language or postmortem_options.get("language")
    return catalogue.of(language, options["timezone"] or told.timezone or postmortem_options.get("timezone"))


def _render(path: str, options: Mapping[str, str], *, dry: bool) -> Tuple[List[Dict[str, Any]], List[Dict[str, str]]]:
    """Return the rendered documents and their diff. If dry is false, also write the documents. Raises OSError."""
    rendered: List[Dict[str, Any]] = []
    diff: List[Dict[str, str]] = []
    incident = options["incident"]
    events = document_store.read(path, incidents=[incident] if incident else None) if os.path.isdir(path) else []
    for told in timeline_incidents.from_events(events):
        documents = document_store.documents(path, _words(told, options), told)
        before = {each.path: each.before() for each in documents}
        if options["host"] not in ("", told.host):
            continue
        if told.incident != incident if incident else document_store.tells_all(documents, before, told):
            continue
        stale = [each for each in documents if before[each.path] != each.text]
        diff += [_difference(document, before[document.path]) for document in stale]
        if not dry:
            document_store.write(stale)
        paths = {os.path.splitext(each.path)[1]: each.path for each in documents}
        rendered.append(
            {
                "incident": told.incident,
                "host": told.host,
                "outcome": told.outcome,
                "title": _title(_words(told, options), told),
                "opened_at": told.times.detected_at or told.runs[0].started_at,
                "markdown": paths[".md"],
                "json": paths[".json"],
                "html": paths[".html"],
                "changed": bool(stale),
            }
        )
        spoken = _words(told, options)
    if rendered and not dry:
        document_store.index(path, spoken).write()
    return rendered, diff


def _title(spoken: catalogue.Words, told: incident_model.Incident) -> str:
    return spoken.say("doc.title", subject=prose.subject(spoken, told), incident=told.incident)


def _difference(document: document_store.Document, before: Optional[str]) -> Dict[str, str]:
    return {
        "before_header": document.path,
        "before": before or "",
        "after_header": document.path,
        "after": document.text,
    }
