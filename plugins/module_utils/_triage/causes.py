# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the facts of a triage mean: the causes of an outage, ranked.

One cause is one function and one row of the table at the end. A rule gets a L(View) of the facts and returns a
L(Finding), or nothing. To add a cause, write its rule, put it into the table, and give it a test.

A rule speaks only of what is so now or was so within the window, and never on a host where nothing is wrong. It calls a
rung of the ladder useless only where facts, not words alone, say that the cause is still there: what was mended since
is not to hold the recovery up.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import causes_of_start, mismatches
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import SENT, SIGNALS, View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# What the service writes to; without room elsewhere it may go on.
_WRITTEN_TO = ("application", "database", "log")

# A process this young may still be starting.
_START_SECONDS = 20.0

_LOOP_FALLS = 3

# What makes a process end itself by a signal.
_CRASHES = ("heap_oom", "modules_broken", "db_corrupt", "disk_full", "config_mismatch", "unhandled_exception")

# Exit codes of processes that shells and Node end by a signal: 128 + number.
_ABORTED = (6, 134)

# Codes of problems of the database, in words.
_UNSOUND = {
    "missing": "it is not there",
    "empty": "it has 0 bytes",
    "empty_beside_wal": "it has 0 bytes beside a WAL",
    "no_tables": "it holds no table",
    "not_a_database": "it does not begin as a database does",
    "not_a_file": "something else is in its place",
    "corrupt": "its pages are damaged",
    "wal_damaged": "its WAL is damaged",
    "wal_foreign": "its WAL belongs to another database",
    "row_loss": "rows are missing",
    "open_deleted": "its file was removed while it was open",
    "unreadable": "it cannot be read",
}

_KILLED_RSS = re.compile(r"anon-rss:(\d+)kB")
_OF_CGROUP = re.compile(r"task_memcg=([^,\s]+).*?\bpid=(\d+)")
# What V8 says of its heap at the last collections: "Mark-Compact 2046.3 (2083.1) -> 2045.4 (2083.1) MB".
_HEAP = re.compile(r"(?:Mark-[Cc]ompact|Mark-sweep|Scavenge)[^\d\n]*(\d+)(?:\.\d+)? \(\d+")

# As likely as not. What is less likely is worth a note, and explains nothing.
_LIKELY = 0.5


def disk_full(view: View) -> Optional[Finding]:
    """A file system without room."""
    full = view.short_of_room()
    words = view.signature("disk_full") if view.troubled or full else []
    if not full and not words:
        return None
    prevention = "Rotate and compress the logs, and have somebody told before a file system is full."
    if not full:
        return Finding(
            confidence=0.6,
            summary="Writes failed for want of room; there is room again.",
            evidence=words,
            remedy="Start the service, and see what took the room.",
            prevention=prevention,
            details={"mounts": []},
            past=True,
        )
    evidence = []
    for room in full:
        free = "{available} of {size}" if room["what"] == "bytes" else "{inodes_available} of {inodes}"
        where = f"{room['mount']} ({', '.join(room['uses'])})"
        evidence.append(says(where, f"{free.format(**room)} {room['what']} free"))
        if room["held"]:
            evidence.append(says(where, f"the service holds {room['held']} bytes of removed files open"))
    matters = bool(words) or any(set(room["uses"]).intersection(_WRITTEN_TO) for room in full)
    # A removed file takes its room until it is closed.
    freed_by_restart = all(room["what"] == "bytes" and room["held"] >= room["wanted"] for room in full)
    where = ", ".join(sorted(room["mount"] for room in full))
    return Finding(
        confidence=0.97 if words else 0.9 if matters else 0.4,
        summary=f"There is no room left on {where}.",
        evidence=evidence + words,
        remedy="Restart the service: it holds removed files open, which take the room until then."
        if freed_by_restart
        else f"Make room on {where}: rotated logs, the npm cache, old backups. Never the database, its -wal or -shm.",
        prevention=prevention,
        useless_rungs=RUNGS if matters and not freed_by_restart else (),
        details={"mounts": [{name: room[name] for name in room if name not in ("uses", "held")} for room in full]},
    )


def disk_read_only(view: View) -> Optional[Finding]:
    """A file system that the service must write to lets nobody write."""
    closed = [item for item in view.items("disk") if item.get("read_only") and item.get("use") in ("database", "log")]
    if not closed or not view.troubled:
        return None
    where = " and ".join(sorted({str(item["mount"]) for item in closed}))
    return Finding(
        confidence=0.9,
        summary=f"The file system {where} is read-only.",
        evidence=[
            says(f"{item['mount']} ({item['use']})", f"{item.get('device')} is mounted read-only") for item in closed
        ],
        remedy="Read the kernel's log for errors of that disk, and mount it writable once it is known to be well.",
        prevention="Watch the disk's health, and have somebody told when a file system becomes read-only.",
        useless_rungs=RUNGS if any(item["use"] == "database" for item in closed) else (),
    )


def oom_kill(view: View) -> Optional[Finding]:
    """The kernel's out-of-memory killer took the process."""
    if not view.troubled:
        return None
    unit, kernel = view.part("unit"), view.part("kernel")
    by_unit = view.unit_ending() if unit.get("result") == "oom-kill" else []
    results = view.part("journal").get("results") or ()
    if view.restarted and results and "'oom-kill'" in results[-1]["text"]:
        by_unit = [says("journal", results[-1]["text"])]
    seen = kernel.get("out_of_memory") or ()
    groups = {int(pid): group for line in seen for group, pid in _OF_CGROUP.findall(line["text"])}
    pids = {unit.get("last_pid")} - {None, 0}
    named = re.sub(r"\.service\Z", "", unit.get("name") or "")
    sure, perhaps, others = [], [], []
    for line in seen:
        if line["pid"] is None:
            continue
        group = groups.get(line["pid"], "")
        if line["pid"] in pids or (named and f"/{named}.service/" in f"{group}/"):
            sure.append(line)
        elif not group and (line["name"] or "").startswith(("node", "MainThread")) and view.ended_at(line["at"]):
            perhaps.append(line)
        else:
            others.append(line)
    killed = sure or perhaps
    if not by_unit and not killed:
        return None
    rss = [int(size) * 1024 for line in killed for size in _KILLED_RSS.findall(line["text"])]
    bounded = any("emory cgroup out of memory" in line["text"] for line in killed)
    sizes = view.memory_sizes(rss=max(rss, default=None), bounded=bounded)
    return Finding(
        confidence=0.97 if by_unit else 0.9 if sure else 0.75,
        summary="The service reached its own memory limit, and the kernel killed it."
        if bounded
        else "The kernel ran out of memory and killed the service.",
        evidence=by_unit
        + [says(kernel.get("source") or "kernel log", line["text"]) for line in [*killed[-3:], *others[-1:]]],
        remedy="Restart the service; where it falls again, give it the sizes proposed, or the host more memory.",
        prevention="Bound the service (MemoryMax=, --max-old-space-size) below what the host has, and look for a leak.",
        details=sizes,
    )


def heap_oom(view: View) -> Optional[Finding]:
    """V8's own limit, not the kernel's."""
    words = view.signature("heap_oom")
    if not words or not view.troubled:
        return None
    aborted = view.part("unit").get("exit_status") in _ABORTED
    # Words alone, that anybody may have it log, against the fact that it was ended otherwise.
    refuted = view.ended_by_others and not any("status=6/ABRT" in item["text"] for item in view.exits)
    lines = [line for source in ("log", "journal") for line in view.part(source).get("lines") or ()]
    heaps = [int(size) << 20 for line in lines for size in _HEAP.findall(line)]
    heaps += [size << 20 for size in (view.part("environment").get("max_old_space_size"),) if size]
    return Finding(
        confidence=0.45 if refuted else 0.97 if aborted else 0.93,
        summary="The log speaks of the limit of Node's heap, but it was not what ended the service."
        if refuted
        else "Node reached the limit of its own heap and aborted; the host's memory was not the limit.",
        evidence=words + (view.unit_ending() if aborted else []),
        remedy="Restart the service; where the load explains the need, give it the heap proposed.",
        prevention="Look for the leak; raise --max-old-space-size only if the load explains the need.",
        details=view.memory_sizes(heap=max(heaps, default=None)),
    )


def db_corrupt(view: View) -> Optional[Finding]:
    """The database is damaged, missing, or has lost rows."""
    database = view.part("database")
    problems, _unread = view.database_problems()
    messages = [item["message"] for item in problems]
    lost = bool(database.get("data_loss_suspected"))
    words = view.signature("db_corrupt") if view.troubled else []
    if not problems and not lost and not words:
        return None
    path = str(database.get("path", "the database"))
    why = [_UNSOUND.get(code, code) for code in dict.fromkeys(item["code"] for item in problems)]
    return Finding(
        confidence=0.98 if problems or lost else 0.6,
        summary=(
            f"The database {path} is not sound: {', '.join(why)}."
            if problems
            else f"Rows of the database {path} may be lost."
            if lost
            else f"The service reported a damaged database; {path} itself could be read."
        ),
        evidence=[says(path, f"{item['code']}: {item['message']}") for item in problems]
        + [says(path, text) for text in database.get("data_loss_reasons") or () if text not in messages]
        + words,
        remedy="Start nothing and change nothing: keep database, -wal and -shm as they are and call the DBA.",
        prevention="Back the database up often and read the backups back; find out what damaged it.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def db_unchecked(view: View) -> Optional[Finding]:
    """Nobody could look through the database."""
    database = view.part("database")
    _damages, refused = view.database_problems()
    unread = [item["message"] for item in refused]
    if not view.troubled or (database.get("conclusive") and not unread):
        return None
    path = str(database.get("path", "the database"))
    said = database.get("error") or ", ".join(f"{name} {text}" for name, text in (database.get("checks") or {}).items())
    return Finding(
        confidence=0.9,
        summary=f"Whether the database {path} is sound could not be told: it may not be read."
        if unread
        else f"Whether the database {path} is sound could not be told in time.",
        evidence=[says(path, text) for text in unread or [said or "not reached"]],
        remedy="Look again as root; give database, -wal and -shm back to the service's user where they are another's."
        if unread
        else "Check it with sqlite_info and a larger time_budget, or give triage_database_timeout more seconds.",
        prevention="Let nobody but the service's user open its database for writing."
        if unread
        else "Give triage_database_timeout the seconds that a look through this database takes.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def port_conflict(view: View) -> Optional[Finding]:
    """Somebody else listens on the service's port."""
    unit = view.part("unit")
    evidence, strangers, stale = [], [], []
    for listener in view.items("ports"):
        where = f"{listener['address']} port {listener['port']}"
        ours = [owner for owner in listener["owners"] if owner["ours"]]
        # A socket that the service has too was handed to it.
        for owner in ours or listener["owners"]:
            text = f"pid {owner['pid']}, user {owner['user']}: {owner['command']}"
            if not owner["ours"]:
                strangers.append((listener["port"], owner))
                evidence.append(says(where, text))
            elif unit.get("active_state") in ("activating", "failed") and owner["pid"] != unit.get("main_pid"):
                stale.append((listener["port"], owner))
                evidence.append(says(where, f"{text} (of this service, started beside the unit)"))
        if not listener["owners"] and view.gone:
            strangers.append((listener["port"], {}))
            evidence.append(says(where, "listened on by a process this user may not see"))
    words = view.signature("port_taken") if view.troubled else []
    if not strangers and not stale and not (words and not view.processes):
        return None
    if strangers:
        port, owner = strangers[0]
        who = f"process {owner['pid']} of user {owner['user']} ({_program(owner)})" if owner else "another process"
        summary = f"Port {port} is taken by {who}, which is not the service."
        remedy = "Find out whose it is and stop it, or give it another port. It is not stopped unless policy names it."
    elif stale:
        port, owner = stale[0]
        summary = f"Port {port} is held by an older process of the service (pid {owner['pid']}) beside its unit."
        remedy = "Stop the older process, then start the unit."
    else:
        summary = "The service could not start because its port was taken; it is free now."
        remedy = "Start the service, and find out who took the port."
    return Finding(
        confidence=0.95 if strangers or stale else 0.5,
        summary=summary,
        evidence=evidence + words,
        remedy=remedy,
        prevention="Start the service through its unit only, never by hand beside it."
        if stale
        else "Reserve the port for the service, and give the other program one of its own.",
        # An older process of its own is ended by every rung before it starts the service.
        useless_rungs=RUNGS if strangers else (),
        details={"processes": [_process_details(owner, port=port) for port, owner in strangers + stale]},
        # One of its own that hangs holds the port as well; a stranger has nothing to do with how the service answers.
        explains=(*_FALLS, "hung") if stale else _FALLS,
        past=not strangers and not stale,
    )


def _program(process: Mapping[str, Any]) -> str:
    """Return the name of its program: the whole command line is evidence, and too long for a sentence."""
    words = str(process.get("command") or "").split()
    return posixpath.basename(process.get("exe") or (words[0] if words else "")) or "unknown program"


def _process_details(process: Mapping[str, Any], **more: Any) -> Dict[str, Any]:
    known = {name: process.get(name) for name in ("start_ticks", "user", "command", "exe")}
    # One in another PID namespace has the pid 0 here.
    return {**more, "pid": process.get("pid") or None, **known, "ours": bool(process.get("ours"))}


_TLS_REASONS = {
    "missing": "there is no certificate at its path",
    "unreadable": "the service cannot read its certificate",
    "key_missing": "there is no key at its path",
    "key_unreadable": "the service cannot read its key",
    "key_mismatch": "the key does not belong to the certificate",
    "expired": "the certificate has expired",
    "not_yet_valid": "the certificate is not valid yet",
}


def tls_expired(view: View) -> Optional[Finding]:
    """The certificate has run out, or is why HTTPS is not offered."""
    file = view.part("certificate")
    key = file.get("key") or {}
    served = view.part("answer").get("https", {}).get("certificate") or {}
    fault = view.tls_fault()
    outdated = [facts for facts in (file, served) if facts.get("expired") or facts.get("not_yet_valid")]
    serving = not view.gone and not view.silent and view.unserved in ([], ["https"])
    # What is wrong on disk will not get better while it starts.
    fallen_back = serving and bool(view.unserved) and (bool(fault) or view.age > _START_SECONDS)
    words = view.signature("tls") if view.down else []
    if not (outdated or fallen_back or words or (fault and view.gone)):
        return None
    evidence = [
        says(source, f"{facts.get('subject')}: valid from {facts.get('not_before')} to {facts.get('not_after')}")
        for source, facts in ((str(file.get("path", "certificate")), file), ("served on the HTTPS port", served))
        if facts in outdated
    ]
    if fallen_back:
        evidence.append(says("listening sockets", "HTTP is served, nobody listens on the HTTPS port"))
    if fault in _TLS_REASONS and fault not in ("expired", "not_yet_valid"):
        of = key if fault.startswith("key_") else file
        evidence.append(says(str(of.get("path") or "certificate"), of.get("error") or _TLS_REASONS[fault]))
    reason = fault or "not_served"
    if outdated and not fault:
        newer = file.get("expired") is False
        reason = "served_expired" if newer else "expired" if served.get("expired") else "not_yet_valid"
    # Whether all of it was looked at and is well: then the service has only to read it again.
    well = not fault and file.get("readable_by_service") is True and key.get("matches") is True
    if reason in ("expired", "not_yet_valid", "served_expired"):
        late = any(facts.get("expired") for facts in outdated)
        when = outdated[0].get("not_after" if late else "not_before")
        told = "The TLS certificate " + (f"expired on {when}" if late else f"is not valid before {when}")
        summary = (
            f"{told}; a newer one is there, which the service has not read."
            if reason == "served_expired"
            else f"{told}."
        )
    else:
        why = "it has not read its certificate and key" if well else "it could not use its certificate or key"
        told = "would not" if view.gone else "does not"
        summary = f"The service {told} offer HTTPS: {_TLS_REASONS.get(fault, why)}."
    if serving:
        confidence = 0.95 if fault or outdated else 0.6 if well else 0.8
    elif words:
        # Where all is well here, it may have been another one's certificate that it complained of.
        confidence = 0.9 if fault else 0.45 if well else 0.6
    else:
        # Not why it is down, but what would be missed once it is up.
        confidence = 0.45
    useless: Sequence[str] = ()
    if serving and (well or reason == "served_expired"):
        useless = RUNGS[1:]  # which do no more for it than a restart
    elif serving or (fault and words and view.gone):
        # A restart would take away the HTTP that is still served, and bring back no HTTPS.
        useless = RUNGS
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + words,
        remedy="Restart the service, so that it reads the certificate and key that are there."
        if well or reason == "served_expired"
        else "Renew the certificate, see that the service's user can read it and its key, and restart.",
        prevention="Let the certificate renew itself, restart the service after it, and watch the days that are left.",
        useless_rungs=useless,
        details={
            "reason": reason,
            "path": file.get("path"),
            "key_path": key.get("path"),
            "not_after": (outdated or [file])[0].get("not_after"),
        },
        explains=_FALLS if words and not (well and not serving) else (),
    )


def db_locked(view: View) -> Optional[Finding]:
    """Another process holds the database's lock."""
    database = view.part("database")
    problems = [item for item in database.get("problems") or () if item["code"] == "locked"]
    words = view.signature("db_locked") if view.troubled else []
    main = view.part("unit").get("main_pid")
    blocking = [item for item in database.get("holders") or () if item.get("role") in sqlite_holders.BLOCKING]
    strangers = [item for item in blocking if not item.get("ours")]
    # Under systemd one of the service's beside its main process is left over from an earlier start.
    stale = [item for item in blocking if item not in strangers and main is not None and item["pid"] != main]
    # Of a service that seems well its writes wait.
    lasting = [item for item in strangers if item.get("blocks_for")]
    if not view.troubled:
        strangers, stale = lasting, []
    holders = strangers + stale
    if not holders and not (view.troubled and (words or (problems and not blocking))):
        return None
    silent = not view.gone and view.down
    if not view.troubled:
        remedy = "Let that process finish, or stop it."
    elif strangers or (problems and not blocking):
        remedy = "Let that process finish or stop it, then restart the service."
    else:
        remedy = "Restart the service" + (", which ends the older process first." if stale else ".")
    if holders and not view.troubled:
        confidence = 0.8
        summary = (
            f"Writes wait: process {holders[0]['pid']} ({holders[0].get('command')}) held the lock of the database for "
            f"{holders[0]['blocks_for']:.1f} s, as long as it was looked at."
        )
    elif holders:
        # Somebody may write at the instant of the look without having done any harm.
        confidence = 0.93 if words else 0.9 if silent else 0.45
        summary = f"The database is locked by process {holders[0]['pid']} ({holders[0].get('command')})."
    elif problems:
        confidence, summary = 0.75, "The database is locked."
    else:
        confidence, summary = 0.6, "The service found its database locked; no other process holds the lock now."
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=[says(str(database.get("path")), item["message"]) for item in problems]
        + [
            says("locks", f"pid {item['pid']} ({item['role']}) holds the lock: {item.get('command')}")
            for item in holders
        ]
        + words,
        remedy=remedy,
        prevention="Let backups and reports read a copy of the database, and set a busy timeout in the service.",
        useless_rungs=RUNGS if strangers and (words or silent) else (),
        details={
            "holders": [{**_process_details(item), "role": item["role"], "ours": item in stale} for item in holders]
        },
        explains=("hung", "migration_pending", *_FALLS) if words else ("hung",),
        past=not holders and not problems,
    )


def modules_broken(view: View) -> Optional[Finding]:
    """Dependencies are missing or do not load."""
    if not view.troubled:
        return None
    facts, node = view.part("dependencies"), view.part("node")
    missing = [name for name in facts.get("missing") or () if name != "node_modules"]
    unloadable = list(facts.get("unloadable") or ())
    nothing_there = node.get("modules_exist") is False and bool(node.get("dependencies"))
    broken = bool(missing or unloadable or nothing_there)
    named, of_packages = view.modules_missed()
    words = view.signature("module_missing") if of_packages else []
    # What is merely another version than the lock file's may well run.
    if not broken and not words and not facts.get("invalid"):
        return None
    mended = facts.get("ok") is True and not broken
    evidence = [says("node_modules", "is not there")] if nothing_there else []
    evidence += [says("node_modules", text) for text in (facts.get("reasons") or missing + unloadable)[:5]]
    # The facts are exact; the log may still tell of an earlier start.
    packages = missing + unloadable or sorted(named)
    reason = "missing" if missing or nothing_there else "unloadable" if unloadable else "invalid"
    if not broken and words:
        reason = "mended" if mended else "not loaded"
    if mended:
        summary = "The service could not load a dependency; all of them are in order now."
    elif nothing_there:
        summary = "The service's dependencies are missing: there is no node_modules."
    else:
        shown = ", ".join((packages or list(facts.get("invalid") or ()))[:3])
        what = {
            "missing": "missing",
            "unloadable": "there but cannot be loaded",
            "invalid": "not those of the lock file",
        }
        state = what.get(reason, "missing or cannot be loaded")
        summary = f"The service's dependencies are {state}: {shown or 'see the log'}."
    if words:
        confidence = 0.97 if broken else 0.5 if mended else 0.9
    else:
        confidence = 0.45 if not broken else 0.9 if view.exited else 0.7
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + words,
        remedy="Start the service."
        if mended
        else "Rebuild node_modules from the lock file beside the present ones, and swap (module npm_ci).",
        prevention="Install with npm ci only, as the service's user, and again after each change of Node's version.",
        useless_rungs=("restart",) if broken or (words and not mended) else (),
        details={"packages": packages, "reason": reason},
        explains=_FALLS if words or view.exited else (),
        past=mended,
    )


def migration_pending(view: View) -> Optional[Finding]:
    """The schema is not what the code expects."""
    if not view.down:
        return None
    facts = view.part("migrations")
    pending, held = list(facts.get("pending") or ()), facts.get("lock_held")
    locked, missing = view.signature("migration_locked"), view.signature("migration_missing")
    ahead = "migration directory is corrupt" in view.complaints()
    migrators = list(facts.get("migrators") or ())
    # The service itself migrates only before it listens, with its database open.
    if view.unserved and not view.waiting and facts.get("lock_stale") is False:
        migrators += [{**item, "command": " ".join(item.get("argv") or ())[:80]} for item in view.processes]
    evidence = [says("knex", f"the migration lock is set; migrating: {_names(migrators) or 'nobody'}")] if held else []
    evidence += [says("knex", f"pending: {', '.join(pending[:5])}")] if pending else []
    left_behind = bool(held if held is not None else locked)
    prevention = "Migrate as a step of the release, with a backup before it, and let nobody kill a migration."
    common: Dict[str, Any] = {"prevention": prevention, "details": {"pending": pending, "lock_held": left_behind}}
    if held and migrators:
        # Nothing is to be done about it.
        common["details"] = {"pending": [], "lock_held": False}
        return Finding(
            confidence=0.9,
            summary=f"A migration is running: {_names(migrators)}.",
            evidence=evidence + locked,
            remedy="Wait for it. Ended midway it leaves its lock behind, and the service does not start.",
            useless_rungs=RUNGS,
            **common,
        )
    if ahead:
        return Finding(
            confidence=0.93,
            summary="The database has migrations that the code does not know: the code is older than its database.",
            evidence=[*evidence, says("log", view.complaints())],
            remedy="Put the release in place that has these migrations; do not migrate.",
            useless_rungs=RUNGS,
            **common,
        )
    if (held and view.gone) or locked:
        stands = held is not False
        # Without a word the service may well start beside the lock; only what migrates cannot.
        useless = RUNGS if locked else ("clean_start_recovery",)
        return Finding(
            confidence=(0.95 if held else 0.9 if stands else 0.5) if locked else 0.6,
            summary="A migration was interrupted and its lock is still set."
            if stands
            else "The service found the migration lock set; it is free now.",
            evidence=evidence + locked + missing,
            remedy="Back the database up, release the stale lock, migrate to the latest."
            if stands
            else "Start the service.",
            useless_rungs=useless if stands else (),
            explains=_FALLS if locked else (),
            past=not stands,
            **common,
        )
    if not missing:
        return None
    known = facts.get("pending") is not None
    return Finding(
        confidence=0.9 if pending else 0.5 if known else 0.6,
        summary=f"The service asks for tables or columns that {len(pending)} pending migrations would bring."
        if pending
        else "The service asks for tables or columns that the database does not have.",
        evidence=evidence + missing,
        remedy="Back the database up and migrate to the latest."
        if pending
        else "Compare the release with the migrations' status; see whether it is the right database.",
        # Only the clean start migrates.
        useless_rungs=() if known and not pending else ("restart", "standard_recovery"),
        **common,
    )


def _names(processes: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"pid {item['pid']} ({item['command']})" for item in processes)


def config_mismatch(view: View) -> Optional[Finding]:
    """What is configured is not what is there, or not what the service uses."""
    found = mismatches.misfits(view)
    if not found:
        return None
    return Finding(
        confidence=found[0].confidence,
        summary=f"The configuration does not fit the host: {found[0].what}: {found[0].text}.",
        evidence=[says(item.what, item.text) for item in found],
        remedy="Correct the variables of this host, or the service's own configuration, whichever is wrong.",
        prevention="Keep the service's configuration and this inventory in one place, and change both together.",
        blocks_start=any(item.serves for item in found),
        useless_rungs=RUNGS
        if any(item.serves or item.hinders for item in found)
        else [rung for rung in RUNGS if any(rung in item.useless for item in found)],
        details={
            "items": [{"what": item.what, "configured": item.configured, "effective": item.effective} for item in found]
        },
        explains=[cause for item in found for reach in item.explains for cause in _OF_MISFITS[reach]],
    )


def unhandled_exception(view: View) -> Optional[Finding]:
    """An exception nobody caught ended the process, or it ended itself over an error."""
    if not view.troubled:
        return None
    # One that was only logged did not end what somebody else has ended.
    errors = [item for _source, item in causes_of_start.syntax_errors(view)]
    found = [
        pair for pair in view.exceptions() if pair[1] not in errors and (pair[1]["fatal"] or not view.ended_by_others)
    ]
    if errors and not found:
        return None
    word = view.last_word() if view.gone and not found else None
    by_hand = view.part("service").get("manager") == "process" and view.gone
    if not found and not (word and (view.exited or by_hand)):
        return None
    place: Mapping[str, Any] = {}
    useless = _useless_in_a_loop(view)
    if found:
        # The latest: where starts failed since, why they fail is what must be dealt with.
        source, latest = sorted(found, key=lambda pair: pair[1]["at"] or "")[-1]
        text, where = str(latest["message"]), causes_of_start.place(latest)
        place = latest.get("place") or {}
        useless = _useless_against(view, latest)
        summary = (
            f"An exception that nobody caught ended the service at {where}: {text[:200]}"
            if where
            else f"An exception that nobody caught ended the service: {text[:200]}"
        )
        evidence = [says(source, "\n".join([*([where] if where else []), text, *latest["stack"][:4]]))]
        confidence = 0.88 if latest["fatal"] else 0.75 if view.exited else 0.65
    else:
        source, text = word or ("", "")
        summary = f"The service ended itself over an error: {text[:200]}"
        evidence = [says(source, text)]
        confidence = 0.7 if view.exited else 0.55
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + (view.unit_ending() if view.exited else []),
        remedy="Start it again; where it falls again, go back to the release before.",
        prevention="Mend the code that throws it, and test it with what it was thrown at.",
        useless_rungs=useless,
        details={"falls": view.falls, "exception": text, "file": place.get("file"), "line": place.get("line")},
    )


def _useless_against(view: View, item: Mapping[str, Any]) -> Sequence[str]:
    """Return the rungs that an exception defeats which ended start after start.

    A clean start also rebuilds the dependencies and migrates: it stays if one of these may be the reason.
    """
    if not causes_of_start.repeated(view, item):
        return _useless_in_a_loop(view)
    sound = view.part("dependencies").get("ok") is True and view.part("migrations").get("pending") == []
    return RUNGS if sound and not causes_of_start.in_dependency(item) else RUNGS[:2]


def _useless_in_a_loop(view: View) -> Sequence[str]:
    """A restart is what systemd has tried since the service last served, again and again."""
    return ("restart",) if view.gone and view.falls >= _LOOP_FALLS else ()


def hung(view: View) -> Optional[Finding]:
    """The process is there and does not answer."""
    stopped_ones = [item for item in view.processes if item["state"] in ("T", "t")]
    dead = [item for item in view.processes if item["state"] == "D"]
    waiting = [facts for facts in view.waiting if facts.get("listening")]
    if view.gone or not (stopped_ones or waiting):
        return None
    evidence = [
        says(f"/proc/{item['pid']}/status", f"state {item['state']}, waits in {item.get('wait_channel') or 'nothing'}")
        for item in [*stopped_ones, *dead]
    ]
    evidence += [
        says(f"port {facts['port']}", f"listened on, no answer: {facts.get('error') or 'closed without a word'}")
        for facts in waiting
    ]
    pressure = view.part("memory").get("pressure")
    for name, values in (pressure if isinstance(pressure, dict) else {}).items():
        stalled = ((values or {}).get("full") or {}).get("avg10") or 0
        if stalled >= 20:
            evidence.append(says(f"/proc/pressure/{name}", f"everything waited for {name} {stalled} % of the time"))
    return Finding(
        confidence=0.97 if stopped_ones else 0.85,
        # Nothing but somebody's signal stops a process.
        only_by=("port_conflict",) if stopped_ones else None,
        summary=(
            f"The process {stopped_ones[0]['pid']} was stopped (SIGSTOP) and does nothing."
            if stopped_ones
            else "The process is there but does not answer."
        ),
        evidence=evidence,
        remedy="Restart the service.",
        prevention="Find out who sent SIGSTOP."
        if stopped_ones
        else "Find out what it waited for: a loop in the code, a lock, a disk or a service that does not answer.",
    )


def crash_loop(view: View) -> Optional[Finding]:
    """It falls again and again."""
    unit, journal = view.part("unit"), view.part("journal")
    # Falls it has recovered from are over; systemd counts anew whenever somebody starts it.
    limit = unit.get("result") == "start-limit-hit" or any(
        item["at"] > view.served_at for item in journal.get("start_limit") or ()
    )
    if not view.troubled or not (limit or view.falls >= _LOOP_FALLS):
        return None
    return Finding(
        confidence=0.93,
        summary=f"The service falls again and again ({view.falls} times)"
        + (", and systemd has given up starting it." if limit else "."),
        evidence=view.unit_ending() + [says("journal", item["text"]) for item in view.exits[-3:]],
        remedy="Deal with what makes it fall, or go back to the release before; one more restart does nothing new.",
        prevention="Deal with what made it fall, and have somebody told when systemd restarts it.",
        useless_rungs=("restart",) if view.gone else (),
        details={"falls": view.falls, "exception": view.complaints()[:500]},
    )


def killed(view: View) -> Optional[Finding]:
    """A signal ended it."""
    unit = view.part("unit")
    if not view.troubled:
        return None
    result, hard = unit.get("result"), unit.get("exit_code") in ("killed", "dumped")
    name = SIGNALS.get(unit.get("exit_status") or 0, str(unit.get("exit_status")))
    ended = says("journal", view.exits[-1]["text"]) if view.exits else None
    # TERM is an end in order for systemd, also where it was not systemd that sent it.
    sent = view.gone and hard and result == "success" and ended is not None and not view.asked
    if result in ("signal", "core-dump", "watchdog") or (result == "timeout" and not view.asked) or sent:
        return Finding(
            confidence=0.85 if sent else 0.9,
            only_by=None if view.given_up else _sends(view.signal),
            summary=f"The process was ended by signal {name}." if hard else f"systemd ended it: {result}.",
            evidence=view.unit_ending() + ([ended] if ended else []),
            remedy="Start the service.",
            prevention="Find out why it did not answer systemd in time."
            if result in ("watchdog", "timeout")
            else "Find out who or what sent the signal.",
        )
    if view.last_fall and view.signal:
        return Finding(
            confidence=0.85,
            only_by=None if view.given_up else _sends(view.signal),
            summary=f"The process was ended by signal {view.signal}; systemd has started it again.",
            evidence=[says("journal", view.last_fall)],
            remedy="See whether it holds.",
            prevention="Find out who or what sent the signal.",
        )
    return _gone_without_a_word(view)


def _sends(signal: str) -> Sequence[str]:
    """Return the causes that end a process by this signal: one that somebody sent follows from nothing but his will."""
    if signal == "KILL":
        return ("oom_kill",)
    return () if signal in SENT else _CRASHES


def _gone_without_a_word(view: View) -> Optional[Finding]:
    """Say what can be said of a plain process, of whose end nobody keeps a record."""
    service, log = view.part("service"), view.part("log")
    if service.get("manager") != "process" or not view.gone or view.exceptions() or view.last_word():
        return None
    if service.get("pid_file_exists"):
        # A host that went down and the kernel's own killings can be ruled out. What stays in doubt is that it ended
        # itself and said nothing, of which only who started it could know.
        ruled_out = view.host_stayed_up() + view.no_out_of_memory()
        sure = len(ruled_out) == 2
        return Finding(
            confidence=0.85 if sure else 0.7,
            summary="The process is gone without a last word: it was killed."
            if sure
            else "The process is gone without a last word: it was killed, or the host went down.",
            # What it had complained of before it would have been its last word.
            only_by=("oom_kill", "disk_full", "disk_read_only", "config_mismatch"),
            evidence=[
                says("pid file", "it is there, the process is not, and the log ends without an error"),
                *ruled_out,
            ],
            remedy="Start the service.",
            prevention="Find out who or what sent the signal; a unit would have it on record which one it was."
            if sure
            else "Start it through a unit: how it ends is then on record.",
        )
    if service.get("pid_file_exists") is False and _lived(view):
        return Finding(
            confidence=0.5,
            summary="The process is gone without a last word or a pid file: it was killed, or stopped by hand.",
            evidence=[says(str(log.get("path")), f"written to until {log.get('written_at')}")],
            remedy="Ask whether it was meant to be stopped; if not, start it.",
            prevention="Start it through a unit, or by the module node_process, so that its end is on record.",
        )
    return None


def _lived(view: View) -> bool:
    """Whether the log says that the service ran within the window."""
    return bool(view.since) and (view.part("log").get("written_at") or "") >= view.since


def stopped(view: View) -> Optional[Finding]:
    """Somebody stopped it in order."""
    unit, service = view.part("unit"), view.part("service")
    if not view.gone:
        return None
    remedy = "Ask whether it was meant to be stopped; if not, start it."
    prevention = "Announce maintenance before a stop, so that nobody is called and nothing acts."
    if view.asked and (unit.get("active_state"), unit.get("result")) in (
        ("inactive", "success"),
        ("failed", "timeout"),
    ):
        late = unit.get("result") == "timeout"
        return Finding(
            confidence=0.9,
            summary="The service was stopped by somebody, did not end in time, and was killed."
            if late
            else "The service was stopped in order.",
            evidence=view.unit_ending()
            + [says("journal", f"{item['at']} {item['text']}") for item in list(view.part("journal")["stops"])[-2:]],
            remedy=remedy,
            prevention=prevention,
            only_by=(),
            details={"by_operator": True, "at": view.asked[-1]["at"]},
        )
    if (unit.get("active_state"), unit.get("result")) == ("inactive", "success") and not killed(view):
        never = "started_at" in unit and not unit["started_at"]
        if never:
            summary = "The service has not been started since the host booted, or was stopped long ago."
        elif view.blind:
            summary = "The service ended in order; the journal does not tell whether somebody stopped it."
        else:
            summary = "The service ended by itself, in order: nobody stopped it."
        return Finding(
            confidence=0.7,
            summary=summary,
            evidence=view.unit_ending(),
            remedy=remedy if view.blind or never else "Start it.",
            prevention="Enable the unit, so that it starts with the host."
            if never
            else "Let systemd restart it whenever it ends (Restart=always).",
            details={"by_operator": None if view.blind or never else False, "at": unit.get("exited_at")},
        )
    by_hand = service.get("manager") == "process" and service.get("pid_file_exists") is False
    if by_hand and not _lived(view) and not view.exceptions():
        return Finding(
            confidence=0.5,
            summary="The service is not running and left no pid file: it was stopped, or never started this way.",
            evidence=[says("pid file", "is not there")],
            remedy=remedy,
            prevention=prevention,
            details={"by_operator": None, "at": None},
        )
    return None


def start_held(view: View) -> Optional[Finding]:
    """A hold of before is in force, and nothing shows that it may be released."""
    facts = view.part("hold")
    held, kept = facts.get("held") or {}, facts.get("kept_by")
    # A damage of the database says more than the hold.
    if not held or not kept or any(view.database_problems()):
        return None
    return Finding(
        confidence=0.95,
        summary=f"The start is held by incident {held.get('incident') or 'unknown'}: {kept}.",
        evidence=[says("hold", str(held.get("reason") or held.get("cause") or "no reason is on record"))],
        remedy="Run database_recover.yml, or release the hold with outage_release.yml and a reason.",
        prevention="Keep verified backups, so that a database in doubt can be replaced at once.",
        blocks_start=True,
        useless_rungs=RUNGS,
        details={"incident": held.get("incident"), "at": held.get("at")},
    )


def wal_pending(view: View) -> Optional[Finding]:
    """Committed rows stand in the WAL alone: not why it fell, but what must not be lost now."""
    wal = view.part("database").get("wal") or {}
    pending = wal.get("pages_pending") or 0
    if not view.gone or not pending:
        return None
    return Finding(
        confidence=0.2,
        summary=f"{pending} committed pages of the database stand in its -wal file alone.",
        evidence=[says(f"{view.part('database').get('path')}-wal", f"{wal.get('frames_committed')} committed frames")],
        remedy="Do not delete the -wal. Starting the service, or a checkpoint (module sqlite_wal), brings them home.",
        prevention="Let the service close its database when it is stopped (a handler for SIGTERM).",
    )


def unknown(view: View) -> Optional[Finding]:
    """It is down and nothing says why. Taken only where no other rule speaks."""
    if not view.down:
        return None
    if view.gone and view.exited:
        what = f"ended with exit code {view.part('unit').get('exit_status')}"
    else:
        what = "has no process" if view.gone else "does not serve " + (" and ".join(view.unserved) or "every port")
    return Finding(
        confidence=0.1,
        summary=f"The service {what}, and nothing that was looked at says why.",
        evidence=view.unit_ending(),
        remedy="Read the evidence; restart it if nothing speaks against it.",
        prevention="Let the service log why it ends, so that the next time something says why.",
    )


@dataclasses.dataclass(frozen=True)
class Cause:
    """A row of the table: the rule, and the causes that are its consequences where both are found.

    C(symptom): its word on rungs counts only where nothing else explains it, since it goes with what does.
    """

    rule: Callable[[View], Optional[Finding]]
    explains: Tuple[str, ...] = ()
    symptom: bool = False


_FALLS = ("unhandled_exception", "crash_loop", "stopped", "killed", "wal_pending")
# By what a misfit reaches, see L(mismatches).
_OF_MISFITS: Dict[str, Tuple[str, ...]] = {
    mismatches.START: _FALLS,
    mismatches.MODULES: ("modules_broken",),
    mismatches.DATABASE: ("db_corrupt", "db_unchecked", "migration_pending"),
    mismatches.HTTPS: ("tls_expired",),
}

CAUSES: Dict[str, Cause] = {
    "disk_full": Cause(disk_full, ("db_locked", "tls_expired", "migration_pending", "hung", *_FALLS)),
    "disk_read_only": Cause(disk_read_only, ("db_locked", "migration_pending", "hung", *_FALLS)),
    "oom_kill": Cause(oom_kill, ("heap_oom", *_FALLS)),
    "heap_oom": Cause(heap_oom, _FALLS),
    "config_mismatch": Cause(
        config_mismatch, tuple(dict.fromkeys(cause for row in _OF_MISFITS.values() for cause in row))
    ),
    "unit_masked": Cause(causes_of_start.unit_masked, ("stopped", "crash_loop", "wal_pending")),
    "unit_invalid": Cause(causes_of_start.unit_invalid, ("stopped", "crash_loop", "wal_pending")),
    "environment_missing": Cause(
        causes_of_start.environment_missing, ("config_mismatch", "crash_loop", "stopped", "wal_pending")
    ),
    "exec_failed": Cause(causes_of_start.exec_failed, ("config_mismatch", "crash_loop", "stopped", "wal_pending")),
    "syntax_error": Cause(
        causes_of_start.syntax_error, ("unhandled_exception", "crash_loop", "stopped", "wal_pending")
    ),
    "database_owner": Cause(causes_of_start.database_owner, ("db_locked", "migration_pending", "hung", *_FALLS)),
    "db_corrupt": Cause(db_corrupt, ("start_held", "migration_pending", "hung", *_FALLS)),
    "db_unchecked": Cause(db_unchecked),
    "start_held": Cause(start_held, ("stopped",)),
    "port_conflict": Cause(port_conflict, ("hung", *_FALLS)),
    "modules_broken": Cause(modules_broken, _FALLS),
    "db_locked": Cause(db_locked, ("hung", "migration_pending", *_FALLS)),
    "migration_pending": Cause(migration_pending, _FALLS),
    "tls_expired": Cause(tls_expired, _FALLS),
    "hung": Cause(hung, ("wal_pending",)),
    "unhandled_exception": Cause(unhandled_exception, ("crash_loop", "stopped", "killed", "wal_pending"), symptom=True),
    "killed": Cause(killed, ("crash_loop", "wal_pending")),
    "crash_loop": Cause(crash_loop, ("stopped", "wal_pending"), symptom=True),
    "stopped": Cause(stopped, ("wal_pending",)),
    "unknown": Cause(unknown),
    "wal_pending": Cause(wal_pending),
}


# The words by which an error says that it came of a cause.
_WORDS = {
    "disk_full": ("disk_full",),
    "port_conflict": ("port_taken",),
    "db_locked": ("db_locked",),
    "modules_broken": ("module_missing",),
    "migration_pending": ("migration_locked", "migration_missing"),
    "exec_failed": (),
    "syntax_error": (),
}


def _still_explains(name: str, other: str, *, found: Mapping[str, Finding]) -> bool:
    """Whether a cause that is over explains another one: only an error that names it, and falls by that error."""
    error = found.get("unhandled_exception")
    if other == "killed":
        # systemd waited for it too long: the wait may have had that cause.
        return found[other].only_by is None
    if other not in ("unhandled_exception", "crash_loop", "wal_pending"):
        return False
    if other == "wal_pending" or error is None:
        return True
    text = "\n".join([str(error.details.get("exception")), *(item["text"] for item in error.evidence)])
    return any(log_patterns.SIGNATURES[word].search(text) for word in _WORDS[name])


def _explains(name: str, other: str, *, found: Mapping[str, Finding]) -> bool:
    """Whether of what was C(found) the cause C(name) explains the cause C(other)."""
    finding, only_by = found[name], found[other].only_by
    if other not in CAUSES[name].explains or finding.confidence < _LIKELY:
        return False
    if finding.past and not _still_explains(name, other, found=found):
        return False
    return (finding.explains is None or other in finding.explains) and (only_by is None or name in only_by)


def _ranked(found: Mapping[str, Finding]) -> List[Finding]:
    """Order by confidence, past causes after present ones; no finding comes before one that explains it.

    That nothing says why comes before what is worth a note, and explains nothing.
    """
    explained_by = {name: [other for other in found if _explains(other, name, found=found)] for name in found}
    ranked: List[Finding] = []
    waiting = sorted(
        found,
        key=lambda name: (
            found[name].confidence < _LIKELY and name != "unknown",
            found[name].past,
            -found[name].confidence,
        ),
    )
    while waiting:
        name = next(name for name in waiting if not any(other in waiting for other in explained_by[name]))
        waiting.remove(name)
        by = [item.cause for item in ranked if item.cause in explained_by[name]]
        finding = dataclasses.replace(found[name], cause=name, explained_by=by[0] if by else None)
        if by and CAUSES[name].symptom:
            finding = dataclasses.replace(finding, useless_rungs=())
        ranked.append(finding)
    return ranked


def evaluate(facts: Mapping[str, Any]) -> List[Finding]:
    """Return the findings, the cause to deal with first at the front; none on a host where nothing is wrong."""
    view = View(facts)
    found = {}
    for name, cause in CAUSES.items():
        finding = cause.rule(view)
        if finding is not None:
            found[name] = finding
    if any(finding.confidence >= _LIKELY for finding in found.values()):
        found.pop("unknown", None)
    return _ranked(found)
