#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postmortem_render
short_description: Write postmortem documents from recorded timelines
version_added: 0.1.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Reads the timelines that the P(itsm_nexus.runbook.postmortem#callback) callback wrote to a folder on the controller,
    including those of killed runs. For each incident, writes a Markdown, a JSON and an HTML document to the same
    folder. Also writes an index of all incidents.
  - Runs on the controller and writes only to this folder.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  dir:
    description:
      - Folder that contains the timelines. Defaults to the folder in the callback's configuration.
    type: path
  incident:
    description:
      - ID of the incident to document. Existing documents for the incident are overwritten.
      - If empty, the module writes the documents for every incident that has a timeline in the folder and for which at
        least one document is missing.
    type: str
    default: ""
  host:
    description: The host to write documents for. If empty, documents are written for all hosts.
    type: str
    default: ""
    version_added: 1.0.0
  language:
    description:
      - Language of the documents.
      - Defaults to the language of the incident. If the incident's language is unknown, the language in the callback's
        configuration is used.
    type: str
    choices: ["", en, ja]
    default: ""
    version_added: 1.0.0
  timezone:
    description:
      - Time zone in which times are shown in addition to UTC. Defaults to the time zone of the incident. If the
        incident's time zone is unknown, the time zone in the callback's configuration is used.
    type: str
    default: ""
    version_added: 1.0.0
"""

EXAMPLES = r"""
- name: Write missing documents
  itsm_nexus.runbook.postmortem_render:

- name: Write the documents of one incident again
  itsm_nexus.runbook.postmortem_render:
    incident: 20260302T010203Z-1a2b3c
"""

RETURN = r"""
dir:
  description: The folder that contains the timelines.
  returned: success
  type: str
  sample: /home/ops/.local/state/itsm-runbook/postmortems
documents:
  description: The incidents for which documents were written.
  returned: success
  type: list
  elements: dict
  contains:
    incident:
      description: ID of the incident.
      type: str
    host:
      description: The host on which the incident occurred.
      type: str
    outcome:
      description: The outcome, or V(unfinished) if the last run for the incident was killed.
      type: str
    markdown:
      description: Path of the Markdown document.
      type: str
    json:
      description: Path of the JSON document.
      type: str
    html:
      description: Path of the HTML page.
      type: str
    title:
      description: Title of the documents.
      type: str
    opened_at:
      description: Time when the outage was detected.
      type: str
    changed:
      description: True if a document was written. In check mode, true if a document would be written.
      type: bool
"""
