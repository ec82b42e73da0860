# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that are derived from the process's state or exit: hung, crash loop, killed, stopped, held, unknown."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import from_dict, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import LOOP_FALLS, only_start
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.process import SENT
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.service import SIGNALS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# Causes that make a process abort. systemd reports an abort as an exit caused by a signal.
_CRASHES = ("heap_oom", "modules_broken", "db_corrupt", "disk_full", "config_mismatch", "unhandled_exception")

# If a process has used this share of its limit for open files and connections, the next connection may fail.
_MANY_FILES = 0.95


def hung(facts: Facts) -> Optional[Finding]:
    """Report a process that exists but does not answer."""
    stopped_ones = [item for item in facts.process.processes if item["state"] in ("T", "t")]
    dead = [item for item in facts.process.processes if item["state"] == "D"]
    waiting = [answer for answer in facts.ports.waiting if answer.listening]
    if facts.process.gone or not (stopped_ones or waiting):
        return None
    evidence = [
        says(
            f"/proc/{item['pid']}/status",
            message("evidence.process_state", state=str(item["state"]), waits_in=item.get("wait_channel") or "-"),
        )
        for item in [*stopped_ones, *dead]
    ]
    evidence += [
        says(
            message("evidence.source.port", port=answer.port),
            message("evidence.no_response", why=quoted(answer.error))
            if answer.error
            else message("evidence.closed_without_response"),
        )
        for answer in waiting
    ]
    pressure = facts.memory.pressure
    for name, values in (pressure if isinstance(pressure, dict) else {}).items():
        stalled = ((values or {}).get("full") or {}).get("avg10") or 0
        if stalled >= 20:
            told = message("evidence.pressure", resource=str(name), percent=str(stalled))
            evidence.append(says(f"/proc/pressure/{name}", told))
    return Finding(
        confidence=0.97 if stopped_ones else 0.85,
        # Only a signal from another process can suspend a process, so few causes can explain a suspended process.
        only_by=("port_conflict",) if stopped_ones else None,
        summary=message("finding.hung.stopped", pid=stopped_ones[0]["pid"])
        if stopped_ones
        else message("finding.hung.silent"),
        evidence=evidence,
        remedy=message("remedy.restart"),
        prevention=message("prevention.hung.stopped" if stopped_ones else "prevention.hung.silent"),
    )


def too_many_files(facts: Facts) -> Optional[Finding]:
    """Report a process that has almost as many files and connections open as its limit allows."""
    near = [
        item
        for item in facts.process.processes
        if (item.get("open_files") or 0) >= (item.get("open_files_max") or float("inf")) * _MANY_FILES
    ]
    words = facts.errors.signature("too_many_files") if facts.troubled or near else []
    if not near and not words:
        return None
    if near:
        values = {name: near[0][name] for name in ("pid", "open_files", "open_files_max")}
        summary = message("finding.too_many_files.now", **values)
    else:
        summary = message("finding.too_many_files.past")
    return Finding(
        confidence=0.9 if near else 0.7,
        summary=summary,
        evidence=[
            says(
                f"/proc/{item['pid']}/fd",
                message("evidence.open_files", number=item["open_files"], most=item["open_files_max"]),
            )
            for item in near
        ]
        + words,
        remedy=message("remedy.too_many_files"),
        prevention=message("prevention.too_many_files"),
    )


def crash_loop(facts: Facts) -> Optional[Finding]:
    """Report a service that fails repeatedly."""
    unit, journal = facts.unit, facts.journal
    # Outages from which the service has recovered are ignored. systemd resets its counter at each manual start.
    limit = unit.result == "start-limit-hit" or any(
        item["at"] > facts.process.served_at for item in journal.start_limit
    )
    if not facts.troubled or not (limit or facts.process.falls >= LOOP_FALLS):
        return None
    variant, own = "given_up" if limit else "now", facts.process.falls_after_own_start
    if own:
        summary = message(f"finding.crash_loop.{variant}_own", times=facts.process.falls, own=own)
    else:
        summary = message(f"finding.crash_loop.{variant}", times=facts.process.falls)
    return Finding(
        confidence=0.93,
        summary=summary,
        evidence=facts.unit.ending() + [says("journal", item["text"]) for item in facts.process.exits[-3:]],
        remedy=message("remedy.crash_loop"),
        prevention=message("prevention.crash_loop"),
        useless_rungs=only_start(facts),
        details={"falls": facts.process.falls, "exception": facts.errors.text()[:500]},
    )


def killed(facts: Facts) -> Optional[Finding]:
    """Report a signal that terminated the process."""
    unit = facts.unit
    if not facts.troubled:
        return None
    result, hard = unit.result, unit.exit_code in ("killed", "dumped")
    name = SIGNALS.get(unit.exit_status or 0, str(unit.exit_status))
    ended = says("journal", facts.process.exits[-1]["text"]) if facts.process.exits else None
    # systemd reports an exit after SIGTERM as success, even if systemd did not send the signal.
    sent = facts.process.gone and hard and result == "success" and ended is not None and not facts.process.asked
    if result in ("signal", "core-dump", "watchdog") or (result == "timeout" and not facts.process.asked) or sent:
        return Finding(
            confidence=0.85 if sent else 0.9,
            only_by=None if facts.process.given_up else _sends(facts.process.signal),
            summary=message("finding.killed.signal", signal=name)
            if hard
            else message("finding.killed.by_systemd", result=str(result)),
            evidence=facts.unit.ending() + ([ended] if ended else []),
            remedy=message("remedy.start"),
            prevention=message(
                "prevention.killed.timeout" if result in ("watchdog", "timeout") else "prevention.killed.sender"
            ),
        )
    if facts.process.last_fall and facts.process.signal:
        return Finding(
            confidence=0.85,
            only_by=None if facts.process.given_up else _sends(facts.process.signal),
            summary=message("finding.killed.restarted", signal=facts.process.signal),
            evidence=[says("journal", facts.process.last_fall)],
            remedy=message("remedy.killed.verify"),
            prevention=message("prevention.killed.sender"),
        )
    return _gone_without_a_word(facts)


def _sends(signal: str) -> Sequence[str]:
    """Return the causes that can terminate a process with this signal. HUP, INT, QUIT and TERM have no such causes."""
    if signal == "KILL":
        return ("oom_kill",)
    return () if signal in SENT else _CRASHES


def _gone_without_a_word(facts: Facts) -> Optional[Finding]:
    """Return a finding if a plain process is gone without an error in its log, otherwise None."""
    service, log = facts.service, facts.log
    if service.manager != "process" or not facts.process.gone or facts.errors.exceptions() or facts.errors.last_word():
        return None
    if service.pid_file_exists:
        # The evidence can exclude two causes: the host went down, or the kernel killed the process. The process may
        # also have exited without a message. The evidence cannot exclude such an exit, because only the parent process
        # receives the exit code.
        ruled_out = _host_stayed_up(facts) + _no_out_of_memory(facts)
        sure = len(ruled_out) == 2
        return Finding(
            confidence=0.85 if sure else 0.7,
            summary=message("finding.killed.silent" if sure else "finding.killed.silent_or_host"),
            # Other causes would have logged an error at the end of the log.
            only_by=("oom_kill", "disk_full", "disk_read_only", "config_mismatch"),
            evidence=[
                says(message("evidence.source.pid_file"), message("evidence.pid_file_stale")),
                *ruled_out,
            ],
            remedy=message("remedy.start"),
            prevention=message("prevention.killed.unit_records" if sure else "prevention.killed.unit"),
        )
    if service.pid_file_exists is False and _lived(facts):
        return Finding(
            confidence=0.5,
            summary=message("finding.killed.no_pid_file"),
            evidence=[says(log.path, message("evidence.written_until", at=str(log.written_at)))],
            remedy=message("remedy.stopped.ask"),
            prevention=message("prevention.killed.recorded_start"),
        )
    return None


def _host_stayed_up(facts: Facts) -> List[Dict[str, str]]:
    """Return evidence that the host has stayed up since the service last wrote to its log."""
    booted, written = facts.window.booted_at, facts.log.written_at
    if not booted or not written or written <= booted:
        return []
    told = message("evidence.host_stayed_up", booted=booted, written=written)
    return [says(message("evidence.source.init"), told)]


def _no_out_of_memory(facts: Facts) -> List[Dict[str, str]]:
    """Return evidence that the kernel's out-of-memory killer did not kill any process."""
    kernel = facts.kernel
    if not kernel.source or kernel.out_of_memory:
        return []
    return [says(kernel.source, message("evidence.no_out_of_memory"))]


def _lived(facts: Facts) -> bool:
    """Return True if the log shows that the service was running within the window."""
    return bool(facts.window.since) and facts.log.written_at >= facts.window.since


def stopped(facts: Facts) -> Optional[Finding]:
    """Report that a person or a program stopped the service in the normal way."""
    unit, service = facts.unit, facts.service
    if not facts.process.gone:
        return None
    remedy, prevention = message("remedy.stopped.ask"), message("prevention.stopped.announce")
    if facts.process.asked and (unit.active_state, unit.result) in (
        ("inactive", "success"),
        ("failed", "timeout"),
    ):
        late = unit.result == "timeout"
        return Finding(
            confidence=0.9,
            summary=message("finding.stopped.late" if late else "finding.stopped.normally"),
            evidence=facts.unit.ending()
            + [says("journal", f"{item['at']} {item['text']}") for item in list(facts.journal.stops)[-2:]],
            remedy=remedy,
            prevention=prevention,
            only_by=(),
            details={"by_operator": True, "at": facts.process.asked[-1]["at"]},
        )
    if (unit.active_state, unit.result) == ("inactive", "success") and not killed(facts):
        never = not unit.started_at
        variant = "never" if never else "unseen" if facts.process.blind else "by_itself"
        return Finding(
            confidence=0.7,
            summary=message(f"finding.stopped.{variant}"),
            evidence=facts.unit.ending(),
            remedy=remedy if facts.process.blind or never else message("remedy.start"),
            prevention=message("prevention.stopped.enable" if never else "prevention.stopped.restart"),
            details={"by_operator": None if facts.process.blind or never else False, "at": unit.exited_at},
        )
    by_hand = service.manager == "process" and service.pid_file_exists is False
    if by_hand and not _lived(facts) and not facts.errors.exceptions():
        return Finding(
            confidence=0.5,
            summary=message("finding.stopped.no_pid_file"),
            evidence=[says(message("evidence.source.pid_file"), message("evidence.absent"))],
            remedy=remedy,
            prevention=prevention,
            details={"by_operator": None, "at": None},
        )
    return None


def start_held(facts: Facts) -> Optional[Finding]:
    """Report an earlier hold that still applies, because this run cannot release the hold."""
    held, kept = facts.hold.held, facts.hold.kept_by
    # Database damage is a more specific cause than the hold.
    if not held or not kept or facts.database.damages or facts.database.unread:
        return None
    told = facts.hold.messages.get("kept_by")
    return Finding(
        confidence=0.95,
        summary=message(
            "finding.start_held",
            incident=held.get("incident") or "?",
            reason=from_dict(told) if told else quoted(kept),
        ),
        evidence=[
            says(
                message("evidence.source.hold"),
                held.get("reason") or held.get("cause") or message("evidence.no_reason_recorded"),
            )
        ],
        remedy=message("remedy.start_held"),
        prevention=message("prevention.start_held"),
        blocks_start=True,
        useless_rungs=RUNGS,
        details={"incident": held.get("incident"), "at": held.get("at")},
    )


def unknown(facts: Facts) -> Optional[Finding]:
    """Report a service that is down without a known cause. evaluate() drops this finding if a likely cause is found."""
    if not facts.down:
        return None
    if facts.process.gone and facts.unit.exited:
        summary = message("finding.unknown.exit_code", code=str(facts.unit.exit_status))
    elif facts.process.gone:
        summary = message("finding.unknown.gone")
    elif facts.ports.unserved:
        summary = message("finding.unknown.silent", ports=list(facts.ports.unserved))
    else:
        summary = message("finding.unknown.every_port")
    return Finding(
        confidence=0.1,
        summary=summary,
        evidence=facts.unit.ending(),
        remedy=message("remedy.unknown"),
        prevention=message("prevention.unknown"),
    )
