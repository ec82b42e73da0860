# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Use a unit's start guard in a run: read its configuration, decision and refusals, and release it.

The start_guard role installs the guard. The role's files describe how the guard decides, and which files its keeper
(guard_keeper.py) writes. If the guard is not installed, every function returns immediately.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    sanitize,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

CONFIG_FOLDER = "/etc/itsm-nexus-runbook"
# Files that the role installs. See the role's vars/main.yml. The unit starts GUARD and RECORDER through RUN.
PROGRAMS = "/usr/local/lib/itsm-nexus-runbook"
DROPIN = "50-itsm-nexus-start-guard.conf"
RUN, COMMON, GUARD, RECORDER, KEEPER = (
    *("run.py", "guard_common.py", "start_guard.py", "restart_recorder.py"),
    "guard_keeper.py",
)
PROGRAM = f"{PROGRAMS}/{RUN}"
# An incident can begin because the guard refuses to start the service. This name is then recorded as the incident's
# detector and as the source of its first sign.
NAME = "start guard"
# The cause that is recorded if a unit is on hold only because the guard refused to start it.
CAUSE = "start_guard"
# Exit code of the guard if it refuses to start the service.
REFUSED = 77
_TIMEOUT = 5.0
_LARGEST = 1 << 18
_INCIDENT = lazy(r"INC-\d{8}T\d{6}Z-[0-9a-f]{4}\Z")
# Pattern for a valid problem code in the guard's result, and the code that replaces an invalid code.
_CODE = lazy(r"[a-z_]{1,40}\Z")
_UNKNOWN = "unknown"
_LONGEST = 500
_NAME = lazy(r"[A-Za-z0-9_.-]+\Z")


class Refusal(NamedTuple):
    """A start that the guard refused, or would refuse now.

    code: the code of the problem. of_data: True if rows could be lost. path: the keeper's file, or empty. times: number
    of refusals since first_at.
    """

    code: str
    reason: str
    of_data: bool
    incident: str = ""
    first_at: str = ""
    at: str = ""
    times: int = 1
    evidence: str = ""
    path: str = ""


def service_name(unit: str) -> str:
    return unit[: -len(".service")] if unit.endswith(".service") else unit


def _config_path(unit: str) -> str:
    return os.path.join(CONFIG_FOLDER, f"{service_name(unit)}.json")


def config(unit: str) -> Optional[Dict[str, Any]]:
    """Return the configuration of a unit's guard, or None if the guard is not installed."""
    return _read(_config_path(unit)) if unit and _NAME.match(unit) else None


def _read(path: str) -> Optional[Dict[str, Any]]:
    try:
        values = json.loads(atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def ask(unit: str, *, run: commands.Runner = commands.run) -> Optional[Dict[str, Any]]:
    """Return the guard's current decision and the state of the database, or None if the decision is unknown.

    The guard runs as the service's user and records nothing. Call this function only if no process has the database
    open.
    """
    known = config(unit)
    if known is None:
        return None
    python = known.get("python") or "/usr/bin/python3"
    argv = [str(python), "-I", "-S", "-E", "-B", PROGRAM, "start_guard", _config_path(unit), "--show"]
    try:
        done = run(argv, timeout=_TIMEOUT, user=str(known.get("user") or "") or None, env={"PATH": "/usr/bin:/bin"})
        answer = json.loads(done.stdout) if done.rc in (0, REFUSED) else None
    except (commands.CommandError, ValueError, RecursionError):
        return None
    return _cleaned(answer) if isinstance(answer, dict) else None


def verdict(unit: str, *, run: commands.Runner = commands.run) -> Optional[Refusal]:
    """If the guard would refuse a start now because of the data, return the refusal, otherwise None."""
    answer = ask(unit, run=run) or {}
    code = answer.get("code")
    # The role's guard_common.py defines the codes. Assume that rows could be lost, unless the guard reports
    # of_data=False.
    if not code or answer.get("of_data") is False:
        return None
    return Refusal(code, answer["reason"], of_data=True)


def _cleaned(answer: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the validated response of the guard.

    The guard runs as the service's user, who could change the response.
    """
    code, told, took = answer.get("code"), answer.get("reason"), answer.get("milliseconds")
    if code:
        code = code if isinstance(code, str) and _CODE.match(code) else _UNKNOWN
    reason = sanitize.text(str(told)[:_LONGEST]).replace("\n", " ")[:_LONGEST] if code else None
    milliseconds = took if isinstance(took, (int, float)) else None
    return {**answer, "code": code or None, "reason": reason, "milliseconds": milliseconds}


def refusals(state_dir: str) -> List[Refusal]:
    """Return the refusals that are not in an incident's record yet, oldest first. This check is fast."""
    found = []
    try:
        names = [name for name in os.listdir(state_dir) if name.startswith("refusal-") and name.endswith(".json")]
    except OSError:
        return []
    for name in names:
        path = os.path.join(state_dir, name)
        refusal = _refusal(_read(path) or {}, path=path)
        if refusal is not None:
            found.append(refusal)
    return sorted(found, key=lambda each: each.first_at)


def _refusal(values: Mapping[str, Any], *, path: str) -> Optional[Refusal]:
    """Return the refusal in a keeper's file, or None if the file is invalid."""
    try:
        for name in ("first_at", "at"):
            timestamps.epoch(str(values[name]))
        if not _INCIDENT.match(str(values["incident"])):
            return None
        times = int(values["times"])
        texts = {name: str(values[name]) for name in ("code", "reason", "incident", "first_at", "at")}
    except (KeyError, TypeError, ValueError):
        return None
    return Refusal(
        **texts,
        of_data=bool(values.get("of_data")),
        times=times,
        evidence=str(values.get("evidence") or ""),
        path=path,
    )


def forget(refusal: Refusal) -> None:
    """Remove a refusal's file after the refusal has been added to an incident's record."""
    with contextlib.suppress(OSError):
        os.unlink(refusal.path)


def note_refusal(record: Dict[str, Any], refusal: Refusal, *, in_doubt: str) -> None:
    """Add a refusal to an incident's record. in_doubt: the value of store.IN_DOUBT."""
    times = f" {refusal.times} times" if refusal.times > 1 else ""
    said = f"The start guard refused the start{times}, first at {refusal.first_at}: {refusal.reason}"
    sign = {"at": refusal.first_at, "kind": "bad", "source": NAME}
    if sign not in record["signs"]:
        record["signs"].append(sign)
    if not refusal.of_data:
        return
    data = dict(record["data"] or {})
    reasons = list(data.get("reasons") or ())
    known = {"rows": {}, "created_at": None, "checked_at": None, **data}
    record["data"] = {
        **known,
        "state": in_doubt,
        "reasons": [*reasons, said] if said not in reasons else reasons,
        "refused": refusal.code,
    }


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Lock the keeper's folder. Raises OSError."""
    atomic_files.private_folder(folder)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def release(unit: str, *, accepted: Sequence[str] = (), run: commands.Runner = commands.run) -> Optional[str]:
    """Make the guard accept the current files of the database. If this fails, return the error message.

    Call this function after a check has found the database sound, or after a person has released the database.
    accepted: the codes of the damage that the person has accepted. If the files change later, the guard checks them
    again.
    """
    known = config(unit)
    if known is None:
        return None
    answer = ask(unit, run=run)
    if answer is None:
        return f"The start guard of {unit} does not answer. {_refused_next(unit)}"
    try:
        stamps = _stamps(answer.get("state"))
    except ValueError:
        return f"The start guard of {unit} returned an invalid response. {_refused_next(unit)}"
    released = {
        "at": timestamps.now(),
        "accepted": sorted(accepted),
        "stamps": stamps,
    }
    about = {"path": known.get("database"), "unit": known.get("unit"), "released": released}
    try:
        with _locked(os.path.join(str(known["state_dir"]), "ends", service_name(unit))):
            before = _read(str(known["known"])) or {}
            if before.get("start"):
                about["start"] = before["start"]
            _write_known(str(known["known"]), about, user=str(known.get("user")))
    except KeyError as error:
        return f"The configuration {_config_path(unit)} of the start guard lacks {error}. {_refused_next(unit)}"
    except OSError as error:
        return (
            f"The start guard of {unit} cannot be released: {error.filename}: {error.strerror}. {_refused_next(unit)}"
        )
    return None


def _refused_next(unit: str) -> str:
    """Return the action to take if a release failed."""
    again = "run outage_guard.yml with -e outage_guard_state=present, and then outage_release.yml"
    return f"If the guard refuses the next start of {unit}, {again}"


def _stamps(state: Any) -> Dict[str, Optional[List[int]]]:
    """Return the values that identify the database and its WAL. Raises ValueError if a value is missing."""
    if not isinstance(state, dict) or not {"database", "wal"} <= set(state):
        raise ValueError("the files are missing")
    return {name: _stamp(state[name]) for name in ("database", "wal")}


def _stamp(found: Any) -> Optional[List[int]]:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ValueError("a file is not described")
    values = []
    for name in ("device", "inode", "size", "mtime_ns"):
        value = found.get(name)
        least = -(1 << 63) if name == "mtime_ns" else 0  # a file may have a time before 1970
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 64:
            raise ValueError(f"{name} is not a number")
        values.append(value)
    return values


def _write_known(path: str, known: Mapping[str, Any], *, user: str) -> None:
    """Write the last known state to a file that the service's user can read. Raises OSError."""
    group = None
    with contextlib.suppress(KeyError):
        group = pwd.getpwnam(user).pw_gid
    data = json.dumps(known, indent=1, sort_keys=True).encode() + b"\n"
    atomic_files.write_atomically(path, data, mode=0o640, group=group)
