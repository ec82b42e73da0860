# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When root removes a folder, it removes only what the owner of the folder could also remove."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files


def lay(path: Path, *, owner: str) -> Path:
    """Create a folder with a file. Both are accessible only to their owner."""
    path.mkdir(mode=0o700)
    (path / "file").write_text("x")
    for each in (path, path / "file"):
        os.chown(each, pwd.getpwnam(owner).pw_uid, -1)
    return path


def test_files_of_a_third_account_in_the_users_folder_are_kept(shared):
    """A user may have moved a folder with other accounts' files to a path that root removes."""
    theirs = lay(shared / "theirs", owner="nobody")
    backups, others = lay(theirs / "backups", owner="root"), lay(theirs / "others", owner="daemon")
    inner = lay(theirs / "inner", owner="nobody")
    deeper = lay(inner / "deeper", owner="daemon")
    atomic_files.discard_tree(str(theirs))
    assert sorted(path.name for path in theirs.iterdir()) == ["backups", "inner", "others"]
    assert all((path / "file").exists() for path in (backups, others, deeper))
    assert os.geteuid() == 0


def test_folders_of_a_user_in_a_folder_of_root_are_removed(shared):
    ours = lay(shared / "ours", owner="root")
    lay(lay(ours / "theirs", owner="nobody") / "inner", owner="nobody")
    atomic_files.remove_tree(str(ours))
    assert not ours.exists()


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_folders_without_permissions_are_removed(shared, mode):
    """The owner of a folder must not be able to keep the folder by changing its mode."""
    ours = lay(shared / "ours", owner="root")
    inner = lay(lay(ours / "theirs", owner="nobody") / "inner", owner="nobody")
    for folder in (inner, inner.parent):
        folder.chmod(mode)
    atomic_files.remove_tree(str(ours))
    assert not ours.exists()


@pytest.mark.parametrize(("mode", "group", "kept"), [(0o2775, 65534, True), (0o1777, 0, True), (0o775, 0, False)])
def test_a_folder_of_root_that_a_user_could_have_moved_is_kept(shared, mode, group, kept):
    """An account that can write to a folder can move the folder to a path that root removes."""
    moved = lay(shared / "moved", owner="root")
    lay(moved / "backups", owner="root")
    os.chown(moved, 0, group)
    moved.chmod(mode)
    atomic_files.discard_tree(str(moved))
    assert (moved / "backups" / "file").exists() is moved.exists() is kept


def test_a_folder_that_was_given_to_a_user_is_removed_as_this_user(shared):
    nobody = pwd.getpwnam("nobody")
    rights = (nobody.pw_uid, nobody.pw_gid)
    given, moved = lay(shared / "given", owner="nobody"), lay(shared / "moved", owner="root")
    moved.chmod(0o755)
    for path in (given, moved):
        atomic_files.discard_tree(str(path), rights=rights)
    assert not given.exists()
    assert (moved / "file").exists()
