# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the triage options."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of module_utils/_triage/options.py, without the lease options and "service"."""

    DOCUMENTATION = r"""
options:
  db_path:
    description:
      - Path of the database, absolute or relative to O(service.app_dir).
      - The running process may have a different database open, or the environment variable O(db_path_variable) may
        contain a different path. In these cases, the module checks that database and reports the difference as a
        finding.
    type: str
    default: backend/itsm.db
  db_path_variable:
    description: Name of the environment variable that contains the database path of the service, or V("") if there is
      no such variable.
    type: str
    default: DATABASE_PATH
    version_added: 1.0.0
  tls_cert_path:
    description:
      - Path of the service's certificate, absolute or relative to O(service.app_dir).
      - If empty, the module reads the path from the environment variables of the service, such as E(SSL_CERT_PATH) or
        E(TLS_CERT_FILE).
    type: str
    default: ""
  tls_key_path:
    description:
      - Path of the private key, absolute or relative to O(service.app_dir).
      - If empty, the module reads the path from the environment variables of the service. If no environment variable
        contains the path, the module uses the file that has the same name as the certificate and the extension C(.key).
    type: str
    default: ""
  https_port:
    description: The HTTPS port of the service, or V(0) if the service has no such port.
    type: int
    default: 6443
  http_port:
    description: The HTTP port of the service, or V(0) if the service has no such port.
    type: int
    default: 8080
  health_path:
    description:
      - URL path of the health endpoint. If empty, the module does not send a health request.
      - If the service rejects the request or returns an HTML page, but everything else is healthy, the path is probably
        wrong. In this case, the finding is V(config_mismatch), and the run does not try any rung.
      - A request counts as rejected if the response status is between 300 and 499, except 408 and 429.
    type: str
    default: ""
    version_added: 1.0.0
  health_ok_statuses:
    description: Values of C(status) in the health response that mean healthy.
    type: list
    elements: str
    default: [ok]
    version_added: 1.0.0
  log_patterns:
    description:
      - Path patterns for additional log files, for example for logs whose file name changes every day. Each pattern is
        absolute or relative to O(service.app_dir). The module reads the newest matching files in addition to
        O(service.log_file).
      - The module also reads rotated and compressed (C(.gz)) versions of these logs and of O(service.log_file) if they
        were changed within O(window).
    type: list
    elements: str
    default: []
    version_added: 1.0.0
  silent:
    description:
      - Whether all earlier probes timed out. See RV(itsm_nexus.runbook.health_probe#module:silent). If V(true), the
        module waits only 0.5 seconds for each response.
    type: bool
    default: false
    version_added: 1.0.0
  required_environment:
    description: Names of the environment variables that the service requires. The module reports variables that are
      missing or empty.
    type: list
    elements: str
    default: []
  incident:
    description: ID of the incident for which the module saves the evidence. If empty, the module does not save any
      evidence.
    type: str
    default: ""
  evidence_limit:
    description: Maximum size of the evidence for one incident, in bytes. The limit applies to the total size of the
      evidence from all triage runs for this incident.
    type: int
    default: 20971520
  evidence_keep:
    description:
      - Maximum number of incidents for which the module keeps evidence. The module keeps the evidence of the newest
        incidents. If V(0), there is no limit.
      - The module never removes the evidence of O(incident) and of the open incident. It also keeps all files that it
        did not create.
    type: int
    default: 50
  evidence_keep_days:
    description: Number of days for which the module keeps evidence. If V(0), there is no limit.
    type: float
    default: 365.0
  deadline:
    description: Time limit for the whole triage, in seconds.
    type: float
    default: 10.0
  part_timeout:
    description: Time limit for each part of the triage, in seconds.
    type: float
    default: 5.0
  database_timeout:
    description:
      - Time limit for a second check of the database, in seconds.
      - The second check runs if the first check does not finish within O(deadline). If the second check does not finish
        in time either, the finding is V(db_unchecked), and the service is not started. If the database disk does not
        respond, the second check does not run.
      - The second check also runs if a recovery has created the current database file, and the log reports a damaged
        database only before that recovery. In this case, the second check uses C(integrity_check). If this check does
        not finish in time, the finding is V(db_corrupt), and the service is not started.
    type: float
    default: 300.0
  window:
    description: Length of the triage window, in seconds. If the unit has stopped or failed, the window ends at the time
      of this event. Otherwise, the window ends at the current time. The module does not read log lines that are older
      than the window.
    type: int
    default: 600
  log_lines:
    description: Number of lines that the module returns from the end of the log file and from the end of the journal.
    type: int
    default: 100
  kernel_log_command:
    description: Command that prints the kernel log. If empty, the module runs C(journalctl -k). If C(journalctl -k)
      fails, the module falls back to C(dmesg).
    type: list
    elements: str
    default: []
  settings:
    description:
      - Invalid variables, as listed in RV(itsm_nexus.runbook.service_preflight_info#module:problems). The module
        reports these variables in the V(config_mismatch) finding. In this finding, C(useless_rungs) lists the rungs
        that require these variables.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
  changes:
    description: Whether to compare the host with the manifest that M(itsm_nexus.runbook.health_probe) saved when the
      service was last healthy. If there is no manifest, the module does not compare anything.
    type: bool
    default: true
    version_added: 1.0.0
  readiness:
    description:
      - The readiness problems that M(itsm_nexus.runbook.health_probe) found, in the format of C(problems) in
        RV(itsm_nexus.runbook.health_probe#module:readiness). If the module does not find the cause of a problem, it
        reports the problem itself as a finding.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
"""
