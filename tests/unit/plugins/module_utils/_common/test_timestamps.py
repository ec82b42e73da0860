# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times as text. The code accepts only the format that it writes."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps


@pytest.mark.parametrize("seconds", [0.0, 1772413323.456, 1772413323.999, 1709164799.0, 4102444800.001])
def test_a_written_time_is_read_as_the_same_time(seconds: float) -> None:
    assert timestamps.epoch(timestamps.iso(seconds)) == pytest.approx(seconds, abs=0.0005)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-02T01:02:03.4Z", 1772413323.4),
        ("2026-03-02T01:02:03.456789Z", 1772413323.456789),
        ("2026-03-02T01:02:03.000001Z", 1772413323.000001),
    ],
)
def test_a_time_from_another_program_may_have_other_decimal_places(text: str, seconds: float) -> None:
    assert timestamps.epoch(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-03-02",
        "2026-03-02T01:02:03Z",
        "2026-03-02T01:02:03.Z",
        "2026-03-02T01:02:03.1234567Z",
        "2026-03-02T01:02:03.4\uff11Z",
        "2026-03-02T01:02:03.123.456Z",
        "2026-03-02T01:02:03.456z",
        "2026-03-02T01:02:03.456",
        "2026-03-02T01:02:03.456+00:00",
        "2026-03-02T01:02:03.456+00:00Z",
        "2026-03-02 01:02:03.456Z",
        "2026-03-02T01:02:03,456Z",
        "20260302T010203.456Z",
        "2026-W10-1T01:02:03.456Z",
        "2026-02-30T01:02:03.456Z",
        "\uff12026-03-02T01:02:03.456Z",
    ],
)
def test_another_format_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat|day"):
        timestamps.epoch(text)
