# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect and save the manifest during a call of the health_probe module, while its other checks run.

In each function, the `values` argument contains the parameters of the health_probe module.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import collect, entries, store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection

# Time limit in seconds. A manifest is saved only if it was collected within this time.
_TIMEOUT = 3.0

# Suboptions of health_probe's `manifest` option.
ARGUMENTS: Dict[str, Any] = {
    "database_path": {"type": "str", "default": ""},
    "tls_cert_path": {"type": "str", "default": ""},
    "tls_key_path": {"type": "str", "default": "", "no_log": False},
}


def of_detection(
    values: Mapping[str, Any],
    checked: Optional[Dict[str, Any]],
    health: Mapping[str, Any],
    meanwhile: Callable[[], Any],
    *,
    check_mode: bool,
) -> Callable[[], None]:
    """Run `meanwhile`, and collect the manifest at the same time. Return a function that saves the manifest.

    The manifest is collected and saved only if the parameters request it and the service is healthy. In check mode, it
    is never collected or saved. See detection.See.
    """
    started_at = health["process"]["started_at"]
    asked = values["manifest"] and values["remember"] and not check_mode and health["healthy"] and started_at
    if not asked:
        meanwhile()
        return lambda: None
    known = store.read(values["state_dir"])
    question = functools.partial(_collected, place_of(values, checked, health), known)
    answer = parallel.ask({"manifest": question}, timeout=_TIMEOUT, meanwhile=meanwhile)["manifest"]
    if answer.error is not None:
        return lambda: None
    return functools.partial(_save, values["state_dir"], known, answer.value, started_at=timestamps.epoch(started_at))


def _collected(place: collect.Place, known: Optional[entries.Manifest]) -> List[Dict[str, Any]]:
    return entries.plain(collect.collect(place, known))


def _save(state_dir: str, known: Optional[entries.Manifest], seen: List[Dict[str, Any]], *, started_at: float) -> None:
    new = store.merged(known, entries.of_plain(seen), started_at=started_at, now=time.time())
    store.write(state_dir, known, new)


def place_of(values: Mapping[str, Any], checked: Optional[Dict[str, Any]], health: Mapping[str, Any]) -> collect.Place:
    """Return the service's Place, based on the results of the preflight and the health check."""
    service, wanted = values["service"], values["manifest"]
    resolved = (checked or {}).get("resolved") or {}
    user = str(resolved.get("user") or service["user"])
    node = resolved.get("node") or {}
    pids = health["process"]["pids"]
    process = procfs.read_process(pids[0]) if pids else None
    return collect.Place(
        app_dir=service["app_dir"],
        command=service["command"],
        unit=service["unit"] if service["manager"] == "systemd" else "",
        environment_file=service["environment_file"],
        database=detection.database_path_of(checked) or wanted["database_path"],
        certificate=wanted["tls_cert_path"],
        key=wanted["tls_key_path"],
        node=node.get("path") or (process.exe if process is not None else None) or "",
        node_version=str(node.get("version") or ""),
        user=user,
        rights=safe_open.account_rights(user),
        started_at=timestamps.epoch(health["process"]["started_at"]),
    )
