# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the log files of the service: a log with a fixed name, logs that match patterns, and their rotated files."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import time
from typing import IO, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

# The suffix of compressed files that log readers can read.
COMPRESSED = ".gz"
# To read the end of a file: the maximum number of bytes to decompress, and of compressed bytes to read.
_MOST_BYTES = 32 << 20
_ANY_COMPRESSED = lazy(r"(?:\.(?:gz|xz|bz2|zst|Z))+$")
_TIME = lazy(r"\d[\dTZ:_.-]*")


class LogFile(NamedTuple):
    """A log file: its path, its last change (seconds since the epoch), and the folder and name of its series.

    rights: the account that must be used to open the file, or None for the account of this process.
    """

    path: str
    modified: float
    series: str
    rights: safe_open.Rights = None


def series(name: str) -> str:
    """Return the letters in a file name, without numbers, timestamps or the compression suffix.

    A log and its rotated files are one series, for example app-2026-11-25.log.gz and app-2026-11-26.log.
    """
    stem = _TIME.sub("", _ANY_COMPRESSED.sub("", name))
    return "".join(character for character in stem if character.isalpha())


def find(log: str, patterns: Iterable[str], *, user: str, deadline: float = float("inf")) -> List[LogFile]:
    """Return a log, the files that match absolute patterns, and the rotated files of both, newest first.

    If the time of a log is unknown, for example because the log does not exist, this log comes first. When such a log
    is read, the error is reported. A compressed file is omitted if the original still exists. The files that match the
    patterns are listed, and must be opened, with the rights of the service's user. This user can replace the folders,
    and a pattern may contain a folder from the service's environment. The same applies to the log if this user can
    replace its folder, because this user could move a root-owned file there. This user can also create any number of
    files. Raises TimeoutError at the deadline (time.monotonic seconds).
    """
    found: Dict[str, float] = {}
    theirs = safe_open.account_rights(user)
    of_folder: safe_open.Rights = None
    if log:
        found[log] = float("inf")
        # If this fails, the folder cannot be read either. Opening the log then reports the error.
        with contextlib.suppress(OSError):
            of_folder = safe_open.rights_on(os.path.dirname(log), user=theirs)
        with contextlib.suppress(OSError), safe_open.acting(of_folder):
            found.update(_listed([glob.escape(log)], deadline=deadline))
            # The log itself may be a link.
            found[log] = os.stat(log).st_mtime
    of_log = set(found)
    with safe_open.acting(theirs):
        found.update(_listed(patterns, deadline=deadline))
    return sorted(
        (
            LogFile(
                path=path,
                modified=at,
                series=f"{os.path.dirname(path)}/{series(os.path.basename(path))}",
                rights=of_folder if path in of_log else theirs,
            )
            for path, at in found.items()
            if not (path.endswith(COMPRESSED) and path[: -len(COMPRESSED)] in found)
        ),
        key=lambda each: (-each.modified, each.path),
    )


def _listed(patterns: Iterable[str], *, deadline: float) -> Dict[str, float]:
    """Return the regular files that match the patterns or are named like rotated files, as {path: time of change}."""
    found: Dict[str, float] = {}
    for pattern in patterns:
        for path in glob.iglob(f"{pattern}*"):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    found[path] = status.st_mtime
    return found


def absolute(patterns: Sequence[str], *, folder: str) -> List[str]:
    """Return absolute patterns. Relative patterns are relative to the folder."""
    return [os.path.join(glob.escape(folder), pattern) for pattern in patterns]


def decompressed_tail(stream: IO[bytes], *, limit: int, deadline: float) -> Tuple[bytes, bool]:
    """Return the last `limit` bytes of a compressed file, and True if it has more bytes.

    deadline: see compressed_log.unpacked. Raises OSError.
    """
    # Needed only for compressed files, so most module starts do not load it.
    from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (  # noqa: PLC0415
        compressed_log,
    )

    data, size = b"", 0
    for chunk in compressed_log.unpacked(stream, most_packed=_MOST_BYTES, deadline=deadline):
        size += len(chunk)
        if size > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES} bytes after decompression")
        data = (data + chunk)[-limit:]
    return data, size > limit
