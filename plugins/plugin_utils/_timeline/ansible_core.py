# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names in ansible-core that the callbacks use only for optional information.

A later version of ansible-core may remove one of these names. If a callback imported the name directly, each run of
Ansible would fail, even a run of an unrelated playbook. Because the callbacks use this file, only the information is
missing.
"""

from __future__ import annotations

from typing import Any, Mapping, Tuple

try:
    from ansible.release import __version__ as VERSION
except ImportError:
    VERSION = ""
try:
    from ansible.utils.vars import load_extra_vars
except ImportError:
    load_extra_vars = None


def release() -> Tuple[int, ...]:
    """Return the major and the minor version, such as (2, 19). An unknown version is newer than all known versions."""
    return tuple(int(part) for part in VERSION.split(".")[:2]) if VERSION else (99, 0)


def extra_vars() -> Mapping[str, Any]:
    """Return the variables from the command line, or an empty mapping if they are unknown."""
    # load_extra_vars saves the variables in this attribute.
    return getattr(load_extra_vars, "extra_vars", None) or {}
