# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold the service if its data is in doubt after a triage, and release it if the database is sound.

In each function, the `params` argument contains the parameters of the triage_info module.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as unit_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    last_good,
    recovered_file,
    service_ends,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import earlier
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.database import Database
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.run import DATA_CAUSES, is_older

Params = Mapping[str, Any]
Warn = Callable[[str], Any]


def known(params: Params) -> Dict[str, Any]:
    """Return the open incident's record, the hold, and functions that return saved results of earlier runs."""
    record = incident_store.current(params["state_dir"])
    refused = one_starter.refused_by_guard(**_place(params)) if _is_guarded(record) else None
    if record is None or not params["incident"]:
        record = None
    held = one_starter.held(**_place(params))
    if refused is not None:
        held = {**(held or refused), "refused": refused["reason"]}
    ends = service_ends.of_service(params["service"], state_dir=params["state_dir"])
    counted = functools.partial(_last_good, params["state_dir"])
    recovered = functools.partial(recovered_file.older_before, params["state_dir"])
    saved = {"last_good_of": counted, "recovered_at_of": recovered, "ends": ends}
    return {"record": record, "held": held, **saved}


def _is_guarded(record: Optional[Mapping[str, Any]]) -> bool:
    """Return True if the data is in doubt, or if the start guard has blocked a service start in this incident."""
    return bool(((record or {}).get("data") or {}).get("refused")) or incident_store.in_doubt(record)


def _place(params: Params) -> Dict[str, str]:
    """Return the arguments that identify the service's hold."""
    service = params["service"]
    return {"manager": service["manager"], "unit": service["unit"], "state_dir": params["state_dir"]}


def _holds_only_copy(facts: Mapping[str, Any]) -> bool:
    """Return True if the database file was deleted and a service process has the only remaining copy open."""
    path = (facts.get("database") or {}).get("path") or ""
    processes = (facts.get("process") or {}).get("processes") or []
    return bool(path) and procfs.holder_of_deleted([item["pid"] for item in processes], path) is not None


def _last_good(state_dir: str, path: str) -> last_good.Counted:
    return last_good.last_good_rows(state_dir, path=path)


# The service's user could change the database repeatedly, and every triage would copy it. If this many copies exist,
# another copy is made only if a tenth of the file system stays free.
_FREE_COPIES = 2
_LEFT_FREE = 0.1


def _copies(state_dir: str) -> int:
    """Return the number of database copies in the evidence of all incidents."""
    with contextlib.suppress(OSError), os.scandir(f"{state_dir}/evidence") as incidents:
        return sum(".evidence_" in name for each in incidents if each.is_dir() for name in os.listdir(each.path))
    return 0


def _keep_data(params: Params, database: Mapping[str, Any]) -> Dict[str, Any]:
    """Copy the database files to the evidence folder, unless an up-to-date copy exists.

    Returns path (the copy, or None), not_copied (the error, or an empty string), and messages (the error as a message).
    """
    path = database["path"]
    folder = f"{params['state_dir']}/evidence/{params['incident']}"
    prefix = f"{os.path.basename(path)}.evidence_"
    kept = sorted(name for name in (os.listdir(folder) if os.path.isdir(folder) else ()) if name.startswith(prefix))
    if kept and _is_copy(f"{folder}/{kept[-1]}", database.get("files") or [], made=kept[-1][len(prefix) :]):
        return {"path": f"{folder}/{kept[-1]}", "not_copied": "", "messages": {}}
    leave = _LEFT_FREE if _copies(params["state_dir"]) >= _FREE_COPIES else 0.0
    try:
        made = sqlite_backup.backup(
            path=path, evidence=True, dest_dir=folder, user=params["service"]["user"] or None, leave=leave
        )
    except SqliteError as error:
        return {"path": None, "not_copied": str(error), "messages": plain(not_copied=error.told)}
    return {"path": made["evidence_dir"], "not_copied": "", "messages": {}}


def _is_copy(folder: str, files: Sequence[Mapping[str, Any]], *, made: str) -> bool:
    """Return True if the copy has the same files and sizes, and the originals have not changed since the copy.

    made: time of the copy (UTC, 20260302T010203Z). The -shm file is ignored, because it contains no data and every
    reader of the database creates it.
    """
    there = {os.path.basename(each["path"]): each for each in files if not each["path"].endswith("-shm")}
    copied = {name: os.path.getsize(f"{folder}/{name}") for name in os.listdir(folder) if not name.endswith("-shm")}
    older = all(re.sub("[-:]", "", each["modified_at"])[:15] < made[:15] for each in there.values())
    return older and copied == {name: each["size"] for name, each in there.items()}


def _guard(params: Params, result: Dict[str, Any], known: Mapping[str, Any], *, warn: Warn) -> None:
    """Hold the service if a finding blocks its start. Release the hold if there is no longer a reason for it."""
    where = {**_place(params), "run": params["run"]}
    blocking = [finding for finding in result["findings"] if finding["blocks_start"]]
    # If another cause explains a finding, the data is not in doubt. For example, a database may be "missing" only
    # because its configured path is wrong.
    of_data = [item for item in blocking if item["cause"] in DATA_CAUSES and not item["explained_by"]]
    record = known["record"] or {}
    # If the creation time cannot be read now, the time that was read earlier still identifies the database.
    created_at = last_good.Counted.of(result["facts"]["database"]).created_at or result["created_before"]
    conclusive = bool(result["facts"]["database"].get("conclusive"))
    # If the first triage did not find the database, the database that exists now may be a different one.
    on_record = record.get("data") or {}
    another = on_record.get("state") == incident_store.NOT_FOUND and conclusive
    doubtful = bool(of_data) or (another and any(item["cause"] == "start_held" for item in blocking))
    if blocking:
        first = _root(blocking[0], result["findings"])
        about = {"cause": first["cause"], "reason": first["summary"], "data": doubtful}
        about.update(incident=params["incident"], rows=result["rows_before"], created_at=result["created_before"])
        database = Database.of(result["facts"]["database"])
        about["damaged"] = bool(database.damages)
        result["hold"] = one_starter.hold(**where, **about, warn=warn)
        if doubtful:
            result["data_evidence"] = _keep_data(params, result["facts"]["database"])
        elif database.away is not None:
            one_starter.note_unseen(state_dir=params["state_dir"], run=params["run"], warn=warn)
        return
    if known["held"] is None and not incident_store.unsettled(record):
        if result["rows_counted"] and not on_record:
            seen = {"rows": result["row_counts"], "created_at": created_at}
            one_starter.note_rows(state_dir=params["state_dir"], run=params["run"], **seen, warn=warn)
        return
    reason = _why_sound(result, known, created_at=created_at) if result["rows_counted"] else ""
    if reason:
        _settle(params, result, reason=reason, created_at=created_at, warn=warn)


def _why_sound(result: Mapping[str, Any], known: Mapping[str, Any], *, created_at: str) -> str:
    """After a full check of the database, return the reason why its data can be trusted.

    Return an empty string if the data is in doubt.
    """
    record = known["record"] or {}
    if result["rows_missing"] or result["database_replaced"] is None:
        return ""
    if result["rows_before"]:
        return "The database was checked: it is sound, and no row is missing"
    on_record, opened_at = record.get("data") or {}, str(record.get("opened_at") or "")
    back = is_older(known["held"], created_at, on_record=on_record, opened_at=opened_at)
    if not back:
        return ""
    if on_record.get("unseen"):
        return "The database was found again, and it is sound"
    return "The database was checked: it is sound, and older than the hold"


def _settle(params: Params, result: Dict[str, Any], *, reason: str, created_at: str, warn: Warn) -> None:
    """Release the hold, and record the state of the data as sound."""
    where = {**_place(params), "run": params["run"], "rows": result["row_counts"], "created_at": created_at}
    try:
        one_starter.settle_doubt(**where, state=incident_store.SOUND, reason=reason, warn=warn)
        result.update(hold=None, released=True)
    except unit_hold.HoldError as error:
        warn(str(error))


def _root(finding: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the finding that explains the given finding. If there is none, return the given finding."""
    return next((other for other in findings if other["cause"] == finding["explained_by"]), finding)


def finish(params: Params, result: Dict[str, Any], known: Mapping[str, Any], *, guarded: bool, warn: Warn) -> None:
    """Complete a triage result: add the hold, the state of the data, and whether this run has started the service.

    guarded: if True, the service is first held or released, depending on the result.
    """
    result.update(hold=known["held"], released=False, data_evidence=None, only_copy=_holds_only_copy(result["facts"]))
    if guarded:
        _guard(params, result, known, warn=warn)
    record = incident_store.current(params["state_dir"]) or {}
    result["data"] = record.get("data")
    # If the result of the module that started the service was lost, the record still shows the start.
    result["started_by_run"] = earlier.started_at(record, run=params["run"])
