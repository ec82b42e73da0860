# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text is cleaned and masked before it is recorded."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\x1b[31mb\x00\u202ec\r\nd", "ab  c \nd"),
        ("日本語 ✓", "日本語 ✓"),
    ],
)
def test_control_characters_are_removed(value, kept):
    assert kinds.text(value) == kept


@pytest.mark.parametrize(("value", "kept"), [(3, 3), (-2.5, -2.5), (10**400, None), (float("inf"), None), (True, None)])
def test_numbers_that_cannot_be_counts_or_times_are_dropped(value, kept):
    found = kinds._scalar(kinds.NUMBER, value)
    assert (None if found is kinds._DROPPED else found) == kept


@pytest.mark.parametrize(
    "value",
    [
        "JWT_SECRET=CANARY1234",
        "Authorization: Bearer CANARY1234567",
        "https://admin:CANARY1234@db.example",
        "token eyJhbGciOiJIUzI1NiJ9.eyJCANARYNARY.abcdefCANARY",
    ],
)
def test_credentials_are_masked(value):
    assert "CANARY" not in kinds.text(value)


@pytest.mark.parametrize(
    ("template", "kept"),
    [
        ("Restart the service", "Restart the service"),
        ("Take {{ secret }} to {% if x %}y{% endif %}", "Take … to …y…"),
        ("Check that the service stays up ({{ seconds }})", "Check that the service stays up"),
        ("Take ({{ a }}) it", "Take (…) it"),
        ("{{ secret }}", None),
        ("{{\n secret }}: failed", "…: failed"),
        (None, None),
        (["x"], None),
    ],
)
def test_static(template, kept):
    assert kinds.static(template) == kept
