# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from drills import Drill


@pytest.fixture(scope="session")
def drill(pytestconfig: pytest.Config) -> Drill:
    return Drill(os.environ["MOLECULE_SCENARIO_NAME"], pytestconfig.rootpath)
