# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: module_prefetch
type: aggregate
short_description: Prepares modules before they are needed
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Shortens a recovery by a few seconds and does not change the result. If the callback fails, the run continues
    without the callback.
  - Ansible bundles a module and all its imports into one file before it sends the module to the host. While a module is
    running, the callback bundles the modules that usually run next. This requires ansible-core 2.19 or later.
  - Saves the bundled modules in C(~/.cache/itsm-nexus-runbook/modules) for the next run. This also requires
    ansible-core 2.19 or later.
  - Loads filters, the variable files of a play and other shared components once per run instead of once per task.
  - List this callback after P(itsm_nexus.runbook.postmortem#callback), so that the closing summary appears before this
    callback saves the bundled modules.
requirements:
  - enabled in the configuration (C(callbacks_enabled))
options:
  enabled:
    description: Whether to prepare modules before they are needed.
    type: bool
    default: true
    env:
      - name: ITSM_NEXUS_MODULE_PREFETCH
    ini:
      - section: callback_module_prefetch
        key: enabled
"""

import functools
from typing import Any, Callable, Optional, Tuple, TypeVar

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, task_result

try:
    from ansible.plugins.callback import CallbackBase
# An uncaught error would end the run. If the callback class has another base class, Ansible only shows a warning.
except ImportError:
    CallbackBase = object

_Method = TypeVar("_Method", bound=Callable[..., None])


def _guarded(method: _Method) -> _Method:
    """Wrap a method so that its first error disables the callback."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: Any) -> None:
        try:
            method(self, *args)
        # Catch every error, because an error in this callback must not end the recovery.
        except Exception as error:
            self.disabled = True
            self._display.v(f"Modules are no longer prepared in advance, so this run takes longer: {error!r}")

    return guarded  # type: ignore[return-value]


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Passes the events of a run to the packer."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "itsm_nexus.runbook.module_prefetch"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None) -> None:
        super().__init__(display=display)
        self._packer: Any = None
        self._report_python: Tuple[str, ...] = ()

    @_guarded
    def v2_playbook_on_start(self, playbook: Any) -> None:
        if not self.get_option("enabled"):
            self.disabled = True
        elif self._packer is None:
            # Import this module inside the guarded method, because it uses private names of ansible-core, which can
            # change.
            from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch  # noqa: PLC0415

            self._packer, self._report_python = module_prefetch.Packer(), module_prefetch.REPORT_PYTHON

    @_guarded
    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._packer.play(play.get_ds(), play.get_loader())

    @_guarded
    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        module = _own_module(task)
        if module:
            self._packer.begun(module)

    @_guarded
    def v2_runner_on_ok(self, result: Any) -> None:
        module = _own_module(task_result.host_and_task(result)[1])
        # Read the fields of a result only if they are needed, because ansible-core copies all fields on the first
        # access.
        if module in self._report_python:
            self._packer.ended(task_result.fields_of(result))

    @_guarded
    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._packer.run_ended()


def _own_module(task: Any) -> Optional[str]:
    return allowlist.own_module(task_result.action_of(task))
