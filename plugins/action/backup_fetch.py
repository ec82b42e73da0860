# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import off_host
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import backup_copy, on_host


class _Failed(Exception):
    """A call to the module failed. `result` is the module's result."""

    def __init__(self, result: Dict[str, Any]) -> None:
        super().__init__()
        self.result = result


class ActionModule(on_host.OnHost):
    """Calls the module of the same name for each part of the backup, and writes the parts to a file."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Copy the backup, and return the result without the data."""
        given = dict(self._task.args)

        def call(**more: Any) -> Dict[str, Any]:
            self._task.args = {**given, **more}
            result = super(ActionModule, self).run(tmp, task_vars)
            if result.get("failed"):
                raise _Failed(result)
            return result

        try:
            return self._copy(given, call, host=str((task_vars or {}).get("inventory_hostname")))
        except _Failed as error:
            return error.result
        except backup_copy.CopyError as error:
            told = f"Cannot copy the backup {given.get('path')} to the controller: {error}"
            return {"failed": True, "msg": told, "invocation": {}}

    def _copy(self, given: Dict[str, Any], call: Any, *, host: str) -> Dict[str, Any]:
        """Copy the backup. Raises _Failed or CopyError."""
        known = call()
        size, sha256 = int(known["size"]), str(known["sha256"])
        dest = backup_copy.destination(str(given["dest_dir"]), host=host, path=str(given["path"]))
        result = {"changed": True, "dest": dest, "size": size, "sha256": sha256, "removed": [], "invocation": {}}
        there = backup_copy.is_copied(dest, sha256=sha256)
        if self._task.check_mode:
            return {**result, "changed": not there}
        if not there:
            backup_copy.copy(
                dest,
                size=size,
                sha256=sha256,
                limit=int(given.get("limit", off_host.LIMIT)),
                part=lambda offset: str(call(offset=offset).get("data")),
            )
        noted = call(where=f"controller, {dest}")
        removed = backup_copy.prune(dest, keep=int(given.get("keep", off_host.KEEP)))
        return {**result, "changed": bool(not there or noted["changed"] or removed), "removed": removed}
