# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from drills import Drill


@pytest.fixture(scope="session")
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    drill = Drill(os.environ["MOLECULE_SCENARIO_NAME"], request.config.rootpath)
    yield drill
    drill.write_result(passed=request.session.testsfailed == 0)
