# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's ports: the scheme, the health path and the proxies in front of each port."""

from __future__ import annotations

import os
import ssl
import subprocess

import pytest
from http_servers import Server
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import network
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.network import Port


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout k -out c"
    subprocess.run(argv.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c", folder / "k")
    return context


@pytest.mark.parametrize("likely", [True, False])
def test_the_scheme_of_a_port_is_found_by_a_request(tls, likely):
    with Server(context=tls) as secure, Server() as plain:
        numbers = {secure.port: True, plain.port: False}
        found = network.ports(numbers, tls_first={secure.port} if likely else set())
        assert sorted(found) == sorted(
            [Port(secure.port, "https", True, 200, "ok"), Port(plain.port, "http", False, 200, "ok")]
        )


def test_a_port_that_speaks_no_http_has_no_scheme():
    port = free_port()
    assert network.ports({port: True}, tls_first=set()) == [Port(port, "", True)]


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        (200, "OK", ("/api/v1/health", "OK")),
        (429, None, ("/api/v1/health", None)),
        (503, "error", ("/api/v1/health", None)),
    ],
)
def test_the_usual_health_path(status, word, expected):
    assert network.health_path(Port(1, "http", True, status, word)) == expected


@pytest.mark.parametrize(
    ("answers", "path"),
    [
        ([(200, b"{}")], "/health/ready"),
        ([(503, b'{"status":"error"}')], "/health/ready"),
        ([(404, b"{}")], ""),
        ([(429, b"{}")], None),
    ],
)
def test_the_ready_endpoint(answers, path):
    with Server(*answers) as server:
        assert network.ready_path(Port(server.port, "http", True, 200), "/health") == path


def test_another_health_path_is_searched():
    with Server((404, b"{}"), (200, b"<html>"), (200, b'{"status":"UP"}')) as server:
        assert network.health_path(Port(server.port, "http", True, 404)) == ("/healthz", "UP")
        assert [request[1] for request in server.requests] == ["/api/health", "/health", "/healthz"]
    with Server((404, b"{}")) as server:
        assert network.health_path(Port(server.port, "http", True, 404)) is None


def test_a_proxy_is_found_by_the_port_in_its_configuration(tmp_path):
    for name, text in {
        "nginx/sites-available/itsm": "server {\n  # proxy_pass http://localhost:6443;\n  proxy_pass https://127.0.0.1:6443;\n}\n",
        "nginx/nginx.conf": "listen 64430;\nproxy_pass http://127.0.0.1:64431;\n",
        "haproxy/haproxy.cfg": "server one app.example.com:8080 check\n",
        "caddy/Caddyfile": "reverse_proxy 127.0.0.1:9000\n",
    }.items():
        path = tmp_path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "etc/nginx/sites-enabled").mkdir()
    os.symlink("../sites-available/itsm", tmp_path / "etc/nginx/sites-enabled/itsm")
    found = network.proxies([6443, 8080], root=str(tmp_path))
    assert [(each.program, each.line, each.port) for each in found] == [("nginx", 3, 6443), ("HAProxy", 1, 8080)]
    assert network.proxies([], root=str(tmp_path)) == []
