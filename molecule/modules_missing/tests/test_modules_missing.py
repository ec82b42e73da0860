# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A package is missing: the run tries no restart, and rebuilds the modules from the lock file."""

from __future__ import annotations

from drills import Drill


def test_modules_are_rebuilt(drill: Drill) -> None:
    told = drill.assert_remedied(cause="modules_broken", run="recover")
    (remedy,) = drill.of_last_run(told, "remedies")
    assert "express" in remedy["detail"][0]


def test_package_is_back(drill: Drill) -> None:
    folder = drill.host.file(f"{drill.service.app}/node_modules/express")
    assert (folder.is_directory, folder.user) == (True, drill.service.user)
