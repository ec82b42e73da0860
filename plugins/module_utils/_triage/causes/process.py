# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that show in how the process ended: hung, killed, stopped, held, or unknown."""

from __future__ import annotations

from typing import Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import from_dict, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import LOOP_FALLS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import SENT, SIGNALS, View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# What makes a process end itself by a signal.
_CRASHES = ("heap_oom", "modules_broken", "db_corrupt", "disk_full", "config_mismatch", "unhandled_exception")


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
        summary=message("finding.hung.stopped", pid=stopped_ones[0]["pid"])
        if stopped_ones
        else message("finding.hung.silent"),
        evidence=evidence,
        remedy=message("remedy.restart"),
        prevention=message("prevention.hung.stopped" if stopped_ones else "prevention.hung.silent"),
    )


def crash_loop(view: View) -> Optional[Finding]:
    """It falls again and again."""
    unit, journal = view.part("unit"), view.part("journal")
    # Outages from which it has recovered do not count. systemd resets its counter at each start by a person.
    limit = unit.get("result") == "start-limit-hit" or any(
        item["at"] > view.served_at for item in journal.get("start_limit") or ()
    )
    if not view.troubled or not (limit or view.falls >= LOOP_FALLS):
        return None
    return Finding(
        confidence=0.93,
        summary=message("finding.crash_loop.given_up" if limit else "finding.crash_loop.now", times=view.falls),
        evidence=view.unit_ending() + [says("journal", item["text"]) for item in view.exits[-3:]],
        remedy=message("remedy.crash_loop"),
        prevention=message("prevention.crash_loop"),
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
    # For systemd, an end by SIGTERM is clean, even if systemd did not send it.
    sent = view.gone and hard and result == "success" and ended is not None and not view.asked
    if result in ("signal", "core-dump", "watchdog") or (result == "timeout" and not view.asked) or sent:
        return Finding(
            confidence=0.85 if sent else 0.9,
            only_by=None if view.given_up else _sends(view.signal),
            summary=message("finding.killed.signal", signal=name)
            if hard
            else message("finding.killed.by_systemd", result=str(result)),
            evidence=view.unit_ending() + ([ended] if ended else []),
            remedy=message("remedy.start"),
            prevention=message(
                "prevention.killed.timeout" if result in ("watchdog", "timeout") else "prevention.killed.sender"
            ),
        )
    if view.last_fall and view.signal:
        return Finding(
            confidence=0.85,
            only_by=None if view.given_up else _sends(view.signal),
            summary=message("finding.killed.restarted", signal=view.signal),
            evidence=[says("journal", view.last_fall)],
            remedy=message("remedy.killed.verify"),
            prevention=message("prevention.killed.sender"),
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
            summary=message("finding.killed.silent" if sure else "finding.killed.silent_or_host"),
            # An earlier complaint would have been its last log line.
            only_by=("oom_kill", "disk_full", "disk_read_only", "config_mismatch"),
            evidence=[
                says("pid file", "it is there, the process is not, and the log ends without an error"),
                *ruled_out,
            ],
            remedy=message("remedy.start"),
            prevention=message("prevention.killed.unit_records" if sure else "prevention.killed.unit"),
        )
    if service.get("pid_file_exists") is False and _lived(view):
        return Finding(
            confidence=0.5,
            summary=message("finding.killed.no_pid_file"),
            evidence=[says(str(log.get("path")), f"written to until {log.get('written_at')}")],
            remedy=message("remedy.stopped.ask"),
            prevention=message("prevention.killed.recorded_start"),
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
    remedy, prevention = message("remedy.stopped.ask"), message("prevention.stopped.announce")
    if view.asked and (unit.get("active_state"), unit.get("result")) in (
        ("inactive", "success"),
        ("failed", "timeout"),
    ):
        late = unit.get("result") == "timeout"
        return Finding(
            confidence=0.9,
            summary=message("finding.stopped.late" if late else "finding.stopped.normally"),
            evidence=view.unit_ending()
            + [says("journal", f"{item['at']} {item['text']}") for item in list(view.part("journal")["stops"])[-2:]],
            remedy=remedy,
            prevention=prevention,
            only_by=(),
            details={"by_operator": True, "at": view.asked[-1]["at"]},
        )
    if (unit.get("active_state"), unit.get("result")) == ("inactive", "success") and not killed(view):
        never = "started_at" in unit and not unit["started_at"]
        variant = "never" if never else "unseen" if view.blind else "by_itself"
        return Finding(
            confidence=0.7,
            summary=message(f"finding.stopped.{variant}"),
            evidence=view.unit_ending(),
            remedy=remedy if view.blind or never else message("remedy.start"),
            prevention=message("prevention.stopped.enable" if never else "prevention.stopped.restart"),
            details={"by_operator": None if view.blind or never else False, "at": unit.get("exited_at")},
        )
    by_hand = service.get("manager") == "process" and service.get("pid_file_exists") is False
    if by_hand and not _lived(view) and not view.exceptions():
        return Finding(
            confidence=0.5,
            summary=message("finding.stopped.no_pid_file"),
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
    told = (facts.get("messages") or {}).get("kept_by")
    return Finding(
        confidence=0.95,
        summary=message(
            "finding.start_held",
            incident=held.get("incident") or "?",
            reason=from_dict(told) if told else quoted(kept),
        ),
        evidence=[says("hold", str(held.get("reason") or held.get("cause") or "no reason is on record"))],
        remedy=message("remedy.start_held"),
        prevention=message("prevention.start_held"),
        blocks_start=True,
        useless_rungs=RUNGS,
        details={"incident": held.get("incident"), "at": held.get("at")},
    )


def unknown(view: View) -> Optional[Finding]:
    """The service is down and no cause is known. Used only if no other rule applies."""
    if not view.down:
        return None
    if view.gone and view.exited:
        summary = message("finding.unknown.exit_code", code=str(view.part("unit").get("exit_status")))
    elif view.gone:
        summary = message("finding.unknown.gone")
    elif view.unserved:
        summary = message("finding.unknown.silent", ports=list(view.unserved))
    else:
        summary = message("finding.unknown.every_port")
    return Finding(
        confidence=0.1,
        summary=summary,
        evidence=view.unit_ending(),
        remedy=message("remedy.unknown"),
        prevention=message("prevention.unknown"),
    )
