# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide which backups may be restored to the service's database.

After a restore, the service's user can read the backup. This user can choose the path of the database, for example with
DATABASE_PATH, and can make the database unrecognizable. Therefore, neither the path nor the content of the database may
decide which of root's files is restored.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from typing import NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files


class Reader(NamedTuple):
    """The account that can read a restored backup. user: the name of the service's user, or None.

    configured: the path of the database in the inventory, or "" if the inventory specifies the database that is used.
    """

    user: Optional[str] = None
    configured: str = ""

    def names(self, path: str) -> bool:
        """Return True if the database in the inventory has the same file name as `path`.

        Only links that root created are followed, because the service's user chooses the target of all other links.
        """
        named = {os.path.basename(self.configured)}
        if os.path.isabs(self.configured):
            # As the service's user, follow_ours() would follow the links of this user.
            with contextlib.suppress(OSError), safe_open.acting(None):
                named.add(os.path.basename(safe_open.follow_ours(self.configured)))
        return os.path.basename(path) in named


class Access(NamedTuple):
    """The service's user, and the backups that the inventory assigns to the database.

    account: the user's account (uid, gid), or None if all backups may be restored for this user. patterns: the patterns
    of file names from the inventory.
    """

    user: Optional[str]
    account: safe_open.Rights
    patterns: Sequence[str] = ()

    def why_not(self, path: str, *, made_for: str = "", replica: bool = False) -> Optional[Message]:
        """Return the reason why a backup must not be restored, or None.

        made_for: the user that could read the database from which the backup was made, or "" if this is unknown.
        replica: True if the path is that of the replicated database, which may no longer exist. In this case, the user
        must only own the folder. A backup must meet stricter conditions, because the user could have moved a root-owned
        database to its folder.
        """
        if self.account is None or (made_for and made_for == self.user):
            return None
        if any(fnmatch.fnmatchcase(os.path.basename(path), pattern) for pattern in self.patterns):
            return None
        if can_read(path, self.account) or (replica and _is_in_own_folder(path, self.account)):
            return None
        return message("reason.restore.refused", user=self.user or str(self.account[0]))


def access(reader: Reader, *, rights: safe_open.Rights, patterns: Sequence[str]) -> Access:
    """Determine which backups may be restored. rights: the account that accesses the database, see files.rights_on.

    patterns: the patterns of file names from the inventory.
    """
    account = safe_open.account_rights(reader.user) or rights
    return Access(reader.user, account if os.getuid() == 0 else None, patterns)


def can_read(path: str, account: safe_open.Rights) -> bool:
    """Return True if an account can read a database and its other files now."""
    with safe_open.acting(account):
        if not os.access(path, os.R_OK, effective_ids=True):
            return False
        beside = [path + suffix for suffix in sqlite_files.SUFFIXES.values() if suffix]
        return all(os.access(each, os.R_OK, effective_ids=True) for each in beside if os.path.lexists(each))


def _is_in_own_folder(path: str, account: safe_open.Rights) -> bool:
    """Return True if an account owns the folder of a file, and could replace the file."""
    folder = os.path.dirname(path)
    try:
        if account is None or safe_open.rights_on(folder, user=account) != account:
            return False
        with safe_open.acting(account):
            return os.stat(folder).st_uid == account[0]
    except OSError:
        return False
