# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets


def listen(family, address):
    server = socket.socket(family)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.startswith("::ffff")))
    server.bind((address, 0))
    server.listen()
    return server, server.getsockname()[1]


@pytest.mark.parametrize(
    ("family", "address", "told"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0"),  # noqa: S104
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_real_listeners(family, address, told):
    server, port = listen(family, address)
    with server:
        # Another process may be listening on the same port number at another address.
        (found,) = (each for each in sockets.listeners([port, 0]) if os.getpid() in each.pids)
        assert (found.port, found.address, found.pids, found.uid) == (port, told, [os.getpid()], os.geteuid())
    assert not any(os.getpid() in each.pids for each in sockets.listeners([port]))


def test_clients_of_a_port_are_not_listeners():
    server, port = listen(socket.AF_INET, "127.0.0.1")
    script = (
        f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); time.sleep(60)"
    )
    with server, subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as client:
        try:
            client.stdout.readline()
            assert [found.pids for found in sockets.listeners([port])] == [[os.getpid()]]
        finally:
            client.kill()


def test_all_processes_of_a_shared_socket_are_named():
    server, port = listen(socket.AF_INET, "127.0.0.1")
    with server, subprocess.Popen(["sleep", "60"], pass_fds=[server.fileno()]) as child:
        try:
            assert [found.pids for found in sockets.listeners([port])] == [sorted([os.getpid(), child.pid])]
        finally:
            child.kill()


def test_only_listening_sockets_count_and_their_processes_may_be_hidden(proc):
    port = f"{6443:04X}"
    proc.sockets(
        "tcp",
        [
            (f"0100007F:{port}", "00000000:0000", "0A", 990, 11),
            (f"0100007F:{port}", "0100007F:9999", "01", 990, 12),
            ("0100007F:9999", f"0100007F:{port}", "01", 990, 13),
            (f"0100007F:{port}", "0100007F:9999", "06", 0, 0),
        ],
    )
    found = sockets.listeners([6443], proc_root=str(proc.root))
    assert found == [sockets.Listener(port=6443, address="127.0.0.1", inode=11, pids=[], uid=990)]


def test_a_missing_proc_is_an_error(tmp_path):
    with pytest.raises(procfs.HostError, match="Cannot read the listening sockets"):
        sockets.listeners([1], proc_root=str(tmp_path))


def test_the_connections_of_a_busy_host_are_not_read(proc):
    listening = [(f"0100007F:{port:04X}", "00000000:0000", "0A", 990, port) for port in range(6000, 6600)]
    unreadable = [("0100007F:1", "0100007F:2", "01", 990, 12), ("a connection", "is not read", "0A", 990, 13)]
    proc.sockets("tcp", [*listening, *unreadable])
    found = sockets.listeners(range(1, 65536), proc_root=str(proc.root))
    assert [each.port for each in found] == [*range(6000, 6600)]


def test_an_unfinished_search_leaves_the_listener_without_a_process(monkeypatch):
    server, port = listen(socket.AF_INET, "127.0.0.1")
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 1)
    with server:
        assert [each.pids for each in sockets.listeners([port])] == [[]]


def test_in_a_process_the_search_ends_at_the_last_wanted_socket(monkeypatch):
    server, port = listen(socket.AF_INET, "127.0.0.1")
    read = []
    readlink = os.readlink

    def counted(path):
        if path.startswith(f"/proc/{os.getpid()}/fd/"):
            read.append(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", counted)
    with server, contextlib.ExitStack() as stack:
        for _file in range(100):
            stack.enter_context(open(os.devnull))
        assert [each.pids for each in sockets.listeners([port])] == [[os.getpid()]]
    assert 0 < len(read) < 100


def test_too_many_listening_sockets_are_an_error(proc, monkeypatch):
    monkeypatch.setattr(sockets, "_MOST_LISTENERS", 10)
    proc.sockets("tcp", [("0100007F:1", "00000000:0000", "0A", 990, number) for number in range(11)])
    with pytest.raises(procfs.HostError, match="more than 10 listening sockets"):
        sockets.listeners([6443], proc_root=str(proc.root))
