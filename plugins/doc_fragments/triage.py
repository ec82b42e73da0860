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
      - Path of the database, absolute or relative to O(service.app_dir). The same applies to O(tls_cert_path) and
        O(tls_key_path).
      - If the running process has a different database open, or the variable O(db_path_variable) contains a different
        path, the module checks that database and reports the difference as a finding.
    type: str
    default: backend/itsm.db
  db_path_variable:
    description: Environment variable of the service that contains the path of its database, or V("") if there is none.
    type: str
    default: DATABASE_PATH
    version_added: 1.0.0
  tls_cert_path:
    description:
      - Path of the service's certificate. If empty, the path is read from the service's variables
        (E(SSL_CERT_PATH), E(TLS_CERT_FILE) and similar). The same applies to O(tls_key_path).
    type: str
    default: ""
  tls_key_path:
    description: Path of the certificate's private key. If neither this option nor a variable of the service contains
      this path, the module uses the file with the certificate's name and the extension C(.key).
    type: str
    default: ""
  https_port:
    description: The HTTPS port of the service, or V(0) if there is none.
    type: int
    default: 6443
  http_port:
    description: The HTTP port of the service, or V(0) if there is none.
    type: int
    default: 8080
  health_path:
    description:
      - Path of the health request. If empty, no request is sent.
      - If the service rejects the request or returns an HTML page, but everything else is healthy, the path is probably
        wrong. The finding is then V(config_mismatch), and no rung is tried.
      - A request counts as rejected if the status is between 300 and 499, except 408 and 429.
    type: str
    default: ""
    version_added: 1.0.0
  health_ok_statuses:
    description: Values of C(status) that mean healthy.
    type: list
    elements: str
    default: [ok]
    version_added: 1.0.0
  log_patterns:
    description:
      - Path patterns for additional log files, for example logs whose file name changes every day. A pattern is
        absolute or relative to O(service.app_dir). The newest files are read in addition to O(service.log_file).
      - Rotated and compressed (C(.gz)) versions of these logs and of O(service.log_file) are read if they were changed
        within O(window).
    type: list
    elements: str
    default: []
    version_added: 1.0.0
  silent:
    description:
      - Whether all earlier probes timed out. See RV(itsm_nexus.runbook.health_probe#module:silent). If true, the module
        waits only 0.5 seconds for each response.
    type: bool
    default: false
    version_added: 1.0.0
  required_environment:
    description: Variables that the service requires. The module reports the variables that are missing or empty.
    type: list
    elements: str
    default: []
  incident:
    description: ID of the incident for which to save the evidence. If empty, no evidence is saved.
    type: str
    default: ""
  evidence_limit:
    description: Maximum size of the evidence for each incident, in bytes. The limit applies to the total size of the
      evidence from all triage runs for the incident.
    type: int
    default: 20971520
  evidence_keep:
    description:
      - Number of incidents whose evidence is kept, starting with the newest. If V(0), there is no limit.
      - The evidence of O(incident) and of the open incident is never removed. Files that the module did not create are
        also kept.
    type: int
    default: 50
  evidence_keep_days:
    description: Number of days for which evidence is kept. If V(0), there is no limit.
    type: float
    default: 365.0
  deadline:
    description: Time limit for the whole triage, in seconds.
    type: float
    default: 10.0
  part_timeout:
    description: Time limit for each part, in seconds.
    type: float
    default: 5.0
  database_timeout:
    description:
      - Time limit for a second check of the database, in seconds. The second check runs if the first check does not
        finish within O(deadline).
      - If the second check does not finish in time either, the finding is V(db_unchecked), and the service is not
        started. If the disk of the database does not respond, the second check does not run.
      - The log can contain errors about a damaged database even if the first check found no damage. If all of these
        errors were logged before the current database file was created by a recovery, a second check also runs, with
        C(integrity_check). If this check does not finish in time, the finding is V(db_corrupt), and the service is not
        started.
    type: float
    default: 300.0
  window:
    description: Length of the triage window, in seconds. If the unit has stopped or failed, the window ends at the time
      of this event. Otherwise, it ends at the current time. The module does not read log lines that are older than the
      window.
    type: int
    default: 600
  log_lines:
    description: Number of lines to return from the end of the log file and of the journal.
    type: int
    default: 100
  kernel_log_command:
    description: Command that prints the kernel's log. If empty, C(journalctl -k) is used, or C(dmesg) if
      C(journalctl -k) fails.
    type: list
    elements: str
    default: []
  settings:
    description:
      - Invalid variables, as listed in RV(itsm_nexus.runbook.service_preflight_info#module:problems). The module
        reports these variables in the V(config_mismatch) finding. The C(useless_rungs) in this finding are the rungs
        that require these variables.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
  changes:
    description: If true, the module compares the host with the manifest that M(itsm_nexus.runbook.health_probe) saved
      when the service was last healthy. If there is no manifest, nothing is compared.
    type: bool
    default: true
    version_added: 1.0.0
  readiness:
    description:
      - The problems that M(itsm_nexus.runbook.health_probe) found in a service that answers. The format is the same as
        that of C(problems) in RV(itsm_nexus.runbook.health_probe#module:readiness). If the module does not find the
        cause of a problem, it reports the problem itself as a finding.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
"""
