# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""English messages about changes before an outage."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "doc.changes": "8. What changed before the failure",
    "doc.changes.since": "Changes since the last healthy run on {at}, most likely cause first",
    "doc.changes.none": "No changes were found since the last healthy run on {at}",
    "doc.changes.unknown": (
        "Unknown, because the host was not compared with an earlier healthy run. To make the comparison possible for "
        "the next outage, run outage_verify.yml while the service is healthy, with nexus_manifest_enabled set to true "
        "(the default)."
    ),
    "doc.changes.more": "{number} further changes are not listed",
    "doc.column.gap": "Time to the failure",
    "doc.column.changed": "Changed",
    "doc.column.values": "Change",
    "doc.column.relation": "Relation",
    "screen.change": "changed",
    "change": "{what} {deed}",
    "change.before": "{gap} before the failure",
    "change.after": "{gap} after the failure",
    "change.between": "since the last healthy run",
    "change.plain": "{name} ({kind})",
    "change.inside": "{name} in {inside} ({kind})",
    "change.values": "{deed}: {before} → {after}",
    "change.none": "not shown",
    "change_what.changed": "changed",
    "change_what.added": "added",
    "change_what.removed": "removed",
    "change_what.access": "owner or permissions changed",
    "change_relation.named": "mentioned in the finding: {cause}",
    "change_relation.explains": "may have caused: {cause}",
    "change_relation.possible": "possible",
    "change_relation.unlikely": "unlikely",
    "change_relation.after": "after the failure, so not its cause",
    "change_relation.ours": "made by this collection",
    "change_kind.release": "release",
    "change_kind.code": "code",
    "change_kind.lock_file": "lock file",
    "change_kind.package_json": "dependency list",
    "change_kind.modules": "installed modules",
    "change_kind.knexfile": "knexfile",
    "change_kind.migrations": "migrations",
    "change_kind.schema": "database schema",
    "change_kind.environment": "environment",
    "change_kind.unit": "unit",
    "change_kind.certificate": "certificate",
    "change_kind.key": "private key",
    "change_kind.node": "Node",
    "change_kind.database": "database file",
    "change_kind.host": "host",
    "change_kind.kernel": "kernel",
    "change_kind.packages": "package",
    "change_kind.network": "network settings",
    "change_kind.python": "Python",
    "change_kind.timezone": "time zone",
}
