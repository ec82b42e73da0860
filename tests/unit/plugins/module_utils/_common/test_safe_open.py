# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's user plants files in its folders while root accesses these folders.

In these tests, this user is "nobody".
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import certificate as service_certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import impact as outage_impact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    log_patterns,
    npm_application,
    npm_lock,
    preflight_findings,
    preflight_service,
    preflight_settings,
    process_start,
    request_log,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence

CONFIG = preflight_findings.Config(
    **dict.fromkeys(preflight_findings.Config._fields, ""),
)
NOBODY = pwd.getpwnam("nobody")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def host():
    """Yield a folder that everybody can enter, with a file that only root can read, and a user-owned folder."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        os.chmod(base, 0o755)  # noqa: S103
        secret = Path(base, "secret")
        secret.write_text("JWT_SECRET=of-root-alone\n")
        secret.chmod(0o600)
        app = Path(base, "app")
        app.mkdir()
        own = app / "own"
        own.write_text("NODE_ENV=production\n")
        for path in (app, own):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        yield Path(base)


def link_of_user(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    return path


def test_an_existing_file_is_read(host):
    assert safe_open.read(str(host / "secret")) == b"JWT_SECRET=of-root-alone\n"
    assert safe_open.read(str(host / "app" / "own")) == b"NODE_ENV=production\n"


def test_a_link_of_the_user_is_followed_with_the_users_rights(host):
    link = link_of_user(host / "app" / "link", host / "app" / "own")
    assert safe_open.read(str(link)) == b"NODE_ENV=production\n"
    assert os.geteuid() == 0 and os.getegid() == 0


def test_a_link_of_the_user_does_not_reach_files_of_root(host):
    link = link_of_user(host / "app" / "log", host / "secret")
    assert link.read_text()  # an ordinary read as root follows the link
    with pytest.raises(PermissionError):
        safe_open.read(str(link))
    with pytest.raises(PermissionError):
        log_patterns.tail(str(link), limit=100)
    # Neither a chain of links nor a link to a folder reaches the file.
    hop = link_of_user(host / "app" / "hop", link)
    folder = link_of_user(host / "app" / "folder", host)
    for path in (hop, folder / "secret"):
        with pytest.raises(PermissionError):
            safe_open.read(str(path))
    assert os.geteuid() == 0


def test_a_link_owned_by_root_in_a_folder_of_root_is_followed(host):
    # Certificate stores contain relative links that lead through the parent folder.
    (host / "live").mkdir()
    (host / "live" / "link").symlink_to("../secret")
    assert safe_open.read(str(host / "live" / "link")) == b"JWT_SECRET=of-root-alone\n"
    # In a user-owned folder, a root-owned link is not followed, because the user may have moved the link there.
    (host / "app" / "moved").symlink_to("../secret")
    with pytest.raises(PermissionError):
        safe_open.read(str(host / "app" / "moved"))


def test_a_folder_that_other_users_may_write_to_has_no_owner(host):
    (host / "shared").mkdir()
    (host / "shared").chmod(0o777)
    (host / "shared" / "link").symlink_to(host / "secret")
    with pytest.raises(PermissionError, match="other accounts may write"):
        safe_open.read(str(host / "shared" / "link"))


def test_a_hard_link_to_a_file_of_root_is_refused(host):
    os.link(host / "secret", host / "app" / "hard")
    with pytest.raises(PermissionError, match="another hard link"):
        safe_open.read(str(host / "app" / "hard"))


@pytest.mark.parametrize("mode", [0o775, 0o1777])
def test_a_hard_link_in_a_folder_that_other_accounts_can_write_to_is_refused(host, mode):
    """If fs.protected_hardlinks is 0, every account that can write to the folder can create such a link."""
    shared = host / "shared"
    shared.mkdir()
    os.chown(shared, -1, NOBODY.pw_gid)
    shared.chmod(mode)
    os.link(host / "secret", shared / "hard")
    (host / "link").symlink_to(host / "secret")
    os.link(host / "link", shared / "link", follow_symlinks=False)
    for name in ("hard", "link"):
        with pytest.raises(PermissionError):
            safe_open.read(str(shared / name))
        with pytest.raises(PermissionError):
            safe_open.look_up(str(shared / name))
        with pytest.raises(PermissionError):
            safe_open.rights_on(str(shared / name))
    # If a file has only one hard link, it is still read.
    (shared / "of root").write_text("x")
    (shared / "of user").write_text("x")
    os.chown(shared / "of user", NOBODY.pw_uid, NOBODY.pw_gid)
    for name in ("of root", "of user"):
        assert safe_open.read(str(shared / name)) == b"x"


def test_hard_links_that_do_no_harm_are_read(host):
    # Deployment tools create hard links to unchanged files of the previous release.
    os.link(host / "app" / "own", host / "app" / "again")
    assert safe_open.read(str(host / "app" / "again")) == b"NODE_ENV=production\n"
    os.link(host / "secret", host / "second")
    assert safe_open.read(str(host / "second")) == b"JWT_SECRET=of-root-alone\n"


def test_pipes_and_endless_files_are_refused_without_waiting(host):
    os.mkfifo(host / "app" / "pipe")
    os.chown(host / "app" / "pipe", NOBODY.pw_uid, NOBODY.pw_gid)
    zero = link_of_user(host / "app" / "zero", Path("/dev/zero"))
    huge = host / "app" / "huge"
    with huge.open("wb") as stream:
        stream.truncate(2 << 30)
    begun = time.monotonic()
    for path, reason in ((host / "app" / "pipe", "regular"), (zero, "regular"), (huge, "more than")):
        with pytest.raises(OSError, match=reason):
            safe_open.read(str(path), limit=1 << 20)
    measured = outage_impact.measure(
        path=str(host / "none.db"),
        query="",
        places=request_log.Places(log=str(host / "app" / "pipe")),
        start="2026-03-02T01:00:00.000Z",
        end="2026-03-02T02:00:00.000Z",
        time_budget=5.0,
    )
    assert "cannot be read" in measured["requests_unknown"]
    assert time.monotonic() - begun < 2


def test_an_environment_file_of_root_is_not_passed_to_the_service(host):
    link = link_of_user(host / "app" / ".env", host / "secret")
    with pytest.raises(env_file.EnvironmentFileError) as refused:
        env_file.read_environment_file(str(link))
    assert "of-root-alone" not in str(refused.value)


def test_no_log_is_created_in_a_folder_that_the_user_cannot_write_to(host):
    service_log = link_of_user(host / "app" / "logs", host / "etc") / "server.log"
    (host / "etc").mkdir()
    with pytest.raises(service_process.NodeProcessError, match="log_file: cannot append"):
        process_start._open_log(str(service_log), account=NOBODY)
    assert list((host / "etc").iterdir()) == []


def test_the_service_does_not_become_owner_of_another_key_of_that_name(host):
    (host / "private").mkdir()
    key = host / "private" / "server.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    key.chmod(0o600)
    planted = link_of_user(host / "app" / "ssl", host / "private") / "server.key"
    pair = service_certificate.Pair(certificate=str(host / "app" / "none.crt"), key=str(planted), user="nobody")
    with pytest.raises(service_certificate.CertificateError, match="folder of another account"):
        service_certificate._repair(
            pair, service_certificate.Permissions(owner="nobody", mode="0400"), check_mode=False
        )
    assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (0, 0o600)


def test_a_certificate_is_not_read_with_more_rights_than_its_users(host):
    (host / "private").mkdir(mode=0o700)
    for name in ("server.crt", "server.key"):
        (host / "private" / name).write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        link_of_user(host / "app" / name, host / "private" / name)
    found = service_certificate.look(
        service_certificate.Pair(certificate=f"{host}/app/server.crt", key=f"{host}/app/server.key", user="nobody")
    )
    assert found["sha256"] is None
    assert found["problems"][0] == f"nobody cannot read {host}/app/server.crt"


def test_the_state_is_not_kept_in_a_folder_that_the_user_can_replace(host):
    config = CONFIG._replace(user="nobody", state_dir=str(host / "app" / "state"))
    refused = preflight_findings.Findings(config, run=commands.run, proc_root="/proc")
    preflight_settings.check_user(refused)
    preflight_settings.check_state_dir(refused)
    assert [each["variable"] for each in refused.problems] == ["nexus_state_dir"]
    fine = preflight_findings.Findings(
        config._replace(state_dir=str(host / "state")), run=commands.run, proc_root="/proc"
    )
    preflight_settings.check_user(fine)
    preflight_settings.check_state_dir(fine)
    assert fine.problems == []


def test_the_service_cannot_choose_a_database_of_another_user(host):
    (host / "private").mkdir(mode=0o700)
    (host / "private" / "other.db").touch(mode=0o600)
    config = CONFIG._replace(
        user="nobody", app_dir=str(host / "app"), db_path="itsm.db", db_path_variable="DATABASE_PATH"
    )

    def problems(path: Path) -> list[str]:
        said = preflight_findings.Findings(config, run=commands.run, proc_root="/proc")
        preflight_settings.check_user(said)
        said.environment = {"DATABASE_PATH": str(path), "NODE_ENV": "production"}
        preflight_service.database_path(said)
        return [each["message"] for each in said.problems]

    (refused,) = problems(host / "private" / "other.db")
    assert "DATABASE_PATH" in refused and "user nobody cannot write to that file" in refused
    # Accepted paths: a file that root created in the user's folder by mistake, and paths that do not exist yet.
    (host / "app" / "roots.db").touch(mode=0o600)
    for path in (host / "app" / "none.db", host / "app" / "roots.db", host / "none" / "itsm.db"):
        assert problems(path) == []


def test_a_program_of_the_service_is_never_run_as_root(host):
    ran = []

    def run(argv, **options):
        ran.append(options.get("user"))
        return commands.Completed(argv=argv, rc=0, stdout="v20.0.0\n", stderr="", duration=0.0)

    node = host / "app" / "node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    for user in ("nobody", "nobody-of-this-name"):
        config = CONFIG._replace(user=user, app_dir=str(host / "app"), command=["node", "own"])
        asked = preflight_findings.Findings(config, run=run, proc_root="/proc")
        asked.environment = {"PATH": str(host / "app")}
        preflight_settings.check_user(asked)
        preflight_settings.check_command(asked, preflight_settings.find_programs(asked), app_dir=True)
    assert ran == ["nobody"]


def test_modules_are_not_built_into_an_application_of_another_user(host):
    other = host / "other"
    other.mkdir()
    for folder in (host / "app" / "releases", other):
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"name": "x"}')
        (folder / "package-lock.json").write_text('{"lockfileVersion": 3, "packages": {"": {}}}')
    for path in [host / "app" / "releases", *(host / "app" / "releases").iterdir()]:
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    link = link_of_user(host / "app" / "current", other)
    with pytest.raises(npm_lock.NpmError, match="link's owner"):
        npm_application.Application(app_dir=str(link), user="nobody", node="true")
    link.unlink()
    link_of_user(link, host / "app" / "releases")
    assert npm_application.Application(app_dir=str(link), user="nobody", node="true").app_dir == str(
        host / "app" / "releases"
    )


def test_evidence_is_not_written_to_a_folder_of_another_user(host):
    (host / "tmp").mkdir()
    (host / "tmp").chmod(0o1777)
    theirs = host / "tmp" / "itsm-runbook-evidence-0"
    theirs.mkdir()
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    link_of_user(host / "tmp" / "itsm-runbook-evidence-1", host)
    first, second = (triage_evidence._place_in(str(host / "tmp")) for _ in range(2))
    assert first != second and not os.path.lexists(first)
    os.mkdir(first, 0o700)
    # The second triage of an incident reuses the first triage's evidence folder.
    assert triage_evidence._place_in(str(host / "tmp")) == first


def test_no_parent_folder_is_writable_for_everybody(host):
    old = os.umask(0)
    try:
        atomic_files.private_folder(str(host / "var" / "lib" / "state"))
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((host / path).stat().st_mode) for path in ("var", "var/lib", "var/lib/state")]
    assert modes == [0o755, 0o755, 0o700]


def test_triage_reads_files_of_the_service_with_the_rights_of_its_user(host):
    planted = link_of_user(host / "app" / "package.json", host / "secret")
    with pytest.raises(PermissionError):
        triage_context.read_theirs(str(planted))
    assert collect_certificate._content(str(planted)) == (b"", f"Cannot read {planted}: Permission denied")
    os.mkfifo(host / "app" / "pipe")
    assert "not a regular file" in str(collect_certificate._content(str(host / "app" / "pipe"))[1])
