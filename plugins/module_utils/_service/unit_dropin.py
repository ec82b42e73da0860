# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Set a unit's memory limit, heap size and variables with a drop-in, permanently or until a given time.

Variables are in a separate file, which the drop-in references with EnvironmentFile=. Such files override every
Environment= setting (systemd.exec(5)), and later files override earlier ones. systemd reads the drop-in's variable file
after the unit's own variable files. After each change, this code checks that systemd uses the settings.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import time
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError

FOLDER = "/etc/systemd/system"
# Name of the drop-in that turns off HTTPS for a limited time.
HTTPS = "https"
# Prefix for the names of drop-ins that set limits and variables.
PREFIX = "90-itsm-nexus"
_TIMER_PREFIX = "itsm-nexus-expiry"
_PROPERTIES = ("LoadState", "ExecStart", "MemoryMax", "Environment", "EnvironmentFiles")
_TIMEOUT = 60.0
_UNIT = lazy(r"[A-Za-z0-9@._:-]+")
_NAME = lazy(r"[a-z][a-z0-9-]*")
# V8 also accepts _ instead of - in its options, and a value after = or a space.
_HEAP = lazy(r"\s*--max[-_]old[-_]space[-_]size(?:=|\s+)\d+")
_INSTANT = lazy(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z")
_HEADER = "# Written by itsm_nexus.runbook (unit_dropin), and removed by it.\n"


class UnitDropinError(ServiceError):
    """A parameter is invalid, systemd does not answer, or the drop-in has no effect."""


class Dropin(NamedTuple):
    """The settings to apply to the unit. Each field contains the parameter of the same name."""

    unit: str
    name: str
    memory_max: int = 0
    max_old_space_size: int = 0
    environment: Mapping[str, str] = MappingProxyType({})
    until: str = ""

    @property
    def service(self) -> str:
        """The full name of the unit."""
        return self.unit if self.unit.endswith(".service") else f"{self.unit}.service"

    @property
    def wants_variables(self) -> bool:
        """True if the drop-in sets any variables."""
        return bool(self.environment or self.max_old_space_size)


class _Paths:
    """The files of a drop-in."""

    def __init__(self, dropin: Dropin, *, folder: str) -> None:
        own = f"{folder}/{dropin.service}.d/{PREFIX}-{dropin.name}"
        timer = f"{_TIMER_PREFIX}-{dropin.service[: -len('.service')].replace('@', '-')}-{dropin.name}"
        self.conf, self.variables = f"{own}.conf", f"{own}.env"
        self.timer_name = f"{timer}.timer"
        self.timer, self.service = f"{folder}/{timer}.timer", f"{folder}/{timer}.service"

    def all(self) -> Tuple[str, ...]:
        return (self.conf, self.variables, self.timer, self.service)


def _checked(dropin: Dropin, *, state: str) -> None:
    if not _UNIT.fullmatch(dropin.unit):
        raise UnitDropinError(f"unit is {dropin.unit!r}: must be the name of a service unit")
    if not _NAME.fullmatch(dropin.name):
        raise UnitDropinError(f"name is {dropin.name!r}: must consist of a-z, 0-9 and -")
    if state == "absent":
        return
    for name in ("memory_max", "max_old_space_size"):
        if getattr(dropin, name) < 0:
            raise UnitDropinError(f"{name} is {getattr(dropin, name)}: must be more than 0, or 0 for none")
    if not dropin.memory_max and not dropin.wants_variables:
        raise UnitDropinError("memory_max, max_old_space_size, environment: one of them must be given")
    for name, value in dropin.environment.items():
        if not env_file.NAME.match(name) or name == "NODE_OPTIONS" or re.search(r"[\x00-\x1f\"\\]", value):
            raise UnitDropinError(
                f"environment: {name}={value!r} must be a variable other than NODE_OPTIONS with one line of plain text"
            )
    if dropin.until and _ends(dropin.until) <= time.time():
        raise UnitDropinError(f"until is {dropin.until!r}: must be in the future")


def _ends(until: str) -> float:
    match = _INSTANT.fullmatch(until)
    if not match:
        raise UnitDropinError(f"until is {until!r}: must be a time in UTC such as 2026-03-02T05:00:00Z")
    try:
        moment = datetime.datetime.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S")
    except ValueError as error:
        raise UnitDropinError(f"until is {until!r}: {error}") from error
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


class _Systemd:
    """Sends queries and commands to systemd."""

    def __init__(self, *, run: commands.Runner) -> None:
        self._run = run

    def properties(self, dropin: Dropin) -> Dict[str, str]:
        try:
            found = systemd.unit_properties(dropin.service, _PROPERTIES, run=self._run)
        except procfs.HostError as error:
            raise UnitDropinError(error) from error
        if found.get("LoadState") != "loaded":
            about = {"unit": repr(dropin.unit), "state": str(found.get("LoadState"))}
            raise UnitDropinError(message("reason.process.unit_not_loaded", **about))
        return found

    def tell(self, *words: str) -> None:
        try:
            done = self._run(["systemctl", "--no-ask-password", *words], timeout=_TIMEOUT)
        except commands.CommandError as error:
            raise UnitDropinError(error) from error
        if not done.ok:
            command = " ".join(words)
            raise UnitDropinError(message("reason.dropin.systemctl", command=command, why=systemd.why_failed(done)))


def _with_sizes_given(dropin: Dropin, before: Mapping[str, str], paths: _Paths) -> Dropin:
    """Return the drop-in. If a size is not set, use the size from the drop-in's existing files.

    This way, a remedy for one cause does not undo an earlier remedy for another cause.
    """

    def given(pattern: str, path: str) -> int:
        found = re.search(pattern, before.get(path, ""))
        return int(found.group(1)) if found else 0

    return dropin._replace(
        memory_max=dropin.memory_max or given(r"(?m)^MemoryMax=(\d+)$", paths.conf),
        max_old_space_size=dropin.max_old_space_size
        or given(r'(?m)^NODE_OPTIONS=.*--max-old-space-size=(\d+)"$', paths.variables),
    )


def _without(properties: Mapping[str, str], path: str) -> Dict[str, str]:
    """Return the unit's properties without the drop-in's own variable file."""
    lines = [line for line in properties.get("EnvironmentFiles", "").splitlines() if path not in line]
    return {**properties, "EnvironmentFiles": "\n".join(lines)}


def _variables(dropin: Dropin, properties: Mapping[str, str], paths: _Paths) -> Dict[str, str]:
    wanted = dict(dropin.environment)
    if dropin.max_old_space_size:
        if _HEAP.search(f" {properties.get('ExecStart', '')}"):
            raise UnitDropinError(message("reason.dropin.heap_in_command", unit=dropin.service))
        present = env_file.unit_environment(_without(properties, paths.variables)).get("NODE_OPTIONS", "")
        kept = _HEAP.sub("", present).strip()
        wanted["NODE_OPTIONS"] = f"{kept} --max-old-space-size={dropin.max_old_space_size}".strip()
    return wanted


def _contents(dropin: Dropin, variables: Mapping[str, str], paths: _Paths) -> Dict[str, str]:
    """Return the required content of the files, keyed by path."""
    until = f"# Until {dropin.until}: {paths.timer_name} removes it then.\n" if dropin.until else ""
    lines = [f"MemoryMax={dropin.memory_max}\n"] if dropin.memory_max else []
    contents = {}
    if variables:
        lines.append(f"EnvironmentFile={paths.variables}\n")
        quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in variables.items()}
        contents[paths.variables] = _HEADER + "".join(f'{name}="{quoted[name]}"\n' for name in sorted(quoted))
    contents[paths.conf] = f"{_HEADER}{until}[Service]\n{''.join(lines)}"
    if dropin.until:
        contents.update(_expiry(dropin, paths))
    return contents


def _expiry(dropin: Dropin, paths: _Paths) -> Dict[str, str]:
    """Return the content of the timer and the service that remove the expired drop-in, keyed by path.

    This systemd service removes all files of the drop-in and restarts the unit.
    """
    systemctl = shutil.which("systemctl", path=procfs.STANDARD_PATH) or "/usr/bin/systemctl"
    moment = datetime.datetime.fromtimestamp(_ends(dropin.until), tz=datetime.timezone.utc)
    # One shell runs all commands, because systemd no longer knows this service after the daemon-reload.
    script = "; ".join(
        [
            f"{systemctl} disable --now {paths.timer_name}",
            f"rm -f {' '.join(paths.all())}",
            f"{systemctl} daemon-reload",
            f"{systemctl} try-restart --no-block {dropin.service}",
        ]
    )
    return {
        paths.timer: (
            f"{_HEADER}[Unit]\nDescription=End of {os.path.basename(paths.conf)} of {dropin.service}\n\n"
            f"[Timer]\nOnCalendar={moment:%Y-%m-%d %H:%M:%S} UTC\nAccuracySec=1s\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        ),
        paths.service: (
            f"{_HEADER}[Unit]\nDescription=Remove {os.path.basename(paths.conf)} of {dropin.service}\n\n"
            f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{script}'\n"
        ),
    }


def _present(paths: Sequence[str]) -> Dict[str, str]:
    """Return the content of the files that exist."""
    found = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                found[path] = stream.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UnitDropinError(message("reason.cannot.read", path=path, why=str(error.strerror))) from error
    return found


def _write(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    try:
        for path, text in after.items():
            if before.get(path) != text:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                # The variables may be from a file that only the service and root can read. systemd runs as root, so it
                # can read this file.
                mode = 0o600 if path.endswith(".env") else 0o644
                atomic_files.write_atomically(path, text.encode("utf-8"), mode=mode)
        for path in before:
            if path not in after:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    except OSError as error:
        raise UnitDropinError(message("reason.dropin.not_written", why=str(error))) from error


def _apply(before: Mapping[str, str], after: Mapping[str, str], paths: _Paths, *, manager: _Systemd) -> None:
    """Write the files and make systemd load them.

    The timer is started first, so that every active setting expires even if this process is killed.
    """
    if paths.timer in before and paths.timer not in after:
        manager.tell("disable", "--now", "--", paths.timer_name)
    if paths.timer in after:
        early = {path: text for path, text in after.items() if path != paths.conf}
        _write({path: text for path, text in before.items() if path in early}, early)
        manager.tell("daemon-reload")
        manager.tell("enable", "--", paths.timer_name)
        # Restart the timer, because a running timer would keep its old expiry time.
        manager.tell("restart", "--", paths.timer_name)
    _write(before, after)
    manager.tell("daemon-reload")


def _take_back(before: Mapping[str, str], paths: _Paths, *, manager: _Systemd) -> None:
    """Restore the unit's earlier state, as far as possible."""
    with contextlib.suppress(UnitDropinError):
        now = _present(paths.all())
        if paths.timer in now and paths.timer not in before:
            with contextlib.suppress(UnitDropinError):
                manager.tell("disable", "--now", "--", paths.timer_name)
        _write(now, before)
        manager.tell("daemon-reload")
        if paths.timer in before:
            manager.tell("restart", "--", paths.timer_name)


def _prove(dropin: Dropin, variables: Mapping[str, str], properties: Mapping[str, str]) -> None:
    """Raise UnitDropinError unless the drop-in's settings are in effect for the unit."""
    wrong: List[Message] = []
    if dropin.memory_max and properties.get("MemoryMax") != str(dropin.memory_max):
        # The kernel rounds memory limits to pages. While the unit is running, systemd shows the rounded limit.
        found = properties.get("MemoryMax", "")
        page = os.sysconf("SC_PAGE_SIZE")
        if not found.isdecimal() or int(found) // page != dropin.memory_max // page:
            wrong.append(message("reason.dropin.is", name="MemoryMax", found=found, wanted=dropin.memory_max))
    present = env_file.unit_environment(properties)
    wrong += [
        message("reason.dropin.is", name=name, found=repr(present.get(name)), wanted=repr(value))
        for name, value in variables.items()
        if present.get(name) != value
    ]
    if wrong:
        raise UnitDropinError(message("reason.dropin.no_effect", unit=dropin.service, why=wrong))


def is_there(unit: str, name: str, *, folder: str = FOLDER) -> bool:
    """Return True if the unit has a drop-in with the given name."""
    return os.path.exists(_Paths(Dropin(unit=unit, name=name), folder=folder).conf)


def ensure(
    dropin: Dropin,
    *,
    state: str,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
    folder: str = FOLDER,
) -> Dict[str, Any]:
    """Create, change or remove the drop-in, and return the result of the unit_dropin module.

    The service itself is not restarted. Raises UnitDropinError.
    """
    begun = time.monotonic()
    _checked(dropin, state=state)
    paths = _Paths(dropin, folder=folder)
    manager = _Systemd(run=run)
    properties = manager.properties(dropin)
    before = _present(paths.all())
    variables: Dict[str, str] = {}
    after: Dict[str, str] = {}
    if state == "present":
        dropin = _with_sizes_given(dropin, before, paths)
        variables = _variables(dropin, properties, paths)
        after = _contents(dropin, variables, paths)
    changed = before != after
    try:
        if changed and not check_mode:
            _apply(before, after, paths, manager=manager)
            properties = manager.properties(dropin)
        if not (check_mode and changed):
            _prove(dropin, variables, properties)
    except UnitDropinError:
        # Undo the change, because the settings have no effect or would never expire.
        if changed and state == "present":
            _take_back(before, paths, manager=manager)
        raise
    limit: Optional[str] = properties.get("MemoryMax")
    return {
        "changed": changed,
        "files": sorted(after),
        "memory_max": int(limit) if limit and limit.isdecimal() and int(limit) < 1 << 63 else None,
        "variables": variables,
        "until": timestamps.iso(_ends(dropin.until)) if after and dropin.until else None,
        "diff": {
            "before": "".join(f"{path}\n{text}" for path, text in sorted(before.items())),
            "after": "".join(f"{path}\n{text}" for path, text in sorted(after.items())),
        },
        "duration": round(time.monotonic() - begun, 3),
    }
