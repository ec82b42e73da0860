# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import callback_loader

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import folder, timeline

_CALLBACK = "itsm_nexus.runbook.postmortem"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads and writes on the controller alone; the documentation is that of the module of the same name."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Render the documents and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={"dir": {"type": "path"}, "incident": {"type": "str", "default": ""}}
        )
        path = options["dir"] or _configured()
        try:
            rendered, diff = _render(path, options["incident"], dry=self._task.check_mode)
        except OSError as error:
            raise AnsibleActionFail(f"Cannot render the postmortems in {path}: {error}") from error
        if options["incident"] and not rendered:
            raise AnsibleActionFail(f"No timeline in {path} tells of the incident {options['incident']!r}")
        result.update(dir=path, changed=any(each["changed"] for each in rendered), documents=rendered, diff=diff)
        return result


def _configured() -> str:
    callback = callback_loader.get(_CALLBACK)
    callback.set_options()
    return str(callback.get_option("dir"))


def _render(path: str, incident: str, *, dry: bool) -> Tuple[List[Dict[str, Any]], List[Dict[str, str]]]:
    """Return what was rendered and what differs; write it unless C(dry). Raises OSError."""
    rendered: List[Dict[str, Any]] = []
    diff: List[Dict[str, str]] = []
    events = folder.read(path, incidents=[incident] if incident else None) if os.path.isdir(path) else []
    for told in timeline.incidents(events):
        documents = folder.documents(path, told)
        before = {each.path: each.before() for each in documents}
        if told.incident != incident if incident else None not in before.values():
            continue
        stale = [each for each in documents if before[each.path] != each.text]
        for document in stale:
            diff.append(
                {
                    "before_header": document.path,
                    "before": before[document.path] or "",
                    "after_header": document.path,
                    "after": document.text,
                }
            )
            if not dry:
                document.write()
        rendered.append(
            {
                "incident": told.incident,
                "host": told.host,
                "outcome": told.outcome,
                "markdown": documents[0].path,
                "json": documents[1].path,
                "changed": bool(stale),
            }
        )
    return rendered, diff
