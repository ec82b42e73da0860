# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packed modules, kept on the controller from one run of Ansible to the next.

Ansible packs a module with all that it imports once a run, and forgets it at the run's end. It is the same as long as
neither the collection nor ansible-core changes: what was packed in an earlier run is put where Ansible looks for it.
What is missing, damaged or not its user's own alone is packed anew, as ever.

Where the hosts have the same Python as the controller, what is kept is compiled, so that they need not do that again
for every task. A host with another one finds that it can not use it, and takes the source beside it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import io
import marshal
import os
import pickle
import shutil
import stat
import sys
import zipfile
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

import ansible.module_utils
from ansible import constants
from ansible.executor import module_common
from ansible.release import __version__ as ansible_version

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _files
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import whitelist

_COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PREFIX = f"ansible_collections.{whitelist.COLLECTION}.plugins.modules."
# Of the collections and versions of ansible-core that one user works with in turns.
_GENERATIONS = 4
_LARGEST = 8 << 20
_COMPILED = "compiled"
_DIGEST = 64


def home() -> str:
    """Return the folder that all generations are in."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "itsm-nexus-runbook", "modules")


def lay() -> List[str]:
    """Put what earlier runs have packed where Ansible looks for it; return the names of these modules."""
    generation = os.path.join(home(), _fingerprint())
    laid = []
    try:
        kept = {**_kept(generation), **_kept(os.path.join(generation, _COMPILED))}
        os.makedirs(_of_this_run(), exist_ok=True)
        for name, path in kept.items():
            data = _files.read_plain(path, limit=_LARGEST)
            if hashlib.sha256(data).hexdigest() != path[-_DIGEST:]:
                os.unlink(path)
                continue
            place = os.path.join(_of_this_run(), name)
            with open(f"{place}-part", "wb") as stream:
                stream.write(data)
            os.rename(f"{place}-part", place)
            laid.append(name[len(_PREFIX) :].partition("-")[0])
        if kept:
            os.utime(generation)
    # It is no more than time that is lost.
    except (OSError, ValueError):
        pass
    return laid


def keep(pythons: Iterable[str] = ()) -> None:
    """Keep what this run has packed for the next one, compiled where the hosts' C(pythons) are the one of here."""
    generation = os.path.join(home(), _fingerprint())
    compiled = os.path.join(generation, _COMPILED)
    try:
        made = [name for name in os.listdir(_of_this_run()) if name.startswith(_PREFIX)]
        packed = [name for name in made if not name.endswith((".lock", "-part"))]
        _files.private_folder(home())
        _files.private_folder(generation)
        # What was laid for this run is kept already, whether it is compiled or not.
        for name in set(packed) - set(_kept(generation)):
            _keep(generation, name, _files.read_plain(os.path.join(_of_this_run(), name), limit=_LARGEST))
        if set(pythons) == {here()}:
            _files.private_folder(compiled)
            kept = _kept(generation)
            known: Dict[bytes, bytes] = {}
            for name in set(kept) - set(_kept(compiled)):
                _keep(compiled, name, _compile(_files.read_plain(kept[name], limit=_LARGEST), known=known))
        elif pythons and os.path.isdir(compiled):
            shutil.rmtree(compiled)
        generations = [os.path.join(home(), name) for name in os.listdir(home())]
        for old in sorted(generations, key=os.path.getmtime)[:-_GENERATIONS]:
            shutil.rmtree(old)
    except (OSError, ValueError):
        pass


def here() -> str:
    """Return the name of this Python's compiled code, like C(cpython-313)."""
    return str(sys.implementation.cache_tag)


def _keep(folder: str, name: str, data: bytes) -> None:
    _files.write_atomically(os.path.join(folder, f"{name}~{hashlib.sha256(data).hexdigest()}"), data)


def _compile(data: bytes, *, known: Dict[bytes, bytes]) -> bytes:
    """Return a packed module with the compiled code beside every source in it. C(known) are sources and their code."""
    module = pickle.loads(data)  # noqa: S301 - Ansible does the same with it, and it is from a folder of this user alone
    packed = io.BytesIO(base64.b64decode(module.zip_data))
    with zipfile.ZipFile(packed, "a", compression=zipfile.ZIP_DEFLATED) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                source = archive.read(name)
                if source not in known:
                    known[source] = _code(source, name)
                archive.writestr(f"{name}c", known[source])
    return pickle.dumps(dataclasses.replace(module, zip_data=base64.b64encode(packed.getvalue())))


def _code(source: bytes, name: str) -> bytes:
    """Return the file of compiled code of a source that comes with it, and is never compared with it (PEP 552)."""
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    return head + marshal.dumps(compile(source, name, "exec", dont_inherit=True))


def _of_this_run() -> str:
    return os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")


def _kept(generation: str) -> Dict[str, str]:
    """Return the files of a generation by the names that Ansible has for them, none where others may write there."""
    if not all(_private(folder) for folder in (home(), generation)):
        return {}
    names = (name for name in os.listdir(generation) if name.startswith(_PREFIX))
    parted = ((name.rpartition("~")[0], os.path.join(generation, name)) for name in sorted(names))
    return {name: path for name, path in parted if name}


def _private(folder: str) -> bool:
    """Say whether a folder is this user's own, and nobody else may write in it. Raises OSError."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _fingerprint() -> str:
    """Return what changes with anything that a packed module is made of."""
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
