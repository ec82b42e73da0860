# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of what every module that works on the managed host takes to do so under the run's lease."""

from __future__ import annotations


class ModuleDocFragment:
    """Options C(run), C(state_dir) and C(call)."""

    DOCUMENTATION = r"""
options:
  run:
    description:
      - The run this call belongs to, RV(itsm_nexus.runbook.incident#module:run). The host cannot be taken over by
        another run while the module works, and the run's lease is renewed at its end. Where another run has taken it
        before, the module fails and does nothing.
      - Without it no lease is looked at.
      - The playbooks set it, and O(state_dir), for all modules with C(module_defaults) of
        C(group/itsm_nexus.runbook.host).
    type: str
    default: ""
    version_added: 0.2.0
  state_dir:
    description: The folder for the incident's record and the evidence; the lease is that of this folder.
    type: path
    default: /var/lib/itsm-runbook
  call:
    description:
      - The name of this call. The action plugin sets it; leave it out.
      - If the connection is lost, the controller repeats the call under the same name. The repeated call waits for the
        first one and returns its result. Nothing is done twice.
    type: str
    default: ""
    version_added: 0.2.0
"""
