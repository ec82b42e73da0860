# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A change causes each of three outages. The run lists this change before three unrelated changes."""

from __future__ import annotations

import pytest
from drills import STATE_DIR, Drill

# The change that broke the service: its kind, name and action.
CAUSES = {
    "unit": ("unit", "/etc/systemd/system/{unit}.service.d/hardening.conf", "added"),
    "modules": ("modules", "express", "removed"),
    "environment": ("environment", "JWT_SECRET", "removed"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_change_that_broke_the_service_is_first(drill: Drill, cause: str) -> None:
    first, *others = drill.postmortem(cause)["changes"]["items"]
    kind, name, what = CAUSES[cause]
    assert (first["kind"], first["name"], first["what"]) == (kind, name.format(unit=drill.service.unit), what)
    assert 0 <= first["seconds_before"] < 60
    innocent = {(each["kind"], each["name"]) for each in others}
    assert {
        ("packages", f"drill-{cause}"),
        ("network", "/etc/hosts"),
        ("code", f"backend/report-{cause}.js"),
    } <= innocent


@pytest.mark.parametrize("cause", CAUSES)
def test_summary_and_postmortem_name_the_change(drill: Drill, cause: str) -> None:
    name = CAUSES[cause][1].format(unit=drill.service.unit).rsplit("/", 1)[-1]
    closing = drill.screen(cause)[-4000:]
    (line,) = [line for line in closing.splitlines() if line.startswith("  changed  ")]
    assert "before the failure" in line
    assert name in " ".join(closing.split())
    markdown = drill.documents(cause)[0].read_text(encoding="utf-8")
    assert "## 8. What changed before the failure" in markdown


@pytest.mark.parametrize("cause", CAUSES)
def test_incident_is_closed_after_the_change_is_taken_back(drill: Drill, cause: str) -> None:
    assert drill.recap(f"{cause}-again")["failed"] == 0
    # A person started the service. If systemd was about to restart the service, the record attributes the start to
    # systemd.
    assert drill.postmortem(f"{cause}-again")["outcome"] in ("resolved_manually", "recovered_by_systemd")


def test_manifest_contains_no_secret(drill: Drill) -> None:
    environment = drill.host.check_output(f"cat {drill.service.environment}")
    secrets = [line.partition("=")[2] for line in environment.splitlines() if line.startswith(("JWT_", "ADMIN_"))]
    manifest = drill.host.check_output(f"cat {STATE_DIR}/manifest.json")
    assert len(secrets) == 2
    assert not any(secret in manifest for secret in secrets)
    assert drill.host.check_output(f"stat -c %a {STATE_DIR}/manifest.json") == "600"


def test_no_row_is_lost(drill: Drill) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
