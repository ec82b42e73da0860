# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the service's process, shared by the modules that look for it, start it or stop it."""

from __future__ import annotations


class ModuleDocFragment:
    """The option of C(process.arguments)."""

    DOCUMENTATION = r"""
options:
  service:
    description:
      - The service's process. Role P(itsm_nexus.runbook.nexus#role) builds it from its variables, as C(nexus_service).
      - A module ignores the suboptions that it does not need.
    type: dict
    required: true
    version_added: 0.2.0
    suboptions:
      app_dir:
        description: The service's folder, its working directory.
        type: path
        required: true
      user:
        description: The user the service runs as. Without it, the user who runs the module.
        type: str
        default: ""
      command:
        description:
          - The command that starts the service, one item per argument. A program without C(/) is searched in the
            E(PATH) of O(service.environment_file), else in the standard one.
        type: list
        elements: str
        required: true
      manager:
        description: Who starts and stops the service on this host.
        type: str
        default: systemd
        choices: [systemd, process]
      unit:
        description: The systemd unit. Required with O(service.manager=systemd).
        type: str
      environment_file:
        description:
          - File with C(KEY=VALUE) lines, in the format of systemd's C(EnvironmentFile=). Its values are never returned
            or saved.
          - With O(service.manager=process) the service is started with these variables. Neither group nor others may
            read the file then.
        type: str
        default: ""
      log_file:
        description:
          - The service's log file.
          - With O(service.manager=process) the service's output is appended to it.
            M(itsm_nexus.runbook.node_process) requires it then.
        type: str
      pid_file:
        description:
          - File with the pid (first line) and the start time in clock ticks since boot (second line) of the service.
          - Used with O(service.manager=process) only. M(itsm_nexus.runbook.node_process) requires it then, and writes
            it.
        type: path
"""
