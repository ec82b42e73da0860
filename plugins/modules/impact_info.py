#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: impact_info
short_description: Tells how many users and requests an outage hit
version_added: 0.2.0
description:
  - Asks the database one question, in a process that can not write and is ended in time, and counts the requests that
    an access log has of the time of the outage.
  - What can't be told is null, and why is told beside it. The module fails only where its parameters make no sense.
options:
  path:
    description: Absolute path of the database.
    type: path
    required: true
  query:
    description:
      - One SQL statement that answers a number. C(:start) and C(:end) in it stand for O(start) and O(end).
      - Empty, the database is not asked.
    type: str
    default: ""
  user:
    description:
      - The user that the service runs as. In a folder that others than root may change, the database is read with the
        rights of this user, never with those of root.
      - Default is whoever such a folder belongs to.
    type: str
    default: ""
    version_added: 0.2.0
  access_log:
    description:
      - A log with a line for each request, its time and status in it, as web servers and proxies and many applications
        write them. The log of a proxy knows of requests that never reached the service.
      - Empty, none is read.
    type: str
    default: ""
  start:
    description: When the outage began (UTC, ISO 8601).
    type: str
    required: true
  end:
    description: When it was over.
    type: str
    required: true
  time_budget:
    description: Seconds for both together.
    type: float
    default: 5.0
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.attributes.info_module
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
"""

EXAMPLES = r"""
- name: Whom did it hit?
  itsm_nexus.runbook.impact_info:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    query: SELECT count(DISTINCT user_id) FROM user_activity WHERE datetime(created_at) >= datetime(:start, '-1 hour')
    access_log: /var/log/nginx/access.log
    start: "2026-03-02T01:02:03.456Z"
    end: "2026-03-02T01:04:05.678Z"
"""

RETURN = r"""
users:
  description: What the query answered.
  returned: always
  type: int
  sample: 12
users_unknown:
  description: Why that is not known; null also where nothing was asked.
  returned: always
  type: str
  sample: "the query failed: no such table: user_activity"
requests:
  description: Requests that the log has of that time.
  returned: always
  type: int
  sample: 340
requests_failed:
  description: Those of them that were answered with 5xx.
  returned: always
  type: int
  sample: 17
requests_from:
  description: The log.
  returned: always
  type: str
  sample: /var/log/nginx/access.log
requests_unknown:
  description: Why they are not known; null also where no log was asked for.
  returned: always
  type: str
  sample: "/var/log/nginx/access.log cannot be read: No such file or directory"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import impact as outage_impact


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "query": {"type": "str", "default": ""},
            "access_log": {"type": "str", "default": ""},
            "start": {"type": "str", "required": True},
            "end": {"type": "str", "required": True},
            "user": {"type": "str", "default": ""},
            "time_budget": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    try:
        result = outage_impact.measure(**module.params)
    except outage_impact.ImpactError as error:
        module.fail_json(msg=sanitize.text(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
