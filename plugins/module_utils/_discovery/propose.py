# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propose the variables of the inventory from the facts.

Nothing is guessed. If no fact proves a value, the administrator is asked for the value.
"""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment as settings
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import network, paths, propose_files, units
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts, Proposal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd

_REQUIRED = ("NODE_ENV", "JWT_SECRET")
# Values of `status` that mean healthy in other services. `ok` is the default.
_HEALTHY = ("healthy", "up", "pass", "alive", "available")
_MOST_NAMES = 20


def propose(facts: Facts) -> Proposal:
    """Return the proposed variables, the questions and the information."""
    found = Proposal()
    _service(facts, found)
    _command(facts, found)
    _environment(facts, found)
    _missing_environment_file(facts, found)
    propose_files.database(facts, found)
    _ports(facts, found)
    _health(facts, found)
    propose_files.certificate(facts, found)
    propose_files.logs(facts, found)
    propose_files.backups(facts, found)
    _stop(facts, found)
    _release(facts, found)
    _inform(facts, found)
    return found


def _service(facts: Facts, found: Proposal) -> None:
    process = message("discovery.source.process")
    if facts.missing_unit:
        found.inform(message("discovery.information.unit_missing", unit=facts.missing_unit))
    if facts.unit is not None:
        found.set("nexus_manager", "systemd", message("discovery.source.has_unit", unit=facts.unit.name))
        found.set("nexus_unit", facts.unit.name, message("discovery.source.unit_file", path=_file_of(facts)))
        source = facts.of_unit("WorkingDirectory")
        source = source if facts.unit.folder.startswith("/") else process
        found.set("nexus_user", facts.user, facts.of_unit("User") if facts.unit.properties.get("User") else process)
    else:
        source = process if facts.running else message("discovery.source.inventory")
        found.set("nexus_manager", "process", message("discovery.source.no_unit"))
        found.set("nexus_user", facts.user, process if facts.running else message("discovery.source.owner"))
        if not facts.running:
            found.ask("nexus_manager", message("discovery.question.no_service", path=facts.app_dir))
    if facts.app_dir.startswith("/"):
        paths.set_path(
            facts, found, "nexus_app_dir", facts.app_dir, source, need=paths.CHANGE, ours=facts.certain_folder
        )
    else:
        found.ask("nexus_app_dir", message("discovery.question.app_dir"))
    if facts.missing_folder:
        found.ask("", message("discovery.question.other_folder", path=facts.missing_folder, found=facts.app_dir))
    if facts.others:
        found.ask("", message("discovery.question.others", names=list(facts.others)))
    if facts.disk is None:
        found.ask("", message("discovery.question.disk_silent", path=facts.app_dir))
    elif not facts.disk["folder"]:
        found.ask("", message("discovery.question.no_folder", path=facts.app_dir))
    if not facts.running:
        found.ask("", message("discovery.question.down"))
    elif facts.hidden:
        found.ask("", message("discovery.question.hidden"))


def _file_of(facts: Facts) -> str:
    path = facts.unit.properties.get("FragmentPath", "") if facts.unit else ""
    return path or "systemctl cat"


def _command(facts: Facts, found: Proposal) -> None:
    """Propose the command. The name `node` is used if it resolves to the program that the service runs."""
    argv = list(facts.argv)
    source = facts.of_unit("ExecStart") if facts.unit else message("discovery.source.process")
    if not argv:
        found.ask("nexus_command", message("discovery.question.command"))
        return
    if redact.Redactor().argv(argv) != argv or redact.secret_arguments(argv):
        found.ask("nexus_command", message("discovery.question.secret_argument"))
        return
    usual = procfs.find_program("node", app_dir=facts.app_dir)
    program = facts.program or argv[0]
    # If the disk does not respond, no links are resolved.
    follows = facts.disk is not None
    if (
        follows
        and os.path.basename(argv[0]) in units.NODE
        and usual
        and os.path.realpath(usual) == os.path.realpath(program)
    ):
        argv[0] = "node"
    found.set("nexus_command", argv, source)
    if facts.launcher:
        found.ask("", message("discovery.question.launcher", program=os.path.basename(argv[0])))


def _environment(facts: Facts, found: Proposal) -> None:
    listed = list(facts.environment_files)
    if listed:
        # If several files set the same variable, the last file takes precedence.
        found.set("nexus_environment_file", listed[-1], facts.of_unit("EnvironmentFile"))
        if len(listed) > 1:
            found.ask("nexus_environment_file", message("discovery.question.several_files", paths=listed))
    elif facts.own_files:
        # Only the file in the inventory has an absolute path.
        given = os.path.isabs(facts.own_files[0])
        source = message("discovery.source.inventory" if given else "discovery.source.own_file")
        path = facts.absolute(facts.own_files[0])
        paths.set_path(facts, found, "nexus_environment_file", path, source, need=paths.READ, ours=given)
        if len(facts.own_files) > 1 and not given:
            told = message("discovery.question.several_files", paths=list(facts.own_files))
            found.ask("nexus_environment_file", told)
    elif facts.unit is not None and not facts.unread:
        found.set("nexus_environment_file", "", message("discovery.source.no_file"))
    elif facts.unit is None and not facts.unread:
        # If there is no unit, a person started the service. Only this person knows which environment file was used.
        found.ask("nexus_environment_file", message("discovery.question.no_environment_file"))
    for path, why in facts.unread:
        found.ask("nexus_environment_file", message("discovery.question.file_unread", path=path, why=why))
    for name, path in facts.environment.changed():
        found.ask("", message("discovery.question.changed_since", name=name, path=path))
    if not facts.environment.known or facts.unread:
        return
    names = facts.environment.names
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        shown = [name for name in names if name not in ("HOME", "PATH", "LANG", "USER", "LOGNAME", "SHELL", "PWD")]
        told = message("discovery.question.required", missing=missing, names=shown[:_MOST_NAMES] or ["-"])
        found.ask("nexus_required_environment", told)
    node_env = facts.environment.get("NODE_ENV")
    if node_env is not None:
        found.inform(message("discovery.information.node_env", value=node_env.value, source=node_env.source))
    elif "NODE_ENV" in missing:
        found.ask("", message("discovery.question.node_env"))


def _missing_environment_file(facts: Facts, found: Proposal) -> None:
    """If the environment file in the inventory does not exist and no other file is known, ask for the file."""
    if facts.missing_environment_file and found.value("nexus_environment_file") is None:
        # Ask without a variable name. The variable is set, so a question with this name would count as answered.
        found.ask("", message("discovery.question.no_such_file", path=facts.missing_environment_file))


def _ports(facts: Facts, found: Proposal) -> None:
    get = facts.environment.get
    wants_https = get("ENABLE_HTTPS")
    named_https, named_http = get("HTTPS_PORT"), get("HTTP_PORT") or get("PORT")
    if not facts.ports:
        _ports_from_settings(facts, found)
        return
    for scheme, variable, named in (
        ("https", "nexus_https_port", named_https),
        ("http", "nexus_http_port", named_http),
    ):
        numbers = [port.number for port in facts.ports if port.scheme == scheme]
        listening = message("discovery.source.listens", scheme=scheme.upper())
        if named is not None and int(named.value) in numbers:
            found.set(
                variable, int(named.value), message("discovery.source.listens_as", name=named.name, source=listening)
            )
        elif len(numbers) == 1:
            found.set(variable, numbers[0], listening)
        elif numbers:
            found.ask(variable, message("discovery.question.several_ports", ports=[str(each) for each in numbers]))
        elif scheme == "https" and wants_https is not None and wants_https.value == "true":
            # If the service cannot read its certificate, it continues with HTTP.
            if named is not None:
                found.set(variable, int(named.value), named.source)
            found.ask("", message("discovery.question.no_https"))
        else:
            found.set(variable, 0, message("discovery.source.not_listening", scheme=scheme.upper()))
    silent = [str(port.number) for port in facts.ports if not port.scheme]
    if silent:
        found.ask("", message("discovery.question.silent_ports", ports=silent))
    away = [str(port.number) for port in facts.ports if not port.local]
    if away:
        found.ask("", message("discovery.question.not_local", ports=away))


def _ports_from_settings(facts: Facts, found: Proposal) -> None:
    """Propose the ports from the environment, because the service is currently not listening on any port."""
    get = facts.environment.get
    https, port, http, wanted = get("HTTPS_PORT"), get("PORT"), get("HTTP_PORT"), get("ENABLE_HTTPS")
    plain = http or port
    if wanted is not None and wanted.value != "true":
        found.set("nexus_https_port", 0, wanted.source)
    elif https is not None and (wanted is not None or not facts.environment.is_set("ENABLE_HTTPS")):
        found.set("nexus_https_port", int(https.value), https.source)
        if wanted is None:
            found.ask("nexus_https_port", message("discovery.question.https_unknown"))
    elif wanted is None:
        # The service uses HTTPS only if ENABLE_HTTPS=true.
        if facts.environment.known:
            found.set("nexus_https_port", 0, message("discovery.source.https_off"))
    else:
        found.ask("nexus_https_port", message("discovery.question.port", name="HTTPS_PORT"))
    if plain is not None:
        found.set("nexus_http_port", int(plain.value), plain.source)
    else:
        found.ask("nexus_http_port", message("discovery.question.port", name="PORT"))


def _health(facts: Facts, found: Proposal) -> None:
    if facts.running and any(port.scheme for port in facts.ports):
        if facts.answer is None:
            found.ask("nexus_health_path", message("discovery.question.health"))
        else:
            path, word = facts.answer
            found.set("nexus_health_path", path, message("discovery.source.answers"))
            if word is not None and word.casefold() in _HEALTHY:
                told = message("discovery.source.answer_status", word=word)
                found.set("nexus_health_ok_statuses", [word.casefold()], told)
            elif word is not None and word.casefold() != "ok":
                found.ask("nexus_health_ok_statuses", message("discovery.question.status", word=word))
    if facts.ready is not None:
        told = message("discovery.source.answers") if facts.ready else message("discovery.source.no_ready")
        found.set("nexus_ready_path", facts.ready, told)
    found.ask("nexus_login_password", message("discovery.question.login"))


def _stop(facts: Facts, found: Proposal) -> None:
    if facts.unit is None:
        return
    seconds = systemd.timespan(facts.unit.properties.get("TimeoutStopUSec", ""))
    if seconds is None:
        found.ask("nexus_stop_timeout", message("discovery.question.stop_timeout"))
    else:
        value = int(seconds) if seconds == int(seconds) else seconds
        found.set("nexus_stop_timeout", value, facts.of_unit("TimeoutStopSec"))


def _release(facts: Facts, found: Proposal) -> None:
    disk = facts.disk or {}
    if disk.get("link"):
        told = message("discovery.question.release_link", path=facts.app_dir, target=disk["link"])
        found.ask("nexus_release_strategy", told)
    elif disk.get("git"):
        found.ask("nexus_release_strategy", message("discovery.question.release_git", path=facts.app_dir))


def _inform(facts: Facts, found: Proposal) -> None:
    if facts.unit is not None:
        get = facts.unit.properties.get
        found.inform(
            message(
                "discovery.information.restart",
                restart=get("Restart") or "no",
                delay=get("RestartUSec") or "?",
                burst=get("StartLimitBurst") or "?",
                interval=get("StartLimitIntervalUSec") or "?",
                stop=get("TimeoutStopUSec") or "?",
                kill=get("KillMode") or "?",
            )
        )
        if get("DynamicUser") == "yes" or get("RootDirectory") or get("RootImage"):
            found.ask("", message("discovery.question.confined"))
    package = (facts.disk or {}).get("package") or {}
    if package.get("name"):
        told = message("discovery.information.package", name=package["name"], version=package.get("version", "?"))
        found.inform(told)
    knex = (facts.disk or {}).get("knexfile") or {}
    if knex and not knex["has_section"]:
        told = message("discovery.question.no_section", path=knex["file"], section=facts.section)
        found.ask("", told)
    for proxy in facts.proxies:
        found.inform(
            message(
                "discovery.information.proxy",
                program=proxy.program,
                path=proxy.path,
                line=proxy.line,
                port=str(proxy.port),
            )
        )


def ports_to_find(facts_ports: Sequence[network.Port], known: settings.Environment) -> List[int]:
    """Return the ports to search for in the configuration of proxies."""
    numbers = [port.number for port in facts_ports]
    named: List[Optional[settings.Variable]] = [known.get(name) for name in ("HTTPS_PORT", "HTTP_PORT", "PORT")]
    return numbers or [int(each.value) for each in named if each is not None]
