# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of values that may be recorded, and the parts of a value that each kind allows.

Text is shortened, and control characters are removed. Credentials that modules should already have masked are masked
again.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, sanitize

TEXT_LIMIT = 600
LIST_LIMIT = 50
COUNT_LIMIT = 500
# Maximum length of a string whose sanitized form is cached.
_OFTEN = 100

# Kinds of scalars.
TEXT = "text"
NUMBER = "number"
FLAG = "flag"
PROGRAM = "program"  # a command line: only the program name is kept, because the arguments may contain secrets

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_REDACTOR = redact.Redactor()

_DROPPED = object()
_LARGEST = 1 << 63  # Largest absolute value of a number.


@dataclasses.dataclass(frozen=True)
class Each:
    """A list in which each item has the kind `of`."""

    of: Any
    limit: int = LIST_LIMIT


@dataclasses.dataclass(frozen=True)
class Named:
    """A mapping in which each value has the kind `of`. The keys can be any names, such as names of tables or checks."""

    of: Any
    limit: int = COUNT_LIMIT


Kind = Union[str, Each, Named, Mapping[str, Any], Tuple[Any, ...]]


def text(value: str, *, limit: int = TEXT_LIMIT) -> str:
    """Return `value` without control characters and credentials, shortened to at most `limit` characters."""
    # Short strings are cached, because the same names of tasks, tables and parts occur for every host.
    return _clean(value, limit) if len(value) <= _OFTEN else _cleaned(value, limit)


def _cleaned(value: str, limit: int) -> str:
    # Truncate the text first, because matching the patterns takes longer for long strings. If a secret is truncated,
    # its remaining part is still masked.
    cleaned = _REDACTOR.text(sanitize.ACTIVE.sub(" ", sanitize.without_sequences(str(value[:limit]))))
    return cleaned[:limit] if len(value) <= limit else cleaned[: limit - 1] + "…"


_clean = functools.lru_cache(maxsize=4096)(_cleaned)


def static(template: object) -> Optional[str]:
    """Return the constant part of a name or message in a playbook, or None if nothing readable remains.

    Each template expression becomes an ellipsis, because its value at run time may be a secret. A template expression
    in brackets at the end is omitted, because it is meant only for the screen.
    """
    if not isinstance(template, str):
        return None
    kept = re.sub(r" \(…\)\Z", "", _TEMPLATE.sub("…", template))
    return text(kept) if re.search(r"\w", kept) else None


def pick(kind: Kind, value: object) -> Any:
    """Return the part of a value that the kind allows. Only the allowed keys of a mapping are returned."""
    picked = _pick(kind, value)
    return None if picked is _DROPPED else picked


def _pick(kind: Kind, value: object) -> Any:
    if value is None:
        return None
    if isinstance(kind, str):
        return _scalar(kind, value)
    if isinstance(kind, tuple):
        return next((found for found in (_pick(each, value) for each in kind) if found is not _DROPPED), _DROPPED)
    if isinstance(kind, Each):
        if not isinstance(value, (list, tuple)):
            return _DROPPED
        members = (_pick(kind.of, member) for member in value[: kind.limit])
        return [member for member in members if member is not _DROPPED]
    return _mapping(kind, value) if isinstance(value, Mapping) else _DROPPED


def _mapping(kind: Union[Named, Mapping[str, Any]], value: Mapping[Any, Any]) -> Dict[str, Any]:
    if isinstance(kind, Named):
        pairs = [(text(str(name), limit=200), _pick(kind.of, value[name])) for name in list(value)[: kind.limit]]
    else:
        pairs = [(name, _pick(kind[name], value[name])) for name in kind if name in value]
    return {name: member for name, member in pairs if member is not _DROPPED}


def _scalar(kind: str, value: object) -> Any:
    if kind == FLAG:
        return bool(value) if isinstance(value, bool) else _DROPPED
    if kind == NUMBER:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return _DROPPED
        # A larger integer is neither a count nor a time, and may be too large for a float.
        return value if -_LARGEST <= value <= _LARGEST else _DROPPED
    if not isinstance(value, str):
        return _DROPPED
    if kind == PROGRAM:
        words = value.split()
        return text(words[0].rsplit("/", 1)[-1], limit=100) if words else ""
    return text(value)
