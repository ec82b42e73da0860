# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out whether the clock of this host is synchronized."""

from __future__ import annotations

import ctypes
from typing import Optional

# The size of struct timex is 208 bytes on 64-bit systems.
_SIZE = 512
_TIME_ERROR = 5


def synchronized() -> Optional[bool]:
    """Return True if the kernel considers its clock synchronized, or None if this is unknown. See adjtimex(2)."""
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_SIZE)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
