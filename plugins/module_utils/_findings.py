# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the facts of a triage mean: the causes of an outage, ranked.

One cause is one function and one row of the table at the end. A rule gets a L(View) of the facts and returns a
L(Finding), or nothing. To add a cause, write its rule, put it into the table, and give it a test.

A rule speaks only of what is so now or was so within the window, and never on a host where nothing is wrong.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock

# Room below which writes are about to fail: of bytes the smaller one of a share and an amount, so that neither a small
# nor a large file system raises a false alarm.
_FULL_SHARE = 0.01
_FULL_BYTES = 8 * 1024 * 1024
_FULL_INODES = 16
# Room with which it is out of danger again; the service calls itself ready only with a tenth of its disk free.
_ROOM_SHARE = 0.1
_ROOM_BYTES = 1024**3
_ROOM_INODES = 10000

# Of the host's memory for the service, and of the service's for V8's old space: the rest of it is outside the heap.
_SERVICE_SHARE = 0.6
_HEAP_SHARE = 0.75

# A process this young may still be starting.
_START_SECONDS = 20.0

_LOOP_FALLS = 3

RUNGS = ("restart", "standard_recovery", "clean_start_recovery")

_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 9: "KILL", 11: "SEGV", 15: "TERM"}
# Exit codes of processes that shells and Node end by a signal: 128 + number.
_ABORTED = (6, 134)

# Problems of the database that have causes of their own, or are no damage.
_NO_DAMAGE = ("locked", "schema_too_new")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A cause: how sure (0 to 1), in a sentence, what says so, what to do.

    C(remedy): what to do now; C(prevention): what to do against the next time. C(blocks_start): starting the service
    would do harm. C(useless_rungs): the rungs of the ladder that cannot mend it. C(details): for those who act on it.
    """

    confidence: float
    summary: str
    evidence: List[Dict[str, str]]
    remedy: str
    prevention: str = ""
    blocks_start: bool = False
    useless_rungs: Sequence[str] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cause: str = ""
    explained_by: Optional[str] = None

    @property
    def rungs_help(self) -> bool:
        """Whether a rung of the ladder can mend it at all."""
        return set(self.useless_rungs) != set(RUNGS)

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        return {
            **dataclasses.asdict(self),
            "useless_rungs": list(self.useless_rungs),
            "rungs_help": self.rungs_help,
        }


def _says(source: str, text: Any) -> Dict[str, str]:
    return {"source": source, "text": str(text)[:500]}


class View:
    """The facts as rules ask for them; a part that was not reached is empty."""

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
        """Whether the service has no process."""
        return self.part("process").get("state") == "gone"

    @property
    def processes(self) -> Sequence[Mapping[str, Any]]:
        """The service's processes."""
        found: Sequence[Mapping[str, Any]] = self.part("process").get("processes") or []
        return found

    @property
    def silent(self) -> bool:
        """Whether the process is there and a port that matters gives no answer."""
        return not self.gone and any(
            not self.part("answer").get(name, {}).get("answered", True) for name in ("https", "http")
        )

    @property
    def unserved(self) -> List[str]:
        """The schemes whose port nobody listens on."""
        return [name for name in ("https", "http") if self.part("answer").get(name, {}).get("listening") is False]

    @property
    def elsewhere(self) -> List[int]:
        """The ports the service listens on, where none of them is a configured one."""
        configured = {self.part("service").get("https_port"), self.part("service").get("http_port")}
        ports = {item["port"] for item in self.items("ports") if any(owner["ours"] for owner in item["owners"])}
        return [] if ports & configured else sorted(ports)

    @property
    def restarted(self) -> bool:
        """Whether systemd restarted the service within the window."""
        unit = self.part("unit")
        started = unit.get("started_at")
        return bool(unit.get("restarts")) and bool(started) and started >= self.part("window").get("since", "")

    @property
    def down(self) -> bool:
        """Whether the service does not serve."""
        return self.gone or self.silent or bool(self.unserved)

    @property
    def troubled(self) -> bool:
        """Whether the service does not serve, or fell within the window."""
        return self.down or self.restarted

    @property
    def served_at(self) -> str:
        """When a request was answered well for the last time; empty where nothing tells."""
        return max(self.part(source).get("last_success_at") or "" for source in ("log", "journal"))

    @property
    def last_fall(self) -> str:
        """What the journal says of the latest end of the main process, where systemd has started it again."""
        exits = self.part("journal").get("exits") or ()
        return str(exits[-1]["text"]) if exits and self.restarted else ""

    @property
    def falls(self) -> int:
        """How often the service fell since it last served."""
        exits = [item for item in self.part("journal").get("exits") or () if item["at"] > self.served_at]
        return max(len(exits), self.part("unit").get("restarts") or 0)

    @property
    def age(self) -> float:
        """Seconds since the oldest process of the service started; 0 where there is none."""
        until = self.part("window").get("until")
        started = [item["started_at"] for item in self.processes]
        return _clock.epoch(until) - _clock.epoch(min(started)) if started and until else 0.0

    def signature(self, name: str) -> List[Dict[str, str]]:
        """Return the evidence that log and journal hold of a known trouble."""
        found = []
        for source in ("log", "journal"):
            hit = (self.part(source).get("signatures") or {}).get(name)
            if hit:
                times = f"{hit['count']} times, first: " if hit["count"] > 1 else ""
                found.append(_says(self.part(source).get("path", source), times + hit["text"]))
        return found

    def exceptions(self) -> List[Tuple[str, Mapping[str, Any]]]:
        """Return (source, exception) of those that ended the process, or with which the log ends."""
        return [
            (self.part(source).get("path", source), item)
            for source in ("log", "journal")
            for item in self.part(source).get("exceptions") or ()
            if item["fatal"] or (item["last"] and (self.gone or self.restarted))
        ]

    def unit_ending(self) -> List[Dict[str, str]]:
        """Return what systemd says of how the unit's process ended."""
        unit = self.part("unit")
        if unit.get("result") is None:
            return []
        text = f"{unit.get('active_state')} ({unit.get('sub_state')}), Result={unit['result']}"
        if unit.get("exit_code"):
            status = unit.get("exit_status")
            name = _SIGNALS.get(status or 0, status) if unit["exit_code"] != "exited" else status
            text += f", main process {unit['exit_code']}, status {name}"
        return [_says(f"systemctl show {unit.get('name')}", text)]


def disk_full(view: View) -> Optional[Finding]:
    """A file system without room."""
    full = []
    for mount in view.items("disk"):
        if "size" not in mount or not mount["size"]:
            continue
        if mount["available"] < min(mount["size"] * _FULL_SHARE, _FULL_BYTES):
            full.append((mount, f"{mount['available']} of {mount['size']} bytes free"))
        elif mount["inodes"] and mount["inodes_available"] < min(mount["inodes"] * _FULL_SHARE, _FULL_INODES):
            full.append((mount, f"{mount['inodes_available']} of {mount['inodes']} inodes free"))
    said = view.signature("disk_full") if view.troubled or full else []
    if not full and not said:
        return None
    points = sorted({str(mount["mount"]) for mount, _text in full})
    where = ", ".join(points) if points else "a file system"
    return Finding(
        confidence=0.97 if full and said else 0.9 if full else 0.6,
        summary=f"There is no room left on {where}."
        if full
        else "Writes failed for want of room; there is room again.",
        evidence=[_says(f"{mount['mount']} ({mount['use']})", text) for mount, text in full] + said,
        remedy=f"Make room on {where}: rotated logs, the npm cache, old backups. Never the database, its -wal or -shm.",
        useless_rungs=RUNGS if full else (),
        details={"mounts": [_mount_details(mount) for mount, _text in full]},
    )


def _mount_details(mount: Mapping[str, Any]) -> Dict[str, Any]:
    """What there is on a file system without room, and how much must go so that it has some for a while."""
    what = "bytes" if mount["available"] < min(mount["size"] * _FULL_SHARE, _FULL_BYTES) else "inodes"
    wanted = (
        min(mount["size"] * _ROOM_SHARE, _ROOM_BYTES) - mount["available"]
        if what == "bytes"
        else min(mount["inodes"] * _ROOM_SHARE, _ROOM_INODES) - mount["inodes_available"]
    )
    return {
        **{name: mount.get(name) for name in ("mount", "path", "available", "size", "inodes_available", "inodes")},
        "what": what,
        "wanted": max(0, int(wanted)),
    }


def oom_kill(view: View) -> Optional[Finding]:
    """The kernel's out-of-memory killer took the process."""
    if not view.troubled:
        return None
    unit = view.part("unit")
    by_unit = view.unit_ending() if unit.get("result") == "oom-kill" else []
    results = view.part("journal").get("results") or ()
    if view.restarted and results and "'oom-kill'" in results[-1]["text"]:
        by_unit = [_says("journal", results[-1]["text"])]
    pids = {unit.get("last_pid")} - {None, 0}
    lines: List[Dict[str, str]] = []
    others: List[Dict[str, str]] = []
    for line in view.part("kernel").get("out_of_memory") or ():
        if line["pid"] is None:
            continue
        ours = line["pid"] in pids or (line["name"] or "").startswith(("node", "MainThread"))
        (lines if ours else others).append(_says(view.part("kernel").get("source", "kernel log"), line["text"]))
    if not by_unit and not lines:
        return None
    return Finding(
        confidence=0.97 if by_unit else 0.9,
        summary="The kernel ran out of memory and killed the service.",
        evidence=by_unit + lines[-3:] + others[-1:],
        remedy="Restart it, then give the host more memory or bound the service (MemoryMax=, --max-old-space-size).",
        details=_memory_details(view),
    )


def _memory_details(view: View) -> Dict[str, Any]:
    """What memory there is, and the sizes that would let both the service and the host live."""
    memory = view.part("memory")
    total = memory.get("total") or 0
    limit = view.part("unit").get("memory_max")
    memory_max = int(total * _SERVICE_SHARE) if total else None
    bound = min(filter(None, (limit, memory_max)), default=None)
    return {
        "measured": {
            "total": total or None,
            "available": memory.get("available"),
            "memory_max": limit,
            "peak": memory.get("control_group", {}).get("peak"),
        },
        "proposal": {
            "memory_max": memory_max,
            "max_old_space_size": int(bound * _HEAP_SHARE / 2**20) if bound else None,
        },
    }


def heap_oom(view: View) -> Optional[Finding]:
    """V8's own limit, not the kernel's."""
    said = view.signature("heap_oom")
    if not said or not view.troubled:
        return None
    aborted = view.part("unit").get("exit_status") in _ABORTED
    return Finding(
        confidence=0.97 if aborted else 0.93,
        summary="Node reached the limit of its own heap and aborted; the host's memory was not the limit.",
        evidence=said + (view.unit_ending() if aborted else []),
        remedy="Restart it, then look for the leak; raise --max-old-space-size only if the load explains the need.",
        details=_memory_details(view),
    )


def db_corrupt(view: View) -> Optional[Finding]:
    """The database is damaged, missing, or has lost rows."""
    database = view.part("database")
    problems = [
        item
        for item in database.get("problems") or ()
        if item.get("level", "error") == "error" and item["code"] not in _NO_DAMAGE
    ]
    messages = [item["message"] for item in problems]
    lost = bool(database.get("data_loss_suspected"))
    said = view.signature("db_corrupt") if view.troubled else []
    if not problems and not lost and not said:
        return None
    path = str(database.get("path", "the database"))
    return Finding(
        confidence=0.98 if problems or lost else 0.6,
        summary=(
            f"The database {path} is not sound: {problems[0]['message'].rstrip('.')}."
            if problems
            else f"Rows of the database {path} may be lost."
            if lost
            else f"The service reported a damaged database; {path} itself could be read."
        ),
        evidence=[_says(path, f"{item['code']}: {item['message']}") for item in problems]
        + [_says(path, text) for text in database.get("data_loss_reasons") or () if text not in messages]
        + said,
        remedy="Start nothing and change nothing: keep database, -wal and -shm as they are and call the DBA.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def db_unchecked(view: View) -> Optional[Finding]:
    """Nobody could look through the database in time."""
    database = view.part("database")
    if not view.troubled or database.get("conclusive"):
        return None
    path = str(database.get("path", "the database"))
    said = database.get("error") or ", ".join(f"{name} {text}" for name, text in (database.get("checks") or {}).items())
    return Finding(
        confidence=0.9,
        summary=f"Whether the database {path} is sound could not be told in time.",
        evidence=[_says(path, said or "not reached")],
        remedy="Check it with sqlite_check and a larger time_budget, or give triage_database_timeout more seconds.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def port_conflict(view: View) -> Optional[Finding]:
    """Somebody else listens on the service's port."""
    main = view.part("unit").get("main_pid")
    running = {item["pid"] for item in view.processes}
    evidence, strangers, stale = [], [], []
    for listener in view.items("ports"):
        where = f"{listener['address']} port {listener['port']}"
        for owner in listener["owners"]:
            text = f"pid {owner['pid']}, user {owner['user']}: {owner['command']}"
            if not owner["ours"]:
                strangers.append((listener["port"], owner))
                evidence.append(_says(where, text))
            elif view.part("unit").get("active_state") in ("activating", "failed") and owner["pid"] != main:
                stale.append((listener["port"], owner))
                evidence.append(_says(where, f"{text} (of this service, started beside the unit)"))
        if not listener["owners"] and view.gone:
            strangers.append((listener["port"], None))
            evidence.append(_says(where, "listened on by a process this user may not see"))
    said = view.signature("port_taken") if view.troubled else []
    if not strangers and not stale and not (said and not running):
        return None
    if strangers:
        port, owner = strangers[0]
        who = (
            f"process {owner['pid']} of user {owner['user']} ({owner['command'][:80]})" if owner else "another process"
        )
        summary = f"Port {port} is taken by {who}, which is not the service."
        remedy = "Find out whose it is and stop it, or give it another port. It is not stopped unless policy names it."
    elif stale:
        port, owner = stale[0]
        summary = f"Port {port} is held by an older process of the service (pid {owner['pid']}) beside its unit."
        remedy = "Stop the older process, then start the unit."
    else:
        summary = "The service could not start because its port was taken; it is free now."
        remedy = "Start it again, and find out who took the port."
    return Finding(
        confidence=0.95 if strangers or stale else 0.5,
        summary=summary,
        evidence=evidence + said,
        remedy=remedy,
        # One of its own is ended by each rung before it starts the service.
        useless_rungs=RUNGS if strangers else (),
        details={"processes": [_owner_details(port, owner) for port, owner in strangers + stale]},
    )


def _owner_details(port: int, owner: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    return {
        "port": port,
        **{name: (owner or {}).get(name) for name in ("pid", "start_ticks", "user", "command", "exe")},
        "ours": bool(owner and owner["ours"]),
    }


def tls_expired(view: View) -> Optional[Finding]:
    """The certificate has run out, or is why HTTPS is not offered."""
    file = view.part("certificate")
    served = view.part("answer").get("https", {}).get("certificate") or {}
    evidence, outdated = [], []
    for source, facts in ((str(file.get("path", "certificate")), file), ("served on the HTTPS port", served)):
        if facts.get("expired") or facts.get("not_yet_valid"):
            outdated.append(facts)
            evidence.append(
                _says(source, f"{facts['subject']}: valid from {facts['not_before']} to {facts['not_after']}")
            )
    fallen_back = not view.gone and view.unserved == ["https"] and view.age > _START_SECONDS
    said = view.signature("tls") if view.down else []
    if fallen_back:
        evidence.append(_says("listening sockets", "HTTP is served, nobody listens on the HTTPS port"))
        if file.get("error"):
            evidence.append(_says(str(file.get("path", "certificate")), file["error"]))
        elif file.get("readable_by_service") is False:
            evidence.append(_says(str(file["path"]), "the service's user may not read it"))
    if not outdated and not fallen_back and not said:
        return None
    if outdated:
        late = bool(outdated[0].get("expired"))
        when = outdated[0]["not_after" if late else "not_before"]
        summary = f"The TLS certificate {'expired' if late else 'is not valid before'} {'on ' if late else ''}{when}."
    else:
        summary = "The service does not offer HTTPS: it could not use its certificate or key."
    return Finding(
        confidence=0.95 if outdated else 0.8 if fallen_back else 0.6,
        summary=summary,
        evidence=evidence + said,
        remedy="Renew the certificate, see that the service's user can read it and its key, and restart.",
        # A restart would take away the HTTP that is still served, and bring back no HTTPS.
        useless_rungs=RUNGS if fallen_back else (),
        details={
            "reason": "expired"
            if any(facts.get("expired") for facts in outdated)
            else "not_yet_valid"
            if outdated
            else "unreadable"
            if file.get("readable_by_service") is False or file.get("error")
            else "not_served",
            "path": file.get("path"),
            "not_after": file.get("not_after"),
        },
    )


def db_locked(view: View) -> Optional[Finding]:
    """Another process holds the database's lock."""
    database = view.part("database")
    problems = [item for item in database.get("problems") or () if item["code"] == "locked"]
    said = view.signature("db_locked") if view.troubled else []
    ours = {item["pid"] for item in view.processes}
    writers = [
        item for item in database.get("holders") or () if item.get("role") == "writer" and item.get("pid") not in ours
    ]
    if not problems and not said and not (writers and view.troubled):
        return None
    who = f" by process {writers[0]['pid']} ({writers[0].get('command')})" if writers else ""
    return Finding(
        confidence=0.9 if writers else 0.75 if problems else 0.6,
        summary=f"The database is locked{who}.",
        evidence=[_says(str(database.get("path")), item["message"]) for item in problems]
        + [_says("locks", f"pid {item['pid']} holds the write lock: {item.get('command')}") for item in writers]
        + said,
        remedy="Let that process finish or stop it, then restart the service.",
        useless_rungs=RUNGS if writers else (),
        details={
            "holders": [
                {
                    **{name: item.get(name) for name in ("pid", "start_ticks", "user", "command", "exe", "role")},
                    "ours": False,
                }
                for item in writers
            ]
        },
    )


def modules_broken(view: View) -> Optional[Finding]:
    """Dependencies are missing or do not load."""
    node = view.part("node")
    missing = node.get("modules_exist") is False and bool(node.get("dependencies"))
    said = view.signature("module_missing") if view.troubled else []
    if not missing and not said:
        return None
    absent = [_says("node_modules", "is not there")] if missing else []
    return Finding(
        confidence=0.95 if missing else 0.9,
        summary="The service's dependencies are missing or cannot be loaded.",
        evidence=absent + said,
        remedy="Rebuild node_modules from the lock file beside the present ones, and swap (module npm_ci).",
        useless_rungs=("restart",),
        details={"packages": [], "reason": "node_modules is not there" if missing else said[0]["text"]},
    )


def migration_pending(view: View) -> Optional[Finding]:
    """The schema is not what the code expects."""
    locked = view.signature("migration_locked") if view.troubled else []
    missing = view.signature("migration_missing") if view.troubled else []
    if not locked and not missing:
        return None
    return Finding(
        confidence=0.9 if locked else 0.6,
        summary=(
            "A migration was interrupted and its lock is still set."
            if locked
            else "The service asks for tables or columns that the database does not have."
        ),
        evidence=locked + missing,
        remedy="Back the database up, look at the migrations' status, release a stale lock, migrate to the latest.",
        # The rungs migrate at most, and not past the lock.
        useless_rungs=RUNGS if locked else ("restart", "standard_recovery"),
        details={"pending": view.part("migrations").get("pending") or [], "lock_held": bool(locked)},
    )


def config_mismatch(view: View) -> Optional[Finding]:
    """What is configured here is not what the service uses."""
    evidence = []
    service, database, node = view.part("service"), view.part("database"), view.part("node")
    if view.elsewhere:
        wanted = " and ".join(str(service[name]) for name in ("https_port", "http_port") if service.get(name))
        found = " and ".join(map(str, view.elsewhere))
        evidence.append(_says("ports", f"{wanted} configured, the service runs and listens on {found}"))
    if service.get("app_dir_exists") is False:
        evidence.append(_says("app_dir", f"{service['app_dir']} is not a folder"))
    if node.get("script_exists") is False:
        evidence.append(_says("command", f"{node['script']} does not exist"))
    if service.get("manager") == "systemd" and view.part("unit").get("load_state") == "not-found":
        evidence.append(_says("unit", f"systemd knows no unit {service['unit']}"))
    if database.get("path") and database.get("configured") and database["path"] != database["configured"]:
        text = f"{database['configured']} is configured, the service uses {database['path']} ({database['source']})"
        evidence.append(_says("db_path", text))
    if node.get("path") is None and "script" in node:
        evidence.append(_says("command", "its program is not found on this host"))
    evidence += [_says("environment_file", text) for text in view.part("environment").get("problems") or ()]
    if not evidence:
        return None
    return Finding(
        confidence=0.95 if view.elsewhere else 0.85 if view.down else 0.5,
        summary=f"The configuration does not fit the host: {evidence[0]['source']}: {evidence[0]['text']}.",
        evidence=evidence,
        remedy="Correct the variables of this host, or the service's own configuration, whichever is wrong.",
        # A service that answers elsewhere may be well: taking it down would be the outage.
        blocks_start=bool(view.elsewhere),
    )


def unhandled_exception(view: View) -> Optional[Finding]:
    """An exception nobody caught ended the process."""
    found = view.exceptions()
    if not found or not view.troubled:
        return None
    # The latest: where starts failed since, why they fail is what must be dealt with.
    source, latest = sorted(found, key=lambda pair: pair[1]["at"] or "")[-1]
    exited = view.part("unit").get("exit_code") == "exited" and view.part("unit").get("exit_status") != 0
    return Finding(
        confidence=0.88 if latest["fatal"] else 0.75 if exited else 0.65,
        summary=f"An exception that nobody caught ended the service: {latest['message'][:200]}",
        evidence=[_says(source, "\n".join([latest["message"], *latest["stack"][:4]]))]
        + (view.unit_ending() if exited else []),
        remedy="Restart it; if it comes back, mend the code or go back to the release before.",
        details={"falls": view.falls, "exception": latest["message"]},
    )


def hung(view: View) -> Optional[Finding]:
    """The process is there and does not answer."""
    stopped = [item for item in view.processes if item["state"] in ("T", "t")]
    dead = [item for item in view.processes if item["state"] == "D"]
    waiting = [
        facts
        for name, facts in view.part("answer").items()
        if name in ("https", "http") and facts.get("listening") and not facts.get("answered", True)
    ]
    if view.gone or not (stopped or waiting):
        return None
    evidence = [
        _says(f"/proc/{item['pid']}/status", f"state {item['state']}, waits in {item.get('wait_channel') or 'nothing'}")
        for item in [*stopped, *dead]
    ]
    evidence += [
        _says(f"port {facts['port']}", f"listened on, no answer: {facts.get('error') or 'closed without a word'}")
        for facts in waiting
    ]
    return Finding(
        confidence=0.97 if stopped else 0.85,
        summary=(
            f"The process {stopped[0]['pid']} was stopped (SIGSTOP) and does nothing."
            if stopped
            else "The process is there but does not answer."
        ),
        evidence=evidence,
        remedy="Restart it.",
    )


def crash_loop(view: View) -> Optional[Finding]:
    """It falls again and again."""
    unit, journal = view.part("unit"), view.part("journal")
    # Falls it has recovered from are over; systemd counts anew whenever somebody starts it.
    served = view.served_at
    exits = [item for item in journal.get("exits") or () if item["at"] > served]
    limit = unit.get("result") == "start-limit-hit" or any(
        item["at"] > served for item in journal.get("start_limit") or ()
    )
    restarts = unit.get("restarts") or 0
    blind = not journal.get("lines")
    again = restarts >= _LOOP_FALLS and (blind or len(journal.get("exits") or ()) >= _LOOP_FALLS)
    if not view.troubled or not (limit or again or len(exits) >= _LOOP_FALLS):
        return None
    falls = max(len(exits), restarts)
    return Finding(
        confidence=0.93,
        summary=f"The service falls again and again ({falls} times)"
        + (", and systemd has given up starting it." if limit else "."),
        evidence=view.unit_ending() + [_says("journal", item["text"]) for item in exits[-3:]],
        remedy="A further restart will not help: deal with the cause, or go back to the release before.",
        details={"falls": falls, "exception": ""},
    )


def killed(view: View) -> Optional[Finding]:
    """A signal ended it."""
    unit = view.part("unit")
    if not view.troubled:
        return None
    if unit.get("result") in ("signal", "core-dump", "watchdog", "timeout"):
        name = _SIGNALS.get(unit.get("exit_status") or 0, str(unit.get("exit_status")))
        hard = unit.get("exit_code") in ("killed", "dumped")
        return Finding(
            confidence=0.9,
            summary=f"The process was ended by signal {name}." if hard else f"systemd ended it: {unit['result']}.",
            evidence=view.unit_ending()
            + [_says("journal", item["text"]) for item in (view.part("journal").get("exits") or ())[-1:]],
            remedy="Restart it, and find out who sent the signal.",
        )
    fall = re.search(r"code=(?:killed|dumped), status=\d+/(\w+)", view.last_fall)
    if fall:
        return Finding(
            confidence=0.85,
            summary=f"The process was ended by signal {fall.group(1)}; systemd has started it again.",
            evidence=[_says("journal", view.last_fall)],
            remedy="Find out who sent the signal.",
        )
    service = view.part("service")
    if service.get("manager") == "process" and view.gone and service.get("pid_file_exists") and not view.exceptions():
        return Finding(
            confidence=0.7,
            summary="The process is gone without a last word: it was killed, or the host went down.",
            evidence=[_says("pid file", "it is there, the process is not, and the log ends without an exception")],
            remedy="Restart it, and find out what ended it.",
        )
    return None


def stopped(view: View) -> Optional[Finding]:
    """Somebody stopped it in order."""
    unit, service = view.part("unit"), view.part("service")
    if not view.gone:
        return None
    if unit.get("active_state") == "inactive" and unit.get("result") == "success":
        stops = view.part("journal").get("stops") or ()
        asked = [item for item in stops if item["text"].startswith("Stopping ")]
        return Finding(
            confidence=0.9 if asked else 0.7,
            summary="The service was stopped in order."
            if asked
            else "The service ended by itself, or was never started.",
            evidence=view.unit_ending()
            + [_says("journal", f"{item['at']} {item['text']}") for item in list(stops)[-2:]],
            remedy="Ask whether it was meant to be stopped; if not, start it.",
        )
    if service.get("manager") == "process" and service.get("pid_file_exists") is False and not view.exceptions():
        return Finding(
            confidence=0.5,
            summary="The service is not running and left no pid file: it was stopped, or never started this way.",
            evidence=[_says("pid file", "is not there")],
            remedy="Ask whether it was meant to be stopped; if not, start it.",
        )
    return None


def wal_pending(view: View) -> Optional[Finding]:
    """Committed rows stand in the WAL alone: not why it fell, but what must not be lost now."""
    wal = view.part("database").get("wal") or {}
    pending = wal.get("pages_pending") or 0
    if not view.gone or not pending:
        return None
    return Finding(
        confidence=0.2,
        summary=f"{pending} committed pages of the database stand in its -wal file alone.",
        evidence=[_says(f"{view.part('database').get('path')}-wal", f"{wal.get('frames_committed')} committed frames")],
        remedy="Do not delete the -wal. Starting the service, or a checkpoint (module sqlite_wal), brings them home.",
    )


def unknown(view: View) -> Optional[Finding]:
    """It is down and nothing says why. Taken only where no other rule speaks."""
    if not view.down:
        return None
    what = "has no process" if view.gone else "does not serve " + (" and ".join(view.unserved) or "every port")
    return Finding(
        confidence=0.1,
        summary=f"The service {what}, and nothing that was looked at says why.",
        evidence=view.unit_ending(),
        remedy="Read the evidence; restart it if nothing speaks against it.",
    )


@dataclasses.dataclass(frozen=True)
class Cause:
    """A row of the table: the rule, and the causes that are its consequences where both are found."""

    rule: Callable[[View], Optional[Finding]]
    explains: Tuple[str, ...] = ()


_FALLS = ("unhandled_exception", "crash_loop", "stopped", "killed", "wal_pending")

CAUSES: Dict[str, Cause] = {
    "disk_full": Cause(disk_full, ("db_locked", "tls_expired", "migration_pending", "hung", *_FALLS)),
    "oom_kill": Cause(oom_kill, ("heap_oom", *_FALLS)),
    "heap_oom": Cause(heap_oom, _FALLS),
    "db_corrupt": Cause(db_corrupt, ("migration_pending", "hung", *_FALLS)),
    "db_unchecked": Cause(db_unchecked),
    "config_mismatch": Cause(config_mismatch, ("modules_broken", *_FALLS)),
    "port_conflict": Cause(port_conflict, _FALLS),
    "modules_broken": Cause(modules_broken, _FALLS),
    "db_locked": Cause(db_locked, ("hung", "migration_pending", *_FALLS)),
    "migration_pending": Cause(migration_pending, _FALLS),
    "tls_expired": Cause(tls_expired, _FALLS),
    "hung": Cause(hung, ("wal_pending",)),
    "unhandled_exception": Cause(unhandled_exception, ("crash_loop", "stopped", "killed", "wal_pending")),
    "killed": Cause(killed, ("crash_loop", "wal_pending")),
    "crash_loop": Cause(crash_loop, ("wal_pending",)),
    "stopped": Cause(stopped, ("wal_pending",)),
    "unknown": Cause(unknown, ("wal_pending",)),
    "wal_pending": Cause(wal_pending),
}


def _ranked(found: Mapping[str, Finding]) -> List[Finding]:
    """Order by confidence, except that no finding comes before one that explains it."""
    explained_by = {name: [other for other in found if name in CAUSES[other].explains] for name in found}
    ranked: List[Finding] = []
    waiting = sorted(found, key=lambda name: -found[name].confidence)
    while waiting:
        name = next(name for name in waiting if not any(other in waiting for other in explained_by[name]))
        waiting.remove(name)
        by = [item.cause for item in ranked if item.cause in explained_by[name]]
        ranked.append(dataclasses.replace(found[name], cause=name, explained_by=by[0] if by else None))
    return ranked


def evaluate(facts: Mapping[str, Any]) -> List[Finding]:
    """Return the findings, the cause to deal with first at the front; none on a host where nothing is wrong."""
    view = View(facts)
    found = {}
    for name, cause in CAUSES.items():
        finding = cause.rule(view)
        if finding is not None:
            found[name] = finding
    if set(found) - {"unknown", "wal_pending"}:
        found.pop("unknown", None)
    return _ranked(found)
