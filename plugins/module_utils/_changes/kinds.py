# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of changes: when a change takes effect, and which causes of an outage it can explain.

To watch a new kind of change, add a row to KINDS, and collect its entry in collect.py. Then add the kind's name to the
catalogues (change_kind.* in en_changes.py and ja_changes.py in plugin_utils/_messages).
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

# Causes of an outage that can result from an error in the application, its modules or its configuration.
_FALLS = ("unhandled_exception", "crash_loop", "stopped", "killed", "unknown", "hung", "not_ready")
_MEMORY = ("oom_kill", "heap_oom", "memory_pressure")
_DATABASE = ("db_corrupt", "db_unchecked", "db_locked", "database_owner", "wal_growing")


class Kind(NamedTuple):
    """A kind of change.

    typical: the causes of an outage that such a change usually triggers. explains: other causes that it may trigger.
    near: if False, such a change rarely affects the service. at_start: True if a running service notices the change
    only at its next start. additive: True if a new object of this kind rarely affects the service, because nothing uses
    the object yet. always_there: True if the described object always exists. In this case, a missing entry means only
    that the object was not read. digest: True if the value of an entry is a digest, which is not shown. files: True if
    an entry describes the files of a folder. named: True if a change to a part is shown with the name of the entry.
    of_host: True if a finding mentions a change only if the finding contains the complete name. A part of the name,
    such as a version, may appear in any text.
    """

    typical: Tuple[str, ...] = ()
    explains: Tuple[str, ...] = ()
    near: bool = True
    at_start: bool = True
    additive: bool = False
    always_there: bool = False
    digest: bool = False
    files: bool = False
    named: bool = False
    of_host: bool = False


KINDS: Dict[str, Kind] = {
    "release": Kind(
        (), ("syntax_error", "modules_broken", "migration_pending", *_FALLS, "slow", "db_locked"), always_there=True
    ),
    "code": Kind(("syntax_error",), (*_FALLS, "slow", "db_locked", "heap_oom"), additive=True, digest=True, files=True),
    "lock_file": Kind(("modules_broken",), ("unhandled_exception", "crash_loop"), digest=True),
    "package_json": Kind(("modules_broken",), ("syntax_error", "unhandled_exception", "crash_loop"), digest=True),
    "modules": Kind(("modules_broken",), ("unhandled_exception", "crash_loop"), additive=True, digest=True, named=True),
    "knexfile": Kind((), ("migration_pending", "config_mismatch", "db_corrupt", "syntax_error", *_FALLS)),
    "migrations": Kind(
        ("migration_pending",), ("unhandled_exception", "crash_loop", "syntax_error"), digest=True, files=True
    ),
    "schema": Kind(
        ("migration_pending",),
        ("unhandled_exception", "crash_loop", "db_corrupt", "not_ready", "hung"),
        additive=True,
        always_there=True,
    ),
    "environment": Kind(
        ("environment_missing", "config_mismatch"),
        ("port_conflict", "tls_expired", "login_refused", "db_corrupt", "migration_pending", *_MEMORY, *_FALLS),
        additive=True,
        named=True,
    ),
    "unit": Kind(
        ("unit_invalid", "unit_masked", "exec_failed", "too_many_files", *_MEMORY),
        ("environment_missing", "config_mismatch", "database_owner", "port_conflict", "disk_read_only", *_FALLS),
        named=True,
    ),
    "certificate": Kind(("tls_expired", "tls_expiring"), ("config_mismatch",), digest=True),
    "key": Kind(("tls_expired",), ("config_mismatch",)),
    "node": Kind((), ("exec_failed", "modules_broken", "syntax_error", "config_mismatch", *_MEMORY, *_FALLS)),
    "database": Kind(_DATABASE, ("migration_pending", "config_mismatch", *_FALLS), at_start=False),
    "host": Kind((), ("killed", "stopped", "clock_jump"), at_start=False, always_there=True, of_host=True),
    "kernel": Kind(near=False, at_start=False, always_there=True, of_host=True),
    "packages": Kind((), ("exec_failed", "port_conflict"), near=False, additive=True, always_there=True, of_host=True),
    "network": Kind(
        (), ("port_conflict", "not_ready", "slow"), near=False, at_start=False, additive=True, digest=True, of_host=True
    ),
    "python": Kind(near=False, at_start=False, always_there=True, of_host=True),
    "timezone": Kind((), ("clock_jump",), near=False, always_there=True, of_host=True),
}


def of(name: str) -> Kind:
    """Return a kind. A manifest of a later version can contain kinds that are unknown here."""
    return KINDS.get(name, Kind(near=False))
