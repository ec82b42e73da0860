# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a backup to another host: run a command on this host, or let the controller collect the backup in parts."""

from __future__ import annotations

import base64
import os
import pwd
import re
import zlib
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable

# Size in bytes of one part of a backup. Each part of a backup is read as a whole, compressed, and sent as base64 text.
PART = 8 << 20
# Defaults of the backup_fetch module: the number of copies on the controller, and their maximum size in bytes.
KEEP, LIMIT = 14, 10 << 30
PLACEHOLDERS = ("path", "name", "sha256", "bytes", "at")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_QUOTED = 200  # maximum length of an error text from the command


class Command(NamedTuple):
    """A command that copies a backup. argv: can contain {path}, {name}, {sha256}, {bytes} and {at}, which are replaced.

    user: the account that runs it. The command reads the backup from standard input, so this account does not need
    permission to read the file.
    """

    argv: Sequence[str]
    user: str = "root"
    timeout: float = 3600.0


def check(command: Command) -> None:
    """Raise BackupError if the command is invalid."""
    if not command.argv or not os.path.isabs(command.argv[0]):
        raise BackupError(f"command must begin with the absolute path of a program, not {list(command.argv)}")
    if not 0 < command.timeout <= 86400:
        raise BackupError(f"command_timeout must be above 0 and at most 86400 seconds, not {command.timeout:g}")
    for word in command.argv:
        _filled(word, dict.fromkeys(PLACEHOLDERS, ""))


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders in an argument of the command. Raises BackupError for an unknown placeholder."""
    unknown = [name for name in _PLACEHOLDER.findall(word) if name not in values]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise BackupError(f"command: {word!r} may contain only these placeholders: {known}")
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], word)


def send(
    entry: Entry, command: Command, *, rights: safe_open.Rights, run: commands.Runner
) -> Tuple[Optional[str], Optional[Message]]:
    """Run the command with the backup as its standard input. Return the location of the copy, or an error message.

    rights: the account that reads the backup. Raises BackupError if the command is invalid.
    """
    check(command)
    values = {"path": entry.path, "name": os.path.basename(entry.path), "sha256": entry.sha256, "at": entry.at}
    argv = [_filled(word, {**values, "bytes": str(entry.bytes)}) for word in command.argv]
    program = printable(argv[0])
    try:
        account = pwd.getpwnam(command.user)
    except KeyError:
        return None, message("reason.backup.command_user", user=repr(command.user))
    environment = {"PATH": procfs.STANDARD_PATH, "HOME": account.pw_dir, "USER": account.pw_name, "LANG": "C.UTF-8"}
    try:
        opened = sqlite_files.open_regular(entry.path, rights=rights)
    except OSError as error:
        return None, _unread(entry, error)
    try:
        with safe_open.acting(None):
            done = run(argv, timeout=command.timeout, cwd="/", env=environment, user=command.user, stdin=opened)
    except commands.CommandError as error:
        return None, message("reason.backup.command_not_run", program=program, why=error.told)
    finally:
        os.close(opened)
    if done.timed_out:
        return None, message("reason.backup.command_late", program=program, seconds=f"{command.timeout:g}")
    if not done.ok:
        said = _last_line(done.stderr or done.stdout)
        return None, message("reason.backup.command_failed", program=program, code=str(done.rc), said=said)
    return f"{program}, as {command.user}", None


def _last_line(text: str) -> Message:
    lines = [line for line in text.splitlines() if line.strip()]
    said = redact.Redactor().text(lines[-1][-4096:]) if lines else ""
    return quoted(said[-_QUOTED:]) if said else message("reason.backup.command_silent")


def answer(
    path: str, *, offset: int, where: str, user: Optional[str], state_dir: str, check_mode: bool
) -> Dict[str, Any]:
    """Return the result of the backup_fetch module on the host. Only listed backups are read.

    offset: where a part of the backup begins, or -1 to return only the backup's size and SHA-256. where: the location
    of a copy. If `where` is set, this location is recorded, and the backup is not read. Raises BackupError,
    SqliteError.
    """
    entry = listing.listed(state_dir, path)
    told: Dict[str, Any] = {"changed": False, "size": entry.bytes, "sha256": entry.sha256}
    if where:
        if not check_mode and entry.off_host != where:
            with listing.locked(state_dir, run=None):
                listing.note_copy(state_dir, path, where)
        return {**told, "changed": entry.off_host != where}
    if offset >= 0:
        try:
            rights = safe_open.rights_on(path, user=safe_open.account_rights(user))
        except OSError as error:
            raise BackupError(_unread(entry, error)) from error
        told.update(part(entry, offset=offset, rights=rights))
    return told


def part(entry: Entry, *, offset: int, rights: safe_open.Rights, length: int = PART) -> Dict[str, Any]:
    """Return a part of a listed backup as {"data": ...}, compressed with zlib and encoded as base64.

    Raises BackupError if the file cannot be read or its size has changed since the backup was created.
    """
    try:
        opened = sqlite_files.open_regular(entry.path, rights=rights)
        try:
            size = os.fstat(opened).st_size
            data = _read(opened, offset=offset, length=length)
        finally:
            os.close(opened)
    except OSError as error:
        raise BackupError(_unread(entry, error)) from error
    if size != entry.bytes:
        sizes = {"size": size, "listed": entry.bytes}
        raise BackupError(message("reason.backup.changed", path=printable(entry.path), **sizes))
    return {"data": base64.b64encode(zlib.compress(data, 1)).decode("ascii")}


def _unread(entry: Entry, error: OSError) -> Message:
    return message("reason.backup.not_read", path=printable(entry.path), why=str(error.strerror or error))


def _read(opened: int, *, offset: int, length: int) -> bytes:
    parts: List[bytes] = []
    while length > 0:
        chunk = os.pread(opened, length, offset)
        if not chunk:
            break
        parts.append(chunk)
        offset, length = offset + len(chunk), length - len(chunk)
    return b"".join(parts)
