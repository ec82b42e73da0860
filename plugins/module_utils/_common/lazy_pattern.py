# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Regular expressions that are compiled at first use.

Each module call on a host imports the patterns again, and most calls use only a few of them.
"""

from __future__ import annotations

import re
from typing import Any, Pattern, cast


class _Lazy:
    """A pattern that is compiled when one of its attributes is first read. Attributes are then cached."""

    def __init__(self, text: str, flags: int) -> None:
        self._source = (text, flags)

    def __getattr__(self, name: str) -> Any:
        if name == "_compiled":
            self._compiled = re.compile(*self._source)
            return self._compiled
        if name == "_source" or name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._compiled, name)
        setattr(self, name, value)
        return value


def lazy(text: str, flags: int = 0) -> Pattern[str]:
    """Return an object with the methods and attributes of a compiled pattern. Compile errors occur at first use.

    Functions of re, such as re.sub, do not accept this object as a pattern.
    """
    return cast("Pattern[str]", _Lazy(text, flags))
