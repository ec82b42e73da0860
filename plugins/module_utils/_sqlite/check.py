# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check whether the database is sound and complete, and find the processes that have it open. Change nothing."""

from __future__ import annotations

import grp
import sqlite3
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    file_problems,
    file_survey,
    integrity,
    private_copy,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    Problem,
    SqliteError,
    printable,
)

CHECKS = ("quick", "foreign_keys", "integrity")
_ATTEMPTS = 10  # maximum number of attempts, because the service may start or stop during an attempt
UNREAD = "skipped: the database cannot be read"


def check(
    *,
    path: str,
    checks: Sequence[str] = ("quick",),
    row_counts: Union[bool, Sequence[str]] = True,
    time_budget: float = 30.0,
    busy_timeout: float = 5.0,
    baseline: Optional[Mapping[str, int]] = None,
    seeded: bool = False,
    owner: Optional[str] = None,
    user: Optional[str] = None,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Check a database within time_budget seconds and return the result of the sqlite_info module.

    seeded: True to report tables that have rows now but are empty or missing in `baseline`. owner: the user that must
    be able to write to the database. user: the user that reads the database, by default `owner`. See file_survey.look.
    Problems with the database are listed in the result. Raises SqliteError for invalid parameters.
    """
    for name in checks:
        if name not in CHECKS:
            raise SqliteError(f"checks must be among {', '.join(CHECKS)}, not {name!r}")
    for parameter, value in (("time_budget", time_budget), ("busy_timeout", busy_timeout)):
        if not 0 < value <= 86400:
            raise SqliteError(f"{parameter} must be above 0 and at most 86400 seconds, not {value}")
    writer = file_problems.find_user(owner)
    started = time.monotonic()
    deadline = started + time_budget
    result: Dict[str, Any] = {}
    for attempt in range(_ATTEMPTS):
        with sqlite_files.clear_errors("check", path=printable(path)):
            result, steady = _attempt(
                path=path,
                checks=checks,
                row_counts=row_counts,
                deadline=deadline,
                busy_timeout=min(busy_timeout, time_budget),
                baseline=baseline or {},
                seeded=seeded,
                writer=writer,
                user=user or owner,
                proc_root=proc_root,
            )
        if steady or time.monotonic() > deadline:
            break
        time.sleep(min(0.05 * (attempt + 1), max(deadline - time.monotonic(), 0)))
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _attempt(
    *,
    path: str,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
    busy_timeout: float,
    baseline: Mapping[str, int],
    seeded: bool,
    writer: Optional[file_problems.User],
    user: Optional[str],
    proc_root: str,
) -> Tuple[Dict[str, Any], bool]:
    found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
    done = integrity.Examination()
    asked = [name for name in CHECKS if name in checks]
    if found.openable:
        try:
            with sqlite_reader.way_in(found, holders, busy_timeout=busy_timeout, deadline=deadline) as way:
                integrity.examine(
                    done,
                    way,
                    checks=asked,
                    row_counts=row_counts,
                    deadline=deadline,
                    holders=holders,
                    seeded_since=baseline if seeded else {},
                )
                done.steady = done.steady and way.steady
        except private_copy.OutOfTime:
            pass  # every check is reported as skipped
        except SqliteError as error:
            done.problems.append(Problem("unreadable", error.told))
    for name in asked:
        done.checks.setdefault(name, UNREAD if done.problems or not found.openable else integrity.SKIPPED)
    problems = [*found.problems, *file_problems.holder_problems(found, holders)]
    if done.steady or holders.deleted:
        problems += [*file_problems.side_problems(found, holders), *done.problems]
        problems += _losses(done.row_counts, baseline, counted=done.checks.get("row_counts") == "ok")
    else:
        # The files changed while they were read, so the results are unreliable.
        problems.append(Problem("changing", message("reason.sqlite.changing", path=printable(found.path))))
        done = integrity.Examination(steady=False)
        done.checks = dict.fromkeys([*asked, "row_counts"], "skipped: written to meanwhile")
    if writer is not None:
        problems += file_problems.ownership(found, writer)
    reached = found.wal.complete and _is_answered(done, asked=asked, counted=bool(row_counts))
    return _result(found, holders, done, problems=problems, reached=reached), done.steady


def _is_answered(done: integrity.Examination, *, asked: Sequence[str], counted: bool) -> bool:
    """Return True if the requested checks were completed.

    If a check ended early, the remaining pages and rows were not checked.
    """
    pages = [name for name in ("quick", "integrity") if name in asked]
    if pages and not any(done.checks[name] == "ok" for name in pages):
        return False
    return not counted or done.checks.get("row_counts") == "ok"


def _result(
    found: Look,
    holders: sqlite_holders.Holders,
    done: integrity.Examination,
    *,
    problems: Sequence[Problem],
    reached: bool,
) -> Dict[str, Any]:
    losses = [problem.message for problem in problems if problem.loss]
    sound = not any(problem.level == "error" for problem in problems)
    return {
        "healthy": sound,
        "conclusive": (reached or not sound) and not any(problem.code in mounts.AWAY for problem in problems),
        "problems": [problem.as_dict() for problem in problems],
        "database": _database(found, done),
        "wal": file_survey.wal_as_dict(found),
        "files": [_file(name, facts) for name, facts in found.files.items()],
        "holders": [holder.as_dict() for holder in holders.found],
        "holders_complete": holders.complete,
        "row_counts": done.row_counts,
        "seeded": [{"table": table, **rows} for table, rows in done.seeded.items()],
        "checks": done.checks,
        "data_loss_suspected": bool(losses),
        "data_loss_reasons": losses,
    }


def tables_wanted(value: Any) -> Union[bool, List[str]]:
    """Return the row_counts parameter as a boolean or a list of table names. Raises SqliteError for other values."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    word = str(value).lower()
    if word in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return word in ("true", "yes", "on", "1")
    raise SqliteError(f"row_counts must be true, false or a list of table names, not {value!r}")


def baseline_of(value: Optional[Mapping[str, Any]]) -> Dict[str, int]:
    """Return the baseline parameter as {table: number of rows}. Raises SqliteError if a number is invalid."""
    counts = {}
    for table, rows in (value or {}).items():
        try:
            counts[str(table)] = int(rows)
        except (TypeError, ValueError):
            raise SqliteError(f"baseline must give a number of rows for table {table}, not {rows!r}") from None
    return counts


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _file(name: str, facts: sqlite_files.FileFacts) -> Dict[str, Any]:
    return {
        "name": name,
        "path": printable(facts.path),
        "size": facts.size,
        "owner": file_problems.name_of_user(facts.uid),
        "group": _name_of_group(facts.gid),
        "mode": f"{facts.mode:04o}",
        "modified_at": timestamps.iso(facts.mtime_ns / 1e9),
    }


def _losses(counts: Mapping[str, int], baseline: Mapping[str, int], *, counted: bool) -> List[Problem]:
    if not counted:
        return []
    # The baseline is from an earlier result of this module, so sanitize.text may have changed its table names.
    plain: Dict[str, int] = {}
    for name, rows in counts.items():
        plain[sanitize.text(name)] = plain.get(sanitize.text(name), 0) + rows
    lost: List[Message] = []
    for table, before in sorted(baseline.items()):
        now = counts.get(table, plain.get(sanitize.text(table)))
        if now is None:
            lost.append(message("reason.sqlite.table_gone", table=table, before=before))
        elif now < before:
            fewer = {"now": now, "fewer": before - now, "before": before}
            lost.append(message("reason.sqlite.table_fewer", table=table, **fewer))
    return [Problem("row_loss", message("reason.sqlite.row_loss", tables=lost), loss=True)] if lost else []


def _database(found: Look, done: integrity.Examination) -> Dict[str, Any]:
    facts = found.files.get("database")
    header = found.newest_header
    database: Dict[str, Any] = {
        "path": printable(found.given),
        "real_path": printable(found.path),
        "exists": facts is not None,
        "size": facts.size if facts is not None else 0,
        "inode": facts.inode if facts is not None else None,
        "uid": facts.uid if facts is not None else None,
        "gid": facts.gid if facts is not None else None,
        "mode": f"{facts.mode:04o}" if facts is not None else None,
        "page_size": header.page_size if header is not None else None,
        "page_count": header.page_count if header is not None else None,
        "freelist_count": header.freelist_count if header is not None else None,
        "user_version": header.user_version if header is not None else None,
        "journal_mode": None,
        "first_migration_at": timestamps.iso(done.first_migration) if done.first_migration is not None else None,
        "sqlite_version": sqlite_files.version_text(header.writer_version) if header is not None else None,
        "library_version": sqlite3.sqlite_version,
        "wal_reset_bug": header is not None
        and header.wal_mode
        and sqlite_files.has_wal_reset_bug(header.writer_version),
    }
    if header is not None:
        database["journal_mode"] = "wal" if header.wal_mode else "rollback"
    for name in ("page_size", "page_count", "freelist_count", "user_version"):
        if name in done.basics:
            database[name] = done.basics[name]
    return database
