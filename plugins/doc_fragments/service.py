# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the service option, shared by the modules that find, start or stop the service's process."""

from __future__ import annotations


class ModuleDocFragment:
    """The "service" option, as specified in process.arguments."""

    DOCUMENTATION = r"""
options:
  service:
    description:
      - Properties of the service's process. The P(itsm_nexus.runbook.nexus#role) role builds this dictionary from its
        own variables and provides it as C(nexus_service).
      - Each module ignores the suboptions that it does not need.
    type: dict
    required: true
    version_added: 1.0.0
    suboptions:
      app_dir:
        description: The service's folder, which is also its working directory.
        type: path
        required: true
      user:
        description: The user that the service runs as. Defaults to the user that runs the module.
        type: str
        default: ""
      command:
        description:
          - The command that starts the service, one item per argument. A program without C(/) is looked up in the
            E(PATH) from O(service.environment_file). If this file does not set E(PATH), the default E(PATH) is used.
        type: list
        elements: str
        required: true
      manager:
        description: How the service is started and stopped on this host.
        type: str
        default: systemd
        choices: [systemd, process]
      unit:
        description: The systemd unit. Required with O(service.manager=systemd).
        type: str
      environment_file:
        description:
          - File with C(KEY=VALUE) lines, in the format of systemd's C(EnvironmentFile=). The values of the variables
            are never returned or saved.
          - With O(service.manager=process), the service is started with these variables. In this case, neither the
            group nor others may have permission to read or write the file.
        type: str
        default: ""
      log_file:
        description:
          - The service's log file.
          - With O(service.manager=process), the service's output is appended to this file. In this case,
            M(itsm_nexus.runbook.node_process) requires this option.
        type: str
      pid_file:
        description:
          - File with the service's process ID (first line) and its start time in clock ticks since boot (second line).
          - Used only with O(service.manager=process). In this case, M(itsm_nexus.runbook.node_process) requires this
            option and writes the file.
        type: path
"""
