# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alarm for an armed controller.

On an armed controller, a run that has already started waits for the alarm and then recovers the service.

The alarm is an HTTP request to a Unix socket, so curl can send it: curl --unix-socket PATH --request POST
http://alarm/. The waiting run accepts the alarm only if it is going to recover the service. If no run accepts the
alarm, the sender starts a recovery itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import os
import socket
import socketserver
import stat
import struct
import time
from typing import Any, Callable, Iterator, Optional

# All in seconds: the interval at which the waiting run checks whether it is still needed, and the time limits for a
# request.
_CHECK = 0.2
_REQUEST = 2.0
_ANSWER = 2.0


class AlarmError(Exception):
    """The socket cannot be used. The message contains the path."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Accepts a POST request as the alarm. Other requests only check that a run is waiting."""

    server: _Server
    timeout = _REQUEST

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer(200, "waiting for an alarm\n")

    def do_POST(self) -> None:
        if not self.server.needed():
            self._answer(503, "the run that waited for the alarm has ended\n")
            return
        self.server.alarmed = True
        self._answer(202, "the recovery starts\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""


class _Server(socketserver.UnixStreamServer):
    def __init__(self, path: str, *, needed: Callable[[], bool]) -> None:
        self.alarmed = False
        self.needed = needed
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has disconnected."""


@contextlib.contextmanager
def _reserved(path: str) -> Iterator[None]:
    """Make sure that only this process uses the path and that no file with this path exists. Raises AlarmError."""
    folder = os.path.dirname(path)
    if not os.path.isabs(path):
        raise AlarmError(f"alarm: {path!r} must be an absolute path")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.stat(folder)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise AlarmError(f"alarm: only this user may own {folder} and write to it")
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AlarmError(f"alarm: {path} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlarmError(f"alarm: another run is waiting at {path}") from None
        # The socket of a killed run still exists.
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise AlarmError(f"alarm: {path} exists, but is not a socket")
            os.unlink(path)
        yield
    finally:
        os.close(lock)


def wait(path: str, *, timeout: float, needed: Callable[[], bool]) -> Optional[bool]:
    """Wait for the alarm at a path.

    timeout: in seconds. needed: returns False as soon as an alarm would have no effect. Returns True after the alarm,
    False after the timeout, and None if the wait is no longer needed. Raises AlarmError.
    """
    until = time.monotonic() + timeout
    with _reserved(path):
        try:
            with _umask(0o177):
                server = _Server(path, needed=needed)
        except OSError as error:
            raise AlarmError(f"alarm: {path} cannot be used: {error.strerror or error}") from error
        with server:
            try:
                while not server.alarmed:
                    left = until - time.monotonic()
                    if not needed():
                        return None
                    if left <= 0:
                        return False
                    server.timeout = min(_CHECK, left)
                    server.handle_request()
            finally:
                # From now on, a sender finds no socket and starts a recovery itself.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    return True


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("alarm", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        # If another user could answer, that user could suppress a recovery. For the format of the credentials, see
        # unix(7).
        _pid, user, _group = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user not in (0, os.geteuid()):
            raise PermissionError(f"{self._path} belongs to another user")


def ring(path: str, *, timeout: float = _ANSWER) -> bool:
    """Send the alarm. Return True if a waiting run is now going to recover the service. timeout: in seconds."""
    connection = _Connection(path, timeout=timeout)
    try:
        connection.request("POST", "/", body=b"")
        return connection.getresponse().status == http.HTTPStatus.ACCEPTED
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
