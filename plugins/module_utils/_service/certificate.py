# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check whether the service can use its certificate.

If the service cannot use its certificate, fix the private key's permissions, or renew the files.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import stat
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    commands,
    parallel,
    redact,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, labelled, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import key_pair, procfs, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages

_LARGEST = 1 << 20
_MOST_OUTPUT = 600
# Time limit in seconds for reading a file, which may be on a file system of the service's user.
_READ_TIMEOUT = 10.0
_PRIVATE_KEY = b"PRIVATE KEY-----"


class CertificateError(messages.ServiceError):
    """A parameter is invalid (the message contains its name), or the command could not be run."""


class Pair(NamedTuple):
    """The certificate and private key files, and the user that must be able to read them.

    If `key` is empty and the certificate's folder contains a file with the same name and the extension .key, that file
    is used.
    """

    certificate: str
    key: str = ""
    user: str = ""


class Permissions(NamedTuple):
    """The private key's new owner, group and mode. An empty field leaves the current value unchanged."""

    owner: str = ""
    group: str = ""
    mode: str = ""

    @property
    def wanted(self) -> bool:
        """True if an owner, a group or a mode is requested."""
        return bool(self.owner or self.group or self.mode)


def _read(path: str, user: str) -> bytes:
    """Return the content of a regular file that has at most _LARGEST bytes.

    The service's environment may specify any file. Therefore, a separate process reads the file with the rights of the
    service's user, within a time limit. If no user is given or this process is not root, the file is read with the
    rights of this process. Raises OSError, and CertificateError if the user does not exist.
    """
    try:
        become = commands.drop_to(user) if os.geteuid() == 0 else None
    except commands.CommandError as error:
        raise CertificateError(labelled("user", error.told)) from error

    def content() -> Dict[str, Any]:
        if become is not None:
            become()
        try:
            return {"data": safe_open.read(os.path.abspath(path), limit=_LARGEST).decode("latin-1")}
        except OSError as error:
            return {"errno": error.errno or 0, "why": str(error.strerror)}

    answer = parallel.ask({"read": content}, timeout=_READ_TIMEOUT)["read"]
    if answer.error is not None:
        raise OSError(0, answer.error, path)
    if "data" not in answer.value:
        raise OSError(answer.value["errno"], answer.value["why"], path)
    return bytes(answer.value["data"].encode("latin-1"))


def _unread(pair: Pair, path: str, error: OSError) -> Message:
    """Return the problem with a file that cannot be read."""
    if error.errno == errno.EACCES:
        if pair.user:
            return message("reason.certificate.not_readable", user=pair.user, path=path)
        return message("reason.certificate.not_readable_by_us", path=path)
    if path == pair.key:
        return message("reason.certificate.key_unread", file=path, why=str(error.strerror))
    return message("reason.certificate.unread", path=path, why=str(error.strerror))


def _why_unlike(pair: Pair, *, certificate: bytes, key: bytes) -> Optional[Message]:
    """Return the reason why the certificate and the key do not match, or None if they match."""
    why = key_pair.why_unlike(certificate, key)
    if why == key_pair.MISMATCH:
        return message("reason.certificate.key_mismatch", file=pair.key, path=pair.certificate)
    return message("reason.certificate.key_unusable", file=pair.key, why=why) if why else None


def look(pair: Pair) -> Dict[str, Any]:
    """Return the facts about the files, with the problems both as text and as messages."""
    problems: List[Message] = []
    found = _examine(pair, problems)
    return {**found, "problems": [messages.english(told) for told in problems], "told": problems}


def _examine(pair: Pair, problems: List[Message]) -> Dict[str, Any]:
    """Return the facts about the files, and append their problems to `problems`."""
    found: Dict[str, Any] = {"subject": None, "not_before": None, "not_after": None, "sha256": None}
    try:
        data = _read(pair.certificate, pair.user)
        facts = x509.describe(x509.from_pem(data.decode("ascii", "replace")))
    except OSError as error:
        problems.append(_unread(pair, pair.certificate, error))
        return found
    except x509.CertificateError as error:
        problems.append(message("reason.certificate.unusable", path=pair.certificate, why=error.told))
        return found
    begin, end = float(str(facts["not_before"])), float(str(facts["not_after"]))
    found.update(
        subject=facts["subject"],
        not_before=timestamps.iso(begin),
        not_after=timestamps.iso(end),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    if end < time.time():
        problems.append(message("reason.certificate.expired", path=pair.certificate, at=timestamps.iso(end)))
    if begin > time.time():
        problems.append(message("reason.certificate.early", path=pair.certificate, at=timestamps.iso(begin)))
    if pair.key:
        try:
            key = _read(pair.key, pair.user)
        except OSError as error:
            problems.append(_unread(pair, pair.key, error))
        else:
            unlike = _why_unlike(pair, certificate=data, key=key)
            problems += [] if unlike is None else [unlike]
    return found


def _ids(permissions: Permissions) -> List[int]:
    try:
        uid = pwd.getpwnam(permissions.owner).pw_uid if permissions.owner else -1
    except KeyError:
        raise CertificateError(message("reason.certificate.no_owner", user=repr(permissions.owner))) from None
    try:
        gid = grp.getgrnam(permissions.group).gr_gid if permissions.group else -1
    except KeyError:
        raise CertificateError(message("reason.certificate.no_group", group=repr(permissions.group))) from None
    return [uid, gid]


def _mode(permissions: Permissions) -> Optional[int]:
    if not permissions.mode:
        return None
    try:
        mode = int(permissions.mode, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777 or mode & 0o027:
        raise CertificateError(message("reason.certificate.bad_mode", mode=repr(permissions.mode)))
    return mode


def _repair(pair: Pair, permissions: Permissions, *, check_mode: bool) -> bool:
    """Set the private key's owner, group and mode. Return True if something changed or, in check mode, would change.

    An account other than root may own the folder. Therefore, the file must be a regular file with only one hard link,
    and it must contain a private key. Raises CertificateError.
    """
    uid, gid = _ids(permissions)
    mode = _mode(permissions)
    if not pair.key:
        raise CertificateError(message("reason.certificate.no_key_path"))
    try:
        # Do not follow links. Another account could use a link to redirect the change to a different file.
        descriptor = safe_open.open_file(pair.key, os.O_RDONLY | os.O_NOFOLLOW, lend=False)
    except OSError as error:
        raise CertificateError(
            message("reason.certificate.key_not_opened", file=pair.key, why=str(error.strerror))
        ) from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or _PRIVATE_KEY not in stream.read(_LARGEST):
            raise CertificateError(message("reason.certificate.key_not_plain", file=pair.key))
        wanted = (
            status.st_uid if uid < 0 else uid,
            status.st_gid if gid < 0 else gid,
            stat.S_IMODE(status.st_mode) if mode is None else mode,
        )
        changed = wanted != (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        if changed and not check_mode:
            try:
                os.fchown(descriptor, wanted[0], wanted[1])
                os.fchmod(descriptor, wanted[2])
            except OSError as error:
                told = message("reason.certificate.not_permitted", file=pair.key, why=str(error.strerror))
                raise CertificateError(told) from error
    return changed


def _renew(command: Sequence[str], *, timeout: float, run: commands.Runner) -> Dict[str, Any]:
    """Run the renewal command without a shell.

    Return the command's exit code and the end of its output, with secrets removed.

    Raises CertificateError.
    """
    environment = {"PATH": procfs.STANDARD_PATH, "LANG": "C.UTF-8"}
    with contextlib.suppress(KeyError):
        environment["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
    try:
        done = run(list(command), timeout=timeout, env=environment, cwd="/")
    except commands.CommandError as error:
        raise CertificateError(labelled("command", error.told)) from error
    said = redact.Redactor().text(f"{done.stdout}\n{done.stderr}".strip())
    return {"command_rc": done.rc, "output": said[-_MOST_OUTPUT:]}


def _with_key(pair: Pair) -> Pair:
    """Return the pair. If `key` is empty and a key file exists next to the certificate, fill in its path.

    Raises CertificateError.
    """
    for name, path in (("cert_path", pair.certificate), ("key_path", pair.key)):
        if path and not os.path.isabs(path):
            raise CertificateError(message("reason.certificate.not_absolute", name=name, path=repr(path)))
    beside = os.path.splitext(pair.certificate)[0] + ".key"
    with safe_open.acting(safe_open.account_rights(pair.user)):
        return pair._replace(key=beside) if not pair.key and os.path.isfile(beside) else pair


def ensure(
    pair: Pair,
    *,
    command: Sequence[str] = (),
    permissions: Optional[Permissions] = None,
    timeout: float = 120.0,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
) -> Dict[str, Any]:
    """If the service cannot use its certificate, fix the private key's permissions. If problems remain, run `command`.

    Returns the result of the tls_certificate module. Raises CertificateError.
    """
    begun = time.monotonic()
    pair = _with_key(pair)
    if timeout <= 0:
        raise CertificateError(message("reason.certificate.timeout", seconds=f"{timeout:g}"))
    before = after = look(pair)
    repaired = renewed = False
    done: Dict[str, Any] = {"command_rc": None, "output": ""}
    if permissions is not None:
        _ids(permissions)
        _mode(permissions)
    wanted = permissions if permissions is not None and permissions.wanted else None
    if before["problems"] and wanted is not None:
        try:
            repaired = _repair(pair, wanted, check_mode=check_mode)
            after = look(pair)
        except CertificateError:
            # A renewal may replace a key that is missing or invalid.
            if not command:
                raise
    if after["problems"] and command and not (check_mode and repaired):
        if check_mode:
            renewed = True
        else:
            done = _renew(command, timeout=timeout, run=run)
            last, after = after, look(pair)
            # Also compare the problems. If only the key is new, the other facts stay the same, but the key may now
            # match the certificate.
            renewed = last != after
            # Set the permissions again, because a command that runs as root may have created root-owned files.
            if after["problems"] and wanted is not None:
                with contextlib.suppress(CertificateError):  # a problem with the key is already in `problems`
                    repaired = _repair(pair, wanted, check_mode=False) or repaired
                    after = look(pair)
    return {
        "changed": repaired or renewed,
        "valid": not after["problems"],
        "problems": after["problems"],
        "messages": messages.plain(problems=after["told"]),
        "subject": after["subject"],
        "not_before": after["not_before"],
        "not_after": after["not_after"],
        "repaired": repaired,
        "renewed": renewed,
        **done,
        "diff": {"before": _lines(before), "after": _lines(after)},
        "duration": round(time.monotonic() - begun, 3),
    }


def _lines(found: Dict[str, Any]) -> str:
    return "".join(f"{name}: {found[name]}\n" for name in ("subject", "not_before", "not_after")) + "".join(
        f"problem: {text}\n" for text in found["problems"]
    )
