# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the Litestream replica of the database, and restore it with Litestream's own command.

The commands and the configuration file are documented at https://litestream.io/reference/. Root runs the program and
uses the configuration file only if no other account can change them.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable

CONFIG = "/etc/litestream.yml"
# Matches a path in the configuration file, either on its own line or as the first key of a list item.
_PATH = re.compile(r"^\s*(?:-\s+)?path:\s*(?P<quote>['\"]?)(?P<path>/.*?)(?P=quote)\s*(?:#.*)?$", re.MULTILINE)
# Commands that list the replicated changes: ltx since version 0.5, wal in earlier versions. The last column of
# these lists is the time.
_LISTS = ("ltx", "wal")
_CREATED = re.compile(r"\b(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d+)?Z")
_LIST_TIMEOUT = 30.0
_LARGEST = 1 << 20
_QUOTED = 200


class Replica(NamedTuple):
    """A database that Litestream replicates, and the program and the configuration file of Litestream.

    database: the path of the database, as written in the configuration file.
    """

    program: str
    config: str
    database: str

    @property
    def name(self) -> str:
        """The replica's name in results."""
        return f"litestream:{printable(self.database)}"


def find(database: str, *, config: str = CONFIG, program: str = "litestream") -> Optional[Replica]:
    """Return the replica of a database, or None if the configuration file is missing or does not list the database.

    Raises BackupError if the replica cannot be used, for example because the program is missing.
    """
    try:
        text = safe_open.read(config, limit=_LARGEST).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _refused(config, str(error.strerror)) from error
    listed = [found.group("path") for found in _PATH.finditer(text)]
    known = next((path for path in listed if os.path.normpath(path) == os.path.normpath(database)), None)
    if known is None:
        return None
    found = shutil.which(program, path=procfs.STANDARD_PATH)
    if found is None:
        raise _refused(config, message("reason.litestream.no_program", program=program))
    for path in (config, found):
        if not _is_ours(path):
            raise _refused(config, message("reason.litestream.not_of_root", path=printable(path)))
    return Replica(found, config, known)


def _is_ours(path: str) -> bool:
    """Return True if only root and this account can replace or change a file."""
    try:
        if safe_open.rights_on(path) is not None:
            return False
        opened = safe_open.open_file(path)
    except OSError:
        return False
    try:
        facts = os.fstat(opened)
    finally:
        os.close(opened)
    return facts.st_uid in (0, os.geteuid()) and not facts.st_mode & 0o022


def _refused(config: str, why: object) -> BackupError:
    told = why if isinstance(why, Message) else quoted(why)
    return BackupError(message("reason.litestream.unusable", path=printable(config), why=told))


def newest_change(replica: Replica, *, run: commands.Runner) -> Optional[float]:
    """Return the time of the newest replicated change, in seconds since the epoch, or None if it is unknown."""
    for name in _LISTS:
        try:
            done = _call(replica, [name], [], timeout=_LIST_TIMEOUT, run=run)
        except commands.CommandError:
            return None
        times = [timestamps.epoch(f"{found}.000Z") for found in _CREATED.findall(done.stdout)] if done.ok else []
        if times:
            return max(times)
    return None


def restore(replica: Replica, target: str, *, timeout: float, run: commands.Runner) -> None:
    """Restore the replica to a new file in a root-owned folder. Raises BackupError."""
    began = time.monotonic()
    try:
        done = _call(replica, ["restore"], ["-o", target], timeout=timeout, run=run)
    except commands.CommandError as error:
        raise _failed(replica, error.told) from error
    if done.timed_out:
        raise _failed(replica, message("reason.process.late", seconds=f"{time.monotonic() - began:.0f}"))
    if not done.ok:
        why: Message = systemd.why_failed(done)
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        if said:
            why = quoted(redact.Redactor().text(said[-1])[:_QUOTED])
        raise _failed(replica, why)
    if not os.path.isfile(target):
        raise _failed(replica, message("reason.litestream.nothing"))


def _call(
    replica: Replica, command: Sequence[str], options: List[str], *, timeout: float, run: commands.Runner
) -> commands.Completed:
    argv = [replica.program, *command, "-config", replica.config, *options, replica.database]
    return run(argv, timeout=timeout, cwd="/")


def _failed(replica: Replica, why: Message) -> BackupError:
    return BackupError(message("reason.litestream.not_restored", path=printable(replica.database), why=why))
