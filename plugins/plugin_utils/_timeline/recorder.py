# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Record the timeline of a run: in memory until the run opens an incident, then in a file."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events

# Interval between two syncs to disk, in seconds.
_SYNC = 1.0

# Maximum number of writes that are kept in memory until the run opens an incident.
_BACKLOG = 2000

# Kinds of events that are also synced to disk.
_DURABLE = ("outcome", "stats")


# The timeline file for the run in this process. A worker inherits this path from the run's main process.
_current: List[str] = []


def current_path() -> Optional[str]:
    """Return the path of the current run's timeline, or None if it is not written to a file."""
    return _current[-1] if _current else None


class Recorder:
    """Records the events of one run. If the run opens no incident, no file is written."""

    def __init__(self, run: str, *, folder: Optional[str], warn: Callable[[str], None]) -> None:
        """Begin a timeline. folder: the folder for the file, or None to write no file. warn: shows a warning."""
        self.run = run
        self._folder = folder
        self._warn = warn
        self._waiting: List[timeline_events.Event] = []
        self._lines: List[bytes] = []
        self._opened = False
        self._file: Optional[TimelineFile] = None

    def note(self, at: float, entry: Dict[str, Any]) -> None:
        """Keep an entry until the next write. at: seconds since the epoch."""
        event = {"v": timeline_events.VERSION, "at": timestamps.iso(at), "run": self.run, **entry}
        self._waiting.append(event)

    def write(self) -> None:
        """Write the waiting entries. Raises OSError. After a write error, later entries are kept in memory."""
        events, self._waiting = self._waiting, []
        if not events:
            return
        data = b"".join(map(timeline_events.encode, events))
        opens = any(map(timeline_events.opens, events))
        if self._file:
            self._append(self._file, data, durable=opens or any(event["kind"] in _DURABLE for event in events))
            return
        self._lines.append(data)
        if opens and not self._opened:
            self._opened = True
            if self._folder is not None:
                self._file = TimelineFile(self._folder, self.run)
                _current[:] = [self._file.path]
                lines, self._lines = self._lines, []
                self._append(self._file, b"".join(lines), durable=True)
        elif not self._opened and len(self._lines) > _BACKLOG:
            # Keep the first line, which identifies the run.
            del self._lines[1 : _BACKLOG // 2]

    def events(self) -> List[timeline_events.Event]:
        """Return all events of the run."""
        return timeline_events.decode(b"".join([self._content(), *self._lines]))

    def close(self) -> None:
        """Close the file. Raises OSError."""
        file, self._file = self._file, None
        if file:
            _current.clear()
            file.close()

    def _append(self, file: TimelineFile, data: bytes, *, durable: bool) -> None:
        try:
            file.append(data, durable=durable)
        except OSError:
            # From now on, the timeline is kept in memory. Therefore, the error is reported only once.
            self._lines = [self._content(), data]
            with contextlib.suppress(OSError):
                self.close()
            raise

    def _content(self) -> bytes:
        """Return the content of the file. If the content were kept in memory, each Ansible worker would copy it."""
        if not self._file:
            return b""
        try:
            return self._file.content()
        except OSError as error:
            self._warn(f"The postmortem lacks all entries before this moment: {error}")
            return b""


class TimelineFile:
    """Appends complete lines to the timeline of a run."""

    def __init__(self, folder: str, run: str) -> None:
        """Create the file, and the folder if it is missing. Raises OSError."""
        atomic_files.private_folder(folder)
        self.path = os.path.join(folder, run + timeline_events.SUFFIX)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)
        self._size = 0
        self._due, self._synced_at = False, 0.0
        atomic_files.fsync_folder(folder)

    def append(self, data: bytes, *, durable: bool) -> None:
        """Write data immediately, so that no data is lost if this process ends. Raises OSError.

        durable: True to also sync the data to disk, so that no data is lost if this machine fails. There is at most one
        sync per second. With fifty hosts, fifty simultaneous syncs would delay the recoveries.
        """
        rest = data
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._due = self._due or durable
        if self._due and time.monotonic() - self._synced_at >= _SYNC:
            os.fsync(self._descriptor)
            self._due, self._synced_at = False, time.monotonic()
        self._size += len(data)

    def content(self) -> bytes:
        """Return the data that was appended without an error.

        Raises OSError if the file cannot be read, or if the file is shorter than the appended data.
        """
        data = b""
        while len(data) < self._size:
            part = os.pread(self._descriptor, self._size - len(data), len(data))
            if not part:
                raise OSError(f"{self.path} has only {len(data)} of the {self._size} bytes that were written")
            data += part
        return data

    def close(self) -> None:
        """Sync the remaining data to disk, and close the file. Raises OSError."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
