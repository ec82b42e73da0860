# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's ports, the ports that use HTTPS, the path of the health request, and the proxies."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Target

HEALTH_PATH = "/api/v1/health"
_OTHER_HEALTH_PATHS = ("/api/health", "/health", "/healthz")
_TIMEOUT = 3.0
_MOST_PORTS = 6
_LIMITED, _UNAVAILABLE = 429, 503
_EVERYWHERE = ("0.0.0.0", "::", "127.0.0.1", "::1")  # noqa: S104 - addresses that localhost reaches

PROXIES: Tuple[Tuple[str, str], ...] = (
    ("nginx", "/etc/nginx"),
    ("Apache", "/etc/apache2"),
    ("Apache", "/etc/httpd"),
    ("Caddy", "/etc/caddy"),
    ("HAProxy", "/etc/haproxy"),
)
_MOST_FILES = 500
_LARGEST = 1 << 20


class Port(NamedTuple):
    """A listening port of the service. scheme: https, http, or an empty string if neither answered.

    local: True if the port can be reached on localhost. status, word: the response to the health request (HTTP status,
    and `status` in its JSON body).
    """

    number: int
    scheme: str
    local: bool
    status: Optional[int] = None
    word: Optional[str] = None


class Proxy(NamedTuple):
    """A place in a proxy's configuration that contains one of the service's ports. The line's text is not returned."""

    program: str
    path: str
    line: int
    port: int


def listening(pids: Iterable[int], *, proc_root: str) -> Dict[int, bool]:
    """Return the ports on which these processes listen. Each value is True if the port can be reached on localhost.

    Raises HostError.
    """
    ours = set(pids)
    found: Dict[int, bool] = {}
    for listener in sockets.listeners(range(1, 65536), proc_root=proc_root):
        if ours & set(listener.pids):
            found[listener.port] = found.get(listener.port, False) or listener.address in _EVERYWHERE
    return found


def _ask(scheme: str, port: int, path: str) -> Tuple[Optional[int], Optional[str]]:
    answer = http_probe.ask(Target("port", f"{scheme}://localhost:{port}{path}"), timeout=_TIMEOUT)
    return answer["status"], answer["word"]


def ports(numbers: Dict[int, bool], *, tls_first: Set[int]) -> List[Port]:
    """Send the health request to each port, over HTTPS and HTTP. tls_first: the ports on which HTTPS is likely."""
    found = []
    for number, local in sorted(numbers.items())[:_MOST_PORTS]:
        port = Port(number, "", local)
        for scheme in ("https", "http") if number in tls_first else ("http", "https"):
            status, word = _ask(scheme, number, HEALTH_PATH)
            if status is not None:
                port = Port(number, scheme, local, status, word)
                break
        found.append(port)
    return found


def health_path(port: Port) -> Optional[Tuple[str, Optional[str]]]:
    """Return the path of the health request and `status` in its response, or None if no usual path works.

    If the response is 429 (too many requests) or 503 (unhealthy), the path exists, but `status` is unknown (None).
    """
    if port.status in (_LIMITED, _UNAVAILABLE):
        return HEALTH_PATH, None
    if port.status == 200 and port.word:
        return HEALTH_PATH, port.word
    for path in _OTHER_HEALTH_PATHS:
        status, word = _ask(port.scheme, port.number, path)
        if status == 200 and word:
            return path, word
    return None


def ready_path(port: Port, health: str) -> Optional[str]:
    """Return the path of the readiness endpoint below the health path, "" if there is none, or None if unknown."""
    path = f"{health.rstrip('/')}/ready"
    status, _word = _ask(port.scheme, port.number, path)
    if status is None or status == _LIMITED:
        return None
    return path if status < 300 or status >= 500 else ""


def _files(folder: str) -> List[str]:
    found: List[str] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.join(parent, name) for name in sorted(names)]
        if len(found) > _MOST_FILES:
            break
    return found[:_MOST_FILES]


def proxies(wanted: Sequence[int], *, root: str = "") -> List[Proxy]:
    """Search the configuration files of known proxies for these ports.

    Return one line per file: the first line that contains one of these ports. root: set only in tests.
    """
    if not wanted:
        return []
    pattern = re.compile(
        rf"(?:localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0|\*|[\w.-]+):({'|'.join(map(str, wanted))})(?!\d)"
    )
    found: Dict[Tuple[str, str], Proxy] = {}
    seen: Set[str] = set()
    for program, folder in PROXIES:
        for path in _files(f"{root}{folder}"):
            real = os.path.realpath(path)
            with contextlib.suppress(OSError):
                text = safe_open.read(path, limit=_LARGEST).decode("utf-8", "replace")
                for number, line in enumerate(text.splitlines(), 1):
                    match = pattern.search(line.partition("#")[0])
                    # sites-enabled contains links to the files in sites-available.
                    if match and real not in seen:
                        seen.add(real)
                        found[program, path] = Proxy(program, path, number, int(match.group(1)))
                        break
    return list(found.values())


def family(main: procfs.Process, group: str, *, proc_root: str) -> List[procfs.Process]:
    """Return the service's processes: the main one, its descendants and the processes in its control group."""
    found = {main.pid: main}
    everyone = list(procfs.processes(proc_root=proc_root))
    for process in sorted(everyone, key=lambda each: each.start_ticks):
        inside = group and any(
            name == group or name.startswith(f"{group}/")
            for name in procfs.control_groups(process.pid, proc_root=proc_root)
        )
        if process.alive and (process.ppid in found or inside):
            found[process.pid] = process
    return list(found.values())
