# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A description of the service, for tests of triage."""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Service


def service(folder, **changes):
    """Return a service whose files are in a folder. changes: fields with other values."""
    empty = (
        "unit",
        "user",
        "db_path_variable",
        "log_file",
        "environment_file",
        "pid_file",
        "tls_cert_path",
        "tls_key_path",
    )
    described = Service(
        **dict.fromkeys(empty, ""),
        app_dir=str(folder),
        command=["node", "server.js"],
        manager="process",
        db_path="itsm.db",
        https_port=0,
        http_port=0,
        required_environment=(),
        state_dir=str(folder / "state"),
    )
    return described._replace(**changes)
