# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source files that may access paths on a host, and the reasons why this access is safe for root.

See "Two zones" in SECURITY.md.
"""

from __future__ import annotations

import ast
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_paths
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

CHANGES = {
    *(
        f"os.{name}"
        for name in ("chown", "lchown", "chmod", "rename", "replace", "link", "symlink", "unlink", "remove")
    ),
    *(f"os.{name}" for name in ("rmdir", "mkdir", "makedirs", "truncate", "utime", "mkfifo", "setxattr")),
    *("os.open", "open", "tempfile.mkdtemp", "tempfile.mkstemp", "sqlite3.connect"),
    *(f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "copytree", "move", "rmtree")),
}

OURS = "only in folders of root alone: state, locks, units, our temporary files"
AS_USER = "within safe_open.acting or in a process that is the user for good"
DESCRIPTORS = "relative to a folder that was opened without following links"
KERNEL = "only files of /proc, or a descriptor that is open already"

REASONS = {
    "_backups/drill_service.py": (
        "a folder of root alone; its part for the user is used as the user and removed without links"
    ),
    "_backups/listing.py": OURS,
    "_backups/retention.py": AS_USER,
    "_backups/sandbox.py": KERNEL,
    "_changes/store.py": OURS,
    "_common/atomic_files.py": "what it is asked to; its callers are in this list",
    "_common/leftovers.py": "only folders of its own user that no other user can have moved there",
    "_common/parallel.py": KERNEL,
    "_common/path_status.py": "opens without access to the content, as safe_open does or as the user",
    "_common/safe_open.py": "the package that opens for the others",
    "_discovery/discover.py": "a descriptor with O_PATH, which reads no content; only for the owner of a folder",
    "_host/confine.py": KERNEL,
    "_host/mounts.py": "only /etc/fstab, which belongs to root, and a file of /proc",
    "_host/procfs.py": KERNEL,
    "_host/sockets.py": KERNEL,
    "_incident/archive.py": OURS,
    "_incident/hold.py": OURS,
    "_incident/last_good.py": OURS,
    "_incident/lease.py": OURS,
    "_incident/maintenance.py": OURS,
    "_incident/repeated_call.py": OURS,
    "_incident/run_timeline.py": OURS,
    "_incident/start_guard.py": OURS,
    "_incident/store.py": OURS,
    "_preparedness/collect.py": OURS,
    "_service/desired_state.py": AS_USER,
    "_service/disk_reclaim.py": DESCRIPTORS,
    "_service/knex.py": AS_USER,
    "_service/npm_application.py": AS_USER,
    "_service/npm_build.py": AS_USER,
    "_service/npm_lock.py": AS_USER,
    "_service/npm_swap.py": AS_USER,
    "_service/process_start.py": AS_USER,
    "_service/reclaim_patterns.py": DESCRIPTORS,
    "_service/release.py": AS_USER,
    "_service/release_git.py": AS_USER,
    "_service/release_links.py": AS_USER,
    "_service/unit_dropin.py": OURS,
    "_sqlite/backup.py": AS_USER,
    "_sqlite/backup_copy.py": AS_USER,
    "_sqlite/checkpoint.py": AS_USER,
    "_sqlite/child_process.py": KERNEL,
    "_sqlite/evidence_copy.py": AS_USER,
    "_sqlite/files.py": AS_USER,
    "_sqlite/holders.py": KERNEL,
    "_sqlite/owner.py": DESCRIPTORS,
    "_sqlite/private_copy.py": AS_USER,
    "_sqlite/reader.py": AS_USER,
    "_sqlite/restore.py": AS_USER,
    "_sqlite/restore_swap.py": AS_USER,
    "_sqlite/restore_ways.py": AS_USER,
    "_sqlite/salvage.py": AS_USER,
    "_sqlite/salvage_image.py": AS_USER,
    "_sqlite/salvage_tables.py": AS_USER,
    "_triage/collect_application.py": OURS,
    "_triage/context.py": KERNEL,
    "_triage/evidence.py": OURS,
    "_triage/triage_pass.py": "a descriptor that safe_open has opened",
}


def touches(path: Path) -> set[str]:
    """Return the names of the called functions that can open or change a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)} & CHANGES


def test_every_file_that_uses_a_path_states_why_root_is_safe() -> None:
    logic, modules = PLUGINS / "module_utils", PLUGINS / "modules"
    assert {str(path.relative_to(logic)) for path in logic.rglob("*.py") if touches(path)} == set(REASONS)
    assert [path.name for path in modules.glob("*.py") if touches(path)] == []


def test_roles_do_not_let_the_environment_name_a_backup() -> None:
    """Roles pass the path from the inventory to each module that restores a backup."""
    tasks = [
        task[f"itsm_nexus.runbook.{module}"]
        for path in (PLUGINS.parent / "roles").glob("*/tasks/**/*.yml")
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []
        for module in ("sqlite_restore", "restore_drill")
        if f"itsm_nexus.runbook.{module}" in task
    ]
    assert {task.get("configured_path") for task in tasks} == {"{{ nexus_configured_database }}"}
    values = yaml.safe_load((PLUGINS.parent / "roles/nexus/vars/main.yml").read_text(encoding="utf-8"))
    assert "nexus_db_path" in values["nexus_configured_database"]


@pytest.fixture
def base() -> Iterator[Path]:
    """Yield a folder that other users can enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Path(folder)


def made(path: Path, *, owner: pwd.struct_passwd | None = None, mode: int = 0o755) -> Path:
    path.mkdir()
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


@needs_root
def test_a_path_that_only_root_can_change_is_ours(base: Path) -> None:
    made(base / "ours")
    assert safe_open.rights_on(str(base / "ours" / "missing" / "file")) is None
    (base / "link").symlink_to(base / "ours")
    assert safe_open.rights_on(str(base / "link" / "file")) is None


@needs_root
def test_the_first_folder_of_another_account_decides(base: Path) -> None:
    theirs = made(base / "theirs", owner=NOBODY)
    made(theirs / "of-another", owner=DAEMON)
    (theirs / "link").symlink_to("/etc")
    for name in ("file", "of-another/file", "link/passwd", "../theirs/file"):
        assert safe_open.rights_on(str(theirs / name)) == (NOBODY.pw_uid, NOBODY.pw_gid), name
    named = (DAEMON.pw_uid, DAEMON.pw_gid)
    assert safe_open.rights_on(str(theirs / "file"), user=named) == named


@needs_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_several_accounts_may_write_to_needs_a_user_name(base: Path, mode: int) -> None:
    shared = made(base / "shared", mode=mode)
    with pytest.raises(PermissionError, match="specify the service's user"):
        safe_open.rights_on(str(shared / "file"))
    named = (NOBODY.pw_uid, NOBODY.pw_gid)
    assert safe_open.rights_on(str(shared / "file"), user=named) == named


@needs_root
def test_rights_are_restored_after_any_end_of_a_block() -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    user = (NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(RuntimeError), safe_open.acting(user):
        assert os.getresuid() == (0, NOBODY.pw_uid, 0)
        with safe_open.acting(None):
            assert os.getresuid() == (0, 0, 0)
        with safe_open.acting((DAEMON.pw_uid, DAEMON.pw_gid)):
            assert os.geteuid() == DAEMON.pw_uid
        assert os.geteuid() == NOBODY.pw_uid
        raise RuntimeError
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@needs_root
def test_a_process_that_became_a_user_cannot_go_back() -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.seteuid(DAEMON.pw_uid)  # Same situation as in a block that acts as another user.
            safe_open.become(NOBODY.pw_uid, NOBODY.pw_gid)
            facts = Path("/proc/self/status").read_text(encoding="utf-8")
            lines = dict(line.split(":\t", 1) for line in facts.splitlines() if ":\t" in line)
            assert set(lines["Uid"].split()) == {str(NOBODY.pw_uid)}
            assert set(lines["Gid"].split()) == {str(NOBODY.pw_gid)}
            assert {int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
            assert lines["NoNewPrivs"] == "1"
            # Do not use pytest here. It would load files that this user may not be able to read.
            try:
                os.setuid(0)
            except PermissionError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@needs_root
def test_only_links_of_root_are_resolved_in_advance(base: Path) -> None:
    """If the user's links were resolved in advance, their targets could be mistaken for paths that root chose."""
    theirs, ours = made(base / "theirs", owner=NOBODY), made(base / "ours")
    (ours / "file").touch()
    for link, target in (
        (base / "link", "theirs"),
        (base / "other", str(ours)),
        (theirs / "out", "/etc"),
        (theirs / "file", "/etc/shadow"),
        (ours / "back", "../theirs/out"),
    ):
        link.symlink_to(target)
    for given, followed in (
        ("ours/file", "ours/file"),
        ("other/../other/file", "ours/file"),
        ("link/file", "theirs/file"),
        ("link/out/passwd", "theirs/out/passwd"),
        ("ours/back/passwd", "theirs/out/passwd"),
        ("theirs/out/../missing", "theirs/out/../missing"),
        ("ours/missing/../file", "ours/missing/../file"),
    ):
        assert safe_open.follow_ours(str(base / given)) == str(base / followed), given


def question(app: Path, **known: object) -> triage_context.Question:
    service = triage_context.Service(
        **dict.fromkeys(("unit", "environment_file", "pid_file", "tls_cert_path", "tls_key_path", "log_file"), ""),
        **{
            "app_dir": str(app),
            "command": ["node"],
            "manager": "process",
            "user": NOBODY.pw_name,
            "db_path": "itsm.db",
        },
        **{"db_path_variable": "DATABASE_PATH", "https_port": 1, "http_port": 2, "required_environment": []},
        state_dir=str(app.parent / "state"),
    )
    return triage_context.Question(
        service=service,
        run=commands.run,
        since=0.0,
        budget=5.0,
        log_lines=1,
        kernel_log_command=(),
        keep=False,
        known=triage_context.Known(**known),
    )


@needs_root
@pytest.mark.parametrize("claim", ["link", "variable", "open"])
def test_a_database_of_root_is_not_treated_as_the_users(base: Path, claim: str) -> None:
    """The next step runs as the user, regardless of the path that the user chooses for the database."""
    app, private = made(base / "app", owner=NOBODY), made(base / "private", mode=0o700)
    (private / "itsm.db").touch(mode=0o600)
    known: dict[str, object] = {}
    if claim == "link":
        (app / "itsm.db").symlink_to(private / "itsm.db")
    elif claim == "variable":
        variable = {"database_path": str(private / "itsm.db"), "database_path_source": "DATABASE_PATH of the process"}
        known.update(environment=variable)
    else:
        known.update(processes=[{"open_databases": [str(private / "itsm.db")]}])
    facts = collect_paths.paths(question(app, **known), what="database")["facts"]
    assert facts["effective"] == str(app / "itsm.db")
    assert safe_open.rights_on(facts["effective"]) == (NOBODY.pw_uid, NOBODY.pw_gid)


@needs_root
def test_a_database_elsewhere_is_the_users_if_the_user_has_the_rights(base: Path) -> None:
    app, data = made(base / "app", owner=NOBODY), made(base / "data", owner=NOBODY)
    (data / "itsm.db").touch()
    opened = question(app, processes=[{"open_databases": [str(data / "itsm.db")]}])
    assert collect_paths.paths(opened, what="database")["facts"]["effective"] == str(data / "itsm.db")
