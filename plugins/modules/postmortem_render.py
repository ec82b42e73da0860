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
    including the timelines of killed runs. For each incident, the module writes a Markdown, a JSON and an HTML document
    to the same folder. The module also writes an index of all incidents.
  - Runs on the controller, and writes only to this folder.
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
      - Folder that contains the timelines. Defaults to the folder from the callback configuration.
    type: path
  incident:
    description:
      - ID of the incident to document. Existing documents for the incident are overwritten.
      - If empty, the module writes the documents for every incident that has a timeline in the folder, but lacks at
        least one document.
    type: str
    default: ""
  host:
    description: Name of the host for which the module writes documents. If empty, the module writes documents for all
      hosts.
    type: str
    default: ""
    version_added: 1.0.0
  language:
    description:
      - Language of the documents.
      - Defaults to the language of the incident. If this language is unknown, the module uses the language from the
        callback configuration.
    type: str
    choices: ["", en, ja]
    default: ""
    version_added: 1.0.0
  timezone:
    description:
      - Time zone in which the documents show times in addition to UTC.
      - Defaults to the time zone of the incident. If this time zone is unknown, the module uses the time zone from the
        callback configuration.
    type: str
    default: ""
    version_added: 1.0.0
"""

EXAMPLES = r"""
- name: Write missing documents
  itsm_nexus.runbook.postmortem_render:

- name: Rewrite the documents for one incident
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
      description: Name of the host on which the incident occurred.
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
