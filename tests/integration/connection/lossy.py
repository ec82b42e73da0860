# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection plugin for tests.

It runs commands on this machine and drops the connection at the points that a test has planned.
"""

from __future__ import annotations

DOCUMENTATION = """
name: lossy
short_description: A connection to this machine that drops at certain modules
author: The itsm_nexus.runbook contributors
description:
  - The environment variable E(LOSSY_CUTS) is the path of a JSON file with the remaining planned losses.
  - Each loss has C(module), C(when) and C(away). C(away) is the time in seconds for which the host cannot be reached.
  - C(when) is V(before), V(during) or V(after) the module, or V(died) if a signal ends the module.
options:
  become_success_timeout:
    type: int
    default: 10
    description: As for the local connection.
  become_strip_preamble:
    type: bool
    default: true
    description: As for the local connection.
extends_documentation_fragment:
  - connection_pipelining
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Optional, Tuple

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

CUT = "Failed to connect to the host via ssh: Shared connection to 192.0.2.1 closed."
AWAY = "Failed to connect to the host via ssh: ssh: connect to host 192.0.2.1 port 22: No route to host"


class Connection(Local):  # type: ignore[misc]
    """Runs commands on this machine, unless the connection is lost."""

    transport = "lossy"

    def exec_command(
        self, cmd: str, in_data: Optional[bytes] = None, sudoable: bool = True
    ) -> Tuple[int, bytes, bytes]:
        """Run a command. If the test has planned a loss for the command's module, drop the connection.

        A lost connection raises AnsibleConnectionFailure, or returns the result of a killed module.
        """
        plan = Path(os.environ["LOSSY_CUTS"])
        told = json.loads(plan.read_text(encoding="utf-8"))
        if time.time() < told["away_until"]:
            raise AnsibleConnectionFailure(AWAY)
        cut = next((each for each in told["cuts"] if _is_call(in_data, each["module"])), None)
        if cut is None:
            answer: Tuple[int, bytes, bytes] = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
            return answer
        if cut["when"] == "during":
            _begin(cmd, in_data or b"")
            time.sleep(0.3)
        if cut["when"] == "after":
            super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        told["cuts"].remove(cut)
        told["away_until"] = time.time() + cut["away"]
        plan.write_text(json.dumps(told), encoding="utf-8")
        if cut["when"] == "died":
            return 137, b"", b"Killed"
        raise AnsibleConnectionFailure(CUT)


def _is_call(in_data: Optional[bytes], module: str) -> bool:
    return f"runbook.plugins.modules.{module}".encode() in (in_data or b"")


def _begin(cmd: str, in_data: bytes) -> None:
    """Start a command. Do not read its output or wait until it exits."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as program:
        program.write(in_data)
        program.seek(0)
        subprocess.Popen(["/bin/sh", "-c", cmd], stdin=program, stdout=writer, stderr=writer, start_new_session=True)
    os.close(writer)
    os.close(reader)


def cuts(path: Path, *planned: Any) -> None:
    """Write the file that lists the planned losses, each as (module, when, away). See DOCUMENTATION."""
    listed = [dict(zip(("module", "when", "away"), each)) for each in planned]
    path.write_text(json.dumps({"away_until": 0, "cuts": listed}), encoding="utf-8")
