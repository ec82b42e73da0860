# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a service is not as it is configured: one L(Misfit) for each thing, for the rule C(config_mismatch)."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, List, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage_view import View

# Why systemd could not even run the program: exit codes of systemd.exec(5).
_NOT_RUN = {
    200: "its working directory cannot be entered",
    203: "its program cannot be run",
    209: "its standard output cannot be opened",
    216: "there is no such group",
    217: "there is no such user",
    226: "its view of the file system cannot be set up",
}

# A database that is only in the wrong place, or not there yet.
_ABSENT = ("missing", "empty", "no_tables")

# What a misfit explains where it is found: why the service does not start, or does not use what it should.
START = "start"
MODULES = "modules"
DATABASE = "database"
HTTPS = "https"


@dataclasses.dataclass(frozen=True)
class Misfit:
    """One thing that is not as configured. C(hinders): no start can succeed as long as it is so."""

    what: str
    text: str
    confidence: float
    configured: Any = None
    effective: Any = None
    hinders: bool = False
    explains: Sequence[str] = ()


def misfits(view: View) -> List[Misfit]:
    """Return all that is not as configured, the surest first."""
    found = [*_of_host(view), *_of_paths(view), *_of_environment(view)]
    return sorted(found, key=lambda item: -item.confidence)


def _of_host(view: View) -> List[Misfit]:
    """Return where the service, as it is described, is not on this host."""
    service, node, unit = view.part("service"), view.part("node"), view.part("unit")
    found = []
    if view.elsewhere:
        wanted = [service[name] for name in ("https_port", "http_port") if service.get(name)]
        text = f"{_listed(wanted)} configured, the service runs and listens on {_listed(view.elsewhere)}"
        found.append(Misfit("ports", text, 0.95, wanted, view.elsewhere, explains=(HTTPS, START)))
    if service.get("app_dir_exists") is False:
        text = f"{service['app_dir']} is not a folder; is its disk mounted?"
        found.append(
            Misfit(
                "app_dir",
                text,
                0.97,
                service["app_dir"],
                None,
                hinders=True,
                explains=(START, MODULES, DATABASE, HTTPS),
            )
        )
    if service.get("manager") == "systemd" and unit.get("load_state") == "not-found":
        text = f"systemd knows no unit {service['unit']}"
        sure = 0.95 if view.down else 0.5
        found.append(Misfit("unit", text, sure, service["unit"], None, hinders=True, explains=(START,)))
    if view.gone and node.get("script_exists") is False:
        said = str(node["script"]) in "\n".join(item["text"] for item in view.signature("module_missing"))
        text = f"{node['script']} does not exist"
        found.append(
            Misfit("command", text, 0.95 if said else 0.85, node["script"], None, hinders=said, explains=(START,))
        )
    if view.gone and "script" in node and node.get("path") is None:
        # A unit may name its program by another path than the command here does.
        hinders = service.get("manager") == "process" or unit.get("exit_status") == 203
        text = "its program is not found on this host"
        found.append(Misfit("command", text, 0.95 if hinders else 0.6, hinders=hinders, explains=(START,)))
    status = unit.get("exit_status")
    if view.gone and view.exited and status in _NOT_RUN:
        text = f"systemd cannot run the unit ({status}): {_NOT_RUN[status]}"
        found.append(Misfit("unit", text, 0.93, service.get("unit"), None, explains=(START,)))
    if view.down and node.get("engines_ok") is False:
        text = f"Node {node.get('version')} runs it, package.json asks for {node.get('engines')}"
        explains = (MODULES, START) if view.exited or view.exceptions() else ()
        sure = 0.75 if explains else 0.45
        found.append(Misfit("node", text, sure, node.get("engines"), node.get("version"), explains=explains))
    return found


def _of_paths(view: View) -> List[Misfit]:
    """Return where the service uses other files than those configured here, or may not use its own."""
    found = []
    absent = [item["code"] for item in view.database_problems()[0] if item["code"] in _ABSENT]
    for item in view.items("paths"):
        if item.get("same") is not False:
            continue
        text = f"{item['configured']} is configured, the service uses {item['effective']} ({item['source']})"
        misled = item["what"] == "database" and bool(absent)
        found.append(
            Misfit(
                str(item["what"]),
                text,
                0.95 if misled else 0.45 if view.down else 0.6,
                item["configured"],
                item["effective"],
                explains=(DATABASE, START) if misled else (),
            )
        )
    owned = [item for item in view.part("database").get("problems") or () if item["code"] == "ownership"]
    if owned and view.troubled:
        said = re.search(r"SQLITE_READONLY|SQLITE_CANTOPEN|readonly database|unable to open", view.complaints())
        explains = (START,) if said else ()
        found += [Misfit("owner", item["message"], 0.9 if said else 0.45, explains=explains) for item in owned[:3]]
    return found


def _of_environment(view: View) -> List[Misfit]:
    """Return what the service's environment lacks."""
    environment, unit = view.part("environment"), view.part("unit")
    found = []
    if view.troubled:
        refused = unit.get("result") == "resources" or view.part("service").get("manager") == "process"
        for text in environment.get("problems") or ():
            hinders = view.gone and refused
            found.append(
                Misfit("environment_file", text, 0.93 if hinders else 0.45, hinders=hinders, explains=(START,))
            )
    missing = list(environment.get("required_missing") or ())
    if missing and view.down:
        complaints = view.complaints()
        said = [name for name in missing if name in complaints]
        # Where it complained of something else, that is why.
        sure = 0.95 if said else 0.6 if view.exited and not complaints else 0.45
        text = f"{_listed(said or missing)} not set"
        explains = (START,) if sure > 0.5 else ()
        found.append(Misfit("environment", text, sure, said or missing, None, hinders=bool(said), explains=explains))
    return found


def _listed(values: Sequence[Any]) -> str:
    return " and ".join(str(value) for value in values)
