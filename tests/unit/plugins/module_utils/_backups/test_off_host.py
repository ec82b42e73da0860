# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing, off_host
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import backup_copy
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action.backup_copy import CopyError

NAME = "itsm.db.backup_20260302T010203Z"


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def packed_zeros(mebibytes: int) -> str:
    """Return packed(bytes(mebibytes << 20)), but compress only the first mebibyte.

    The other blocks are copies of this block.
    """
    compressor = zlib.compressobj()
    start = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    header, block = start[:2], start[2:]
    last_block = b"\x03\x00"
    # The Adler-32 checksum of zeros: the low half is 1, and each byte adds 1 to the high half.
    checksum = ((mebibytes << 20) % 65521 << 16 | 1).to_bytes(4, "big")
    return base64.b64encode(header + block * mebibytes + last_block + checksum).decode()


@pytest.fixture
def state(tmp_path: Path) -> Callable[..., Dict[str, Any]]:
    """Return a function that calls the module's code for a listed backup of 20,000,000 bytes."""
    data = bytes(range(256)) * 78125
    path = tmp_path / NAME
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    listing.write(str(tmp_path), [Entry("x", str(path), len(data), {}, True, None, sha256)])

    def answer(*, offset: int = -1, where: str = "", name: Optional[str] = None, check_mode: bool = False) -> Any:
        asked = str(path) if name is None else name
        more = {"user": None, "state_dir": str(tmp_path), "check_mode": check_mode}
        return off_host.answer(asked, offset=offset, where=where, **more)

    return answer


def test_a_backup_is_copied_in_parts(state: Callable[..., Dict[str, Any]], tmp_path: Path) -> None:
    known = state()
    dest = backup_copy.destination(str(tmp_path / "kept"), host="host1", path=f"/b/{NAME}")
    offsets = []

    def part(offset: int) -> str:
        offsets.append(offset)
        return str(state(offset=offset)["data"])

    backup_copy.copy(dest, size=known["size"], sha256=known["sha256"], limit=1 << 30, part=part)
    assert Path(dest).read_bytes() == (tmp_path / NAME).read_bytes()
    assert offsets == [0, off_host.PART, 2 * off_host.PART]
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(dest)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(dest)) == [NAME]
    assert backup_copy.is_copied(dest, sha256=known["sha256"])
    with pytest.raises(CopyError, match="already exists with different content"):
        backup_copy.is_copied(dest, sha256="0" * 64)


def test_the_copy_is_recorded_on_the_host(state: Callable[..., Dict[str, Any]], tmp_path: Path) -> None:
    assert state(where="controller, /x", check_mode=True)["changed"]
    assert listing.read(str(tmp_path))[0].off_host is None
    assert state(where="controller, /x")["changed"]
    assert listing.read(str(tmp_path))[0].off_host == "controller, /x"
    assert not state(where="controller, /x")["changed"]


def test_only_listed_backups_are_read(state: Callable[..., Dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="/etc/shadow is not in the backup list"):
        state(name="/etc/shadow", offset=0)
    (tmp_path / NAME).write_bytes(b"shorter")
    with pytest.raises(BackupError, match="has 7 bytes now, but it had 20000000 bytes"):
        state(offset=0)
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(BackupError, match="not a regular file"):
        state(offset=0)


@pytest.mark.parametrize(
    ("data", "size", "told"),
    [
        (packed(b"x" * 100), 99, "fewer or more bytes"),
        (packed(b""), 100, "fewer or more bytes"),
        ("not base64!", 100, "cannot be read"),
        (base64.b64encode(b"not zlib").decode(), 100, "cannot be read"),
        (packed_zeros(1024), 100, "fewer or more bytes"),
        (packed(b"y" * 100), 100, "has the SHA-256"),
        (packed(b"x" * 100), 2000, "the limit is 1000 bytes"),
        (packed(b"x" * 100), 0, "the limit is 1000 bytes"),
    ],
)
def test_a_host_cannot_send_something_else(tmp_path: Path, data: str, size: int, told: str) -> None:
    dest = str(tmp_path / "kept" / NAME)
    sha256 = hashlib.sha256(b"x" * 100).hexdigest()
    with pytest.raises(CopyError, match=told):
        backup_copy.copy(dest, size=size, sha256=sha256, limit=1000, part=lambda offset: data)
    assert not os.path.exists(tmp_path / "kept") or os.listdir(tmp_path / "kept") == []


@pytest.mark.parametrize(
    ("folder", "host", "path"),
    [
        ("kept", "host1", f"/b/{NAME}"),
        ("/kept", "../host1", f"/b/{NAME}"),
        ("/kept", "", f"/b/{NAME}"),
        ("/kept", ".ssh", f"/b/{NAME}"),
        ("/kept", "host1", "/b/authorized_keys"),
        ("/kept", "host1", f"/b/.{NAME}"),
    ],
)
def test_a_name_cannot_lead_elsewhere(folder: str, host: str, path: str) -> None:
    with pytest.raises(CopyError):
        backup_copy.destination(folder, host=host, path=path)


def test_surplus_copies_of_the_same_database_are_removed(tmp_path: Path) -> None:
    ours = [f"itsm.db.backup_2026030{day}T010203Z" for day in range(1, 6)]
    others = ["other.db.backup_20200101T010203Z", "itsm.db.backup_by_hand", "notes"]
    for name in [*ours, *others]:
        (tmp_path / name).write_text("x")
    removed = backup_copy.prune(str(tmp_path / ours[0]), keep=3)
    # The copy that was just created is kept, although the time in its name is the oldest.
    assert [os.path.basename(path) for path in removed] == ours[1:3]
    assert sorted(os.listdir(tmp_path)) == sorted([ours[0], *ours[3:], *others])
    assert backup_copy.prune(str(tmp_path / ours[0]), keep=0) == []
