# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a write-ahead log and its index, read without SQLite.

Formats: "WAL-mode File Format" (https://www.sqlite.org/walformat.html) and section 4 of "Database File Format"
(https://www.sqlite.org/fileformat2.html#walformat). This code opens no database and takes no lock.
"""

from __future__ import annotations

import array
import os
import struct
import sys
import time
from types import MappingProxyType
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
_MAGIC = 0x377F0682  # the least significant bit is set if the checksums use big-endian words
_VERSION = 3007000
_MASK = 0xFFFFFFFF
_BLOCK = 2 << 20  # size in bytes of a block of frames whose checksums are computed together
# Number of pairs of words after which the sums are truncated to 32 bits. Each pair multiplies the sums by up to 2.62,
# so after more pairs, the sums could exceed 64 bits.
_PAIRS = 20


class Wal(NamedTuple):
    """The content of a -wal file.

    frames_valid: number of frames at the beginning that SQLite accepts, because their salts and checksums are correct.
    frames_committed: number of these frames up to the last commit. SQLite would recover these frames.
    torn: True if an unfinished write follows the valid frames (the writer was killed, or the power failed).
    torn_commit: True if the last frame of that write is marked as a commit. damaged: True if finished transactions
    follow the valid frames. SQLite silently ignores their frames. frames_lost: number of frames that SQLite ignores.
    foreign: True if the frames and the header are from different WALs. complete: True if the read ended before the
    deadline.
    """

    exists: bool = False
    size: int = 0
    header_valid: bool = False
    page_size: int = 0
    checkpoint_sequence: int = 0
    salts: Tuple[int, int] = (0, 0)
    frames_total: int = 0
    frames_valid: int = 0
    frames_committed: int = 0
    frames_lost: int = 0
    commits_lost: int = 0
    database_pages: int = 0
    last_frame_of_page: Mapping[int, int] = MappingProxyType({})
    first_page_one: bytes = b""
    page_one: bytes = b""
    torn: bool = False
    torn_commit: bool = False
    damaged: bool = False
    foreign: bool = False
    complete: bool = True

    def pages_pending(self, backfilled: int) -> int:
        """Return the number of pages that a checkpoint must still copy.

        backfilled: number of frames that are already in the database.
        """
        return sum(1 for frame in self.last_frame_of_page.values() if frame >= backfilled)


class WalIndex(NamedTuple):
    """The header of a -shm file.

    commits: number of transactions that were committed after the index was last rebuilt. max_frame: number of valid
    frames in the WAL. backfilled: number of frames that are already in the database. salts: the salts of the WAL.
    page_size: the size of a page in bytes.
    """

    initialised: bool
    commits: int
    max_frame: int
    backfilled: int
    salts: Tuple[int, int]
    page_size: int

    @property
    def bytes_in_use(self) -> int:
        """The size of the frames, or 0 if all of them are in the database. The next write then reuses the WAL."""
        frames = 0 if self.backfilled >= self.max_frame else self.max_frame
        return HEADER_SIZE * bool(frames) + frames * (FRAME_HEADER_SIZE + self.page_size)


def checksum(data: bytes, seed: Tuple[int, int], *, big_endian: bool) -> Tuple[int, int]:
    """Return the cumulative WAL checksum of data, starting from a seed. len(data) must be a multiple of 8."""
    words = array.array("I")
    words.frombytes(data)
    if big_endian != (sys.byteorder == "big"):
        words.byteswap()
    first, second = seed
    values = iter(words)
    for one, two in zip(values, values):
        first = (first + second + one) & _MASK
        second = (second + first + two) & _MASK
    return first, second


def frame_checksums(block: bytes, seed: Tuple[int, int], *, frame_size: int, big_endian: bool) -> List[Tuple[int, int]]:
    """Return the expected checksum of each frame in a block, assuming that the previous frame's checksum is correct.

    seed: the checksum before the first frame. Each frame contains the checksum from which the next frame starts.
    Therefore, all checksums are computed in parallel, each in its own 64 bits of a large integer. The parallel
    computation is ten times as fast as a computation word by word.
    """
    count = len(block) // frame_size
    starts = range(0, count * frame_size, frame_size)
    found = [struct.unpack_from(">II", block, start + 16) for start in starts]
    seeds = [seed, *found[:-1]]
    words = array.array("I")
    words.frombytes(block)
    if big_endian != (sys.byteorder == "big"):
        words.byteswap()
    stride = frame_size // words.itemsize
    lanes = bytearray(8 * count)
    # The lower half of each 64-bit group. The upper half stays zero.
    lower = memoryview(lanes).cast("I")[sys.byteorder == "big" :: 2]

    def number(values: memoryview) -> int:
        lower[:] = values
        return int.from_bytes(lanes, sys.byteorder)

    view = memoryview(words)
    mask = number(memoryview(array.array("I", [_MASK] * count)))
    first, second = (number(memoryview(array.array("I", each))) for each in zip(*seeds))
    # The checksum covers the page and the first eight bytes of the frame's header.
    pairs = [0, *range(FRAME_HEADER_SIZE // words.itemsize, stride, 2)]
    for done, word in enumerate(pairs, 1):
        first += second + number(view[word::stride])
        second += first + number(view[word + 1 :: stride])
        if done % _PAIRS == 0:
            first, second = first & mask, second & mask
    lists = []
    for sums in (first & mask, second & mask):
        lanes[:] = sums.to_bytes(8 * count, sys.byteorder)
        lists.append(lower.tolist())
    return list(zip(*lists))


def parse_index(data: bytes) -> Optional[WalIndex]:
    """Return the fields in the first 136 bytes of a -shm file, or None if these bytes are not a valid index."""
    if len(data) < 136 or data[:48] != data[48:96]:
        return None
    version, _unused, commits, initialised, _endian, page, max_frame = struct.unpack_from("=IIIBBHI", data, 0)
    if version != _VERSION:
        return None
    salts = struct.unpack_from(">II", data, 32)  # the salts are big-endian, as in the WAL, and other fields are native
    (backfilled,) = struct.unpack_from("=I", data, 96)
    return WalIndex(
        initialised=bool(initialised),
        commits=commits,
        max_frame=max_frame,
        backfilled=backfilled,
        salts=(salts[0], salts[1]),
        page_size=65536 if page == 1 else page,
    )


def read_wal(descriptor: int, *, deadline: Optional[float] = None, limit: Optional[int] = None) -> Wal:
    """Read the WAL from an open descriptor. Stop at the deadline (time.monotonic seconds). Raises OSError.

    limit: the number of frames that are known to be complete, or None if no process can be writing frames.
    """
    size = os.fstat(descriptor).st_size
    if size < HEADER_SIZE:
        return Wal(exists=True, size=size, torn=size > 0)
    header = os.pread(descriptor, HEADER_SIZE, 0)
    magic, version, page_size, sequence, salt1, salt2, sum1, sum2 = struct.unpack(">8I", header)
    big_endian = bool(magic & 1)
    sound = (
        magic & ~1 == _MAGIC
        and version == _VERSION
        and 512 <= page_size <= 65536
        and page_size & (page_size - 1) == 0
        and checksum(header[:24], (0, 0), big_endian=big_endian) == (sum1, sum2)
    )
    if not sound:
        # SQLite writes the complete header before the first frame, so a killed writer cannot leave frames after a
        # damaged header.
        whole = (size - HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size) if 512 <= page_size <= 65536 else 0
        beyond = size > HEADER_SIZE
        return Wal(exists=True, size=size, frames_total=whole, frames_lost=whole, damaged=beyond, torn=not beyond)

    scan = _Scan(descriptor=descriptor, size=size, page_size=page_size, salts=(salt1, salt2), big_endian=big_endian)
    whole = scan.total
    if limit is not None:
        scan.total, scan.rest = min(whole, limit), 0
    complete = scan.prefix(seed=(sum1, sum2), deadline=deadline)
    if complete and limit is None:
        complete = scan.tail(deadline=deadline)
    elif complete and scan.valid < scan.total:
        scan.damaged = True
        scan.lost = scan.total - scan.valid
    return Wal(
        exists=True,
        size=size,
        header_valid=True,
        page_size=page_size,
        checkpoint_sequence=sequence,
        salts=(salt1, salt2),
        frames_total=whole,
        frames_valid=scan.valid,
        frames_committed=scan.committed,
        frames_lost=scan.lost,
        commits_lost=scan.commits_lost,
        database_pages=scan.database_pages,
        last_frame_of_page=scan.last_frame_of_page,
        first_page_one=scan.first_page_one,
        page_one=scan.page_one,
        torn=scan.torn,
        torn_commit=scan.torn_commit,
        damaged=scan.damaged,
        foreign=scan.foreign,
        complete=complete,
    )


class _Scan:
    """One pass over the WAL frames that follow a sound header."""

    def __init__(self, *, descriptor: int, size: int, page_size: int, salts: Tuple[int, int], big_endian: bool) -> None:
        self.descriptor = descriptor
        self.salts = salts
        self.big_endian = big_endian
        self.frame_size = FRAME_HEADER_SIZE + page_size
        self.total, self.rest = divmod(size - HEADER_SIZE, self.frame_size)
        self.valid = self.committed = self.lost = self.commits_lost = self.database_pages = 0
        self.last_frame_of_page: Dict[int, int] = {}
        self.first_page_one = self.page_one = b""
        self.torn = self.torn_commit = self.damaged = self.foreign = False
        self.running: Tuple[int, int] = (0, 0)

    def _frame_at(self, index: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, HEADER_SIZE + index * self.frame_size)

    def _sum(self, frame: bytes) -> Tuple[int, int]:
        after = checksum(frame[:8], self.running, big_endian=self.big_endian)
        return checksum(frame[FRAME_HEADER_SIZE:], after, big_endian=self.big_endian)

    def prefix(self, *, seed: Tuple[int, int], deadline: Optional[float]) -> bool:
        """Read the frames that SQLite would accept. Return True if all of these frames were read in time."""
        self.running = seed
        pending: Dict[int, int] = {}
        pending_page_one = b""
        at_once = max(_BLOCK // self.frame_size, 1)
        for start in range(0, self.total, at_once):
            if deadline is not None and time.monotonic() > deadline:
                return False
            length = min(at_once, self.total - start) * self.frame_size
            block = self._frame_at(start, length)
            block = block[: len(block) // self.frame_size * self.frame_size]
            if not block:  # the file was truncated during the read
                break
            sums = frame_checksums(block, self.running, frame_size=self.frame_size, big_endian=self.big_endian)
            for index, running in enumerate(sums, start):
                at = (index - start) * self.frame_size
                page, commit, salt1, salt2, sum1, sum2 = struct.unpack_from(">6I", block, at)
                if (salt1, salt2) != self.salts or page == 0 or running != (sum1, sum2):
                    return True
                self.running = running
                self.valid = index + 1
                pending[page] = index
                if page == 1:
                    pending_page_one = block[at + FRAME_HEADER_SIZE : at + FRAME_HEADER_SIZE + 100]
                if commit:
                    self.committed = index + 1
                    self.database_pages = commit
                    self.last_frame_of_page.update(pending)
                    pending.clear()
                    self.page_one = pending_page_one
                    self.first_page_one = self.first_page_one or pending_page_one
        return True

    def tail(self, *, deadline: Optional[float]) -> bool:
        """Check the frames after the valid prefix. Return True if all of these frames were read in time."""
        if self.valid == self.total:
            self.torn = self.rest > 0
            return True
        frame = self._frame_at(self.valid, self.frame_size)
        if len(frame) < self.frame_size:
            self.torn = True
            return True
        _page, commit, salt1, salt2, sum1, sum2 = struct.unpack_from(">6I", frame)
        ours = (salt1, salt2) == self.salts
        # Checksums do not cover the salts. So if a frame with different salts continues the chain of checksums, its
        # salts are damaged.
        chained = not ours and self._sum(frame) == (sum1, sum2)
        commits = int(bool(commit) and (ours or chained))
        frames, last_is_commit = 1, bool(commits)
        for index in range(self.valid + 1, self.total):
            if deadline is not None and index % 1024 == 0 and time.monotonic() > deadline:
                return False
            head = self._frame_at(index, FRAME_HEADER_SIZE)
            if len(head) == FRAME_HEADER_SIZE:
                _page, later_commit, later1, later2 = struct.unpack_from(">4I", head)
                if (later1, later2) == self.salts:
                    frames += 1
                    commits += bool(later_commit)
                    last_is_commit = bool(later_commit)
        # If a transaction is larger than the cache, SQLite rewrites frames in place. SQLite corrects the checksums of
        # these frames after it has written the last frame. If the writer is killed before this correction, it leaves
        # frames with wrong checksums. Only the last of these frames can be a commit.
        if chained or commits > 1 or (commits == 1 and not last_is_commit):
            self.damaged = True
            self.lost, self.commits_lost = frames, commits
        elif ours or frames > 1:
            self.torn = True
            self.torn_commit = commits > 0
        elif self.valid == 0 and salt1 != (self.salts[0] - 1) & _MASK:
            # When SQLite restarts a WAL, it increases the salt by one. Old frames with the previous salt do not
            # indicate damage.
            self.foreign = True
            self.lost = self.total
        return True
