# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers that are none: YAML's C(.inf) and C(.nan), and what is too large (C(1e999)), are floats to ansible-core.

A limit of time without end is none, and nothing is greater or less than C(nan), so that no other check finds it.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping


def require_finite(params: Mapping[str, Any], *, fail: Callable[..., Any]) -> None:
    """Call C(fail) with a C(msg) that names the first of C(params), or of the mappings in them, that is no number."""
    for name, value in params.items():
        for inner, number in value.items() if isinstance(value, Mapping) else ((name, value),):
            if isinstance(number, float) and not math.isfinite(number):
                shown = name if inner == name else f"{name}.{inner}"
                fail(msg=f"{shown} is {number}: must be a finite number")
