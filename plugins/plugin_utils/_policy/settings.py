# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery settings (the outage_recover_* variables), their conversion, and their valid values.

Values from the command line are strings. Values from the inventory have their native type. Both forms are accepted. An
invalid value is rejected before any action. If the default were used instead, the recovery would perform actions that
no one requested.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS

PREFIX = "outage_recover_"

SEVERITIES = ("none", "degraded", "warning", "critical", "emergency")
STRATEGIES = ("free", "host_pinned", "linear", "debug")

# Maximum number of characters of an invalid value that are shown.
_SHOWN = 80
# The play reads these variables directly. They are not settings.
_OF_THE_PLAY = ("hosts",)
# If one of these options is given, ansible-playbook runs no tasks.
_ONLY_SHOW = ("syntax", "listhosts", "listtasks", "listtags")
_REFUSED_PART = (
    "{option} '{value}' would skip tasks of the playbook, which is not safe: nothing was done. Run the whole "
    "playbook without {option}; use outage_recover_rungs to choose the steps of recovery, or --check to change nothing."
)
_REFUSED_LIMIT = (
    "{why}: nothing was done. outage_recover_single_host is true, so --limit must be the name of one host of {hosts}; "
    "a group, a pattern or a list is not allowed."
)
# If a name is at least this similar to a setting's name (one or two letters differ), it is treated as a typo.
_ALIKE = 0.85


def ladder(highest: Any = None) -> List[str]:
    """Return the rungs up to `highest`.

    If `highest` is empty, return all rungs. If no rung has this name, return an empty list.
    """
    if highest in (None, ""):
        return list(RUNGS)
    return list(RUNGS[: RUNGS.index(highest) + 1]) if highest in RUNGS else []


def setting(value: Any, name: str) -> Any:
    """Return the converted value of outage_recover_<name>, or its default if the value is None or invalid."""
    known = SETTINGS[name]
    if value is None:
        return known.default
    try:
        return known.read(value)
    except _Refused:
        return known.default


def problems(given: Mapping[str, Any], names: Iterable[str] = ()) -> List[str]:
    """Return a sentence for each invalid setting. given: values by name without PREFIX.

    names: the names of variables. A name that begins with PREFIX and is similar to the name of a setting is rejected.
    Such a name is probably a typo, so the intended setting would not be set. Other names are ignored.
    """
    known = (*SETTINGS, *_OF_THE_PLAY)
    found: List[str] = []
    ours = {name[len(PREFIX) :] for name in names if name.startswith(PREFIX)}
    for name in sorted(ours.difference(known)):
        for meant in difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
            found.append(f"{PREFIX}{name} is not a setting. Use {PREFIX}{meant} instead")
    for name, value in given.items():
        if value is None:
            continue
        try:
            SETTINGS[name].read(value)
        except _Refused as refused:
            verb = "is" if refused.value == value else "contains"
            found.append(f"{PREFIX}{name} {verb} {_shown(refused.value)}: must be {SETTINGS[name].allowed}")
    return found


def partial(options: Mapping[str, Any]) -> str:
    """Return the reason why these ansible-playbook options are refused. If they do not skip tasks, return "".

    An option that only shows the playbook, such as --list-tasks, is accepted, because it runs no tasks.
    """
    if any(options.get(name) for name in _ONLY_SHOW):
        return ""
    given = [("--start-at-task", options.get("start_at_task"))]
    given += [("--skip-tags", ",".join(options.get("skip_tags") or []))]
    # If the --tags option is not given, Ansible sets the tag "all".
    tags = list(options.get("tags") or ["all"])
    given += [("--tags", "" if "all" in tags else ",".join(tags))]
    return " ".join(_REFUSED_PART.format(option=option, value=value) for option, value in given if value)


def single_host(wanted: Any, *, limit: Any, hosts: Any, groups: Mapping[str, Sequence[str]], members: Any) -> str:
    """Return the reason why a run is refused because of its hosts, or an empty string if the run is accepted.

    - wanted: the value of outage_recover_single_host. limit: the value of --limit.
    - hosts: the play's host pattern. members: the names of the hosts that this pattern selects.
    - groups: the hosts of each group in the inventory.
    """
    try:
        if wanted is None or not SETTINGS["single_host"].read(wanted):
            return ""
    except _Refused as refused:
        return f"outage_recover_single_host is {_shown(refused.value)}: must be {SETTINGS['single_host'].allowed}"
    if not limit and len(members) == 1:
        return ""
    if not limit:
        why = "--limit is missing"
    elif limit in groups:
        why = f"--limit {_shown(limit)} is a group of the inventory"
    elif limit not in groups.get("all", ()):
        why = f"--limit {_shown(limit)} is not a host of the inventory"
    elif limit not in members:
        why = f"--limit {_shown(limit)} is not a host of {_shown(hosts)}"
    else:
        return ""
    return _REFUSED_LIMIT.format(why=why, hosts=_shown(hosts))


class _Refused(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _shown(value: Any) -> str:
    told = f"'{value}'"
    return told if len(told) <= _SHOWN else f"{told[: _SHOWN - 2]}…'"


def _listed(value: Any) -> List[Any]:
    """Return the items of a list. A string may contain a list, or items that are separated by commas."""
    if isinstance(value, str):
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise _Refused(value) from error
        if read is None:
            raise _Refused(value)
        return [part.strip() for part in read.split(",")] if isinstance(read, str) else _listed(read)
    if isinstance(value, (list, tuple)):
        return [member for part in value for member in _listed(part)]
    return [value]


def _names_of(allowed: Sequence[str]) -> Callable[[Any], List[str]]:
    def read(value: Any) -> List[str]:
        names = _listed(value)
        for name in names:
            if name not in allowed:
                raise _Refused(name)
        return names

    return read


def _highest(value: Any) -> str:
    if value != "" and value not in RUNGS:
        raise _Refused(value)
    return str(value) or RUNGS[-1]


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise _Refused(value) from error
    if isinstance(value, bool) or not math.isfinite(seconds) or seconds < 0:
        raise _Refused(value)
    return seconds


def _whole_seconds(value: Any) -> int:
    seconds = _seconds(value)
    if seconds != int(seconds):
        raise _Refused(value)
    return int(seconds)


def _serial(value: Any) -> Any:
    batches = _listed(value) if isinstance(value, (list, tuple)) or str(value).startswith("[") else [value]
    for batch in batches:
        matched = None if isinstance(batch, bool) else re.fullmatch(r"0*([1-9][0-9]*)(%?)", str(batch))
        if not matched or (matched[2] and int(matched[1]) > 100):
            raise _Refused(batch)
    if not batches:
        raise _Refused(value)
    return batches if len(batches) > 1 else batches[0]


def _strategy(value: Any) -> str:
    if re.sub(r"\Aansible\.builtin\.", "", str(value)) not in STRATEGIES:
        raise _Refused(value)
    return str(value)


def _one_of(allowed: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise _Refused(value)
        return str(value)

    return read


def _flag(value: Any) -> bool:
    named = str(value).lower()
    if named in ("true", "yes", "on", "1"):
        return True
    if named in ("false", "no", "off", "0", ""):
        return False
    raise _Refused(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Refused(value)
    return str(value)


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Refused(value)
    return value


@dataclasses.dataclass(frozen=True)
class _Setting:
    """A setting. read: converts a value, and raises _Refused for a value that is not allowed."""

    default: Any
    read: Callable[[Any], Any]
    allowed: str


_ACTED_ON: Tuple[str, ...] = ("critical", "emergency")

SETTINGS: Dict[str, _Setting] = {
    "rungs": _Setting(list(RUNGS), _names_of(RUNGS), f"one of {', '.join(RUNGS)}"),
    "highest_rung": _Setting(RUNGS[-1], _highest, f"one of {', '.join(RUNGS)}"),
    "act_on": _Setting(list(_ACTED_ON), _names_of(SEVERITIES), f"one of {', '.join(SEVERITIES)}"),
    "wait": _Setting(0.0, _seconds, "0 or more seconds"),
    "reconnect": _Setting(60.0, _seconds, "0 or more seconds"),
    "task_timeout": _Setting(3600, _whole_seconds, "a whole number of seconds, or 0 for no limit"),
    "serial": _Setting("100%", _serial, "a number of hosts (1 or more), a percentage such as 20%, or a list of these"),
    "strategy": _Setting("free", _strategy, f"one of {', '.join(STRATEGIES)}"),
    "continued": _Setting(False, _flag, "true or false"),
    "reason": _Setting("", _text, "text"),
    "ticket": _Setting("", _text, "text"),
    "single_host": _Setting(False, _flag, "true or false"),
    # If False, triage looks for the cause before the service is started.
    "first_response": _Setting(True, _flag, "true or false"),
    "data_in_doubt": _Setting("hold", _one_of(("hold", "serve")), "hold or serve"),
    "unreachable_dir": _Setting("~/.local/state/itsm-runbook/unreachable", _path, "the path of a folder"),
}
