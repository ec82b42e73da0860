# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write an image: a copy of a damaged database with its WAL applied."""

from __future__ import annotations

import os
import struct
from typing import Dict, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look

COMMITTED, BEYOND, ALONE = "committed", "beyond", "alone"


class Owner(NamedTuple):
    """The account that owns the database."""

    uid: int
    gid: int


def make_image(found: Look, target: str, *, owner: Owner, reading: str = COMMITTED) -> None:
    """Write the database, with its WAL applied, to a new file. Copy a hot journal next to the new file. Raises OSError.

    reading: the part of the WAL to use. COMMITTED is the part of the WAL that SQLite reads. BEYOND also uses the
    damaged frame and all later frames with correct checksums. ALONE ignores the WAL.
    """
    with open(target, "xb") as image:
        if "database" in found.files:
            for chunk in sqlite_files.chunks_of(found.files["database"], handed=True):
                image.write(chunk)
            image.flush()
        if reading != ALONE and found.wal.header_valid:
            _lay_over(image.fileno(), found, beyond=reading == BEYOND)
        if os.geteuid() == 0:
            os.fchown(image.fileno(), owner.uid, owner.gid)
        os.fchmod(image.fileno(), 0o600)
    if found.hot_journal:
        with open(f"{target}-journal", "xb") as writer:
            if os.geteuid() == 0:
                os.fchown(writer.fileno(), owner.uid, owner.gid)
            for chunk in sqlite_files.chunks_of(found.files["journal"], handed=True):
                writer.write(chunk)


def _lay_over(image: int, found: Look, *, beyond: bool) -> None:
    wal = found.wal
    frames, pages = dict(wal.last_frame_of_page), wal.database_pages
    size = sqlite_wal.FRAME_HEADER_SIZE + wal.page_size
    descriptor = sqlite_files.open_found(found.files["wal"], handed=True)
    try:
        if beyond:
            later, last = _frames_beyond(descriptor, wal)
            frames.update(later)
            pages = last or pages
        for page, frame in frames.items():
            offset = sqlite_wal.HEADER_SIZE + frame * size + sqlite_wal.FRAME_HEADER_SIZE
            os.pwrite(image, os.pread(descriptor, wal.page_size, offset), (page - 1) * wal.page_size)
    finally:
        os.close(descriptor)
    if pages:
        os.ftruncate(image, pages * wal.page_size)


def _frames_beyond(descriptor: int, wal: sqlite_wal.Wal) -> Tuple[Dict[int, int], int]:
    """Return {page: newest frame} from the damaged frame to the last commit, and the database size after that commit.

    The size is in pages. The checksums form a chain: each checksum is computed from the checksum in the preceding
    frame. Therefore, the chain can continue after a damaged frame. The damaged frame is also used, because most of its
    bytes are the newest content of the page.
    """
    size = sqlite_wal.FRAME_HEADER_SIZE + wal.page_size
    header = os.pread(descriptor, 4, 0)
    big_endian = bool(header[3] & 1)
    found: Dict[int, int] = {}
    pending: Dict[int, int] = {}
    pages = 0
    link: Optional[Tuple[int, int]] = None
    for index in range(wal.frames_valid, wal.frames_total):
        frame = os.pread(descriptor, size, sqlite_wal.HEADER_SIZE + index * size)
        page, commit, salt1, salt2, sum1, sum2 = struct.unpack_from(">6I", frame)
        if index > wal.frames_valid:
            if (salt1, salt2) != wal.salts or page == 0:
                link = None
                continue
            after = sqlite_wal.checksum(frame[:8], link or (0, 0), big_endian=big_endian)
            sound = sqlite_wal.checksum(frame[24:], after, big_endian=big_endian) == (sum1, sum2)
            link = (sum1, sum2)
            if not sound:
                continue
        elif page == 0 or page > wal.frames_total + max(wal.database_pages, 1 << 20):
            link = (sum1, sum2)
            continue
        link = (sum1, sum2)
        pending[page] = index
        if commit:
            found.update(pending)
            pending.clear()
            pages = commit
    return found, pages
