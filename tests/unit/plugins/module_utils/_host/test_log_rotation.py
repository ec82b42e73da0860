# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that logrotate rotates."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import log_rotation

CONFIGURATION = """
# /var/log/commented.log {
weekly
include /etc/logrotate.d
/var/log/itsm/*.log "/var/log/with blank.log"
/var/log/second.log
{
    daily
    rotate 7
    postrotate
        systemctl kill -s USR1 itsm-system
    endscript
}
/var/log/alone.log { weekly }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc" / "logrotate.d").mkdir(parents=True)
    (tmp_path / "etc" / "logrotate.d" / "itsm").write_text(CONFIGURATION, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "rotated"),
    [
        ("/var/log/itsm/server.log", True),
        ("/var/log/with blank.log", True),
        ("/var/log/second.log", True),
        ("/var/log/alone.log", True),
        ("/var/log/commented.log", False),
        ("/var/log/itsm/server.txt", False),
    ],
)
def test_a_log_is_rotated_by_the_configuration_that_names_it(root: Path, path: str, rotated: bool) -> None:
    known = log_rotation.patterns(root=str(root))
    assert log_rotation.rotated_by(path, known) == (str(root / "etc/logrotate.d/itsm") if rotated else None)


def test_without_logrotate_nothing_is_rotated(tmp_path: Path) -> None:
    assert log_rotation.patterns(root=str(tmp_path)) == {}
    assert not log_rotation.starts_daily(root=str(tmp_path))


def test_cron_or_a_timer_starts_logrotate(root: Path) -> None:
    (root / "etc" / "cron.daily").mkdir()
    (root / "etc" / "cron.daily" / "logrotate").touch()
    assert log_rotation.starts_daily(root=str(root))


def test_an_unreadable_configuration_is_ignored(root: Path) -> None:
    (root / "etc" / "logrotate.d" / "bad").write_text('/var/log/"open {\n}\n', encoding="utf-8")
    (root / "etc" / "logrotate.d" / "folder").mkdir()
    assert "/var/log/second.log" in log_rotation.patterns(root=str(root))
