# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load packages with node, which runs as the service's user. No other check detects a broken native module."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.npm_lock import NpmError

# Packages that the service needs and that contain a native module.
NATIVE_DRIVERS = ("better-sqlite3", "sqlite3", "bcrypt")

_NODE_TIMEOUT = 60.0

# Variables that npm and its scripts inherit from this process's environment. These variables configure npm, compilers
# and proxies.
_HANDED_ON = re.compile(
    r"(?i)(npm_config_.*|https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_(file|dir)|lang|lc_.*|tz|cc|cxx|jobs|python)\Z"
)

# Print the name of each package before loading it, because a broken native module may crash the process. better-sqlite3
# loads its native module only when a database is opened.
_LOADER = """
const say = (line) => require('fs').writeSync(1, '\\n@npm_ci ' + JSON.stringify(line) + '\\n');
const { platform, arch, versions } = process;
say({ platform, arch, abi: versions.modules });
for (const name of process.argv.slice(1)) {
  say({ name });
  try {
    const loaded = require(name);
    if (name === 'better-sqlite3') new loaded(':memory:').close();
  } catch (error) {
    say({ name, error: String((error && error.message) || error).split('\\n')[0] });
  }
}
say({ done: true });
process.exit(0);
"""


class NodeReport(NamedTuple):
    """Node's platform, architecture and ABI, and the error for each package that does not load."""

    platform: str
    arch: str
    abi: str
    failures: Mapping[str, str]


def environment(account: pwd.struct_passwd, *, home: str, node: str) -> Dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if _HANDED_ON.match(name)}
    # The first node on PATH runs the npm script. Therefore, the folder of the requested node must be the first entry.
    folders = [os.path.dirname(node), *os.environ.get("PATH", "").split(":"), *procfs.STANDARD_PATH.split(":")]
    environment.update(
        PATH=":".join(dict.fromkeys(folder for folder in folders if folder.startswith("/"))),
        HOME=home,
        USER=account.pw_name,
        LOGNAME=account.pw_name,
        NO_COLOR="1",
        CI="true",
    )
    # Use this node's headers, which node-gyp would otherwise download from nodejs.org.
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(node)))
    if os.path.isfile(os.path.join(prefix, "include", "node", "node_version.h")):
        environment.setdefault("npm_config_nodedir", prefix)
    return environment


def find_program(name: str) -> str:
    """Return the absolute path of a program. Raises NpmError if the program is not on this host."""
    search = f"{os.environ.get('PATH', '')}:{procfs.STANDARD_PATH}"
    found = shutil.which(name, path=search)
    if found is None:
        raise NpmError(message("reason.npm.no_program", program=repr(name), path=search))
    return os.path.abspath(found)


def ask_node(
    folder: str, *, names: Sequence[str], node: str, account: pwd.struct_passwd, run: commands.Runner = commands.run
) -> NodeReport:
    """Load the packages in `folder`/node_modules with node, as `account`. Return node's report. Raises NpmError."""
    with npm_lock.explained("run_node", node=node, folder=folder):
        done = run(
            [node, "-e", _LOADER, "--", *names],
            timeout=_NODE_TIMEOUT,
            cwd=folder,
            env=environment(account, home=account.pw_dir, node=node),
            user=account.pw_name,
        )
    lines = _of_loader(done.stdout)
    if not lines:
        said = first_line(done.stderr)
        why = quoted(said) if said else message("reason.npm.exit_code", code=str(done.rc))
        raise NpmError(message("reason.npm.node_failed", node=node, folder=folder, why=why))
    failures = {line["name"]: str(line["error"]) for line in lines if "error" in line and "name" in line}
    last = lines[-1]
    if "name" in last:
        failures[last["name"]] = (
            "node hangs while loading it" if done.timed_out else f"node exited while loading it (code {done.rc})"
        )
    return NodeReport(platform=lines[0]["platform"], arch=lines[0]["arch"], abi=str(lines[0]["abi"]), failures=failures)


def _of_loader(output: str) -> List[Dict[str, Any]]:
    """Return the lines that the loader printed. Other lines are omitted, because a package may have printed them."""
    lines: List[Dict[str, Any]] = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line[8:]) if line.startswith("@npm_ci ") else None
            if isinstance(said, dict) and (lines or {"platform", "arch", "abi"} <= said.keys()):
                name = said.get("name")
                lines += [said] if name is None or isinstance(name, str) else []
    return lines


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
