#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: impact_info
short_description: Count the users and requests that an outage affected
version_added: 1.0.0
description:
  - Runs one read-only query on the database, in a separate process with a time limit. The module also counts the
    requests that the service or a proxy logged during the outage. It reads the journal and log files, including rotated
    and compressed (C(.gz)) log files.
  - If several logs contain the same request, the module counts the request once. Log entries count as the same request
    if they have the same method, path and status, and nearly the same time.
  - If the module cannot determine a number, it returns V(null) and the reason. The module fails only if its parameters
    are invalid.
options:
  path:
    description: Absolute path of the database.
    type: path
    required: true
  query:
    description:
      - A single SQL statement that returns a number. In the statement, C(:start), C(:end) and C(:login) are the values
        of O(start), O(end) and O(login).
      - If empty, the module does not query the database.
    type: str
    default: ""
  login:
    description: Name of the account that the login check uses. This account does not count as an affected user.
    type: str
    default: ""
    version_added: 1.0.0
  user:
    description:
      - The user that the service runs as. If users other than root can change the database folder, the module reads the
        database with the permissions of the service's user, not as root.
      - Defaults to the owner of that folder.
    type: str
    default: ""
    version_added: 1.0.0
  access_log:
    description:
      - Path of a log in which each line contains the time and the status of one request, such as the access log of a
        web server or a proxy. A proxy log also contains requests that never reached the service.
      - If empty, the module reads only the journal and the logs that match O(access_log_patterns).
    type: str
    default: ""
  access_log_patterns:
    description:
      - Path patterns for additional request logs, such as logs whose file name changes every day. Each pattern is
        absolute or relative to O(app_dir).
    type: list
    elements: str
    default: []
    version_added: 1.0.0
  app_dir:
    description: Path of the application folder. Required if a pattern is relative.
    type: path
    version_added: 1.0.0
  journal_unit:
    description: Name of the systemd unit whose journal contains requests. If empty, the module does not read the
      journal.
    type: str
    default: ""
    version_added: 1.0.0
  start:
    description: Start of the outage (UTC, ISO 8601).
    type: str
    required: true
  end:
    description: End of the outage (UTC, ISO 8601).
    type: str
    required: true
  time_budget:
    description: Combined time limit for the query and for reading the logs, in seconds.
    type: float
    default: 5.0
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.attributes.info_module
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
"""

EXAMPLES = r"""
- name: Count the affected users and the failed requests
  itsm_nexus.runbook.impact_info:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    query: SELECT count(DISTINCT user_id) FROM user_activity WHERE datetime(created_at) >= datetime(:start, '-1 hour')
    access_log: /var/log/nginx/access.log
    access_log_patterns: [backend/logs/*.log]
    app_dir: /mnt/LinuxHDD/ITSM-System
    journal_unit: itsm-system
    start: "2026-03-02T01:02:03.456Z"
    end: "2026-03-02T01:04:05.678Z"
"""

RETURN = r"""
users:
  description: The result of the query, or V(null) if the result is unknown.
  returned: always
  type: int
  sample: 12
users_unknown:
  description: Reason why the number of users is unknown. V(null) if the number is known or O(query) is empty.
  returned: always
  type: str
  sample: "the query failed: no such table: user_activity"
requests:
  description: Number of requests that were logged during the outage.
  returned: always
  type: int
  sample: 340
requests_failed:
  description: Number of RV(requests) with a 5xx status.
  returned: always
  type: int
  sample: 17
requests_from:
  description:
    - The logs that contain RV(requests), separated by commas. The list contains at most five logs. If the journal
      contains requests, the list contains the C(journalctl) command that shows the journal.
  returned: always
  type: str
  sample: "journalctl -u itsm-system, /mnt/LinuxHDD/ITSM-System/backend/logs/app-2026-03-02.log"
requests_unknown:
  description: Reason why the number of requests is unknown. V(null) if the number is known or no log was specified.
  returned: always
  type: str
  sample: "/var/log/nginx/access.log cannot be read: No such file or directory"
messages:
  description:
    - RV(users_unknown) and RV(requests_unknown) as translatable messages, if they are not null. Each message contains
      its C(id) in the message catalogue, and the C(values) to insert into the message text.
  returned: success
  type: dict
  version_added: 1.0.0
  sample: {"users_unknown": {"id": "reason.impact.query_late", "values": {}}}
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import impact as outage_impact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_files, request_log


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "query": {"type": "str", "default": ""},
            "login": {"type": "str", "default": ""},
            "access_log": {"type": "str", "default": ""},
            "access_log_patterns": {"type": "list", "elements": "str", "default": []},
            "app_dir": {"type": "path"},
            "journal_unit": {"type": "str", "default": ""},
            "start": {"type": "str", "required": True},
            "end": {"type": "str", "required": True},
            "user": {"type": "str", "default": ""},
            "time_budget": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    numbers.require_finite(params, fail=module.fail_json)
    patterns = params.pop("access_log_patterns")
    app_dir = params.pop("app_dir")
    relative = [pattern for pattern in patterns if not os.path.isabs(pattern)]
    if relative and not app_dir:
        told = f"access_log_patterns: {relative[0]!r} is a relative pattern. Use an absolute pattern, or set app_dir."
        module.fail_json(msg=sanitize.text(told))
    places = request_log.Places(
        log=params.pop("access_log"),
        patterns=log_files.absolute(patterns, folder=app_dir or "/"),
        unit=params.pop("journal_unit"),
        user=params["user"],
    )
    try:
        result = outage_impact.measure(places=places, **params)
    except outage_impact.ImpactError as error:
        module.fail_json(msg=sanitize.text(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
