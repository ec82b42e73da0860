# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root passes the content of a file to the service's user only if the user or a root-owned unit could read it."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, handed_env_file

NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def path():
    """Yield the path of a root-owned environment file in a folder that the user owns."""
    with tempfile.TemporaryDirectory() as folder:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(folder, 0o755)  # noqa: S103
        theirs = Path(folder, "theirs")
        theirs.mkdir()
        os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
        found = theirs / ".env"
        found.write_text("SECRET=of-root\n")
        found.chmod(0o600)
        yield found


class Systemd:
    """Replaces systemctl on a host with one unit."""

    def __init__(self, user: str = "", files: str = "") -> None:
        self.user, self.files = user, files

    def __call__(self, argv, **_more) -> commands.Completed:
        out = f"User={self.user}\nEnvironmentFiles={self.files} (ignore_errors=no)\n"
        if argv[1] != "show":
            out = "itsm.service enabled\n"
        return commands.Completed(argv=argv, rc=0, stdout=out, stderr="", duration=0.0)


def read(path, run=None):
    return handed_env_file.read(str(path), account=NOBODY, run=run or Systemd())


def test_a_file_of_root_that_the_user_could_have_moved_is_not_read(path):
    with pytest.raises(env_file.EnvironmentFileError, match="as nobody: permission denied") as caught:
        read(path)
    assert str(path) in str(caught.value) and "of-root" not in str(caught.value)


@pytest.mark.parametrize("owner", [NOBODY.pw_uid, 0])
def test_a_file_that_the_user_can_read_is_read(path, owner):
    os.chown(path, owner, NOBODY.pw_gid)
    path.chmod(0o640)
    assert read(path) == {"SECRET": "of-root"}


def test_a_file_in_a_folder_of_root_is_read(path):
    os.chown(path.parent, 0, 0)
    assert read(path) == {"SECRET": "of-root"}


@pytest.mark.parametrize(
    ("user", "suffix", "is_read"),
    [
        ("nobody", "/.env", True),
        (str(NOBODY.pw_uid), "/.env", True),
        ("nobody", "/*.env", False),
        ("nobody", "/.e*", True),
        ("nobody", "/other.env", False),
        ("root", "/.env", False),
        ("", "/.env", False),
    ],
)
def test_a_file_that_a_unit_of_the_user_names_is_read(path, user, suffix, is_read):
    run = Systemd(user, f"{path.parent}{suffix}")
    if is_read:
        assert read(path, run) == {"SECRET": "of-root"}
        return
    with pytest.raises(env_file.EnvironmentFileError):
        read(path, run)


def test_without_systemd_no_unit_names_the_file(path):
    def run(argv, **_more):
        raise commands.CommandError("no systemctl")

    with pytest.raises(env_file.EnvironmentFileError, match="permission denied"):
        read(path, run)


def test_a_missing_file_is_reported_as_missing(path):
    path.unlink()
    with pytest.raises(env_file.EnvironmentFileError, match="No such file"):
        read(path)
