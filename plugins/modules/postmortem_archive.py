#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postmortem_archive
short_description: Save copies of postmortems on the host, and remove old copies
version_added: 1.0.0
description:
  - Writes documents to a folder that only its owner can read. In the same call, removes old documents from this folder.
    The module never leaves a partially written document behind.
options:
  dir:
    description: Path of the folder for the copies. If the folder does not exist, the module creates it.
    type: path
    required: true
  documents:
    description: The documents to write.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: File name, ending in C(.md), C(.json) or C(.html).
        type: str
        required: true
      content:
        description: Content of the document, encoded in Base64.
        type: str
        required: true
  state_dir:
    description: Path of the folder in which the module saves O(timeline).
    type: path
    default: /var/lib/itsm-runbook
  timeline:
    description:
      - The last lines of the run's timeline, in compressed form. The action plugin sets this option, so do not set it
        in a task. See O(itsm_nexus.runbook.incident#module:timeline).
    type: str
    default: ""
  retention_days:
    description: Number of days to keep a document after its last change. If V(0), all documents are kept.
    type: float
    default: 365
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
"""

EXAMPLES = r"""
- name: Copy the postmortem to the host
  itsm_nexus.runbook.postmortem_archive:
    dir: /var/lib/itsm-runbook/postmortems
    documents:
      - name: INC-20260302T010203Z-1f3a.md
        content: "{{ lookup('ansible.builtin.file', document, rstrip=false) | b64encode }}"
"""

RETURN = r"""
written:
  description: The files that were written. In check mode, the files that the module would write.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/itsm-runbook/postmortems/INC-20260302T010203Z-1f3a.md]
removed:
  description: The removed files. In check mode, the files that the module would remove.
  returned: success
  type: list
  elements: str
  sample: []
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import archive as postmortem_archive
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import run_timeline


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "documents": {
                "type": "list",
                "elements": "dict",
                "default": [],
                # The content is not secret. no_log is set only so that the content is not written to the system log.
                "options": {
                    "name": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                },
            },
            "state_dir": {"type": "path", "default": "/var/lib/itsm-runbook"},
            "timeline": {"type": "str", "default": "", "no_log": True},
            "retention_days": {"type": "float", "default": 365},
        },
        supports_check_mode=True,
    )
    if module.params["timeline"] and not module.check_mode:
        # If a timeline cannot be written, the documents must still be copied.
        with contextlib.suppress(OSError, run_timeline.TimelineError):
            run_timeline.append(module.params["state_dir"], module.params["timeline"])
    numbers.require_finite(module.params, fail=module.fail_json)
    try:
        result = postmortem_archive.keep(
            folder=module.params["dir"],
            documents=module.params["documents"],
            days=module.params["retention_days"],
            check_mode=module.check_mode,
        )
    except postmortem_archive.PostmortemKeepError as error:
        module.fail_json(msg=sanitize.text(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
