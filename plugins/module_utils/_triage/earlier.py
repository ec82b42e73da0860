# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the saved result of the triage that ran before this run started the service.

The saved result is needed if the result of that triage was lost on the way to the controller.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence

_SAVED = ("findings", "facts", "signs")


def started_at(record: Optional[Mapping[str, Any]], *, run: str) -> Optional[str]:
    """If the run's current attempt has started the service, return the start time of the attempt, otherwise None."""
    attempt = incident_record.under_way(record, run=run) if record and run else None
    return str(attempt["started_at"]) if attempt and attempt.get("started") else None


def as_before_the_start(result: Mapping[str, Any], *, incident: str, state_dir: str) -> Dict[str, Any]:
    """Return a triage result with the facts and the findings that were saved before the service was started.

    The result is returned unchanged in three cases: the process is gone again, the data is now in doubt, or nothing was
    saved in the state folder.
    """
    saved = _saved(os.path.join(triage_evidence.home(state_dir), incident, triage_evidence.RESULT))
    gone = (result["facts"].get("process") or {}).get("state") == "gone"
    doubtful = result["blocks_start"] or result["data_loss_suspected"] or result["rows_missing"]
    if gone or doubtful or saved is None:
        return dict(result)
    return {
        **result,
        **{name: saved[name] for name in _SAVED},
        "blocks_start": any(finding["blocks_start"] for finding in saved["findings"]),
        "row_counts": saved["facts"]["database"].get("row_counts") or {},
    }


def _saved(path: str) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(atomic_files.read_plain(path, limit=triage_evidence.LIMIT).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    complete = isinstance(found, dict) and all(name in found for name in _SAVED)
    return found if complete else None
