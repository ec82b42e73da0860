# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep packed modules on the controller for later runs of Ansible.

Ansible packs each module together with all its imports once per run, and discards the packed module at the end of the
run. A packed module remains valid until the collection or ansible-core changes. Therefore, modules that were packed in
an earlier run are copied into Ansible's cache. A module that is missing, damaged or writable by other users is packed
again as usual.

If all hosts have the same Python version and this version is installed on the controller, the cached modules are
compiled. The hosts then do not have to compile them for every task. A host with a different Python version ignores the
compiled code and uses the source next to it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import ansible.module_utils
from ansible import constants
from ansible.executor import module_common
from ansible.release import __version__ as ansible_version

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist

_COLLECTION = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
_PREFIX = f"ansible_collections.{allowlist.COLLECTION}.plugins.modules."
# Number of generations to keep. A user may switch between versions of the collection or of ansible-core.
_GENERATIONS = 4
_LARGEST = 8 << 20
_COMPILED = "compiled-"
_DIGEST = 64
# A source file: its name in the archive, and its content.
_Source = Tuple[str, bytes]

_COMPILE_SECONDS = 20.0
_OTHER_FOLDERS = ("/usr/bin", "/usr/local/bin")
# If the compilation for a Python version failed, a file with this name exists. In this case, do not try again.
_FAILED = "failed"

# The Python version that will load the compiled code runs this program. Input: names and sources. Output: compiled
# files in the same order, in a format that Python loads without checking the source (PEP 552). Input and output are
# JSON.
_COMPILER = """
import base64, importlib.util, json, marshal, sys
made = []
for name, source in json.load(sys.stdin):
    data = base64.b64decode(source)
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(data)
    code = marshal.dumps(compile(data, name, "exec", dont_inherit=True))
    made.append(base64.b64encode(head + code).decode("ascii"))
json.dump({"python": sys.implementation.cache_tag, "made": made}, sys.stdout)
"""


def home() -> str:
    """Return the folder that contains all generations."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "itsm-nexus-runbook", "modules")


def lay() -> List[str]:
    """Copy modules that were packed in earlier runs into Ansible's cache. Return the names of the copied modules."""
    generation = os.path.join(home(), _fingerprint())
    laid = []
    try:
        kept = _kept(generation)
        for folder in _compiled(generation):
            kept.update(_kept(folder))
        os.makedirs(_of_this_run(), exist_ok=True)
        for name, path in kept.items():
            data = _sound(path)
            if data is None:
                os.unlink(path)
                continue
            place = os.path.join(_of_this_run(), name)
            with open(f"{place}-part", "wb") as stream:
                stream.write(data)
            os.rename(f"{place}-part", place)
            laid.append(name[len(_PREFIX) :].partition("-")[0])
        if kept:
            os.utime(generation)
    # Ignore the error. If the modules are not cached, the run only takes longer.
    except (OSError, ValueError):
        pass
    return laid


def keep(pythons: Iterable[str] = ()) -> None:
    """Save this run's packed modules for the next run.

    Compile the modules if the controller has the hosts' Python version.

    pythons: the tags of the Python versions on the hosts, such as cpython-313. The modules are compiled only if there
    is exactly one tag.
    """
    generation = os.path.join(home(), _fingerprint())
    hosts = set(pythons)
    try:
        made = [name for name in os.listdir(_of_this_run()) if name.startswith(_PREFIX)]
        packed = [name for name in made if not name.endswith((".lock", "-part"))]
        atomic_files.private_folder(home())
        atomic_files.private_folder(generation)
        # Modules that were copied into the cache at the start of this run are already saved.
        for name in set(packed) - set(_kept(generation)):
            _keep(generation, name, atomic_files.read_plain(os.path.join(_of_this_run(), name), limit=_LARGEST))
        compiled = os.path.join(generation, f"{_COMPILED}{min(hosts)}") if len(hosts) == 1 else None
        if hosts:
            for folder in set(_compiled(generation)) - {compiled}:
                shutil.rmtree(folder)
        if compiled:
            _keep_compiled(generation, compiled, python=min(hosts))
        generations = [os.path.join(home(), name) for name in os.listdir(home())]
        for old in sorted(generations, key=os.path.getmtime)[:-_GENERATIONS]:
            shutil.rmtree(old)
    except (OSError, ValueError):
        pass


def here() -> str:
    """Return the tag of this Python version's compiled code, such as cpython-313."""
    return str(sys.implementation.cache_tag)


def _sound(path: str) -> Optional[bytes]:
    """Return the content of a saved file, or None if the checksum is wrong."""
    data = atomic_files.read_plain(path, limit=_LARGEST)
    return data if hashlib.sha256(data).hexdigest() == path[-_DIGEST:] else None


def _keep(folder: str, name: str, data: bytes) -> None:
    atomic_files.write_atomically(os.path.join(folder, f"{name}~{hashlib.sha256(data).hexdigest()}"), data)


def _keep_compiled(generation: str, folder: str, *, python: str) -> None:
    """Compile the saved modules of a generation for a Python version that is installed here, and save the result."""
    kept = _kept(generation)
    missing = set(kept) - set(_kept(folder))
    program = _program(python) if missing and not os.path.exists(os.path.join(folder, _FAILED)) else None
    if program is None:
        return
    read = {name: _sound(kept[name]) for name in missing}
    modules = {name: data for name, data in read.items() if data is not None}
    sources = {name: _sources(data) for name, data in modules.items()}
    # Compile each file only once, because most files are part of most modules.
    every = {source for of_one in sources.values() for source in of_one}
    compiled = _compile(list(every), program=program, python=python)
    atomic_files.private_folder(folder)
    if compiled is None:
        atomic_files.write_atomically(os.path.join(folder, _FAILED), b"")
        return
    for name, data in modules.items():
        _keep(folder, name, _with(data, {source[0]: compiled[source] for source in sources[name]}))


def _program(python: str) -> Optional[str]:
    """Return the path of the Python interpreter with a tag such as cpython-313, or None if it is not installed here."""
    if python == here():
        return sys.executable
    release = re.fullmatch(r"cpython-3(\d+)", python)
    path = os.pathsep.join([*filter(None, os.environ.get("PATH", "").split(os.pathsep)), *_OTHER_FOLDERS])
    return shutil.which(f"python3.{release.group(1)}", path=path) if release else None


def _compile(sources: Sequence[_Source], *, program: str, python: str) -> Optional[Dict[_Source, bytes]]:
    """Return the compiled code for each source, or None if `program` is not the Python version with this tag."""
    given = json.dumps([[name, base64.b64encode(source).decode("ascii")] for name, source in sources])
    try:
        done = subprocess.run(
            [program, "-I", "-S", "-c", _COMPILER],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=_COMPILE_SECONDS,
            check=True,
        )
        answer = json.loads(done.stdout)
        made = {source: base64.b64decode(code) for source, code in zip(sources, answer["made"])}
    # The program may be missing, or may not be a Python interpreter.
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return made if answer.get("python") == python and len(made) == len(sources) else None


def _opened(data: bytes) -> Tuple[Any, io.BytesIO]:
    """Return a packed module in Ansible's format, and the archive of its files."""
    module = pickle.loads(data)  # noqa: S301 - Ansible does the same, and only this user can write to the folder
    return module, io.BytesIO(base64.b64decode(module.zip_data))


def _sources(data: bytes) -> List[_Source]:
    with zipfile.ZipFile(_opened(data)[1]) as archive:
        return [(name, archive.read(name)) for name in archive.namelist() if name.endswith(".py")]


def _with(data: bytes, compiled: Mapping[str, bytes]) -> bytes:
    """Return a packed module with compiled code next to every source. compiled: the code by source name."""
    module, packed = _opened(data)
    with zipfile.ZipFile(packed, "a", compression=zipfile.ZIP_DEFLATED) as archive:
        # Another run may have already added the code. A second entry with the same name would cause a warning.
        there = set(archive.namelist())
        for name, code in compiled.items():
            if f"{name}c" not in there:
                archive.writestr(f"{name}c", code)
    return pickle.dumps(dataclasses.replace(module, zip_data=base64.b64encode(packed.getvalue())))


def _of_this_run() -> str:
    return os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")


def _compiled(generation: str) -> List[str]:
    """Return the folders of compiled code in a generation, one for each Python version."""
    if not os.path.isdir(generation):
        return []
    return [os.path.join(generation, name) for name in os.listdir(generation) if name.startswith(_COMPILED)]


def _kept(generation: str) -> Dict[str, str]:
    """Return a generation's files by their Ansible names. If other users can write to the folder, return {}."""
    if not all(_private(folder) for folder in (home(), generation)):
        return {}
    names = (name for name in os.listdir(generation) if name.startswith(_PREFIX))
    parted = ((name.rpartition("~")[0], os.path.join(generation, name)) for name in sorted(names))
    return {name: path for name, path in parted if name}


def _private(folder: str) -> bool:
    """Return True if this user owns a folder and no other user can write to it. Raises OSError."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _fingerprint() -> str:
    """Return a checksum that changes when a source file of the packed modules changes."""
    parts = [ansible_version, sys.version, _COLLECTION]
    of_collection = [os.path.join(_COLLECTION, "plugins", kind) for kind in ("modules", "module_utils")]
    of_ansible = [*ansible.module_utils.__path__, os.path.dirname(module_common.__file__)]
    for path, found in _files_of([*of_collection, os.path.join(_COLLECTION, "meta"), *of_ansible]):
        parts.append(f"{path} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _files_of(folders: Sequence[str]) -> Iterator[Tuple[str, os.stat_result]]:
    for folder in folders:
        for top, below, names in os.walk(folder):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for name in sorted(names):
                path = os.path.join(top, name)
                yield path, os.stat(path)
