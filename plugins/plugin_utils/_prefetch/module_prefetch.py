# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pack modules on another CPU core while the previous module is running.

Ansible packs a module, with all its imports, just before the first task that uses the module. Packing a module takes
0.2 to 0.4 s, and the outage continues during this time. If an earlier run has packed a module, module_cache provides
it. All other modules are packed here and stored in Ansible's cache for the run. Ansible then uses them as if it had
packed them for an earlier host. If packing fails or does not finish in time, the run only takes longer.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ansible import constants
from ansible.errors import AnsibleError
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import (
    action_loader,
    connection_loader,
    filter_loader,
    lookup_loader,
    module_loader,
    shell_loader,
    test_loader,
)
from ansible.release import __version__ as ansible_version
from ansible.template import Templar

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import late_import
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_cache
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist

# The module_defaults group through which a recovery play passes its run ID to the modules.
_GROUP = f"group/{allowlist.COLLECTION}.host"
_PLAYBOOKS = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "..", "playbooks"))
FIRST = "health_probe"
# The first module of a recovery and of every other playbook. Their results contain the Python version of the host.
REPORT_PYTHON = (FIRST, "service_preflight_info")
# Maps each module to the modules that usually follow it before the first healthy response.
FOLLOWERS: Dict[str, Tuple[str, ...]] = {
    "health_probe": ("first_response", "incident", "triage_info", "node_process"),
    "node_process": ("sqlite_info",),
    "sqlite_info": ("sqlite_backup",),
    "sqlite_backup": ("sqlite_wal",),
    "sqlite_wal": ("knex_migrate",),
}
# Python modules that the workers import for later tasks. These modules are imported here after
# _PAUSE seconds, while the worker of the first task is waiting for the host.
_LATER = ("_messages.en", "_policy.database_verdict", "_policy.failures", "_policy.outcome")
_PAUSE = 0.1
# Time in seconds after which a packing process is killed. Until then, a task that needs the module waits for this
# process. Usually, packing takes less than a second.
_LONGEST = 15
# Plugins that nearly every task needs. Loading one filter and one test also loads all filters and tests of
# ansible-core.
_PLUGINS = (
    (filter_loader, ("bool", "ansible.builtin.bool")),
    (test_loader, ("truthy", "ansible.builtin.truthy")),
    (connection_loader, ("local", "ssh")),
    (shell_loader, ("sh",)),
    (
        lookup_loader,
        (
            "vars",
            "ansible.builtin.vars",
            *(f"{allowlist.COLLECTION}.{name}" for name in ("first_evaluable", "invalid_role_settings")),
        ),
    ),
    (
        action_loader,
        (
            "normal",
            *(f"ansible.builtin.{name}" for name in ("fail", "set_fact", "validate_argument_spec")),
            *(
                f"{allowlist.COLLECTION}.{name}"
                for name in ("disk_reclaim", "first_response", "health_probe", "incident")
            ),
        ),
    ),
)
# Before ansible-core 2.19, only Ansible's own workers can use the locks of the module cache.
_SUPPORTED = tuple(int(part) for part in ansible_version.split(".")[:2]) >= (2, 19)

_TRUSTED: Dict[str, bool] = {"trusted_as_template": True} if _SUPPORTED else {}


class Packer:
    """Packs each module once, in child processes."""

    def __init__(self) -> None:
        self._known: Set[str] = set()
        # True if the current play is a recovery. FOLLOWERS is used only for recoveries.
        self.recovers = False
        self._imports: Optional[threading.Timer] = None
        self._ours = False
        self._pythons: Set[str] = set()
        self._children: List[int] = []

    def play(self, source: Any, loader: DataLoader) -> None:
        """Prepare a play of this collection. If the play is a recovery, also pack its first module.

        source: the play as it is written in the playbook. loader: Ansible's loader for the play's files.
        """
        self.recovers = isinstance(source, dict) and _GROUP in (source.get("module_defaults") or {})
        if not isinstance(source, dict):
            return
        if self.recovers or os.path.realpath(loader.get_basedir()) == _PLAYBOOKS:
            _read(loader, source.get("vars_files") or [])
            # If this variable is set, as in many container images, Python reads a module from a pipe byte by byte,
            # which takes 0.3 s per module.
            os.environ.pop("PYTHONUNBUFFERED", None)
            _load()
            # Loaded objects remain in memory. If these objects are frozen, the garbage collector of each worker does
            # not scan them.
            gc.freeze()
            if _SUPPORTED and not self._ours:
                self._ours = True
                self._known.update(module_cache.lay())
        if self.recovers:
            self._pack([FIRST])

    def begun(self, module: str) -> None:
        """Pack the modules that a recovery usually needs next.

        Call this method when a task with one of this collection's modules begins.
        """
        self._known.add(module)
        if not self.recovers:
            return
        if module == FIRST and self._imports is None:
            self._imports = threading.Timer(_PAUSE, _import_later)
            self._imports.daemon = True
            self._imports.start()
        self._pack(FOLLOWERS.get(module, ()))

    def ended(self, fields: Mapping[str, Any]) -> None:
        """Record the Python version of a host.

        Call this method with each successful result from one of the modules in REPORT_PYTHON.
        """
        if fields.get("python"):
            self._pythons.add(str(fields["python"]))

    def _pack(self, names: Sequence[str]) -> None:
        fresh = [name for name in names if name not in self._known]
        self._known.update(fresh)
        if fresh and _SUPPORTED:
            self._children.append(_fork(fresh))

    def run_ended(self) -> None:
        """Stop packing, and save the packed modules for the next run."""
        self.end()
        if self._ours:
            module_cache.keep(self._pythons)

    def end(self) -> None:
        """Stop the packing processes, because their modules are no longer needed."""
        for child in self._children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._children = []


def _load() -> None:
    """Load plugins before the workers are forked. Otherwise, each worker would need at least 0.02 s to load them."""
    for loader, names in _PLUGINS:
        for name in names:
            loader.get(name, class_only=True)


def _import_later() -> None:
    for name in _LATER:
        # If the import fails, the task that needs the module reports the error.
        with contextlib.suppress(Exception):
            late_import.module(name)


def _read(loader: DataLoader, names: Union[str, Sequence[str]]) -> None:
    """Make Ansible cache the parsed variable files of a play. By default, Ansible parses these files for every task."""
    for name in [names] if isinstance(names, str) else names:
        # If the file cannot be read, the task that needs it reports the error.
        with contextlib.suppress(AnsibleError):
            loader.load_from_file(os.path.join(loader.get_basedir(), name), unsafe=True, **_TRUSTED)


def _fork(names: Sequence[str]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(_LONGEST)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for name in names:
            _pack(f"{allowlist.COLLECTION}.{name}")
    finally:
        os._exit(0)


def _pack(name: str) -> None:
    """Make Ansible pack a module into its cache, as a worker would. The return value is not needed."""
    path = module_loader.find_plugin_with_context(name).plugin_resolved_path
    module_common.modify_module(
        module_name=name,
        module_path=path,
        module_args={},
        templar=Templar(loader=DataLoader()),
        task_vars={"ansible_python_interpreter": sys.executable, "ansible_playbook_python": sys.executable},
        module_compression=constants.config.get_config_value("DEFAULT_MODULE_COMPRESSION"),
        async_timeout=0,
        environment={},
        remote_is_local=True,
    )
