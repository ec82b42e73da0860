# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only the owner can read the files that a recovery creates, regardless of the account's umask."""

from __future__ import annotations

import os
from pathlib import Path

from .conftest import Service


def open_to_others(folder: Path) -> dict[str, str]:
    """Return the octal modes of the folder and its content, by path.

    Paths that only the owner can access are omitted.
    """
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*")) if not path.is_symlink()}
    return {path: oct(status.st_mode & 0o777) for path, status in found.items() if status.st_mode & 0o077}


def test_only_the_owner_can_read_written_files(service: Service) -> None:
    service.database.chmod(0o600)
    known = set(service.app.rglob("*"))
    # With this umask, other users can read each file that is created without a mode. A stricter umask would hide a
    # missing mode.
    old = os.umask(0o000)
    try:
        service.kill()
        assert (
            service.play(
                "playbooks/outage_recover.yml",
                # With -e NAME=VALUE, even a list is passed as a string.
                "-e",
                "outage_recover_rungs=\"['clean_start_recovery']\"",
                clean_start_recovery_modules="auto",
            ).rc
            == 0
        )
    finally:
        os.umask(old)
    run = service.folder / "postmortems"
    assert list(run.glob("*.md")) and list(run.glob("*.jsonl"))
    assert open_to_others(run) == {}
    # A process ID is not a secret, because every user can list processes.
    state = open_to_others(service.state)
    assert {path: mode for path, mode in state.items() if not path.endswith(".pid")} == {}
    (backup,) = (path for path in set(service.app.rglob("*")) - known if ".backup_" in path.name)
    assert backup.stat().st_mode & 0o777 == 0o600
    for path in set(service.app.rglob("*")) - known:
        assert not path.lstat().st_mode & 0o022 or path.is_symlink(), path
