# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a triage, in the form that the rules of a cause use.

Facts describe the present. Texts (of logs, of systemd) describe the past. If they disagree, the facts count.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns

# Free space below which writes are about to fail. For bytes it is the smaller one of a share and an amount, so that
# neither a small nor a large file system raises a false alarm.
_FULL_SHARE = 0.01
_FULL_BYTES = 8 * 1024 * 1024
_FULL_INODES = 16
# Free space that ends the danger. The service reports ready only if a tenth of its disk is free.
_ROOM_SHARE = 0.1
_ROOM_BYTES = 1024**3
_ROOM_INODES = 10000

# Share of the host's memory for the service, and share of that for V8's old space. The rest is memory outside the heap.
_SERVICE_SHARE = 0.75
_HEAP_SHARE = 0.75
_MORE = 1.5
_LEAST_MEMORY = 128 * 1024 * 1024

# Problems of the database that have their own causes, or are no damage.
_NO_DAMAGE = ("locked", "schema_too_new")
# Problems that prevent reading the database. They do not concern its content.
_NOT_OPENED = ("Permission denied", "Operation not permitted", "unable to open database file", "Too many open files")

SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 9: "KILL", 11: "SEGV", 15: "TERM"}
# Signals that somebody sends. A process causes the other ones itself.
SENT = ("HUP", "INT", "QUIT", "KILL", "TERM")
_BY_SIGNAL = re.compile(r"code=(?:killed|dumped), status=\d+/(\w+)")
# Maximum seconds between a line of the kernel and a line of systemd about the same end.
_SAME_END = 30.0

_ENDED = re.compile(r"code=(exited|killed|dumped), status=(\d+)")
# A process that ends within so many seconds has failed to start.
_START_SECONDS = 20.0

# Maximum number of the unit's ends that triage collects.
_MOST_EXITS = 20

_MODULE = re.compile(r"Cannot find (?:module|package) '([^']+)'(?:[^\n]*\nRequire stack:\n\s*- (\S+))?")
_NATIVE = re.compile(r"ERR_DLOPEN_FAILED|invalid ELF header|NODE_MODULE_VERSION|Could not locate the bindings file")
_PACKAGE = re.compile(r"node_modules/((?:@[^/\s]+/)?[^/\s]+)/")
_NATIVE_PACKAGE = re.compile(_PACKAGE.pattern + r"[^\s']*\.node\b")
_FRAME = re.compile(r"(?:\S+ \S+: )?\s+at .")
_OF_MANAGER = re.compile(r"^\S+ systemd(?:\[\d+\])?: ")
_LAST_WORD = re.compile(
    r"\b(?:error|fatal|critical|panic|emerg|cannot|could not|failed|failure|refusing)\b|(?:Error|Exception)\b"
    r'|"level":[56]0',
    re.IGNORECASE,
)
# A TLS peer that answers with an alert or in plain text does answer.
_TLS_ANSWER = re.compile(r"\[SSL: (?!UNEXPECTED_EOF)")


def says(source: str, text: Any) -> Dict[str, str]:
    """Return a piece of evidence: its source and its text."""
    return {"source": source, "text": str(text)[:500]}


def _inside(path: str, folder: str) -> bool:
    """Return True if path is folder or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class View:
    """The facts. A part that was not reached is empty."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """Wrap the facts of a pass."""
        self._facts = facts

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part's facts."""
        found = self._facts.get(name)
        return found if isinstance(found, Mapping) else {}

    def items(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Return the facts of a part that is a list."""
        found = self._facts.get(name)
        return found if isinstance(found, list) else []

    @property
    def gone(self) -> bool:
        """True if the service has no process."""
        return self.part("process").get("state") == "gone"

    @property
    def processes(self) -> Sequence[Mapping[str, Any]]:
        """The service's processes."""
        found: Sequence[Mapping[str, Any]] = self.part("process").get("processes") or []
        return found

    @property
    def waiting(self) -> List[Mapping[str, Any]]:
        """The ports that matter, have a listener, and give no answer."""
        ports = [self.part("answer").get(name) or {} for name in ("https", "http")]
        return [
            facts
            for facts in ports
            if facts.get("listening", True)
            and not facts.get("answered", True)
            and not _TLS_ANSWER.search(facts.get("error") or "")
        ]

    @property
    def silent(self) -> bool:
        """True if the process exists and a port that matters gives no answer."""
        return not self.gone and bool(self.waiting)

    @property
    def unserved(self) -> List[str]:
        """The schemes whose port has no listener."""
        return [name for name in ("https", "http") if self.part("answer").get(name, {}).get("listening") is False]

    @property
    def own_ports(self) -> Set[int]:
        """The ports that the service itself listens on."""
        return {item["port"] for item in self.items("ports") if any(owner["ours"] for owner in item["owners"])}

    @property
    def main_port(self) -> int:
        """The port of the users: the HTTPS port if there is one."""
        service = self.part("service")
        return int(service.get("https_port") or service.get("http_port") or 0)

    @property
    def proven(self) -> bool:
        """True if the listener of that port is known to be the service."""
        there = [item for item in self.items("ports") if item["port"] == self.main_port]
        return bool(there) and all(any(owner["ours"] for owner in item["owners"]) for item in there)

    @property
    def health(self) -> Mapping[str, Any]:
        """The answer to the health request on that port; empty if it was not sent."""
        name = "https" if self.part("service").get("https_port") else "http"
        return next((item for item in self.items("health") if item["name"] == name), {})

    @property
    def misplaced(self) -> List[int]:
        """The configured ports that the service does not listen on."""
        service, ours = self.part("service"), self.own_ports
        wanted = [service.get(name) for name in ("https_port", "http_port")]
        return [port for port in wanted if port and port not in ours]

    @property
    def elsewhere(self) -> List[int]:
        """The ports the service serves on instead of the users' port.

        Each port is judged by itself. If the service listens on the other configured port, an additional port may serve
        any purpose. Only a port with TLS is then HTTPS in the wrong place, which rules out an unusable certificate.
        """
        service, ours = self.part("service"), self.own_ports
        configured = {service.get("https_port"), service.get("http_port")}
        if self.main_port in ours:
            return []
        return sorted(self.part("answer").get("tls_elsewhere") or ()) if ours & configured else sorted(ours)

    @property
    def restarted(self) -> bool:
        """True if systemd restarted the service within the window."""
        unit = self.part("unit")
        started = unit.get("started_at")
        return bool(unit.get("restarts")) and bool(started) and str(started) >= self.since

    @property
    def down(self) -> bool:
        """True if the service does not serve."""
        return self.gone or self.silent or bool(self.unserved)

    @property
    def unwell(self) -> bool:
        """True if the service does not serve, or its health answer is bad."""
        return self.down or self.health.get("ok") is False

    @property
    def troubled(self) -> bool:
        """True if the service does not serve, or ended within the window."""
        return self.down or self.restarted

    @property
    def since(self) -> str:
        """The start of the window: older log lines do not count."""
        return str(self.part("window").get("since") or "")

    @property
    def served_at(self) -> str:
        """The time of the last successful request; empty if unknown."""
        return max(self.part(source).get("last_success_at") or "" for source in ("log", "journal"))

    @property
    def exits(self) -> Sequence[Mapping[str, Any]]:
        """The ends of the main process within the window, from systemd's lines; requested stops are left out."""
        journal = self.part("journal")
        asked = [item["at"] for item in journal.get("stops") or () if item["text"].startswith("Stopping ")]
        started = [item["at"] for item in journal.get("starts") or ()]
        found, before = [], ""
        for item in journal.get("exits") or ():
            # An ordered stop has no line for the end of the process. The next start closes that request.
            before = max([before, *(at for at in started if at <= item["at"])])
            if not any(before < at <= item["at"] for at in asked):
                found.append(item)
            before = item["at"]
        return found

    @property
    def last_fall(self) -> str:
        """The journal's text about the latest end of the main process, if systemd has started it again."""
        return str(self.exits[-1]["text"]) if self.exits and self.restarted else ""

    @property
    def signal(self) -> str:
        """The signal that ended the main process last; empty if there was none, or if it is unknown."""
        unit = self.part("unit")
        if self.gone:
            status = unit.get("exit_status") or 0
            return SIGNALS.get(status, str(status)) if unit.get("exit_code") in ("killed", "dumped") else ""
        fall = _BY_SIGNAL.search(self.last_fall)
        return fall.group(1) if fall else ""

    @property
    def given_up(self) -> bool:
        """True if systemd ended the process after a timeout."""
        results = self.part("journal").get("results") or [{"text": ""}]
        told = str(results[-1]["text"]) if self.restarted else f"'{self.part('unit').get('result')}'"
        return any(f"'{name}'" in told for name in ("timeout", "watchdog"))

    @property
    def ended_by_others(self) -> bool:
        """True if somebody ended the process, so that its own errors are not the reason."""
        return (self.gone and bool(self.asked)) or (self.signal in SENT and not self.given_up)

    def ended_at(self, at: Optional[str]) -> bool:
        """Return True if the main process may have ended at that instant, also if its end is unknown."""
        known = [self.part("unit").get("exited_at"), *(item["at"] for item in self.exits)]
        ends = [timestamps.epoch(end) for end in known if end]
        return not at or not ends or any(abs(timestamps.epoch(at) - end) <= _SAME_END for end in ends)

    @property
    def last_exit(self) -> Tuple[str, int, str]:
        """The last end of the main process: code, status and time; "" and 0 if unknown.

        The journal is used if the unit has no value: systemd forgets an end when somebody stops or starts the unit.
        """
        unit = self.part("unit")
        code, status = unit.get("exit_code"), unit.get("exit_status")
        if code and (code != "exited" or status):
            return str(code), int(status or 0), str(unit.get("exited_at") or "")
        ends = [item for item in self.exits if item["at"] > self.served_at]
        told = _ENDED.search(str(ends[-1]["text"])) if ends and (self.gone or self.restarted) else None
        return (told.group(1), int(told.group(2)), str(ends[-1]["at"])) if told else ("", 0, "")

    @property
    def failed_starts(self) -> int:
        """Number of successive starts that ended within seconds, since the service last served."""
        starts = [item["at"] for item in self.part("journal").get("starts") or ()]
        count = 0
        for item in reversed(self.exits):
            begun = max((at for at in starts if at <= item["at"]), default="")
            short = begun and timestamps.epoch(item["at"]) - timestamps.epoch(begun) <= _START_SECONDS
            if not short or item["at"] <= self.served_at:
                break
            count += 1
        return count

    def changed_since(self, changed_at: Optional[str]) -> bool:
        """Return True if something was changed after the service last ended: its next start may differ."""
        ends = [self.part("unit").get("exited_at"), self.last_exit[2], *(item["at"] for item in self.exits[-1:])]
        return bool(changed_at) and str(changed_at) > max((str(end) for end in ends if end), default="9")

    @property
    def falls(self) -> int:
        """Number of failures since the service last served."""
        since = [item for item in self.exits if item["at"] > self.served_at]
        counted: int = self.part("unit").get("restarts") or 0
        # systemd counts since a person last started the unit, which may be weeks ago. The journal is more exact.
        return max(len(since), counted) if self.blind or len(since) >= _MOST_EXITS else len(since)

    @property
    def blind(self) -> bool:
        """True if the journal has no entry."""
        journal = self.part("journal")
        return not (journal.get("lines") or journal.get("exits") or journal.get("stops"))

    @property
    def exited(self) -> bool:
        """True if the unit's process exited by itself with an error."""
        unit = self.part("unit")
        return unit.get("exit_code") == "exited" and unit.get("exit_status") != 0

    @property
    def asked(self) -> Sequence[Mapping[str, Any]]:
        """The journal's entries about requested stops of the unit since its last start."""
        started = self.part("unit").get("started_at") or ""
        stops = self.part("journal").get("stops") or ()
        return [item for item in stops if item["text"].startswith("Stopping ") and item["at"] >= started]

    @property
    def age(self) -> float:
        """Seconds since the oldest process of the service started; 0 if there is none."""
        until = self.part("window").get("until")
        started = [item["started_at"] for item in self.processes]
        return timestamps.epoch(until) - timestamps.epoch(min(started)) if started and until else 0.0

    def signature(self, name: str) -> List[Dict[str, str]]:
        """Return the evidence for a known error pattern in log and journal."""
        found = []
        for source in ("log", "journal"):
            hit = (self.part(source).get("signatures") or {}).get(name)
            if hit:
                times = f"{hit['count']} times, first: " if hit["count"] > 1 else ""
                found.append(says(self.part(source).get("path", source), times + hit["text"]))
        return found

    def exceptions(self) -> List[Tuple[str, Mapping[str, Any]]]:
        """Return (source, exception) of exceptions that ended the process, or with which the log ends."""
        return [
            (self.part(source).get("path", source), item)
            for source in ("log", "journal")
            for item in self.part(source).get("exceptions") or ()
            if item["fatal"] or (item["last"] and (self.gone or self.restarted))
        ]

    def last_word(self) -> Optional[Tuple[str, str]]:
        """Return (source, line) if the service is gone and its log ends with an error."""
        started = self.part("unit").get("started_at") or ""
        for source in ("log", "journal"):
            facts = self.part(source)
            # The message stands above its stack.
            lines = [
                text
                for text in facts.get("lines") or ()
                if text.strip() and not _OF_MANAGER.match(text) and not _FRAME.match(text)
            ]
            if not lines or (source == "log" and (facts.get("written_at") or "") < self.since):
                continue
            at = log_patterns.instant(lines[-1])
            if _LAST_WORD.search(lines[-1]) and (at is None or timestamps.iso(at) >= max(started, self.since)):
                return str(facts.get("path", source)), lines[-1].strip()
        return None

    def complaints(self) -> str:
        """Return all texts about why the service ended, for a rule that searches them for a word."""
        word = self.last_word()
        return "\n".join([*(item["message"] for _source, item in self.exceptions()), *(word[1:] if word else ())])

    def modules_missed(self) -> Tuple[Set[str], bool]:
        """Return the packages that Node cannot find or load, and whether packages are missing at all.

        The second value is False if only files of the application itself were not found.
        """
        packages: Set[str] = set()
        native = own_file = False
        for source in ("log", "journal"):
            facts = self.part(source)
            hit = (facts.get("signatures") or {}).get("module_missing")
            if not hit:
                continue
            lines = list(facts.get("lines") or ())
            # Earlier lines in the log belong to another start.
            first = next((number for number, line in enumerate(lines) if hit["text"] in line), len(lines))
            text = "\n".join([*lines[first:], hit["text"]])
            native = native or bool(_NATIVE.search(text))
            packages.update(_NATIVE_PACKAGE.findall(text) if native else ())
            for name, asked_by in _MODULE.findall(text):
                of_package = _PACKAGE.search(asked_by if name.startswith(".") else name)
                if of_package:
                    packages.add(of_package.group(1))
                elif name.startswith((".", "/")):
                    own_file = True
                else:
                    packages.add("/".join(name.split("/")[: 2 if name.startswith("@") else 1]))
        return packages, native or bool(packages) or not own_file

    def short_of_room(self) -> List[Dict[str, Any]]:
        """Return the full file systems, and how much must be freed on each so that it lasts for a while.

        what: bytes or inodes; wanted: how many to free; uses: purposes of the file system; held: bytes of deleted
        files that the service holds open there.
        """
        short: Dict[str, Dict[str, Any]] = {}
        for mount in self.items("disk"):
            # A read-only image (squashfs, ISO 9660) is always full.
            if not mount.get("size") or mount.get("read_only"):
                continue
            size, free = mount["size"], mount["available"]
            inodes, free_inodes = mount["inodes"], mount["inodes_available"]
            if free < min(size * _FULL_SHARE, _FULL_BYTES):
                what, wanted = "bytes", min(size * _ROOM_SHARE, _ROOM_BYTES) - free
            # If inodes are not counted (btrfs), their total is 0.
            elif free_inodes < min(inodes * _FULL_SHARE, _FULL_INODES):
                what, wanted = "inodes", min(inodes * _ROOM_SHARE, _ROOM_INODES) - free_inodes
            else:
                continue
            point = str(mount["mount"])
            names = ("mount", "path", "available", "size", "inodes_available", "inodes")
            known = {name: mount.get(name) for name in names}
            new: Dict[str, Any] = {**known, "what": what, "wanted": int(wanted), "uses": [], "held": self._held(point)}
            short.setdefault(point, new)["uses"].append(str(mount["use"]))
        return list(short.values())

    def _held(self, point: str) -> int:
        """Return the bytes of deleted files that the service holds open on the mount point."""
        points = {str(mount["mount"]) for mount in self.items("disk") if mount.get("mount")}
        return sum(
            item["size"] or 0
            for process in self.processes
            for item in process.get("deleted_files") or ()
            if max((each for each in points if _inside(item["path"], each)), key=len, default="") == point
        )

    def memory_sizes(
        self, *, rss: Optional[int] = None, heap: Optional[int] = None, bounded: bool = False
    ) -> Dict[str, Any]:
        """Return the measured memory, and limits with which both the service and the host can live.

        rss: bytes of the process when it was killed; heap: bytes of V8's heap when it was full; bounded: True if the
        limit of the unit was reached, not that of the host.
        """
        memory, unit = self.part("memory"), self.part("unit")
        group = memory.get("control_group") or {}
        total, limit = memory.get("total") or 0, unit.get("memory_max")
        peaks = [size for size in (rss, group.get("peak"), unit.get("memory_peak")) if isinstance(size, int)]
        used = sum(process.get("rss") or 0 for process in self.processes)
        # Memory that the other processes leave free now.
        room = min(total * _SERVICE_SHARE, ((memory.get("available") or 0) + used) * 0.9)
        memory_max: Optional[int] = None
        if bounded and limit:
            memory_max = int(limit * _MORE) if limit * _MORE <= room else None
        elif heap is None and room >= _LEAST_MEMORY:
            memory_max = int(min(room, limit or room))
        old_space = int((memory_max or limit or room) * _HEAP_SHARE) >> 20
        if heap is not None:
            more = int(heap * _MORE) >> 20
            old_space = more if more <= old_space else 0
        return {
            "measured": {
                "total": total or None,
                "available": memory.get("available"),
                "swap_free": memory.get("swap_free"),
                "memory_max": limit,
                "peak": max(peaks, default=None),
                "heap": heap,
                "max_old_space_size": self.part("environment").get("max_old_space_size"),
            },
            "proposal": {"memory_max": memory_max, "max_old_space_size": old_space or None},
        }

    def tls_fault(self) -> str:
        """Return the problem of certificate and key on disk, empty if none is known."""
        file = self.part("certificate")
        key = file.get("key") or {}

        def unusable(facts: Mapping[str, Any]) -> bool:
            # This account may fail to read or decrypt a file that the service's user can read.
            error = facts.get("error") or "" if facts.get("exists") else ""
            return bool(error) and not any(words in error for words in ("Permission denied", "passphrase"))

        faults = {
            "missing": file.get("exists") is False,
            "unreadable": file.get("readable_by_service") is False or unusable(file),
            "key_missing": key.get("exists") is False,
            "key_unreadable": key.get("readable") is False or (key.get("matches") is None and unusable(key)),
            "key_mismatch": key.get("matches") is False,
            "expired": bool(file.get("expired")),
            "not_yet_valid": bool(file.get("not_yet_valid")),
        }
        return next((name for name, so in faults.items() if so), "")

    def database_problems(self) -> Tuple[List[Mapping[str, Any]], List[Mapping[str, Any]]]:
        """Return (damages, reasons why the database was not opened). The reasons do not concern its content."""
        problems = [
            item
            for item in self.part("database").get("problems") or ()
            if item.get("level", "error") == "error" and item["code"] not in _NO_DAMAGE
        ]
        unread = [
            item
            for item in problems
            if item["code"] == "changing"
            or (item["code"] == "unreadable" and any(words in item["message"] for words in _NOT_OPENED))
        ]
        return [item for item in problems if item not in unread], unread

    def host_stayed_up(self) -> List[Dict[str, str]]:
        """Return evidence that the host did not go down since the service last wrote to its log."""
        booted, written = self.part("window").get("booted_at"), self.part("log").get("written_at")
        if not booted or not written or written <= booted:
            return []
        return [says("process 1", f"started at {booted}, and the service wrote to its log after that, until {written}")]

    def no_out_of_memory(self) -> List[Dict[str, str]]:
        """Return evidence that the kernel killed no process because of low memory."""
        kernel = self.part("kernel")
        if not kernel.get("source") or kernel.get("out_of_memory"):
            return []
        return [says(str(kernel["source"]), "tells of no process that was killed for want of memory")]

    def unit_ending(self) -> List[Dict[str, str]]:
        """Return systemd's texts about how the unit's process ended."""
        unit = self.part("unit")
        if unit.get("result") is None:
            return []
        text = f"{unit.get('active_state')} ({unit.get('sub_state')}), Result={unit['result']}"
        if unit.get("exit_code"):
            status = unit.get("exit_status")
            name = SIGNALS.get(status or 0, status) if unit["exit_code"] != "exited" else status
            text += f", main process {unit['exit_code']}, status {name}"
        return [says(f"systemctl show {unit.get('name')}", text)]
