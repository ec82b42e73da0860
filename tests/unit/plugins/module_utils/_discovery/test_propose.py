# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values for variables are derived from facts and proposed with their source.

If no fact proves a value, a question is asked.
"""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment, propose
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.network import Port, Proxy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.units import Unit
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import variables

APP = "/srv/itsm"
FILE = f"{APP}/config/env/.env.production"
PROPERTIES = {
    "FragmentPath": "/etc/systemd/system/itsm-nexus-prod.service",
    "User": "kensan",
    "WorkingDirectory": APP,
    "ExecStart": "{ path=/usr/bin/node ; argv[]=/usr/bin/node backend/server.js ; ignore_errors=no }",
    "StandardOutput": "journal",
    "Restart": "always",
    "RestartUSec": "10s",
    "StartLimitBurst": "3",
    "StartLimitIntervalUSec": "10min",
    "TimeoutStopUSec": "45s",
    "KillMode": "mixed",
}
VALUES = {
    "NODE_ENV": "production",
    "JWT_SECRET": "canary",
    "ENABLE_HTTPS": "true",
    "HTTPS_PORT": "6443",
    "PORT": "8080",
    "SSL_CERT_PATH": "backend/ssl/server.crt",
    "SSL_KEY_PATH": "backend/ssl/server.key",
}
DISK = {
    "folder": True,
    "link": "",
    "git": False,
    "missing": [],
    "package": {"name": "itsm", "version": "2.0.0"},
    "knexfile": {},
    "databases": [],
    "logs": [],
    "backups": [],
    "access": {},
}


def env(values, *, running=True):
    sources = [environment.Source(environment.FILE, FILE, values)]
    if running:
        sources.insert(0, environment.Source(environment.PROCESS, "", values))
    return environment.Environment(sources)


def unit(**changes):
    return Unit("itsm-nexus-prod", {**PROPERTIES, **changes})


FACTS = Facts(
    unit=unit(),
    others=[],
    missing_unit="",
    running=True,
    hidden=False,
    app_dir=APP,
    user="kensan",
    argv=["/usr/bin/node", "backend/server.js"],
    program="",
    launcher=False,
    environment=env(VALUES),
    environment_files=[FILE],
    own_files=[],
    unread=[],
    databases=[f"{APP}/backend/itsm_nexus.db"],
    logs=[],
    outputs=[],
    ports=[Port(6443, "https", True, 200, "OK"), Port(8080, "http", True, 200, "OK")],
    answer=("/api/v1/health", "OK"),
    ready="/api/v1/health/ready",
    proxies=[],
    disk=DISK,
    certain_folder=True,
)
DOWN = {
    "running": False,
    "environment": env(VALUES, running=False),
    "databases": [],
    "ports": [],
    "answer": None,
}
PROCESS = {"unit": None, "environment_files": [], "own_files": ["config/env/.env.production"]}


# The service's user may change these logs.
ALLOWED = {
    "disk": {**DISK, "access": {path: ["change"] for path in ("/var/log/a.log", "/var/log/itsm/server.log")}},
}


def proposal(**changes):
    return propose.propose(FACTS._replace(**changes)).to_dict()


def values(**changes):
    return {each["variable"]: each["value"] for each in proposal(**changes)["variables"]}


def source(variable, **changes):
    return next(each["source"] for each in proposal(**changes)["variables"] if each["variable"] == variable)


def asked(**changes):
    """Return the questions as (variable, last part of the message ID)."""
    found = proposal(**changes)["questions"]
    return [(each["variable"], each["messages"]["question"]["id"].rpartition(".")[2]) for each in found]


def test_a_running_unit():
    assert values() == {
        "nexus_manager": "systemd",
        "nexus_unit": "itsm-nexus-prod",
        "nexus_user": "kensan",
        "nexus_app_dir": APP,
        "nexus_command": values()["nexus_command"],  # The value depends on this machine, see below.
        "nexus_environment_file": FILE,
        "nexus_db_path": "backend/itsm_nexus.db",
        "nexus_https_port": 6443,
        "nexus_http_port": 8080,
        "nexus_ready_path": "/api/v1/health/ready",
        "nexus_health_path": "/api/v1/health",
        "nexus_log_file": "",
        "nexus_stop_timeout": 45,
    }
    assert asked() == [
        ("nexus_login_password", "login"),
        ("database_recovery_backup_dirs", "backups"),
    ]
    assert "canary" not in str(proposal())
    assert source("nexus_db_path") == "open in the running process"
    assert source("nexus_stop_timeout") == "TimeoutStopSec of the unit itsm-nexus-prod"


def test_a_unit_that_is_down_is_described_by_its_files():
    knex = {"file": "knexfile.js", "has_section": True, "path": f"{APP}/backend/itsm_nexus.db"}
    down = {**DOWN, "disk": {**DISK, "knexfile": knex}}
    found = values(**down)
    assert found["nexus_db_path"] == "backend/itsm_nexus.db"
    assert source("nexus_db_path", **down) == "section production of knexfile.js"
    assert (found["nexus_https_port"], found["nexus_http_port"], found["nexus_log_file"]) == (6443, 8080, "")
    assert source("nexus_http_port", **down) == f"PORT in {FILE}"
    assert "nexus_health_path" not in found
    assert ("", "down") in asked(**down)


def test_a_process_without_a_unit():
    dated = f"{APP}/backend/logs/app-2026-11-29.log"
    process = {**PROCESS, "logs": [dated], "outputs": [dated]}
    found = values(**process)
    assert (found["nexus_manager"], found["nexus_environment_file"]) == ("process", FILE)
    assert found["nexus_log_file"] == f"{APP}/backend/logs/app.log"
    assert found["nexus_log_patterns"] == ["backend/logs/*.log"]
    assert "nexus_unit" not in found and "nexus_stop_timeout" not in found


@pytest.mark.parametrize(
    ("argv", "program", "usual", "expected"),
    [
        (["/usr/bin/node", "backend/server.js"], "/usr/bin/node", "/usr/bin/node", ["node", "backend/server.js"]),
        (["/opt/n/node", "server.js"], "/opt/n/node", "/usr/bin/node", ["/opt/n/node", "server.js"]),
        (["/opt/n/node", "server.js"], "", None, ["/opt/n/node", "server.js"]),
    ],
)
def test_the_name_of_node_is_enough_if_it_leads_to_the_same_program(monkeypatch, argv, program, usual, expected):
    monkeypatch.setattr(propose.procfs, "find_program", lambda *_names, **_options: usual)
    assert values(argv=argv, program=program)["nexus_command"] == expected


@pytest.mark.parametrize(
    ("changes", "variable", "question"),
    [
        ({"argv": ["node", "server.js", "--password=secret"]}, "nexus_command", "secret_argument"),
        ({"argv": []}, "nexus_command", "command"),
        ({"argv": ["/usr/bin/npm", "start"], "launcher": True}, "", "launcher"),
        ({"app_dir": "", "databases": []}, "nexus_app_dir", "app_dir"),
        ({"others": ["old"]}, "", "others"),
        ({"missing_folder": "/srv/old"}, "", "other_folder"),
        ({"unit": None, "environment_files": []}, "nexus_environment_file", "no_environment_file"),
        ({"unit": None, "environment_files": [], "missing_environment_file": "/none"}, "", "no_such_file"),
        ({"hidden": True, "databases": [], "ports": []}, "", "hidden"),
        ({"disk": None}, "", "disk_silent"),
        ({"disk": {**DISK, "folder": False}}, "", "no_folder"),
        ({"disk": {**DISK, "link": "releases/4"}}, "nexus_release_strategy", "release_link"),
        ({"disk": {**DISK, "git": True}}, "nexus_release_strategy", "release_git"),
        ({"disk": {**DISK, "missing": ["backend/ssl/server.crt"]}}, "", "missing_file"),
        ({"environment_files": ["/a", "/b"]}, "nexus_environment_file", "several_files"),
        ({"unread": [("/a", message("reason.host.late"))]}, "nexus_environment_file", "file_unread"),
        ({"environment": env({"PORT": "8080"})}, "nexus_required_environment", "required"),
        ({"environment": env({"PORT": "8080"})}, "", "node_env"),
        ({"databases": ["/a.db", "/b.db"]}, "nexus_db_path", "open_databases"),
        (
            {"databases": [], "environment": env({**VALUES, "DATABASE_PATH": "pg://x:y@z"})},
            "nexus_db_path",
            "not_a_path",
        ),
        ({"databases": []}, "nexus_db_path", "database"),
        (
            {"ports": [Port(6443, "https", True), Port(7443, "https", True)], "environment": env({})},
            "nexus_https_port",
            "several_ports",
        ),
        ({"ports": [Port(8080, "http", True)]}, "", "no_https"),
        ({"ports": [Port(6443, "https", False)]}, "", "not_local"),
        ({"ports": [Port(9229, "", True)]}, "", "silent_ports"),
        ({"answer": None}, "nexus_health_path", "health"),
        ({"answer": ("/health", "green")}, "nexus_health_ok_statuses", "status"),
        ({"environment": env({"NODE_ENV": "x"})}, "nexus_tls_cert_path", "certificate"),
        ({"unit": unit(TimeoutStopUSec="infinity")}, "nexus_stop_timeout", "stop_timeout"),
        ({"unit": unit(DynamicUser="yes")}, "", "confined"),
        ({**DOWN, "unit": unit(StandardOutput="append")}, "nexus_log_file", "log_file"),
        ({**DOWN, "environment": env({"HTTPS_PORT": "1"}, running=False)}, "nexus_https_port", "https_unknown"),
        ({**DOWN, "environment": env({"ENABLE_HTTPS": "true"}, running=False)}, "nexus_https_port", "port"),
        ({**DOWN, "environment": env({"HTTPS_PORT": "1"}, running=False)}, "nexus_http_port", "port"),
        ({**DOWN, **PROCESS}, "nexus_manager", "no_service"),
        ({"disk": {**DISK, "knexfile": {"file": "knexfile.js", "has_section": False, "path": None}}}, "", "no_section"),
    ],
)
def test_what_is_unknown_is_a_question(changes, variable, question):
    assert (variable, question) in asked(**changes)


def test_a_changed_setting_is_reported_without_its_value():
    process = environment.Source(environment.PROCESS, "", VALUES)
    file = environment.Source(environment.FILE, FILE, {**VALUES, "PORT": "9999"})
    known = environment.Environment([process, file])
    assert ("", "changed_since") in asked(environment=known)
    assert values(environment=known)["nexus_http_port"] == 8080
    assert "9999" not in str(proposal(environment=known))


def test_a_certificate_in_the_saved_environment_is_not_written_to_the_inventory():
    """If the variable were in the inventory, it would hide a later change to the environment."""
    told = [each["messages"]["text"] for each in proposal()["information"]]
    paths = {each["values"]["variable"]: each["values"]["path"] for each in told if each["id"].endswith(".certificate")}
    expected = {
        "nexus_tls_cert_path": f"{APP}/backend/ssl/server.crt",
        "nexus_tls_key_path": f"{APP}/backend/ssl/server.key",
    }
    assert paths == expected
    assert not set(paths) & set(values())
    # If only the process has the variables, they cannot be read while the service is down.
    only_process = environment.Environment([environment.Source(environment.PROCESS, "", VALUES)])
    found = values(environment=only_process)
    assert {name: found[name] for name in expected} == expected
    # A run reads a file only if the unit or the inventory specifies it.
    unread = environment.Environment(
        [
            environment.Source(environment.PROCESS, "", VALUES),
            environment.Source(environment.FILE, ".env.production", VALUES),
        ]
    )
    found = values(environment=unread)
    assert {name: found[name] for name in expected} == expected


def test_without_a_unit_the_environment_file_of_the_inventory_is_confirmed():
    process = {**PROCESS, "own_files": ["/home/anna/itsm.env", ".env"]}
    assert values(**process)["nexus_environment_file"] == "/home/anna/itsm.env"
    assert source("nexus_environment_file", **process) == "the inventory"
    assert not [variable for variable, _id in asked(**process) if variable == "nexus_environment_file"]


def test_a_port_that_does_not_listen_is_unused():
    http = [Port(8080, "http", True, 200, "OK")]
    plain = env({**VALUES, "ENABLE_HTTPS": "false"})
    found = values(ports=http, environment=plain)
    assert (found["nexus_https_port"], found["nexus_http_port"]) == (0, 8080)
    assert "nexus_tls_cert_path" not in found
    down = {**DOWN, "environment": env({"PORT": "3000"}, running=False)}
    assert (values(**down)["nexus_https_port"], values(**down)["nexus_http_port"]) == (0, 3000)


def test_the_variable_with_the_path_of_the_database_is_found_by_its_value():
    named = env({**VALUES, "DESK_DATABASE": f"{APP}/backend/itsm_nexus.db"})
    assert values(environment=named)["nexus_db_path_variable"] == "DESK_DATABASE"
    usual = env({**VALUES, "DATABASE_PATH": "backend/itsm_nexus.db"})
    assert values(environment=usual)["nexus_db_path_variable"] == "DATABASE_PATH"


def test_the_only_database_is_proposed_with_a_question():
    disk = {**DISK, "databases": [f"{APP}/backend/a.db"]}
    assert values(databases=[], disk=disk)["nexus_db_path"] == "backend/a.db"
    assert ("nexus_db_path", "database") in asked(databases=[], disk=disk)


@pytest.mark.parametrize(("word", "expected"), [("OK", None), ("UP", ["up"]), ("green", None), (None, None)])
def test_words_for_healthy(word, expected):
    assert values(answer=("/health", word)).get("nexus_health_ok_statuses") == expected


@pytest.mark.parametrize(
    ("changes", "file", "patterns"),
    [
        ({"outputs": ["/var/log/a.log"], "logs": ["/var/log/a.log"], **ALLOWED}, "/var/log/a.log", None),
        ({"logs": [f"{APP}/logs/app-2026-11-29.log"]}, "", ["logs/*.log"]),
        ({"logs": ["/var/log/itsm/server.log"], **ALLOWED}, "/var/log/itsm/server.log", None),
        ({**DOWN, "unit": unit(StandardOutput="append:/var/log/b.log")}, "/var/log/b.log", None),
        (
            {
                "disk": {
                    **DISK,
                    "logs": [
                        {"folder": f"{APP}/backend/logs", "files": 2, "of_unit": False},
                        {"folder": "/var/log/x", "files": 1, "of_unit": True},
                    ],
                }
            },
            "",
            ["backend/logs/*.log", "/var/log/x/*.log"],
        ),
    ],
)
def test_logs(changes, file, patterns):
    found = values(**changes)
    assert (found["nexus_log_file"], found.get("nexus_log_patterns")) == (file, patterns)


def backups(*folders):
    known = [{"folder": folder, "names": [name], "files": 1, "of_unit": False} for folder, name in folders]
    return {**DISK, "backups": known, "access": {folder: ["read", "read_all"] for folder, _name in folders}}


def test_backups_in_the_default_folders_need_no_variable():
    disk = backups((f"{APP}/backend/backups/daily", "itsm_nexus_daily_20261128.db"))
    found = proposal(disk=disk)
    assert not [each for each in found["variables"] if each["variable"].startswith("database_recovery")]
    assert "Backups are in backend/backups/daily" in [each["text"] for each in found["information"]]


def test_other_folders_and_names_of_backups_are_variables():
    disk = backups((f"{APP}/backups", "itsm_20261128.db"), ("/backup/itsm", "itsm_nexus_1.db"))
    found = values(disk=disk)
    assert found["database_recovery_backup_dirs"] == [f"{APP}/backups", "/backup/itsm"]
    assert found["database_recovery_backup_patterns"][-1] == "itsm_*.db"
    assert "itsm_nexus.db" in found["database_recovery_backup_patterns"]


@pytest.mark.parametrize("text", ["{{ lookup('pipe', 'id') }}", "{% if %}", "a\nb", "\x1b[31m"])
def test_a_value_that_could_act_on_the_controller_is_a_question(text):
    assert ("nexus_app_dir", "unusable") in asked(app_dir=f"/srv/{text}", databases=[])
    assert "nexus_app_dir" not in values(app_dir=f"/srv/{text}", databases=[])


def test_information():
    told = [
        each["text"]
        for each in proposal(missing_unit="x", proxies=[Proxy("nginx", "/etc/nginx/a", 3, 6443)])["information"]
    ]
    assert "The unit x in the inventory does not exist on this host" in told
    proxy = next(text for text in told if text.startswith("nginx may be a proxy in front of the service"))
    assert "line 3 of /etc/nginx/a contains port 6443" in proxy and proxy.endswith(
        "set postmortem_access_log to the path of this log on this host"
    )
    assert any(text.startswith("systemd: Restart=always, RestartSec=10s, start limit 3 in 10min") for text in told)
    assert f"NODE_ENV is production (NODE_ENV in {FILE}, the same as in the running process)" in told


def test_a_proxy_is_searched_by_the_ports_of_the_environment_if_the_service_is_down():
    assert propose.ports_to_find([Port(1, "", True)], env(VALUES)) == [1]
    assert propose.ports_to_find([], env(VALUES)) == [6443, 8080]


@pytest.mark.parametrize("path", ["/api/v1/health/ready", "", None])
def test_the_ready_endpoint(path):
    assert values(ready=path).get("nexus_ready_path") == path


def test_every_fact_and_every_variable_has_a_case():
    cases = pathlib.Path(__file__).read_text(encoding="utf-8")
    lacking = [f"the fact {name}" for name in Facts._fields if not re.search(rf'"{name}":|\b{name}=', cases)]
    lacking += [f"the variable {name}" for name in variables.NAMES if f'"{name}"' not in cases]
    assert lacking == [], f"tests/unit/plugins/module_utils/_discovery/test_propose.py lacks a case for {lacking}"
