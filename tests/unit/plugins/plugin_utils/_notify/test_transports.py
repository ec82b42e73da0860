# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Message delivery to real servers that accept or reject messages, or do not respond."""

from __future__ import annotations

import base64
import json
import subprocess
import time

import pytest
from receivers import MailServer, Receiver, authority

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports

SECRET_PATH = "/services/T000/B000/verysecretpath"


@pytest.fixture(scope="session")
def certified(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    return authority(folder), str(folder / "ca.pem")


@pytest.fixture
def serve():
    servers = []

    def start(kind, *args, **options):
        servers.append(kind(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def deliver(send, **limits):
    return transports.deliver(send, **{"timeout": 10.0, "retries": 2, "delay": 0.0, **limits})


def post(receiver, **options):
    return deliver(
        lambda: transports.post(
            **{"url": receiver.url + SECRET_PATH, "body": {"text": "落ちた"}, "timeout": 5.0, **options}
        )
    )


# Delivery attempts.


def test_waits_between_attempts_and_only_there():
    waits = []

    def fail():
        raise transports.DeliveryError("busy", passing=True)

    went = transports.deliver(fail, timeout=5, retries=2, delay=7.0, sleep=waits.append)
    assert (went.ok, went.attempts, went.error, waits) == (False, 3, "busy", [7.0, 7.0])


def test_errors_of_a_library_are_not_quoted():
    def fail():
        raise KeyError("verysecretpath")

    went = deliver(fail)
    assert (went.ok, went.attempts, went.error) == (False, 1, "it failed (KeyError)")


# JSON.


def test_json_arrives_unchanged(serve):
    receiver = serve(Receiver)
    went = post(receiver, body={"text": '落ちた "x" \n {{ 7*7 }}'})
    (request,) = receiver.requests
    assert (went.ok, went.attempts, went.error) == (True, 1, "")
    assert json.loads(request.body) == {"text": '落ちた "x" \n {{ 7*7 }}'}
    assert request.path == SECRET_PATH
    assert request.headers["content-type"] == "application/json"
    assert "webhook-signature" not in request.headers


@pytest.mark.parametrize(
    ("answers", "attempts", "error"),
    [
        ([503, 200], 2, ""),
        ([429, 500, 202], 3, ""),
        ([500], 3, "answered 500 Internal Server Error"),
        ([404], 1, "answered 404 Not Found"),
        ([400], 1, "answered 400 Bad Request"),
        ([302, 200], 1, "answered 302 Found"),
    ],
)
def test_temporary_errors_are_retried_and_a_rejection_is_final(serve, answers, attempts, error):
    receiver = serve(Receiver, answers)
    went = post(receiver)
    assert (went.ok, went.attempts, went.error) == (not error, attempts, error)
    assert [request.path for request in receiver.requests] == [SECRET_PATH] * attempts


def test_no_answer_ends_at_the_timeout(serve):
    receiver = serve(Receiver, [None])
    went = deliver(lambda: transports.post(url=receiver.url, body={}, timeout=60.0), timeout=0.3, retries=1)
    assert (went.ok, went.attempts, went.error) == (False, 2, "no response within 0.3 s")


def test_no_server_listens():
    receiver = Receiver()
    receiver.close()
    went = post(receiver)
    assert (went.ok, went.attempts, went.error) == (False, 3, "cannot be reached: Connection refused")


def test_certificates_are_verified(serve, certified):
    context, ca_path = certified
    receiver = serve(Receiver, context=context)
    refused = post(receiver)
    assert (refused.ok, refused.attempts, receiver.requests) == (False, 1, [])
    assert refused.error.startswith("its certificate is not trusted")
    assert post(receiver, ca_path=ca_path).ok
    wrong_name = post(receiver, ca_path=ca_path, url=receiver.url.replace("127.0.0.1", "localhost"))
    assert not wrong_name.ok
    assert "Hostname mismatch" in wrong_name.error


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/verysecretpath",
        "https://user:verysecretpath@hooks.example.com/",
        "https://hooks.example.com/very\nsecretpath",
        "https://[hooks/verysecretpath",
        "https://hooks.example.com:port/verysecretpath",
        "file:///etc/passwd?verysecretpath",
        "verysecretpath",
    ],
)
def test_invalid_urls_are_refused_unquoted(url):
    went = deliver(lambda: transports.post(url=url, body={}, timeout=1.0))
    assert (went.ok, went.attempts) == (False, 1)
    assert went.error.startswith("its URL ")
    assert "secretpath" not in went.error


def test_headers_and_method_are_those_of_the_settings(serve):
    receiver = serve(Receiver)
    headers = {"Authorization": "Bearer x", "content-type": "application/problem+json", "Webhook-Id": "forged"}
    assert post(receiver, method="PUT", headers=headers, secret="s" * 24, message_id="INC-1/leader").ok
    (request,) = receiver.requests
    assert request.method == "PUT"
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["content-type"] == "application/problem+json"
    assert request.headers["webhook-id"] == "INC-1/leader"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X-Token": "verysecret\r\nHost: evil"}, "its header X-Token has an invalid value"),
        ({"X-Token": "verysecretü"}, "its header X-Token has an invalid value"),
        ({"X-Token": 7}, "its header X-Token has an invalid value"),
        ({"verysecret: x": "y"}, "one of its headers has an invalid name"),
        ({"": "y"}, "one of its headers has an invalid name"),
    ],
)
def test_invalid_headers_are_refused_unquoted(serve, headers, error):
    receiver = serve(Receiver)
    went = post(receiver, headers=headers)
    assert (went.ok, went.attempts, receiver.requests) == (False, 1, [])
    assert went.error.startswith(error)
    assert "verysecret" not in went.error


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("a plain secret of some length", b"a plain secret of some length"),
        ("whsec_" + base64.b64encode(bytes(range(32))).decode(), bytes(range(32))),
    ],
)
def test_signature_is_what_openssl_computes_over_the_raw_body(serve, tmp_path, secret, key):
    receiver = serve(Receiver, [500, 200])
    moments = iter([1000, 1007])
    assert post(receiver, secret=secret, message_id="INC-1/leader", clock=lambda: next(moments)).ok
    for request, moment in zip(receiver.requests, ("1000", "1007")):
        signed = tmp_path / "signed"
        signed.write_bytes(f"INC-1/leader.{moment}.".encode() + request.body)
        digest = subprocess.run(
            ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", signed],
            check=True,
            capture_output=True,
        ).stdout
        assert request.headers["webhook-id"] == "INC-1/leader"
        assert request.headers["webhook-timestamp"] == moment
        assert request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


# Mail.


def send(server, *, to=("leader@example.com",), subject="Down", security="none", ca_path=None, **login):
    return deliver(
        lambda: transports.mail(
            transports.compose(
                sender="runbook@example.com",
                to=list(to),
                subject=subject,
                text="落ちた\n.\nfrom now on",
                message_id="INC-1/leader",
                thread="INC-1",
            ),
            server=transports.Server(host="127.0.0.1", port=server.port, security=security, **login),
            timeout=5.0,
            ca_path=ca_path,
        )
    )


def test_mail_arrives(serve):
    server = serve(MailServer)
    assert send(server, to=["leader@example.com", "DBA <dba@example.com>"], subject="停止: nexus").ok
    (mail,) = server.mails
    assert mail["Subject"] == "停止: nexus"
    assert mail["From"] == "runbook@example.com"
    assert mail["To"] == "leader@example.com, DBA <dba@example.com>"
    assert mail["Message-ID"] == "<INC-1-leader@example.com>"
    assert mail["References"] == "<INC-1@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime
    assert mail.get_content().split() == ["落ちた", ".", "from", "now", "on"]
    assert server.recipients == [["leader@example.com", "dba@example.com"]]


def test_no_header_contains_a_line_break(serve):
    server = serve(MailServer)
    assert send(server, subject="Down\r\nBcc: evil@example.com\r\n\r\nForged\x00text\u2028x").ok
    (mail,) = server.mails
    assert mail["Subject"] == "Down Bcc: evil@example.com Forged text x"
    assert "Bcc" not in mail
    assert server.recipients == [["leader@example.com"]]


def test_a_recipient_with_a_line_break_is_refused(serve):
    server = serve(MailServer)
    went = send(server, to=["leader@example.com\r\nBcc: evil@example.com"])
    assert (went.ok, went.attempts, server.mails) == (False, 1, [])


def test_mail_is_protected_by_a_verified_certificate(serve, certified):
    context, ca_path = certified
    server = serve(MailServer, login=("runbook", "mail-password"), context=context)
    account = {"username": "runbook", "password": "mail-password"}
    refused = send(server, security="starttls", **account)
    assert refused.error.startswith("its certificate is not trusted")
    assert (refused.ok, refused.attempts, server.logins) == (False, 1, [])
    assert send(server, security="starttls", ca_path=ca_path, **account).ok
    assert len(server.mails) == 1
    wrong = send(server, security="starttls", ca_path=ca_path, username="runbook", password="another-password")
    assert (wrong.ok, wrong.error, wrong.attempts) == (False, "refused the login (535)", 1)


def test_missing_starttls_is_an_error(serve):
    server = serve(MailServer)
    went = send(server, security="starttls")
    assert (went.ok, went.error) == (False, "does not support STARTTLS or the login")
    assert server.mails == []


def test_a_password_is_not_sent_unprotected():
    went = deliver(
        lambda: transports.mail(
            transports.compose(sender="a@b.c", to=["d@e.f"], subject="s", text="t", message_id="m", thread="i"),
            server=transports.Server(
                host="mail.example.invalid", port=25, security="none", username="u", password="mail-password"
            ),
            timeout=1.0,
        )
    )
    assert (went.ok, went.error) == (False, "its password would be sent unprotected")


@pytest.mark.parametrize(("answer", "attempts"), [("451 later", 3), ("550 nobody of that name", 1)])
def test_answer_of_a_mail_server_decides_about_another_attempt(serve, answer, attempts):
    server = serve(MailServer, refuse={"leader@example.com": answer})
    went = send(server)
    assert (went.ok, went.attempts) == (False, attempts)
    assert went.error == f"refused all recipients ({answer[:3]})"


def test_refused_recipients_are_reported_and_the_others_get_it_once(serve):
    server = serve(MailServer, refuse={"gone@example.com": "550 gone"})
    went = send(server, to=["leader@example.com", "gone@example.com"])
    assert (went.ok, went.attempts) == (False, 1)
    assert went.error == "refused 1 of the recipients and accepted the others"
    assert len(server.mails) == 1


# Commands.


def test_command_reads_the_message_without_a_shell(tmp_path):
    copy = tmp_path / "$(id) ; *"
    went = deliver(lambda: transports.command(["tee", str(copy)], stdin="落ちた $(id)\n".encode(), timeout=5.0))
    assert went.ok
    assert copy.read_text(encoding="utf-8") == "落ちた $(id)\n"


def test_command_gets_only_its_own_tokens(tmp_path, monkeypatch):
    for name in ("ITSM_NEXUS_GITHUB_TOKEN", "GITHUB_TOKEN", "PAGER_TOKEN"):
        monkeypatch.setenv(name, f"secret of {name}")
    transports.command(["sh", "-c", f"env > {tmp_path}/environment"], stdin=b"", timeout=5)
    environment = (tmp_path / "environment").read_text()
    assert "GITHUB" not in environment and "PAGER_TOKEN=secret of PAGER_TOKEN" in environment


def test_a_command_may_ignore_its_input():
    assert deliver(lambda: transports.command(["true"], stdin=b"x" * 1_000_000, timeout=5.0)).ok


@pytest.mark.parametrize(
    ("argv", "attempts", "error"),
    [
        (["sh", "-c", "echo secret >&2; exit 3"], 3, "exited with code 3"),
        (["/nonexistent/ring"], 1, "did not start: No such file or directory"),
    ],
)
def test_command_that_fails(argv, attempts, error):
    went = deliver(lambda: transports.command(argv, stdin=b"", timeout=5.0))
    assert (went.ok, went.attempts, went.error) == (False, attempts, error)


def test_hanging_command_is_killed_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {pid}; wait"
    went = deliver(lambda: transports.command(["sh", "-c", script], stdin=b"", timeout=0.5), retries=0)
    assert (went.ok, went.error) == (False, "was killed after 0.5 s")
    deadline = time.monotonic() + 10
    while subprocess.run(["kill", "-0", pid.read_text().strip()], check=False, capture_output=True).returncode == 0:
        state = subprocess.run(["ps", "-o", "stat=", "-p", pid.read_text().strip()], check=False, capture_output=True)
        if state.stdout.startswith(b"Z"):
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
