# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts from the service's log file and from the journal (log lines from the service and from systemd)."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_files as service_logs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    Service,
    file,
    found,
    program,
    rights_of,
    why,
)

_LOG_BYTES = 512 * 1024
# Maximum number of files that match log_patterns. An application usually has one file for all lines and one for errors.
_MOST_LOGS = 4
# Maximum number of rotated files.
_MOST_ROTATED = 2
# Share of the time limit that may be spent on decompressing rotated files.
_UNPACKING = 0.5
_JOURNAL_LINES = 2000
# Maximum lengths of a journal line before and after redaction. Longer lines are truncated. A line can be 48 KiB long.
_LONGEST_READ, _LONGEST_LINE = 4000, 2000

_JOURNAL = re.compile(r"^(\d{1,10}\.\d{1,9}) \S+ ([^\s\[:]+)(?:\[\d+\])?: ?(.*)$")
# Maximum number of systemd log lines about the unit. systemd logs a few lines for each failure of a unit.
_MANAGER_LINES = 500
# Files that "node --check" can parse. The check does not run the code in the file.
_CHECKED = (".js", ".cjs", ".mjs")


class _Entry(NamedTuple):
    """A journal entry: seconds since the epoch, the claimed author, the redacted text and the original text."""

    at: float
    who: str
    text: str
    unmasked: str


def _parses(question: Question, path: str) -> Optional[bool]:
    """Return True if Node can parse a file now, or None if unknown. Node runs as the service's user."""
    node = program(question)
    if not node or not path.endswith(_CHECKED):
        return None
    service = question.service
    with contextlib.suppress(run_as.IdentityError, commands.CommandError):
        done = question.run_as(
            [node, "--check", path],
            timeout=question.left * 0.5,
            cwd=service.app_dir,
            env={"PATH": procfs.STANDARD_PATH, "LC_ALL": "C"},
            user=run_as.resolve(service.user or None, folder=service.app_dir).pw_name,
        )
        if not done.timed_out:
            return done.ok if done.ok or "SyntaxError" in done.stderr else None
    return None


def _look_again(question: Question, exceptions: List[Dict[str, Any]]) -> None:
    """Add two facts to each exception: when its file was last changed, and whether Node can parse the file now.

    The keys are changed_at and parses. If the file was changed after the error, the error may already be fixed. Only
    application files are checked, because other files may be on a disk that does not respond.
    """
    app_dir = os.path.normpath(question.service.app_dir)
    answers = question.known.app_dir_answers
    # Another release may have been activated since the error. The files of that release may be older than the error, so
    # use the change time of the link to the folder.
    service = question.service
    another = _changed_at(app_dir, service=service) if exceptions and answers else None
    known: Dict[str, Tuple[Optional[str], Optional[bool]]] = {}
    for item in exceptions:
        path = str((item["place"] or {}).get("file") or "")
        reached = answers and path.startswith((app_dir + "/", os.path.realpath(app_dir) + "/"))
        if reached and path not in known:
            compiled = item["compiling"] and "SyntaxError" in item["message"]
            known[path] = (_changed_at(path, app_dir, service=service), _parses(question, path) if compiled else None)
        item["changed_at"], item["parses"] = known.get(path, (another, None))


def _changed_at(*paths: str, service: Service) -> Optional[str]:
    """Return the time of the latest change to any of these paths, or None if the time is unknown.

    If a path is a link, the time of the link itself is used, because a new link activates a release. The service's user
    can write any path to the log, so the paths are examined with this user's rights.
    """
    times = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError), safe_open.acting(rights_of(service)):
            entry = os.lstat(path)
            times += [entry.st_ctime] if not os.path.isdir(path) or os.path.islink(path) else []
    return timestamps.iso(max(times)) if times else None


def log_files(service: Service, *, since: float) -> Dict[str, safe_open.Rights]:
    """Return the log file if there is one, and the newest files that match log_patterns, newest first.

    The result maps each path to the account that must open the file, see log_files.LogFile.

    Rotated and compressed files follow in the list if they were changed at or after `since`. The log may have been
    rotated right after the error.
    """
    patterns = service_logs.absolute(service.log_patterns, folder=service.app_dir)
    found = service_logs.find(service.log_file, patterns, user=service.user)
    current = [each for each in found if any(fnmatch.fnmatchcase(each.path, pattern) for pattern in patterns)]
    rotated = [each for each in found if each not in current and each.modified >= since]
    newest = [*current[:_MOST_LOGS], *rotated[:_MOST_ROTATED]]
    first: Dict[str, safe_open.Rights] = {service.log_file: None} if service.log_file else {}
    return {**first, **{each.path: each.rights for each in newest}}


def log(question: Question) -> Dict[str, Any]:
    """Return facts about the log files, and facts from their last lines. The newest file is the main one."""
    paths = log_files(question.service, since=question.since)
    facts: Dict[str, Any] = {"path": question.service.log_file}
    evidence, lines, written = [], [], []
    # A compressed file that takes too long must not prevent the other files from being read and analysed.
    deadline, most = time.monotonic() + question.left * _UNPACKING, _LOG_BYTES // max(1, len(paths))
    for number, (path, rights) in enumerate(paths.items()):
        try:
            text, truncated, status = log_patterns.tail(path, limit=most, rights=rights, deadline=deadline)
        except OSError as error:
            facts.setdefault("error", error.strerror)
            continue
        # Redact the text before it is truncated, because the redactor does not recognize incomplete secrets.
        unmasked, text = text, question.redactor.text(text)
        dated = log_patterns.dated(log_patterns.split(text), unmasked=log_patterns.split(unmasked))
        lines.append((status.st_mtime, dated))
        written.append((status.st_mtime, path, status.st_size))
        # If a file matches a pattern, do not reuse its name, because the service's user chose this name.
        name = os.path.basename(path) if path == question.service.log_file else f"log-{number}.txt"
        evidence += [file(name, path, text, truncated=truncated)] if question.keep else []
    if not written:
        return found(facts)
    written_at, path, size = max(written)
    merged = log_patterns.merged(lines)
    facts = {
        "path": path,
        "paths": [each for _at, each, _size in written],
        "size": size,
        "written_at": timestamps.iso(written_at),
        "lines": [line.text for line in merged[-question.log_lines :]],
        **log_patterns.analyse(merged, since=question.since, written_at=written_at),
    }
    _look_again(question, facts["exceptions"])
    return found(facts, evidence=evidence)


def _entries(question: Question, matches: Sequence[str], *, most: int) -> Tuple[List[str], List[_Entry]]:
    """Return the journalctl command, and the last matching entries (at most `most`), without secrets.

    Raises RuntimeError if the journal cannot be read.
    """
    argv = ["journalctl", "-q", "--no-pager", "-o", "short-unix", "-n", str(most), *matches]
    argv += ["--since", f"@{question.since:.0f}"]
    done = question.command(argv)
    if not done.ok:
        raise RuntimeError(why(done))
    unmasked = [line[:_LONGEST_READ] for line in log_patterns.split(done.stdout)]
    # Join all entries before redacting them, because a secret may continue in the next entry. Redaction does not change
    # the number of lines.
    lines = log_patterns.split(question.redactor.text("\n".join([*unmasked, ""])))
    entries = []
    for line, before in zip(lines, unmasked):
        entry, whole = _JOURNAL.match(line), _JOURNAL.match(before)
        if entry and whole:
            entries.append(_Entry(float(entry.group(1)), entry.group(2), entry.group(3), whole.group(3)))
    return argv, entries


def journal(question: Question) -> Dict[str, Any]:
    """Return facts from the unit's journal.

    A separate query returns the systemd log lines about the unit, so that they are found even if the service logs a
    lot. The service could log under systemd's name. Therefore, the query selects by _PID, which only journald can set.
    """
    unit = question.service.unit
    try:
        argv, entries = _entries(question, ["-u", unit], most=_JOURNAL_LINES)
        full_name = unit if unit.endswith(".service") else f"{unit}.service"
        _argv, of_manager = _entries(question, ["_PID=1", f"UNIT={full_name}"], most=_MANAGER_LINES)
    except RuntimeError as error:
        return found({"error": str(error)})
    shown = [f"{timestamps.iso(entry.at)} {entry.who}: {entry.text}"[:_LONGEST_LINE] for entry in entries]
    lines = [
        log_patterns.Line(
            text=entry.text[:_LONGEST_LINE],
            at=entry.at,
            dated=True,
            logged_by=entry.at,
            unmasked=entry.unmasked[:_LONGEST_LINE],
            certain=True,  # journald sets the time of an entry
        )
        for entry in entries
        if entry.who != "systemd"
    ]
    managed = [{"at": timestamps.iso(entry.at), "text": entry.text} for entry in of_manager]
    facts = {
        "lines": shown[-question.log_lines :],
        "exits": [item for item in managed if "Main process exited" in item["text"]][-20:],
        "control_exits": [item for item in managed if "Control process exited" in item["text"]][-20:],
        "starts": [item for item in managed if item["text"].startswith("Started ")][-20:],
        "stops": [item for item in managed if re.match(r"(Stopping|Stopped) ", item["text"])][-20:],
        "results": [item for item in managed if "Failed with result" in item["text"]][-20:],
        "start_limit": [item for item in managed if "Start request repeated too quickly" in item["text"]][-1:],
        **log_patterns.analyse(lines, since=question.since),
    }
    _look_again(question, facts["exceptions"])
    kept = [file("journal.txt", " ".join(argv), "\n".join(shown) + "\n", truncated=len(shown) >= _JOURNAL_LINES)]
    return found(facts, evidence=kept if question.keep else ())
