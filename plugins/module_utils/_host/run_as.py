# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Act as the service's user instead of root in folders that this user can write to."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import ContextManager, Iterator, Optional, Type, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, messages, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs


class IdentityError(MessageError):
    """The user does not exist, or this process is not allowed to act as that user."""

    templates = messages.ENGLISH


def resolve(user: Optional[str], *, folder: str) -> pwd.struct_passwd:
    """Return the account to act as (`user`, or a default account if `user` is not given).

    If this process runs as root, the default account is the owner of `folder`. Otherwise, the default is the account of
    this process. Raises IdentityError if there is no such account, or if this process is not allowed to switch to it.
    """
    ours = os.geteuid()
    try:
        if user:
            account = pwd.getpwnam(user)
        elif ours == 0:
            account = pwd.getpwuid(os.stat(folder).st_uid)
        else:
            account = pwd.getpwuid(ours)
    except KeyError:
        if user:
            told = message("reason.host.no_user", user=repr(user))
        elif ours == 0:
            told = message("reason.host.owner_unnamed", path=folder)
        else:
            told = message("reason.host.uid_unnamed", uid=ours)
        raise IdentityError(told) from None
    except OSError as error:
        raise IdentityError(message("reason.host.owner_unknown", path=folder, why=str(error.strerror))) from error
    if ours not in (0, account.pw_uid):
        raise IdentityError(message("reason.host.not_acting", user=repr(account.pw_name), uid=ours))
    return account


def name_of(uid: int) -> str:
    """Return the name of an account, or the uid if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextlib.contextmanager
def explained(deed: str, /, *, failure: Type[MessageError], **values: str) -> Iterator[None]:
    """Convert a system error to the given error class, with the message "Cannot ...: reason".

    deed: the last part of the message ID (reason.cannot.*). values: the values for the message, except `why`.
    """
    try:
        yield
    except (OSError, commands.CommandError, IdentityError, procfs.HostError) as error:
        raise failure(message(f"reason.cannot.{deed}", **values, why=why(error))) from error


def why(error: Exception) -> Union[str, Message]:
    """Return the reason for a system error."""
    if isinstance(error, MessageError):
        return error.told
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def acting_as(account: pwd.struct_passwd) -> ContextManager[None]:
    """Run the block with the file permissions of an account. See safe_open.acting."""
    return safe_open.acting((account.pw_uid, account.pw_gid))
