# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions about the rungs of the ladder: which rung to try, and why a rung was not tried."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, with_stop
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ONLY_START, RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, joined, once

NO_REASON = Reason("", ())


@dataclasses.dataclass(frozen=True)
class Rung:
    """The decision about the next rung.

    useless: the reason why the rung cannot help, or an empty string if it may help. A rung that cannot help is skipped.
    useless_messages: the same text in the form of messages.
    """

    climb: bool
    useless: str
    useless_messages: List[Dict[str, Any]]


def obstacles(facts: Facts) -> List[Reason]:
    """Return the reason why no rung is allowed.

    Possible reasons: an earlier step forbids rungs, a start would cause harm, or no rung can help. The list is empty if
    a rung is allowed.
    """
    standing = [each for each in facts.standing if each.get("blocks_start") or not each.get("rungs_help")]
    causes = [each["cause"] for each in standing]
    # Skip findings that another finding explains.
    roots = [each for each in standing if each.get("explained_by") not in causes]
    found = [facts.why("halted_before")] if facts.halted_before else []
    found += [summary(each) for each in roots if each.get("blocks_start")]
    found += [summary(each) for each in roots if not each.get("rungs_help")]
    return once(found)


def summary(finding: Mapping[str, Any]) -> Reason:
    """Return the summary of a finding."""
    return Reason.read(finding, "summary")


def useless(facts: Facts, rung: str) -> List[Reason]:
    """Return the reason why a rung cannot help. Ignore findings whose cause was fixed by a remedy."""
    remediated = facts.remediated
    found = [
        summary(each)
        for each in facts.standing
        if rung in each.get("useless_rungs", ())
        and each["cause"] not in remediated
        and each["explained_by"] not in remediated
    ]
    if rung in ONLY_START and facts.crash_loop.get("looping") and not remediated:
        found.append(_looping(facts.crash_loop))
    return found


def _looping(crash_loop: Mapping[str, Any]) -> Reason:
    minutes = round(float(crash_loop["window"]) / 60)
    if crash_loop.get("fell"):
        return Reason.of(message("reason.loop.fell", minutes=minutes))
    return Reason.of(message("reason.loop.started", times=int(crash_loop["restarts"]), minutes=minutes))


def rung(facts: Facts, name: str) -> Rung:
    """Decide whether to try a rung.

    The ladder ends after a rung that succeeded, was halted, or failed and restored the previous state.
    """
    ended = any(each.get("held") or each.get("halted") or each.get("restored") for each in facts.tried)
    reasons = useless(facts, name)
    return Rung(
        climb=not ended and not obstacles(facts),
        useless=" ".join(with_stop(each.text) for each in reasons),
        useless_messages=joined(reasons).plain(),
    )


def why_no_rung(facts: Facts) -> Reason:
    """Return the reason why no rung was tried. If a rung was tried, the reason is empty."""
    if facts.tried:
        return NO_REASON
    if facts.severity in ("critical", "emergency") and facts.severity not in facts.act_on:
        if not facts.act_on:
            return Reason.of(message("reason.only_notifies"))
        return Reason.of(message("reason.not_acted_on", severity=facts.severity, act_on=list(facts.act_on)))
    return joined(obstacles(facts) or once([Reason.read(each, "reason") for each in facts.skipped]))


def not_reached(facts: Facts, *, failed: bool) -> List[Dict[str, Any]]:
    """Return the rungs of the ladder that were neither tried nor skipped, each with the reason.

    failed: True if the run failed. Otherwise, the list is empty. If no rung was tried or skipped, the list is also
    empty, because the error contains the reason.
    """
    passed = [str(each["rung"]) for each in (*facts.tried, *facts.skipped)]
    if not passed or not failed:
        return []
    rest = [(name, _why_not_reached(facts, name)) for name in RUNGS if name not in passed]
    return [{"rung": name, "reason": why.text, "messages": {"reason": why.plain()}} for name, why in rest]


def name_of(rung: str) -> Union[str, Message]:
    """Return the name of a rung as a message, or the name itself if the catalogue does not contain it."""
    return message(f"part.{rung}") if catalogue.of("en").knows("part", rung) else rung


def _why_not_reached(facts: Facts, name: str) -> Reason:
    """Return the reason why the run has not reached a rung. The first rule that applies determines the reason."""
    ended = [name_of(str(each["rung"])) for each in facts.tried if each.get("halted")]
    rules = (
        (message("reason.rung.not_in_run"), name not in facts.rungs),
        (message("reason.rung.lost"), bool(facts.lost)),
        (message("reason.rung.stopped"), bool(facts.error)),
        (message("reason.rung.serves"), any(each.get("serves") for each in facts.tried)),
        (message("reason.rung.ended", rung=ended[0] if ended else None), bool(ended)),
    )
    known = next((why for why, applies in rules if applies), None)
    return Reason.of(known) if known else joined(obstacles(facts))
