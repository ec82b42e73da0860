# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions that an npm version range includes. The expected values are from node-semver."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import semver


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        (">=20", ["20.0.0", "v22.1.0"], ["19.9.9"]),
        (">20", ["21.0.0"], ["20.11.1"]),
        (">20.1.2", ["20.1.3"], ["20.1.2"]),
        ("<=20", ["20.99.0", "18.0.0"], ["21.0.0"]),
        ("<20.1", ["20.0.9"], ["20.1.0"]),
        ("20", ["20.0.0", "20.9.9"], ["21.0.0", "19.0.0"]),
        ("20.x", ["20.3.0"], ["21.0.0"]),
        ("=20.1.2", ["20.1.2"], ["20.1.3"]),
        ("^20.1.0", ["20.1.0", "20.99.0"], ["20.0.9", "21.0.0"]),
        ("^0.2.3", ["0.2.9"], ["0.3.0", "0.2.2"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0", ["0.9.0"], ["1.0.0"]),
        ("~20.1", ["20.1.9"], ["20.2.0"]),
        ("~> 20.1.3", ["20.1.3"], ["20.1.2", "20.2.0"]),
        ("~20", ["20.9.0"], ["21.0.0"]),
        (">=18.0.0 <21", ["18.0.0", "20.9.0"], ["17.0.0", "21.0.0"]),
        (">= 18.0.0 < 21.0.0", ["20.9.0"], ["21.0.0"]),
        ("^18.18.0 || ^20.9.0 || >=21.1.0", ["18.20.0", "20.9.0", "22.0.0"], ["19.0.0", "20.8.0", "21.0.0"]),
        ("18 - 20", ["18.0.0", "20.9.9"], ["17.9.9", "21.0.0"]),
        ("18.1.0 - 20.1.0", ["20.1.0"], ["20.1.1", "18.0.9"]),
        ("*", ["1.0.0"], []),
        ("", ["1.0.0"], []),
        ("x", ["1.0.0"], []),
        (">*", [], ["1.0.0"]),
        ("20.1.0-rc.1", ["20.1.0"], ["20.1.1"]),
    ],
)
def test_ranges(wanted, inside, outside):
    assert {version: semver.satisfies(version, wanted) for version in (*inside, *outside)} == {
        **dict.fromkeys(inside, True),
        **dict.fromkeys(outside, False),
    }


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        (None, ">=20"),
        ("20", ">=20"),
        ("²", ""),
        ("v20.1.0", None),
        ("v20.1.0", "lts"),
        ("v20.1.0", ">=20 or so"),
        ("v20.1.0", "20 || lts"),
        ("v20.1.0", "1" * 501),
        ("v20.1.0", ["20"]),
    ],
)
def test_the_result_for_an_unknown_range_is_unknown(version, wanted):
    assert semver.satisfies(version, wanted) is None
