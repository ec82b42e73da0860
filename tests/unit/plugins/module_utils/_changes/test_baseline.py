# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The times at which the manifest is saved, and the account whose rights are used to collect its data."""

from __future__ import annotations

import os
import pwd
import shutil

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import baseline, collect, store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection

HEALTHY = {"healthy": True, "process": {"pids": [os.getpid()], "started_at": timestamps.iso(1_000_000.0)}}
MANIFEST = {"database_path": "", "tls_cert_path": "", "tls_key_path": ""}


@pytest.fixture
def values(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text("{}", encoding="utf-8")
    service = {"app_dir": str(app), "user": "", "command": ["node", "server.js"], "manager": "process", "unit": ""}
    state = {"state_dir": str(tmp_path / "state"), "remember": True, "manifest": MANIFEST}
    return {**state, "service": {**service, "environment_file": "", "log_file": "", "pid_file": ""}}


def see(values, health=HEALTHY, *, check_mode=False):
    """Call of_detection. Return the list of calls to `meanwhile`, and the function that saves the manifest."""
    calls = []
    save = baseline.of_detection(values, None, health, lambda: calls.append(1), check_mode=check_mode)
    return calls, save


def test_the_manifest_is_saved_only_when_the_caller_says_so(values):
    calls, save = see(values)
    assert (calls, store.read(values["state_dir"])) == ([1], None)
    save()
    manifest = store.read(values["state_dir"])
    assert manifest is not None and "package_json package.json" in manifest.entries
    assert manifest.entries["node node"].parts["path"] == os.path.realpath(f"/proc/{os.getpid()}/exe")


@pytest.mark.parametrize(
    ("changes", "health", "check_mode"),
    [
        ({"manifest": None}, HEALTHY, False),
        ({"remember": False}, HEALTHY, False),
        ({}, HEALTHY, True),
        ({}, {**HEALTHY, "healthy": False}, False),
        ({}, {**HEALTHY, "process": {"pids": [], "started_at": None}}, False),
    ],
)
def test_otherwise_nothing_is_collected_or_saved(values, monkeypatch, changes, health, check_mode):
    monkeypatch.setattr(parallel, "ask", lambda *_arguments, **_options: pytest.fail("a process was started"))
    calls, save = see({**values, **changes}, health, check_mode=check_mode)
    save()
    assert calls == [1]
    assert not os.path.exists(values["state_dir"])


def test_a_collection_that_fails_or_hangs_saves_nothing(values, monkeypatch):
    monkeypatch.setattr(baseline, "_collected", lambda *_arguments: 1 / 0)
    calls, save = see(values)
    save()
    assert (calls, os.path.exists(values["state_dir"])) == ([1], False)


@pytest.mark.parametrize(
    ("severity", "problems", "saved"),
    [("none", [], True), ("none", [{"cause": "slow"}], False), ("warning", [], False)],
)
def test_a_degraded_service_never_replaces_the_manifest(values, severity, problems, saved):
    called = []
    given = {**values, "mode": "watch", "run": ""}
    call = detection.Detection(
        {**given, "service": {**given["service"]}},
        check_mode=False,
        warn=print,
        ready=lambda *_: None,
        see=lambda *_: lambda: None,
    )
    # Set the results of the checks here, because the checks themselves need a service.
    call._result = {"severity": severity, "healthy": True, "last_success_at": timestamps.now()}
    call._result["readiness"] = {"problems": problems}
    call._save_seen = lambda: called.append(1)
    call._remember_healthy()
    assert called == ([1] if saved else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_files_that_the_service_cannot_read_are_not_read(tmp_path, monkeypatch):
    nobody = pwd.getpwnam("nobody")
    app = tmp_path / "app"
    secret = tmp_path / "secret.json"
    secret.write_text('{"SECRET_NAME": 1}\nSECRET_NAME=1\n', encoding="utf-8")
    secret.chmod(0o600)
    app.mkdir()
    for name in ("package.json", "package-lock.json", ".env"):
        (app / name).symlink_to(secret)
    (app / "node_modules").symlink_to(tmp_path)
    for path in (app, *app.iterdir()):
        shutil.chown(path, nobody.pw_uid, nobody.pw_gid) if path == app else os.lchown(path, nobody.pw_uid, -1)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o711)
    place = collect.Place(app_dir=str(app), user="nobody", rights=(nobody.pw_uid, nobody.pw_gid))
    answer = parallel.ask({"manifest": lambda: baseline._collected(place, None)}, timeout=10)["manifest"]
    assert answer.error is None
    found = {(entry["kind"], entry["name"]): entry for entry in answer.value}
    told = [found[key] for key in found if key[0] in ("package_json", "lock_file", "environment", "modules")]
    assert len(told) >= 3
    assert not any(entry.get("value") or entry.get("parts") for entry in told)
    assert "SECRET_NAME" not in str(answer.value)
