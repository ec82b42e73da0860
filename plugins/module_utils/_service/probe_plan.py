# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requests to the service, their intervals, and the rules for the verdict."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError

_PROOF: Dict[str, Any] = {
    "validate_certs": {"type": "bool", "default": False},
    "ca_path": {"type": "path", "default": ""},
}
_ENDPOINT: Dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "required": {"type": "bool", "default": True},
    **_PROOF,
}
_LOGIN: Dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    **_PROOF,
}
# Options from the "endpoints" documentation fragment.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "endpoints": {"type": "list", "elements": "dict", "required": True, "options": _ENDPOINT},
    "ok_statuses": {"type": "list", "elements": "str", "default": ["ok"]},
    "login": {"type": "dict", "options": _LOGIN},
}


class HealthError(ServiceError):
    """A parameter is invalid (the message contains its name). A service that does not answer is not an error."""


class Target(NamedTuple):
    """One URL, and how to verify the server's certificate.

    ca_path: a file with trusted certificates, or "" for the system's certificates.
    """

    name: str
    url: str
    required: bool = True
    validate_certs: bool = False
    ca_path: str = ""


class Login(NamedTuple):
    """A login. If the login fails, the service is unhealthy."""

    target: Target
    username: str
    password: str


def login_of(given: Optional[Mapping[str, Any]]) -> Optional[Login]:
    """Return the login from the `login` option, or None if it is not set."""
    if not given:
        return None
    target = Target("login", given["url"], validate_certs=given["validate_certs"], ca_path=given["ca_path"])
    return Login(target=target, username=given["username"], password=given["password"])


class Plan:
    """Limits for a health check. Times are in seconds. interval: time between the starts of two probes.

    sole_starter: True if only the caller is allowed to start the service. In this case, the check does not wait for
    systemd to restart the service.
    """

    # This class is not a named tuple, because a named tuple cannot have a field named `count`.
    __slots__ = (
        "count",
        "critical_after",
        "deadline",
        "interval",
        "mode",
        "ok_statuses",
        "sole_starter",
        "timeout",
        "warning_after",
    )

    def __init__(
        self,
        *,
        mode: str = "watch",
        ok_statuses: Sequence[str] = ("ok",),
        timeout: float = 5.0,
        interval: float = 1.0,
        warning_after: int = 3,
        critical_after: int = 5,
        deadline: float = 60.0,
        count: int = 6,
        sole_starter: bool = False,
    ) -> None:
        self.mode = mode
        self.ok_statuses = ok_statuses
        self.timeout = timeout
        self.interval = interval
        self.warning_after = warning_after
        self.critical_after = critical_after
        self.deadline = deadline
        self.count = count
        self.sole_starter = sole_starter


def _check_target(target: Target, *, parameter: str) -> None:
    parts = urllib.parse.urlsplit(target.url)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        usable = False
    if not usable:
        raise HealthError(f"{parameter}: {target.url!r} must be an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise HealthError(f"{parameter}: the URL of {target.name!r} must not contain a user or password")
    if target.ca_path and not os.access(target.ca_path, os.R_OK):
        raise HealthError(f"{parameter}: ca_path {target.ca_path!r} must be a readable file of certificates")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(targets: Sequence[Target], plan: Plan, *, login: Optional[Login] = None) -> None:
    """Raise HealthError if a parameter is invalid or contradicts another parameter."""
    if not any(target.required for target in targets):
        raise HealthError("endpoints: at least one endpoint must have required=true")
    for target in targets:
        _check_target(target, parameter="endpoints")
    if not 1 <= plan.warning_after <= plan.critical_after:
        raise HealthError(
            f"warning_after {plan.warning_after} and critical_after {plan.critical_after} must be "
            "1 <= warning_after <= critical_after"
        )
    for name in ("timeout", "deadline"):
        if not getattr(plan, name) > 0:
            raise HealthError(f"{name}: {getattr(plan, name)} must be more than 0 seconds")
    if not plan.interval >= 0:
        raise HealthError(f"interval: {plan.interval} must not be less than 0 seconds")
    if plan.count < 1:
        raise HealthError(f"count: {plan.count} must be at least 1")
    if not plan.ok_statuses:
        raise HealthError("ok_statuses: must contain at least one word")
    if login is not None:
        if plan.mode == "watch":
            raise HealthError("login: allowed with mode=watch only together with readiness")
        check_login(login)


def check_login(login: Login) -> None:
    """Raise HealthError if the login's URL is invalid, or if the password could be read in transit."""
    _check_target(login.target, parameter="login")
    parts = urllib.parse.urlsplit(login.target.url)
    proved = parts.scheme == "https" and login.target.validate_certs
    if not proved and not _is_loopback(parts.hostname or ""):
        raise HealthError(
            f"login: a password may be sent to {parts.hostname} only over https with validate_certs=true; "
            "other connections may send it only to a loopback address"
        )
