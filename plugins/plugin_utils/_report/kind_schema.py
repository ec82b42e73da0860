# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema for a kind of value. For the kinds, see _timeline/kinds.py."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds

# Kinds that have a definition under $defs, with the name of the definition.
References = Sequence[Tuple[Any, str]]
_SCALARS = {
    kinds.TEXT: "string",
    kinds.PROGRAM: "string",
    kinds.NUMBER: "number",
    kinds.FLAG: "boolean",
}


def reference(name: str) -> Dict[str, Any]:
    """Return the schema that refers to a definition under $defs."""
    return {"$ref": f"#/$defs/{name}"}


def of_kind(kind: Any, references: References, *, closed: bool = True) -> Dict[str, Any]:
    """Return the schema for a kind, or a reference to its definition. Every value can be null.

    closed: True if a mapping must not contain other keys.
    """
    name = next((name for known, name in references if known is kind), None)
    return reference(name) if name else of_structure(kind, references, closed=closed)


def of_structure(kind: Any, references: References, *, closed: bool = True) -> Dict[str, Any]:
    """Return the schema for a kind. See of_kind."""
    if isinstance(kind, str):
        return {"type": [_SCALARS[kind], "null"]}
    if isinstance(kind, tuple):
        return {"anyOf": [of_kind(each, references, closed=closed) for each in kind]}
    if isinstance(kind, kinds.Each):
        return {"type": ["array", "null"], "items": of_kind(kind.of, references, closed=closed)}
    if isinstance(kind, kinds.Named):
        return {"type": ["object", "null"], "additionalProperties": of_kind(kind.of, references, closed=closed)}
    properties = {name: of_kind(each, references, closed=closed) for name, each in kind.items()}
    return {
        "type": ["object", "null"],
        **({"additionalProperties": False} if closed else {}),
        "properties": properties,
    }
