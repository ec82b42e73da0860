# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts are collected within a time limit and without any change. They contain no secrets."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
import sqlite_samples

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import start_guard, start_guard_report
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import collect
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.preflight_findings import Config
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates

CANARY = "canary-of-the-secret-5d1f"
USER = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    (app / "backend").mkdir(parents=True)
    (app / "backend" / "server.js").touch()
    sqlite_samples.closed(str(app / "backend" / "itsm.db"))
    environment = app / "itsm.env"
    environment.touch(mode=0o600)
    environment.write_text(f"NODE_ENV=production\nJWT_SECRET={CANARY}\nLDAP_PASSWORD={CANARY}\n", encoding="utf-8")
    (tmp_path / "log").mkdir()
    return app


ROLE = Path(__file__).resolve().parents[5] / "roles" / "start_guard"


def settings(app: Path, *, timeout: float = 20, rebuild: bool = False, **changes: Any) -> collect.Settings:
    config = {
        "app_dir": str(app),
        "user": USER,
        "manager": "process",
        "unit": "itsm-system",
        "command": ["node", "backend/server.js"],
        "environment_file": str(app / "itsm.env"),
        "db_path": "backend/itsm.db",
        "db_path_variable": "DATABASE_PATH",
        "log_file": str(app.parent / "log" / "server.log"),
        "state_dir": str(app.parent / "state"),
        "pid_file": str(app.parent / "pid"),
        "https_port": 0,
        "http_port": 8080,
    }
    return collect.Settings(
        config=Config(**{**config, **changes}),
        log_patterns=["backend/logs/*.log"],
        required_environment=["NODE_ENV", "JWT_SECRET"],
        tls_cert_path="",
        tls_key_path="",
        npm_cache="",
        backup_dirs=[str(app / "backups")],
        backup_patterns=[],
        timeout=timeout,
        rebuild=rebuild,
        rebuild_timeout=20,
        database_timeout=20,
    )


def reasons(result: dict[str, Any]) -> dict[str, str]:
    """Return the reasons why facts are missing."""
    return {name: part["id"] for name, part in result["parts"].items() if isinstance(part, dict)}


def test_every_fact_is_collected_and_no_value_of_a_variable(app: Path) -> None:
    before = sorted(app.parent.rglob("*"))
    result = collect.collect(settings(app))
    assert CANARY not in json.dumps(result)
    assert reasons(result) == {
        "unit": "ready.part.process",
        "guard": "ready.part.process",
        "modules": "ready.part.switched_off",
    }
    facts = result["facts"]
    links = facts["secrets"].pop("hard_links_protected")
    assert links is (Path("/proc/sys/fs/protected_hardlinks").read_text(encoding="ascii") != "0\n")
    assert facts["secrets"] == {"missing": [], "weak": [], "exposed": []}
    assert facts["database"]["healthy"]
    assert facts["backups"] == {"found": [], "number": 0, "unread": []}
    assert facts["drill"] == {"missing": True}
    assert set(result["parts"]) >= set(facts) - {"versions"}
    assert sorted(app.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("value", "weak"), [("short", True), ("change-me-please-now", True), ("x" * 40, True), ("k3" + "aB9-" * 8, False)]
)
def test_a_weak_secret_is_named(app: Path, value: str, weak: bool) -> None:
    (app / "itsm.env").write_text(f"NODE_ENV=production\nJWT_SECRET={value}\n", encoding="utf-8")
    assert collect.collect(settings(app))["facts"]["secrets"]["weak"] == (["JWT_SECRET"] if weak else [])


def test_invalid_settings_skip_only_what_depends_on_them(app: Path) -> None:
    result = collect.collect(settings(app, user="nobody-of-this-name"))
    told = reasons(result)
    assert told["backups"] == told["modules"] == told["secrets"] == "ready.part.settings"
    assert {"settings", "privileges", "clock", "incident", "drill", "versions"} <= set(result["facts"])


@pytest.mark.parametrize("command", [None, "node server.js", [], [3]])
def test_any_value_of_the_command_is_only_a_problem(app: Path, command: Any) -> None:
    result = collect.collect(settings(app, command=command))
    assert "nexus_command" in {each["variable"] for each in result["facts"]["settings"]["problems"]}


def test_pipes_and_links_of_the_user_do_not_stop_the_check(app: Path) -> None:
    (app / "itsm.env").unlink()
    os.mkfifo(app / "itsm.env")
    (app / "backend" / "itsm.db").unlink()
    os.mkfifo(app / "backend" / "itsm.db")
    (app / "backups").mkdir()
    os.mkfifo(app / "backups" / "itsm.db")
    (app / "backups" / "itsm_1.db").symlink_to("/etc/shadow")
    (app.parent / "state").mkdir(mode=0o700)
    os.mkfifo(app.parent / "state" / "restore_drill.json")
    os.mkfifo(app.parent / "log" / "server.log")
    begun = time.monotonic()
    result = collect.collect(settings(app, timeout=10))
    assert time.monotonic() - begun < 60
    assert not (result["facts"].get("database") or {}).get("healthy")
    assert (result["facts"].get("backups") or {"found": []})["found"] == []
    assert "drill" not in result["facts"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges that could be abused")
def test_the_environment_does_not_select_a_backup_of_root() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        os.chmod(base, 0o755)  # noqa: S103
        app, kept = Path(base, "app"), Path(base, "kept")
        (app / "backend").mkdir(parents=True)
        (app / "backend" / "server.js").touch()
        (app / "itsm.env").write_text("NODE_ENV=production\nDATABASE_PATH=backend/crm.db\n", encoding="utf-8")
        (app / "itsm.env").chmod(0o600)
        sqlite_samples.closed(str(app / "backend" / "crm.db"))
        for path in (app, *app.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        kept.mkdir(mode=0o700)
        sqlite_samples.closed(str(kept / "crm.db"))
        (kept / "crm.db").chmod(0o600)
        facts = {
            path: collect.collect(settings(app, user="nobody", db_path=path)._replace(backup_dirs=[str(kept)]))["facts"]
            for path in ("backend/itsm.db", "backend/crm.db")
        }
    kinds = {path: [each["kind"] for each in found["backups"]["found"]] for path, found in facts.items()}
    assert kinds == {"backend/itsm.db": [candidates.REFUSED], "backend/crm.db": [candidates.SOUND]}


def test_a_large_list_of_backups_is_read(app: Path) -> None:
    """If the database has many tables, a list of a thousand backups takes several MiB."""
    elsewhere, state = app.parent / "elsewhere", str(app.parent / "state")
    elsewhere.mkdir()
    backup = elsewhere / "any name"
    shutil.copy(app / "backend" / "itsm.db", backup)
    rows = {f"table_{number}": number for number in range(100)}
    gone = [listing.Entry("2026-03-02T01:02:03.000Z", f"/b/{number}", 1, rows, verified=True) for number in range(999)]
    made = listing.Entry("2026-03-03T01:02:03.000Z", str(backup), backup.stat().st_size, rows, verified=True)
    listing.write(state, [made, *gone])
    assert Path(state, listing.NAME).stat().st_size > 1 << 20
    found = collect.collect(settings(app))["facts"]["backups"]
    assert [each["path"] for each in found["found"]] == [str(backup)]
    assert found["found"][0]["kind"] == "sound" and found["unread"] == []


@pytest.mark.parametrize("content", ["", "[]", "3", '"x"', "{", "\x00"])
def test_a_damaged_result_of_a_drill_is_not_checked(app: Path, content: str) -> None:
    (app.parent / "state").mkdir(mode=0o700)
    (app.parent / "state" / "restore_drill.json").write_text(content, encoding="utf-8")
    result = collect.collect(settings(app))
    assert reasons(result)["drill"] == "ready.part.failed"


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the start guard as its role does. Return its drop-in."""
    folder, programs = tmp_path / "itsm-system.service.d", tmp_path / "programs"
    folder.mkdir()
    shutil.copytree(ROLE / "files", programs)
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    template = jinja2.Environment(loader=loader).get_template("dropin.conf.j2")  # noqa: S701 - plain text
    text = template.render(
        start_guard_python="/usr/bin/python3",
        _start_guard_name="itsm-nexus-guard-itsm-system",
        _start_guard_programs=programs,
        _start_guard_config="/etc/itsm-nexus-runbook/itsm-system.json",
    )
    dropin = folder / "50-itsm-nexus-start-guard.conf"
    dropin.write_text(text, encoding="utf-8")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "itsm-system.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(start_guard, "PROGRAMS", str(programs))
    monkeypatch.setattr(start_guard, "CONFIG_FOLDER", str(tmp_path / "etc"))
    monkeypatch.setattr(collect.service_hold, "FOLDER", str(tmp_path))
    return dropin


def guard_of(app: Path) -> dict[str, Any]:
    found = collect._guard(settings(app, manager="systemd").config)
    assert found.pop("dropin").endswith("/itsm-system.service.d/50-itsm-nexus-start-guard.conf")
    return found


def test_an_installed_start_guard_is_found(app: Path, guarded: Path) -> None:
    assert guard_of(app) == {"installed": True, "guard": True, "recorder": True}
    guarded.write_text(guarded.read_text().replace("ExecStopPost=", "#ExecStopPost="), encoding="utf-8")
    assert guard_of(app) == {"installed": True, "guard": True, "recorder": False}
    guarded.unlink()
    assert guard_of(app) == {"installed": True, "guard": False, "recorder": False}
    # If there is no configuration for this unit, the programs were installed for another unit.
    Path(start_guard.CONFIG_FOLDER, "itsm-system.json").unlink()
    assert guard_of(app) == {"installed": False, "guard": False, "recorder": False}


def test_a_start_guard_without_its_configuration_does_not_work(app: Path, guarded: Path) -> None:
    del guarded
    Path(start_guard.CONFIG_FOLDER, "itsm-system.json").unlink()
    assert guard_of(app) == {"installed": True, "guard": False, "recorder": False}
    report = start_guard_report.report(manager="systemd", unit="itsm-system", state_dir=str(app), window=60.0)
    assert report["installed"] is True and "only partly installed" in report["text"][0]


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ("run.py", {"guard": False, "recorder": False}),
        ("guard_common.py", {"guard": False, "recorder": False}),
        ("start_guard.py", {"guard": False, "recorder": True}),
        ("restart_recorder.py", {"guard": True, "recorder": False}),
    ],
)
def test_a_missing_program_of_the_start_guard_is_found(
    app: Path, guarded: Path, missing: str, parts: dict[str, bool]
) -> None:
    del guarded
    Path(start_guard.PROGRAMS, missing).unlink()
    assert guard_of(app) == {"installed": True, **parts}


def test_an_application_without_a_lock_file_cannot_be_rebuilt(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    # The service's user can enter this folder, as it can enter /var/tmp. However, no other test uses this folder.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        Path(scratch).chmod(0o755)
        monkeypatch.setattr(collect, "_SCRATCH", scratch)
        result = collect.collect(settings(app, rebuild=True))
        assert not result["facts"]["modules"]["ok"]
        assert list(Path(scratch).iterdir()) == []
