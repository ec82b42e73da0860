# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compressed logs from a hostile service user are read within limits on bytes, memory and time."""

from __future__ import annotations

import gzip
import io
import os
import time
import tracemalloc
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    compressed_log,
    log_files,
    log_patterns,
    request_log,
)

MIB = 1 << 20
LINE = b"2026-03-02T01:01:00Z GET /x 200\n"


def header(flags: int) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags, 0, 0, 0, 0, 0, 0xFF])


EMPTY = gzip.compress(b"", mtime=0)
# Each function returns the start of a file and the size of the file. The rest of the file is zeros. If the data were
# constants, it would be in the memory of every test process and would slow down each fork.
HOSTILE = {
    "empty members": lambda: (EMPTY * 1_000_000, 0),
    "zeros after a member": lambda: (gzip.compress(LINE), 1 << 40),
    "a file name without an end": lambda: (header(8) + b"a" * (64 * MIB), 0),
    "a comment without an end": lambda: (header(16) + b"a" * (64 * MIB), 0),
    "many extra fields": lambda: ((header(4) + b"\xff\xff" + bytes(65535) + b"\x03\0" + bytes(8)) * 1000, 0),
    "blocks without data": lambda: (header(0) + b"\0\0\0\xff\xff" * 10_000_000, 0),
    "no line ends": lambda: (gzip.compress(bytes(256 * MIB), 1), 0),
    "only line ends": lambda: (gzip.compress(b"\n" * (100 * MIB), 1), 0),
    "lines that never match": lambda: (gzip.compress((b"GET " * 480 + b"\n") * 30_000, 1), 0),
}


def lay(path: Path, form: str) -> Path:
    data, size = HOSTILE[form]()
    path.write_bytes(data)
    if size:
        os.truncate(path, size)
    return path


def unpacked(data: bytes, *, most_packed: int = MIB, seconds: float = 5.0) -> bytes:
    deadline = time.monotonic() + seconds
    return b"".join(compressed_log.unpacked(io.BytesIO(data), most_packed=most_packed, deadline=deadline))


@pytest.mark.parametrize("form", HOSTILE)
def test_counting_requests_ends_in_time(tmp_path, form):
    path = lay(tmp_path / "access.log.1.gz", form)
    tracemalloc.start()
    begun = time.monotonic()
    try:
        request_log.count(request_log.Places(patterns=[str(path)]), begun=0.0, over=time.time(), deadline=begun + 0.3)
    except request_log.RequestLogError as error:
        assert error.told.id in {f"reason.impact.log_{why}" for why in ("late", "unread", "large", "empty")}
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - begun < 1.0
    assert used < 32 * MIB


@pytest.mark.parametrize("form", HOSTILE)
def test_the_end_of_a_log_is_read_in_time(tmp_path, form):
    path = lay(tmp_path / "access.log.1.gz", form)
    begun = time.monotonic()
    try:
        log_patterns.tail(str(path), limit=512 * 1024, deadline=begun + 0.3)
    except OSError as error:
        assert error.strerror
    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    "data", [b"", EMPTY, LINE, LINE * 100_000, os.urandom(700_000), bytes(3 * MIB)], ids=lambda data: str(len(data))
)
def test_the_data_is_like_that_of_the_gzip_module(data):
    packed = gzip.compress(data)
    assert unpacked(packed, most_packed=4 * MIB) == data
    assert unpacked(packed + bytes(100_000) + EMPTY + packed + b"\0", most_packed=4 * MIB) == data * 2


def test_an_empty_file_has_no_data():
    assert unpacked(b"") == b""


def test_chunks_are_small():
    chunks = compressed_log.unpacked(
        io.BytesIO(gzip.compress(bytes(64 * MIB))), most_packed=MIB, deadline=time.monotonic() + 60
    )
    assert max(map(len, chunks)) <= 1 << 18


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(LINE)[:-1], "ended before"),
        (gzip.compress(LINE)[:5], "ended before"),
        (gzip.compress(LINE * 1000)[:-20], "ended before"),
        (gzip.compress(LINE)[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(LINE) + b"x" * 20, "incorrect header check"),
        (b"no gzip", "incorrect header check"),
        (gzip.compress(os.urandom(2 * MIB)), "more than 1048576 compressed bytes"),
    ],
    ids=("trailer", "header", "data", "checksum", "garbage", "no gzip", "large"),
)
def test_damaged_and_too_large_files_are_reported(data, why):
    with pytest.raises(OSError, match=why):
        unpacked(data)


def test_the_deadline_is_kept():
    with pytest.raises(TimeoutError):
        unpacked(gzip.compress(LINE), seconds=-1)


def test_many_logs_are_merged_until_the_deadline():
    found = request_log._Count(begun=0.0, over=time.time(), deadline=time.monotonic() + 60)
    for name in ("a", "b"):
        found.add([(LINE.decode(), None)], source=f"/{name}.log", place=name)
    found.deadline = time.monotonic() - 1
    with pytest.raises(request_log.RequestLogError, match=r"reading /b\.log took too long"):
        found.counted()


def test_many_files_are_listed_until_the_deadline(tmp_path):
    (tmp_path / "a.log").write_bytes(LINE)
    patterns = [str(tmp_path / "*.log")]
    assert len(log_files.find("", patterns, user="")) == 1
    with pytest.raises(TimeoutError):
        log_files.find("", patterns, user="", deadline=time.monotonic() - 1)
    with pytest.raises(request_log.RequestLogError, match="took too long"):
        request_log.count(
            request_log.Places(patterns=patterns), begun=0.0, over=time.time(), deadline=time.monotonic() - 1
        )
