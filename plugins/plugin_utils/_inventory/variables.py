# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables for which a discovery may propose values, with their defaults and types from the roles."""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Callable, Dict, List, Mapping, Tuple

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize

_ROLES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "roles")

# Only these variables are accepted from a host, in the order in which they are written.
NAMES = (
    *("nexus_manager", "nexus_unit", "nexus_user", "nexus_app_dir", "nexus_command"),
    *("nexus_environment_file", "nexus_required_environment", "nexus_db_path", "nexus_db_path_variable"),
    *("nexus_https_port", "nexus_http_port", "nexus_health_path", "nexus_health_ok_statuses", "nexus_ready_path"),
    *("nexus_tls_cert_path", "nexus_tls_key_path", "nexus_login_password"),
    *("nexus_log_file", "nexus_log_patterns", "nexus_stop_timeout", "nexus_release_strategy"),
    *("database_recovery_backup_dirs", "database_recovery_backup_patterns"),
)
# A value must not contain these strings. A template would run on the controller, and a line break could add lines to
# the file.
_ACTIVE = re.compile(rf"{sanitize.ACTIVE.pattern}|[\t\n]|{{[{{%#]")
_TYPES: Mapping[str, Tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "list": (list,),
}


def _loaded(role: str, *parts: str) -> Mapping[str, Any]:
    with open(os.path.join(_ROLES, role, *parts), "rb") as stream:
        found = yaml.safe_load(stream)
    return found if isinstance(found, Mapping) else {}


@functools.lru_cache(maxsize=None)
def specification() -> Mapping[str, Mapping[str, Any]]:
    """Return the argument specifications of the roles that read the variables."""
    found: Dict[str, Mapping[str, Any]] = {}
    for role in ("nexus", "database_recovery"):
        found.update(_loaded(role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"])
    return found


@functools.lru_cache(maxsize=None)
def defaults() -> Mapping[str, Any]:
    """Return the defaults of the roles, without defaults that are templates."""
    found = {**_loaded("nexus", "defaults", "main.yml"), **_loaded("database_recovery", "defaults", "main.yml")}
    return {name: value for name, value in found.items() if "{{" not in str(value)}


def is_plain(value: Any) -> bool:
    """Return True if a value from a host contains no template, line break or control character."""
    texts = value if isinstance(value, list) else [value]
    return all(not isinstance(text, str) or not _ACTIVE.search(text) for text in texts)


def problems(values: Mapping[str, Any]) -> List[str]:
    """Return the reasons why the values do not match the argument specifications of their roles, or an empty list."""
    options = {name: specification()[name] for name in values}
    return [str(each) for each in ArgumentSpecValidator(options).validate(dict(values)).error_messages]


def accepted(name: str, value: Any) -> bool:
    """Return True if a host may propose this value for this variable."""
    if name not in NAMES or isinstance(value, bool) or not is_plain(value):
        return False
    return isinstance(value, _TYPES[str(specification()[name]["type"])]) and not problems({name: value})


def _absolute(value: Any, app_dir: str) -> str:
    return os.path.normpath(os.path.join(app_dir or "/", str(value))) if value else ""


def _texts(value: Any) -> List[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]


def _paths(value: Any, app_dir: str) -> List[str]:
    return [_absolute(each, app_dir) for each in _texts(value)]


def _command(value: Any, _app_dir: str) -> List[str]:
    """Return a command with the folder removed from the program's path."""
    words = _texts(value)
    return [os.path.basename(words[0]), *words[1:]] if words else []


def _unit(value: Any, _app_dir: str) -> List[str]:
    return [re.sub(r"\.service\Z", "", str(value))]


def _number(value: Any, _app_dir: str) -> List[str]:
    try:
        return [str(float(value))]
    except (TypeError, ValueError):
        return [str(value)]


def _casefolded(value: Any, _app_dir: str) -> List[str]:
    return [each.casefold() for each in _texts(value)]


def _plain(value: Any, _app_dir: str) -> List[str]:
    return _texts(value)


# Maps a variable to the function that prepares its values for the comparison. Other variables are compared as text.
_COMPARED: Mapping[str, Callable[[Any, str], List[str]]] = {
    **dict.fromkeys(("nexus_https_port", "nexus_http_port", "nexus_stop_timeout"), _number),
    **dict.fromkeys(("nexus_app_dir", "nexus_environment_file", "nexus_db_path", "nexus_log_file"), _paths),
    **dict.fromkeys(("nexus_tls_cert_path", "nexus_tls_key_path"), _paths),
    **dict.fromkeys(("nexus_log_patterns", "database_recovery_backup_dirs"), _paths),
    "nexus_command": _command,
    "nexus_unit": _unit,
    "nexus_health_ok_statuses": _casefolded,
}
# Lists in the inventory that may contain additional entries.
_AT_LEAST = ("nexus_log_patterns", "database_recovery_backup_dirs", "nexus_health_ok_statuses")


def same(name: str, found: Any, known: Any, *, app_dir: str) -> bool:
    """Return True if two values of a variable are equivalent. app_dir: the folder to which paths are relative."""
    if known is None:
        return False
    compared = _COMPARED.get(name, _plain)
    of_host, of_inventory = compared(found, app_dir), compared(known, app_dir)
    return set(of_host) <= set(of_inventory) if name in _AT_LEAST else of_host == of_inventory
