# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation shared by the modules of this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes that every module states: C(check_mode), C(diff_mode), C(idempotent), C(platform)."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what it would do without changing the host.
  diff_mode:
    description: Returns what changed, or would change, as C(diff).
  idempotent:
    description: A second run with the same parameters reports C(changed=false).
  platform:
    description: The operating systems of the managed hosts.
    support: full
    platforms: linux
"""

    # A module that only looks and never changes anything.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what it would do without changing the host.
    support: full
  diff_mode:
    description: Returns what changed, or would change, as C(diff).
    support: N/A
    details: This module changes nothing.
  idempotent:
    description: A second run with the same parameters reports C(changed=false).
    support: full
"""
