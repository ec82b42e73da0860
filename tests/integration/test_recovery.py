# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main playbook, from the repository and from the built collection, recovers a service without a unit."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps

from .conftest import ROOT, Service


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size in bytes and the modification time in nanoseconds of each file and folder below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if "postmortems" not in path.parts and path.name != "variables.yml"
    }


def instant(text: str) -> float:
    """Convert a timestamp from a record to Unix time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def checkout(target: Path) -> Path:
    """Copy the repository without ignored files into the folder `target`, as git clone does. Return `target`."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    target.mkdir()
    subprocess.run(
        ["tar", "--create", "--null", "--files-from=-", "--file", target / "tree.tar"],
        cwd=ROOT,
        input=files,
        check=True,
    )
    subprocess.run(["tar", "--extract", "--file", "tree.tar"], cwd=target, check=True)
    (target / "tree.tar").unlink()
    return target


def installed(target: Path) -> Path:
    """Install the collection into the folder `target`. Return `target`.

    The source is the tarball in RELEASE_TARBALL (set by make release), or a newly built tarball.
    """
    if "RELEASE_TARBALL" in os.environ:
        tarball = Path(os.environ["RELEASE_TARBALL"])
        target.mkdir()
    else:
        source = checkout(target.parent / "source")
        subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", target], cwd=source, check=True)
        (tarball,) = target.glob("itsm_nexus-runbook-*.tar.gz")
    environment = {key: value for key, value in os.environ.items() if key != "ANSIBLE_CONFIG"}
    subprocess.run(
        ["ansible-galaxy", "collection", "install", "--offline", "--collections-path", target / "collections", tarball],
        cwd=target,
        env=environment,
        check=True,
    )
    # Write the ansible.cfg from docs/operations.md next to the collection.
    (settings,) = re.findall(r"^```ini\n(.+?)^```$", (ROOT / "docs/operations.md").read_text("utf-8"), re.M | re.DOTALL)
    settings = settings.replace("[defaults]\n", "[defaults]\ncollections_path = collections\n")
    (target / "ansible.cfg").write_text(settings, encoding="utf-8")
    return target


def test_a_killed_service_is_recovered_with_every_row(service: Service, tmp_path: Path) -> None:
    project, playbook = installed(tmp_path / "prefix"), "itsm_nexus.runbook.outage_recover"
    (before,) = service.pids()
    rows = service.request("/incidents")["total"]
    service.kill()

    # A value on the command line is a string.
    run = service.play(playbook, "-e", "outage_recover_rungs=restart", project=project)

    assert run.rc == 0
    assert service.healthy()
    (after,) = service.pids()
    assert after != before
    assert service.request("/incidents")["total"] == rows
    (document,) = run.documents(".json")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert told["rung"] == "restart"
    assert told["severity"] == "emergency"
    assert told["cause"] == "killed"  # The service was started manually without a PID file, so its exit left no trace.
    assert told["data_loss"] == "none"
    assert told["rows_after"]["incidents"] == rows
    assert 0 < told["durations"]["outage"] < 60
    assert str(document.with_suffix(".md")) in run.screen
    # The file's modification time is the time of the last healthy response. A process that exited before this time did
    # not cause a later outage.
    assert (service.state / "last_healthy").stat().st_mtime > instant(told["times"]["mitigated_at"])
    # On the screen, the task's name includes the duration of the check. In the document, the name does not include the
    # duration.
    assert "Check that the service stays up (0.5 s)] **" in run.screen
    assert "Check that the service stays up" in {step["task"] for step in told["steps"]}


def test_a_healthy_service_is_checked_in_one_round_trip(service: Service) -> None:
    pids = service.pids()
    # With -vvv, the connection prints every command that it runs on the host.
    run = service.play("playbooks/outage_recover.yml", "-vvv")
    assert run.rc == 0
    assert run.recap()["changed"] == 0
    assert len(re.findall(r"^<localhost> EXEC", run.screen, flags=re.MULTILINE)) == 1
    assert service.pids() == pids
    # Only the time of the last healthy response, the manifest and the measurements for trends are saved.
    saved = sorted(entry.name for entry in service.state.iterdir())
    assert saved == ["last_healthy", "manifest.json", "readiness.json"]
    assert not run.documents("")


def test_check_mode_changes_nothing_and_lists_its_steps(service: Service) -> None:
    service.kill()
    before = tree(service.folder)
    run = service.play("playbooks/outage_recover.yml", "--check")
    assert run.rc == 0
    assert tree(service.folder) == before
    assert not service.pids()
    assert "WOULD TRY TO RECOVER" in run.screen
    end = run.screen[run.screen.index("WOULD TRY TO RECOVER") :]
    assert re.search(r"would try +restart\n", end)
    assert "restart: the service would be started" in end
    assert "to notify   if the recovery succeeds: nobody (the incident would only be recorded)" in end
    assert "if the recovery fails: project leader (no channel is set)" in end
    # The start that a real run would perform also counts as a restart.
    run = service.play("playbooks/outage_recover.yml", "--check", escalation_leader_after_restarts=1)
    assert "if the recovery succeeds: project leader (no channel is set)" in " ".join(run.screen.split())


def test_a_failed_recovery_ends_with_a_complete_error(service: Service) -> None:
    service.kill()
    with service.environment_file.open("a", encoding="utf-8") as stream:
        stream.write("NEXUS_DEMO_FAULTS=start\n")
    run = service.play(
        "playbooks/outage_recover.yml",
        outage_recover_rungs=["restart", "standard_recovery"],
        verification_deadline=3.0,
    )
    assert run.rc != 0
    end = run.screen[run.screen.index("PLAY RECAP") :]
    assert "NOT RECOVERED" in end
    assert "restart" in end
    assert "standard_recovery" in end
    assert "project leader" in end or "whole team" in end
    (document,) = run.documents(".json")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert [rung["held"] for rung in told["rungs_tried"]] == [False, False]
    assert told["escalation"]["to"]
    # The first start fails after the first triage. Therefore, only the triage after the rungs can find the cause.
    assert told["cause"] == "unhandled_exception"
    assert told["rows_before"]["incidents"] > 0


def test_no_start_on_an_unsound_database(service: Service) -> None:
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    before = service.database.read_bytes()
    run = service.play("playbooks/outage_recover.yml")
    assert run.rc != 0
    assert not service.pids()
    assert service.database.read_bytes() == before
    assert "DBA" in run.screen[run.screen.index("PLAY RECAP") :]


def damage_unused_pages(service: Service) -> None:
    """Kill the service, and damage pages of a table that no request reads."""
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute("CREATE TABLE archive (content)")
        connection.executemany("INSERT INTO archive VALUES (?)", [("x" * 3000,)] * 100)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    with service.database.open("r+b") as stream:
        stream.seek(-50 * 4096, os.SEEK_END)
        stream.write(os.urandom(40 * 4096))


def test_damage_that_a_person_has_accepted_is_reported_with_the_reason(service: Service) -> None:
    damage_unused_pages(service)
    assert service.play("playbooks/outage_recover.yml").rc != 0
    assert service.play("playbooks/outage_release.yml", "-e", "outage_release_reason=CHG-4711").rc == 0
    for playbook in ("outage_recover", "outage_recover", "outage_detect"):
        run = service.play(f"playbooks/{playbook}.yml")
        assert run.rc != 0 and service.healthy()
        end = " ".join(run.screen[run.screen.rindex("DEGRADED") :].split())
        assert re.search(r"ccepted (by a person )?on [-\d]+[T ][\d:.]+(Z: | UTC[: (]+)CHG-4711", end)
        assert "--limit localhost playbooks/database_recover.yml --check" in end
        assert "tart nothing" not in end and "hange nothing" not in end
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    assert (told["outcome"], told["cause"], told["data_loss"]) == ("degraded", "db_corrupt", "suspected")
    # Damage that the person has not accepted still prevents the start.
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    run = service.play("playbooks/outage_recover.yml")
    end = " ".join(run.screen[run.screen.rindex("NOT RECOVERED") :].split())
    assert run.rc != 0 and not service.pids()
    assert "Do not start the service" in end
    # The summary is too small for the long paths in this test. The complete cause is in the error of the last task.
    assert "(CHG-4711) did not accept this damage" in run.screen


def test_an_answer_of_a_service_on_a_damaged_database_resolves_nothing(service: Service) -> None:
    """A person starts the service with a damaged database.

    Requests succeed, because none of them reads a damaged page.
    """
    damage_unused_pages(service)
    first = service.play("playbooks/outage_recover.yml")
    assert first.rc != 0
    service.start()
    assert service.healthy()
    run = service.play("playbooks/outage_recover.yml")
    end = run.screen[run.screen.index("PLAY RECAP") :]
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    assert run.rc != 0
    assert (told["outcome"], told["cause"], told["data_loss"]) == ("data_in_doubt", "db_corrupt", "suspected")
    assert "DATA IN DOUBT" in end
    assert "DBA" in end
    # The default policy stops the service.
    assert not service.pids()


def test_a_database_without_most_of_its_rows_is_not_started(service: Service) -> None:
    """The database is undamaged, but it has far fewer rows than the last verified run counted."""
    for number in range(40):
        service.write(f"row {number}")
    assert service.play("playbooks/outage_verify.yml").rc == 0
    service.kill()
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        (before,) = connection.execute("SELECT count(*) FROM incidents").fetchone()
        connection.execute("DELETE FROM incidents WHERE title LIKE 'row %'")
        connection.execute("DELETE FROM audit_logs")
        (left,) = connection.execute("SELECT count(*) FROM incidents").fetchone()
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    planned = service.play("playbooks/outage_recover.yml", "--check")
    assert planned.rc != 0 and "WOULD TRY TO RECOVER" not in planned.screen
    assert "would do the service would be held" in " ".join(planned.screen.split())
    run = service.play("playbooks/outage_recover.yml")
    end = run.screen[run.screen.index("PLAY RECAP") :]
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    assert run.rc != 0
    assert not service.pids()
    assert (told["outcome"], told["cause"], told["data_loss"]) == ("not_recovered", "db_corrupt", "suspected")
    assert f"incidents {left} of {before}" in end
    assert "If the rows were deleted on purpose, run outage_release.yml" in " ".join(end.split())
    assert "DBA" in end
    # A person confirms that the rows were deleted on purpose. The next run then starts the service.
    released = service.play("playbooks/outage_release.yml", "-e", "outage_release_reason=archived")
    assert released.rc == 0
    assert "RELEASED: " in released.screen and "RECOVERED" not in released.screen[released.screen.index("PLAY RECAP") :]
    again = service.play("playbooks/outage_recover.yml")
    assert again.rc == 0 and service.healthy()


def test_a_database_that_a_person_restored_stays_the_cause_of_its_incident(service: Service) -> None:
    service.write("kept")
    assert service.play("playbooks/outage_verify.yml").rc == 0
    service.kill()
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = service.database.read_bytes()
    service.database.write_bytes(os.urandom(8192))
    assert service.play("playbooks/outage_recover.yml").rc != 0
    service.database.write_bytes(good)
    run = service.play("playbooks/outage_recover.yml")
    end = " ".join(run.screen[run.screen.index("PLAY RECAP") :].split())
    assert run.rc == 0 and service.healthy()
    assert "cause db_corrupt" in end and "hold removed: the database was checked" in end


def test_a_serving_service_is_not_stopped_before_a_person_has_decided(service: Service) -> None:
    """The service was started with an older database, which is undamaged but has fewer rows.

    A person must choose a method.
    """
    for number in range(5):
        service.write(f"row {number}")
    assert service.play("playbooks/outage_verify.yml").rc == 0
    service.kill()
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("DELETE FROM incidents WHERE title LIKE 'row %'")
        connection.commit()
    older = service.database.read_bytes()
    service.database.write_bytes(os.urandom(8192))
    assert service.play("playbooks/outage_recover.yml").rc != 0
    service.database.write_bytes(older)
    service.start()
    pids = service.pids()
    planned = service.play("playbooks/database_recover.yml", "--check")
    assert planned.rc != 0
    assert "backup" in planned.screen and "Show what each method would lose" in planned.screen
    assert "DATA IN DOUBT" in planned.screen
    run = service.play("playbooks/database_recover.yml")
    end = run.screen[run.screen.index("PLAY RECAP") :]
    assert run.rc != 0
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    assert told["outcome"] == "data_in_doubt"
    assert "DATA IN DOUBT" in end and "NOT RECOVERED" not in end
    # The service answered at the beginning of the run. At the end, the run does not check again whether the service
    # answers.
    assert "still down" not in end and "answers" not in end
    assert "SUSPECTED" in end
    # The summary is too small for the long paths in this test. The complete reason is in the error of the last task.
    assert re.search(r"\[ERROR\]: .*incidents", run.screen)
    assert service.pids() == pids


def incidents(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM incidents").fetchone()[0])


def test_rows_that_the_service_seeds_after_a_restore_are_reported_apart(service: Service) -> None:
    """The only backup has no incidents, so the service fills this table when it starts."""
    made = service.app / "backend" / "backups" / "daily" / "itsm_daily_1.db"
    made.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(service.database)) as one, contextlib.closing(sqlite3.connect(made)) as two:
        one.backup(two)
        two.execute("DELETE FROM incidents")
        two.commit()
    before = incidents(service.database)
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    run = service.play("playbooks/database_recover.yml")
    assert run.rc == 0, run.screen
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    seeded = incidents(service.database)
    assert 0 < seeded < before
    assert told["rows_seeded"] == {"incidents": seeded} and "incidents" not in told["rows_after"]
    (command,) = told["rows_seeded_removal"]
    end = " ".join(run.screen[run.screen.index("PLAY RECAP") :].split())
    assert f"seeded rows incidents {seeded}; not part of the recovered data" in end
    # The command is on its own line, without punctuation.
    assert command in map(str.strip, run.screen.splitlines())
    service.write("of a user")
    # The account that runs this test is the service's user, and may not be allowed to use sudo.
    words = shlex.split(command)
    subprocess.run(words[words.index("sqlite3") :], check=True)
    assert incidents(service.database) == 1


def test_errors_from_before_a_database_recovery_do_not_block_a_start(service: Service) -> None:
    made = service.app / "backend" / "backups" / "daily" / "itsm_daily_1.db"
    made.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(service.database)) as one, contextlib.closing(sqlite3.connect(made)) as two:
        one.backup(two)

    def damage() -> str:
        return f"{timestamps.iso(time.time())} ERROR SqliteError: database disk image is malformed\n"

    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    older = damage()
    # An error counts as older than the new file only if it was logged more than two seconds earlier.
    time.sleep(2.1)
    assert service.play("playbooks/database_recover.yml").rc == 0
    service.kill()
    # This application does not log its requests, so no successful request in the log shows that the database works
    # again.
    service.log.write_text(older, encoding="utf-8")
    run = service.play("playbooks/outage_recover.yml")
    assert run.rc == 0, run.screen
    assert "RECOVERED" in run.screen[run.screen.index("PLAY RECAP") :]

    service.kill()
    service.log.write_text(older + damage(), encoding="utf-8")
    run = service.play("playbooks/outage_recover.yml")
    assert run.rc != 0
    assert not service.pids()


def test_the_applications_own_backup_that_loses_the_fewest_rows_is_restored(service: Service) -> None:
    """The backups have different ages and contents, and the newest one is almost empty. No setting lists them."""

    def backup(kind: str, *, days: int) -> Path:
        made = service.app / "backend" / "backups" / kind / f"itsm_{kind}_{days}.db"
        made.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(service.database)) as one, contextlib.closing(
            sqlite3.connect(made)
        ) as two:
            one.backup(two)
        os.utime(made, (time.time() - days * 86400,) * 2)
        return made

    backup("weekly", days=9)
    for number in range(30):
        service.write(f"row {number}")
    best = backup("daily", days=2)
    empty = backup("daily", days=1)
    with contextlib.closing(sqlite3.connect(empty)) as connection:
        connection.execute("DELETE FROM incidents")
        connection.execute("DELETE FROM audit_logs")
        connection.commit()
    os.utime(empty, (time.time() - 86400,) * 2)
    for number in range(7):
        service.write(f"last {number}")
    before = incidents(service.database)
    assert service.play("playbooks/outage_verify.yml").rc == 0
    service.kill()
    service.database.with_name("itsm.db-wal").unlink(missing_ok=True)
    service.database.write_bytes(os.urandom(8192))
    held = service.play("playbooks/outage_recover.yml")
    assert held.rc != 0
    end = " ".join(held.screen[held.screen.index("PLAY RECAP") :].split())
    # The next step is a complete command line.
    command = r"ansible-playbook -i \S+ --limit localhost playbooks/database_recover\.yml --check"
    assert re.search(f"This check changes nothing: {command}", end)
    assert "nothing prevents a manual start: until the recovery has ended" in end
    planned = service.play("playbooks/database_recover.yml", "--check")
    end = " ".join(planned.screen[planned.screen.index("PLAY RECAP") :].split())
    chosen = re.search(rf"fewest rows is {re.escape(str(best))}, .+? - Kept: \d+ rows - Lost: at least (\d+) rows", end)
    other = re.search(
        rf"other backup: {re.escape(str(empty))}, [-0-9: ]+ UTC - Kept: \d+ rows - Lost: (\d+) counted rows", end
    )
    assert chosen and other, end
    assert int(chosen[1]) < int(other[1])
    assert "backup (CHOSEN, the first possible method)" in end
    assert "salvage (not possible)" in end and "empty (needs confirmation)" in end
    assert f'{{"database_recovery_backup_patterns": ["{empty.name}"]}}' in end
    run = service.play("playbooks/database_recover.yml")
    assert run.rc == 0, run.screen
    assert service.healthy()
    lost = before - incidents(best)
    assert lost == 7
    assert incidents(service.database) == before - lost
    told = json.loads(run.documents(".json")[-1].read_text(encoding="utf-8"))
    assert str(best) in run.screen
    assert f"{lost} of the {before} rows in incidents at the last good count" in run.screen
    assert told["data_loss"] == "known"
    assert re.match(
        r"Inform the data owners about the loss \(at least .+; "
        r"changes to rows since [-0-9]+[T ][:.0-9]+(Z| UTC)\)",
        told["next_step"],
    )
    assert told["escalation"]["reason"] == "The database was replaced by a backup."


@pytest.mark.parametrize("missing", ["application", "database"])
def test_a_missing_folder_is_not_reported_as_damage(service: Service, missing: str) -> None:
    """A missing folder, for example on an unmounted disk, does not indicate a damaged database."""
    service.kill()
    folder = service.app if missing == "application" else service.database.parent
    away = folder.with_name("not-mounted")
    folder.rename(away)
    run = service.play("playbooks/outage_recover.yml")
    end = run.screen[run.screen.index("PLAY RECAP") :]
    (document,) = run.documents(".json")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert run.rc != 0
    assert not folder.exists()
    assert told["cause"] == "config_mismatch"
    assert told["data_loss"] == "unknown"
    assert "Mount the disk" in told["next_step"]
    assert "SUSPECTED" not in end
    assert "not sound" not in end
    away.rename(folder)
    again = service.play("playbooks/outage_recover.yml")
    assert again.rc == 0
    assert service.healthy()


def test_a_verification_stores_the_row_counts_and_names_a_failed_login(service: Service) -> None:
    assert not (service.state / "last_good_rows.json").exists()
    assert service.play("playbooks/outage_verify.yml").rc == 0
    known = json.loads((service.state / "last_good_rows.json").read_text(encoding="utf-8"))
    assert known["rows"]["incidents"] == service.request("/incidents")["total"]
    assert known["created_at"]
    assert (service.state / "last_healthy").exists()
    with contextlib.closing(sqlite3.connect(service.database)) as database, database:
        database.execute("DELETE FROM incidents WHERE id IN (SELECT id FROM incidents LIMIT 2)")
    rows = known["rows"]["incidents"]
    for mode, stored in (["--check"], False), ([], True):
        run = service.play("playbooks/outage_verify.yml", *mode)
        assert ("stored as the last good count" in run.screen) is stored
        assert f"FEWER ROWS NOW: incidents {rows} -> {rows - 2}" in " ".join(run.screen.split())
    run = service.play("playbooks/outage_verify.yml", nexus_login_password="wrong")
    assert run.rc != 0
    assert "SERVING, LOGIN FAILED" in run.screen[run.screen.index("PLAY RECAP") :]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nexus_https_port": 1, "nexus_http_port": 2}, "the configuration specifies 1 and 2"),
        ({"nexus_health_path": "/health"}, "nexus_health_path is /health, which answers with status 404"),
    ],
    ids=["ports", "health_path"],
)
def test_a_wrong_inventory_value_does_not_stop_a_healthy_service(
    service: Service, wrong: dict[str, object], said: str
) -> None:
    pids = service.pids()
    run = service.play("playbooks/outage_recover.yml", **wrong)
    assert run.rc != 0
    assert service.pids() == pids
    (document,) = run.documents(".json")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert (told["cause"], told["rungs_tried"]) == ("config_mismatch", [])
    assert said in told["cause_summary"]


def test_another_process_on_the_port_is_not_stopped_and_no_rung_is_tried(service: Service) -> None:
    service.kill()
    with socket.create_server(("127.0.0.1", service.https_port)):
        run = service.play("playbooks/outage_recover.yml")
    assert run.rc != 0
    assert not service.pids()
    (document,) = run.documents(".json")
    told = json.loads(document.read_text(encoding="utf-8"))
    assert (told["cause"], told["rungs_tried"]) == ("port_conflict", [])
    closing = " ".join(run.screen[run.screen.index("PLAY RECAP") :].split())
    assert closing.count(f"Port {service.https_port} is taken by process") == 1


@pytest.mark.parametrize("playbook", ["outage_recover", "outage_restart", "outage_clean_start"])
def test_an_empty_database_with_a_wal_is_never_opened(service: Service, playbook: str) -> None:
    service.kill()
    wal = service.database.with_name("itsm.db-wal")
    rows = wal.read_bytes()
    assert rows
    service.database.write_bytes(b"")
    run = service.play(f"playbooks/{playbook}.yml")
    assert run.rc != 0
    assert not service.pids()
    assert service.database.read_bytes() == b""
    assert wal.read_bytes() == rows


def test_a_clean_start_stops_nothing_if_a_foreign_process_has_the_database_open(service: Service) -> None:
    pids = service.pids()
    with sqlite3.connect(service.database) as stranger:
        stranger.execute("SELECT count(*) FROM incidents").fetchone()
        run = service.play(
            "playbooks/outage_clean_start.yml", outage_recover_act_on=["none", "warning", "critical", "emergency"]
        )
    assert run.rc != 0
    assert service.pids() == pids
    assert "The service was not changed" in run.screen


def test_a_clean_start_during_a_backup_starts_the_service_in_its_previous_state(service: Service) -> None:
    """The backup began before the run. docs/backups.md describes this case."""
    with contextlib.closing(sqlite3.connect(service.database)) as backup:
        backup.execute("SELECT count(*) FROM incidents").fetchone()
        service.kill()
        run = service.play("playbooks/outage_clean_start.yml")
    assert service.healthy()
    (document,) = run.documents(".json")
    (tried,) = json.loads(document.read_text(encoding="utf-8"))["rungs_tried"]
    assert (tried["rung"], tried["held"]) == ("clean_start_recovery", False)
    assert "stop these processes first" in tried["reason"]


def test_a_dry_run_on_a_damaged_copy_uses_the_copy_and_says_so(service: Service) -> None:
    copy = service.database.with_name("rehearsal.db")
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with copy.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4 * 4096))
    damaged, pids = copy.read_bytes(), service.pids()
    playbook, changes = "playbooks/database_recover.yml", {"nexus_db_path": "backend/rehearsal.db"}
    # The service's own variable DATABASE_PATH takes precedence, so the copy is not checked. The summary shows the
    # checked file.
    run = service.play(playbook, "--check", **changes)
    assert run.rc == 0
    assert (
        f"HEALTHY: localhost, the database {service.database} is sound; this run did not change the service"
        in run.screen
    )
    run = service.play(playbook, "--check", **changes, nexus_db_path_variable="")
    end = run.screen[run.screen.index("WOULD TRY TO RECOVER") :]
    assert f"\n  database    {copy}\n" in end
    assert (copy.read_bytes(), service.pids(), service.healthy()) == (damaged, pids, True)
