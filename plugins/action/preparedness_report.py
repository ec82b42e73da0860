# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import postmortem_options
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import (
    document,
    notified,
    screen,
    seen,
)

_NAME = "readiness"
_WRITERS = {"html": document.as_html, "md": document.as_markdown, "json": document.as_json}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads and writes files on the controller only. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Evaluate all hosts, and write the report or record the notifications."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "default": "written", "choices": ["written", "notified"]},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "seen": {"type": "list", "elements": "dict", "required": True},
                "at": {"type": "str", "default": ""},
                "dir": {"type": "path"},
                "language": {"type": "str", "default": "", "choices": ["", *catalogue.LANGUAGES]},
                "timezone": {"type": "str", "default": ""},
                "notice_language": {"type": "str", "default": "en", "choices": list(catalogue.LANGUAGES)},
                "notifications": {"type": "dict", "default": {}},
            }
        )
        at = options["at"] or timestamps.now()
        try:
            now = timestamps.epoch(at)
        except ValueError:
            raise AnsibleActionFail(f"at is {at!r}: must be a time such as 2026-03-02T01:02:03.456Z") from None
        try:
            hosts = _hosts(options, now=now)
        except ValueError as error:
            raise AnsibleActionFail(str(error)) from error
        folder = options["dir"] or postmortem_options.get("dir")
        words = catalogue.of(
            options["language"] or postmortem_options.get("language"),
            options["timezone"] or postmortem_options.get("timezone"),
        )
        if options["state"] == "written":
            result.update(self._written(words, hosts, folder=folder, at=at))
            known = notified.read(folder)
            notice = catalogue.of(options["notice_language"])
            result["hosts"] = {host.host: _planned(notice, host, known, now=now) for host in hosts}
            result["ready"] = all(host.ready for host in hosts)
            result["report"] = document.as_data(words, hosts, at=at)
        else:
            result.update(self._notified(words, hosts, options, folder=folder, now=now))
        return result

    def _written(self, words: catalogue.Words, hosts: List[document.Host], *, folder: str, at: str) -> Dict[str, Any]:
        """Write the documents. If writing fails, the check still succeeds, because the verdict remains valid."""
        paths = {kind: os.path.join(folder, f"{_NAME}.{kind}") for kind in _WRITERS}
        outcome: Dict[str, Any] = {"changed": not self._task.check_mode, "at": at, "documents": {}, "error": ""}
        if self._task.check_mode:
            return outcome
        try:
            atomic_files.private_folder(folder)
            for kind, write in _WRITERS.items():
                text = write(words, hosts, at=at)
                atomic_files.write_atomically(paths[kind], text.encode("utf-8", "replace"))
        except OSError as error:
            return {**outcome, "changed": False, "error": f"{error.filename}: {error.strerror}"}
        return {**outcome, "documents": paths}

    def _notified(
        self,
        words: catalogue.Words,
        hosts: List[document.Host],
        options: Mapping[str, Any],
        *,
        folder: str,
        now: float,
    ) -> Dict[str, Any]:
        """Record the notifications that a channel accepted, and return the lines for the screen."""
        known = notified.read(folder)
        sent: Dict[str, List[Mapping[str, Any]]] = {
            name: [each for each in told if isinstance(each, Mapping)]
            for name, told in options["notifications"].items()
            if isinstance(told, (list, tuple))
        }
        names = {str(each.get("host")): seen.names(each) for each in options["seen"]}
        told = {host.host: host.blocking for host in hosts if any(each.get("ok") for each in sent.get(host.host, []))}
        ready = [host.host for host in hosts if host.ready]
        error = ""
        if not self._task.check_mode and (told or set(ready) & set(known)):
            try:
                notified.write(folder, told, ready=ready, now=now)
            except OSError as problem:
                error = f"{problem.filename}: {problem.strerror}"
        path = os.path.join(folder, f"{_NAME}.html")
        written = os.path.exists(path) and not self._task.check_mode
        lines = {}
        for host in hosts:
            last = screen.notifications(words, sent.get(host.host, []), names=names.get(host.host, {}))
            before = None if host.ready or last else notified.before(known, host.host, host.blocking, now=now)
            if before:
                last = [words.say("ready.screen.notified_before", at=words.short(before))]
            if written:
                last.append(words.say("ready.screen.report", path=path))
            lines[host.host] = screen.lines(words, host, last=last)
        return {"changed": bool(told), "screen": lines, "error": error}


def _hosts(options: Mapping[str, Any], *, now: float) -> List[document.Host]:
    known = {str(each.get("host")): each for each in options["seen"]}
    return [seen.host(name, known.get(name, {}), now=now) for name in options["hosts"]]


def _planned(
    words: catalogue.Words, host: document.Host, known: Mapping[str, Mapping[str, Any]], *, now: float
) -> Dict[str, Any]:
    """Return the verdict for a host, and the lines of the notification."""
    lines = [each for each in document.lines(words, host) if each.blocks]
    return {
        "ready": host.ready,
        "not_ready": host.blocking,
        "notify": not host.ready and notified.before(known, host.host, host.blocking, now=now) is None,
        "notice": [
            text
            for each in lines
            for text in (
                words.say("label", name=each.name, text=each.told),
                each.remedy and words.say("ready.screen.do", remedy=each.remedy),
            )
            if text
        ],
    }
