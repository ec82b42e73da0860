# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import getpass
import os
import pwd
import subprocess
import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight as service_preflight
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings


def answer(argv, *, rc=0, stdout="", stderr=""):
    return commands.Completed(argv=argv, rc=rc, stdout=stdout, stderr=stderr, duration=0.0)


class Host:
    """A fake host that returns the given output for node --version and systemctl show, and records all calls."""

    def __init__(self, *, node="v20.19.2\n", unit=None, systemd=None):
        self.node = {"stdout": node} if isinstance(node, str) else node
        self.unit = unit or {}
        self.systemd = systemd
        self.calls = []

    def __call__(self, argv, *, timeout, **more):
        self.calls.append((argv, more))
        if argv[0] == "systemctl":
            out = "".join(f"{name}={line}\n" for name, value in self.unit.items() for line in value.split("\n"))
            return answer(argv, **(self.systemd or {"stdout": out}))
        return answer(argv, **self.node)


def settled(child):
    """Wait until the arguments and environment of a child process are readable. Return the child."""
    while not procfs.environment(child.pid):
        time.sleep(0.001)
    return child


@pytest.fixture
def config(tmp_path):
    """Return a valid configuration in which node is a script in the test's folder."""
    app = tmp_path / "app"
    (app / "backend").mkdir(parents=True)
    (app / "backend" / "server.js").touch()
    (tmp_path / "tools").mkdir()
    node = tmp_path / "tools" / "node"
    node.write_text("#!/bin/sh\necho v20.19.2\n")
    node.chmod(0o755)
    environment_file = tmp_path / "env"
    environment_file.write_text(f"PATH={tmp_path}/tools:/usr/bin:/bin\nNODE_ENV=production\nJWT_SECRET=hunter2\n")
    environment_file.chmod(0o600)
    return preflight_findings.Config(
        app_dir=str(app),
        user=getpass.getuser(),
        manager="process",
        unit="itsm-system",
        command=["node", "backend/server.js"],
        environment_file=str(environment_file),
        db_path="backend/itsm.db",
        db_path_variable="DATABASE_PATH",
        log_file=str(tmp_path / "server.log"),
        state_dir=str(tmp_path / "state" / "deeper"),
        pid_file=str(tmp_path / "state" / "server.pid"),
        https_port=6443,
        http_port=8080,
    )


def examine(config, *, host=None, **changes):
    return service_preflight.examine(config._replace(**changes), run=host or Host())


def add(config, text):
    with open(config.environment_file, "a") as stream:
        stream.write(text)


def test_correct_configuration(config, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = examine(config)
    account = pwd.getpwnam(config.user)
    assert result == {
        "ok": True,
        "problems": [],
        "mismatches": [],
        "silent": [],
        "resolved": {
            "node": {"path": f"{tmp_path}/tools/node", "version": "20.19.2"},
            "database_path": f"{config.app_dir}/backend/itsm.db",
            "user": account.pw_name,
            "uid": account.pw_uid,
            "gid": account.pw_gid,
            "environment_names": ["JWT_SECRET", "NODE_ENV", "PATH"],
            "state_dir_writable": True,
            "https_suspended": False,
        },
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["app_dir", "environment_file", "db_path", "state_dir", "pid_file", "log_file"])
def test_a_disk_that_does_not_answer_is_reported_and_not_waited_for(config, dead_mount, monkeypatch, name):
    monkeypatch.setattr(preflight_findings, "_DISK_TIMEOUT", 0.5)
    started = time.monotonic()
    result = examine(config, **{name: f"{dead_mount}/x"})
    assert time.monotonic() - started < 20
    (problem,) = (each for each in result["problems"] if each["variable"] == f"nexus_{name}")
    assert "must be on a disk that answers" in problem["message"]


def test_a_log_of_a_unit_on_such_a_disk_is_not_a_problem(config, dead_mount, monkeypatch):
    monkeypatch.setattr(preflight_findings, "_DISK_TIMEOUT", 0.5)
    unit = {
        "LoadState": "loaded",
        "User": config.user,
        "WorkingDirectory": config.app_dir,
        "ExecStart": "{ path=/usr/bin/node ; argv[]=/usr/bin/node backend/server.js ; ignore_errors=no ; }",
    }
    result = examine(config, host=Host(unit=unit), manager="systemd", log_file=f"{dead_mount}/server.log")
    assert result["ok"]
    assert [each["message"] for each in result["mismatches"]] == ["its disk does not answer"]


def test_node_is_actually_run(config):
    assert service_preflight.examine(config)["resolved"]["node"]["version"] == "20.19.2"


@pytest.mark.parametrize(
    ("changes", "variable", "allowed"),
    [
        ({"app_dir": "ITSM-System"}, "nexus_app_dir", "must be an absolute path"),
        ({"app_dir": ""}, "nexus_app_dir", "must be an absolute path"),
        ({"app_dir": "/nowhere"}, "nexus_app_dir", "must be a folder on this host"),
        ({"app_dir": "/etc/passwd"}, "nexus_app_dir", "must be a folder on this host"),
        ({"user": "nobody-of-that-name"}, "nexus_user", "must be a user on this host"),
        ({"user": ""}, "nexus_user", "must be a user on this host"),
        ({"manager": "upstart"}, "nexus_manager", "must be one of systemd, process"),
        ({"manager": "systemd", "unit": ""}, "nexus_unit", "must be the name of a unit"),
        ({"command": "node backend/server.js"}, "nexus_command", "must be a list"),
        ({"command": []}, "nexus_command", "must be a list"),
        ({"command": ["node", 7]}, "nexus_command", "must be a list"),
        ({"command": ["node", "backend/missing.js"]}, "nexus_command", "must run a script that exists in "),
        ({"command": ["node"]}, "nexus_command", "must run a script that exists in "),
        ({"command": ["no-such-node", "x"]}, "nexus_command", "must begin with a program on this host"),
        ({"environment_file": "env"}, "nexus_environment_file", "must be an absolute path, or empty"),
        ({"environment_file": "/nowhere/env"}, "nexus_environment_file", "must be a readable file of KEY=VALUE lines"),
        ({"environment_file": "/"}, "nexus_environment_file", "must be a readable file of KEY=VALUE lines"),
        ({"db_path": "backend"}, "nexus_db_path", "must be the path of a file; "),
        ({"db_path": "/etc"}, "nexus_db_path", "must be the path of a file; /etc is a folder"),
        ({"db_path": ""}, "nexus_db_path", "must be the path of the database file"),
        ({"log_file": "server.log"}, "nexus_log_file", "must be the absolute path of a file"),
        ({"log_file": "/etc"}, "nexus_log_file", "must be the absolute path of a file"),
        (
            {"log_file": "/nowhere/server.log"},
            "nexus_log_file",
            "must be in a folder that exists; /nowhere does not exist",
        ),
        ({"state_dir": "state"}, "nexus_state_dir", "must be an absolute path"),
        ({"state_dir": "/etc/passwd"}, "nexus_state_dir", "must be a folder, or the path for a new folder"),
        ({"state_dir": "/etc/passwd/state"}, "nexus_state_dir", "must be a folder, or the path for a new folder"),
        ({"pid_file": ""}, "nexus_pid_file", "must be the absolute path of a file"),
        ({"https_port": 65536}, "nexus_https_port", "must be a port number from 1 to 65535, or 0 for no port"),
        ({"https_port": -1}, "nexus_https_port", "must be a port"),
        ({"http_port": "http"}, "nexus_http_port", "must be a port"),
        ({"http_port": True}, "nexus_http_port", "must be a port"),
        ({"http_port": 8080.5}, "nexus_http_port", "must be a port"),
        ({"http_port": "²"}, "nexus_http_port", "must be a port"),
        ({"https_port": 0, "http_port": 0}, "nexus_https_port", "must be a port, because nexus_http_port is also 0"),
        ({"http_port": "6443"}, "nexus_http_port", "must differ from nexus_https_port (6443)"),
    ],
)
def test_invalid_values_are_named_with_the_allowed_ones(config, changes, variable, allowed):
    result = examine(config, **changes)
    assert result["ok"] is False
    assert [problem["variable"] for problem in result["problems"]] == [variable]
    (problem,) = result["problems"]
    value = changes[variable[len("nexus_") :]]
    assert problem["value"] == value
    assert problem["message"].startswith(f"{variable} is {value!r}: {allowed}") and "\n" not in problem["message"]


@pytest.mark.parametrize(
    "changes", [{"http_port": 0}, {"https_port": 0}, {"https_port": "6443"}, {"db_path": "new.db"}]
)
def test_valid_values(config, changes):
    assert examine(config, **changes)["ok"]


def test_all_problems_are_reported_at_once(config):
    result = examine(config, app_dir="x", user="no-such-user", manager="x", https_port="x", state_dir="x", log_file="x")
    assert {problem["variable"] for problem in result["problems"]} == {
        "nexus_app_dir",
        "nexus_user",
        "nexus_manager",
        "nexus_https_port",
        "nexus_state_dir",
        "nexus_log_file",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(("manager", "found"), [("process", True), ("systemd", False)])
def test_an_environment_file_that_the_service_may_not_receive_is_a_problem(config, tmp_path, manager, found):
    # With systemd, the unit determines the environment file of the service.
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    result = examine(config, user="nobody", manager=manager)
    messages = [each["message"] for each in result["problems"] if each["variable"] == "nexus_environment_file"]
    assert len([each for each in messages if "as nobody: permission denied" in each]) == found


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_environment_file_must_be_private_if_we_read_it_for_the_service(config, mode):
    os.chmod(config.environment_file, mode)
    (problem,) = examine(config)["problems"]
    assert problem["variable"] == "nexus_environment_file" and problem["message"].endswith(f"its mode is {mode:04o}")


def test_no_secret_in_the_result(config):
    os.chmod(config.environment_file, 0o644)
    add(config, "export ADMIN_PASSWORD=hunter3\n")
    result = examine(config)
    assert "hunter" not in str(result)
    (mismatch,) = result["mismatches"]
    assert (mismatch["variable"], mismatch["found"]) == ("nexus_environment_file", ["ADMIN_PASSWORD"])


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            {"rc": 127, "stderr": "node: error while loading shared libraries\nmore"},
            "printed: node: error while loading",
        ),
        ({"rc": None}, "printed: no version"),
        ({"stdout": "hello\n"}, "printed: no version"),
    ],
)
def test_node_that_does_not_run(config, node, said):
    result = examine(config, host=Host(node=node))
    (problem,) = result["problems"]
    assert problem["variable"] == "nexus_command" and said in problem["message"]
    assert result["resolved"]["node"] is None


def test_missing_node(config, tmp_path):
    (tmp_path / "tools" / "node").unlink()
    (tmp_path / "env").write_text(f"PATH={tmp_path}/tools\nNODE_ENV=production\n")
    (problem,) = examine(config)["problems"]
    assert problem["message"].endswith(f" a program on this host; there is no 'node' in {tmp_path}/tools")
    (tmp_path / "tools" / "start").write_text("#!/bin/sh\n")
    (tmp_path / "tools" / "start").chmod(0o755)
    (problem,) = examine(config, command=["start"])["problems"]
    assert problem["message"].endswith(f": requires Node.js; there is no 'node' in {tmp_path}/tools")


def test_without_root_the_user_must_be_our_own(config, monkeypatch):
    other = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, 12345))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    (problem,) = examine(config, user=other.pw_name)["problems"]
    assert problem["variable"] == "nexus_user"
    assert problem["message"].endswith(
        " on the host (12345); for another user, run the playbook as root (ansible_become)"
    )


def test_read_only_state_dir_does_not_prevent_a_recovery(config, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *how, **more: path != "/usr" and access(path, *how, **more))
    result = examine(config, state_dir="/usr/state")
    assert (result["problems"], result["resolved"]["state_dir_writable"]) == ([], False)
    (warning,) = service_preflight.warnings(result, state_dir="/usr/state")
    assert "'/usr/state'" in warning and "will be lost at the next reboot" in warning
    assert service_preflight.warnings(examine(config), state_dir=config.state_dir) == []


# The values that the service actually uses


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/srv/data/other.db", "/srv/data/other.db"),
        ("data/other.db", "{app_dir}/data/other.db"),
        ("./data/../other.db", "{app_dir}/other.db"),
    ],
)
def test_database_path_of_the_environment_is_used_and_reported(config, value, path):
    add(config, f"DATABASE_PATH={value}\n")
    result = examine(config)
    path = path.format(app_dir=config.app_dir)
    assert result["ok"] and result["resolved"]["database_path"] == path
    (mismatch,) = result["mismatches"]
    assert (mismatch["variable"], mismatch["value"], mismatch["found"]) == ("nexus_db_path", "backend/itsm.db", path)


@pytest.mark.parametrize(
    ("variable", "path"), [("DESK_DATABASE", "/srv/data/desk.db"), ("", "{app_dir}/backend/itsm.db")]
)
def test_another_service_names_its_database_by_another_variable_or_by_none(config, variable, path):
    add(config, "DATABASE_PATH=/srv/data/other.db\nDESK_DATABASE=/srv/data/desk.db\n")
    result = examine(config, db_path_variable=variable)
    assert result["resolved"]["database_path"] == path.format(app_dir=config.app_dir)
    assert [mismatch["message"] for mismatch in result["mismatches"]] == (
        ["the service uses another database, set by DESK_DATABASE in its environment"] if variable else []
    )


def test_an_invalid_variable_name_is_a_problem(config):
    (problem,) = examine(config, db_path_variable="DATA BASE")["problems"]
    assert problem["message"] == (
        "nexus_db_path_variable is 'DATA BASE': must be the name of an environment variable, or empty"
    )


def test_same_database_under_another_name_is_not_a_mismatch(config, tmp_path):
    (tmp_path / "current").symlink_to("app")
    add(config, f"DATABASE_PATH={tmp_path}/current/backend/itsm.db\n")
    assert examine(config)["mismatches"] == []


def test_database_path_of_the_environment_that_is_a_folder(config):
    add(config, "DATABASE_PATH=backend\n")
    (problem,) = examine(config)["problems"]
    assert problem["variable"] == "nexus_db_path" and problem["message"].endswith("/backend is a folder")


def test_invalid_folder_of_the_inventory_is_always_a_problem(config):
    add(config, "DATABASE_PATH=/srv/data/other.db\n")
    (problem,) = examine(config, db_path="backend")["problems"]
    assert problem["variable"] == "nexus_db_path" and problem["message"].endswith("/backend is a folder")


def test_missing_node_env_is_reported(config):
    result = examine(config, environment_file="", command=["/bin/sh", "backend/server.js"])
    assert [mismatch["message"] for mismatch in result["mismatches"]] == [
        "NODE_ENV is not set for the service, so knex uses development"
    ]


def test_running_process_takes_precedence_over_files(config):
    add(config, "DATABASE_PATH=/from/the/file.db\n")
    sleeping = config._replace(command=["sleep", "60"])
    environment = {"DATABASE_PATH": "/from/the/process.db", "NODE_ENV": "production"}
    with subprocess.Popen(["sleep", "60"], cwd=config.app_dir, env=environment) as child:
        settled(child)
        try:
            assert examine(sleeping)["resolved"]["database_path"] == "/from/the/process.db"
        finally:
            child.kill()
    assert examine(sleeping)["resolved"]["database_path"] == "/from/the/file.db"


# Under systemd


def unit(config, **more):
    return {
        "LoadState": "loaded",
        "User": config.user,
        "WorkingDirectory": config.app_dir,
        "ExecStart": "{ path=/usr/bin/node ; argv[]=/usr/bin/node backend/server.js ; ignore_errors=no ; pid=0 }",
        "MainPID": "0",
        "Environment": "NODE_ENV=production",
        "EnvironmentFiles": f"{config.environment_file} (ignore_errors=no)",
        **more,
    }


@pytest.fixture
def managed(config, tmp_path):
    (tmp_path / "server.log").touch()
    return config._replace(manager="systemd", pid_file="")


def test_correct_unit(managed):
    host = Host(unit=unit(managed))
    result = examine(managed, host=host)
    assert (result["ok"], result["problems"], result["mismatches"]) == (True, [], [])
    assert len([argv for argv, _more in host.calls if argv[0] == "systemctl"]) == 1


@pytest.mark.parametrize("load_state", ["not-found", "masked", "bad-setting"])
def test_unit_that_is_not_loaded(managed, load_state):
    (problem,) = examine(managed, host=Host(unit={"LoadState": load_state}))["problems"]
    assert problem["variable"] == "nexus_unit"
    assert problem["message"].endswith(f": must be a loaded unit on this host; it is {load_state}")


def test_host_without_systemd(managed):
    (problem,) = examine(managed, host=Host(systemd={"rc": 1, "stderr": "System has not been booted"}))["problems"]
    assert problem["variable"] == "nexus_manager"
    assert ": systemd does not answer on this host (" in problem["message"]
    assert "; if the host has no systemd, set nexus_manager to process" in problem["message"]


@pytest.mark.parametrize(
    ("changes", "variable", "found"),
    [
        ({"WorkingDirectory": "/srv/other"}, "nexus_app_dir", "/srv/other"),
        ({"User": "somebody"}, "nexus_user", "somebody"),
        (
            {"ExecStart": "{ path=/usr/bin/node ; argv[]=/usr/bin/node dist/main.js ; ignore_errors=no }"},
            "nexus_command",
            "/usr/bin/node",
        ),
        ({"EnvironmentFiles": "/etc/other.env (ignore_errors=yes)"}, "nexus_environment_file", ["/etc/other.env"]),
    ],
)
def test_unit_with_other_values_is_a_mismatch(managed, changes, variable, found):
    result = examine(managed, host=Host(unit=unit(managed, **changes)))
    assert result["ok"]
    assert [(mismatch["variable"], mismatch["found"]) for mismatch in result["mismatches"]] == [(variable, found)]


def test_unit_without_user_runs_as_root(managed, monkeypatch):
    mismatches = examine(managed, host=Host(unit=unit(managed, User="")))["mismatches"]
    assert [each["found"] for each in mismatches] == ([] if managed.user == "root" else ["root"])


def test_database_path_of_the_unit(managed, tmp_path):
    (tmp_path / "a.env").write_text("DATABASE_PATH=/from/a.db\n")
    (tmp_path / "b.env").write_text("DATABASE_PATH=/from/b.db\n")
    inline = {"Environment": 'NODE_ENV=production "DATABASE_PATH=/from/the unit.db"', "EnvironmentFiles": ""}

    def path(**changes):
        return examine(managed, environment_file="", host=Host(unit=unit(managed, **changes)))["resolved"][
            "database_path"
        ]

    assert path(**inline) == "/from/the unit.db"
    files = f"/nowhere.env (ignore_errors=yes)\n{tmp_path}/[ab].env (ignore_errors=no)"
    assert path(**{**inline, "EnvironmentFiles": files}) == "/from/b.db"


def test_running_process_of_the_unit_takes_precedence(managed):
    with subprocess.Popen(["sleep", "60"], env={"DATABASE_PATH": "/from/the/process.db", "NODE_ENV": "x"}) as child:
        settled(child)
        try:
            result = examine(managed, host=Host(unit=unit(managed, MainPID=str(child.pid))))
        finally:
            child.kill()
    assert result["resolved"]["database_path"] == "/from/the/process.db"


def test_log_and_environment_of_a_unit_are_not_checked(managed):
    os.chmod(managed.environment_file, 0o640)
    result = examine(managed, host=Host(unit=unit(managed)), log_file="/nowhere/server.log")
    assert result["ok"]
    assert [mismatch["variable"] for mismatch in result["mismatches"]] == ["nexus_log_file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_root_runs_node_as_the_services_user(config):
    host = Host()
    examine(config, user="nobody", host=host)
    assert [more["user"] for argv, more in host.calls if argv[-1] == "--version"] == ["nobody"]
