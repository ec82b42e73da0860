# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import (
    comparison,
    host_file,
    screen,
    variables,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import ansible_core

_MODE = 0o644
_LARGEST = 1 << 20
_VAULT = "$ANSIBLE_VAULT"
# The code checks only whether this variable is set, and never uses its value.
_SECRET = "nexus_login_password"  # noqa: S105 - the name of a variable


class _File(NamedTuple):
    """The host's variables file.

    path: the path, or None if the inventory is not a file. before: the content, or None for a new file.
    """

    path: Optional[str]
    before: Optional[str]
    # True if the module may create the file's folder.
    usual: bool


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads and writes one file on the controller. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Compare the host with the inventory, write the file if necessary, and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "discovery": {"type": "dict", "required": True},
                "dest": {"type": "str", "default": ""},
                "update": {"type": "bool", "default": False},
                "language": {"type": "str", "default": "en", "choices": list(catalogue.LANGUAGES)},
            }
        )
        host_vars = task_vars or {}
        try:
            result.update(self._rendered(options, host_vars))
        except host_file.InventoryError as error:
            raise AnsibleActionFail(str(error)) from error
        return result

    def _rendered(self, options: Mapping[str, Any], host_vars: Mapping[str, Any]) -> Dict[str, Any]:
        words = catalogue.of(options["language"])
        host = str(host_vars.get("inventory_hostname"))
        extra = ansible_core.extra_vars()
        found = _untagged(options["discovery"])
        compared = comparison.compare(words, found, self._known(host_vars), unsure=extra)
        file = _file(options["dest"], host_vars, host=host)
        fresh = host_file.render(words, compared, host=host)
        content, state = fresh, screen.NO_FILE
        if file.path is not None and file.before is None:
            host_file.check(fresh, compared.differences, path=file.path)
            state = screen.WOULD_WRITE if self._task.check_mode else screen.WRITTEN
        elif file.path is not None and file.before is not None:
            compared = compared.without(_hidden(file.before, path=file.path, unsure=extra))
            different = compared.differences
            state = screen.KEPT if different else screen.MATCHES
            if different and options["update"]:
                content = _updated(words, file, different)
                state = screen.WOULD_UPDATE if self._task.check_mode else screen.UPDATED
        written = state in (screen.WRITTEN, screen.UPDATED)
        if written:
            _write(file, content)
        changed = written or state in (screen.WOULD_WRITE, screen.WOULD_UPDATE)
        # AWX deletes the files of a job when the job ends.
        vanishes = any(name in host_vars for name in ("awx_job_id", "tower_job_id"))
        result: Dict[str, Any] = {
            "changed": changed,
            "dest": file.path,
            "written": written,
            # The content of an existing file is not returned, because it may contain secrets.
            "text": fresh,
            "show_text": vanishes or state in (screen.NO_FILE, screen.WOULD_WRITE),
            "differences": [
                {"variable": each.name, "inventory": each.known, "host": each.value, "source": each.source}
                for each in compared.differences
            ],
            "questions": [f"{each.name}: {each.text}" if each.name else each.text for each in compared.questions],
            "screen": screen.lines(
                words,
                compared,
                service=found.get("service") or {},
                state=state,
                path=file.path,
                inventories=[str(each) for each in context.CLIARGS.get("inventory") or ()],
            ),
        }
        if self._task.diff and changed:
            result["diff"] = [_diff(file, compared)]
        return result

    def _known(self, host_vars: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the host's variables from the inventory. If a variable's template fails, the variable is omitted."""
        known: Dict[str, Any] = {}
        available = {**variables.defaults(), **host_vars}
        before, self._templar.available_variables = self._templar.available_variables, available
        try:
            for name in variables.NAMES:
                if name in host_vars:
                    try:
                        value = self._templar.template(host_vars[name])
                    except AnsibleError:
                        continue
                    known[name] = (bool(value) or "") if name == _SECRET else _untagged(value)
        finally:
            self._templar.available_variables = before
        return known


def _untagged(value: Any) -> Any:
    """Convert data to plain types. ansible-core tags values with their origin, and PyYAML cannot write tags."""
    return json.loads(json.dumps(value, default=str))


def _file(dest: str, host_vars: Mapping[str, Any], *, host: str) -> _File:
    """Return the file to write. Raises InventoryError if the file's folder does not exist."""
    folder = str(host_vars.get("inventory_dir") or "")
    if not dest and (not folder or not os.path.isdir(folder)):
        return _File(None, None, usual=True)
    path = os.path.join(folder or os.getcwd(), os.path.expanduser(dest)) if dest else host_file.usual_path(folder, host)
    others = [each for each in host_vars.get("ansible_play_hosts_all") or () if each != host]
    if dest and others and host not in os.path.basename(path) and host not in path.split(os.sep):
        raise host_file.InventoryError(
            f"outage_discover_dest is {dest!r}: it must contain the name of the host if there are several hosts"
        )
    parent = os.path.dirname(path)
    if dest and not os.path.isdir(parent):
        raise host_file.InventoryError(
            f"outage_discover_dest is {dest!r}: the folder {parent} does not exist. Create it, or choose another file"
        )
    return _File(path, _read(path), usual=not dest)


def _read(path: str) -> Optional[str]:
    try:
        return atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise host_file.InventoryError(f"Cannot read {path}: {why}") from error


def _hidden(before: str, *, path: str, unsure: Mapping[str, Any]) -> List[str]:
    """Return the variables that are set both in the file and on the command line.

    For these variables, the command line hides the values from the inventory.
    """
    names = [] if before.startswith(_VAULT) else host_file.names(before, path=path)
    return [name for name in names if name in unsure]


def _diff(file: _File, compared: comparison.Comparison) -> Dict[str, str]:
    """Return the changed variables as a diff. Other lines of the file may contain secrets and are omitted."""
    before = [host_file.line(each.name, each.known) for each in compared.of(comparison.OTHER)]
    after = [host_file.line(each.name, each.value) for each in compared.differences]
    header = str(file.path)
    return {
        "before_header": header,
        "before": "".join(f"{line}\n" for line in before),
        "after_header": header,
        "after": "".join(f"{line}\n" for line in after),
    }


def _updated(words: catalogue.Words, file: _File, different: List[comparison.Setting]) -> str:
    if file.before is None or file.before.startswith(_VAULT):
        raise host_file.InventoryError(
            f"Cannot change {file.path}: it is encrypted. Set outage_discover_dest to another file of the host"
        )
    return host_file.update(words, file.before, different, path=str(file.path))


def _write(file: _File, text: str) -> None:
    path = os.path.realpath(str(file.path))
    try:
        if file.usual:
            # The inventory's folder exists, so only its subfolder host_vars can be missing.
            os.makedirs(os.path.dirname(path), exist_ok=True)
        mode = stat.S_IMODE(os.stat(path).st_mode) if file.before is not None else _MODE
        atomic_files.write_atomically(path, text.encode("utf-8"), mode=mode)
    except OSError as error:
        raise host_file.InventoryError(
            f"Cannot write {path}: {error.strerror}. Set outage_discover_dest to a file that you may write"
        ) from error
