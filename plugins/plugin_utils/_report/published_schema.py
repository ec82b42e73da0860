# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema (2020-12) and the table of the variables that the playbooks publish, from _timeline/published.py."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import kind_schema
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds, message_kinds, published

_REFERENCES = ((message_kinds.MESSAGE, "message"), (message_kinds.DEEP, "message"))
_TYPES = {kinds.TEXT: "text", kinds.NUMBER: "number", kinds.FLAG: "true or false"}
_TEXT_OR_MESSAGE = {"anyOf": [{"type": "string"}, kind_schema.reference("message")]}
# A value in a message can be a message, so the definition refers to itself.
_MESSAGE = {
    "description": "A translatable message: the ID of the template, and the values to insert.",
    "type": ["object", "null"],
    "properties": {
        "id": {"type": "string"},
        "values": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": ["number", "string", "null"]},
                    kind_schema.reference("message"),
                    {"type": "array", "items": _TEXT_OR_MESSAGE},
                ]
            },
        },
    },
}


def schema() -> Dict[str, Any]:
    """Return the schema for the variables of a run, which are also the artifacts of its job.

    A value must have exactly the keys of the table. A dictionary inside a value may contain additional keys.
    """
    outcome = published.VARIABLES["outage_recover"].keys
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variables that the playbooks publish",
        "description": "Times are in UTC, and durations in seconds. Null means unknown.",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _of_variable(each) for name, each in published.VARIABLES.items()},
        "$defs": {"outcome": _of_keys(outcome), "message": _MESSAGE},
    }


def _of_variable(variable: published.Variable) -> Dict[str, Any]:
    described = {"description": f"{variable.doc} Published by {variable.playbooks.replace('`', '')}."}
    if variable.keys is published.OUTCOME:
        value = kind_schema.reference("outcome")
    elif isinstance(variable.keys, Mapping):
        value = _of_keys(variable.keys)
    else:
        value = _of_value(variable.keys)
    return {**described, **({"type": "object", "additionalProperties": value} if variable.by else value)}


def _of_keys(keys: Mapping[str, published.Key]) -> Dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name, key in keys.items() if not key.only],
        "additionalProperties": False,
        "properties": {name: {**_of_value(key.kind), "description": _plain(key)} for name, key in keys.items()},
    }


def _of_value(kind: Any) -> Dict[str, Any]:
    if isinstance(kind, published.Returned):
        return {"type": ["array" if kind.kind.startswith("list") else "object", "null"]}
    if isinstance(kind, kinds.Each) and isinstance(kind.of, Mapping):
        return {"type": ["array", "null"], "items": _of_value(kind.of)}
    if isinstance(kind, Mapping):
        properties = {name: _of_value(each) for name, each in kind.items()}
        return {"type": ["object", "null"], "properties": properties}
    return kind_schema.of_kind(kind, _REFERENCES, closed=False)


def _plain(key: published.Key) -> str:
    cases = f" Only in these cases: {', '.join(key.only)}." if key.only else ""
    return key.doc.replace("`", "") + cases


def tables() -> Iterator[str]:
    """Yield the sections of the page that describes the variables, as Markdown."""
    yield "\n".join(
        [
            "| variable | value | published by |",
            "|---|---|---|",
            *(f"| {_linked(name)} | {each.doc} | {each.playbooks} |" for name, each in published.VARIABLES.items()),
        ]
    )
    for name, variable in published.VARIABLES.items():
        if name == "outage_incidents":
            continue
        yield f"## {name}"
        yield _place(name, variable)
        if not isinstance(variable.keys, Mapping):
            yield f"Type: {_type(variable.keys)}."
            continue
        yield "\n".join(
            [
                "| key | type | only in these cases | meaning |",
                "|---|---|---|---|",
                *(
                    f"| `{key}` | {_type(each.kind)} | {_cases(each)} | {each.doc} |"
                    for key, each in variable.keys.items()
                ),
            ]
        )


def _linked(name: str) -> str:
    section = "outage_recover" if name == "outage_incidents" else name
    return f"[`{name}`](#{section})"


def _place(name: str, variable: published.Variable) -> str:
    if name == "outage_recover":
        return (
            "A dictionary with one entry per host. `outage_incidents` has the same entries, one per incident.\n"
            "If a key is missing, the value from an earlier run for the incident remains valid. "
            "Some keys exist only in certain cases:\n\n"
            + "\n".join(f"- {case}: {meaning}" for case, meaning in published.CASES.items())
        )
    return "A dictionary with one entry per host." if variable.by else "One value for all hosts of the run."


def _cases(key: published.Key) -> str:
    return ", ".join(f"`{case}`" if case.endswith(".yml") else case for case in key.only)


def _type(kind: Any) -> str:
    if isinstance(kind, published.Returned):
        return f"{kind.kind}, see the return values of `{kind.module}`"
    if isinstance(kind, str):
        return _TYPES[kind]
    if kind is message_kinds.TOLD:
        return "messages"
    if isinstance(kind, kinds.Each):
        inner = _type(kind.of)
        return f"list of {inner.replace('dictionary (', 'dictionaries (', 1)}"
    if isinstance(kind, kinds.Named):
        return f"dictionary with any keys and these values: {_type(kind.of)}"
    return f"dictionary ({', '.join(f'`{name}`' for name in kind)})"
