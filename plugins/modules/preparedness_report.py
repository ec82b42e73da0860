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
  - Derives one verdict per check and one verdict per host from the results of M(itsm_nexus.runbook.preparedness_info)
    and M(itsm_nexus.runbook.notify_probe). A check that could not be performed is never reported as ready.
  - Writes one report about all hosts to the files C(readiness.html), C(readiness.md) and C(readiness.json) on the
    controller, next to the postmortems. These files replace those of the previous run.
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
    description: The names of all hosts that the report covers. A host that is missing from O(seen) is reported as
      unreachable.
    type: list
    elements: str
    required: true
  seen:
    description: The results that were collected for each host.
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
        description: The invalid settings of the contacts.
        type: list
        elements: str
      tested:
        description: The test messages, as in RV(ignore:escalation_result) of the P(itsm_nexus.runbook.escalation#role)
          role.
        type: list
        elements: dict
      notify:
        description: The keys of the contacts that are notified if the host is not ready.
        type: list
        elements: str
      https:
        description: True if the service uses HTTPS.
        type: bool
      login:
        description: The login check of a recovery.
        type: dict
        suboptions:
          configured:
            description: True if a recovery checks the login.
            type: bool
            default: false
          declined:
            description: True if the inventory sets the password to an empty value, and the user name is empty or not
              set.
            type: bool
            default: false
          check_mode:
            description: True if no login was tried because of check mode.
            type: bool
            default: false
          result:
            description: The result of M(itsm_nexus.runbook.health_probe), or an empty dictionary if no login was tried.
            type: dict
      error:
        description: The reason why there is no result.
        type: str
      limits:
        description: The limits that apply to this host. Each host can have different limits.
        type: dict
        suboptions:
          rpo_hours:
            description: Recovery point objective, in hours. The host is not ready if the newest backup that can be
              restored is older than this limit.
            type: float
            default: 24
          drill_days:
            description: If the last restore drill is older than this number of days, the check results in a warning.
            type: float
            default: 35
          certificate_days:
            description: If the certificate expires within this number of days, the check results in a warning.
            type: float
            default: 7
          open_files_percent:
            description:
              - The host is not ready if the number of open files of a service process reaches this percentage of the
                process's limit.
              - V(0) disables this check.
            type: float
            default: 90
  at:
    description: Time of the report. Defaults to the current time.
    type: str
    default: ""
  dir:
    description: Folder for the report. Defaults to the folder in the postmortem callback's configuration.
    type: path
  language:
    description: Language of the report and the screen output. Defaults to the postmortem callback's language.
    type: str
    choices: ["", en, ja]
    default: ""
  timezone:
    description: Time zone in which times are shown in addition to UTC. Defaults to the postmortem callback's time zone.
    type: str
    default: ""
  notice_language:
    description: Language of the notifications.
    type: str
    choices: [en, ja]
    default: en
  notifications:
    description: The notifications that were sent, as one list per host, keyed by host name. The keys of each
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
      description: True if a notification must be sent. False if the host is ready. Also false if a notification was
        sent within the last 23 hours and listed all checks in C(not_ready).
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
  description: The reason why the documents could not be written or the notifications could not be recorded. Empty if
    there was no error.
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
