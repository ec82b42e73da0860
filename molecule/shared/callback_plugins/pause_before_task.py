# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Callback plugin for drills: pauses a run before the task named in DRILL_PAUSE_BEFORE, until the run is killed.

Ansible sometimes prints the task name only when the task ends. Without this plugin, a drill that waits for the task
name on the screen could kill the run too late, during the next task.
"""

from __future__ import annotations

import os
import signal

from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: pause_before_task
type: aggregate
short_description: Pauses a run before a task
description:
  - Pauses a run before the task that E(DRILL_PAUSE_BEFORE) names, until the run is killed.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pause_before_task"

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """If this is the named task, pause before Ansible starts a worker for the task."""
        if task.name == os.environ["DRILL_PAUSE_BEFORE"]:
            self._display.display(f"PAUSED BEFORE: {task.name}")
            while True:
                signal.pause()
