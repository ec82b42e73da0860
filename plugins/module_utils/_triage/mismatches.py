# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find differences between the configuration and the host, for the config_mismatch rule."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, NamedTuple, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ABOVE_THE_FIRST, RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts

# Problem codes that are also reported if the database is at another path or does not exist yet.
_ABSENT = ("missing", "empty", "no_tables")

# HTTP statuses for temporary conditions: Request Timeout (RFC 9110), Too Many Requests (RFC 6585).
_NOT_NOW = (408, 429)

# What a mismatch can affect: the start of the service, the npm modules, the database, or HTTPS.
START = "start"
MODULES = "modules"
DATABASE = "database"
HTTPS = "https"


class Mismatch(NamedTuple):
    """A difference between the configuration and the host.

    hinders: True if no start can succeed until the mismatch is fixed. serves: True if the service is running and
    answers, and only this collection's checks use a wrong path or port. Stopping such a service would cause an outage.
    """

    what: str
    told: Message
    confidence: float
    configured: Any = None
    effective: Any = None
    hinders: bool = False
    serves: bool = False
    explains: Sequence[str] = ()
    # Rungs that need the setting and therefore cannot succeed.
    useless: Sequence[str] = ()
    # True if one of the service's folders is missing, for example because its disk is not mounted.
    disk: bool = False


def mismatches_of(facts: Facts) -> List[Mismatch]:
    """Return all differences, beginning with the most certain one."""
    found = [*_of_host(facts), *_of_question(facts), *_of_paths(facts), *_of_environment(facts), *_of_settings(facts)]
    return sorted(found, key=lambda item: -item.confidence)


def _of_host(facts: Facts) -> List[Mismatch]:
    """Return the differences between the configured service and this host."""
    service, node, unit = facts.service, facts.node, facts.unit
    found = []
    wanted, used = facts.ports.misplaced, facts.ports.elsewhere
    if used:
        told = message("reason.mismatch.ports", configured=_listed(wanted), effective=_listed(used))
        found.append(Mismatch("ports", told, 0.95, wanted, used, serves=True, explains=(HTTPS, START)))
    if service.app_dir_exists is False:
        told = message("reason.mismatch.app_dir", path=str(service.app_dir))
        found.append(
            Mismatch(
                "app_dir",
                told,
                0.97,
                service.app_dir,
                None,
                hinders=True,
                explains=(START, MODULES, HTTPS, *_database(facts)),
                disk=True,
            )
        )
    elif facts.process.gone and facts.database.away is not None:
        told, path = facts.database.away, facts.database.path
        reach = (START, DATABASE)
        found.append(Mismatch(DATABASE, told, 0.97, path, None, hinders=True, explains=reach, disk=True))
    if service.manager == "systemd" and unit.load_state == "not-found":
        told = message("reason.mismatch.unit", unit=str(service.unit))
        sure = 0.95 if facts.down else 0.5
        found.append(Mismatch("unit", told, sure, service.unit, None, hinders=True, explains=(START,)))
    if facts.process.gone and node.script_exists is False:
        said = str(node.script) in "\n".join(item["text"] for item in facts.errors.signature("module_missing"))
        told = message("reason.mismatch.script", path=str(node.script))
        found.append(
            Mismatch("command", told, 0.95 if said else 0.85, node.script, None, hinders=said, explains=(START,))
        )
    if facts.process.gone and node.modules_exist is not None and node.path is None:
        # The path of the program in a unit may differ from the path in the configured command.
        hinders = service.manager == "process"
        told = message("reason.mismatch.program")
        found.append(Mismatch("command", told, 0.95 if hinders else 0.6, hinders=hinders, explains=(START,)))
    if facts.down and node.engines_ok is False:
        told = message("reason.mismatch.node", version=str(node.version), engines=str(node.engines))
        explains = (MODULES, START) if facts.unit.exited or facts.errors.exceptions() else ()
        sure = 0.75 if explains else 0.45
        found.append(Mismatch("node", told, sure, node.engines, node.version, explains=explains))
    return found


def _of_question(facts: Facts) -> List[Mismatch]:
    """Return a mismatch if the health check path is definitely wrong, otherwise an empty list.

    A status such as 401, 403 or 404 means that the request was rejected. A redirect or an HTML page does not report the
    health of the service. If the path is wrong, restarting the service does not change these responses. However, a
    service that failed to load its routes sends the same responses, and a restart may help. Therefore, the path is
    considered wrong only if all of the following are true:

    - The process on the port that users reach is known to be the service. If a proxy or another program listens on this
      port, the cause is port_conflict or unknown.
    - The service has not failed within the window, its unit is active, and all of its ports answer.
    - The log contains no healthy response for this path, and no error after the last healthy response for any path.
    - Everything that the service needs (database, schema, dependencies, free space) was checked and is available.

    If one of these conditions is false or unknown, the ladder is tried as for any unhealthy service. If all conditions
    are true, the service is not restarted, and contacts are notified immediately. If the outage is real, this costs
    time, but stopping a working service would be worse.
    """
    path, health = facts.service.health_path, facts.ports.health
    status = health.status
    elsewhere = status == 200 and health.problem in http_probe.WITHOUT_HEALTH
    refused = 300 <= status < 500 and status not in _NOT_NOW
    if not path or not (elsewhere or refused) or not facts.ports.proven:
        return []
    # If the response is an HTML page, do not search the log. In the log, such a page looks like a healthy response.
    if not _seems_well(facts, path if refused else ""):
        return []
    variant = "health_page" if elsewhere else "health_path"
    told = message(f"reason.mismatch.{variant}", path=path, status=status)
    return [Mismatch("health_path", told, 0.9, path, f"answered {status}", serves=True)]


def _seems_well(facts: Facts, path: str) -> bool:
    """Return True if a service that answers has no known problem.

    path: the path of the health request, or empty. A healthy response for this path in the log also counts as a
    problem.
    """
    if facts.process.restarted or facts.ports.silent or facts.unit.active_state not in (None, "active"):
        return False
    # If this path returned a healthy response before, the path is correct and the service is unhealthy.
    answered = re.compile(
        rf"""\b(?:GET|HEAD)[\s"']+{re.escape(path)}(?:\?\S*)?(?:\s+HTTP/[\d.]+)?["']?\s+(?:-\s+)?2\d\d\b"""
    )
    told = [log for log in (facts.log, facts.journal) if log.signatures is not None]
    for log in told:
        if log.exceptions or log.signatures:
            return False
        if path and any(map(answered.search, log.lines)):
            return False
    database, dependencies, migrations = facts.database, facts.dependencies, facts.migrations
    return (
        bool(told)
        and database.conclusive is True
        and not database.data_loss_suspected
        and not (database.damages or database.unread)
        and dependencies.ok is True
        and not (migrations.pending or migrations.lock_held)
        and not facts.disks.short_of_room()
        and not facts.disks.read_only()
    )


def _of_paths(facts: Facts) -> List[Mismatch]:
    """Return the paths (database, log, working directory) that the service uses instead of the configured ones."""
    found = []
    absent = [item["code"] for item in facts.database.damages if item["code"] in _ABSENT]
    for item in facts.paths:
        if item.get("same") is not False:
            continue
        told = message(
            "reason.mismatch.path",
            **{name: str(item[name]) for name in ("configured", "effective", "source")},
        )
        misled = item["what"] == "database" and bool(absent)
        found.append(
            Mismatch(
                str(item["what"]),
                told,
                0.95 if misled else 0.45 if facts.down else 0.6,
                item["configured"],
                item["effective"],
                explains=(DATABASE, START) if misled else (),
            )
        )
    return found


def _of_environment(facts: Facts) -> List[Mismatch]:
    """Return the variables that are missing from the service's environment."""
    environment, unit = facts.environment, facts.unit
    found = []
    if facts.troubled:
        refused = unit.result == "resources" or facts.service.manager == "process"
        for text in environment.problems:
            hinders = facts.process.gone and refused
            found.append(
                Mismatch(
                    "environment_file", quoted(text), 0.93 if hinders else 0.45, hinders=hinders, explains=(START,)
                )
            )
    missing = list(environment.required_missing)
    if missing and facts.down:
        complaints = facts.errors.text()
        said = [name for name in missing if _is_named(name, complaints)]
        # If the service logged a different problem, that problem is the cause.
        sure = 0.95 if said else 0.6 if facts.unit.exited and not complaints else 0.45
        told = message("reason.mismatch.environment", names=_listed(said or missing))
        explains = (START,) if sure > 0.5 else ()
        found.append(Mismatch("environment", told, sure, said or missing, None, hinders=bool(said), explains=explains))
    return found


def _is_named(variable: str, text: str) -> bool:
    """Return True if text contains a variable's name. Separate words also match: "JWT secret" for JWT_SECRET."""
    words = r"[\s_-]?".join(map(re.escape, variable.split("_")))
    return re.search(rf"(?<![A-Za-z0-9]){words}(?![A-Za-z0-9])", text, re.IGNORECASE) is not None


# Maps a setting to load states of the unit. If the unit has one of these states, another finding already reports the
# problem with the setting.
_REPORTED = {"nexus_unit": ("masked", "bad-setting", "error", "not-found")}
# If systemd manages the service, a restart does not need these variables, because the unit has its own settings.
_OF_UNIT = ("nexus_command", "nexus_environment_file", "nexus_user")
_UNUSED = ("nexus_log_file", "nexus_pid_file", "nexus_db_path_variable")
_PORTS = ("nexus_https_port", "nexus_http_port")


def _of_settings(facts: Facts) -> List[Mismatch]:
    """Return the invalid settings that the preflight found, with the rungs that need them."""
    found = []
    for item in facts.settings:
        name = str(item["variable"])
        if facts.unit.load_state in _REPORTED.get(name, ()) or _is_missing_environment(facts, name):
            continue
        useless = _rungs_that_need(facts, name) if facts.unwell else ()
        sure = 0.95 if useless == RUNGS else 0.6
        told = _without_name(item)
        reach = (START, *_database(facts)) if name == "nexus_db_path" else ()
        found.append(Mismatch(name, told, sure, item.get("value"), None, useless=useless, explains=reach))
    return found


def _database(facts: Facts) -> Sequence[str]:
    """Return DATABASE if a wrong path can explain the problem with the database. Otherwise, return an empty tuple.

    A wrong path can explain a missing database, but not a damaged one.
    """
    found = facts.database.away is None and any(item["code"] not in _ABSENT for item in facts.database.damages)
    return () if found else (DATABASE,)


def _without_name(item: Mapping[str, Any]) -> Message:
    """Return the problem with a setting, without the setting's name, because the finding already contains the name."""
    name, text, told = str(item["variable"]), str(item["message"]), of(item, "message")
    if told.id == "reason.setting.is" and {"value", "why"} <= told.values.keys():
        return message("reason.mismatch.setting", value=told.values["value"], why=told.values["why"])
    return quoted(text[len(name) :].strip() if text.startswith(f"{name} is ") else text)


def _is_missing_environment(facts: Facts, name: str) -> bool:
    files = facts.start.environment_files
    return name == "nexus_environment_file" and any(item.get("exists") is False for item in files)


def _rungs_that_need(facts: Facts, name: str) -> Sequence[str]:
    """Return the rungs that need the setting."""
    service, systemd = facts.service, facts.service.manager == "systemd"
    if name in _PORTS:
        # One port is sufficient to check whether the service answers.
        return () if service.https_port or service.http_port else RUNGS
    if name == "nexus_db_path_variable" or (systemd and name in _UNUSED):
        return ()
    if systemd and name in _OF_UNIT and not facts.start.user_fault:
        return ABOVE_THE_FIRST
    return RUNGS


def _listed(values: Sequence[Any]) -> Union[str, Message]:
    """Return the values on one line: a, b and c."""
    names = [str(value) for value in values]
    return message("and", names=names[:-1], last=names[-1]) if len(names) > 1 else "".join(names)
