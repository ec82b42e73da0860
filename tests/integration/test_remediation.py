# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remediation role on the demo service, with real faults and with findings in the format of triage."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue

from .conftest import ROOT, Run, Service

EN = catalogue.of("en")
PLAY = """
- hosts: itsm_nexus
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: itsm_nexus.runbook.remediation
    - ansible.builtin.copy:
        content: "{{ remediation_result | to_json }}"
        dest: RESULT
        mode: "0600"
      check_mode: false
"""


def remedy(service: Service, cause: str, *arguments: str, allowed: bool = True, **more: Any) -> tuple[Run, dict]:
    """Run the role on a finding with the given cause. Return the run and its result.

    more: variables for the role and the service (remediation_*, nexus_*), and the details of the finding.
    """
    variables = {name: more.pop(name) for name in list(more) if name.startswith(("remediation_", "nexus_"))}
    finding = {"cause": cause, "confidence": 0.9, "summary": "", "explained_by": None, "details": more}
    return mend(service, [finding], *arguments, remediation_allowed=[cause] if allowed else [], **variables)


def mend(service: Service, findings: list[dict], *arguments: str, **variables: Any) -> tuple[Run, dict]:
    """Run the role on findings. Return the run and its result."""
    result = service.folder / "result.json"
    playbook = service.folder / "remedy.yml"
    playbook.write_text(PLAY.replace("RESULT", str(result)), encoding="utf-8")
    run = service.play(str(playbook), *arguments, remediation_findings=findings, **variables)
    assert run.rc == 0, "a remedy must never end the play"
    return run, without_messages(json.loads(result.read_text(encoding="utf-8")))


def without_messages(result: dict) -> dict:
    """Return a result without its messages. Assert that the English text of each message is in the result."""
    for each in result["refused"]:
        assert EN.message(each.pop("messages")["reason"]) == each["reason"].rstrip(" .")
    for each in result["applied"]:
        told = each.pop("messages")
        assert EN.message(told["action"]) == each["action"]
        assert list(map(EN.message, told["detail"])) == [text.rstrip(" .") for text in each["detail"]]
    return result


def ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])


def on_port(service: Service, pid: int, *, ours: bool) -> dict:
    user, command = os.environ.get("USER") or "root", "node backend/server.js"
    process = {"pid": pid, "start_ticks": ticks(pid), "user": user, "command": command, "exe": None, "ours": ours}
    return {"processes": [{"port": port, **process} for port in (service.https_port, service.http_port)]}


def only(result: dict) -> dict:
    (applied,) = result["applied"]
    return applied


def test_a_cause_that_policy_does_not_name_is_only_reported(service: Service) -> None:
    (pid,) = service.pids()
    run, result = remedy(service, "port_conflict", allowed=False, **on_port(service, pid, ours=True))
    assert result == {
        "changed": False,
        "applied": [],
        "refused": [{"cause": "port_conflict", "reason": "remediation_allowed does not include this cause"}],
    }
    assert run.recap()["changed"] == 1  # The task that writes the result file.
    assert service.pids() == [pid]


def test_a_cause_that_no_longer_exists_needs_no_permission(laid: Service) -> None:
    finding = {"cause": "syntax_error", "confidence": 0.5, "summary": "", "explained_by": None, "past": True}
    _run, result = mend(laid, [{**finding, "details": {}}], remediation_allowed=[])
    assert result["refused"] == [
        {"cause": "syntax_error", "reason": "triage found signs that this cause no longer exists"}
    ]


def test_proposed_sizes_are_shown_without_permission_too(laid: Service) -> None:
    proposal = {"memory_max": 1 << 30, "max_old_space_size": None}
    _run, result = remedy(laid, "oom_kill", allowed=False, measured={}, proposal=proposal)
    reason = "remediation_allowed does not include this cause; proposed: memory_max=1073741824"
    assert result["refused"][0]["reason"] == reason
    _run, result = remedy(laid, "heap_oom", measured={}, proposal=proposal)
    assert result["refused"] == [{"cause": "heap_oom", "reason": "memory limits can be set only for a systemd unit"}]


def test_a_stale_process_of_the_service_is_stopped(service: Service) -> None:
    (pid,) = service.pids()
    found = on_port(service, pid, ours=True)
    _run, told = remedy(service, "port_conflict", "--check", **found)
    assert (only(told)["changed"], service.pids()) == (True, [pid])
    run, result = remedy(service, "port_conflict", **found)
    entry = only(result)
    assert (entry["cause"], entry["changed"], entry["failed"], entry["detail"]) == (
        "port_conflict",
        True,
        False,
        [f"stopped pid {pid}"],
    )
    assert result["changed"] and result["refused"] == [] and entry["seconds"] > 0
    assert not service.pids() and not service.listens()
    assert "Will remediate port_conflict: stop these processes if they belong to this application" in run.screen
    assert f"policy lists them: pid {pid} node backend/server.js" in run.screen
    _run, again = remedy(service, "port_conflict", **found)
    assert again["changed"] is False


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path, *, size: int | None = None) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while size is None or stream.tell() < size:
            stream.write(b"x" * 65536)


def full_mount(folder: Path) -> dict[str, Any]:
    """Return the details for a finding about a full file system on which 3 MiB are needed."""
    return {
        "mount": str(folder),
        "path": str(folder),
        "what": "bytes",
        "available": 0,
        "size": 8 << 20,
        "inodes_available": 1000,
        "inodes": 1000,
        "wanted": 3 << 20,
    }


def test_space_is_freed_on_a_full_disk(laid: Service) -> None:
    with small_disk(laid.log.parent):
        for number in range(3):
            fill(laid.log.parent / f"server.log.{number}", size=2 << 20)
            os.utime(laid.log.parent / f"server.log.{number}", (1 << 30, (1 << 30) - number))
        fill(laid.log)
        mount = full_mount(laid.log.parent)
        _run, result = remedy(laid, "disk_full", mounts=[mount])
        entry = only(result)
        assert (entry["failed"], entry["detail"]) == (
            False,
            [f"{laid.log}.2 removed ({2 << 20} bytes)", f"{laid.log}.1 removed ({2 << 20} bytes)"],
        )
        assert sorted(path.name for path in laid.log.parent.iterdir()) == ["server.log", "server.log.0"]
        fill(laid.log)
        _run, result = remedy(laid, "disk_full", mounts=[mount], remediation_disk_globs=[])
        reason = "remediation_disk_globs is empty"
        assert (result["applied"], result["refused"]) == ([], [{"cause": "disk_full", "reason": reason}])
        _run, result = remedy(laid, "disk_full", mounts=[{**mount, "wanted": 99 << 20}])
        entry = only(result)
        assert (entry["changed"], entry["failed"]) == (True, True)
        # The log itself is never changed. The error shows the path of the log, so that a person can decide whether to
        # remove the log.
        size = laid.log.stat().st_size
        assert f"There is still not enough space on {laid.log.parent}" in entry["detail"][-1]
        assert f"{laid.log} ({size} bytes)" in entry["detail"][-1]
        assert size > 5 << 20 and list(laid.log.parent.iterdir()) == [laid.log]


def test_of_dated_logs_the_one_that_is_being_written_is_kept(laid: Service) -> None:
    logs = laid.app / "backend" / "logs"
    logs.mkdir()
    with small_disk(logs):
        for day in (23, 24, 25):
            fill(logs / f"app-2026-11-{day}.log", size=2 << 20)
            os.utime(logs / f"app-2026-11-{day}.log", (1 << 30, (1 << 30) + day))
        current, errors = logs / "app-2026-11-26.log", logs / "error-2026-11-26.log"
        errors.write_text("no space left\n", encoding="utf-8")
        with current.open("ab", buffering=0) as stream:
            writer = subprocess.Popen(["sh", "-c", "read line; echo more"], stdin=subprocess.PIPE, stdout=stream)
        try:
            fill(current)
            # The file that is being written is the oldest one, so only the open descriptor protects it.
            os.utime(current, (1 << 29, 1 << 29))
            size = current.stat().st_size
            entry = only(remedy(laid, "disk_full", mounts=[full_mount(logs)])[1])
            assert entry["detail"] == [f"{logs}/app-2026-11-{day}.log removed ({2 << 20} bytes)" for day in (23, 24)]
            assert (entry["failed"], current.stat().st_size) == (False, size)
            writer.communicate(b"\n", timeout=5)
            assert current.read_bytes()[size:] == b"more\n"
        finally:
            writer.kill()
            writer.wait()
        # No process has the newest logs open now, because the service has stopped. These logs are kept nevertheless.
        os.utime(current)
        entry = only(remedy(laid, "disk_full", mounts=[{**full_mount(logs), "wanted": 99 << 20}])[1])
        assert entry["failed"] and sorted(logs.iterdir()) == [current, errors]
        assert str(current) in entry["detail"][-1]


def test_sound_modules_are_not_rebuilt(laid: Service) -> None:
    _run, result = remedy(laid, "modules_broken", packages=[], reason="")
    assert result["applied"] == []
    assert result["refused"][0]["reason"] == "the dependencies match the lock file and can be loaded"


def query(service: Service, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(service.database)) as connection, connection:
        return connection.execute(statement).fetchall()


def test_a_stale_lock_is_released_and_pending_migrations_are_applied(service: Service) -> None:
    name = "20991231000000_add_note.js"
    text = "exports.up = (k) => k.schema.table('incidents', (t) => t.text('note'));\nexports.down = async () => {};\n"
    service.kill()
    rows = query(service, "SELECT count(*) FROM incidents")
    query(service, "UPDATE knex_migrations_lock SET is_locked = 1")
    (service.app / "backend" / "migrations" / name).write_text(text, encoding="utf-8")
    found = {"pending": [name], "lock_held": True}
    _run, told = remedy(service, "migration_pending", "--check", **found)
    assert only(told)["detail"][-1] == f"applied {name}"
    assert query(service, "SELECT is_locked FROM knex_migrations_lock") == [(1,)]
    _run, result = remedy(service, "migration_pending", **found)
    entry = only(result)
    assert (entry["changed"], entry["failed"], entry["detail"][1:]) == (True, False, [f"applied {name}"])
    assert query(service, "SELECT is_locked FROM knex_migrations_lock") == [(0,)]
    assert query(service, "SELECT count(note) FROM incidents") == [(0,)]
    assert query(service, "SELECT count(*) FROM incidents") == rows
    backup = entry["detail"][0].split(" ", 1)[1]
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT is_locked FROM knex_migrations_lock").fetchall() == [(1,)]
    service.start()


def test_a_service_that_may_not_be_started_is_not_stopped(service: Service) -> None:
    pids = service.pids()
    pending = {"cause": "migration_pending", "confidence": 0.9, "explained_by": None}
    pending["details"] = {"pending": ["20991231000000_add_note.js"], "lock_held": False}
    unread = {"cause": "db_unchecked", "confidence": 0.9, "explained_by": None, "details": {}, "blocks_start": True}
    unread["summary"] = "Whether it is sound could not be told."
    _run, result = mend(service, [pending, unread], remediation_allowed=["migration_pending"])
    entry = only(result)
    assert (entry["changed"], entry["failed"], result["changed"]) == (False, True, False)
    assert entry["detail"][-1].endswith(
        "the service could not be started again afterwards: Whether it is sound could not be told"
    )
    assert service.pids() == pids


@pytest.fixture
def released(service: Service) -> Service:
    """Turn the service's folder into a git repository with two releases.

    The second release fails when it is started.
    """

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=service.app, check=True, capture_output=True)

    service.kill()
    (service.app / ".gitignore").write_text("node_modules\n*.db*\nssl\n", encoding="utf-8")
    git("init", "--quiet")
    for name, line in (("v1", ""), ("v2", "throw new Error('broken release');\n")):
        with (service.app / "backend" / "server.js").open("a", encoding="utf-8") as stream:
            stream.write(line)
        git("add", ".")
        git("commit", "--quiet", "--allow-empty", "-m", name)
        git("tag", name)
    return service


def test_a_failing_release_is_replaced_by_the_previous_one(released: Service) -> None:
    fell = {"falls": 5, "exception": "Error: broken release"}
    _run, result = remedy(released, "crash_loop", **fell)
    assert "Roll back manually, or set nexus_release_strategy" in result["refused"][0]["reason"]
    _run, result = remedy(released, "crash_loop", nexus_release_strategy="git", falls=1, exception="")
    assert result["refused"][0]["reason"] == "failures so far: 1; the policy allows a rollback after 3 or more failures"
    _run, told = remedy(released, "crash_loop", "--check", nexus_release_strategy="git", **fell)
    assert only(told)["failed"] is False
    assert "broken release" in (released.app / "backend" / "server.js").read_text(encoding="utf-8")
    rows = query(released, "SELECT count(*) FROM incidents")
    _run, result = remedy(released, "crash_loop", nexus_release_strategy="git", **fell)
    entry = only(result)
    assert (entry["changed"], entry["failed"]) == (True, False)
    assert entry["detail"][0].startswith("backup /")
    assert entry["detail"][1:] in (
        ["rolled back from release master to v1", "modules unchanged"],
        ["rolled back from release main to v1", "modules unchanged"],
    )
    released.start()
    assert query(released, "SELECT count(*) FROM incidents") == rows
    _run, again = remedy(released, "crash_loop", nexus_release_strategy="git", **fell)
    assert "the release was already rolled back" in again["refused"][0]["reason"]
    assert released.healthy()


def test_a_release_without_its_modules_is_not_kept(released: Service) -> None:
    lock = released.app / "package-lock.json"
    shutil.rmtree(released.app / "node_modules" / "express")
    empty = {"nexus_npm_offline": True, "nexus_npm_cache": str(released.folder / "empty")}
    _run, result = remedy(released, "crash_loop", nexus_release_strategy="git", falls=5, exception="", **empty)
    entry = only(result)
    assert (entry["changed"], entry["failed"], lock.exists()) == (True, True, True)
    assert "was restored, because the modules of v1 could not be installed" in entry["detail"][-1]
    assert "broken release" in (released.app / "backend" / "server.js").read_text(encoding="utf-8")


def test_an_expired_certificate_is_renewed_by_the_command_of_policy(laid: Service) -> None:
    tls = laid.app / "backend" / "ssl"
    subprocess.run([ROOT / "demo" / "certificate", tls, "3 days ago", "1 day ago"], check=True)
    found = {"reason": "expired", "path": str(tls / "server.crt"), "not_after": "2026-01-01T00:00:00.000Z"}
    _run, result = remedy(laid, "tls_expired", **found)
    assert "the policy allows no remedy for the certificate" in result["refused"][0]["reason"]
    _run, result = remedy(laid, "tls_expired", remediation_tls_renew_command=["true"], **found)
    assert (only(result)["failed"], only(result)["changed"]) == (True, False)
    assert "The service cannot serve HTTPS: the certificate" in only(result)["detail"][-1]
    command = [str(ROOT / "demo" / "certificate"), str(tls)]
    _run, told = remedy(laid, "tls_expired", "--check", remediation_tls_renew_command=command, **found)
    assert (only(told)["failed"], only(told)["changed"]) == (False, True)
    run, result = remedy(laid, "tls_expired", remediation_tls_renew_command=command, **found)
    entry = only(result)
    assert (entry["changed"], entry["failed"], entry["detail"][0]) == (True, False, "certificate renewed")
    assert entry["detail"][1].startswith("valid until 20")
    assert "Will remediate tls_expired: run " in run.screen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_the_permissions_of_a_key_change_only_if_the_inventory_names_the_key(laid: Service) -> None:
    """The finding contains the paths from the service's environment, so a hostile `.env` could specify any key."""
    tls = laid.folder / "another account"
    tls.mkdir()
    subprocess.run([ROOT / "demo" / "certificate", tls], check=True)
    key, mode = tls / "server.key", {"remediation_tls_key_mode": "0400"}
    key.chmod(0o600)
    os.chown(key, 0, pwd.getpwnam("nobody").pw_gid)
    found = {"reason": "key_unreadable", "path": str(tls / "server.crt"), "key_path": str(key), "nexus_user": "nobody"}
    for more in (
        {},
        {"nexus_tls_cert_path": "backend/ssl/server.crt"},
        {"nexus_tls_key_path": "backend/ssl/server.key"},
    ):
        _run, result = remedy(laid, "tls_expired", **mode, **found, **more)
        assert "Set nexus_tls_key_path: a remedy changes" in result["refused"][0]["reason"]
        command = {"remediation_tls_renew_command": ["true"]}
        _run, result = remedy(laid, "tls_expired", **mode, **found, **more, **command)
        assert "Set nexus_tls_key_path: a remedy changes" in only(result)["detail"][-1]
        assert key.stat().st_mode & 0o777 == 0o600
    for named in ({"nexus_tls_cert_path": found["path"]}, {"nexus_tls_key_path": str(key)}):
        key.chmod(0o600)
        remedy(laid, "tls_expired", **mode, **found, **named)
        assert key.stat().st_mode & 0o777 == 0o400


def test_neither_a_consequence_nor_an_unlikely_cause_is_remedied(service: Service) -> None:
    (pid,) = service.pids()
    details = on_port(service, pid, ours=True)
    conflict = {"cause": "port_conflict", "confidence": 0.9, "explained_by": "disk_full", "details": details}
    full = {"cause": "disk_full", "confidence": 0.6, "explained_by": None, "details": {"mounts": []}}
    unlikely = {**conflict, "confidence": 0.4, "explained_by": None}
    allowed = ["disk_full", "port_conflict"]
    _run, result = mend(service, [full, conflict, unlikely], remediation_allowed=allowed)
    assert result["applied"] == []
    assert result["refused"] == [{"cause": "disk_full", "reason": "no file system is full any more"}]
    assert service.pids() == [pid]
