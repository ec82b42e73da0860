# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decompress a log that the service's user may have written, within limits for bytes, memory and time.

Some files make Python's gzip module run for a long time without returning any text: for example, a file with millions
of empty members, many zeros between members, or an endless file name. Such a file can be sparse, so it needs almost no
disk space. This code therefore decompresses small pieces, and checks the limits before each piece.
"""

from __future__ import annotations

import errno
import os
import time
import zlib
from typing import IO, Iterator

# Number of bytes to read at once. At the end of each member, the rest of the piece is copied, so large pieces would be
# slow.
_PIECE = 1 << 14
# Maximum number of bytes to return at once.
_CHUNK = 1 << 18
# The `wbits` value for zlib: a gzip header and trailer, and the largest window.
_GZIP = 16 + zlib.MAX_WBITS
_END_MISSING = "Compressed file ended before the end-of-stream marker was reached"


def unpacked(stream: IO[bytes], *, most_packed: int, deadline: float) -> Iterator[bytes]:
    """Yield the decompressed data of a gzip file, in chunks of at most 256 KiB.

    The caller limits the number of decompressed bytes. most_packed: maximum number of compressed bytes to read.
    deadline: the time at which reading stops, in time.monotonic seconds. Raises TimeoutError at the deadline, and
    OSError if the file is damaged or has more compressed bytes.
    """
    unpacker = zlib.decompressobj(_GZIP)
    data, left = b"", most_packed
    between = True  # True between two members. Zeros are allowed there.
    try:
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            ended = False
            if not data:
                data = stream.read(_PIECE)
                ended = not data
                left -= len(data)
                if left < 0:
                    raise OSError(errno.EFBIG, f"it has more than {most_packed} compressed bytes")
            if between:
                data = data.lstrip(b"\0")
                if ended:
                    return
                if not data:
                    continue
                between = False
            # zlib may hold back output from the last piece, so it is called even if there is no more data.
            chunk = unpacker.decompress(data, _CHUNK)
            data = unpacker.unconsumed_tail
            if chunk:
                yield chunk
            if unpacker.eof:
                data, between = unpacker.unused_data, True
                unpacker = zlib.decompressobj(_GZIP)
            elif ended and not chunk:
                raise OSError(errno.EIO, _END_MISSING)
    except zlib.error as error:
        raise OSError(errno.EIO, str(error)) from error
