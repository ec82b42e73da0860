# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read an environment file whose variables are passed to a program that runs as the service's user.

If this user owns the folder, the user can rename any file in it, even an unreadable root-owned file. Root must not pass
the content of such a file to the user's program.
"""

from __future__ import annotations

import os
import pwd
from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, systemd


def read_text(path: str, *, account: pwd.struct_passwd, run: commands.Runner = commands.run) -> str:
    """Return the content of an environment file as text. See env_file.read_text.

    If an account other than root could replace the file, the file is read with the rights of `account`. This does not
    apply if a unit that runs as `account` lists the file, because root wrote the unit, and systemd reads the file as
    root at each start.

    Raises EnvironmentFileError.
    """
    rights = safe_open.account_rights(account.pw_name)
    if rights is None or not _replaceable(path, rights):
        return env_file.read_text(path)
    try:
        with safe_open.acting(rights):
            return env_file.read_text(path)
    except env_file.EnvironmentFileError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        if _is_of_unit(path, account=account, run=run):
            return env_file.read_text(path)
        told = message("reason.host.environment_replaceable", path=path, user=account.pw_name)
        raise env_file.EnvironmentFileError(told) from error


def read(path: str, *, account: pwd.struct_passwd, run: commands.Runner = commands.run) -> Dict[str, str]:
    """Return the variables that an environment file sets. See read_text. Raises EnvironmentFileError."""
    return env_file.parse_environment(read_text(path, account=account, run=run))


def _replaceable(path: str, rights: safe_open.Rights) -> bool:
    try:
        return safe_open.rights_on(os.path.abspath(path), user=rights) is not None
    except OSError:
        return True


def _is_of_unit(path: str, *, account: pwd.struct_passwd, run: commands.Runner) -> bool:
    """Return True if a unit that runs as the account lists the file (EnvironmentFile=)."""
    try:
        names = systemd.service_units(run=run)
        units = systemd.units_properties(names, ("User", "EnvironmentFiles"), run=run) if names else []
    except procfs.HostError:
        return False
    wanted = os.path.abspath(path)
    return any(
        wanted == os.path.normpath(name)
        for unit in units
        if unit.get("User") in (account.pw_name, str(account.pw_uid))
        for line in unit.get("EnvironmentFiles", "").splitlines()
        for name in env_file.files_of(line)
    )
