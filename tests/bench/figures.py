# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merge the figures from two benchmark runs. New figures for a measurement replace its earlier figures."""

from __future__ import annotations

from typing import Any


def merged(before: dict[str, Any], told: dict[str, Any], *, within: list[str]) -> dict[str, Any]:
    """Return the figures from both runs in the order of the names in `within`. Omit other measurements.

    If a measurement has figures in both `before` and `told`, the figures in `told` are used.
    """
    entries = {entry["name"]: entry for entry in [*before["measurements"], *told["measurements"]]}
    now = {entry["name"] for entry in told["measurements"]}
    failed = {*told["failed"], *(name for name in before["failed"] if name not in now)}
    return {
        "measurements": [entries[name] for name in within if name in entries],
        "failed": [name for name in within if name in failed],
    }


def missing(whole: dict[str, Any], *, within: list[str]) -> list[str]:
    """Return the names in `within` that have no figures, except those that failed."""
    there = {*(entry["name"] for entry in whole["measurements"]), *whole["failed"]}
    return [name for name in within if name not in there]
