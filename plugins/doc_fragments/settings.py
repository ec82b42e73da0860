# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the service's settings, shared by the modules that also accept invalid values."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of preflight_findings.ARGUMENTS."""

    DOCUMENTATION = r"""
options:
  service:
    description: Properties of the service process, as in M(itsm_nexus.runbook.node_process). Unlike in
      M(itsm_nexus.runbook.node_process), the values can be of any type.
    type: dict
    required: true
    version_added: 1.0.0
    suboptions:
      app_dir:
        description: Absolute path of the application folder. The folder must exist.
        type: str
        required: true
      user:
        description: The user that the service runs as. The user must exist. If the module does not run as root, it must
          run as this user.
        type: str
        required: true
      manager:
        description: How to start and stop the service (V(systemd) or V(process)).
        type: str
        required: true
      unit:
        description: Name of the systemd unit. If O(service.manager=systemd), systemd must have loaded the unit.
        type: str
        default: ""
      command:
        description: The command that starts the service, as a list. The program and the script in this command must
          exist.
        type: raw
        required: true
      environment_file:
        description: Path of a file with C(KEY=VALUE) lines, or V("") if there is no such file. The file must be
          readable. If O(service.manager=process), only the owner of the file may have permission to read or write the
          file. The values in this file never leave the host.
        type: str
        default: ""
      log_file:
        description: Absolute path of the service's log file. If O(service.manager=process), the folder of the file must
          exist.
        type: str
        required: true
      pid_file:
        description: Path of the PID file. If O(service.manager=process), the path must be absolute.
        type: str
        default: ""
  db_path:
    description: Path of the database, absolute or relative to O(service.app_dir). The path must not be a folder.
    type: str
    required: true
  db_path_variable:
    description:
      - Name of the environment variable that contains the database path of the service, or V("") if there is no such
        variable. The path in this variable takes precedence over O(db_path). The name must consist of letters, digits
        and C(_).
    type: str
    default: DATABASE_PATH
    version_added: 1.0.0
  https_port:
    description: The HTTPS port of the service, or V(0) if the service has no HTTPS port.
    type: raw
    required: true
  http_port:
    description: The HTTP port of the service, or V(0) if the service has no HTTP port.
    type: raw
    required: true
"""
