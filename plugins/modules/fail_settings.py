#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fail_settings
short_description: Fail with a list of invalid settings
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Fails if O(problems) is not empty. The P(itsm_nexus.runbook.postmortem#callback) callback records these problems and
    shows them in the closing summary. Therefore, O(problems) must not contain secrets. The callback neither records nor
    shows the messages of M(ansible.builtin.fail) and M(ansible.builtin.assert).
  - The module runs on the controller and does not connect to the host.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  problems:
    description: One sentence for each invalid setting. The sentence contains the name of the variable, its value and
      the allowed values.
    type: list
    elements: str
    required: true
  messages:
    description:
      - The same problems as translatable messages. Each message contains its C(id) in the message catalogue, and the
        C(values) to insert into the message text. If this option is set, the closing summary and the postmortem show
        the problems in the reader's language.
      - If O(messages) and O(problems) have different lengths, the closing summary and the postmortem quote the English
        texts in O(problems).
    type: list
    elements: dict
    default: []
  shown:
    description: Whether the play has already shown the problems, for example in a report. If true and no
      other task failed on the host, the closing summary omits the host.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Reject an invalid port
  itsm_nexus.runbook.fail_settings:
    problems:
      - my_port is 'soon': must be a number from 1 to 65535
  when: my_port | int == 0
"""

RETURN = r"""
problems:
  description: The invalid settings.
  returned: always
  type: list
  elements: str
shown:
  description: The value of O(shown).
  returned: always
  type: bool
messages:
  description: The invalid settings as translatable messages, in the key C(problems).
  returned: if O(messages) is not empty
  type: dict
"""
