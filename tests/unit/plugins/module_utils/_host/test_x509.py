# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The times of a certificate, in both ASN.1 formats. RFC 5280 allows only times in UTC, with seconds."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import x509

UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
# date --utc --date '2026-03-02 01:02:03' +%s
MOMENT = 1772413323.0


@pytest.mark.parametrize(
    ("tag", "content", "moment"),
    [
        (UTC_TIME, b"260302010203Z", MOMENT),
        (GENERALIZED_TIME, b"20260302010203Z", MOMENT),
        (UTC_TIME, b"700101000000Z", 0.0),
    ],
)
def test_a_time_is_read_in_both_formats(tag: int, content: bytes, moment: float) -> None:
    assert x509._time(tag, content) == moment


@pytest.mark.parametrize(
    "content", [b"", b"20260302010203", b"202603020102Z", b"20260302010203+0100", b"2026030201020 Z"]
)
def test_a_time_in_another_format_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a time in UTC"):
        x509._time(GENERALIZED_TIME, content)


def test_a_day_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="day"):
        x509._time(GENERALIZED_TIME, b"20260230010203Z")
