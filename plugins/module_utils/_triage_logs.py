# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage of the logs: what the service wrote into its file, what it and systemd wrote into the journal."""

from __future__ import annotations

import os
import re
from typing import Any, Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock, _logtext
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage_question import Question, file, found, why

_LOG_BYTES = 512 * 1024
_JOURNAL_LINES = 2000
# A line of the journal may have 48 KiB. What is cut here is cut again after secrets were taken out.
_LONGEST_READ, _LONGEST_LINE = 4000, 2000

_JOURNAL = re.compile(r"^(\d+\.\d+) \S+ ([^\s\[:]+)(?:\[\d+\])?: ?(.*)$")


def log(question: Question) -> Dict[str, Any]:
    """Read the end of the log file."""
    path = question.service.log_file
    try:
        status = os.stat(path)
        text, truncated = _logtext.tail(path, limit=_LOG_BYTES)
    except OSError as error:
        return found({"path": path, "error": error.strerror})
    # Before anything is cut: half a secret is still one, and nothing would know it any more.
    text = question.redactor.text(text)
    lines = _logtext.dated(text.splitlines())
    facts = {
        "path": path,
        "size": status.st_size,
        "written_at": _clock.iso(status.st_mtime),
        "lines": [line.text for line in lines[-question.log_lines :]],
        **_logtext.analyse(lines, since=question.since, written_at=status.st_mtime),
    }
    evidence = [file(os.path.basename(path), path, text, truncated=truncated)] if question.keep else []
    return found(facts, evidence=evidence)


def journal(question: Question) -> Dict[str, Any]:
    """Read the unit's journal."""
    service = question.service
    argv = ["journalctl", "-q", "--no-pager", "-o", "short-unix", "-n", str(_JOURNAL_LINES), "-u", service.unit]
    argv += ["--since", f"@{question.since:.0f}"]
    done = question.command(argv)
    if not done.ok:
        return found({"error": why(done)})
    lines, managed = [], []
    shown = []
    text = "\n".join(line[:_LONGEST_READ] for line in done.stdout.splitlines())
    for line in question.redactor.text(text).splitlines():
        match = _JOURNAL.match(line)
        if not match:
            continue
        at, who, message = float(match.group(1)), match.group(2), match.group(3)
        shown.append(f"{_clock.iso(at)} {who}: {message}"[:_LONGEST_LINE])
        if who == "systemd":
            managed.append({"at": _clock.iso(at), "text": message})
        else:
            lines.append(_logtext.Line(text=message[:_LONGEST_LINE], at=at, dated=True))
    facts = {
        "lines": shown[-question.log_lines :],
        "exits": [item for item in managed if "Main process exited" in item["text"]][-20:],
        "stops": [item for item in managed if re.match(r"(Stopping|Stopped) ", item["text"])][-20:],
        "results": [item for item in managed if "Failed with result" in item["text"]][-20:],
        "start_limit": [item for item in managed if "Start request repeated too quickly" in item["text"]][-1:],
        **_logtext.analyse(lines, since=question.since),
    }
    kept = [file("journal.txt", " ".join(argv), "\n".join(shown) + "\n", truncated=len(shown) >= _JOURNAL_LINES)]
    return found(facts, evidence=kept if question.keep else ())
