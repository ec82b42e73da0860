# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare node_modules with the lock file, without npm."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any, ContextManager, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError, english

TREE = "node_modules"
# Like npm, use the first of these files that exists.
LOCK_FILES = ("npm-shrinkwrap.json", "package-lock.json")

# Maps the kernel's names for architectures to Node's names.
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64", "armv7l": "arm", "i686": "ia32", "ppc64le": "ppc64"}
# Maximum size in bytes of a lock file or the application's package.json.
_LARGEST = 64 << 20
# Maximum size in bytes of a package's package.json.
_LARGEST_MANIFEST = 1 << 20


class NpmError(ServiceError):
    """The modules could not be checked, or a new tree could not be built or installed. The old tree is kept."""


class Difference(NamedTuple):
    """A package that differs from the lock file. wanted, found: versions, or None if the package is absent."""

    path: str
    wanted: Optional[str]
    found: Optional[str]
    told: Message

    @property
    def reason(self) -> str:
        """The difference as text."""
        return english(self.told)


def explained(deed: str, /, **values: str) -> ContextManager[None]:
    """Convert an operating system error to an NpmError. See run_as.explained."""
    return run_as.explained(deed, failure=NpmError, **values)


def read(path: str, *, limit: int = _LARGEST) -> bytes:
    # Do not block on a FIFO or read endlessly from a device that has replaced the file.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "it is not a regular file", path)
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    return data


def _read_json(path: str) -> Dict[str, Any]:
    with explained("read", path=path):
        data = read(path)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NpmError(message("reason.npm.not_json", path=path)) from error
    if not isinstance(value, dict):
        raise NpmError(message("reason.npm.not_object", path=path))
    return value


def lock_file(app_dir: str) -> str:
    """Return the path of the lock file. Raises NpmError if there is no lock file."""
    for name in LOCK_FILES:
        path = os.path.join(app_dir, name)
        if os.path.exists(path):
            return path
    raise NpmError(message("reason.npm.no_lock_file", folder=app_dir))


def read_packages(path: str) -> Dict[str, Dict[str, Any]]:
    """Return the entries of a lock file (version 2 or 3), keyed by package folder.

    The folders are relative to the application's folder.
    """
    packages = _read_json(path).get("packages")
    if not isinstance(packages, dict):
        raise NpmError(message("reason.npm.no_packages", path=path))
    return {folder: entry for folder, entry in packages.items() if isinstance(entry, dict)}


def installable(packages: Mapping[str, Dict[str, Any]], *, omit_dev: bool) -> Dict[str, Dict[str, Any]]:
    """Return the entries that belong in node_modules, except the application itself and local folders (workspaces)."""
    return {
        folder: entry
        for folder, entry in packages.items()
        if "node_modules" in folder.split("/") and not entry.get("extraneous") and not (omit_dev and entry.get("dev"))
    }


def _fits(allowed: Any, actual: str) -> bool:
    """Return True if a package's os or cpu list (!x excludes x) allows this host."""
    listed = allowed if isinstance(allowed, list) else [allowed]
    names = [name for name in listed if isinstance(name, str)]
    if f"!{actual}" in names:
        return False
    wanted = [name for name in names if not name.startswith("!")]
    return not wanted or actual in wanted or "any" in wanted


def package_name(folder: str) -> str:
    return folder.rsplit("node_modules/", 1)[-1]


def _version(entry: Mapping[str, Any]) -> Optional[str]:
    version = entry.get("version")
    return version.strip().lstrip("v=") if isinstance(version, str) else None


def _on_disk(app_dir: str, folder: str, wanted: Mapping[str, Any]) -> Optional[Difference]:
    """Compare one package's folder with its lock entry."""
    name, version = package_name(folder), _version(wanted)
    if wanted.get("link"):
        if os.path.isdir(os.path.join(app_dir, folder)):
            return None
        return Difference(folder, "link", None, message("reason.npm.dead_link", name=name, folder=folder))
    try:
        manifest = json.loads(
            read(os.path.join(app_dir, folder, "package.json"), limit=_LARGEST_MANIFEST).decode("utf-8")
        )
        found = _version(manifest) if isinstance(manifest, dict) else None
    except OSError:
        return Difference(folder, version, None, message("reason.npm.no_manifest", name=name, folder=folder))
    except (ValueError, RecursionError):
        return Difference(folder, version, "broken", message("reason.npm.broken_manifest", name=name, folder=folder))
    if version is None or found == version:
        return None
    versions = {"found": str(found), "wanted": version}
    return Difference(folder, version, found, message("reason.npm.other_there", name=name, folder=folder, **versions))


def architecture() -> str:
    """Return Node's name for the architecture of this machine."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def differences(app_dir: str, *, wanted: Mapping[str, Dict[str, Any]], platform: str, arch: str) -> List[Difference]:
    """Return the differences between node_modules and the wanted packages (see installable), without running npm.

    An optional package that npm did not install is not a difference. An extraneous package is a difference only if it
    is nested in another package. Node would load the nested package instead of the correct package. The content of
    node_modules/.package-lock.json is compared first, then each package's own package.json.
    """
    if not wanted:
        return []
    if not os.path.isdir(os.path.join(app_dir, TREE)):
        return [Difference(TREE, "a folder", None, message("reason.npm.no_tree"))]
    try:
        hidden = read_packages(os.path.join(app_dir, TREE, ".package-lock.json"))
    except NpmError:
        return [Difference(f"{TREE}/.package-lock.json", "a lock file", None, message("reason.npm.unfinished"))]
    found: List[Difference] = []
    for folder, entry in wanted.items():
        name, installed = package_name(folder), hidden.get(folder)
        if installed is None:
            if not (entry.get("optional") or entry.get("devOptional")):
                told = message("reason.npm.not_installed", name=name, version=str(_version(entry)))
                found.append(Difference(folder, _version(entry), None, told))
            continue
        if _version(installed) != _version(entry):
            versions = {"wanted": str(_version(entry)), "found": str(_version(installed))}
            told = message("reason.npm.other_installed", name=name, **versions)
            found.append(Difference(folder, _version(entry), _version(installed), told))
            continue
        if None not in (installed.get("integrity"), entry.get("integrity")) and (
            installed["integrity"] != entry["integrity"]
        ):
            told = message("reason.npm.other_integrity", name=name, version=str(_version(entry)))
            found.append(Difference(folder, _version(entry), "another", told))
            continue
        if not (_fits(entry.get("os"), platform) and _fits(entry.get("cpu"), arch)):
            told = message("reason.npm.other_platform", name=name, platform=f"{platform}-{arch}")
            found.append(Difference(folder, None, _version(installed), told))
            continue
        on_disk = _on_disk(app_dir, folder, entry)
        if on_disk is not None:
            found.append(on_disk)
    for folder, entry in hidden.items():
        if folder not in wanted and folder.rpartition("/node_modules/")[0] in wanted:
            told = message("reason.npm.not_locked", name=package_name(folder), folder=folder)
            found.append(Difference(folder, None, _version(entry), told))
    return found
