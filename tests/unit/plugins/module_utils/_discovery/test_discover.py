# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts are read from a real folder, with no more rights than the service's user has."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.commands import Completed
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import discover, environment, files, units

CANARY = "canary-of-the-environment"


def database(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table t (x)")
        connection.commit()


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "app"
    (folder / "config/env").mkdir(parents=True)
    (folder / "backend/logs").mkdir(parents=True)
    (folder / "backend/logs/app-2026-11-29.log").write_text("x\n")
    (folder / "config/env/.env.production").write_text(
        f"NODE_ENV=production\nPORT=8081\nENABLE_HTTPS=false\nJWT_SECRET={CANARY}\nBACKUP_DIR={tmp_path}/kept\n"
    )
    (folder / "package.json").write_text('{"name": "itsm", "version": "1.2.3", "scripts": {"start": "node x"}}')
    (folder / "knexfile.js").write_text(
        "module.exports = { production: { connection: { filename: 'backend/itsm_nexus.db' } } };"
    )
    database(folder / "backend/itsm_nexus.db")
    database(folder / "backend/backups/daily/itsm_nexus_daily_1.db")
    database(tmp_path / "kept/itsm_nexus_2.db")
    (folder / "backups").mkdir()
    (folder / "backups/notes.db").write_text("no database")
    return folder


def place(app):
    return files.Place(str(app), None)


def survey(app, **changes):
    known = environment.Environment([])
    options = {
        "section": "production",
        "known": known,
        "paths": [],
        "unit": "",
        "log_folders": [],
        "backup_folders": [],
    }
    return files.survey(place(app), **{**options, **changes})


def test_facts_of_the_disk(app, tmp_path):
    found = survey(app, paths=["package.json", "none"], backup_folders=[str(tmp_path / "kept")])
    assert found["package"] == {"name": "itsm", "version": "1.2.3", "start": "node x"}
    assert found["knexfile"] == {"file": "knexfile.js", "has_section": True, "path": str(app / "backend/itsm_nexus.db")}
    assert found["databases"] == [str(app / "backend/itsm_nexus.db")]
    assert [(each["folder"], each["files"]) for each in found["logs"]] == [(str(app / "backend/logs"), 1)]
    folders = [each["folder"] for each in found["backups"]]
    assert folders == [str(app / "backend/backups/daily"), str(tmp_path / "kept")]
    assert (found["missing"], found["folder"], found["link"], found["git"]) == (["none"], True, "", False)


def test_a_link_to_a_release_and_a_repository_are_found(app, tmp_path):
    (app / ".git").mkdir()
    os.symlink("app", tmp_path / "current")
    found = survey(tmp_path / "current")
    assert (found["link"], found["git"]) == ("app", True)


def test_without_a_unit_the_environment_file_of_the_inventory_is_read(app, tmp_path):
    file = tmp_path / "itsm.env"
    file.write_text("SSL_CERT_PATH=backend/ssl/a.crt\n")
    nobody = discover._Running(None, None, pids=[], databases=[], logs=[], outputs=[])
    without = discover.units.Found(unit=None, process=None, others=[], missing="")
    read = discover._environment(without, nobody, str(app), given=str(file), rights=None)
    assert read.own[0] == str(file)
    assert read.known.is_saved("SSL_CERT_PATH", files=[str(file)])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": 7}'])
def test_an_unusable_package_json_is_no_error(app, text):
    (app / "package.json").write_text(text)
    assert survey(app)["package"] == {}


def test_a_pipe_in_place_of_a_file_does_not_block(app):
    (app / "package.json").unlink()
    os.mkfifo(app / "package.json")
    os.mkfifo(app / "backend/pipe.db")
    assert survey(app)["databases"] == [str(app / "backend/itsm_nexus.db")]


def stopped_unit(app, environment_file):
    command = "{ path=/usr/bin/node ; argv[]=/usr/bin/node backend/server.js ; ignore_errors=no ; pid=0 }"
    text = (
        "Id=itsm-nexus-prod.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nMainPID=0\n"
        f"User=root\nWorkingDirectory={app}\nExecStart={command}\nStandardOutput=journal\n"
        f"EnvironmentFiles={environment_file} (ignore_errors=no)\nEnvironment=LOG_DIR=backend/logs\n"
        "TimeoutStopUSec=30s\nRestart=always\n"
    )

    def run(argv, *, timeout):
        listed = argv[1] != "show"
        return Completed(argv, 0, "itsm-nexus-prod.service enabled\n" if listed else text, "", 0.1)

    return run


def discovered(app, run, tmp_path, **options):
    found = discover.discover(run=run, proc_root="/proc", root=str(tmp_path / "root"), **options)
    assert CANARY not in str(found)
    return found, {each["variable"]: each["value"] for each in found["variables"]}


def test_a_stopped_unit_is_described_by_its_files(app, tmp_path):
    file = app / "config/env/.env.production"
    found, values = discovered(app, stopped_unit(app, file), tmp_path)
    assert found["service"] == {"manager": "systemd", "unit": "itsm-nexus-prod", "running": False, "app_dir": str(app)}
    assert values["nexus_environment_file"] == str(file)
    assert values["nexus_db_path"] == "backend/itsm_nexus.db"
    assert (values["nexus_https_port"], values["nexus_http_port"]) == (0, 8081)
    assert values["database_recovery_backup_dirs"] == [str(app / "backend/backups/daily"), str(tmp_path / "kept")]
    assert values["nexus_log_patterns"] == ["backend/logs/*.log"]


@pytest.mark.parametrize(("configured", "asked"), [("/srv/none", True), ("", False), ("/usr", False)])
def test_a_folder_of_the_inventory_that_does_not_exist_is_a_question(app, tmp_path, configured, asked):
    run = stopped_unit(app, app / "config/env/.env.production")
    found, values = discovered(app, run, tmp_path, app_dir=configured)
    assert values["nexus_app_dir"] == str(app)
    told = [each["question"] for each in found["questions"] if "no such folder" in each["question"]]
    assert len(told) == asked
    assert all(f"Is {app} the application's folder? If not, set nexus_app_dir" in each for each in told)
    assert all("nexus_app_dir is /srv/none" in each for each in told)


@pytest.mark.parametrize(
    ("configured", "missing"), [("/none.env", True), ("none.env", True), ("", False), ("x", False)]
)
def test_an_environment_file_of_the_inventory_may_not_exist(app, configured, missing):
    (app / "x").write_text("PORT=1\n")
    assert discover._missing_file(configured, str(app)) == (str(app / configured) if missing else "")


def test_an_unreadable_environment_file_is_a_question(app, tmp_path):
    found, values = discovered(app, stopped_unit(app, tmp_path / "none"), tmp_path)
    (told,) = [each for each in found["questions"] if each["variable"] == "nexus_environment_file"]
    assert "Cannot read the environment file" in told["question"]
    # The environment file in the application's folder is read instead.
    assert values["nexus_http_port"] == 8081


def test_the_running_process_counts(app, tmp_path, monkeypatch):
    """The process of this test is used as the service."""
    listed = discover.units.Found(None, discover.procfs.read_process(os.getpid()), [], "")
    monkeypatch.setattr(discover.units, "find", lambda *_names, **_options: listed)
    monkeypatch.setattr(discover, "_app_dir", lambda *_facts: str(app))
    with (app / "backend/itsm_nexus.db").open("rb"), (tmp_path / "output.log").open("w"):
        found, values = discovered(app, None, tmp_path)
    assert found["service"]["running"] is True
    assert values["nexus_manager"] == "process"
    assert values["nexus_db_path"] == "backend/itsm_nexus.db"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_is_listed_with_the_rights_of_the_user():
    nobody = (65534, 65534)
    # Other users cannot enter pytest's folders.
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        database(top / "secret" / "itsm_1.db")
        (top / "secret").chmod(0o700)
        database(top / "app" / "backend" / "backups" / "itsm_2.db")
        os.symlink(top / "secret", top / "app" / "backups")
        for path in [top / "app", *(top / "app").rglob("*")]:
            os.chown(path, *nobody, follow_symlinks=False)
        found = files.backups(files.Place(f"{top}/app", nobody), more=[], theirs=[f"{top}/secret"])
        assert [each["folder"] for each in found] == [f"{top}/app/backend/backups"]


def test_the_arguments_with_blanks_come_from_the_process():
    command = "{ path=/usr/bin/node ; argv[]=/usr/bin/node --title a b server.js ; ignore_errors=no }"
    unit = units.Unit("x", {"ExecStart": command})
    process = discover.procfs.read_process(os.getpid())._replace(argv=["node", "--title", "a b", "server.js"])
    running = discover._Running(process, process, [], [], [], [])
    assert discover._argv(units.Found(unit, None, [], ""), running) == ["/usr/bin/node", "--title", "a b", "server.js"]
    stopped = discover._Running(None, None, [], [], [], [])
    assert discover._argv(units.Found(unit, None, [], ""), stopped)[2:4] == ["a", "b"]


def test_a_disk_that_does_not_answer_is_a_question(dead_mount, monkeypatch):
    """Every access to this disk hangs. Therefore, the discovery runs in another process."""
    monkeypatch.setattr(discover, "_PATIENCE", 0.5)
    found = multiprocessing.get_context("fork").Queue()

    def ask():
        found.put(discover.discover(unit="itsm-nexus-prod", run=stopped_unit(dead_mount, "/etc/none")))

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    try:
        questions = [each["question"] for each in found.get(timeout=30)["questions"]]
    finally:
        child.kill()
    assert any(f"The disk that contains {dead_mount} did not respond" in each for each in questions), questions
    assert sum("no response in time" in each for each in questions) == 1


def test_files_that_only_run_out_of_depth_are_no_error(app):
    (app / "package.json").write_text("[" * 200_000)
    code = "process.env.A " + "|| process.env.A " * 20_000
    (app / "knexfile.js").write_text(f"module.exports = {{ production: {{ connection: {{ filename: {code}}} }} }}")
    found = survey(app)
    assert (found["package"], found["knexfile"]["path"]) == ({}, None)
    assert found["databases"] == [str(app / "backend/itsm_nexus.db")]
