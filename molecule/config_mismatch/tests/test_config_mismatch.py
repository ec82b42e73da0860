# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configured database does not exist: the run keeps the service stopped, so that no empty database is created."""

from __future__ import annotations

from drills import Drill


def test_mismatch_is_reported_and_service_is_not_started(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="config_mismatch", run="recover", to=("project leader", "DBA"))
    assert "itsm_test.db" in told["cause_summary"]


def test_no_empty_database_was_created(drill: Drill) -> None:
    assert not drill.host.file(f"{drill.service.app}/backend/itsm_test.db").exists
