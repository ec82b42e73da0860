# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Differences between configuration and host: one Misfit for each, for the rule config_mismatch."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, List, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import View

# A database that only has another path, or does not exist yet.
_ABSENT = ("missing", "empty", "no_tables")

# Answers that may differ at another time: Request Timeout (RFC 9110), Too Many Requests (RFC 6585).
_NOT_NOW = (408, 429)

# The effect of a misfit: the service does not start, or does not use the configured files.
START = "start"
MODULES = "modules"
DATABASE = "database"
HTTPS = "https"


@dataclasses.dataclass(frozen=True)
class Misfit:
    """One difference between configuration and host.

    hinders: no start can succeed before it is fixed. serves: the service runs and answers, and only our checks use
    another place. Stopping the service would be the outage.
    """

    what: str
    told: Message
    confidence: float
    configured: Any = None
    effective: Any = None
    hinders: bool = False
    serves: bool = False
    explains: Sequence[str] = ()
    # The rungs that need it, if not all of them do.
    useless: Sequence[str] = ()


def misfits(view: View) -> List[Misfit]:
    """Return all differences, the most certain first."""
    found = [*_of_host(view), *_of_question(view), *_of_paths(view), *_of_environment(view), *_of_settings(view)]
    return sorted(found, key=lambda item: -item.confidence)


def _of_host(view: View) -> List[Misfit]:
    """Return the parts of the configured service that are not on this host."""
    service, node, unit = view.part("service"), view.part("node"), view.part("unit")
    found = []
    if view.elsewhere:
        told = message("reason.mismatch.ports", configured=_listed(view.misplaced), effective=_listed(view.elsewhere))
        found.append(Misfit("ports", told, 0.95, view.misplaced, view.elsewhere, serves=True, explains=(HTTPS, START)))
    if service.get("app_dir_exists") is False:
        told = message("reason.mismatch.app_dir", path=str(service["app_dir"]))
        found.append(
            Misfit(
                "app_dir",
                told,
                0.97,
                service["app_dir"],
                None,
                hinders=True,
                explains=(START, MODULES, DATABASE, HTTPS),
            )
        )
    if service.get("manager") == "systemd" and unit.get("load_state") == "not-found":
        told = message("reason.mismatch.unit", unit=str(service["unit"]))
        sure = 0.95 if view.down else 0.5
        found.append(Misfit("unit", told, sure, service["unit"], None, hinders=True, explains=(START,)))
    if view.gone and node.get("script_exists") is False:
        said = str(node["script"]) in "\n".join(item["text"] for item in view.signature("module_missing"))
        told = message("reason.mismatch.script", path=str(node["script"]))
        found.append(
            Misfit("command", told, 0.95 if said else 0.85, node["script"], None, hinders=said, explains=(START,))
        )
    if view.gone and "script" in node and node.get("path") is None:
        # A unit may use another path to the program than the configured command.
        hinders = service.get("manager") == "process"
        told = message("reason.mismatch.program")
        found.append(Misfit("command", told, 0.95 if hinders else 0.6, hinders=hinders, explains=(START,)))
    if view.down and node.get("engines_ok") is False:
        told = message("reason.mismatch.node", version=str(node.get("version")), engines=str(node.get("engines")))
        explains = (MODULES, START) if view.exited or view.exceptions() else ()
        sure = 0.75 if explains else 0.45
        found.append(Misfit("node", told, sure, node.get("engines"), node.get("version"), explains=explains))
    return found


def _of_question(view: View) -> List[Misfit]:
    """Return the misfit of a health check at a path that does not report health, none if that is not certain.

    An answer of 401, 403 or 404 refuses the request. A redirect or a page says nothing about the health of the
    service. A restart does not change these answers. But a service whose routes did not load gives them, too, and then
    a restart may help. So the path is considered wrong only if all of this is true:

    - The process is identified: the process on the port that users reach is the service. For a proxy or another
      program there, the cause is port_conflict or unknown.
    - It has not failed within the window, its unit is active, and all of its ports answer.
    - The log has no good answer at this path, and no complaint since the last good answer at any path.
    - The things that it needs (database, schema, dependencies, free space) were checked and are there.

    If one of these is unknown, the ladder runs as for any service that does not answer well. If all are true and it is
    an outage all the same, people are notified at once and nothing that works was stopped. That is the smaller mistake.
    """
    path = str(view.part("service").get("health_path") or "")
    status = view.health.get("status") or 0
    elsewhere = status == 200 and view.health.get("error") in (http_probe.NOT_JSON, http_probe.NO_STATUS)
    refused = 300 <= status < 500 and status not in _NOT_NOW
    # In a log, a page looks like a good answer.
    if not path or not (elsewhere or refused) or not view.proven or not _seems_well(view, path if refused else ""):
        return []
    variant = "health_page" if elsewhere else "health_path"
    told = message(f"reason.mismatch.{variant}", path=path, status=status)
    return [Misfit("health_path", told, 0.9, path, f"answered {status}", serves=True)]


def _seems_well(view: View, path: str) -> bool:
    """Return True if no sign speaks against a service that answers. With path, an earlier good answer there does."""
    if view.restarted or view.silent or view.part("unit").get("active_state", "active") != "active":
        return False
    # A path that once gave a good answer is the right one.
    answered = re.compile(
        rf"""\b(?:GET|HEAD)[\s"']+{re.escape(path)}(?:\?\S*)?(?:\s+HTTP/[\d.]+)?["']?\s+(?:-\s+)?2\d\d\b"""
    )
    told = [facts for facts in (view.part("log"), view.part("journal")) if "signatures" in facts]
    for facts in told:
        if facts.get("exceptions") or facts["signatures"]:
            return False
        if path and any(map(answered.search, facts.get("lines") or ())):
            return False
    database, dependencies, migrations = (view.part(name) for name in ("database", "dependencies", "migrations"))
    return (
        bool(told)
        and database.get("conclusive") is True
        and not database.get("data_loss_suspected")
        and not any(view.database_problems())
        and dependencies.get("ok") is True
        and not (migrations.get("pending") or migrations.get("lock_held"))
        and not view.short_of_room()
        and not any(item.get("read_only") and item.get("use") in ("database", "log") for item in view.items("disk"))
    )


def _of_paths(view: View) -> List[Misfit]:
    """Return the files that differ from the configured ones, and those that the service may not use."""
    found = []
    absent = [item["code"] for item in view.database_problems()[0] if item["code"] in _ABSENT]
    for item in view.items("paths"):
        if item.get("same") is not False:
            continue
        told = message(
            "reason.mismatch.path",
            **{name: str(item[name]) for name in ("configured", "effective", "source")},
        )
        misled = item["what"] == "database" and bool(absent)
        found.append(
            Misfit(
                str(item["what"]),
                told,
                0.95 if misled else 0.45 if view.down else 0.6,
                item["configured"],
                item["effective"],
                explains=(DATABASE, START) if misled else (),
            )
        )
    return found


def _of_environment(view: View) -> List[Misfit]:
    """Return the variables that are missing in the service's environment."""
    environment, unit = view.part("environment"), view.part("unit")
    found = []
    if view.troubled:
        refused = unit.get("result") == "resources" or view.part("service").get("manager") == "process"
        for text in environment.get("problems") or ():
            hinders = view.gone and refused
            found.append(
                Misfit("environment_file", quoted(text), 0.93 if hinders else 0.45, hinders=hinders, explains=(START,))
            )
    missing = list(environment.get("required_missing") or ())
    if missing and view.down:
        complaints = view.complaints()
        said = [name for name in missing if name in complaints]
        # If it complained of something else, that is the cause.
        sure = 0.95 if said else 0.6 if view.exited and not complaints else 0.45
        told = message("reason.mismatch.environment", names=_listed(said or missing))
        explains = (START,) if sure > 0.5 else ()
        found.append(Misfit("environment", told, sure, said or missing, None, hinders=bool(said), explains=explains))
    return found


# Settings that the preflight refuses and that have their own cause.
_REPORTED = {"nexus_unit": ("masked", "bad-setting", "error", "not-found")}
# Under systemd a restart needs none of these: the unit has its own.
_OF_UNIT = ("nexus_command", "nexus_environment_file", "nexus_user")
_UNUSED = ("nexus_log_file", "nexus_pid_file", "nexus_db_path_variable")
_PORTS = ("nexus_https_port", "nexus_http_port")


def _of_settings(view: View) -> List[Misfit]:
    """Return the invalid settings that the preflight found, with the rungs that need them."""
    found = []
    for item in view.items("settings"):
        name, text = str(item["variable"]), str(item["message"])
        if view.part("unit").get("load_state") in _REPORTED.get(name, ()) or _is_missing_environment(view, name):
            continue
        useless = _rungs_that_need(view, name) if view.unwell else ()
        sure = 0.95 if useless == RUNGS else 0.6
        text = text[len(name) :].strip() if text.startswith(f"{name} is ") else text
        reach = (DATABASE, START) if name == "nexus_db_path" else ()
        found.append(Misfit(name, quoted(text), sure, item.get("value"), None, useless=useless, explains=reach))
    return found


def _is_missing_environment(view: View, name: str) -> bool:
    files = view.part("start").get("environment_files") or ()
    return name == "nexus_environment_file" and any(item.get("exists") is False for item in files)


def _rungs_that_need(view: View, name: str) -> Sequence[str]:
    """Return the rungs that cannot be tried without a setting."""
    service, systemd = view.part("service"), view.part("service").get("manager") == "systemd"
    if name in _PORTS:
        # One remaining port is enough to see whether it answers.
        return () if service.get("https_port") or service.get("http_port") else RUNGS
    if name == "nexus_db_path_variable" or (systemd and name in _UNUSED):
        return ()
    if systemd and name in _OF_UNIT and not view.part("start").get("user_fault"):
        return RUNGS[1:]
    return RUNGS


def _listed(values: Sequence[Any]) -> Union[str, Message]:
    """Return the values in one line: a, b and c."""
    names = [str(value) for value in values]
    return message("and", names=names[:-1], last=names[-1]) if len(names) > 1 else "".join(names)
