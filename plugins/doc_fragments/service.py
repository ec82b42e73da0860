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
      - Properties of the service process. The P(itsm_nexus.runbook.nexus#role) role builds this dictionary from its own
        variables and provides it as C(nexus_service).
      - Each module ignores the suboptions that it does not need.
    type: dict
    required: true
    version_added: 1.0.0
    suboptions:
      app_dir:
        description: Path of the application folder, which is also the working directory of the service.
        type: path
        required: true
      user:
        description: The user that the service runs as. Defaults to the user that runs the module.
        type: str
        default: ""
      command:
        description:
          - The command that starts the service, as a list with one item per argument.
          - If the program name does not contain C(/), the module looks up the program in the E(PATH) from
            O(service.environment_file). If this file does not set E(PATH), the module uses the default E(PATH).
        type: list
        elements: str
        required: true
      manager:
        description: How to start and stop the service on this host.
        type: str
        default: systemd
        choices: [systemd, process]
      unit:
        description: Name of the systemd unit. Required if O(service.manager=systemd).
        type: str
      environment_file:
        description:
          - Path of a file with C(KEY=VALUE) lines, in the format that systemd uses for C(EnvironmentFile=). The module
            never returns or saves the values of these variables.
          - If O(service.manager=process), the module starts the service with these variables. In this case, only the
            owner of the file may have permission to read or write the file.
        type: str
        default: ""
      log_file:
        description:
          - Path of the service's log file.
          - If O(service.manager=process), the output of the service is appended to this file, and
            M(itsm_nexus.runbook.node_process) requires this option.
        type: str
      pid_file:
        description:
          - Path of the PID file. The first line contains the process ID of the service. The second line contains the
            start time of this process, in clock ticks since boot.
          - Used only if O(service.manager=process). In this case, M(itsm_nexus.runbook.node_process) requires this
            option and writes the file.
        type: path
"""
