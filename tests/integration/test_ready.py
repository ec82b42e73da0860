# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""outage_ready.yml finds each planted defect, reports READY for a good host, and changes nothing on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from receivers import Receiver
from rounds import step
from tcp_ports import free_port

from .conftest import ROOT, Service

PLAYBOOK = "playbooks/outage_ready.yml"


class Prepared:
    """The running service with everything that a recovery needs."""

    def __init__(self, service: Service, cache: Path, url: str) -> None:
        self.service = service
        self.cache = cache
        self.url = url
        self.changes: dict[str, Any] = {}
        self.backups = service.app / "backups"

    @property
    def backup(self) -> Path:
        return self.backups / "itsm_20261129.db"

    def back_up(self) -> None:
        self.backups.mkdir(exist_ok=True)
        opened = (contextlib.closing(sqlite3.connect(path)) for path in (self.service.database, self.backup))
        with next(opened) as live, next(opened) as dest:
            live.backup(dest)

    def variables(self) -> dict[str, Any]:
        contact = {"name": "project leader", "channels": [{"type": "webhook", "shape": "slack", "url": self.url}]}
        return {
            "nexus_npm_cache": str(self.cache),
            "escalation_contacts": {"project_leader": contact, "dba": {**contact, "name": "DBA"}, "everyone": contact},
            "escalation_timeout": 3,
            "escalation_retries": 0,
            "outage_ready_rebuild": False,
            **self.changes,
        }

    def check(self, *arguments: str, **more: Any) -> tuple[int, dict[str, Any], str]:
        """Run the playbook. Return the exit code, the host's JSON report, and the screen output."""
        run = self.service.play(PLAYBOOK, *arguments, **{**self.variables(), **more})
        report = json.loads((self.service.postmortems / "readiness.json").read_text(encoding="utf-8"))
        return run.rc, report["hosts"][0], run.screen

    def verdicts(self, **more: Any) -> dict[str, tuple[str, str]]:
        _rc, host, _screen = self.check(**more)
        return {check["id"]: (check["verdict"], check["text"]) for check in host["checks"]}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a filled npm cache that the service's user owns."""
    built = subprocess.run([ROOT / "demo" / "build"], check=True, capture_output=True, text=True, timeout=300)
    target = tmp_path_factory.mktemp("npm") / "cache"
    shutil.copytree(Path(built.stdout.strip()) / "npm-cache", target)
    return target


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def prepared(service: Service, cache: Path, receiver: Receiver) -> Prepared:
    site = Prepared(service, cache, receiver.url)
    site.back_up()
    return site


def listing(*folders: Path) -> dict[str, tuple[Any, ...]]:
    """Return the type, mode, owner, size, times and link target of each entry."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            status = path.lstat()
            found[str(path)] = (
                *(status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns),
                os.readlink(path) if path.is_symlink() else status.st_ctime_ns,
            )
    return found


def test_a_good_host_is_ready_and_nothing_is_changed(prepared: Prepared) -> None:
    service = prepared.service
    folders = (service.app, service.log.parent, prepared.cache, Path("/etc"), Path("/usr/local"))
    pids, scratch = service.pids(), set(Path("/var/tmp").iterdir())
    before = listing(*folders)
    # A login is user activity. Therefore, the service records it in its database.
    rc, host, screen = prepared.check(outage_ready_rebuild=True, nexus_login_password="")
    assert listing(*folders) == before
    assert not service.state.exists()
    assert service.pids() == pids
    assert set(Path("/var/tmp").iterdir()) == scratch
    assert (rc, host["ready"], host["not_ready"]) == (0, True, [])
    verdicts = {check["id"]: check["verdict"] for check in host["checks"]}
    for name in ("connection", "privileges", "settings", "modules", "room", "database", "backup", "certificate"):
        assert verdicts[name] == "ready", host
    assert {verdicts[name] for name in ("restart_policy", "start_limit", "guard")} == {"not_checked"}
    assert "READY: itsm-system on" in screen
    assert {path.suffix for path in service.postmortems.glob("readiness.*")} == {".html", ".md", ".json"}


def test_the_login_of_a_recovery_is_tried(prepared: Prepared) -> None:
    assert prepared.verdicts()["login"] == ("ready", "The login succeeded.")
    rc, host, screen = prepared.check(nexus_login_password="wrong")
    assert (rc, "login" in host["not_ready"]) == (2, True)
    assert "answered 401" in screen
    assert "do: Check that people can log in" in screen


def test_no_login_is_tried_if_the_service_is_down(prepared: Prepared) -> None:
    prepared.service.kill()
    verdict, text = prepared.verdicts()["login"]
    assert verdict == "not_checked"
    assert "no login was tried" in text


def test_an_unreadable_password_is_reported_with_all_other_checks(prepared: Prepared) -> None:
    verdicts = prepared.verdicts(nexus_login_password="{{ vault_that_is_not_there }}")
    verdict, text = verdicts["login"]
    assert verdict == "not_checked"
    assert "nexus_login_password cannot be evaluated" in text
    assert verdicts["database"][0] == "ready"


def no_user(site: Prepared) -> None:
    site.changes["nexus_user"] = "nobody-of-this-name"


def no_folder(site: Prepared) -> None:
    site.changes["nexus_app_dir"] = "/nonexistent/app"


def state_is_a_file(site: Prepared) -> None:
    site.service.state.write_text("x", encoding="utf-8")


def held(site: Prepared) -> None:
    site.service.state.mkdir(mode=0o700)
    hold = {"incident": "INC-20261129T000000Z-abcd", "reason": "x", "cause": "y", "unit": "itsm-system", "at": None}
    (site.service.state / "hold.json").write_text(json.dumps(hold), encoding="utf-8")


def empty_cache(site: Prepared) -> None:
    empty = site.service.folder / "empty-cache"
    empty.mkdir()
    site.changes.update(nexus_npm_cache=str(empty), outage_ready_rebuild=True)


def lock_file_differs(site: Prepared) -> None:
    path = site.service.app / "package.json"
    package = json.loads(path.read_text(encoding="utf-8"))
    package["dependencies"]["left-pad"] = "1.3.0"
    path.write_text(json.dumps(package), encoding="utf-8")
    site.changes["outage_ready_rebuild"] = True


def package_is_not_in_the_cache(site: Prepared) -> None:
    lacking = site.service.folder / "lacking-cache"
    shutil.copytree(site.cache, lacking)
    content = [path for path in (lacking / "_cacache" / "content-v2").rglob("*") if path.is_file()]
    max(content, key=lambda path: path.stat().st_size).unlink()
    site.changes.update(nexus_npm_cache=str(lacking), outage_ready_rebuild=True)


def small_disk(site: Prepared) -> None:
    site.service.state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", site.service.state], check=True)


def damaged_database(site: Prepared) -> None:
    site.service.kill()
    for suffix in ("-wal", "-shm"):
        Path(f"{site.service.database}{suffix}").unlink(missing_ok=True)
    with site.service.database.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(8192))


def no_backup(site: Prepared) -> None:
    site.backup.unlink()


def old_backup(site: Prepared) -> None:
    os.utime(site.backup, (time.time() - 90 * 3600, time.time() - 90 * 3600))


def truncated_backup(site: Prepared) -> None:
    os.truncate(site.backup, 6000)


def backup_of_another_service(site: Prepared) -> None:
    site.backup.unlink()
    with contextlib.closing(sqlite3.connect(site.backup)) as connection:
        connection.execute("CREATE TABLE songs (id INTEGER PRIMARY KEY, title TEXT)")
        connection.commit()


def failed_drill(site: Prepared) -> None:
    site.service.state.mkdir(mode=0o700)
    told = {"at": "2026-11-29T00:00:00.000Z", "ok": False, "problems": ["the service did not answer"]}
    (site.service.state / "restore_drill.json").write_text(json.dumps(told), encoding="utf-8")


def certificate_without_its_key(site: Prepared) -> None:
    folder = site.service.app / "backend" / "ssl"
    key = next(path for path in folder.iterdir() if "key" in path.name)
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)


def expired_certificate(site: Prepared) -> None:
    folder = site.service.app / "backend" / "ssl"
    key = next(path for path in folder.iterdir() if "key" in path.name)
    certificate = next(path for path in folder.iterdir() if "key" not in path.name)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-key", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-not_before", "20200101000000Z", "-not_after", "20210101000000Z"),
        ],
        check=True,
        capture_output=True,
    )


def secret_is_missing(site: Prepared) -> None:
    site.changes["nexus_required_environment"] = ["NODE_ENV", "JWT_SECRET", "SESSION_SECRET"]


def environment_is_open(site: Prepared) -> None:
    site.service.environment_file.chmod(0o644)
    for folder in (site.service.folder, *site.service.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)


def mail_server_is_down(site: Prepared) -> None:
    channel = {"type": "mail", "to": "dba@example.com"}
    contacts = site.variables()["escalation_contacts"]
    site.changes["escalation_contacts"] = {**contacts, "dba": {"name": "DBA", "channels": [channel]}}
    site.changes.update(escalation_smtp_host="127.0.0.1", escalation_smtp_port=free_port())


def webhook_is_down(site: Prepared) -> None:
    site.url = f"http://127.0.0.1:{free_port()}/hook"


def nobody_has_a_channel(site: Prepared) -> None:
    site.changes["escalation_contacts"] = {"project_leader": "a", "dba": "b", "everyone": "c"}


def invalid_contacts(site: Prepared) -> None:
    site.changes["escalation_contacts"] = {"project_leader": "a", "dba": "b", "everyone": {"channels": [{"type": "x"}]}}


def notify_names_nobody(site: Prepared) -> None:
    site.changes["outage_ready_notify"] = ["manager"]


# A planted defect, the check that finds it, and a part of the check's text.
PLANTED: list[tuple[Callable[[Prepared], None], str, str]] = [
    (no_user, "settings", "nexus_user"),
    (no_folder, "settings", "nexus_app_dir"),
    (state_is_a_file, "settings", "nexus_state_dir"),
    (held, "incident", "INC-20261129T000000Z-abcd"),
    (empty_cache, "modules", "cannot be rebuilt offline"),
    (lock_file_differs, "modules", "cannot be rebuilt offline"),
    (package_is_not_in_the_cache, "modules", "cannot be rebuilt offline"),
    (small_disk, "room", "MiB of free space"),
    (damaged_database, "database", "not sound"),
    (no_backup, "backup", "no backup"),
    (old_backup, "backup", "4 days old"),
    (truncated_backup, "backup", "can be restored"),
    (backup_of_another_service, "backup", "another database"),
    (failed_drill, "drill", "the service did not answer"),
    (certificate_without_its_key, "certificate", "not the key"),
    (expired_certificate, "certificate", "expired on"),
    (secret_is_missing, "secrets", "SESSION_SECRET"),
    (environment_is_open, "secrets", "0644"),
    (mail_server_is_down, "contacts", "DBA by mail"),
    (webhook_is_down, "contacts", "project leader by slack"),
    (nobody_has_a_channel, "contacts", "nobody"),
    (invalid_contacts, "contacts", "escalation_contacts.everyone"),
    (notify_names_nobody, "contacts", "not in escalation_contacts: manager"),
]


PLANTED_NOW = PLANTED[:: step(6)]


@pytest.mark.parametrize(("plant", "name", "words"), PLANTED_NOW, ids=[each[0].__name__ for each in PLANTED_NOW])
def test_a_planted_lack_is_found(prepared: Prepared, plant: Callable[[Prepared], None], name: str, words: str) -> None:
    if plant is small_disk and os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    plant(prepared)
    try:
        rc, host, screen = prepared.check()
    finally:
        if plant is small_disk:
            subprocess.run(["umount", prepared.service.state], check=True)
    check = next(each for each in host["checks"] if each["id"] == name)
    assert check["verdict"] == "not_ready", check
    assert words in check["text"]
    assert rc == 2
    assert name in host["not_ready"]
    assert "NOT READY: itsm-system on" in screen
    # The error at the end of the output is not caused by a fault in the playbook.
    assert "(the result of the check, see the report above)" in " ".join(screen.split())
    # The summary of the run does not repeat the result in other words.
    assert "STOPPED" not in screen


def told(receiver: Receiver, number: int) -> str:
    return json.dumps(json.loads(receiver.requests[number].body), ensure_ascii=False)


def test_one_notification_a_day_and_both_languages(prepared: Prepared, receiver: Receiver) -> None:
    no_backup(prepared)
    rc, host, _screen = prepared.check(postmortem_language="ja", escalation_language="ja")
    assert rc == 2
    assert [each["text"] for each in host["checks"] if each["id"] == "backup"] == ["バックアップがない。"]
    page = (prepared.service.postmortems / "readiness.html").read_text(encoding="utf-8")
    assert '<html lang="ja">' in page
    assert "準備未完了" in page
    # The rebuild is disabled, so the modules were not checked.
    assert host["not_ready"] == ["modules", "backup"]
    assert len(receiver.requests) == 1
    assert "準備未完了" in told(receiver, 0)
    assert "バックアップがない" in told(receiver, 0)
    _rc, _host, screen = prepared.check()
    assert len(receiver.requests) == 1
    assert "notified: already on" in screen
    # Now another check also reports a problem, so the contact receives a second message.
    prepared.check(nexus_required_environment=["SESSION_SECRET"])
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_fits_every_screen_and_loads_nothing(prepared: Prepared, tmp_path: Path, language: str) -> None:
    no_backup(prepared)
    prepared.check(postmortem_language=language, postmortem_timezone="Asia/Tokyo", outage_ready_notify=[])
    page = prepared.service.postmortems / "readiness.html"
    with Browser(tmp_path / "browser") as browser:
        for width in (1280, 400):
            for dark in (False, True):
                browser.look(width=width, dark=dark)
                browser.open(page)
                assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.documentElement.lang") == language
        assert browser.complaints == []
        assert {request.rsplit("/", 1)[-1] for request in browser.requests} == {"readiness.html"}


def test_a_test_message_on_request(prepared: Prepared, receiver: Receiver) -> None:
    verdict, text = prepared.verdicts(outage_ready_test=True, outage_ready_notify=[])["contacts"]
    assert verdict == "ready"
    assert "accepted a test message" in text
    # The three contacts have the same target, so only one message is sent.
    assert len(receiver.requests) == 1
    assert "TEST" in told(receiver, 0)


def test_the_limits_of_the_host_are_used_and_validated(prepared: Prepared) -> None:
    verdict, text = prepared.verdicts(nexus_ready_certificate_days=36500, outage_ready_notify=[])["certificate"]
    assert (verdict, "expires" in text) == ("warning", True)
    for value in ("many", "150"):
        rc, host, screen = prepared.check(nexus_ready_open_files_percent=value, outage_ready_notify=[])
        assert (rc, host["ready"]) == (2, False)
        shown = " ".join(screen.split())
        assert f"nexus_ready_open_files_percent is '{value}': must be a number, from 0 to 100" in shown


def test_check_mode_writes_and_sends_nothing(prepared: Prepared, receiver: Receiver) -> None:
    folder = prepared.service.database.parent
    before = listing(folder)
    run = prepared.service.play(PLAYBOOK, "--check", **prepared.variables())
    # The service writes each login to its database.
    assert listing(folder) == before
    assert run.rc == 2
    assert "NOT READY" in run.screen
    assert not list(prepared.service.postmortems.glob("readiness*"))
    assert receiver.requests == []


def test_an_unreachable_host_is_reported_before_the_failure(tmp_path: Path, prepared: Prepared) -> None:
    inventory = tmp_path / "inventory.yml"
    ssh = f"-p {free_port()} -o BatchMode=yes -o ConnectTimeout=2"
    inventory.write_text(
        json.dumps(
            {
                "itsm_nexus": {
                    "hosts": {
                        "near": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
                        "far": {"ansible_host": "127.0.0.1", "ansible_ssh_common_args": ssh},
                    }
                }
            }
        ),
        encoding="utf-8",
    )
    variables = tmp_path / "all.json"
    chosen = {
        **prepared.service.variables(),
        **prepared.variables(),
        "outage_recover_reconnect": 0,
        "outage_ready_notify": [],
    }
    variables.write_text(json.dumps(chosen), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment.update(LC_ALL="C.UTF-8", ITSM_NEXUS_POSTMORTEM_DIR=str(prepared.service.postmortems))
    done = subprocess.run(
        ["ansible-playbook", "-i", inventory, PLAYBOOK, "-e", f"@{variables}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 2
    # The report replaces the summary on all hosts.
    assert "STOPPED:" not in done.stdout and "UNREACHABLE:" not in done.stdout
    report = json.loads((prepared.service.postmortems / "readiness.json").read_text(encoding="utf-8"))
    hosts = {host["host"]: host for host in report["hosts"]}
    assert set(hosts) == {"near", "far"}
    assert hosts["far"]["not_ready"][0] == "connection"
    assert hosts["near"]["not_ready"] == ["modules"]
    assert {check["verdict"] for check in hosts["far"]["checks"] if check["id"] not in ("connection", "contacts")} == {
        "not_checked"
    }


def test_contacts_must_be_a_list(prepared: Prepared) -> None:
    rc, _host, screen = prepared.check(outage_ready_notify="dba")
    assert rc == 2
    assert "outage_ready_notify is 'dba': must be a list of keys of escalation_contacts" in " ".join(screen.split())


def test_invalid_settings_are_named(prepared: Prepared) -> None:
    wrong = {"outage_ready_rpo": "soon", "outage_ready_timeout": "0", "outage_ready_rebuild_timeout": "-3"}
    rc, _host, screen = prepared.check(**wrong, outage_ready_notify=[])
    assert rc == 2
    for name, value in wrong.items():
        assert f"{name} is '{value}': must be a number above 0" in screen
