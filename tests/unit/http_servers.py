# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that respond like a healthy or an unhealthy service, for tests of code that sends requests to the service."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan

Target = probe_plan.Target
GOOD = (200, b'{"status":"ok"}')
BAD = (503, b'{"status":"error"}')


class Server:
    """A real HTTP(S) server that returns the given responses in order, and repeats the last response.

    A response consists of the status code, the body in bytes, and optional headers as (name, value).
    """

    def __init__(self, *answers, context=None):
        self.answers = list(answers) or [GOOD]
        self.requests = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                owner.requests.append((self.command, self.path, dict(self.headers), body))
                answer = owner.answers.pop(0) if len(owner.answers) > 1 else owner.answers[0]
                status, content, *more = answer
                self.send_response(status)
                for name, value in more:
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_arguments):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                connected, address = super().get_request()
                if context is not None:
                    connected = context.wrap_socket(connected, server_side=True)
                return connected, address

            def handle_error(self, *_arguments):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.scheme = "http" if context is None else "https"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_arguments):
        self.server.shutdown()
        self.server.server_close()

    def target(self, name="one", *, path="/api/v1/health", host="127.0.0.1", **more):
        return Target(name=name, url=f"{self.scheme}://{host}:{self.port}{path}", **more)


@contextlib.contextmanager
def raw_server(handle):
    """Run a server in a separate thread.

    The server calls `handle` with the socket of each connection. Yield the port.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connected, _address = listener.accept()
                kept.append(connected)
                threading.Thread(target=handle, args=(connected,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    for each in (listener, *kept):
        each.close()


def silent(_connected):
    """Accept the connection and send nothing."""


def dripping(connected):
    """Keep sending one byte every 20 ms, so that none of the client's reads times out."""
    with contextlib.suppress(OSError):
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connected.sendall(b"x")
            time.sleep(0.02)


def endless(connected):
    with contextlib.suppress(OSError):
        connected.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connected.sendall(b"x" * 65536)


def not_http(connected):
    connected.sendall(b"220 mail ready\r\n")
    connected.close()


def hanging_up(connected):
    connected.recv(4096)
    connected.close()
