# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times and durations in an incident."""

from __future__ import annotations

import pytest
from timeline_samples import Recording, only

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import instants


@pytest.mark.parametrize(
    ("begun", "last_good"),
    [
        pytest.param({"earliest": "A", "earliest_source": "log", "latest": "B", "source": "log"}, "A", id="range"),
        pytest.param({"earliest": "B", "earliest_source": "log", "latest": "B", "source": "journal"}, "B", id="one"),
        pytest.param({"earliest": "B", "earliest_source": "log", "latest": "B", "source": "log"}, None, id="none"),
    ],
)
def test_a_first_bad_sign_is_not_a_good_sign(begun, last_good):
    instants = {"A": "2026-03-02T00:59:50.000Z", "B": "2026-03-02T01:00:00.000Z"}
    started = {key: instants.get(value, value) for key, value in begun.items()}
    times = only(Recording().down().opened(outage_started=started)).times
    assert times.last_good_at == (last_good and instants[last_good])


@pytest.mark.parametrize(
    ("earlier", "later", "seconds"),
    [
        ("2026-03-02T01:00:00.000Z", "2026-03-02T01:00:01.250Z", 1.25),
        ("2026-03-02T01:00:01.000Z", "2026-03-02T01:00:00.000Z", None),
        (None, "2026-03-02T01:00:00.000Z", None),
        ("yesterday", "2026-03-02T01:00:00.000Z", None),
    ],
)
def test_seconds_between(earlier, later, seconds):
    assert instants.seconds_between(earlier, later) == seconds
