# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import time
from pathlib import Path

import pytest
from sqlite_samples import closed, crashed, flip, frame_offset, new_salts, patch

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.wal import Wal


def read(path: str) -> Wal:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return sqlite_wal.read_wal(descriptor)
    finally:
        os.close(descriptor)


def look(path: str) -> sqlite_files.Look:
    found = file_survey.look(path)
    file_survey.read_wal(found, live=False)
    return found


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_a_complete_wal_of_every_page_size(tmp_path: Path, page_size: int) -> None:
    path = str(tmp_path / "db")
    crashed(path, page_size=page_size)
    wal = read(f"{path}-wal")
    assert wal.header_valid
    assert wal.page_size == page_size
    assert wal.frames_total == wal.frames_valid == wal.frames_committed > 0
    assert not (wal.torn or wal.damaged or wal.foreign)
    # Compare with the frame and page counts that SQLite itself reports.
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA page_count").fetchone()[0] == wal.database_pages
    _busy, frames, _copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.close()
    assert frames == wal.frames_committed


@pytest.mark.parametrize(
    ("where", "part", "expected"),
    [
        # frame, offset in that frame, expected: number of frames that SQLite keeps, torn, damaged
        (5, 24 + 100, (5, False, True)),
        (5, 16, (5, False, True)),
        (5, 8, (5, False, True)),
        (5, 0, (5, False, True)),
        (0, 24, (0, False, True)),
        (-1, 24 + 100, (-1, True, False)),
        (-1, 12, (-1, False, True)),
    ],
)
def test_a_flipped_byte(tmp_path: Path, where: int, part: int, expected: tuple[int, bool, bool]) -> None:
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    total = read(path).frames_total
    flip(path, frame_offset(where % total) + part)
    wal = read(path)
    kept, torn, damaged = expected
    assert (wal.frames_valid, wal.torn, wal.damaged) == (kept % total, torn, damaged)
    assert wal.frames_lost == (total - wal.frames_valid if damaged else 0)
    # SQLite's own recovery stops at the same frame.
    connection = sqlite3.connect(str(tmp_path / "db"))
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] == wal.frames_committed
    connection.close()


def _swap_checksums(path: str) -> None:
    """Replace the checksums in the WAL with the checksums that a machine with the opposite byte order would write."""
    data = bytearray(Path(path).read_bytes())
    data[3] ^= 1
    big_endian = bool(data[3] & 1)
    size = 24 + struct.unpack_from(">I", data, 8)[0]
    sums = sqlite_wal.checksum(bytes(data[:24]), (0, 0), big_endian=big_endian)
    struct.pack_into(">II", data, 24, *sums)
    for start in range(32, len(data), size):
        sums = sqlite_wal.checksum(bytes(data[start : start + 8]), sums, big_endian=big_endian)
        sums = sqlite_wal.checksum(bytes(data[start + 24 : start + size]), sums, big_endian=big_endian)
        struct.pack_into(">II", data, start + 16, *sums)
    Path(path).write_bytes(data)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_checksums_of_the_other_byte_order(tmp_path: Path, page_size: int) -> None:
    path = str(tmp_path / "db")
    crashed(path, page_size=page_size)
    total = read(f"{path}-wal").frames_total
    _swap_checksums(f"{path}-wal")
    wal = read(f"{path}-wal")
    assert wal.frames_total == wal.frames_valid == wal.frames_committed == total
    flip(f"{path}-wal", frame_offset(5, page_size=page_size) + 24 + 100)
    assert read(f"{path}-wal").frames_valid == 5


@pytest.mark.parametrize("at", [0, 1, 510, 511, 512, 700])
def test_a_flipped_byte_in_a_long_wal(tmp_path: Path, at: int) -> None:
    """The checksums of many frames are computed together, but only frames before the first damaged frame are valid."""
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"), in_wal=900, page_size=4096)
    flip(path, frame_offset(at) + 24 + 4000)
    assert read(path).frames_valid == at


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_largest_words_do_not_overflow(page_size: int, big_endian: bool) -> None:
    frame = b"\xff" * (24 + page_size)
    seed = (0xFFFFFFFF, 0xFFFFFFFF)
    one = sqlite_wal.checksum(frame[:8], seed, big_endian=big_endian)
    one = sqlite_wal.checksum(frame[24:], one, big_endian=big_endian)
    sums = sqlite_wal.frame_checksums(frame * 3, seed, frame_size=len(frame), big_endian=big_endian)
    assert sums == [one] * 3  # All frames have the same checksum.


def test_an_unfinished_transaction_does_not_count(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    connection = sqlite3.connect(f"{path}.live", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA cache_size=5")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?)", [("x" * 2000,)] * 200)  # More pages than the cache can hold.
    shutil.copy(f"{path}.live-wal", path)
    connection.execute("ROLLBACK")
    connection.close()
    wal = read(path)
    assert wal.frames_committed == 2
    assert wal.frames_valid == wal.frames_total > wal.frames_committed
    assert not (wal.torn or wal.damaged)


def test_remains_of_an_older_generation_are_not_damage(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    for _ in range(20):
        connection.execute("INSERT INTO t VALUES (randomblob(3000))")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (1)")
    found = look(path)
    wal = found.wal
    connection.close()
    assert wal.checkpoint_sequence == 1
    assert 0 < wal.frames_valid == wal.frames_committed < wal.frames_total
    assert not (wal.torn or wal.damaged or wal.foreign)


def test_a_restarted_header_without_a_frame_is_not_damage(tmp_path: Path) -> None:
    """Write a new header without a frame.

    Such a header exists if a writer is killed after a checkpoint of all frames.
    """
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    with open(path, "r+b") as stream:
        header = stream.read(24)
        salt1, _salt2 = struct.unpack_from(">II", header, 16)
        header = header[:16] + struct.pack(">II", (salt1 + 1) & 0xFFFFFFFF, 99)
        sums = sqlite_wal.checksum(header, (0, 0), big_endian=bool(header[3] & 1))
        stream.seek(0)
        stream.write(header + struct.pack(">II", *sums))
    wal = read(path)
    assert wal.header_valid
    assert wal.frames_valid == 0
    assert not (wal.torn or wal.damaged or wal.foreign)


def test_other_salts_in_the_header(tmp_path: Path) -> None:
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    new_salts(path)
    wal = read(path)
    assert wal.foreign
    assert wal.frames_lost == wal.frames_total > 0


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 20, 24, 28])
def test_a_damaged_header(tmp_path: Path, offset: int) -> None:
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    flip(path, offset)
    wal = read(path)
    assert not wal.header_valid
    assert wal.damaged
    assert wal.frames_committed == 0


@pytest.mark.parametrize(("cut", "torn"), [(1, True), (4096, True), (24 + 4096, False), (10 * (24 + 4096), False)])
def test_a_truncated_wal(tmp_path: Path, cut: int, torn: bool) -> None:
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    os.truncate(path, os.path.getsize(path) - cut)
    wal = read(path)
    assert wal.torn is torn
    assert not wal.damaged


def test_less_than_a_header(tmp_path: Path) -> None:
    path = tmp_path / "db-wal"
    path.write_bytes(b"\x37\x7f")
    assert read(str(path)).torn
    path.write_bytes(b"")
    assert read(str(path)) == Wal(exists=True)


def test_the_index_lists_the_frames_already_copied(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("INSERT INTO t VALUES (1)")
    before = file_survey.wal_as_dict(look(path))
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    after = file_survey.wal_as_dict(look(path))
    connection.close()
    assert (before["frames_backfilled"], before["pages_pending"]) == (0, 2)
    assert (after["frames_backfilled"], after["pages_pending"]) == (3, 0)
    assert after["size"] > 0  # The WAL is not empty, but all of its frames are in the database.


def test_an_index_of_another_wal_is_ignored(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    crashed(path, shm=True)
    patch(f"{path}-shm", 96, struct.pack("=I", 9))
    assert look(path).backfilled == 9
    for copy in (32, 80):
        patch(f"{path}-shm", copy, b"\0\0\0\1")
    assert look(path).backfilled == 0


def test_the_newest_header_is_in_the_wal(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    closed(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA user_version=42")
    header = look(path).newest_header
    connection.close()
    assert header is not None
    assert header.user_version == 42


def test_the_deadline_ends_the_read(tmp_path: Path) -> None:
    path = str(tmp_path / "db-wal")
    crashed(str(tmp_path / "db"))
    descriptor = os.open(path, os.O_RDONLY)
    wal = sqlite_wal.read_wal(descriptor, deadline=time.monotonic() - 1)
    os.close(descriptor)
    assert not wal.complete
