# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that the host should have mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import fstab

TABLE = """\
# /etc/fstab: static file system information.
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
UUID=3 /mnt/LinuxHDD ext4 defaults,nofail 0 2
  # UUID=4 /mnt/old ext4 defaults 0 2
UUID=5 /mnt/two\\040words/ ext4 defaults 0 2
proc /proc proc defaults 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/mnt/LinuxHDD/ITSM-System/backend/itsm.db", "/mnt/LinuxHDD"),
        ("/mnt/LinuxHDD2/itsm.db", None),
        ("/mnt/old/itsm.db", None),
        ("/mnt/two words/itsm.db", "/mnt/two words"),
        ("/srv/itsm.db", None),
        # This one is mounted.
        ("/proc/itsm.db", None),
    ],
)
def test_the_mount_point_that_is_not_mounted(tmp_path: Path, path: str, point: str | None) -> None:
    table = tmp_path / "fstab"
    table.write_text(TABLE, encoding="utf-8")
    assert fstab.unmounted(path, table=str(table)) == point


def test_a_host_without_a_table(tmp_path: Path) -> None:
    assert fstab.unmounted("/srv/itsm.db", table=str(tmp_path / "none")) is None
