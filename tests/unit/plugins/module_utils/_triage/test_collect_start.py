# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Obstacles to the next start, checked on real files with the permissions of the service's user."""

from __future__ import annotations

import grp
import json
import os
import pathlib
import pwd
import shutil
import tempfile

import pytest
import triage_samples

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_logs, collect_start
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context

USER = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def tmp_path():
    """Yield a folder that every user can enter, unlike pytest's own folder."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ask(tmp_path):
    """Return a function that runs one part of triage for a service in the test's folder and returns the facts."""
    app = tmp_path / "app"
    app.mkdir()

    def question(part, *, unit=None, manager="systemd", environment_file="", user=USER, **known):
        service = triage_samples.service(
            tmp_path,
            app_dir=str(app),
            manager=manager,
            unit="itsm",
            user=user,
            log_file=str(tmp_path / "log"),
            environment_file=environment_file,
        )
        asked = triage_context.Question(
            service=service,
            run=commands.run,
            since=0.0,
            budget=5.0,
            log_lines=100,
            kernel_log_command=(),
            keep=False,
            known=triage_context.Known(
                **{"database_path": str(app / "itsm.db"), "unit": {"load_state": "loaded", **(unit or {})}, **known}
            ),
        )
        return part(asked)["facts"]

    question.app = app
    return question


def program(path, text, mode=0o755):
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda app: shutil.which("true"), None),
        (lambda app: program(app / "run", b"#!/bin/sh\n"), None),
        (lambda app: str(app / "gone"), "missing"),
        (str, "not_a_file"),
        (lambda app: program(app / "run", b"#!/no/such/shell\n"), "no_interpreter"),
        (lambda app: program(app / "run", b"hello"), "no_program"),
        pytest.param(lambda app: program(app / "run", b"#!/bin/sh\n", 0o700), "not_executable", marks=as_root),
    ],
)
def test_why_a_program_cannot_be_run(ask, make, fault):
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else USER
    facts = ask(collect_start.start, unit={"program": make(ask.app), "user": user}, user=user)
    told = facts["messages"].get("program_fault")
    assert (told or {}).get("id") == (fault and f"reason.start.{fault}")
    assert (facts["program"] if fault else "") in (facts["program_fault"] or "")


def test_folder_user_and_group_of_the_unit(ask):
    unit = {"user": "no-such-user", "group": "no-such-group", "needed_folder": str(ask.app / "gone")}
    facts = ask(collect_start.start, unit=unit)
    assert facts["user_fault"] == "there is no user no-such-user"
    assert facts["group_fault"] == "there is no group no-such-group"
    assert facts["folder_fault"] == f"{ask.app / 'gone'} is not a folder"
    # The paths and users of a sandboxed unit may exist only inside its sandbox, so they are not checked.
    facts = ask(collect_start.start, unit={**unit, "confined": True})
    assert [facts[name] for name in ("user_fault", "group_fault", "folder_fault")] == [None] * 3


def test_environment_files_that_a_start_needs(ask, tmp_path):
    there = tmp_path / "there.env"
    there.touch()
    lines = (
        f"{there} (ignore_errors=no)\n{tmp_path}/gone.env (ignore_errors=no)\n{tmp_path}/may.env (ignore_errors=yes)"
    )
    files = env_file.required_files(lines)
    facts = ask(collect_start.start, unit={"environment_files": files})
    assert {item["path"]: item["exists"] for item in facts["environment_files"]} == {
        str(there): True,
        f"{tmp_path}/gone.env": False,
    }
    facts = ask(collect_start.start, manager="process", environment_file=f"{tmp_path}/gone.env")
    assert facts["environment_files"] == [{"path": f"{tmp_path}/gone.env", "exists": False}]


@as_root
def test_a_database_of_root_is_denied_to_the_user(ask):
    account = pwd.getpwnam(USER)
    for name in ("itsm.db", "itsm.db-wal", "server.js"):
        (ask.app / name).touch()
        os.chown(ask.app / name, account.pw_uid, account.pw_gid)
    os.chown(ask.app, account.pw_uid, account.pw_gid)
    well = ask(collect_start.ownership)
    assert (well["denied"], well["foreign"], well["others"], well["read_only"]) == ([], [], [], False)
    os.chown(ask.app / "itsm.db-wal", 0, 0)
    facts = ask(collect_start.ownership)
    assert [(item["path"], item["owner"], item["mode"]) for item in facts["denied"]] == [
        (f"{ask.app}/itsm.db-wal", "root", "0644")
    ]
    assert (facts["foreign"], facts["others"]) == ([f"{ask.app}/itsm.db-wal"], [])
    # Group write permission is enough for a file, but the folder must be writable too.
    os.chown(ask.app / "itsm.db-wal", 0, account.pw_gid)
    (ask.app / "itsm.db-wal").chmod(0o660)
    assert ask(collect_start.ownership)["denied"] == []
    os.chown(ask.app, 0, 0)
    facts = ask(collect_start.ownership)
    assert [item["path"] for item in facts["denied"]] == [str(ask.app)]
    assert facts["others"] == [str(ask.app)]
    # If the unit adds supplementary groups, one of them may have write permission.
    assert ask(collect_start.ownership, unit={"more_groups": True})["denied"] == []
    assert ask(collect_start.ownership, unit={"group": "root"})["denied"] == []
    assert ask(collect_start.ownership, unit={"group": grp.getgrgid(account.pw_gid).gr_name})["denied"] != []
    # The unit's user takes precedence over the configured user, because the service runs as the unit's user.
    assert ask(collect_start.ownership, unit={"user": "root"})["denied"] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_checks_whether_a_file_can_be_read_now(ask, tmp_path):
    user = pwd.getpwuid(os.geteuid()).pw_name
    broken = ask.app / "broken.js"
    broken.write_text("const x = ;\n")
    text = (
        f"{broken}:1\nconst x = ;\n          ^\n\nSyntaxError: Unexpected token ';'\n"
        "    at wrapSafe (node:internal/modules/cjs/loader:1464:18)\n\nNode.js v20.20.2\n"
    )
    (tmp_path / "log").write_text(text)
    (found,) = ask(collect_logs.log, user=user, unit={"program": shutil.which("node")})["exceptions"]
    assert (found["parses"], bool(found["changed_at"])) == (False, True)
    broken.write_text("const x = 1;\n")
    (found,) = ask(collect_logs.log, user=user, unit={"program": shutil.which("node")})["exceptions"]
    assert found["parses"] is True
    # Files outside the application's folder are not parsed.
    (tmp_path / "log").write_text(text.replace(str(broken), "/elsewhere/broken.js"))
    (found,) = ask(collect_logs.log, user=user, unit={"program": shutil.which("node")})["exceptions"]
    assert (found["parses"], found["changed_at"]) == (None, None)
    # If releases are in separate folders, the application's folder is a link.
    ask.app.rename(tmp_path / "20260302")
    ask.app.symlink_to(tmp_path / "20260302")
    (found,) = ask(collect_logs.log, user=user, unit={"program": shutil.which("node")})["exceptions"]
    assert (found["parses"], bool(found["changed_at"])) == (None, True)


@as_root
def test_names_in_a_folder_that_the_user_may_not_enter_are_not_listed(ask, tmp_path):
    """The user has created a link to a file in a folder that only root can enter."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for name in ("itsm.db", "secret-plans.txt"):
        (private / name).touch()
    (ask.app / "itsm.db").symlink_to(private / "itsm.db")
    facts = ask(collect_start.ownership)
    assert facts["others"] == [str(private)]


LOCK = {"lockfileVersion": 3, "packages": {"": {}, "node_modules/express": {"version": "4.0.0"}}}


@pytest.mark.parametrize(
    ("there", "complete"),
    [
        ({}, True),
        ({"package.json": {}}, None),
        ({"package.json": {}, "package-lock.json": LOCK}, False),
        (
            {
                **{"package.json": {}, "package-lock.json": LOCK},
                "node_modules/express/package.json": {"name": "express", "version": "4.0.0"},
            },
            None,
        ),
        ({"package.json": {}, "package-lock.json": LOCK, "node_modules/.package-lock.json": LOCK}, False),
        (
            {
                **{"package.json": {}, "package-lock.json": LOCK, "node_modules/.package-lock.json": LOCK},
                "node_modules/express/package.json": {"name": "express", "version": "4.0.0"},
            },
            True,
        ),
    ],
)
def test_modules_are_compared_with_the_lock_file(ask, there, complete):
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else USER
    for name, content in there.items():
        (ask.app / name).parent.mkdir(parents=True, exist_ok=True)
        (ask.app / name).write_text(json.dumps(content), encoding="utf-8")
    assert ask(collect_start.modules, user=user)["complete"] is complete
