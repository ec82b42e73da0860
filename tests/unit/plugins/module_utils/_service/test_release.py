# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollback to an earlier release, with real links, real repositories, and a real database that has knex's table."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release as service_release
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.release_steps import ReleaseError, Releases

MIGRATIONS = {"1": ["1_users.js"], "2": ["1_users.js", "2_assets.js"], "10": ["1_users.js", "2_assets.js"]}


def fill(folder: Path, version: str) -> None:
    (folder / "backend" / "migrations").mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"version": version}))
    for name in MIGRATIONS[version]:
        (folder / "backend" / "migrations" / name).touch()


def make_database(path: Path, *applied: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE knex_migrations (id integer primary key, name text, batch integer, migration_time datetime)"
        )
        for name in applied:
            connection.execute("INSERT INTO knex_migrations (name, batch, migration_time) VALUES (?, 1, 1)", (name,))


def version(site: Releases) -> str:
    return json.loads((Path(site.app_dir) / "package.json").read_text())["version"]


def go(site: Releases, release: str = "", *, strategy: str | None = None, **more) -> dict:
    kind = strategy or ("git" if (Path(site.app_dir) / ".git").exists() else "symlink")
    return service_release.roll_back(site._replace(release=release), strategy=kind, **more)


def refusal(site: Releases, release: str = "", **more) -> str:
    result = go(site, release, **more)
    assert result["changed"] is False
    assert result["refused"]
    return result["refused"]


@pytest.fixture
def linked(tmp_path: Path) -> Releases:
    """Create the releases v1, v2 and v10 as folders. v10 is active."""
    for name in MIGRATIONS:
        fill(tmp_path / "releases" / f"v{name}", name)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "v10")
    make_database(tmp_path / "shared" / "itsm.db", "1_users.js", "2_assets.js")
    return Releases(
        app_dir=str(tmp_path / "current"),
        db_path=str(tmp_path / "shared" / "itsm.db"),
        state_dir=str(tmp_path / "state"),
    )


def git(folder: str | Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_repository(folder: Path) -> None:
    git(folder.parent, "init", "--quiet", folder.name)
    (folder / ".gitignore").write_text("node_modules\n*.db*\n.env\n")
    for name in MIGRATIONS:
        fill(folder, name)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", name)
        git(folder, "tag", f"v{name}")


@pytest.fixture
def repository(tmp_path: Path) -> Releases:
    """Create the same releases as tags in a repository. The database is in the same folder, but git ignores it."""
    make_repository(tmp_path / "app")
    make_database(tmp_path / "app" / "backend" / "itsm.db", "1_users.js", "2_assets.js")
    (tmp_path / "app" / "node_modules").mkdir()
    return Releases(
        app_dir=str(tmp_path / "app"),
        db_path=str(tmp_path / "app" / "backend" / "itsm.db"),
        state_dir=str(tmp_path / "state"),
    )


@pytest.fixture(params=["linked", "repository"])
def site(request) -> Releases:
    return request.getfixturevalue(request.param)


# Releases in folders and releases as tags


def test_back_to_the_previous_release_and_forward_again(site):
    present = "v10" if os.path.islink(site.app_dir) else "main"
    told = go(site, check_mode=True)
    assert (told["changed"], told["from"], told["to"], told["refused"]) == (True, present, "v2", "")
    assert (version(site), os.path.exists(site.state_dir)) == ("10", False)
    result = go(site)
    assert (result["changed"], result["diff"]) == (True, told["diff"])
    assert result["diff"] == {"before": {"release": present}, "after": {"release": "v2"}}
    assert version(site) == "2"
    again = go(site, "v2")
    assert (again["changed"], again["refused"], again["to"]) == (False, "", "v2")
    forward = go(site, present)
    assert (forward["changed"], version(site)) == (True, "10")
    assert go(site)["to"] == "v2"


def test_only_one_rollback_is_automatic(site):
    make_older = sqlite3.connect(site.db_path)
    with contextlib.closing(make_older), make_older:
        make_older.execute("DELETE FROM knex_migrations WHERE name = '2_assets.js'")
    go(site)
    assert "already rolled back" in refusal(site)
    assert refusal(site).endswith("to roll back further, specify the release")
    assert version(site) == "2"
    assert go(site, "v1")["changed"] and version(site) == "1"


def test_a_newer_schema_prevents_the_rollback(site):
    assert refusal(site, "v1").endswith("newer than release v1 (migrations not in this release: 2_assets.js)")
    assert version(site) == "10"


def test_a_release_without_migrations_keeps_a_schema_with_migrations(site):
    site = site._replace(migrations_dir="elsewhere")
    assert refusal(site).endswith("(migrations not in this release: 1_users.js, 2_assets.js)")


@pytest.mark.parametrize(("timeout", "limit"), [(2.0, 2.0), (600.0, 30.0)])
def test_the_migrations_are_read_within_the_time_limit(linked, monkeypatch, timeout, limit):
    limits = []

    def read(*_arguments, timeout, **_more):
        limits.append(timeout)
        raise knex_tables.KnexError("too late")

    monkeypatch.setattr(knex_tables, "read_tables", read)
    with pytest.raises(ReleaseError, match="too late"):
        go(linked._replace(timeout=timeout))
    assert limits == [limit]


def test_the_database_is_not_touched(site):
    folder = Path(site.db_path).parent
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("itsm.db*")}
    go(site)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("itsm.db*")} == before


def test_a_missing_release_is_refused(site):
    assert "v3" in refusal(site, "v3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"app_dir": "relative"}, "app_dir is 'relative': must be an absolute path"),
        ({"app_dir": "/nonexistent"}, "app_dir: '/nonexistent' is not a folder"),
        ({"db_path": "itsm.db"}, "db_path is 'itsm.db': must be an absolute path"),
        ({"releases_dir": "releases"}, "releases_dir is 'releases': must be an absolute path"),
        ({"migrations_dir": "/migrations"}, "migrations_dir is '/migrations': must be relative"),
        ({"release": "--force"}, "option 'release' is '--force': must be the name of a release"),
        ({"db_path": "/nonexistent.db"}, "There is no database"),
    ],
)
def test_invalid_parameters(site, changes, message):
    with pytest.raises(ReleaseError) as caught:
        service_release.roll_back(
            site._replace(**changes), strategy="symlink" if os.path.islink(site.app_dir) else "git"
        )
    assert message in str(caught.value)


# Links


def test_a_relative_link_stays_relative(linked):
    os.unlink(linked.app_dir)
    os.symlink("releases/v10", linked.app_dir)
    go(linked)
    assert os.readlink(linked.app_dir) == "releases/v2"
    assert sorted(os.listdir(os.path.dirname(linked.app_dir))) == ["current", "releases", "shared", "state"]


def test_at_any_time_the_link_leads_to_a_release(linked, monkeypatch):
    seen = []
    real = os.replace

    def replace(source, target, **more):
        seen.append(version(linked))
        real(source, target, **more)
        seen.append(version(linked))

    monkeypatch.setattr(os, "replace", replace)
    go(linked)
    assert seen[2:4] == ["10", "2"]  # The first rename writes the record, and the second rename changes the link.


def test_folders_that_are_not_releases_do_not_count(linked, tmp_path):
    (tmp_path / "releases" / "v9").mkdir()
    fill(tmp_path / "releases" / ".v9", "2")
    (tmp_path / "releases" / "v8").symlink_to(tmp_path / "releases" / "v1")
    assert go(linked, check_mode=True)["to"] == "v2"
    assert go(linked._replace(releases_dir=str(tmp_path / "releases")), check_mode=True)["to"] == "v2"


def test_the_oldest_release_is_kept(linked, tmp_path):
    for name in ("v1", "v2"):
        shutil.rmtree(tmp_path / "releases" / name)
    assert "there is no release before v10" in refusal(linked)


def test_a_folder_that_is_not_a_link_is_refused(linked, tmp_path):
    assert "is not a symbolic link" in refusal(linked._replace(app_dir=str(tmp_path / "releases" / "v10")))
    elsewhere = linked._replace(releases_dir=str(tmp_path / "shared"))
    assert "which is not a release in" in refusal(elsewhere)


def test_a_database_in_a_release_is_not_left_behind(linked, tmp_path):
    make_database(tmp_path / "releases" / "v10" / "backend" / "itsm.db", "1_users.js")
    inside = linked._replace(db_path=f"{linked.app_dir}/backend/itsm.db")
    assert "is only in release v10" in refusal(inside)
    inside = linked._replace(db_path=str(tmp_path / "releases" / "v10" / "backend" / "itsm.db"))
    assert "is only in release v10" in refusal(inside)
    # A release that links to the shared file is accepted. A release that links to another file is refused.
    for name, target in (("v10", "shared"), ("v2", "other")):
        link = tmp_path / "releases" / name / "backend" / "shared.db"
        link.symlink_to(tmp_path / target / "itsm.db")
    through = linked._replace(db_path=f"{linked.app_dir}/backend/shared.db")
    assert "is only in release v10" in refusal(through)
    link.unlink()
    link.symlink_to(tmp_path / "shared" / "itsm.db")
    assert go(through)["changed"]


def test_an_environment_file_in_a_release_is_not_left_behind(linked, tmp_path):
    (tmp_path / "releases" / "v10" / ".env").touch()
    assert ".env is only in release v10" in refusal(
        linked._replace(protect=[str(tmp_path / "releases" / "v10" / ".env")])
    )


# git


def test_a_manual_change_is_not_lost(repository):
    path = Path(repository.app_dir) / "package.json"
    path.write_text("{}")
    assert "were changed after the checkout" in refusal(repository)
    assert path.read_text() == "{}"


def test_ignored_files_stay_and_the_branch_is_found_again(repository):
    go(repository)
    assert (Path(repository.app_dir) / "node_modules").is_dir()
    assert os.path.exists(repository.db_path)
    go(repository, "main")
    assert git(repository.app_dir, "symbolic-ref", "--short", "HEAD") == "main"


@pytest.mark.parametrize("tracked", ["backend/itsm.db", "backend/itsm.db-wal", ".env"])
@pytest.mark.parametrize("present", [True, False])
def test_an_untracked_file_is_not_overwritten_by_a_release(repository, tracked, present):
    folder = Path(repository.app_dir)
    site = repository._replace(protect=[str(folder / ".env")])
    kept = (folder / tracked).read_bytes() if (folder / tracked).exists() else None
    if not present:
        git(folder, "checkout", "--quiet", "v2")
    (folder / tracked).write_bytes(kept or b"")
    git(folder, "add", "--force", tracked)
    git(folder, "commit", "--quiet", "-m", "by mistake")
    if not present:
        git(folder, "tag", "--force", "v2")
        git(folder, "checkout", "--quiet", "main")
        if kept is not None:
            (folder / tracked).write_bytes(kept)
    assert "is part of the release: a switch to another release would overwrite it" in refusal(site, "v2")


def test_a_folder_within_a_repository_is_refused(repository):
    site = repository._replace(app_dir=f"{repository.app_dir}/backend")
    assert "is not the top folder of a git repository" in refusal(site, strategy="git")


def test_a_folder_without_a_repository_is_refused(linked):
    assert "is not the top folder of a git repository" in refusal(linked, strategy="git")


def test_without_a_tag_there_is_no_previous_release(repository):
    for tag in ("v1", "v2"):
        git(repository.app_dir, "tag", "--delete", tag)
    assert "has no tag for a release before the current one" in refusal(repository)


def test_hooks_of_the_repository_are_not_run(repository, tmp_path):
    hook = Path(repository.app_dir) / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(repository.app_dir, "config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
    assert go(repository)["changed"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_git_runs_as_the_owner_of_the_folder():
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        app = Path(base) / "app"
        make_repository(app)
        nobody = pwd.getpwnam("nobody")
        make_database(Path(base) / "shared" / "itsm.db", "1_users.js")
        for folder, _folders, names in os.walk(app):
            for name in [folder, *(os.path.join(folder, name) for name in names)]:
                os.lchown(name, nobody.pw_uid, nobody.pw_gid)
        site = Releases(app_dir=str(app), db_path=f"{base}/shared/itsm.db", state_dir=f"{base}/state")
        assert go(site)["changed"]
        assert {path.stat().st_uid for path in app.rglob("*")} == {nobody.pw_uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["nobody", ""])
def test_programs_of_a_repository_that_others_may_write_to_do_not_run_as_root(user):
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        app = Path(base) / "app"
        make_repository(app)
        make_database(Path(base) / "shared" / "itsm.db", "1_users.js")
        (app / ".git" / "info").mkdir(exist_ok=True)
        (app / ".git" / "info" / "attributes").write_text("* filter=planted\n")
        git(app, "config", "filter.planted.smudge", f"sh -c 'touch {base}/ran; cat'")
        for folder, folders, _names in os.walk(app):
            for name in [".", *folders]:
                os.chmod(os.path.join(folder, name), 0o775)  # noqa: S103
        site = Releases(app_dir=str(app), db_path=f"{base}/shared/itsm.db", state_dir=f"{base}/state", user=user)
        with contextlib.nullcontext() if user else pytest.raises(ReleaseError, match="several accounts"):
            go(site, strategy="git")
        assert not os.path.exists(f"{base}/ran")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_git_does_not_run_as_root_in_a_tree_with_files_of_the_user():
    """The user could plant a repository with filters or a link that git would follow during the checkout."""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        app = Path(base) / "app"
        make_repository(app)
        make_database(Path(base) / "shared" / "itsm.db", "1_users.js")
        nobody = pwd.getpwnam("nobody")
        os.chown(app / "backend", nobody.pw_uid, nobody.pw_gid)
        head = (app / ".git" / "HEAD").read_text()
        site = Releases(app_dir=str(app), db_path=f"{base}/shared/itsm.db", state_dir=f"{base}/state", user="nobody")
        with pytest.raises(ReleaseError, match=r"other accounts can change .*/app/backend"):
            go(site, strategy="git")
        assert (app / ".git" / "HEAD").read_text() == head


def link_to_another_account(link: Path, other: Path) -> None:
    """Make "daemon" the owner of `other`. Create a link to it in a new folder. The user "nobody" owns both."""
    daemon, nobody = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    for folder, folders, names in os.walk(other):
        for name in [".", *folders, *names]:
            os.lchown(os.path.join(folder, name), daemon.pw_uid, daemon.pw_gid)
    link.parent.mkdir()
    link.symlink_to(other)
    os.chown(link.parent, nobody.pw_uid, nobody.pw_gid)
    os.lchown(link, nobody.pw_uid, nobody.pw_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["nobody", ""])
def test_a_linked_repository_of_another_account_is_unchanged(user):
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        other = Path(base) / "other"
        make_repository(other)
        make_database(Path(base) / "shared" / "itsm.db", "1_users.js")
        home = Path(base) / "home"
        link_to_another_account(home / "app", other)
        head = (other / ".git" / "HEAD").read_text()
        site = Releases(
            app_dir=str(home / "app"), db_path=f"{base}/shared/itsm.db", state_dir=f"{base}/state", user=user
        )
        with contextlib.suppress(ReleaseError):
            assert not go(site, strategy="git")["changed"]
        assert (other / ".git" / "HEAD").read_text() == head


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["nobody", ""])
def test_a_release_link_in_a_linked_folder_of_another_account_is_unchanged(user):
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        other = Path(base) / "other"
        for name in MIGRATIONS:
            fill(other / "releases" / f"v{name}", name)
        (other / "current").symlink_to("releases/v10")
        make_database(Path(base) / "shared" / "itsm.db", "1_users.js")
        home = Path(base) / "home"
        link_to_another_account(home / "site", other)
        site = Releases(
            app_dir=str(home / "site" / "current"),
            db_path=f"{base}/shared/itsm.db",
            state_dir=f"{base}/state",
            user=user,
        )
        with contextlib.suppress(ReleaseError):
            go(site, strategy="symlink")
        assert os.readlink(other / "current") == "releases/v10"


@pytest.fixture
def killed_midway(repository) -> Releases:
    """Kill a rollback halfway through the checkout, while git's lock file exists. Return the repository."""

    def killed(argv, **more):
        if "checkout" not in argv:
            return commands.run(argv, **more)
        (Path(repository.app_dir) / ".git" / "index.lock").touch()
        (Path(repository.app_dir) / "package.json").write_text('{"version": "2"}')
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    child = os.fork()
    if child == 0:
        try:
            go(repository, run=killed)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert git(repository.app_dir, "rev-parse", "HEAD") == git(repository.app_dir, "rev-parse", "v10")
    return repository


def test_a_checkout_that_was_killed_is_finished_by_the_next_run(killed_midway):
    result = go(killed_midway)
    assert (result["changed"], result["to"], version(killed_midway)) == (True, "v2", "2")
    assert git(killed_midway.app_dir, "status", "--porcelain") == ""
    assert "already rolled back" in refusal(killed_midway)


def test_a_killed_checkout_is_not_finished_after_a_later_deployment(killed_midway):
    folder = Path(killed_midway.app_dir)
    (folder / ".git" / "index.lock").unlink()
    git(folder, "checkout", "--quiet", "--force", "v1")
    (folder / "package.json").write_text("by hand")
    assert "were changed after the checkout" in refusal(killed_midway)
    assert (folder / "package.json").read_text() == "by hand"


def test_an_error_of_git_is_reported(repository):
    def refusing(argv, **more):
        if "checkout" in argv:
            return commands.Completed(argv=argv, rc=128, stdout="", stderr="fatal: no\n", duration=0)
        return commands.run(argv, **more)

    with pytest.raises(ReleaseError, match=r"^git checkout in .* failed: fatal: no$"):
        go(repository, run=refusing)


def test_a_git_that_does_not_end_is_reported(repository):
    def hanging(argv, **more):
        return commands.Completed(argv=argv, rc=None, stdout="", stderr="", duration=0)

    with pytest.raises(ReleaseError, match="did not finish in time"):
        go(repository, run=hanging)
