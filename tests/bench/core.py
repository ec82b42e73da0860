# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install a newer ansible-core in a virtual environment in the user's cache, for use in measurements."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import sys

import databases
import model

NEWEST = "2.21"
# The oldest Python version on which the newer ansible-core runs.
LEAST_PYTHON = (3, 12)


def here() -> str:
    """Return the major and minor version of ansible-core that all other measurements use."""
    return ".".join(importlib.metadata.version("ansible-core").split(".")[:2])


def _python() -> str:
    for candidate in (sys.executable, "/usr/bin/python3", "python3.14", "python3.13", "python3.12"):
        asked = subprocess.run(
            [candidate, "-c", f"import sys; sys.exit(sys.version_info < {LEAST_PYTHON})"],
            capture_output=True,
            check=False,
        )
        if asked.returncode == 0:
            return candidate
    raise model.BenchError(f"ansible-core {NEWEST} needs a Python {'.'.join(map(str, LEAST_PYTHON))} or later")


@functools.cache
def newest() -> str:
    """Install ansible-core 2.21 if it is missing, and return the path of its ansible-playbook. Raises BenchError."""
    folder = databases.CACHE / f"ansible-core-{NEWEST}"
    program = folder / "bin" / "ansible-playbook"
    if not program.exists():
        for argv in (
            [_python(), "-m", "venv", "--clear", folder],
            [folder / "bin" / "pip", "install", "--quiet", f"ansible-core~={NEWEST}.0"],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise model.BenchError(f"ansible-core {NEWEST} can not be installed: {done.stderr.strip()[-300:]}")
    return str(program)
