# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the errors in the log file and the journal, and the reason why the service exited."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.log import Journal, Log
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.process import Process

_MODULE = lazy(r"Cannot find (?:module|package) '([^']+)'(?:[^\n]*\nRequire stack:\n\s*- (\S+))?")
_NATIVE = lazy(r"ERR_DLOPEN_FAILED|invalid ELF header|NODE_MODULE_VERSION|Could not locate the bindings file")
_PACKAGE = lazy(r"node_modules/((?:@[^/\s]+/)?[^/\s]+)/")
_NATIVE_PACKAGE = lazy(_PACKAGE.pattern + r"[^\s']*\.node\b")
_FRAME = lazy(r"(?:\S+ \S+: )?\s+at .")
_OF_MANAGER = lazy(r"^\S+ systemd(?:\[\d+\])?: ")
_LAST_WORD = lazy(
    r"\b(?:error|fatal|critical|panic|emerg|cannot|could not|failed|failure|refusing)\b|(?:Error|Exception)\b"
    r'|"level":[56]0',
    re.IGNORECASE,
)


class Errors(NamedTuple):
    """The errors in the log and the journal. Some of these errors are considered only if the process has exited."""

    log: Log
    journal: Journal
    process: Process

    @property
    def _sources(self) -> Tuple[Log, Log]:
        return self.log, self.journal

    def signature(self, name: str, *, since: str = "", certainly_since: str = "") -> List[Dict[str, str]]:
        """Return the evidence for a known error pattern in the log and the journal (see Log.signature)."""
        times = {"since": since, "certainly_since": certainly_since}
        return self.log.signature(name, **times) + self.journal.signature(name, **times)

    def exceptions(self) -> List[Tuple[str, Mapping[str, Any]]]:
        """Return (source, exception) for fatal exceptions.

        If the process exited, the exceptions at the end of its log are included.
        """
        ended = self.process.gone or self.process.restarted
        return [
            (source.source, item)
            for source in self._sources
            for item in source.exceptions
            if item["fatal"] or (item["last"] and ended)
        ]

    def last_word(self) -> Optional[Tuple[str, str]]:
        """Return (source, line) if the log or the journal ends with an error that was logged after the last start.

        Otherwise, return None.
        """
        since, started = self.process.window.since, self.process.unit.started_at
        for source in self._sources:
            # Skip the stack trace lines, because the error message is above them.
            lines = [
                text for text in source.lines if text.strip() and not _OF_MANAGER.match(text) and not _FRAME.match(text)
            ]
            if not lines or (source is self.log and source.written_at < since):
                continue
            at = log_patterns.instant(lines[-1])
            if _LAST_WORD.search(lines[-1]) and (at is None or timestamps.iso(at) >= max(started, since)):
                return source.source, lines[-1].strip()
        return None

    def text(self) -> str:
        """Return all text about the reason why the service exited, so that a rule can search the text for a word."""
        word = self.last_word()
        return "\n".join([*(item["message"] for _source, item in self.exceptions()), *(word[1:] if word else ())])

    def modules_missed(self) -> Tuple[Set[str], bool]:
        """Return the packages that Node cannot find or load, and whether a package is missing.

        The second value is False if only the application's own files are missing.
        """
        packages: Set[str] = set()
        native = own_file = False
        for source in self._sources:
            hit = (source.signatures or {}).get("module_missing")
            if not hit:
                continue
            lines = list(source.lines)
            # Lines above the first match may be from an earlier start.
            first = next((number for number, line in enumerate(lines) if hit["text"] in line), len(lines))
            text = "\n".join([*lines[first:], hit["text"]])
            native = native or bool(_NATIVE.search(text))
            packages.update(_NATIVE_PACKAGE.findall(text) if native else ())
            for name, asked_by in _MODULE.findall(text):
                of_package = _PACKAGE.search(asked_by if name.startswith(".") else name)
                if of_package:
                    packages.add(of_package.group(1))
                elif name.startswith((".", "/")):
                    own_file = True
                else:
                    packages.add("/".join(name.split("/")[: 2 if name.startswith("@") else 1]))
        return packages, native or bool(packages) or not own_file
