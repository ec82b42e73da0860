#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postmortem_issue
short_description: Publish a postmortem as an issue on GitHub
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Creates an issue from a postmortem through the REST API of GitHub or GitHub Enterprise Server. The text of the issue
    contains a hidden marker with the incident's ID. If an issue with this marker exists, the module adds the postmortem
    to the issue as a comment. The module does not post the same document twice.
  - Runs on the controller, in the ansible-playbook process, and does not connect to the task's host. The module never
    passes the token to another process, and never writes the token to a file or a result. It does not follow redirects,
    and always verifies certificates.
  - If the module cannot publish the postmortem, it shows a warning and returns RV(reason), because a missing report
    must not make a recovery fail. The module fails only if it cannot read the document.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
    details: No request is sent.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  repository:
    description: The repository, in the form V(owner/name).
    type: str
    required: true
  token:
    description:
      - Access token with permission to write issues in O(repository). Defaults to the value of the environment variable
        E(ITSM_NEXUS_GITHUB_TOKEN) or E(GITHUB_TOKEN) on the controller.
    type: str
    default: ""
  api_url:
    description:
      - URL of the REST API. For GitHub Enterprise Server, use V(https://HOST/api/v3). Plain HTTP is allowed only if the
        host name in the URL is V(localhost), V(127.0.0.1) or V(::1).
    type: str
    default: https://api.github.com
  labels:
    description:
      - Labels for a new issue.
      - To find an existing issue, the module first searches by the first of these labels, and then by O(since). The
        second search is necessary because GitHub silently drops labels that the token is not allowed to set.
    type: list
    elements: str
    default: []
  assignees:
    description: Login names of the GitHub users to assign to a new issue.
    type: list
    elements: str
    default: []
  incident:
    description: ID of the incident.
    type: str
    required: true
  title:
    description: Title for a new issue.
    type: str
    required: true
  document:
    description: Path of the Markdown document on the controller.
    type: path
    required: true
  full:
    description:
      - Path or URL of the complete document. An issue can have at most 65,536 characters. If the module omits sections
        to meet this limit, the issue refers to this path or URL. Defaults to O(document).
    type: str
    default: ""
  since:
    description: Start time for the second search (see O(labels)), in UTC and ISO 8601 format. The module searches only
      issues that were updated at or after this time. This time must not be later than the start of the incident.
    type: str
    required: true
  patience:
    description: Maximum total waiting time between attempts, in seconds. The module retries a request if the server
      returns a 5xx status or asks the client to retry later.
    type: float
    default: 60
  timeout:
    description: Time limit for each request, in seconds.
    type: float
    default: 15
  ca_path:
    description: Path of a file or folder with the CA certificates to trust instead of the CA certificates of the
      system.
    type: path
"""

EXAMPLES = r"""
- name: Publish the postmortem
  itsm_nexus.runbook.postmortem_issue:
    repository: example/operations
    labels: [postmortem]
    incident: INC-20260302T010203Z-1f3a
    title: "Postmortem: itsm-system on node1, 2026-03-02"
    document: /home/ops/.local/state/itsm-runbook/postmortems/INC-20260302T010203Z-1f3a.md
    since: "2026-03-02T01:02:03.000Z"
"""

RETURN = r"""
state:
  description: Result of the call. V(created), V(commented), V(unchanged) (the same document was posted before), or
    V(not_published).
  returned: always
  type: str
  sample: created
url:
  description: URL of the issue or of the comment.
  returned: always
  type: str
  sample: https://github.com/example/operations/issues/7
number:
  description: Number of the issue, or 0 if there is none.
  returned: always
  type: int
  sample: 7
reason:
  description: Reason why the postmortem was not published. Empty if the postmortem was published.
  returned: always
  type: str
  sample: ""
"""
