# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each outage is caused by one of four changes. The change that caused the outage is listed first."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from rounds import step

from .conftest import ROOT, Run, Service

SECRET = "correct-horse-battery"


def edit(path: Path, before: str, after: str) -> None:
    """Replace text in a file as an editor does. The new file has another inode."""
    text = path.read_text(encoding="utf-8")
    assert before in text, path
    new = path.with_name(f"{path.name}.new")
    shutil.copy(path, new)
    new.write_text(text.replace(before, after, 1), encoding="utf-8")
    new.replace(path)


def sql(service: Service, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute(statement)
        connection.commit()


def add(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def without_variable(service: Service) -> None:
    edit(service.environment_file, "JWT_SECRET=", "# JWT_SECRET=")


def other_database_folder(service: Service) -> None:
    edit(service.environment_file, "DATABASE_PATH=backend/itsm.db", "DATABASE_PATH=data/itsm.db")


def failed_update(service: Service) -> None:
    """Simulate an interrupted run of npm ci for a new lock file."""
    lock = service.app / "package-lock.json"
    told = json.loads(lock.read_text(encoding="utf-8"))
    told["packages"]["node_modules/express"]["version"] = "99.0.0"
    lock.write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(service.app / "node_modules" / "express")


def without_module(service: Service) -> None:
    shutil.rmtree(service.app / "node_modules" / "knex")


def es_modules(service: Service) -> None:
    edit(service.app / "package.json", "{", '{\n  "type": "module",')


def expired_certificate(service: Service) -> None:
    folder = service.folder / "ssl"
    folder.mkdir()
    subprocess.run([ROOT / "demo/certificate", folder, "2 days ago", "1 day ago"], check=True)
    for name in ("server.key", "server.crt"):
        shutil.copy(folder / name, service.app / "backend/ssl" / name)


def other_key(service: Service) -> None:
    key = service.app / "backend/ssl/server.key"
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", key], check=True)


def syntax_error(service: Service) -> None:
    edit(service.app / "backend/incidents.js", "'use strict';", "'use strict';\nconst = 1;")


def failing_migration(service: Service) -> None:
    add(
        service.app / "backend/migrations/20990101000000_fail.js",
        "exports.up = (knex) => knex.schema.alterTable('no_such_table', (table) => table.text('a'));\n"
        "exports.down = async () => {};\n",
    )


def renamed_table(service: Service) -> None:
    sql(service, "ALTER TABLE audit_logs RENAME TO audit_logs_2025")


def failing_knexfile(service: Service) -> None:
    edit(service.app / "knexfile.js", "process.env.DATABASE_PATH ||", "process.env.DATABASE_PATH.path.file ||")


# Each change that breaks the service, with the kinds under which it is listed.
BREAKING: dict[Callable[[Service], None], tuple[str, ...]] = {
    without_variable: ("environment",),
    other_database_folder: ("environment",),
    failed_update: ("lock_file", "modules"),
    without_module: ("modules",),
    es_modules: ("package_json",),
    expired_certificate: ("certificate",),
    other_key: ("key",),
    syntax_error: ("code",),
    failing_migration: ("migrations",),
    renamed_table: ("schema",),
    failing_knexfile: ("knexfile",),
}


def new_variable(service: Service) -> None:
    add(service.environment_file, f"FEATURE_TOKEN={SECRET}\n")


def new_file(service: Service) -> None:
    add(service.app / "backend" / "report.js", "module.exports = 1;\n")


def new_script(service: Service) -> None:
    edit(service.app / "package.json", "{", '{\n  "homepage": "https://itsm.example",')


def new_comment(service: Service) -> None:
    add(service.app / "knexfile.js", "// Reviewed.\n")


def new_module(service: Service) -> None:
    add(service.app / "node_modules" / "left-pad" / "index.js", "module.exports = 1;\n")


def new_permissions(service: Service) -> None:
    (service.app / "backend/ssl/server.crt").chmod(0o444)


def new_table(service: Service) -> None:
    sql(service, "CREATE TABLE notes (content TEXT)")


INNOCENT: dict[Callable[[Service], None], str] = {
    new_variable: "environment",
    new_file: "code",
    new_script: "package_json",
    new_comment: "knexfile",
    new_module: "modules",
    new_permissions: "certificate",
    new_table: "schema",
}


def document(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.documents(".json")[-1].read_text(encoding="utf-8")))


def start(service: Service) -> None:
    """Start the service, as a person does after a change.

    The service then exits, or it runs but does not serve HTTPS.
    """
    with service.log.open("ab") as log, contextlib.suppress(subprocess.TimeoutExpired):
        environment = {**service.environment(), "PATH": os.environ["PATH"]}
        subprocess.Popen(
            ["node", "backend/server.js"],
            cwd=service.app,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ).wait(2.5)


def outage(service: Service, breaking: Callable[[Service], None], innocent: list[Callable[[Service], None]]) -> Run:
    """Make an unrelated change, the breaking change, and two more unrelated changes. Then run the playbook."""
    assert service.play("playbooks/outage_detect.yml").rc == 0
    assert (service.state / "manifest.json").stat().st_mode & 0o777 == 0o600
    for change in (innocent[0], breaking, *innocent[1:]):
        time.sleep(0.1)
        change(service)
    service.kill()
    start(service)
    return recover(service)


def recover(service: Service, **changes: Any) -> Run:
    """Run the playbook without remedies, so that the outage continues."""
    short = {"outage_recover_rungs": ["restart"], "verification_deadline": 3.0, "remediation_allowed": []}
    return service.play("playbooks/outage_recover.yml", **short, **changes)


@pytest.mark.parametrize("breaking", list(BREAKING)[:: step(4)], ids=lambda each: each.__name__)
def test_the_change_that_broke_the_service_is_listed_first(
    service: Service, breaking: Callable[[Service], None]
) -> None:
    kinds = BREAKING[breaking]
    # The test recognizes the breaking change by its kind, so the unrelated changes must be of other kinds. Use three of
    # the unrelated changes. For each breaking change, begin with a different unrelated change.
    position = list(BREAKING).index(breaking)
    names = [each for each, kind in INNOCENT.items() if kind not in kinds]
    innocent = [names[(position + step) % len(names)] for step in range(3)]
    run = outage(service, breaking, innocent)
    postmortem = document(run)
    items = postmortem["changes"]["items"]
    print(f"{breaking.__name__}: cause {postmortem['cause']}")
    for each in items:
        print("  ", each["relation"], each["cause"], each["kind"], each["name"], each["what"], each["seconds_before"])
    assert items[0]["kind"] in kinds
    assert {INNOCENT[each] for each in innocent} <= {each["kind"] for each in items}
    # No secret value is in the bundle, the documents or the manifest.
    secrets = [SECRET, service.environment().get("ADMIN_PASSWORD", SECRET)]
    for path in (*service.state.rglob("*"), *run.postmortems.rglob("*")):
        if path.is_file():
            assert not any(secret.encode() in path.read_bytes() for secret in secrets), path


def test_a_change_is_suspected_until_the_service_has_been_started_with_it(service: Service) -> None:
    """After the file is edited, the service remains healthy for several checks and fails only at its next start."""
    assert service.play("playbooks/outage_detect.yml").rc == 0
    # If a change is made within 3 s of the service's start, the service counts as having loaded this change. Therefore,
    # wait for more than 3 s.
    time.sleep(4)
    without_variable(service)
    for _check in range(2):
        assert service.play("playbooks/outage_detect.yml").rc == 0
    service.kill()
    start(service)
    sent = service.folder / "sent"
    channel = {"type": "command", "argv": ["/usr/bin/tee", str(sent)]}
    contacts = {"project_leader": {"name": "project leader", "channels": [channel]}, "dba": "DBA", "everyone": "all"}
    run = recover(service, escalation_contacts=contacts)
    (first, *_others) = document(run)["changes"]["items"]
    assert (first["kind"], first["name"], first["what"]) == ("environment", "JWT_SECRET", "removed")
    end = run.screen[run.screen.index("PLAY RECAP") :]
    assert re.search(
        r"changed +[\d.]+ s before the failure: JWT_SECRET in \S+itsm\.env \(environment\) removed",
        " ".join(end.split()),
    )
    assert re.search(
        r"Changed: [\d.]+ s before the failure: JWT_SECRET in \S+ \(environment\) removed", sent.read_text()
    )
    for suffix in (".md", ".html"):
        text = run.documents(suffix)[0].read_text(encoding="utf-8")
        assert "What changed before the failure" in text and "SECRET" in text


def test_nothing_is_kept_or_compared_if_the_manifest_is_switched_off(service: Service) -> None:
    off = {"nexus_manifest_enabled": False}
    assert service.play("playbooks/outage_detect.yml", **off).rc == 0
    assert not (service.state / "manifest.json").exists()
    without_variable(service)
    service.kill()
    run = recover(service, **off)
    assert document(run)["changes"] == {}
    assert not (service.state / "manifest.json").exists()
