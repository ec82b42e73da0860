# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of certificates and private keys, and the replacement of an invalid certificate."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from alarms import alarm

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import key_pair
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import certificate as service_certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.certificate import (
    CertificateError,
    Pair,
    Permissions,
)

MAKE = Path(__file__).resolve().parents[5] / "demo" / "certificate"
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """Create certificates with their private keys: two valid, one expired, one not yet valid. Return their folders."""
    folders = {}
    for name, dates in {
        "valid": [],
        "another": [],
        "expired": ["3 days ago", "1 day ago"],
        "early": ["tomorrow", "next week"],
    }.items():
        folders[name] = tmp_path_factory.mktemp(name)
        subprocess.run([MAKE, folders[name], *dates], check=True)
    return folders


@pytest.fixture
def pair(tmp_path, made) -> Pair:
    """Return an expired certificate with its private key. Tests can change both files."""
    shutil.copytree(made["expired"], tmp_path / "tls")
    return Pair(certificate=str(tmp_path / "tls" / "server.crt"), key=str(tmp_path / "tls" / "server.key"))


def exchange_after_look(monkeypatch, path, *, by):
    """Make `by` replace a file after our code has opened it, but before OpenSSL opens the file at the same path."""
    opened = safe_open.open_file

    def then_exchange(asked, *arguments, **options):
        descriptor = opened(asked, *arguments, **options)
        if os.fspath(asked) == str(path) and os.path.lexists(path):
            os.unlink(path)
            by(path)
        return descriptor

    monkeypatch.setattr(safe_open, "open_file", then_exchange)


def of(folder: Path) -> Pair:
    return Pair(certificate=str(folder / "server.crt"), key=str(folder / "server.key"))


def renewing(pair: Pair, source: Path) -> list[str]:
    return ["cp", str(source / "server.crt"), str(source / "server.key"), os.path.dirname(pair.certificate)]


def test_a_valid_pair_is_unchanged(made, tmp_path):
    result = service_certificate.ensure(of(made["valid"]), command=["touch", str(tmp_path / "ran")])
    assert (result["changed"], result["valid"], result["problems"]) == (False, True, [])
    assert result["subject"] == "CN=localhost"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "said"), [("expired", "expired on 20"), ("early", "is not valid before 20")])
def test_a_certificate_outside_its_validity_is_reported(made, name, said):
    result = service_certificate.ensure(of(made[name]))
    assert (result["changed"], result["valid"]) == (False, False)
    assert len(result["problems"]) == 1
    assert said in result["problems"][0]


def test_the_certificate_is_renewed_and_verified(pair, made):
    command = renewing(pair, made["valid"])
    told = service_certificate.ensure(pair, command=command, check_mode=True)
    assert (told["changed"], told["valid"], told["renewed"], told["command_rc"]) == (True, False, True, None)
    result = service_certificate.ensure(pair, command=command)
    assert (result["changed"], result["valid"], result["renewed"], result["command_rc"]) == (True, True, True, 0)
    assert "problem: " in result["diff"]["before"]
    assert "problem: " not in result["diff"]["after"]
    assert service_certificate.ensure(pair, command=command)["changed"] is False


def test_a_renewal_with_another_key_is_an_error(pair, made):
    result = service_certificate.ensure(pair, command=["cp", str(made["valid"] / "server.crt"), pair.certificate])
    assert (result["changed"], result["valid"]) == (True, False)
    assert result["problems"] == [f"the private key {pair.key} does not match the certificate {pair.certificate}"]


@pytest.mark.parametrize("command", [["true"], ["sh", "-c", "exit 3"], ["sleep", "30"]])
def test_a_command_that_renews_nothing_is_an_error(pair, command):
    result = service_certificate.ensure(pair, command=command, timeout=0.2)
    assert (result["changed"], result["valid"], result["renewed"]) == (False, False, False)
    assert result["command_rc"] == {"true": 0, "sh": 3, "sleep": None}[command[0]]


def test_output_of_the_command_is_limited_and_contains_no_secret(pair):
    result = service_certificate.ensure(pair, command=["sh", "-c", "seq 10000; echo API_TOKEN=CANARY-1234567 >&2"])
    assert len(result["output"]) <= 600
    assert result["output"].endswith("API_TOKEN=[redacted]")


def test_the_command_does_not_inherit_our_environment(pair, monkeypatch):
    monkeypatch.setenv("OURS", "CANARY")
    assert "CANARY" not in service_certificate.ensure(pair, command=["env"])["output"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda crt, key: crt.unlink(), "the certificate {crt} cannot be read: No such file or directory"),
        (
            lambda crt, key: crt.write_text("x"),
            "the certificate {crt} cannot be used: it contains no certificate in PEM format",
        ),
        (lambda crt, key: key.unlink(), "the private key {key} cannot be read: No such file or directory"),
        (lambda crt, key: key.write_text("x"), "the private key {key} cannot be used: "),
        (lambda crt, key: (key.unlink(), os.mkfifo(key)), "the private key {key} cannot be read: "),
    ],
)
def test_an_unusable_certificate_is_reported(tmp_path, made, spoil, said):
    shutil.copytree(made["valid"], tmp_path / "tls")
    pair = of(tmp_path / "tls")
    spoil(Path(pair.certificate), Path(pair.key))
    (problem,) = service_certificate.ensure(pair)["problems"]
    assert problem.startswith(said.format(crt=pair.certificate, key=pair.key))


def test_a_key_with_a_passphrase_cannot_be_used(tmp_path, made):
    shutil.copytree(made["valid"], tmp_path / "tls")
    pair = of(tmp_path / "tls")
    command = ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", pair.key, "-out", f"{pair.key}.new"]
    subprocess.run(command, check=True)
    os.replace(f"{pair.key}.new", pair.key)
    assert service_certificate.ensure(pair)["problems"] == [
        f"the private key {pair.key} cannot be used: it needs a passphrase"
    ]


def test_a_certificate_that_only_root_may_read_is_not_read(closed):
    """The service's environment may contain any path, so root must not reveal a file that the user cannot read."""
    os.chmod(closed.certificate, 0o600)
    result = service_certificate.ensure(closed)
    assert (result["subject"], result["not_after"]) == (None, None)
    assert result["problems"] == [f"nobody cannot read {closed.certificate}"]
    # The result is the same with and without a key in this folder.
    os.chmod(os.path.dirname(closed.certificate), 0o700)
    for path in ("server.crt", "none.crt"):
        named = closed._replace(certificate=str(Path(closed.certificate).with_name(path)), key="")
        assert service_certificate.ensure(named)["problems"] == [f"nobody cannot read {named.certificate}"]


def test_reading_has_a_time_limit(made, monkeypatch):
    monkeypatch.setattr(safe_open, "read", lambda *_, **__: signal.pause())
    monkeypatch.setattr(service_certificate, "_READ_TIMEOUT", 0.2)
    pair = of(made["valid"])
    with alarm(5):
        problems = service_certificate.look(pair)["problems"]
    assert problems == [f"the certificate {pair.certificate} cannot be read: timed out"]


# Private key permissions


@pytest.fixture
def closed(made):
    """Yield a valid certificate with a private key that the service's user cannot read."""
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of a file")
    with tempfile.TemporaryDirectory() as base:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(base, 0o755)  # noqa: S103
        shutil.copytree(made["valid"], f"{base}/tls")
        os.chmod(f"{base}/tls", 0o755)  # noqa: S103
        for name in ("server.crt", "server.key"):
            os.chown(f"{base}/tls/{name}", 0, 0)
        yield Pair(certificate=f"{base}/tls/server.crt", key=f"{base}/tls/server.key", user="nobody")


def test_permissions_of_an_unreadable_key_are_changed_only_if_asked(closed):
    left = service_certificate.ensure(closed)
    assert (left["changed"], left["problems"]) == (False, [f"nobody cannot read {closed.key}"])
    wanted = Permissions(owner="nobody", mode="0400")
    told = service_certificate.ensure(closed, permissions=wanted, command=["false"], check_mode=True)
    assert (told["changed"], told["repaired"], told["renewed"]) == (True, True, False)
    assert os.stat(closed.key).st_uid == 0
    result = service_certificate.ensure(closed, permissions=wanted, command=["false"])
    assert (result["repaired"], result["valid"], result["command_rc"]) == (True, True, None)
    status = os.stat(closed.key)
    assert (status.st_uid, status.st_mode & 0o777) == (pwd.getpwnam("nobody").pw_uid, 0o400)
    assert service_certificate.ensure(closed, permissions=wanted)["changed"] is False


@pytest.mark.parametrize("spoil", ["link", "second name", "no key"])
def test_only_the_permissions_of_the_key_change(closed, spoil):
    key = Path(closed.key)
    if spoil == "link":
        key.rename(f"{key}.real")
        key.symlink_to(f"{key}.real")
    elif spoil == "second name":
        os.link(key, f"{key}.other")
    else:
        key.write_text("root:x:0:0\n")
        key.chmod(0o600)
    with pytest.raises(CertificateError, match="key_path: "):
        service_certificate.ensure(closed, permissions=Permissions(owner="nobody"))
    assert key.stat().st_uid == 0


@pytest.mark.parametrize("spoil", ["gone", "no key"])
def test_a_renewed_key_gets_its_permissions(closed, made, spoil):
    key = Path(closed.key)
    key.unlink() if spoil == "gone" else key.write_text("")
    wanted = Permissions(owner="nobody", mode="0400")
    told = service_certificate.ensure(closed, permissions=wanted, command=["false"], check_mode=True)
    assert (told["changed"], told["renewed"]) == (True, True)
    result = service_certificate.ensure(closed, permissions=wanted, command=renewing(closed, made["another"]))
    assert (result["renewed"], result["repaired"], result["valid"]) == (True, True, True)
    assert key.stat().st_uid == pwd.getpwnam("nobody").pw_uid


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"permissions": Permissions(owner="no-such-user")}, "key_owner: there is no user 'no-such-user'"),
        ({"permissions": Permissions(group="no-such-group")}, "key_group: there is no group 'no-such-group'"),
        ({"permissions": Permissions(mode="0644")}, "key_mode is '0644': must be octal digits"),
        ({"permissions": Permissions(mode="0660")}, "key_mode is '0660'"),
        ({"permissions": Permissions(mode="u=r")}, "key_mode is 'u=r'"),
        ({"permissions": Permissions(mode="4600")}, "key_mode is '4600'"),
        ({"command": ["no-such-program"]}, "command: Cannot run 'no-such-program'"),
        ({"timeout": 0}, "timeout is 0: must be more than 0 seconds"),
    ],
)
def test_invalid_parameters(pair, changes, message):
    with pytest.raises(CertificateError) as caught:
        service_certificate.ensure(pair, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Pair(certificate="server.crt"), "cert_path is 'server.crt': must be an absolute path"),
        (Pair(certificate="/x.crt", key="server.key"), "key_path is 'server.key': must be an absolute path"),
    ],
)
def test_paths_are_absolute(wrong, message):
    with pytest.raises(CertificateError) as caught:
        service_certificate.ensure(wrong)
    assert message in str(caught.value)


def test_the_key_in_the_same_folder_is_the_key_of_the_certificate(pair, made):
    shutil.copy(made["valid"] / "server.crt", pair.certificate)
    result = service_certificate.ensure(Pair(certificate=pair.certificate))
    assert result["problems"] == [f"the private key {pair.key} does not match the certificate {pair.certificate}"]


def test_permissions_need_a_key(pair):
    os.unlink(pair.key)
    with pytest.raises(CertificateError, match="key_path: must be set if"):
        service_certificate.ensure(Pair(certificate=pair.certificate), permissions=Permissions(owner=ME))


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_a_file_that_becomes_a_fifo_after_the_check_delays_nothing(made, tmp_path, monkeypatch, name):
    folder = tmp_path / "tls"
    shutil.copytree(made["valid"], folder)
    pair = of(folder)
    exchange_after_look(monkeypatch, getattr(pair, name), by=os.mkfifo)
    with alarm(5):
        found = service_certificate.look(pair)
    # The opened file is checked. The FIFO that replaced the file is never opened.
    assert found["problems"] == []


def test_a_key_that_is_replaced_after_the_check_is_not_read(made, tmp_path, monkeypatch):
    folder = tmp_path / "tls"
    shutil.copytree(made["valid"], folder)
    pair = of(folder)
    exchange_after_look(monkeypatch, pair.key, by=lambda path: shutil.copy(made["another"] / "server.key", path))
    assert service_certificate.look(pair)["problems"] == []


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_a_file_that_is_too_large_is_not_read(made, tmp_path, name):
    folder = tmp_path / "tls"
    shutil.copytree(made["valid"], folder)
    pair = of(folder)
    path = getattr(pair, name)
    os.truncate(path, 1 << 30)
    named = {"key": "private key"}.get(name, name)
    problems = service_certificate.look(pair)["problems"]
    assert f"the {named} {path} cannot be read: it has more than 1048576 bytes" in problems


def test_openssl_has_a_time_limit(made, monkeypatch):
    pair = of(made["valid"])
    monkeypatch.setattr(key_pair, "_load", lambda *_: signal.pause())
    monkeypatch.setattr(key_pair, "_TIMEOUT", 0.2)
    with alarm(5):
        problems = service_certificate.look(pair)["problems"]
    assert problems == [f"the private key {pair.key} cannot be used: OpenSSL timed out after 0.2 s"]


def test_a_kernel_that_does_not_support_files_in_memory(made, monkeypatch):
    monkeypatch.setattr(os, "memfd_create", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert service_certificate.look(of(made["valid"]))["problems"] == []
