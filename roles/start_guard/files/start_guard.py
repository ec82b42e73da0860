# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: run.py start_guard CONFIG [--show]. Decides whether a unit may start with its database.

systemd runs this program before each start of the unit (ExecCondition=), as the service's user. If the state of the
database is in doubt, this program exits with REFUSED (77), and the unit is not started. Any other exit code starts the
unit. If this program fails before it finds a doubt, the unit is started. If this program fails after it has found a
doubt, the unit is not started. No file of the service is changed. With --show, the decision is printed as JSON and
nothing is recorded.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import namedtuple

import guard_common as common

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes 3 ms
    from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

REFUSED = 77
# Maximum duration in seconds. If a disk does not answer in time and there is no doubt yet, the unit starts.
_DEADLINE = 2.0
_MOST_EVIDENCE = 8 << 20
# The keeper usually records the exit of a process within 0.1 seconds. On a busy host, this may take longer.
_PATIENCE = 0.7
# Maximum number of repeated checks if the files change during a check.
_ATTEMPTS = 5
_HELD = "zz-held-"
_DROPIN_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")
_NEXT = {
    "held": "database_recover.yml, which checks the database, or outage_release.yml",
    "no_access": "outage_recover.yml, or correct the owner and the mode",
    "not_mounted": "outage_recover.yml, or mount the file system",
    "folder_missing": "outage_recover.yml, or mount the file system",
    "": "outage_recover.yml. If you accept this database, run outage_release.yml",
}
# SQLite never uses the page at this offset.
_LOCK_BYTE = 1 << 30
_MOST_PAGES = 1 << 18


class Doubt(namedtuple("Doubt", "code text")):
    """The reason for a refusal. code: the code that sqlite_info uses for the same problem, if it has one."""

    __slots__ = ()


def judge(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:
    """Return the reason why the unit must not start with these files, or None.

    known: the last known state, see guard_keeper.py.
    """
    if state["problem"]:
        return Doubt(*state["problem"])
    return (
        _lost_database(state, known)
        or _foreign_wal(state, known)
        or _lost_frames(state, known)
        or _lost_journal(state, known)
        or _short(state)
    )


def judge_files(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:
    """Return the reason why the unit must not start, or None. The content of the WAL is not considered."""
    if state["problem"]:
        return Doubt(*state["problem"])
    # If the database ends within its header, the first page may be in the WAL.
    cut = (state["header"] or {"page_size": 1})["page_size"] == 0 and state["database"]["size"] > 1
    return None if cut else _lost_database(state, known)


def _lost_database(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:  # noqa: PLR0911
    path, database, beside = state["path"], state["database"], (state["wal"] or {}).get("size", 0)
    journal = state["journal"] or {}
    # SQLite treats a file of one byte as an empty file, and deletes its WAL.
    if database is not None and database["size"] > 1:
        if state["header"] is None:
            return Doubt("not_a_database", f"{path} does not begin with a SQLite header")
        frames = state["frames"]
        if not state["header"]["page_size"] and not (frames is not None and frames.header_valid and 1 in frames.last):
            return Doubt("truncated", f"{path} ends after {database['size']} bytes, and the WAL lacks the first page")
        return None
    what = "is missing" if database is None else f"has {database['size']} bytes"
    if beside:
        code = "missing" if database is None else "empty_beside_wal"
        return Doubt(code, f"{path} {what}, and its WAL has {beside} bytes")
    if _is_hot(journal):
        # SQLite deletes the journal of an empty database.
        code = "missing" if database is None else "empty"
        return Doubt(code, f"{path} {what}, and its journal has {journal['size']} bytes")
    seen = known.get("database") or {}
    away = _away(path) if database is None else None
    if seen.get("size") and away:
        return away
    if seen.get("size"):
        code = "missing" if database is None else "empty"
        return Doubt(code, f"{path} {what}, and it had {seen['size']} bytes at {seen.get('at')}")
    return None


def _away(path: str, fstab: str = "/etc/fstab") -> Optional[Doubt]:
    """Return a doubt if a missing database's file system is not mounted, or if its folder is missing.

    In both cases, nothing is known about the rows of the database.
    """
    try:
        with open(fstab, encoding="utf-8", errors="replace") as stream:
            points = [fields[1] for fields in map(str.split, stream) if len(fields) > 1 and fields[0][:1] != "#"]
    except OSError:
        points = []
    for point in points:
        if point != "/" and path.startswith(point.rstrip("/") + "/") and not os.path.ismount(point):
            return Doubt("not_mounted", f"{path} is missing, because {point} is not mounted")
    if not os.path.isdir(os.path.dirname(path)):
        return Doubt("folder_missing", f"{path} is missing, because its folder is missing")
    return None


def _foreign_wal(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:  # noqa: PLR0911 - one return for each rule
    """Return a doubt if SQLite would ignore a WAL that may be needed, or would use the WAL of another database."""
    frames, path = state["frames"], state["path"]
    if frames is None or state["header"] is None:
        return None
    if not frames.header_valid:
        if frames.lost and frames.needed is not False:
            return Doubt("wal_damaged", f"the header of {path}-wal is damaged, and transactions follow it")
        return None
    if frames.foreign:
        return Doubt("wal_foreign", f"the frames in {path}-wal do not belong to its header")
    if not frames.committed or not state["header"]["page_size"]:
        return None
    if frames.page_size != state["header"]["page_size"]:
        sizes = f"{frames.page_size} bytes, and those of the database {state['header']['page_size']}"
        return Doubt("wal_foreign", f"the pages in {path}-wal have {sizes}")
    first, last, here = frames.first_changes, frames.last_changes, state["header"]["changes"]
    # If the WAL belongs to the database, both conditions are true:
    # - The first change counter in the WAL is at most one higher than the counter of the database.
    # - The last change counter in the WAL is not lower than the counter of the database.
    if first is not None and not first - 1 <= here <= last:
        counters = f"the changes {first} to {last}, and the database has change {here}"
        return Doubt("wal_foreign", f"{path}-wal belongs to another database: it contains {counters}")
    return _replaced(state, known.get("end") or {})


def _replaced(state: Mapping[str, Any], ended: Mapping[str, Any]) -> Optional[Doubt]:
    """Return a doubt if the database has been replaced since the service last stopped, but its WAL has not.

    As long as a WAL keeps its salts, only a checkpoint changes the database. A checkpoint copies committed frames into
    the existing database file. If the WAL is a different file too, a person has restored both files. The new WAL may
    have the inode number of the old one. Even then, three signs show that it is new: it was written after the service
    stopped, it is complete, and the header of the database is unchanged.
    """
    frames, header, path = state["frames"], state["header"], state["path"]
    now, before, then = common.stamp(state["database"]), ended.get("database"), ended.get("header") or {}
    wal, had = common.stamp(state["wal"]), ended.get("wal")
    if not now or not before or not then.get("page_size") or not wal or not had or wal[1] != had[1]:
        return None
    if frames.salts != (ended.get("frames") or {}).get("salts"):
        return None
    is_header = all(header.get(name) == value for name, value in then.items() if value is not None)
    if is_header and now[2:] == before[2:]:
        return None
    complete = (frames.committed or 0) >= ((ended.get("frames") or {}).get("committed") or 0)
    if now[1] != before[1]:
        if is_header and complete and not common.is_same_stamp(wal, had):
            return None
        why = "the database is not the same file as"
    elif not is_header and header["bytes"] not in frames.headers:
        why = "the database has neither a header from the WAL nor the header that it had"
    # A truncated database has fewer pages than its header says. See _short.
    elif now[2] >= before[2] and common.is_same_stamp(wal, had) and not common.contains_a_frame(state):
        why = "the database has changed, but contains no page from the WAL that it had"
    else:
        return None
    return Doubt("wal_foreign", f"{path}-wal belongs to another database: {why} when the service stopped")


def _is_same(state: Mapping[str, Any], ended: Mapping[str, Any]) -> bool:
    """Return True if the database is the same as when the service last stopped, or has only been truncated.

    If SQLite shortens a database, it also changes the header.
    """
    now, before = common.stamp(state["database"]), ended.get("database")
    if not now or not before or now[1] != before[1]:
        return False
    header, known = state["header"] or {}, ended.get("header") or {}
    cut = now[2] < before[2] and all(header.get(name) == known.get(name) for name in ("changes", "pages"))
    return common.is_same_stamp(now, before) or cut or (now[2] < before[2] and not header.get("page_size"))


def _lost_frames(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:  # noqa: PLR0911
    """Return a doubt if the WAL lacks transactions that it had when the service stopped."""
    ended, frames, path = known.get("end") or {}, state["frames"], state["path"]
    before = ended.get("frames") or {}
    if not _is_same(state, ended):
        return None  # the database has been changed since then, so the earlier state does not apply
    at = f"when the service stopped at {ended.get('at')}"
    if ended.get("lacking"):
        return Doubt("wal_short", f"{path}-wal already lacked {ended['lacking']} frames of transactions {at}")
    if not before.get("committed"):
        return None
    there = frames is not None and frames.header_valid and frames.committed and frames.salts == before.get("salts")
    # After a complete checkpoint, the WAL may be missing. However, if only the beginning of the WAL is left, the old
    # pages in the WAL would replace newer pages.
    if before.get("needed") is False and not there:
        return None
    had = f"{before['committed']} frames of transactions {at}"
    if state["wal"] is None:
        return Doubt("wal_missing", f"{path}-wal is missing, and it had {had}")
    if frames is None or not frames.header_valid or not frames.committed:
        return Doubt("wal_missing", f"{path}-wal has no transactions, and it had {had}")
    if frames.salts != before.get("salts"):
        return Doubt("wal_foreign", f"{path}-wal is not the file that had {had}")
    if frames.committed < before["committed"]:
        return Doubt("wal_short", f"{path}-wal has {frames.committed} frames of transactions, and it had {had}")
    return None


def _is_hot(journal: Mapping[str, Any]) -> bool:
    """Return True if SQLite must undo an interrupted transaction with this rollback journal."""
    return bool(journal.get("size") and journal.get("hot"))


def _lost_journal(state: Mapping[str, Any], known: Mapping[str, Any]) -> Optional[Doubt]:
    """Return a doubt if the database needed a rollback journal when the service stopped, and the journal is now missing
    or shorter.
    """
    ended, path = known.get("end") or {}, state["path"]
    before, now = ended.get("journal") or {}, state["journal"] or {}
    if not _is_hot(before) or not _is_same(state, ended):
        return None
    had = f"it had {before['size']} bytes of an interrupted transaction when the service stopped at {ended.get('at')}"
    if not _is_hot(now):
        return Doubt("journal_missing", f"{path}-journal is missing or empty, and {had}")
    if now["size"] < before["size"]:
        return Doubt("journal_missing", f"{path}-journal has {now['size']} bytes, and {had}")
    return None


def _short(state: Mapping[str, Any]) -> Optional[Doubt]:
    """Return a doubt if pages of the database are neither in its file nor in the WAL."""
    header, frames = state["header"], state["frames"]
    if header is None or not state["complete"] or _is_hot(state["journal"] or {}):
        return None
    size = header["page_size"] or frames.page_size
    there = state["database"]["size"] // size
    committed = frames is not None and frames.header_valid and frames.committed
    wanted = frames.pages if committed else header["pages"]
    unused = _LOCK_BYTE // size + 1
    last = frames.last if committed else {}
    # A damaged header may contain a very large number of pages.
    end = min(wanted, there + _MOST_PAGES)
    missing = sum(page != unused and page not in last for page in range(there + 1, end + 1))
    if not missing:
        return None
    return Doubt("truncated", f"{state['path']} has {there} of {wanted} pages, and the WAL lacks {missing} of them")


def end_is_due(known: Mapping[str, Any]) -> bool:
    """Return True if the keeper has not saved the exit of the last process yet.

    After a reboot, the exit of the earlier process is not reported.
    """
    start, end = known.get("start") or {}, known.get("end") or {}
    is_open = bool(start.get("invocation")) and start["invocation"] != end.get("invocation")
    return is_open and start.get("boot") == common.boot_id()


def needs_the_end(state: Mapping[str, Any], doubt: Optional[Doubt]) -> bool:
    """Return True if the decision may depend on the state of the files when the last process ended.

    If the decision is based on the exit of an earlier process, a doubt may be wrong. Even if there is no doubt, a WAL
    with transactions may be missing.
    """
    committed = state["frames"] is not None and state["frames"].committed
    return doubt is not None or (state["database"] is not None and not committed)


def await_end(config: common.Config, known: Dict[str, Any]) -> Dict[str, Any]:
    """Return the known state as soon as it contains the exit of the last process, or after _PATIENCE seconds.

    systemd may start the next process before the keeper has saved the exit of the last process.
    """
    give_up = time.monotonic() + _PATIENCE
    while end_is_due(known) and time.monotonic() < give_up:
        time.sleep(0.005)
        known = common.known_state(config.known, database=config.database) or known
    return known


def hold_of(unit: str, folders: Any = _DROPIN_FOLDERS) -> Optional[Doubt]:
    """Return a doubt if a hold on the unit exists on disk, even if systemd has not read it yet."""
    for folder in folders:
        try:
            names = sorted(os.listdir(f"{folder}/{unit}.d"))
        except OSError:
            continue
        for name in names:
            if name.startswith(_HELD) and name.endswith(".conf"):
                return Doubt("held", f"the unit is held by incident {name[len(_HELD) : -len('.conf')]}")
    return None


def is_released(doubt: Doubt, state: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return True if a person or a check has released the service with exactly these files.

    If a person has accepted a problem, the release does not cover later damage, even if that damage has the same code.
    """
    if not common.kind_of(doubt.code).released:
        return False
    released = (known.get("released") or {}).get("stamps")
    if not isinstance(released, dict):
        return False
    same = (name in released and common.is_same_stamp(found, released[name]) for name, found in stamps(state).items())
    return all(same)


def decide(
    database: str, known: Mapping[str, Any], *, note: Callable[[Optional[Doubt]], None] = lambda _doubt: None
) -> Tuple[Dict[str, Any], Optional[Doubt]]:
    """Return the state of the files and the doubt about them. note: called with each preliminary doubt, or with None.

    A lost database is detected before the WAL is read, because reading a large WAL may take longer than the deadline.
    """
    state, doubt = _steady(database, known, note=note, scan=False)
    if doubt is None:
        state, doubt = _steady(database, known, note=note, scan=True)
    return state, doubt


def _steady(
    database: str, known: Mapping[str, Any], *, note: Callable[[Optional[Doubt]], None], scan: bool
) -> Tuple[Dict[str, Any], Optional[Doubt]]:
    """Return the state and the doubt. scan: also check the content of the WAL.

    If another program, such as a backup, changes the files during the read, the facts may be inconsistent. Therefore, a
    doubt counts only if the files did not change.
    """
    state, doubt = _judged(database, known, scan=scan)
    for _again in range(_ATTEMPTS):
        note(doubt)
        if doubt is None:
            break
        before = stamps(state)
        time.sleep(0.01)
        state, doubt = _judged(database, known, scan=scan)
        if stamps(state) == before:
            break
    note(doubt)
    return state, doubt


def _judged(database: str, known: Mapping[str, Any], *, scan: bool) -> Tuple[Dict[str, Any], Optional[Doubt]]:
    state = common.examine(database, scan=scan)
    doubt = judge(state, known) if scan else judge_files(state, known)
    return state, None if doubt is not None and is_released(doubt, state, known) else doubt


def stamps(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the values that identify the database and its WAL."""
    return {name: common.stamp(state[name]) for name in ("database", "wal")}


def evidence(state: Mapping[str, Any]) -> Dict[str, bytes]:
    """Return the beginning of each database file, within a limit. A damaged WAL is usually small."""
    kept: Dict[str, bytes] = {}
    left = _MOST_EVIDENCE
    for name, suffix, limit in (("database", "", 65536), ("shm", "-shm", 65536), ("wal", "-wal", _MOST_EVIDENCE)):
        if not state[name]:
            continue
        try:
            descriptor = os.open(state["path"] + suffix, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                kept[name] = os.pread(descriptor, min(limit, left), 0)
            finally:
                os.close(descriptor)
        except OSError:
            continue
        left -= len(kept[name])
    return kept


class Alarm:
    """Ends this program at its deadline. The latest doubt then decides whether the unit starts."""

    def __init__(self, *, show: bool) -> None:
        self.doubt: Optional[Doubt] = None
        self.show = show

    def note(self, doubt: Optional[Doubt]) -> None:
        """Refuse the start at the deadline because of this doubt. If there is no doubt, the signal ends the process."""
        self.doubt = doubt
        signal.signal(signal.SIGALRM, signal.SIG_DFL if doubt is None else self._refuse)

    def _refuse(self, *_signal: Any) -> None:
        if not self.show and self.doubt is not None:
            common.write_out(f"<3>NOT STARTED: {self.doubt.text}\n".encode("utf-8", "backslashreplace"))
        os._exit(REFUSED)


def main(arguments: List[str]) -> int:
    # The default action of this signal ends the process, so the unit starts.
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE)
    begun = time.monotonic()
    config = common.Config.read(arguments[0])
    alarm = Alarm(show=arguments[1:] == ["--show"])
    known = common.known_state(config.known, database=config.database)
    hold = hold_of(config.unit)
    alarm.note(hold)
    try:
        state, doubt = decide(config.database, known, note=lambda found: alarm.note(found or hold))
        if not alarm.show and needs_the_end(state, doubt) and end_is_due(known):
            known = await_end(config, known)
            state, doubt = decide(config.database, known, note=lambda found: alarm.note(found or hold))
        doubt = doubt or hold
        about: Dict[str, Any] = {
            "kind": "start" if doubt is None else "refused",
            "ns": time.time_ns(),
            "since_boot": common.since_boot(),
            "invocation": os.environ.get("INVOCATION_ID", ""),
            "code": doubt.code if doubt else None,
            "reason": doubt.text if doubt else None,
            "of_data": doubt is not None and common.kind_of(doubt.code).of_data,
            "state": common.summary(state),
            "milliseconds": round((time.monotonic() - begun) * 1000, 1),
        }
        if alarm.show:
            common.write_out(json.dumps(about).encode() + b"\n")
        elif doubt is None:
            common.tell(config, about, wait=0)
        else:
            # Set a new deadline, because a report may take longer than the time left until the first deadline.
            signal.signal(signal.SIGALRM, lambda *_: os._exit(REFUSED))
            signal.setitimer(signal.ITIMER_REAL, _DEADLINE)
            common.say(f"NOT STARTED: {doubt.text}. Run {_NEXT.get(doubt.code, _NEXT[''])}", priority=3)
            common.tell(config, about, evidence(state), wait=1.0)
    except Exception as error:
        if alarm.doubt is None:
            raise
        common.say(f"The refusal was not reported: {type(error).__name__}: {error}")
    finally:
        # If the database is in doubt, the unit must not start, even after an error. For example, an error occurs if
        # nobody reads the output.
        if alarm.doubt is not None:
            os._exit(REFUSED)
    return 0
