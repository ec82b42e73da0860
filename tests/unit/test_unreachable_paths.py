# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's user must not learn from a path of its choice which files exist in folders that only root can enter.

In each test, the user refers to a file in one of root's folders with a link, a variable or a log line. The facts must
be the same whether or not the file exists.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_zones

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, path_status
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import measure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    desired_state,
    preflight,
    preflight_findings,
    process,
    process_start,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    collect_application,
    collect_host,
    collect_logs,
    collect_paths,
    collect_service,
    collect_start,
    triage_pass,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question

NOBODY = test_zones.NOBODY
USER = (NOBODY.pw_uid, NOBODY.pw_gid)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look where another user cannot")


class Place:
    """The service's folder, which its user owns, and a folder that only root can enter."""

    def __init__(self, base: Path) -> None:
        self.app = test_zones.made(base / "app", owner=NOBODY)
        self.private = test_zones.made(base / "private", mode=0o700)

    def link(self, name: str, target: Path) -> None:
        (self.app / name).symlink_to(target)
        os.lchown(self.app / name, *USER)

    def both(self, look: Callable[[], Any], *, name: str = "file", folder: bool = False) -> tuple[Any, Any]:
        """Return the facts with a file (or a folder) in the private folder, and the facts without it."""
        target = self.private / name
        if folder:
            target.mkdir()
            (target / "secret.txt").touch()
        else:
            target.write_text("#!/bin/sh\n")
            target.chmod(0o755)
        found = look()
        (shutil.rmtree if folder else os.unlink)(target)
        return found, look()


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Place(Path(folder))


def asked(place: Place, **service: Any) -> Question:
    known = service.pop("known", {})
    question = test_zones.question(place.app, **known)
    return question._replace(service=question.service._replace(**service))


def test_status_follows_the_links_of_a_user_with_this_users_rights(place: Place) -> None:
    (place.private / "file").touch()
    place.link("link", place.private / "file")
    place.link("itself", place.app)
    (place.app / "hidden").mkdir(mode=0o700)
    (place.app / "hidden" / "file").touch()
    assert path_status.mode_of(str(place.private / "file"))
    assert path_status.mode_of(str(place.app / "itself"))
    # If there are no links, root can still examine the whole tree.
    assert path_status.mode_of(str(place.app / "hidden" / "file"))
    assert not path_status.mode_of(str(place.app / "link"))
    assert not path_status.mode_of(str(place.app / "missing"))
    assert not path_status.mode_of("/with\0null")
    assert path_status.mode_of("/")
    with pytest.raises(PermissionError):
        path_status.status(str(place.app / "link"))


def test_a_link_in_a_folder_of_several_accounts_is_followed_as_the_named_user(place: Place) -> None:
    shared = test_zones.made(place.app.parent / "shared", mode=0o775)
    (place.private / "file").touch()
    (shared / "hidden").symlink_to(place.private / "file")
    (shared / "app").symlink_to(place.app)
    assert path_status.mode_of(str(shared / "app"), user=USER)
    assert not path_status.mode_of(str(shared / "hidden"), user=USER)
    assert not path_status.mode_of(str(shared / "app"))


@pytest.mark.parametrize("name", ["node_modules", "package.json", "server.js", ".env"])
def test_links_in_the_applications_folder(place: Place, name: str) -> None:
    place.link(name, place.private / "file")
    service = {"command": ["node", "server.js"], "environment_file": ".env", "pid_file": str(place.app / name)}
    for part in (
        collect_application.node,
        collect_application.dependencies,
        collect_start.start,
        collect_start.modules,
        collect_service.environment,
        triage_pass._pid_file,
    ):
        there, gone = place.both(lambda: part(asked(place, **service)), folder=name == "node_modules")  # noqa: B023
        assert there["facts"] == gone["facts"], part


def test_the_folder_of_the_application(place: Place) -> None:
    place.link("current", place.private / "folder")
    question = asked(place, app_dir=str(place.app / "current"))
    there, gone = place.both(lambda: triage_pass._app_dir(question), name="folder", folder=True)
    assert there == gone
    there, gone = place.both(lambda: collect_host._core_files(question), name="folder", folder=True)
    assert there == gone


def test_entries_of_a_linked_folder_are_not_listed(place: Place) -> None:
    place.link("data", place.private / "folder")
    (place.private / "folder").mkdir()
    (place.private / "folder" / "secret.txt").touch()
    (place.app / "own.txt").touch()
    question = asked(place, known={"database_path": str(place.app / "data" / "itsm.db")})
    text = collect_application.files(question)["evidence"][0]["text"]
    assert "secret.txt" not in text
    assert "own.txt" in text


def test_owner_and_mode_of_a_linked_database(place: Place) -> None:
    place.link("itsm.db", place.private / "file")
    question = asked(place, known={"database_path": str(place.app / "itsm.db")})
    there, gone = place.both(lambda: collect_start.ownership(question))
    assert there == gone


def test_a_database_folder_that_root_created_is_still_examined(place: Place) -> None:
    folder = test_zones.made(place.app / "data", mode=0o700)
    (folder / "itsm.db").touch(mode=0o600)
    facts = collect_start.ownership(asked(place, known={"database_path": str(folder / "itsm.db")}))["facts"]
    assert [each["path"] for each in facts["denied"]] == [str(folder), str(folder / "itsm.db")]
    assert facts["foreign"] == [str(folder / "itsm.db")]


def test_a_variable_does_not_show_where_links_of_root_lead(place: Place) -> None:
    (place.app / "other.db").touch()
    os.chown(place.app / "other.db", *USER)
    variable = {"database_path": str(place.private / "link"), "database_path_source": "DATABASE_PATH of the process"}
    question = asked(place, known={"environment": variable})
    (place.private / "link").symlink_to(place.app / "other.db")
    there = collect_paths.paths(question, what="database")["facts"]
    (place.private / "link").unlink()
    assert there == collect_paths.paths(question, what="database")["facts"]
    assert there["effective"] == str(place.app / "itsm.db")


def test_a_file_in_a_log_line(place: Place) -> None:
    line = f"{place.app}/../private/file"
    errors = [{"place": {"file": line}, "compiling": False, "message": "Error: bad"}]

    def look() -> Any:
        collect_logs._look_again(asked(place), errors)
        return errors[0]["changed_at"]

    assert place.both(look) == (None, None)


@pytest.mark.parametrize("way", ["program", "interpreter", "folder", "environment"])
def test_paths_of_the_unit_in_folders_of_the_user(place: Place, way: str) -> None:
    program = place.app / "run"
    program.write_text(f"#!{place.private}/file\n")
    program.chmod(0o755)
    place.link("link", place.private / "file")
    linked = str(place.app / "link")
    unit = {"load_state": "loaded", "user": NOBODY.pw_name, "program": str(program)}
    if way == "program":
        unit["program"] = linked
    elif way == "folder":
        unit["needed_folder"] = linked
    elif way == "environment":
        unit["environment_files"] = [linked]  # type: ignore[assignment]
    question = asked(place, manager="systemd", known={"unit": unit})
    there, gone = place.both(lambda: collect_start.start(question), folder=way == "folder")
    assert there == gone


def checked(place: Place, *, path: str, variables: str) -> dict[str, Any]:
    environment = place.app / "env"
    environment.write_text(f"NODE_ENV=production\n{variables}\n")
    environment.chmod(0o600)
    os.chown(environment, *USER)
    (place.app / "server.js").touch()
    config = preflight_findings.Config(
        app_dir=str(place.app),
        user=NOBODY.pw_name,
        manager="process",
        unit="",
        command=["node", "server.js"],
        environment_file=str(environment),
        db_path=path,
        db_path_variable="DATABASE_PATH",
        log_file=str(place.app / "server.log"),
        state_dir=str(place.app.parent / "state"),
        pid_file=str(place.app / "server.pid"),
        https_port=6443,
        http_port=8080,
    )

    def run(argv: list[str], **_more: Any) -> commands.Completed:
        return commands.Completed(argv=argv, rc=0, stdout="v20.19.2\n", stderr="", duration=0.0)

    return preflight.examine(config, run=run)


@pytest.mark.parametrize("folder", [True, False])
def test_a_variable_in_the_readiness_check(place: Place, folder: bool) -> None:
    variables = f"DATABASE_PATH={place.private}/file"
    there, gone = place.both(lambda: checked(place, path="itsm.db", variables=variables), folder=folder)
    assert there == gone
    assert [each["variable"] for each in there["problems"]][-1] == "nexus_db_path"


def test_the_search_path_of_the_service_in_the_readiness_check(place: Place) -> None:
    there, gone = place.both(
        lambda: checked(place, path="itsm.db", variables=f"PATH={place.private}"), name="node", folder=False
    )
    assert there == gone


def test_a_database_of_the_user_at_another_path_is_accepted(place: Place) -> None:
    data = test_zones.made(place.app.parent / "data", owner=NOBODY)
    (data / "itsm.db").touch()
    os.chown(data / "itsm.db", *USER)
    result = checked(place, path="itsm.db", variables=f"DATABASE_PATH={data}/itsm.db")
    assert [each["variable"] for each in result["mismatches"]] == ["nexus_db_path"]
    assert "nexus_db_path" not in [each["variable"] for each in result["problems"]]
    assert pwd.getpwuid(os.stat(data).st_uid) == NOBODY


def test_the_search_path_of_a_process_that_is_to_be_started(place: Place) -> None:
    environment = place.app / "env"
    environment.write_text(f"PATH={place.private}\n")
    environment.chmod(0o600)
    service = process.Service(
        app_dir=str(place.app),
        command=["node", "server.js"],
        user=NOBODY.pw_name,
        pid_file=str(place.app / "server.pid"),
        log_file=str(place.app / "server.log"),
        environment_file=str(environment),
    )

    def look() -> str:
        with pytest.raises(process.NodeProcessError) as raised:
            process_start.prepare(service)
        return str(raised.value)

    there, gone = place.both(look, name="node")
    assert there == gone


def test_the_size_of_a_linked_database_before_a_start(place: Place) -> None:
    place.link("itsm.db", place.private / "file")
    (place.private / "file-wal").write_text("WAL")
    service = process.Service(
        app_dir=str(place.app),
        command=["node", "server.js"],
        user=NOBODY.pw_name,
        pid_file="",
        db_path="itsm.db",
    )

    def look() -> str:
        with pytest.raises(process.NodeProcessError) as raised:
            desired_state._refuse_lost_database(service)
        return str(raised.value)

    there, gone = place.both(look)
    assert there == gone
    assert "3 bytes" not in there


def test_the_file_system_of_a_linked_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.link("hidden", place.private / "folder")
    (place.private / "folder").mkdir()
    examined = []
    statvfs = os.statvfs

    def noted(path: str) -> os.statvfs_result:
        examined.append(path)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", noted)
    found = measure.disks({"database": str(place.app / "hidden")}, user=NOBODY.pw_name)
    assert [disk["uses"] for disk in found] == [["database"]]
    assert str(place.private / "folder") not in examined


@pytest.mark.parametrize("variable", ["DATABASE_PATH", "PATH"])
def test_a_file_system_that_does_not_respond_does_not_stop_the_readiness_check(
    place: Place, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's user can mount a file system that accepts only this user's requests, and never completes them."""
    stat = os.stat

    def hanging(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(place.private)) and os.geteuid() != 0:
            time.sleep(60)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", hanging)
    monkeypatch.setattr(preflight_findings, "_DISK_TIMEOUT", 0.2)
    started = time.monotonic()
    result = checked(place, path="itsm.db", variables=f"{variable}={place.private}/file")
    assert time.monotonic() - started < 10
    assert not result["ok"]
