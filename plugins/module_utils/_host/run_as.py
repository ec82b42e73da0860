# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights for work in a folder that the service user may write to: the user's own, never root's."""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import ContextManager, Iterator, Optional, Type

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs


class IdentityError(Exception):
    """There is no such user, or we may not act as it."""


def resolve(user: Optional[str], *, folder: str) -> pwd.struct_passwd:
    """Return the account to act as: user if given, else the owner of folder if we are root, else ourselves.

    Raises IdentityError if there is no such account, or if we may not become it.
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
        whose = f"The owner of {folder}" if ours == 0 else f"Our own uid {ours}"
        what = f"There is no user {user!r} on this host" if user else f"{whose} has no name on this host"
        raise IdentityError(what) from None
    except OSError as error:
        raise IdentityError(f"Cannot look up the owner of {folder}: {error.strerror}") from error
    if ours not in (0, account.pw_uid):
        raise IdentityError(f"Cannot act as user {account.pw_name!r}: only root may, and this runs with uid {ours}")
    return account


def name_of(uid: int) -> str:
    """Return the name of an account, or the uid if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextlib.contextmanager
def explained(action: str, *, failure: Type[Exception]) -> Iterator[None]:
    """Turn an error of the system into failure with the message "Cannot ACTION: reason"."""
    try:
        yield
    except (OSError, commands.CommandError, IdentityError, procfs.ProcfsError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise failure(f"Cannot {action}: {reason}") from error


def acting_as(account: pwd.struct_passwd) -> ContextManager[None]:
    """Do file work with the rights of an account. See safe_open.acting."""
    return safe_open.acting((account.pw_uid, account.pw_gid))
