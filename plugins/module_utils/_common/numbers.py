# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reject infinite numbers and NaN, because ansible-core accepts the YAML values .inf, .nan and 1e999 as floats.

An infinite time limit would never expire. Every comparison with NaN is false, so range checks do not detect NaN.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Mapping


def require_finite(params: Mapping[str, Any], *, fail: Callable[..., Any]) -> None:
    """Call fail() with msg if a parameter, or a member of a dictionary parameter, is infinite or NaN."""
    for name, value in params.items():
        for inner, number in value.items() if isinstance(value, Mapping) else ((name, value),):
            if isinstance(number, float) and not math.isfinite(number):
                shown = name if inner == name else f"{name}.{inner}"
                fail(msg=f"{shown} is {number}: must be a finite number")
