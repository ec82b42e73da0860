# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation shared by the modules of this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes that every module declares: check_mode, diff_mode, idempotent and platform."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - Python 3.8 or later on the machine where the module runs
attributes:
  check_mode:
    description: In check mode, the module reports the changes that it would make, but does not change the host.
  diff_mode:
    description: In diff mode, the module returns the changes that it made as C(diff). In check mode, C(diff) contains
      the changes that the module would make.
  idempotent:
    description: If you run the task again with the same parameters, the module reports C(changed=false).
  platform:
    description: The operating systems on which the module can run.
    support: full
    platforms: linux
"""

    # Attributes for modules that never change anything.
    INFO_MODULE = r"""
options: {}
requirements:
  - Python 3.8 or later on the machine where the module runs
attributes:
  check_mode:
    description: In check mode, the module reports the changes that it would make, but does not change the host.
    support: full
  diff_mode:
    description: In diff mode, the module returns the changes that it made as C(diff). In check mode, C(diff) contains
      the changes that the module would make.
    support: N/A
    details: The module makes no changes.
  idempotent:
    description: If you run the task again with the same parameters, the module reports C(changed=false).
    support: full
"""
