# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fake /proc."""

from __future__ import annotations

import os

import pytest


class FakeProc:
    """A fake /proc folder for states that tests cannot reliably reproduce with real processes."""

    def __init__(self, root):
        self.root = root
        (root / "net").mkdir(parents=True)
        self.sockets("tcp", [])

    def process(self, pid, *, comm="node", argv=(), exe="/usr/bin/node", cwd="/app", uid=990, state="S", ticks=100):
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        fields = [state, "1", *["0"] * 17, str(ticks), "0", "0"]
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
        (folder / "status").write_text(f"Name:\t{comm}\nUid:\t0\t{uid}\t0\t0\n")
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))
        for name, target in (("exe", exe), ("cwd", cwd)):
            if target:
                (folder / name).symlink_to(target)
        return folder

    def sockets(self, name, lines):
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        rows = [
            f"   {at}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 100 0\n"
            for at, (local, remote, state, uid, inode) in enumerate(lines)
        ]
        (self.root / "net" / name).write_text(head + "".join(rows))


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path / "proc")
