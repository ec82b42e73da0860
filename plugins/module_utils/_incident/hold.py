# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prevent a service from starting if the start could do harm, for example because the database may be damaged.

If systemd manages the service, a hold is a drop-in that adds two conditions to the unit. Both conditions are necessary
(tested with systemd 257). An automatic restart ignores AssertPathExists=. If only ExecCondition= is set, systemctl
start exits with 0 although it skips the start. The drop-in name and the unit description contain the incident ID, so
systemctl status shows this ID. This collection reads the same information from a file in the state folder. If the
service is a plain process, this file is the only hold.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    MessageError,
    message,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages, takeover

NAME = "hold.json"
# The persistent folder for drop-ins, and the in-memory folder that is used if the persistent folder is not writable.
FOLDER = "/etc/systemd/system"
RUNTIME_FOLDER = "/run/systemd/system"
# Prefix for the names of drop-ins that put a unit on hold.
PREFIX = "zz-held-"
_INCIDENT = lazy(r"INC-\d{8}T\d{6}Z-[0-9a-f]{4}")
_TIMEOUT = 60.0
_LARGEST = 1 << 16
_REASON = 300

_DROPIN = """# Written by itsm_nexus.runbook. Incident {incident}: the start of this unit is held.
# Reason: {reason}
# To check the database, run the playbook database_recover.yml with --check. outage_release.yml accepts the damage.
[Unit]
Description=HELD by incident {incident}: do not start it, first run database_recover.yml --check
AssertPathExists=!{path}
[Service]
ExecCondition=/bin/sh -c 'echo "Held by incident {incident}: first run database_recover.yml --check"; exit 1'
"""


class HoldError(MessageError):
    """The hold could not be set or released. The message describes the current state."""

    templates = messages.ENGLISH


class Place(NamedTuple):
    """Location of a hold: the service, its state folder, and the folders for systemd drop-ins."""

    manager: str
    unit: str
    state_dir: str
    # In-memory folder for the lease. If the state folder is not writable, this folder is used.
    spare: str = ""
    folder: str = FOLDER
    runtime_folder: str = RUNTIME_FOLDER

    @property
    def service(self) -> str:
        """The unit's name with its suffix, such as .service."""
        return self.unit if "." in os.path.basename(self.unit) else f"{self.unit}.service"

    def dropins(self) -> List[str]:
        """Return the paths of the drop-ins that put the unit on hold now."""
        if self.manager != "systemd":
            return []
        found: List[str] = []
        for folder in (self.folder, self.runtime_folder):
            found += sorted(glob.glob(f"{glob.escape(f'{folder}/{self.service}.d')}/{PREFIX}*.conf"))
        return found

    def records(self) -> List[str]:
        """Return the possible paths of the hold's record, starting with the path in the state folder."""
        return [os.path.join(folder, NAME) for folder in (self.state_dir, self.spare) if folder]


def place(*, manager: str, unit: str, state_dir: str) -> Place:
    """Return the location of a service's hold on this host."""
    return Place(manager=manager, unit=unit, state_dir=state_dir, spare=host_lease.Seat(state_dir=state_dir).folder)


def read(where: Place) -> Optional[Dict[str, Any]]:
    """Return the current hold, or None if there is none.

    Keys: incident, reason, cause, unit, at (UTC), enforced (True if systemd itself refuses the start). If systemd
    manages the service, it is held only if the drop-in exists. A drop-in without a record is still a hold, because the
    record may have been lost. If there is a record but no drop-in, the drop-in has been removed. In this case, the
    service is not held.
    """
    dropins = where.dropins()
    for path in where.records():
        try:
            held = json.loads(atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(held, dict) and held.get("unit") == where.unit:
            if where.manager == "systemd" and not dropins:
                continue
            return {**held, "enforced": bool(dropins)}
    if not dropins:
        return None
    named = _INCIDENT.search(os.path.basename(dropins[0]))
    incident = named.group(0) if named else ""
    return {"incident": incident, "reason": "", "cause": "", "unit": where.unit, "at": None, "enforced": True}


def dropin(where: Place, *, incident: str, reason: str, folder: str = "") -> Tuple[str, str]:
    """Return the path and the text of the drop-in that puts the unit on hold."""
    path = f"{folder or where.folder}/{where.service}.d/{PREFIX}{incident or 'unknown'}.conf"
    return path, _DROPIN.format(incident=_plain(incident or "unknown"), reason=_plain(reason), path=path)


def _plain(text: str) -> str:
    """Return the text as one line that is safe in a unit file."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("%", "%%")[:_REASON]


def set_hold(
    where: Place,
    *,
    incident: str,
    cause: str,
    reason: str,
    run: commands.Runner = commands.run,
) -> List[str]:
    """Put the service on hold. Return a sentence for each limitation of the hold. Raises HoldError.

    An existing hold stays unchanged. If systemd has scheduled or begun a start, this start is cancelled. A service that
    is already running is not stopped.
    """
    limits: List[str] = []
    held = read(where)
    if held is None or held["at"] is None:
        # The dead-man timer writes only the drop-in that puts the unit on hold. Therefore, also write the record with
        # the reason.
        named = held["incident"] if held else incident
        _write_record(where, {"incident": named, "cause": cause, "reason": reason}, limits=limits)
    if held is None and where.manager == "systemd":
        _write_dropin(where, incident=incident, reason=reason, limits=limits, run=run)
    if where.manager == "systemd":
        _cancel(where, run=run)
    else:
        limits.append("Only this collection respects the hold: the service is a plain process that anybody can start")
    return limits


def _write_record(where: Place, held: Mapping[str, str], *, limits: List[str]) -> None:
    data = json.dumps({**held, "unit": where.unit, "at": timestamps.now()}, indent=1, sort_keys=True).encode() + b"\n"
    for path in where.records():
        try:
            atomic_files.private_folder(os.path.dirname(path))
            atomic_files.write_atomically(path, data)
        except OSError as error:
            limits.append(f"Cannot write the record of the hold to {path}: {error.strerror}")
        else:
            return


def _write_dropin(where: Place, *, incident: str, reason: str, limits: List[str], run: commands.Runner) -> None:
    problems: List[str] = []
    for folder in (where.folder, where.runtime_folder):
        path, text = dropin(where, incident=incident, reason=reason, folder=folder)
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            atomic_files.write_atomically(path, text.encode(), mode=0o644)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        _reload(where, run=run)
        if folder == where.runtime_folder:
            limits.append(f"The hold will be lost at the next reboot: {problems[0]}")
        return
    raise HoldError(message("reason.holding.not_held", unit=where.unit, why=problems))


def _systemctl(*words: str, run: commands.Runner) -> Optional[Message]:
    """Run systemctl. Return the reason why the command failed, or None if it succeeded."""
    try:
        done = run(["systemctl", "--no-ask-password", *words], timeout=_TIMEOUT)
    except commands.CommandError as error:
        return error.told
    return None if done.ok else systemd.why_failed(done)


def _reload(where: Place, *, run: commands.Runner) -> None:
    problem = _systemctl("daemon-reload", run=run)
    if problem is not None:
        raise HoldError(message("reason.holding.not_reloaded", unit=where.unit, why=problem))


def _cancel(where: Place, *, run: commands.Runner) -> None:
    """Cancel a scheduled or running start of the unit. The hold prevents later starts."""
    try:
        properties = systemd.unit_properties(where.unit, takeover.PROPERTIES, run=run)
    except procfs.HostError as error:
        raise HoldError(message("reason.holding.start_unknown", unit=where.unit, why=error.told)) from error
    if takeover.phase(properties) in (takeover.PENDING, takeover.STARTING):
        problem = _systemctl("stop", "--", where.unit, run=run)
        if problem is not None:
            raise HoldError(message("reason.holding.start_goes_on", unit=where.unit, why=problem))
    takeover.disarm(where.unit, run=run)


def release(where: Place, *, run: commands.Runner = commands.run) -> bool:
    """Release the hold. Return True if the service was held. Raises HoldError."""
    dropins = where.dropins()
    held = bool(dropins) or read(where) is not None
    try:
        for path in dropins:
            os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
        for path in where.records():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)
    except OSError as error:
        told = {"path": str(error.filename), "why": str(error.strerror)}
        raise HoldError(message("reason.holding.not_released", unit=where.unit, **told)) from error
    if dropins:
        _reload(where, run=run)
    return held


def refusal(held: Mapping[str, Any]) -> Message:
    """Return a message that states the reason for the hold and lists the playbooks that release the hold."""
    incident = str(held.get("incident") or "") or message("reason.holding.no_incident")
    if not held.get("reason"):
        return message("reason.holding.held", incident=incident)
    return message("reason.holding.held_for", incident=incident, reason=quoted(held["reason"]))
