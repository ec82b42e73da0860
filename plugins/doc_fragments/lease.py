# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the lease options, shared by all modules that run on the managed host."""

from __future__ import annotations


class ModuleDocFragment:
    """The options "run", "state_dir", "call" and "timeline"."""

    DOCUMENTATION = r"""
options:
  run:
    description:
      - The ID of the run that calls this module, as returned in RV(itsm_nexus.runbook.incident#module:run).
      - While the module is running, no other run can take over the host. When the module ends, it renews the lease of
        this run. If another run has already taken the lease, the module fails without changing anything.
      - If empty, the module does not check the lease.
      - The playbooks set O(run) and O(state_dir) for all modules, with C(module_defaults) for
        C(group/itsm_nexus.runbook.host).
    type: str
    default: ""
    version_added: 1.0.0
  state_dir:
    description: Path of the folder that contains the incident records, the lease and the evidence.
    type: path
    default: /var/lib/itsm-runbook
  call:
    description:
      - The name of this call. The action plugin sets this option, so do not set it in a task.
      - If the connection is lost, the controller repeats the call with the same name. The repeated call waits until the
        first call ends, and then returns the result of the first call. The module does not perform any action twice.
    type: str
    default: ""
    version_added: 1.0.0
  timeline:
    description:
      - The new lines of the run's timeline, in compressed form. The action plugin sets this option, so do not set it in
        a task.
      - The module appends these lines to a file in the subfolder C(timelines) of O(state_dir). If the controller loses
        its own copy of the timeline, a later run uses this file to write the postmortem.
    type: str
    default: ""
    version_added: 1.0.0
"""
