# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base class for the facts that one part of the triage returns."""

from __future__ import annotations

import types
from typing import Any, Mapping, Optional, Sequence, Type, TypeVar

_Part = TypeVar("_Part", bound="Part")

# Default value for facts that are mappings.
NOTHING: Mapping[str, Any] = {}


class Part(types.SimpleNamespace):
    """The facts from one part of the triage. The field names are documented in RETURN of the triage_info module.

    A field is an annotated class attribute whose value is the default. The parts are ordinary classes, because each
    dataclass would add a millisecond to the import time. error: the reason why the part could not be collected, or
    None.
    """

    error: Optional[str] = None

    @classmethod
    def of(cls: Type[_Part], facts: Any) -> _Part:
        """Return a part's facts. An unknown fact (null or missing) is set to the default of its field."""
        known = facts if isinstance(facts, Mapping) else {}
        fields = {name for each in cls.__mro__ for name in getattr(each, "__annotations__", {})}
        return cls(**{name: known[name] for name in fields if known.get(name) is not None})


def entries(facts: Any) -> Sequence[Mapping[str, Any]]:
    """Return the list of facts from one part. The list is empty if the part could not be collected."""
    return facts if isinstance(facts, list) else []
