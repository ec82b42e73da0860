# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep copies of postmortems in a separate folder and remove old copies."""

from __future__ import annotations

import base64
import os
import re
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(?:md|json|html)\Z")
_DAY = 86400.0


class PostmortemKeepError(Exception):
    """A copy could not be written."""


def keep(*, folder: str, documents: Sequence[Mapping[str, str]], days: float, check_mode: bool) -> Dict[str, Any]:
    """Write each document (name, base64 content) whose copy in the folder is missing or different.

    If `days` is greater than 0, copies older than that many days are removed. Returns changed, written and removed
    (paths). Raises PostmortemKeepError.
    """
    contents = {each["name"]: _decoded(each) for each in documents}
    try:
        stale = {name: data for name, data in contents.items() if _content(os.path.join(folder, name)) != data}
        if not check_mode:
            atomic_files.private_folder(folder)
            for name, data in stale.items():
                atomic_files.write_atomically(os.path.join(folder, name), data)
        old = _old(folder, days, besides=list(contents))
        for path in [] if check_mode else old:
            os.unlink(path)
    except OSError as error:
        raise PostmortemKeepError(f"Cannot save the postmortem in {folder}: {error.strerror or error}") from error
    written = [os.path.join(folder, name) for name in stale]
    return {"changed": bool(written or old), "written": written, "removed": old}


def _decoded(document: Mapping[str, str]) -> bytes:
    """Decode the content of a document. Raises PostmortemKeepError."""
    name = document["name"]
    if not _NAME.match(name):
        raise PostmortemKeepError(
            f"documents[].name is {name!r}: must be a plain file name that ends with .md, .json or .html"
        )
    try:
        return base64.b64decode(document["content"], validate=True)
    except ValueError as error:
        raise PostmortemKeepError(f"documents[].content of {name} is not base64: {error}") from None


def _content(path: str) -> Optional[bytes]:
    """Return the content of a file, or None if the file does not exist. Raises OSError."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def _old(folder: str, days: float, *, besides: Sequence[str]) -> List[str]:
    if days <= 0 or not os.path.isdir(folder):
        return []
    oldest = time.time() - days * _DAY
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if _NAME.match(entry.name)
            and entry.name not in besides
            and entry.is_file(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_mtime < oldest
        )
