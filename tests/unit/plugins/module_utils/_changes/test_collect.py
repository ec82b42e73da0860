# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest entries about a service's folder, its unit and its host."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sqlite3
import subprocess

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import (
    collect,
    entries,
    environment,
    files,
    kinds,
    store,
    unit_files,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables

SECRET = "hunter2-correct-horse"
UNIT = f"""[Unit]
Description=The service
# A comment
[Service]
User=itsm
ExecStart=/usr/bin/node --token={SECRET} \\
    backend/server.js
Environment=NODE_ENV=production "DB_PASSWORD={SECRET}" SSL_CERT_PATH=backend/ssl/server.crt
EnvironmentFile=-/etc/itsm/itsm.env
MemoryMax=512M
SetCredential=password:{SECRET}
"""


@pytest.fixture
def place(tmp_path):
    """Return a Place that describes a service with a unit, a database and a git repository below tmp_path."""
    app, units = tmp_path / "app", tmp_path / "units"
    for folder in ("backend/migrations", "backend/ssl", "node_modules/express", ".git/refs/heads", "backend/logs"):
        (app / folder).mkdir(parents=True)
    for name, text in {
        "package.json": "{}",
        "package-lock.json": '{"lockfileVersion": 3}',
        "knexfile.js": f"module.exports = {{ password: '{SECRET}' }}",
        "backend/server.js": "1",
        "backend/migrations/1_create.js": "1",
        "backend/logs/trace.js": "1",
        "backend/.env": f"JWT_SECRET={SECRET}\nPORT=8080\nDATABASE_PATH=postgres://a:{SECRET}@host/db\n",
        "node_modules/.package-lock.json": "{}",
        ".git/HEAD": "ref: refs/heads/main\n",
        ".git/refs/heads/main": "a" * 40 + "\n",
    }.items():
        (app / name).write_text(text, encoding="utf-8")
    (units / "nexus.service.d").mkdir(parents=True)
    (units / "nexus.service").write_text(UNIT, encoding="utf-8")
    (units / "nexus.service.d" / "limit.conf").write_text("[Service]\nLimitNOFILE=64\n", encoding="utf-8")
    with sqlite3.connect(app / "backend" / "itsm.db") as connection:
        connection.execute("CREATE TABLE users (name)")
        connection.execute("CREATE TABLE m (id INTEGER, name TEXT, batch INTEGER, migration_time TEXT)")
        connection.execute("INSERT INTO m VALUES (1, '1_create.js', 1, '2026')")
    connection.close()
    return collect.Place(
        app_dir=str(app),
        command=("node", "backend/server.js"),
        unit="nexus",
        database=str(app / "backend" / "itsm.db"),
        unit_folders=(str(units),),
        root=str(tmp_path),
    )


def test_every_kind_is_described(place):
    found = collect.collect(place, None)
    assert {entry.kind for entry in found.values()} >= {
        *("kernel", "host", "python", "unit", "environment", "release", "package_json", "lock_file", "modules"),
        *("knexfile", "code", "migrations", "database", "schema"),
    }
    assert found["release git"].value == "a" * 40
    assert found["modules node_modules"].parts == {"express": ""}
    assert list(found["migrations backend/migrations"].parts) == ["1_create.js"]
    assert set(found["schema database"].parts) == {"table users", "table m", "migration 1_create.js"}
    # A folder of logs contains no code.
    assert [name for name, _at in found["code backend"].latest] == ["server.js"]
    unit = found[f"unit {place.unit_folders[0]}/nexus.service"]
    assert unit.parts["MemoryMax"] == "512M"
    assert unit.parts["ExecStart"] == "/usr/bin/node"
    assert unit.parts["Environment NODE_ENV"] == "production"
    assert found[f"unit {place.unit_folders[0]}/nexus.service.d/limit.conf"].parts == {"LimitNOFILE": "64"}


def test_no_secret_and_no_digest_of_a_file_with_a_secret_is_saved(place):
    found = collect.collect(place, None)
    data = entries.to_json(entries.Manifest(1.0, found)).decode()
    assert SECRET not in data
    environment = found[f"environment {place.app_dir}/backend/.env"]
    assert environment.parts == {"JWT_SECRET": "", "PORT": "8080", "DATABASE_PATH": ""}
    for kind in ("environment", "knexfile", "unit", "key"):
        assert {entry.value for entry in found.values() if entry.kind == kind} <= {""}, kind
    unit = found[f"unit {place.unit_folders[0]}/nexus.service"]
    assert unit.parts["Environment DB_PASSWORD"] == unit.parts["SetCredential"] == ""


def test_an_unchanged_file_is_not_read_again(place, monkeypatch):
    known = entries.Manifest(1.0, collect.collect(place, None))
    monkeypatch.setattr(safe_open, "read", lambda path, **_limit: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(collect, "_line", lambda path: "a" * 40)
    again = collect.collect(place, known, schema=False)
    assert all(entry.is_like(known.entries[key]) for key, entry in again.items())


def test_a_large_file_is_described_without_its_content(place):
    path = f"{place.app_dir}/package-lock.json"
    with open(path, "r+b") as stream:
        stream.truncate(1 << 30)
    entry = collect.collect(place, None, schema=False)["lock_file package-lock.json"]
    assert entry.value == "" and entry.stamp.size == 1 << 30


def test_a_folder_with_many_entries_is_not_listed(place, monkeypatch):
    monkeypatch.setattr(files, "_MOST_NAMES", 0)
    found = collect.collect(place, None, schema=False)
    for key in ("code backend", "modules node_modules"):
        assert list(found[key].parts) == [entries.MANY]
    monkeypatch.setattr(files, "_MOST_FILES", 0)
    with open(f"{place.app_dir}/backend/more.js", "w", encoding="utf-8"):
        assert collect.collect(place, None, schema=False)["code backend"] == entries.Entry("code", "backend")


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_a_fifo_a_folder_or_a_dead_link_is_no_file(place, kind):
    path = f"{place.app_dir}/package-lock.json"
    os.unlink(path)
    {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda name: os.symlink("/nonexistent", name)}[kind](path)
    assert "lock_file package-lock.json" not in collect.collect(place, None, schema=False)


def test_a_packed_branch_and_a_detached_head_have_a_commit(place):
    git = f"{place.app_dir}/.git"
    os.unlink(f"{git}/refs/heads/main")
    with open(f"{git}/packed-refs", "w", encoding="utf-8") as stream:
        stream.write(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert collect.collect(place, None, schema=False)["release git"].value == "b" * 40
    with open(f"{git}/HEAD", "w", encoding="utf-8") as stream:
        stream.write("c" * 40)
    assert collect.collect(place, None, schema=False)["release git"].value == "c" * 40
    with open(f"{git}/HEAD", "w", encoding="utf-8") as stream:
        stream.write("ref: refs/../../secret")
    assert "release git" not in collect.collect(place, None, schema=False)


def test_a_link_to_the_release_is_described(place, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(place.app_dir)
    found = collect.collect(place._replace(app_dir=str(link)), None, schema=False)
    assert found[f"release {link}"].value == place.app_dir


def test_the_certificate_is_found_through_the_environment(place):
    folder = f"{place.app_dir}/backend/ssl"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-days", "30"]
    subprocess.run([*command, "-keyout", f"{folder}/server.key", "-out", f"{folder}/server.crt"], check=True)
    found = collect.collect(place, None, schema=False)
    certificate = found["certificate certificate"]
    assert len(certificate.value) == entries.DIGEST and certificate.parts["path"] == "backend/ssl/server.crt"
    assert found["key key"].parts == {"path": "backend/ssl/server.key"} and found["key key"].value == ""


def test_files_of_a_unit_are_found_as_systemd_finds_them(tmp_path):
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    for path in (
        *(usr / name for name in ("my-app@.service", "my-app@.service.d/10.conf", "my-.service.d/5.conf")),
        *(etc / name for name in ("my-app@.service.d/10.conf", "my-app@one.service.d/20.conf", "service.d/1.conf")),
        etc / "my-app@one.service.d" / "no-drop-in.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    found = unit_files.paths("my-app@one", folders=(str(etc), str(usr)))
    assert [os.path.relpath(path, tmp_path) for path in found] == [
        "usr/my-app@.service",
        "etc/service.d/1.conf",
        "etc/my-app@.service.d/10.conf",
        "etc/my-app@one.service.d/20.conf",
        "usr/my-.service.d/5.conf",
    ]


def test_the_standard_input_of_a_unit_is_not_stored():
    text = f"[Service]\nStandardInputText=password={SECRET}\nStandardInputData={SECRET}\nStandardOutput=journal\n"
    parts = unit_files.read(text.encode())[1]
    assert parts == {"StandardInputText": "", "StandardInputData": "", "StandardOutput": "journal"}


KEY = (
    "-----BEGIN PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "c2VjcmV0c2VjcmV0c2VjcmV0",
    "-----END PRIVATE KEY-----",
)


@pytest.mark.parametrize(
    ("last", "padding"),
    [
        ("c2VjcmV0c2VjcmV0c2VjcmV0", "=="),
        ("c2VjcmV0c2VjcmV0c2VjcmV0", " = "),
        ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggS", "="),
        ("A" * 20, "="),
        ("c2VjY3M", "="),
        ("c2VjYw", "=="),
    ],
)
def test_a_line_of_a_private_key_is_no_name(last, padding):
    text = "\n".join([f"PRIVATE_KEY={KEY[0]}", KEY[1], last + padding, KEY[3], "PORT=8080", ""])
    assert environment.read(text.encode())[1] == {"PRIVATE_KEY": "", environment.NO_NAME: "", "PORT": "8080"}
    unit = "\n".join(["[Service]", f"SetCredential=key:{KEY[0]}", KEY[1], last + padding, "User=itsm"])
    if last != "A" * 20:
        assert set(unit_files.read(unit.encode())[1]) == {"SetCredential", environment.NO_NAME, "User"}
    assert last not in str(unit_files.read(f"[Service]\nEnvironment={last}{padding}".encode()))


@pytest.mark.parametrize("name", ["NODE_EXTRA_CA_CERTIFICATES_PATH", "npm_config_registry_url", "httpProxy", "S3", "a"])
def test_an_ordinary_name_of_a_variable_is_stored(name):
    assert list(environment.read(f"{name}=x".encode())[1]) == [name]
    assert list(environment.read(f"{name}=".encode())[1]) == [name]


def test_a_masked_unit_is_described(place):
    folder = place.unit_folders[0]
    os.unlink(f"{folder}/nexus.service")
    os.symlink("/dev/null", f"{folder}/nexus.service")
    assert collect.collect(place, None, schema=False)[f"unit {folder}/nexus.service"].value == "masked"


def test_a_manifest_is_read_as_it_was_written(place, tmp_path):
    state = tmp_path / "state"
    manifest = entries.Manifest(1_000_000.5, collect.collect(place, None), {"unit a": [1.0, 2.0]})
    store.write(str(state), None, manifest)
    read = store.read(str(state))
    assert read is not None and (read.at, read.waiting) == (1_000_000.5, {"unit a": [1.0, 2.0]})
    assert all(entry.is_like(read.entries[key]) for key, entry in manifest.entries.items())
    assert (state / store.NAME).stat().st_mode & 0o777 == 0o600
    before = (state / store.NAME).stat().st_ino
    store.write(str(state), read, manifest._replace(at=1_000_100.0))
    assert ((state / store.NAME).stat().st_ino, store.read(str(state)).at) == (before, 1_000_100.0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": 1, "entries": [1]}', b"\xff"])
def test_a_damaged_manifest_is_ignored_and_replaced(tmp_path, content):
    (tmp_path / store.NAME).write_bytes(content)
    assert store.read(str(tmp_path)) is None
    store.write(str(tmp_path), None, entries.Manifest(5.0, {}))
    assert store.read(str(tmp_path)) == entries.Manifest(5.0, {}, {})


def test_a_manifest_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    store.write(str(tmp_path / "file" / "state"), None, entries.Manifest(5.0, {}))


def test_the_schema_is_read_only_if_it_may_have_changed(place, monkeypatch):
    reads = []
    read_tables = knex_tables.read_tables

    def read(*arguments, **options):
        reads.append(arguments)
        return read_tables(*arguments, **options)

    def write(statement):
        with contextlib.closing(sqlite3.connect(place.database)) as connection:
            connection.execute(statement)
            connection.commit()

    def collected(known, **changes):
        return collect.collect(place._replace(**changes), known)["schema database"]

    monkeypatch.setattr(knex_tables, "read_tables", read)
    first = collected(None)
    known = entries.Manifest(first.since, {first.key: first})
    assert (collected(known), len(reads)) == (first, 1)
    # The service was restarted and may have applied migrations.
    assert collected(known, started_at=first.since + 1).parts == first.parts
    assert len(reads) == 2
    # A write soon after a read does not cause another read. An empty `gate` marks the schema as possibly outdated.
    write("CREATE TABLE notes (text)")
    waiting = collected(known)
    assert (waiting, len(reads)) == (first._replace(gate=""), 2)
    monkeypatch.setattr(collect, "_SCHEMA_EVERY", 0.0)
    again = collected(entries.Manifest(known.at, {first.key: waiting}))
    assert (set(again.parts) - set(first.parts), len(reads)) == ({"table notes"}, 3)
    # If the database cannot be read, the known schema is kept.
    os.truncate(place.database, 0)
    assert collected(known).parts == first.parts


# Kinds of changes whose entries are not compared with expected values in this file.
OF_FILES = ("packages", "network", "timezone")


def test_every_kind_has_a_case():
    cases = pathlib.Path(__file__).read_text(encoding="utf-8")
    lacking = [kind for kind in kinds.KINDS if kind not in OF_FILES and not re.search(rf'"{kind}[ "]', cases)]
    assert lacking == [], f"tests/unit/plugins/module_utils/_changes/test_collect.py lacks a case for {lacking}"
