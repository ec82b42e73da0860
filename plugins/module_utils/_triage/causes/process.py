# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that show in how the process ended: hung, killed, stopped, held, or unknown."""

from __future__ import annotations

from typing import Optional, Sequence

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
    if not view.troubled or not (limit or view.falls >= LOOP_FALLS):
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
