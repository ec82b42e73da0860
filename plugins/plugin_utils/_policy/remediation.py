# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the remedy policy before a run performs any action, and build the messages about remedies."""

from __future__ import annotations

import datetime
import glob
import math
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import reclaim_patterns
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import messages_of

# The renewal of a certificate takes less than this number of days, so HTTPS never has to be disabled for longer.
MOST_DAYS_WITHOUT_HTTPS = 30

_MIB = 1 << 20
# Maps each numeric setting to its minimum and, if 0 is also allowed, to the meaning of 0.
_NUMBERS: Dict[str, Any] = {
    "remediation_stop_timeout": (0.1, ""),
    "remediation_tls_renew_timeout": (0.1, ""),
    # If less memory is allowed, the service cannot start.
    "remediation_memory_max": (64 * _MIB, "the proposed value"),
    "remediation_max_old_space_size": (32, "the proposed value"),
    "remediation_rollback_after_falls": (1, ""),
    "remediation_keep_backups": (1, "all"),
}
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z")


def _number(name: str, value: Any) -> Iterator[str]:
    least, zero = _NUMBERS[name]
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (least <= number < math.inf or (zero and number == 0)):
        yield f"{name} is {value!r}: must be a number of at least {least}" + (f", or 0 for {zero}" if zero else "")


def _until(value: Any, *, now: datetime.datetime) -> Iterator[str]:
    name = "remediation_tls_disable_https_until"
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    try:
        end = datetime.datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S") if match else None
    except ValueError:
        end = None
    if end is None:
        # If the value is not quoted, YAML reads it as a date, not as a string.
        yield f"{name} is '{value}': must be empty, or a time in UTC such as '2026-03-02T05:00:00Z', in quotes"
    elif end > now + datetime.timedelta(days=MOST_DAYS_WITHOUT_HTTPS):
        yield f"{name} is '{value}': must be within {MOST_DAYS_WITHOUT_HTTPS} days from now"


def _rows(name: str, value: Any, *, needs: Sequence[str], may: str, flag: str = "") -> Iterator[str]:
    """Yield a sentence for each invalid row of a list."""
    for row in value:
        if not isinstance(row, Mapping) or not all(isinstance(row.get(key), str) and row[key] for key in needs):
            yield f"{name} contains the row {row!r}: each row must be a dictionary with {' and '.join(needs)}"
        elif set(row) - {*needs, may, flag}:
            names = [each for each in (*needs, may, flag) if each]
            yield f"{name} contains the row {dict(row)!r}: it may contain only {', '.join(names)}"
        elif may in row and not re.fullmatch(r"\d+", str(row[may])):
            yield f"{name} contains the row {dict(row)!r}: {may} must be a whole number, 0 or more"
        elif not isinstance(row.get(flag, False), bool):
            yield f"{name} contains the row {dict(row)!r}: {flag} must be true or false"


def _globs(value: Sequence[Any]) -> Iterator[str]:
    name = "remediation_disk_globs"
    bad = list(_rows(name, value, needs=("glob",), may="keep", flag="as_user"))
    yield from bad
    for row in [] if bad else value:
        reason = reclaim_patterns.why_not_pattern(row["glob"])
        if reason:
            yield f"{name} contains the glob {row['glob']!r}: {reason}"


def _stop_policy(value: Sequence[Any]) -> Iterator[str]:
    name = "remediation_stop_policy"
    bad = list(_rows(name, value, needs=("user", "command"), may="port"))
    yield from bad
    for row in [] if bad else value:
        try:
            re.compile(row["command"])
        except re.error as error:
            yield f"{name} contains the command {row['command']!r}: must be a regular expression, but {error}"


def disk_globs(
    *, log_file: str, log_patterns: Sequence[str], app_dir: str, database: str, npm_cache: str
) -> List[Dict[str, Any]]:
    """Return the default of remediation_disk_globs: the files that may be removed from a full disk.

    An empty argument adds no pattern. The service's environment may set the path of the database. Therefore, the copies
    of the database are removed with the rights of the service's user, and wildcards in this path have no special
    meaning.
    """
    logs = [glob.escape(log_file)] if log_file else []
    logs += [os.path.join(glob.escape(app_dir), pattern) for pattern in log_patterns]
    globs: List[Dict[str, Any]] = [{"glob": f"{log}*", "keep": 1} for log in logs]
    if database:
        globs.append({"glob": f"{glob.escape(database)}.backup_*", "keep": 3, "as_user": True})
    if npm_cache:
        globs.append({"glob": f"{glob.escape(npm_cache)}/_cacache/**"})
    return globs


def summaries(findings: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the summaries of findings as messages."""
    return [each.to_dict() for finding in findings for each in messages_of(finding, "summary")]


def wanted(mounts: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return messages that state how many bytes or inodes must be freed on each full file system."""
    return [
        message(
            "deed.disk_inodes" if mount["what"] == "inodes" else "deed.disk_bytes", number=str(mount["wanted"])
        ).to_dict()
        for mount in mounts
    ]


def problems(settings: Mapping[str, Any], *, causes: Sequence[str], now: datetime.datetime) -> List[str]:
    """Return a sentence for each invalid setting.

    settings: the variables of the remediation role by name. causes: the causes that have a remedy. now: the time in
    UTC.
    """
    found: List[str] = []
    for name in _NUMBERS:
        found += _number(name, settings[name])
    if settings["remediation_tls_disable_https_until"]:
        found += _until(settings["remediation_tls_disable_https_until"], now=now)
    found += [
        f"remediation_allowed contains {cause!r}: must be one of {', '.join(causes)}"
        for cause in settings["remediation_allowed"]
        if cause not in causes
    ]
    mode = settings["remediation_tls_key_mode"]
    if mode and not (isinstance(mode, str) and re.fullmatch(r"0?[0-7]{3}", mode) and not int(mode, 8) & 0o027):
        found.append(
            f"remediation_tls_key_mode is {mode!r}: must be octal digits in quotes, without access for others "
            "and without write access for the group"
        )
    lists = {"remediation_disk_globs": _globs, "remediation_stop_policy": _stop_policy}
    for name, check in lists.items():
        value = settings[name]
        found += check(value) if isinstance(value, list) else [f"{name} is {value!r}: must be a list of dictionaries"]
    command = settings["remediation_tls_renew_command"]
    if not isinstance(command, list) or not all(isinstance(word, str) and word for word in command):
        found.append("remediation_tls_renew_command must be a list of non-empty words")
    return found
