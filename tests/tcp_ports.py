# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TCP ports for servers that a test starts later, and for servers that never start.

If a socket binds to port 0, the kernel chooses a port from its range for outgoing connections. Until the server starts,
any outgoing connection on the machine can use this port. Therefore, the ports in this module are below the range. Each
pytest-xdist worker has its own ports.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

FIRST, PORTS = 20_000, 12_000


def _numbers() -> Iterator[int]:
    """Yield the ports of this worker in an endless cycle. The first port depends on the process ID."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = PORTS // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    begin = os.getpid() % share
    while True:
        for step in range(share):
            yield FIRST + worker * share + (begin + step) % share


_NUMBERS = _numbers()


def free_port() -> int:
    """Return a port on 127.0.0.1 on which no process listens. The next calls in this worker return other ports."""
    for port in _NUMBERS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("the ports never end")
