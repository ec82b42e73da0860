# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the files of a unit and read their settings, without asking systemd.

See systemd.unit(5) for the folders, the names of drop-ins and the syntax.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from typing import Dict, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import entries, environment
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
# Settings whose values do not contain secrets. The values of all other settings are not stored.
_SHOWN = lazy(
    r"(?:Limit|Memory|CPU|IO|Tasks|Restart|Timeout|StartLimit|Kill|Protect|Private|Restrict|Read|Inaccessible|NoExec"
    r"|Condition|Assert|SystemCall|Capability|Ambient|OOM|Watchdog|Success)\w*"
    r"|StandardOutput|StandardError|After|Before|Requires|Requisite|Wants|BindsTo|PartOf|Conflicts|Type|User|Group|SupplementaryGroups|DynamicUser"
    r"|WorkingDirectory|RootDirectory|RootImage|EnvironmentFile|UMask|Nice|NoNewPrivileges|Slice|PIDFile|WantedBy"
    r"|RemainAfterExit|RuntimeDirectory|StateDirectory|LogsDirectory|BindPaths|BindReadOnlyPaths|TemporaryFileSystem"
)
_ENVIRONMENT = "Environment"
_MASK = "/dev/null"


def paths(unit: str, *, folders: Sequence[str] = FOLDERS) -> List[str]:
    """Return the paths of the unit file and its drop-ins, in the order in which systemd reads these files."""
    name = unit if "." in os.path.basename(unit) else f"{unit}.service"
    template = re.sub(r"@[^@]+(?=\.\w+\Z)", "@", name)
    names = list(dict.fromkeys((name, template)))
    found = []
    for each in names:
        found = [path for path in (os.path.join(folder, each) for folder in folders) if os.path.lexists(path)][:1]
        if found:
            break
    drop_ins: Dict[str, str] = {}
    for folder in _unique(folders):
        for each in _drop_in_folders(names):
            with contextlib.suppress(OSError):
                for file in os.listdir(os.path.join(folder, each)):
                    if file.endswith(".conf"):
                        drop_ins.setdefault(file, os.path.join(folder, each, file))
    return [*found, *(drop_ins[file] for file in sorted(drop_ins))]


def _unique(folders: Sequence[str]) -> List[str]:
    """Return the folders, except links to other folders in the list. On many hosts, /lib is such a link."""
    return list({os.path.realpath(folder): folder for folder in reversed(folders)}.values())[::-1]


def _drop_in_folders(names: Sequence[str]) -> List[str]:
    """Return the names of the drop-in folders: for the unit, for its prefixes ("name-"), and for its type."""
    base, _dot, kind = names[0].rpartition(".")
    dashes = [position for position, character in enumerate(base[:-1]) if character == "-"]
    prefixes = [f"{base[: position + 1]}.{kind}.d" for position in reversed(dashes)]
    return [*(f"{name}.d" for name in names), *prefixes, f"{kind}.d"]


def read(data: bytes) -> Tuple[str, Mapping[str, str]]:
    """Return the settings of a unit's file as parts. This is a Reader (see files.py).

    The value of a setting that may contain a secret is empty. If a setting is a command, only the path of its program
    is stored. The name of each environment variable is a separate part.
    """
    parts: Dict[str, str] = {}
    for key, value in _settings(data.decode("utf-8", "replace")):
        if key == _ENVIRONMENT:
            with contextlib.suppress(ValueError):
                variables = dict(word.partition("=")[::2] for word in shlex.split(value))
                for name, text in variables.items():
                    parts[f"{key} {environment.told(name, text)}"] = environment.shown(name, text)
            continue
        if _looks_like_key(key, value):
            parts[environment.NO_NAME] = ""
            continue
        if key.startswith("Exec"):
            shown = next(iter(value.split()), "").lstrip("@-:+!|")
        else:
            shown = value if _SHOWN.fullmatch(key) else ""
        before = parts.get(key)
        parts[key] = entries.text(f"{before}; {shown}" if before and shown else shown or before or "")
    return "", parts


def _looks_like_key(name: str, value: str) -> bool:
    """Return True if a line may belong to a private key. A setting may have a long name, but its name has no digits."""
    return environment.told(name, value) == environment.NO_NAME and (value == "=" or re.search(r"\d", name) is not None)


def _settings(text: str) -> List[Tuple[str, str]]:
    """Return the assignments in a unit's file, in order."""
    found = []
    begun = ""
    for line in text.splitlines():
        if line.lstrip()[:1] in ("#", ";") or not (line.strip() or begun):
            continue
        if line.endswith("\\"):
            begun += f"{line[:-1]} "
            continue
        key, equals, value = (begun + line).partition("=")
        begun = ""
        if equals and re.fullmatch(r"\s*\w+\s*", key):
            found.append((key.strip(), value.strip()))
    return found


def environment_files(parts: Mapping[str, str]) -> List[str]:
    """Return the environment files that a unit's settings list. Names with patterns or specifiers are omitted."""
    named = [word.strip().lstrip("-") for word in parts.get("EnvironmentFile", "").split(";")]
    return [path for path in named if path.startswith("/") and not set(path) & set("*?[%")]


def is_masked(path: str) -> bool:
    """Return True if a unit's file is a link to /dev/null."""
    with contextlib.suppress(OSError):
        return os.readlink(path) == _MASK
    return False
