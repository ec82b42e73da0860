# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module exits without garbage collection. This does not affect other processes that load the package."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# atexit calls functions in reverse order. This function is registered first, so it runs after the package's function.
SCRIPT = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 1000))
{imports}
import ansible_collections.itsm_nexus.runbook.plugins.module_utils._common
print(gc.get_freeze_count())
"""


@pytest.mark.parametrize(
    ("imports", "frozen"),
    [
        pytest.param("import ansible.module_utils.basic", True, id="module"),
        pytest.param("import ansible.constants, ansible.module_utils.basic", False, id="Ansible on the controller"),
        pytest.param("", False, id="event source"),
    ],
)
def test_all_objects_are_frozen_only_at_the_end_of_a_module(imports: str, frozen: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT.format(imports=imports)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(frozen)]
