# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of environment variables, and the values of variables that are not secret."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import entries
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names

# Variables of Node applications whose values are not secret.
_HARMLESS = ("NODE_ENV", "HOST", "PORT", "HTTP_PORT", "HTTPS_PORT", "ENABLE_HTTPS", "TZ", "LANG", "LC_ALL")
_PATHS = ("DATABASE_PATH", "DB_PATH", "SQLITE_PATH")
# Name for a line that does not set a variable.
NO_NAME = "(not a name)"
# The last line of a PEM key can have the form BASE64=, so it looks like a variable. Ordinary names have underscores.
_BASE64 = lazy(r"[A-Za-z0-9]{20,}|(?=\w*[a-z])(?=\w*[A-Z])(?=\w*[0-9])\w{20,}")
# Matches the short last line of a PEM key. This line is base64 only if its length, with the padding, is a multiple of
# four.
_SHORT_BASE64 = lazy(r"(?=\w*[a-z])(?=\w*[A-Z])(?=\w*[0-9])[A-Za-z0-9]{2,}={0,2}")
# A value with other characters may be a URL with a password.
_PLAIN = lazy(r"[\w./:-]{0,200}")


def shown(name: str, value: str) -> str:
    """Return the value of a variable if it is certainly not secret, otherwise an empty string."""
    known = name in (*_HARMLESS, *_PATHS) or _is_path(name)
    return value if known and _PLAIN.fullmatch(value) and "://" not in value else ""


def told(name: str, value: str) -> str:
    """Return the name of a variable, or NO_NAME if the name may be a line of a private key."""
    padded = f"{name}={value.strip()}"
    short = value.strip() in ("", "=") and len(padded) % 4 == 0 and _SHORT_BASE64.fullmatch(padded) is not None
    return NO_NAME if value.strip() == "=" or short or _BASE64.fullmatch(name) else entries.text(name)


def _is_path(name: str) -> bool:
    return environment_names.names_certificate(name) or environment_names.names_key(name)


def read(data: bytes) -> Tuple[str, Mapping[str, str]]:
    """Return the names of the variables in an environment file as parts. This is a Reader (see files.py)."""
    values = env_file.parse_environment(data.decode("utf-8", "replace"))
    return "", {told(name, value): shown(name, value) for name, value in values.items()}


def named(parts: Mapping[str, str]) -> Dict[str, str]:
    """Return the paths of the certificate and of the key, if the parts of an entry contain these paths."""
    found: Dict[str, str] = {}
    for part, value in parts.items():
        # If the entry is for a unit, the part for a variable is named "Environment NAME".
        name = part.rpartition(" ")[2]
        if value and environment_names.names_certificate(name):
            found.setdefault("certificate", value)
        elif value and environment_names.names_key(name):
            found.setdefault("key", value)
    return found
