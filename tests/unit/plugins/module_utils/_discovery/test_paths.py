# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If the service's user could have chosen a path, it is proposed only if this user has the required permissions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import discover, environment, files, paths

from .test_propose import APP, DISK, FACTS, FILE, PROCESS, VALUES, asked, proposal, unit, values

NOBODY = (65534, 65534)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def of_process(of_root=None, **more):
    """Return an environment in which only the process has the variables in `more`.

    of_root: the variables in a root-owned file.
    """
    process = environment.Source(environment.PROCESS, "", {**VALUES, **more})
    file = environment.Source(environment.FILE, FILE, of_root or {}, of_root=True)
    return environment.Environment([process, file])


def disk(path="", *allowed, **more):
    return {**DISK, **more, "access": {path: list(allowed), APP: ["read"]} if path else {}}


def log(folder, *, of_unit=False):
    return [{"folder": folder, "files": 1, "of_unit": of_unit}]


def copies(folder, name, *allowed, of_unit=False):
    known = [{"folder": folder, "names": [name], "files": 1, "of_unit": of_unit}]
    return disk(folder, *allowed, backups=known)


CERTIFICATE, KEY = "/etc/ssl/x/o.crt", "/etc/ssl/x/o.key"
LOG, LOGS = "/var/log/x/a.log", "/var/log/x"
DATABASE = "/srv/x/a.db"
# (variable, path or folder, facts that the service's user chose, required permission, proposed value)
CHOSEN = [
    ("nexus_tls_cert_path", CERTIFICATE, {"environment": of_process(SSL_CERT_PATH=CERTIFICATE)}, "read", CERTIFICATE),
    ("nexus_tls_key_path", KEY, {"environment": of_process(SSL_KEY_PATH=KEY)}, "own", KEY),
    ("nexus_db_path", DATABASE, {"databases": [DATABASE]}, "change", DATABASE),
    (
        "nexus_db_path",
        DATABASE,
        {"databases": [], "environment": of_process(DATABASE_PATH=DATABASE)},
        "change",
        DATABASE,
    ),
    ("nexus_log_file", LOG, {"outputs": [LOG], "logs": [LOG]}, "change", LOG),
    ("nexus_log_file", LOG, {"logs": [LOG]}, "change", LOG),
    ("nexus_log_patterns", LOGS, {"logs": [f"{LOGS}/a-2026-11-29.log"]}, "change", [f"{LOGS}/*.log"]),
    ("nexus_app_dir", "/srv/x", {**PROCESS, "app_dir": "/srv/x", "certain_folder": False}, "change", "/srv/x"),
    (
        "nexus_environment_file",
        "/srv/x/.env",
        {**PROCESS, "app_dir": "/srv/x", "own_files": [".env"], "certain_folder": False},
        "read",
        "/srv/x/.env",
    ),
]


@pytest.mark.parametrize(("variable", "path", "facts", "need", "value"), CHOSEN)
def test_a_path_of_the_user_needs_the_permission_of_the_user(variable, path, facts, need, value):
    assert values(**facts, disk=disk(path, need))[variable] == value
    assert values(**facts, user="root", disk=disk())[variable] == value
    other = {"change": "read", "read": "change", "own": "read"}[need]
    for refused in (disk(path), disk(path, other), disk(), None):
        assert variable not in values(**facts, disk=refused)
        assert (variable, "path") in asked(**facts, disk=refused)
        (told,) = [
            each
            for each in proposal(**facts, disk=refused)["questions"]
            if each["variable"] == variable and path in each["question"]
        ]
        assert "user kensan" in told["question"]


def test_the_name_of_a_log_without_its_date_needs_the_folder():
    dated = f"{LOGS}/a-2026-11-29.log"
    facts = {**PROCESS, "outputs": [dated], "logs": [dated]}
    assert values(**facts, disk=disk(LOGS, "change"))["nexus_log_file"] == LOG
    assert ("nexus_log_file", "path") in asked(**facts, disk=disk(LOGS, "read"))


def test_a_folder_of_logs_from_the_environment_needs_the_permission_of_the_user():
    assert values(disk=disk(LOGS, "change", logs=log(LOGS)))["nexus_log_patterns"] == [f"{LOGS}/*.log"]
    assert values(disk=disk(LOGS, logs=log(LOGS, of_unit=True)))["nexus_log_patterns"] == [f"{LOGS}/*.log"]
    refused = disk(LOGS, "read", logs=log(LOGS))
    assert "nexus_log_patterns" not in values(disk=refused)
    assert ("nexus_log_patterns", "path") in asked(disk=refused)
    # The other folders are still proposed.
    both = disk(LOGS, "read", logs=log(LOGS) + log(f"{APP}/logs"))
    assert values(disk=both)["nexus_log_patterns"] == ["logs/*.log"]


def test_a_folder_of_backups_needs_the_permission_to_read_all_of_them():
    name = "itsm_nexus_1.db"
    allowed = copies("/backup", name, "read", "read_all")
    assert values(disk=allowed)["database_recovery_backup_dirs"] == ["/backup"]
    assert values(disk=copies("/backup", name, of_unit=True))["database_recovery_backup_dirs"] == ["/backup"]
    refused = copies("/backup", name, "read")
    assert "database_recovery_backup_dirs" not in values(disk=refused)
    assert ("database_recovery_backup_dirs", "path") in asked(disk=refused)
    assert "/backup" not in str(proposal(disk=refused)["information"])


def test_the_name_of_a_backup_does_not_match_backups_of_another_service():
    """The pattern also applies to root's folders."""
    folder = f"{APP}/backups"
    refused = copies(folder, "crm_1.db", "read", "read_all", "change")
    assert "database_recovery_backup_patterns" not in values(disk=refused)
    (told,) = [each for each in proposal(disk=refused)["questions"] if each["variable"].endswith("_patterns")]
    assert "crm_*.db" in told["question"] and "crm_1.db" in told["question"]
    assert ("database_recovery_backup_patterns", "unusable") in asked(disk=copies(folder, "{{ 1 }}1.db", "change"))
    for accepted in (copies(folder, "crm_1.db", "read"), copies(folder, "itsm_nexus.old.1.db", "change")):
        assert "database_recovery_backup_patterns" in values(disk=accepted)


@pytest.mark.parametrize(
    ("variable", "facts"),
    [
        ("nexus_tls_cert_path", {"environment": of_process({"SSL_CERT_PATH": CERTIFICATE}, SSL_CERT_PATH=CERTIFICATE)}),
        ("nexus_tls_key_path", {"environment": of_process({"SSL_KEY_PATH": KEY}, SSL_KEY_PATH=KEY)}),
    ],
)
def test_a_certificate_that_root_chose_is_only_information(variable, facts):
    assert variable not in values(**facts)
    assert (variable, "path") not in asked(**facts)
    # No run reads this file, although root wrote it.
    elsewhere = {**facts, "environment_files": ["/etc/other"]}
    assert variable in values(**elsewhere)


def test_a_path_that_root_chose_needs_no_permission():
    chosen = {"DATABASE_PATH": DATABASE, "LOG_FILE": LOG, "BACKUP_DIR": "/backup"}
    of_root = of_process(chosen, **chosen)
    facts = {"environment": of_root, "databases": [DATABASE], "logs": [LOG], "disk": copies("/backup", "a_1.db")}
    found = values(**facts)
    assert (found["nexus_db_path"], found["nexus_log_file"]) == (DATABASE, LOG)
    assert found["database_recovery_backup_dirs"] == ["/backup"]
    dated = values(**{**facts, "logs": [f"{LOGS}/a-2026-11-29.log"]})
    assert dated["nexus_log_patterns"] == [f"{LOGS}/*.log"]
    # The value in the process differs from the value in the root-owned file.
    other = of_process(chosen, DATABASE_PATH="/srv/y/a.db")
    assert ("nexus_db_path", "path") in asked(environment=other, databases=[])
    of_unit = {"unit": unit(StandardOutput=f"append:{LOG}"), "outputs": [LOG], "logs": [LOG]}
    assert values(**of_unit)["nexus_log_file"] == LOG


@pytest.mark.parametrize("name", ['l", "glob": "/x/**', "a'b", "a\\b", "a*", "a?", "[a]", "{{ 1 }}", "a\tb", "$HOME"])
def test_a_special_character_in_a_path_of_the_user_is_a_question(name):
    folder = f"{APP}/{name}"
    facts = {"logs": [f"{folder}/a-2026-11-29.log"], "databases": [f"{folder}/a.db"]}
    found = values(**facts)
    assert not {"nexus_log_patterns", "nexus_db_path"} & set(found)
    questions = asked(**facts)
    assert ("nexus_log_patterns", "unusable") in questions and ("nexus_db_path", "unusable") in questions
    assert name not in str([each["question"] for each in proposal(**facts)["questions"]])
    output = {"outputs": [f"{folder}/a.log"], "logs": [f"{folder}/a.log"]}
    assert ("nexus_log_file", "unusable") in asked(**output)


def test_a_path_that_ansible_would_expand_is_a_question():
    assert ("nexus_db_path", "unusable") in asked(databases=[f"{APP}/~root/a.db"])


def test_a_wildcard_of_root_in_a_folder_is_escaped():
    found = values(user="root", logs=["/var/log/[x]/a-2026-11-29.log"])
    assert found["nexus_log_patterns"] == ["/var/log/[[]x]/*.log"]


def test_the_working_directory_of_a_process_is_not_certain():
    """A process may run in one of root's folders, such as /etc.

    The files in this folder are not files of the process.
    """
    facts = {**PROCESS, "app_dir": "/etc", "databases": ["/etc/x/a.db"], "certain_folder": False}
    questions = asked(**facts, disk=disk("/etc", "read"))
    assert ("nexus_app_dir", "path") in questions and ("nexus_db_path", "path") in questions
    assert values(**facts, disk=disk("/etc", "change"))["nexus_db_path"] == "x/a.db"


def test_the_root_folder_contains_every_path_and_proves_nothing():
    facts = {"app_dir": "/", "databases": [DATABASE], "disk": disk()}
    assert ("nexus_db_path", "path") in asked(**facts)


def test_the_name_of_a_variable_is_a_usual_name():
    database = FACTS.databases[0]
    assert "nexus_db_path_variable" not in values(environment=of_process(**{"a b": database}))
    assert values(environment=of_process(DESK=database))["nexus_db_path_variable"] == "DESK"


@pytest.fixture
def place():
    """Yield a folder that other users can enter, unlike pytest's folders."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def owned(path, owner=NOBODY, *, mode=0o755, folder=True):
    if folder:
        path.mkdir()
    else:
        path.write_text("x")
    os.chown(path, *owner)
    path.chmod(mode)
    return path


def access(*wanted):
    found = paths.access([str(path) for path in wanted], user="nobody", rights=NOBODY)
    return [sorted(found[str(path)]) for path in wanted]


@needs_root
def test_what_the_user_may_do_with_a_path(place):
    own = owned(place / "own")
    theirs = owned(place / "theirs", (1, 1))
    shared = owned(place / "shared", (1, 1), mode=0o1777)
    mine = owned(own / "a.log", folder=False)
    public = owned(theirs / "public.db", (1, 1), mode=0o666, folder=False)
    private = owned(theirs / "private.key", (1, 1), mode=0o600, folder=False)
    link = own / "link.db"
    link.symlink_to(public)
    assert access(own, mine) == [["change", "own", "read"]] * 2
    assert access(own / "none", theirs / "none", place / "none" / "none") == [["change"], [], []]
    assert access(theirs, public, private, shared) == [["read"], ["read"], [], ["read"]]
    # The folder of a link's target does not count as the user's folder, even if the link is in the user's folder.
    assert access(link) == [["read"]]
    assert paths.access(["/"], user="daemon", rights=None) == {}


@needs_root
def test_whether_the_user_may_read_all_files_of_a_folder(place):
    folder = owned(place / "backups", (1, 1))
    owned(folder / "a_1.db", (1, 1), mode=0o644, folder=False)
    assert paths.may_read_all(str(folder), rights=NOBODY)
    owned(folder / "b_1.db", (1, 1), mode=0o600, folder=False)
    assert not paths.may_read_all(str(folder), rights=NOBODY)
    assert not paths.may_read_all(str(place / "none"), rights=NOBODY)


@needs_root
def test_the_owner_of_a_folder_behind_a_link_of_the_user_does_not_count(place):
    parent = owned(place / "home")
    other = owned(place / "other", (1, 1))
    own = owned(parent / "app")
    assert discover._owner(str(own)) == NOBODY[0]
    os.symlink(other, parent / "link")
    os.lchown(parent / "link", *NOBODY)
    assert discover._owner(str(parent / "link")) == NOBODY[0]
    os.symlink(other, place / "current")
    assert discover._owner(str(place / "current")) == 1


@needs_root
def test_only_a_file_of_root_proves_that_root_chose_its_values(place):
    file = owned(place / "env", (0, 0), mode=0o644, folder=False)
    file.write_text("LOG_DIR=/var/log/x\n")
    assert discover._read_environment(str(file))["of_root"] is True
    os.chown(file, *NOBODY)
    assert discover._read_environment(str(file))["of_root"] is False
    os.chown(file, 0, 0)
    file.chmod(0o664)
    assert discover._read_environment(str(file))["of_root"] is False
    file.chmod(0o644)
    # Root may have specified the file in the inventory. A file with the usual name was only found in the folder of a
    # process.
    assert discover._read_usual(str(file), NOBODY, given=True)["of_root"] is True
    assert discover._read_usual(str(file), NOBODY, given=False)["of_root"] is False
    file.chmod(0o600)
    assert "values" not in discover._read_usual(str(file), NOBODY, given=False)


@needs_root
def test_the_survey_examines_the_paths_that_may_be_proposed(place):
    app = owned(place / "app")
    owned(app / "logs")
    owned(app / "logs" / "a.log", folder=False)
    theirs = owned(place / "theirs", (1, 1))
    owned(theirs / "a.log", (1, 1), folder=False)
    found = files.survey(
        files.Place(str(app), NOBODY, "nobody"),
        section="production",
        known=environment.Environment([]),
        paths=[f"{theirs}/a.log"],
        unit="",
        log_folders=[str(theirs)],
        backup_folders=[],
        examined=[f"{app}/none"],
    )["access"]
    assert set(found) == {str(app), f"{app}/logs", str(theirs), f"{theirs}/a.log", f"{app}/none"}
    assert ("change" in found[f"{app}/logs"], "change" in found[str(theirs)]) == (True, False)


@needs_root
@pytest.mark.parametrize(("mode", "allowed"), [(0o644, True), (0o600, False)])
def test_the_survey_examines_each_backup(place, mode, allowed):
    folder = owned(place / "backups", (1, 1))
    for name in ("a_1.db", "a_2.db"):
        with contextlib.closing(sqlite3.connect(folder / name)) as database:
            database.execute("create table t (x)")
    (folder / "a_1.db").chmod(mode)
    os.utime(folder / "a_1.db", (0, 0))
    found = files.survey(
        files.Place(str(place / "app"), NOBODY, "nobody"),
        section="production",
        known=environment.Environment([]),
        paths=[],
        unit="",
        log_folders=[],
        backup_folders=[str(folder)],
    )
    assert [each["folder"] for each in found["backups"]] == [str(folder)]
    assert ("read_all" in found["access"][str(folder)]) is allowed
