# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide after a failed rung whether the ladder ends, and whether the service is started in its previous state."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import failures

# The module that starts the service. A second start would fail in the same way.
_START = "itsm_nexus.runbook.node_process"
# Ansible runs this task before the first task of a role. It fails if a setting of the role is invalid.
_VALIDATION = ("validate_argument_spec", "ansible.builtin.validate_argument_spec")
# The role with the settings of the service. Every rung and the verification need these settings.
_SERVICE = "nexus"
# These words separate the text of a rung's first failure from the text of its second failure (see failures.later).
_AGAIN = {"then": "; then ", "restored": "; restoring the previous state also failed: "}


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task that failed in a rung, or in the verification after the rung.

    reason, messages: why the task failed, as text and as messages.
    """

    reason: str
    messages: Sequence[Mapping[str, Any]]
    # The full name of the task's module.
    action: str = ""
    # The role whose settings are invalid, without its collection, or empty.
    invalid_role: str = ""
    # True if the host could not be reached, so that the result of the task is unknown.
    host_lost: bool = False
    # True if the disk has too little space for the rung. Another rung may need less space.
    no_room: bool = False
    # True if the role of the rung reports that another rung could cause damage.
    damaging: bool = False
    # True if a task of the rung has started or stopped the service.
    began: bool = False
    # True if the first response started the service, so that the rung only verifies it.
    already_started: bool = False
    # True if the verification has a result. The following fields are part of this result.
    verified: bool = False
    # True if the service stayed up, although the verification failed, for example because the login failed.
    stays_up: bool = False
    # True if the service failed again during the stability check.
    fell: bool = False
    loss_suspected: bool = False

    @property
    def serves(self) -> bool:
        """True if the service stays up and no rows seem to be lost.

        In this case, there is no reason to stop the service.
        """
        return self.stays_up and not self.loss_suspected

    @property
    def halts(self) -> bool:
        """True if the service must not be stopped again, because it stays up or because rows may be lost."""
        return self.stays_up or self.loss_suspected

    @property
    def not_verifiable(self) -> bool:
        """True if no rung can be verified because settings are invalid.

        These are the settings of the service, or, if the service was started, the settings of the verification.
        """
        started = self.began or self.already_started
        return self.action in _VALIDATION and (started or self.invalid_role == _SERVICE)

    @property
    def ends_ladder(self) -> bool:
        """True if another rung could cause damage, if no rung can be verified, or if only the login check failed."""
        return (self.damaging and not self.no_room) or self.halts or self.not_verifiable

    @property
    def held(self) -> Optional[bool]:
        """False, or None if the rung may have succeeded before the connection was lost."""
        return None if self.host_lost else False

    def restorable(self, *, first: bool, check_mode: bool) -> bool:
        """Return True if the service is started again in its previous state. first: True if no rung was tried before.

        A rung may fail before it can start the service. The service is started if the failed rung has stopped it, or if
        no earlier rung has started it.
        """
        not_started = not self.verified and self.action != _START
        return not (self.ends_ladder or check_mode or self.host_lost) and not_started and (self.began or first)


def read(seen: Mapping[str, Any]) -> Failure:
    """Return the failure of a task.

    seen: the fields of Failure down to already_started, and the result of the verification. If the verification has not
    run, its result is empty.
    """
    verification = seen.get("verification") or {}
    return Failure(
        reason=str(seen["reason"]),
        messages=list(seen.get("messages") or ()),
        action=str(seen["action"]),
        invalid_role=str(seen.get("invalid_role") or "").rsplit(".", 1)[-1],
        **{name: bool(seen.get(name)) for name in ("host_lost", "no_room", "damaging", "began", "already_started")},
        verified=bool(verification),
        stays_up=bool(verification.get("serves")),
        fell=bool(verification.get("fell")),
        loss_suspected=bool(verification.get("data_loss_suspected")),
    )


def failed(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the result of a rung that failed (`attempt`), and `restore`: True if the service is started as before.

    seen: the keys of read(), attempt (rung, started_at, seconds), tried (the earlier attempts), and check_mode.
    """
    failure = read(seen)
    attempt = {
        **seen["attempt"],
        "held": failure.held,
        "halted": failure.ends_ladder,
        "fell": failure.fell,
        "serves": failure.serves,
        "reason": failure.reason,
        "messages": {"reason": list(failure.messages)},
    }
    restore = failure.restorable(first=not seen.get("tried"), check_mode=bool(seen.get("check_mode")))
    return {"attempt": attempt, "restore": restore}


def failed_again(seen: Mapping[str, Any], how: str) -> List[Mapping[str, Any]]:
    """Return the attempts (tried), with the second failure of the last one.

    seen: see failed(). how: "then" if the rung was checked again after the connection was lost, or "restored" if the
    service could not be started in its previous state.
    """
    failure = read(seen)
    *before, last = seen["tried"]
    again: Dict[str, Any] = {
        "reason": f"{last['reason']}{_AGAIN[how]}{failure.reason}",
        "messages": {"reason": failures.later((last.get("messages") or {}).get("reason"), failure.messages, how)},
        "fell": failure.fell,
        "serves": failure.serves,
    }
    if how == "restored":
        again.update(halted=failure.halts)
    else:
        again.update(held=failure.held, halted=failure.ends_ladder)
    return [*before, {**last, **again}]
