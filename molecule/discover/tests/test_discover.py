# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""outage_discover.yml describes a service with the settings of the real unit.

The other playbooks work with this description.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from drills import Drill, Service

DEPLOYED = Service.read(Path(__file__).parents[2] / "profiles" / "deployed")
APP_DIR = DEPLOYED.app
EXPECTED = {
    "nexus_manager": "systemd",
    "nexus_unit": DEPLOYED.unit,
    "nexus_user": DEPLOYED.user,
    "nexus_app_dir": APP_DIR,
    "nexus_environment_file": DEPLOYED.environment,
    "nexus_db_path": "backend/itsm_nexus.db",
    "nexus_http_port": int(DEPLOYED.http_port),
    "nexus_log_file": "",
}
# The default of this variable is correct, and the drill inventory does not set the variable.
DEFAULTS = ("nexus_manager",)
RUNS = ("discover", "detect", "triage", "unchanged", "down", "recover")


def variables(drill: Drill, name: str) -> dict[str, Any]:
    return yaml.safe_load((drill.output / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["inventory/host_vars/discover.yml", "discover-down.yml"])
def test_the_inventory_describes_the_deployment(drill: Drill, name: str) -> None:
    expected = {key: value for key, value in EXPECTED.items() if key not in DEFAULTS}
    assert variables(drill, name) == expected


def test_each_value_has_its_source(drill: Drill) -> None:
    text = (drill.output / "inventory/host_vars/discover.yml").read_text(encoding="utf-8").replace("\n#     ", " ")
    for line in (
        f"# Source: User of the unit {DEPLOYED.unit}\nnexus_user: {DEPLOYED.user}",
        "# Source: open in the running process\nnexus_db_path: backend/itsm_nexus.db",
        f"#   nexus_stop_timeout: 30  (TimeoutStopSec of the unit {DEPLOYED.unit})",
        "Restart=always, RestartSec=10s",
        "nginx may be a proxy in front of the service: line 3 of /etc/nginx/conf.d/itsm.conf contains port 6443",
        f"#   nexus_tls_key_path is not set, because each run reads this path from the service's environment. "
        f"The path is now {APP_DIR}/backend/ssl/server.key",
        "#   Backups are in backend/backups/daily, backend/backups/monthly, backend/backups/weekly",
    ):
        assert line in text


def test_the_playbooks_work_with_the_inventory(drill: Drill) -> None:
    assert "HEALTHY" in drill.screen("detect")
    assert "NOTHING WRONG FOUND: discover" in drill.screen("triage")
    assert "NO DIFFERENCE" in drill.screen("unchanged")
    assert drill.recap("unchanged")["changed"] == 0
    assert drill.postmortem()["outcome"] == "recovered"
    assert drill.ask(f"http://host:{DEPLOYED.http_port}/api/v1/health")[0] == 200


def test_a_service_that_is_down_is_described_by_its_files(drill: Drill) -> None:
    text = (drill.output / "discover-down.yml").read_text(encoding="utf-8")
    assert "QUESTION: The service is not running." in text
    # The knexfile computes the path of the database, so discovery cannot determine it. Discovery proposes the only
    # database that it found, and asks which file is the database.
    assert "# QUESTION: Which file is the database?" in text
    assert "# Source: the only SQLite database in the application's folder\nnexus_db_path: " in text
    assert "not running" in drill.screen("down")


@pytest.mark.parametrize("run", RUNS)
def test_no_secret_leaves_the_host(drill: Drill, run: str) -> None:
    assert "canary" not in drill.screen(run)
    secrets = drill.host.check_output(f"sed -n 's/^\\(JWT_SECRET\\|ADMIN_PASSWORD\\)=//p' {DEPLOYED.environment}")
    assert secrets.split()
    for secret in secrets.split():
        assert secret not in drill.screen(run)
    for name in ("inventory/host_vars/discover.yml", "discover-down.yml"):
        assert "canary" not in (drill.output / name).read_text(encoding="utf-8")
