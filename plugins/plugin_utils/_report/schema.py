# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema (2020-12) of the JSON document, generated from model.Incident and the allowlist."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Dict, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import kind_schema
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, kinds
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}
# Maps each field that contains module results to the allowlisted keys of these results.
_OF_WHITELIST: Mapping[str, Any] = {
    "findings": allowlist.RESULTS["triage_info"]["findings"],
    "resources": {name: kind for name, kind in allowlist.RESULTS["triage_info"]["facts"].items() if name != "changes"},
    "changes": allowlist.RESULTS["triage_info"]["facts"]["changes"],
    "probe": allowlist.RESULTS["health_probe"],
    "database": allowlist.RESULTS["sqlite_info"],
    "escalation": {**allowlist.OUTCOME["escalation"], "unreached": kinds.Each(kinds.TEXT)},
}
# These kinds occur several times in the document, so each has one definition under $defs.
_PREVIEW = allowlist.OUTCOME["escalation"]["would"]
_REFERENCES = ((_PREVIEW, "notifications"),)
_INSTANT = {"type": ["string", "null"], "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_CHOICES = {
    "outcome": list(incident_model.OUTCOMES),
    "source": ["verdict", "events"],
    "data_loss": ["none", "suspected", "known", "unknown"],
    "weight": [incident_model.CHANGE, incident_model.FAILURE, incident_model.DECISION, incident_model.DETAIL],
}


def schema() -> Dict[str, Any]:
    """Return the schema for the text that model.to_json returns."""
    described = _of_class(incident_model.Incident)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Postmortem of an incident",
        **described,
        "description": f"{described['description']} Times are UTC, durations are in seconds, and null means unknown.",
        "$defs": {"instant": _INSTANT, "notifications": kind_schema.of_structure(_PREVIEW, _REFERENCES)},
    }


def _of_class(kind: Any) -> Dict[str, Any]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {
        "description": (kind.__doc__ or "").split("\n")[0],
        "type": "object",
        "required": [field.name for field in fields],
        "additionalProperties": False,
        "properties": {
            field.name: {**_of_type(field.name, hints[field.name]), "description": field.metadata["doc"]}
            for field in fields
        },
    }


def _of_type(name: str, kind: Any) -> Dict[str, Any]:
    if name in _OF_WHITELIST:
        return kind_schema.of_kind(_OF_WHITELIST[name], _REFERENCES)
    if name in _CHOICES:
        return {"enum": _CHOICES[name]}
    if dataclasses.is_dataclass(kind):
        return _of_class(kind)
    return _of_hint(name, kind)


def _of_hint(name: str, kind: Any) -> Dict[str, Any]:
    arguments = typing.get_args(kind)
    if name == "at" or name.endswith("_at"):
        return (
            kind_schema.reference("instant")
            if type(None) in arguments
            else {**kind_schema.reference("instant"), "type": "string"}
        )
    if type(None) in arguments:
        inner = _of_type(name, arguments[0])
        return {**inner, "type": [inner["type"], "null"]}
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": _of_type("", arguments[0])}
    if typing.get_origin(kind) is dict:
        values = {} if arguments[1] is Any else {"additionalProperties": _of_type("", arguments[1])}
        return {"type": "object", **values}
    return {"type": _SCALARS[kind]}
