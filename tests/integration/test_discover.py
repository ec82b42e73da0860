# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""outage_discover.yml writes an inventory for a deployed service, which the other playbooks can use unchanged."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .conftest import ROOT, Run, Service, on_screen

CANARY = "canary-of-the-environment-7f3a"


@dataclasses.dataclass
class Deployed(Service):
    """The service with a real deployment's files, and an inventory with only the host and the application's folder."""

    @property
    def environment_file(self) -> Path:
        return self.app / "config" / "env" / ".env.production"

    @property
    def database(self) -> Path:
        return self.app / "backend" / "itsm_nexus.db"

    @property
    def log(self) -> Path:
        return self.app / "backend" / "logs" / "app-2026-11-29.log"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory"

    @property
    def variables_file(self) -> Path:
        return self.inventory / "host_vars" / "nexus.yml"

    def deploy(self, template: Service) -> None:
        for path in (self.environment_file, self.log):
            path.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "log").mkdir()
        source = Service(self.folder / "source", https_port=self.https_port, http_port=self.http_port)
        source.folder.mkdir()
        source.install_copy(template)
        for entry in source.app.iterdir():
            # Copy entry by entry, because the application's folder already exists and contains the logs.
            subprocess.run(["cp", "-al", entry, self.app], check=True)
        own = {
            **source.environment(),
            "DATABASE_PATH": "backend/itsm_nexus.db",
            "SESSION_SECRET": CANARY,
            "BACKUP_API_TOKEN": CANARY,
            "LDAP_URL": f"ldap://admin:{CANARY}@127.0.0.1",
        }
        self.environment_file.touch(mode=0o600)
        lines = [f"{name}={value}\n" for name, value in own.items()]
        self.environment_file.write_text("".join(lines), encoding="utf-8")
        self.write_inventory()

    def write_inventory(self) -> None:
        self.inventory.mkdir()
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "nexus_app_dir": str(self.app),
            "nexus_state_dir": str(self.state),
            "detection_interval": 0.2,
            "detection_timeout": 1.0,
        }
        text = yaml.safe_dump({"itsm_nexus": {"hosts": {"nexus": host}}})
        (self.inventory / "hosts.yml").write_text(text, encoding="utf-8")

    def back_up(self) -> None:
        copy = self.app / "backend" / "backups" / "daily" / "itsm_nexus_daily_20261128.db"
        copy.parent.mkdir(parents=True)
        opened = (contextlib.closing(sqlite3.connect(path)) for path in (self.database, copy))
        with next(opened) as live, next(opened) as dest:
            live.backup(dest)

    def run(self, playbook: str, *arguments: str) -> Run:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment.update(LC_ALL="C.UTF-8", ITSM_NEXUS_POSTMORTEM_DIR=str(self.postmortems))
        argv = ["ansible-playbook", "-i", str(self.inventory), f"playbooks/{playbook}.yml", *arguments]
        done = on_screen(argv, cwd=ROOT, env=environment, timeout=300)
        # No secret leaves the host, not even with -vvv.
        assert CANARY not in done.stdout
        for name, value in self.environment().items():
            assert name not in ("JWT_SECRET", "ADMIN_PASSWORD") or value not in done.stdout
        return Run(rc=done.returncode, screen=done.stdout, postmortems=self.postmortems)

    def written(self) -> dict[str, Any]:
        text = self.variables_file.read_text(encoding="utf-8")
        assert CANARY not in text
        return yaml.safe_load(text) or {}


@pytest.fixture
def deployed(tmp_path: Path, template: Service):
    service = Deployed(tmp_path)
    service.deploy(template)
    yield service
    service.kill()


@pytest.fixture
def running(deployed: Deployed) -> Deployed:
    deployed.start()
    deployed.write("a row")
    deployed.back_up()
    return deployed


def expected(service: Deployed) -> dict[str, Any]:
    """Return the variables that differ from the defaults and from the inventory."""
    return {
        "nexus_manager": "process",
        "nexus_user": os.environ.get("USER") or "root",
        "nexus_environment_file": str(service.environment_file),
        "nexus_db_path": "backend/itsm_nexus.db",
        "nexus_https_port": service.https_port,
        "nexus_http_port": service.http_port,
    }


def test_the_inventory_of_a_running_service_needs_no_edit(running: Deployed) -> None:
    found = running.run("outage_discover", "-vvv")
    assert found.rc == 0
    values = running.written()
    assert values.pop("nexus_log_file") == str(running.log.with_name("app.log"))
    assert values == expected(running)
    text = running.variables_file.read_text(encoding="utf-8")
    assert "# Source: open in the running process\nnexus_db_path: backend/itsm_nexus.db\n" in text
    assert "# QUESTION: Should a recovery also check that users can log in?" in text
    assert "#   nexus_log_patterns: [backend/logs/*.log]" in text
    assert f"WRITTEN: {running.variables_file}" in found.screen
    assert "playbooks/outage_detect.yml" in found.screen

    listed = subprocess.run(
        ["ansible-inventory", "-i", running.inventory, "--host", "nexus"], check=True, capture_output=True, text=True
    )
    loaded = json.loads(listed.stdout)
    specified = yaml.safe_load((ROOT / "roles/nexus/meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]
    of_role = {name: loaded[name] for name in loaded if name in specified["main"]["options"]}
    assert ArgumentSpecValidator(specified["main"]["options"]).validate(of_role).error_messages == []

    detected = running.run("outage_detect")
    assert detected.rc == 0
    assert "HEALTHY" in detected.screen
    triaged = running.run("outage_triage")
    assert "NOTHING WRONG FOUND" in triaged.screen

    again = running.run("outage_discover")
    assert again.rc == 0
    assert "NO DIFFERENCE" in again.screen
    assert again.recap()["changed"] == 0


def test_a_second_run_shows_changes_and_keeps_edits(running: Deployed) -> None:
    assert running.run("outage_discover").rc == 0
    text = running.variables_file.read_text(encoding="utf-8")
    edited = text.replace(f"nexus_http_port: {running.http_port}", "nexus_http_port: 1  # mine")
    edited += "# The contact.\nescalation_contacts: {dba: DBA of a test}\n"
    running.variables_file.write_text(edited, encoding="utf-8")

    shown = running.run("outage_discover")
    assert shown.rc == 0
    assert f"nexus_http_port: inventory 1, host {running.http_port}" in shown.screen
    assert "outage_discover_update=true" in shown.screen
    assert running.variables_file.read_text(encoding="utf-8") == edited

    tried = running.run("outage_discover", "--check", "--diff", "-e", "outage_discover_update=true")
    assert (tried.rc, tried.recap()["changed"]) == (0, 1)
    assert "-nexus_http_port: 1" in tried.screen
    assert "DBA of a test" not in tried.screen
    assert running.variables_file.read_text(encoding="utf-8") == edited

    updated = running.run("outage_discover", "-e", "outage_discover_update=true")
    assert (updated.rc, updated.recap()["changed"]) == (0, 1)
    after = running.variables_file.read_text(encoding="utf-8")
    assert after == edited.replace("nexus_http_port: 1  # mine", f"nexus_http_port: {running.http_port}  # mine")
    assert "NO DIFFERENCE" in running.run("outage_discover").screen


def test_a_service_that_is_down_is_described_by_its_files(running: Deployed) -> None:
    running.kill()
    found = running.run("outage_discover")
    assert found.rc == 0
    assert running.written() == expected(running)
    text = running.variables_file.read_text(encoding="utf-8")
    assert "QUESTION: The service is not running." in text
    assert "# Source: DATABASE_PATH in config/env/.env.production\nnexus_db_path: backend/itsm_nexus.db\n" in text
    assert "not running" in found.screen


def test_a_later_change_of_the_certificate_path_is_not_hidden_by_the_inventory(running: Deployed) -> None:
    assert running.run("outage_discover").rc == 0
    text = running.environment_file.read_text(encoding="utf-8")
    changed = text.replace("/server.crt", "/renewed.crt")
    assert changed != text
    running.environment_file.write_text(changed, encoding="utf-8")
    running.kill()
    screen = running.run("outage_triage").screen
    assert "renewed.crt" in screen


def test_check_mode_writes_nothing_and_shows_the_text(running: Deployed) -> None:
    found = running.run("outage_discover", "--check")
    assert found.rc == 0
    assert not running.variables_file.parent.exists()
    assert "nexus_db_path: backend/itsm_nexus.db" in found.screen


def test_a_missing_folder_is_named(running: Deployed) -> None:
    found = running.run("outage_discover", "-e", "outage_discover_dest=nowhere/nexus.yml")
    assert found.rc == 2
    assert "outage_discover_dest is 'nowhere/nexus.yml': the folder" in found.screen
    assert "does not exist" in found.screen
    assert not (running.inventory / "nowhere").exists()


def test_the_text_is_in_the_language_of_the_setting(running: Deployed) -> None:
    assert running.run("outage_discover", "-e", "outage_discover_language=ja").rc == 0
    text = running.variables_file.read_text(encoding="utf-8")
    assert "実行中のプロセスが開いているファイル\nnexus_db_path: backend/itsm_nexus.db\n" in text


# The service's user, and the owner of the files whose paths this user has chosen.
USER, OTHER = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
# A program that opens a log in a folder whose name is JSON text, and reports when the log is open.
PROGRAM = """
const fs = require('fs'), path = require('path');
const folder = path.join(process.cwd(), 'l", "glob": "*');
fs.mkdirSync(path.join(folder), {recursive: true});
fs.openSync(path.join(folder, 'a-2026-11-29.log'), 'a');
fs.writeFileSync('ready', '');
setInterval(() => {}, 1000);
"""


def owned(path: Path, account: pwd.struct_passwd, *, mode: int = 0o755, text: str | None = None) -> Path:
    """Create a folder, or a file if a text is given."""
    if text is None:
        path.mkdir()
    else:
        path.write_text(text, encoding="utf-8")
    os.chown(path, account.pw_uid, account.pw_gid)
    path.chmod(mode)
    return path


@pytest.fixture
def hostile():
    """Yield a service whose user has set paths of another account's files in the environment of the process."""
    # Other accounts cannot enter pytest's folders.
    with tempfile.TemporaryDirectory() as name:
        service = Deployed(Path(name))
        service.folder.chmod(0o755)
        owned(service.app, USER)
        owned(service.app / "server.js", USER, text=PROGRAM)
        for folder in (service.environment_file.parent.parent, service.environment_file.parent):
            owned(folder, USER)
        owned(service.environment_file, USER, text="NODE_ENV=production\nJWT_SECRET=a-secret-of-this-test\n")
        service.write_inventory()
        other = owned(service.folder / "other", OTHER)
        for private in ("audit.log", "o.crt", "o.key"):
            owned(other / private, OTHER, mode=0o600, text="private")
        for copy, mode in (("a_1.db", 0o600), ("a_2.db", 0o644)):
            with contextlib.closing(sqlite3.connect(other / copy)) as database:
                database.execute("create table t (x)")
                database.commit()
            (other / copy).chmod(mode)
        os.utime(other / "a_1.db", (0, 0))
        owned(service.folder / "own-logs", USER)
        owned(service.folder / "own-logs" / "a.log", USER, text="a")
        own = {
            "PATH": os.environ["PATH"],
            **{"ENABLE_HTTPS": "true", "HTTPS_PORT": "6443"},
            **{"LOG_DIR": other, "LOGS_DIR": service.folder / "own-logs", "BACKUP_DIR": other},
            **{"SSL_CERT_PATH": other / "o.crt", "SSL_KEY_PATH": other / "o.key"},
        }
        argv = ["setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups", "node", "server.js"]
        with subprocess.Popen(argv, cwd=service.app, env=own) as process:
            try:
                deadline = time.monotonic() + 30
                while not (service.app / "ready").exists():
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)
                yield service
            finally:
                process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as another account")
def test_the_user_of_the_service_cannot_add_files_of_another_account(hostile: Deployed) -> None:
    """If these paths were in the inventory, root would trust them as if the administrator had set them."""
    assert hostile.run("outage_discover").rc == 0
    values = hostile.written()
    assert values["nexus_user"] == USER.pw_name
    assert values["nexus_log_patterns"] == [f"{hostile.folder}/own-logs/*.log"]
    text = hostile.variables_file.read_text(encoding="utf-8").replace("\n#     ", " ").replace("\n#   ", " ")
    other = hostile.folder / "other"
    assert not [value for value in values.values() if str(other) in str(value)]
    named = {"nexus_log_patterns": other, "database_recovery_backup_dirs": other}
    named.update({"nexus_tls_cert_path": other / "o.crt", "nexus_tls_key_path": other / "o.key"})
    for variable, path in named.items():
        assert variable == "nexus_log_patterns" or variable not in values
        assert f"QUESTION: Does this service use {path}? The path is not set" in text
    assert "user nobody is not allowed to change it or its folder" in text
    assert "user nobody is not allowed to read all of them" in text
    # The folder with a special name is not shown.
    assert "glob" not in text
    assert "QUESTION: Which value is correct? The value is not shown" in text
