# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read logrotate's configuration to find out which files logrotate rotates. See logrotate(8)."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shlex
from typing import Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open

_MAIN, _FOLDER = "/etc/logrotate.conf", "/etc/logrotate.d"
# If one of these files exists (a systemd timer or a cron script), logrotate starts every day.
_STARTERS = (
    "/etc/systemd/system/timers.target.wants/logrotate.timer",
    "/usr/lib/systemd/system/timers.target.wants/logrotate.timer",
    "/lib/systemd/system/timers.target.wants/logrotate.timer",
    "/etc/cron.daily/logrotate",
)
_LARGEST = 1 << 20
_MOST_FILES = 500
_COMMENT = re.compile(r"(?m)^[ \t]*#.*$")
# The paths of a section precede its braces, on one or more lines.
_SECTION = re.compile(r"([^{}]*)\{[^{}]*\}")


def patterns(*, root: str = "") -> Dict[str, str]:
    """Return the patterns of the files that logrotate rotates, each with its configuration file. root: for tests."""
    found: Dict[str, str] = {}
    folder = root + _FOLDER
    names = sorted(os.listdir(folder))[:_MOST_FILES] if os.path.isdir(folder) else []
    for path in (root + _MAIN, *(os.path.join(folder, name) for name in names)):
        with contextlib.suppress(OSError):
            text = safe_open.read(path, limit=_LARGEST).decode("utf-8", "replace")
            for pattern in _of(text):
                found.setdefault(pattern, path)
    return found


def _of(text: str) -> List[str]:
    found: List[str] = []
    for section in _SECTION.finditer(_COMMENT.sub("", text)):
        with contextlib.suppress(ValueError):  # a quotation mark that is not closed
            found += [word for word in shlex.split(section.group(1)) if word.startswith("/")]
    return found


def rotated_by(path: str, known: Dict[str, str]) -> Optional[str]:
    """Return the configuration file that rotates a log file, or None. known: the result of patterns()."""
    return next((source for pattern, source in known.items() if fnmatch.fnmatchcase(path, pattern)), None)


def starts_daily(*, root: str = "") -> bool:
    """Return True if a timer or cron starts logrotate."""
    return any(os.path.lexists(root + path) for path in _STARTERS)
