# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send the growing timeline of a run to the host, and get the timelines of earlier runs from the host.

An action plugin sends the lines that were added since its last call. The plugin runs in a separate process, so it
reads these lines from the run's timeline file. The timeline also shows how many lines the host already has: if a task
saved lines, its entry contains this number.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import run_timeline
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import (
    allowlist,
    kinds,
    recorder,
    task_result,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events

SAVED = task_result.SAVED
# Maximum size of the lines in one call, in bytes.
_LARGEST = run_timeline.LARGEST // 4
# Kinds of events that describe the run as a whole, not a single host.
_OF_RUN = (b'"kind":"run_start"', b'"kind":"play_start"')
_TIMES = ("at", "start")
_TEXTS = ("task", "role", "action", "status", "msg", "name", "playbook", "core", "job")
_FLAGS = ("check", "hidden")
_NUMBERS = ("duration", "attempts")
_KINDS = ("run_start", "play_start", "started", "task", "retry", "unreachable", "outcome")


class Part(NamedTuple):
    """New lines in a timeline: the compressed lines, and the number of lines on the host after it receives them."""

    packed: str
    lines: int


def part(host: str) -> Optional[Part]:
    """Return the lines of the current run's timeline that a host does not have yet, or None if there are none."""
    path = recorder.current_path()
    if path is None:
        return None
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError:
        return None
    lines = _of_host(data, host)
    begin = _saved(lines)
    size, end = 0, begin
    # Omit a line that is too long. Otherwise, the host would never receive the lines after this line.
    while end < len(lines) and size + _size(lines[end]) <= _LARGEST:
        size += _size(lines[end])
        end += 1
    if end == begin:
        return None
    new = [line for line in lines[begin:end] if _size(line)]
    name = os.path.basename(path)[: -len(timeline_events.SUFFIX)]
    return Part(run_timeline.pack(name, b"".join(line + b"\n" for line in new)), end)


def _size(line: bytes) -> int:
    """Return the size of a line in the text before compression, or 0 if the line is too long."""
    return len(line) + 1 if len(line) < _LARGEST else 0


def _of_host(data: bytes, host: str) -> List[bytes]:
    """Return the complete lines that are about a host or about the run as a whole."""
    of_host = b'"host":' + json.dumps(host, ensure_ascii=False).encode("utf-8", "replace")
    return [
        line
        for line in data.split(b"\n")[:-1]
        if of_host in line or (any(kind in line for kind in _OF_RUN) and b'"host":' not in line)
    ]


def _saved(lines: Sequence[bytes]) -> int:
    for line in reversed(lines):
        if f'"{SAVED}":'.encode() in line:
            for event in timeline_events.decode(line):
                if isinstance(event.get(SAVED), int):
                    return min(int(event[SAVED]), len(lines))
    return 0


def known(folder: str, host: str) -> List[str]:
    """Return the names of the timelines in a folder that contain lines about a host."""
    mine = _suffix(host)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    complete = [name[: -len(timeline_events.SUFFIX)] for name in names if name.endswith(timeline_events.SUFFIX)]
    return [name[: -len(mine)] if name.endswith(mine) else name for name in complete]


def keep(folder: str, host: str, timelines: Any) -> None:
    """Save the timelines from a host in a folder. Raises OSError.

    Timelines that are invalid or exceed the limits are skipped. The limits are the same as on the host.
    """
    left = run_timeline.LARGEST_OF_INCIDENT
    for each in timelines[: run_timeline.MOST_OF_INCIDENT] if isinstance(timelines, list) else []:
        name, _separator, text = str(each.get("data") if isinstance(each, dict) else "").partition(":")
        if not run_timeline.NAME.fullmatch(name):
            continue
        try:
            data = run_timeline.unpack(text)
        except run_timeline.TimelineError:
            continue
        left -= len(data)
        if left < 0:
            return
        events = accepted(data, run=name, host=host)
        if events:
            atomic_files.private_folder(folder)
            content = b"".join(map(timeline_events.encode, events))
            atomic_files.write_atomically(os.path.join(folder, name + _suffix(host) + timeline_events.SUFFIX), content)


def _suffix(host: str) -> str:
    return "." + hashlib.sha256(host.encode("utf-8", "replace")).hexdigest()[:12]


def accepted(data: bytes, *, run: str, host: str) -> List[timeline_events.Event]:
    """Return the allowed events of this run and host, without duplicates.

    The host is not trusted, so the rules for recording are applied again to every value. These rules also remove
    control characters and credentials.
    """
    picked = (_event(event, host) for event in timeline_events.decode(data) if event["run"] == run)
    unique = {timeline_events.encode(event): event for event in picked if event is not None}
    return list(unique.values())


def _event(event: Mapping[str, Any], host: str) -> Optional[timeline_events.Event]:
    if event.get("kind") not in _KINDS or event.get("host") not in (None, host):
        return None
    kept: Dict[str, Any] = {"v": timeline_events.VERSION, "run": event["run"], "kind": event["kind"]}
    if "host" in event:
        kept["host"] = host
    elif event["kind"] not in ("run_start", "play_start"):
        return None
    for kind, names in ((kinds.TEXT, (*_TIMES, *_TEXTS)), (kinds.FLAG, _FLAGS), (kinds.NUMBER, _NUMBERS)):
        kept.update({name: kinds.pick(kind, event[name]) for name in names if name in event})
    data = event.get("data")
    if isinstance(data, dict):
        of_outcome = event["kind"] == "outcome"
        kept["data"] = (
            kinds.pick(allowlist.OUTCOME, data) if of_outcome else allowlist.of_result(str(kept.get("action")), data)
        )
    if event["kind"] == "outcome" and "data" not in kept:
        return None
    return kept if kept.get("at") else None
