#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preparedness_report
short_description: Decide whether each host is ready for a recovery, and write the readiness report
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Evaluates the results of M(itsm_nexus.runbook.preparedness_info) and M(itsm_nexus.runbook.notify_probe), and returns
    one verdict for each check and one verdict for each host. If a check could not be performed, the module never
    reports this check as ready.
  - Writes one report about all hosts to the files C(readiness.html), C(readiness.md) and C(readiness.json) on the
    controller, in the same folder as the postmortems. These files replace those of the previous run.
  - Runs on the controller.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details: The report contains the time of the check.
options:
  state:
    description:
      - V(written) decides whether each host is ready, writes the report, and returns the notifications to send.
      - V(notified) records the notifications that were sent, and returns the screen output.
    type: str
    choices: [written, notified]
    default: written
  hosts:
    description: Names of all hosts that the report covers. If a host is missing from O(seen), the module reports this
      host as unreachable.
    type: list
    elements: str
    required: true
  seen:
    description: The collected results, with one item per host.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: The name of the host.
        type: str
        required: true
      service:
        description: The name of the service.
        type: str
      result:
        description: The result of M(itsm_nexus.runbook.preparedness_info), even if the module failed.
        type: dict
      contacts:
        description: The result of M(itsm_nexus.runbook.notify_probe).
        type: dict
      contact_problems:
        description: The invalid contact settings.
        type: list
        elements: str
      tested:
        description: Results of the test messages, as in RV(ignore:escalation_result) of the
          P(itsm_nexus.runbook.escalation#role) role.
        type: list
        elements: dict
      notify:
        description: Keys of the contacts to notify if the host is not ready.
        type: list
        elements: str
      https:
        description: Whether the service uses HTTPS.
        type: bool
      login:
        description: Properties of the recovery login check.
        type: dict
        suboptions:
          configured:
            description: Whether a recovery checks the login.
            type: bool
            default: false
          declined:
            description: Whether the inventory switches off the login check. This is the case if the password is set to
              an empty value, and the user name is empty or not set.
            type: bool
            default: false
          check_mode:
            description: Whether the login check was skipped because of check mode.
            type: bool
            default: false
          result:
            description: The result of M(itsm_nexus.runbook.health_probe), or an empty dictionary if the login check did
              not run.
            type: dict
      error:
        description: Reason why O(seen[].result) is missing.
        type: str
      limits:
        description: The limits that apply to this host. Each host can have different limits.
        type: dict
        suboptions:
          rpo_hours:
            description: Recovery point objective (RPO), in hours. If the newest restorable backup is older than this
              limit, the host is not ready.
            type: float
            default: 24
          drill_days:
            description: Maximum age of the last restore drill, in days. If the last restore drill is older, the check
              reports a warning.
            type: float
            default: 35
          certificate_days:
            description: Minimum remaining validity period of the certificate, in days. If the certificate expires
              within this period, the check reports a warning.
            type: float
            default: 7
          open_files_percent:
            description:
              - Percentage of the open files limit. If a service process reaches this percentage of its limit, the host
                is not ready.
              - V(0) disables this check.
            type: float
            default: 90
  at:
    description: Time of the report. Defaults to the current time.
    type: str
    default: ""
  dir:
    description: Path of the folder for the report. Defaults to the folder from the configuration of the postmortem
      callback.
    type: path
  language:
    description: Language of the report and the screen output. Defaults to the language of the postmortem callback.
    type: str
    choices: ["", en, ja]
    default: ""
  timezone:
    description: Time zone in which the report shows times in addition to UTC. Defaults to the time zone of the
      postmortem callback.
    type: str
    default: ""
  notice_language:
    description: Language of the notifications.
    type: str
    choices: [en, ja]
    default: en
  notifications:
    description: The notifications that were sent, as one list per host. The keys are host names. The keys of each
      notification are C(contact), C(channel), C(ok) and C(error).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the readiness report
  itsm_nexus.runbook.preparedness_report:
    hosts: "{{ ansible_play_hosts_all }}"
    seen:
      - host: "{{ inventory_hostname }}"
        service: "{{ nexus_unit }}"
        result: "{{ _preparedness }}"
        contacts: "{{ _reached }}"
        https: true
        login: {configured: true, result: "{{ login_result }}"}
  register: _report
"""

RETURN = r"""
ready:
  description: True if every host is ready.
  returned: if O(state=written)
  type: bool
hosts:
  description: The verdict for each host, keyed by host name.
  returned: if O(state=written)
  type: dict
  contains:
    ready:
      description: True if the host is ready for a recovery.
      type: bool
    not_ready:
      description: The checks that prevent the host from being ready.
      type: list
      elements: str
    notify:
      description:
        - True if a notification must be sent.
        - False if the host is ready, or if a notification within the last 23 hours listed all checks in C(not_ready).
      type: bool
    notice:
      description: The text of the notification, as a list of lines.
      type: list
      elements: str
  sample:
    itsm-prod-01:
      ready: false
      not_ready: [backup]
      notify: true
      notice:
        - "backup: There is no backup."
        - "do: Make a backup every night, for example with outage_backup.yml, and add its folder to
          database_recovery_backup_dirs."
report:
  description: The content of the JSON document. C(schema) is the version of the document's format.
  returned: if O(state=written)
  type: dict
documents:
  description: The paths of the documents, keyed by their format (C(html), C(md) and C(json)). Empty in check mode.
  returned: if O(state=written)
  type: dict
error:
  description: Reason why the module could not write the documents or could not record the notifications. Empty if there
    was no error.
  returned: success
  type: str
at:
  description: Time of the report.
  returned: if O(state=written)
  type: str
screen:
  description: The screen output as a list of lines for each host, keyed by host name.
  returned: if O(state=notified)
  type: dict
"""
