# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ssl
import subprocess
import threading
import time

import pytest
from http_servers import Server, dripping, endless, hanging_up, not_http, raw_server, silent
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan

Target = probe_plan.Target


def ask_once(target, *, timeout=2.0, ok_statuses=("ok",)):
    (endpoint,) = http_probe.probe([target], timeout=timeout, ok_statuses=ok_statuses)
    return endpoint


# Certificates created with openssl


def openssl(*arguments, cwd):
    return subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return TLS contexts for servers, by kind of certificate, and the folder that contains their files.

    The kind "elsewhere" is a certificate that was issued for another host name.
    """
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=own\n[own]\nnew_certs_dir=.\ndatabase=index.txt\nrand_serial=yes\ndefault_md=sha256\n"
        "policy=any\ncopy_extensions=copy\nunique_subject=no\n[any]\norganizationName=optional\ncommonName=supplied\n"
    )
    (folder / "index.txt").touch()
    contexts = {}
    for name, host, first, last in (
        ("good", "localhost", "20250101000000Z", "20601231235959Z"),
        ("expired", "localhost", "20250101000000Z", "20250102030405Z"),
        ("elsewhere", "elsewhere.example", "20250101000000Z", "20601231235959Z"),
    ):
        openssl(
            *f"req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr".split(),
            *("-subj", f"/O=ITSM Über/CN={host}", "-utf8", "-addext", f"subjectAltName=DNS:{host}"),
            cwd=folder,
        )
        openssl(
            *f"ca -batch -config ca.cnf -selfsign -keyfile {name}.key -in {name}.csr -out {name}.pem -notext".split(),
            *("-utf8", "-startdate", first, "-enddate", last),
            cwd=folder,
        )
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return contexts, folder


def test_certificate_is_reported_as_openssl_shows_it_without_verification(certificates):
    contexts, folder = certificates
    with Server(context=contexts["good"]) as server:
        endpoint = ask_once(server.target())
    assert endpoint["ok"]
    told = openssl("x509", "-in", "good.pem", "-noout", "-enddate", "-dateopt", "iso_8601", cwd=folder)
    assert told.strip() == f"notAfter={endpoint['certificate']['not_after'][:19].replace('T', ' ')}Z"
    assert endpoint["certificate"] == {
        "not_after": "2060-12-31T23:59:59.000Z",
        "subject": "O=ITSM Über, CN=localhost",
        "expired": False,
    }


def test_expired_certificate_is_reported_but_accepted_without_verification(certificates):
    with Server(context=certificates[0]["expired"]) as server:
        endpoint = ask_once(server.target())
    assert endpoint["ok"]
    assert endpoint["certificate"]["expired"] is True
    assert endpoint["certificate"]["not_after"] == "2025-01-02T03:04:05.000Z"


def test_verified_certificate(certificates):
    contexts, folder = certificates
    with Server(context=contexts["good"]) as server:
        ca_path = str(folder / "good.pem")
        assert ask_once(server.target(host="localhost", validate_certs=True, ca_path=ca_path))["ok"]


@pytest.mark.parametrize(
    ("kind", "ca", "said"),
    [
        ("good", "", "certificate not trusted: self"),
        ("expired", "expired.pem", "certificate not trusted: certificate has expired"),
        ("elsewhere", "elsewhere.pem", "certificate not trusted: Hostname mismatch"),
    ],
)
def test_certificate_that_fails_verification_is_reported(certificates, kind, ca, said):
    contexts, folder = certificates
    with Server(context=contexts[kind]) as server:
        ca_path = str(folder / ca) if ca else ""
        endpoint = ask_once(server.target(host="localhost", validate_certs=True, ca_path=ca_path))
    assert not endpoint["ok"] and endpoint["status"] is None
    assert endpoint["error"].startswith(said)
    assert endpoint["certificate"]["expired"] is (kind == "expired")


# One request


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, b'{"status":"ok"}'), None),
        ((200, b'{"status":"OK","uptime":1}'), None),
        ((429, b"slow down"), None),
        ((200, b'{"status":"error"}'), "answered 200 with status 'error' instead of ok"),
        ((200, b'{"status":1}'), 'answered 200 with JSON that has no "status"'),
        ((200, b"[]"), 'answered 200 with JSON that has no "status"'),
        ((200, b"<html>"), "answered 200 with a body that is not JSON"),
        ((200, b""), "answered 200 with a body that is not JSON"),
        ((200, b"\xff\xfe"), "answered 200 with a body that is not JSON"),
        ((200, b"[" * 60000), "answered 200 with a body that is not JSON"),
        ((503, b'{"status":"ok"}'), "answered 503 instead of 200"),
        ((302, b"", ("Location", "/login")), "answered 302 instead of 200"),
        ((204, b""), "answered 204 instead of 200"),
    ],
)
def test_answer(answer, error):
    with Server(answer) as server:
        endpoint = ask_once(server.target())
    assert (endpoint["ok"], endpoint["status"], endpoint["error"]) == (error is None, answer[0], error)
    assert 0 < endpoint["latency_ms"] < 2000
    assert endpoint["certificate"] is None


def test_words_for_a_good_status_are_configurable():
    with Server((200, b'{"status":"Healthy"}')) as server:
        assert ask_once(server.target(), ok_statuses=["up", "HEALTHY"])["ok"]


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (silent, "no response within 0.4 s"),
        (dripping, "no response within 0.4 s"),
        (not_http, "response is not HTTP: BadStatusLine"),
        (hanging_up, "connection lost: RemoteDisconnected"),
        (endless, "answered 200 with a body that is not JSON"),
    ],
)
def test_misbehaving_server(handle, error):
    with raw_server(handle) as port:
        begun = time.monotonic()
        endpoint = ask_once(Target(name="one", url=f"http://127.0.0.1:{port}/"), timeout=0.4)
        assert time.monotonic() - begun < 0.8
    assert (endpoint["ok"], endpoint["error"]) == (False, error)
    assert endpoint["silent"] is error.startswith("no response")


def test_handshake_that_never_ends_has_a_time_limit():
    with raw_server(silent) as port:
        begun = time.monotonic()
        endpoint = ask_once(Target(name="one", url=f"https://127.0.0.1:{port}/"), timeout=0.3)
        assert time.monotonic() - begun < 0.7
    assert (endpoint["error"], endpoint["silent"]) == ("no response within 0.3 s", True)


def test_plain_http_on_the_tls_port_is_reported():
    with Server() as server:
        endpoint = ask_once(Target(name="one", url=f"https://127.0.0.1:{server.port}/"))
    assert endpoint["error"].startswith("TLS error: ")


def test_nothing_listens():
    endpoint = ask_once(Target(name="one", url=f"http://127.0.0.1:{free_port()}/"))
    assert endpoint["error"] == "connection refused (nothing listens there)"


def test_unknown_host_name():
    endpoint = ask_once(Target(name="one", url="http://no-such-host.invalid/"))
    assert endpoint["error"].startswith("cannot connect: ") or endpoint["error"].startswith("no response")


def test_no_thread_is_left_behind():
    with raw_server(dripping) as port:
        ask_once(Target(name="one", url=f"http://127.0.0.1:{port}/"), timeout=0.2)
        deadline = time.monotonic() + 2
        while any("_Request" in str(thread._target) for thread in threading.enumerate() if hasattr(thread, "_target")):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_all_endpoints_are_probed_in_parallel():
    with raw_server(silent) as first, raw_server(silent) as second, Server() as third:
        targets = [Target(name=str(port), url=f"http://127.0.0.1:{port}/") for port in (first, second)]
        begun = time.monotonic()
        endpoints = http_probe.probe([*targets, third.target()], timeout=0.5, ok_statuses=["ok"])
        assert time.monotonic() - begun < 0.9
    assert [endpoint["ok"] for endpoint in endpoints] == [False, False, True]
    assert endpoints[2]["latency_ms"] < 400  # The latency does not include the response times of other endpoints.


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with Server() as server:
        assert ask_once(server.target())["ok"]


def test_request_as_the_server_sees_it():
    with Server() as server:
        ask_once(server.target(path="/health?deep=1"))
        ((method, path, headers, _body),) = server.requests
    assert (method, path, headers["Host"]) == ("GET", "/health?deep=1", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, b'{"status":"UP"}'), {"status": 200, "word": "UP"}),
        ((404, b"<html>"), {"status": 404, "word": None}),
        ((200, b'{"status":7}'), {"status": 200, "word": None}),
        ((200, b"[]"), {"status": 200, "word": None}),
    ],
)
def test_one_request_returns_the_status_and_the_word(answer, expected):
    with Server(answer) as server:
        assert http_probe.ask(server.target(), timeout=2.0) == expected
    assert http_probe.ask(Target("x", f"http://localhost:{free_port()}/"), timeout=2.0)["status"] is None
