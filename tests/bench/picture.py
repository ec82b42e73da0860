# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outages as a picture: a bar a contender from the failure to the first healthy answer, on a logarithmic scale."""

from __future__ import annotations

import math
import statistics
from html import escape
from typing import Any

LEFT, WIDTH, ROW, HEAD = 150, 620, 22, 30
LEAST, MOST = 0.1, 100.0  # seconds at both ends of the scale
OURS, OTHER, KNOWN = "#1a7f64", "#9aa4ae", "#b3541e"


def _x(seconds: float) -> float:
    share = math.log10(min(max(seconds, LEAST), MOST) / LEAST) / math.log10(MOST / LEAST)
    return LEFT + WIDTH * share


def _text(x: float, y: float, said: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(said)}</text>'


def _bar(y: float, name: str, middle: float, known: float | None, *, ours: bool) -> list[str]:
    end = _x(middle)
    parts = [
        _text(LEFT - 8, y + 14, name, anchor="end"),
        f'<rect x="{LEFT}" y="{y + 3}" width="{end - LEFT:.1f}" height="{ROW - 8}" fill="{OURS if ours else OTHER}"/>',
    ]
    label = f"{middle:.2f} s"
    if known is not None:
        at = _x(known)
        parts.append(f'<rect x="{at - 1.5:.1f}" y="{y + 1}" width="3" height="{ROW - 4}" fill="{KNOWN}"/>')
        label += f", known after {known:.2f} s"
        end = max(end, at)
    return [*parts, _text(end + 6, y + 14, label)]


def svg(told: dict[str, Any]) -> str:
    """Return the picture of all measurements that name a figure to draw."""
    parts: list[str] = []
    y = 10.0
    for entry in told["measurements"]:
        if not entry["drawn"]:
            continue
        parts.append(_text(LEFT, y + 16, entry["what"], weight="bold"))
        y += HEAD - 6
        for contender, figures in entry["rounds"].items():
            values = [value for value in figures.get(entry["drawn"], []) if value is not None]
            known = [value for value in figures.get("confirmed", []) if value is not None]
            if values:
                at = statistics.median(known) if known else None
                parts += _bar(y, contender, statistics.median(values), at, ours=contender == entry["ours"])
                y += ROW
        y += 8
    lines = []
    for seconds in (0.1, 1, 10, 100):
        x = _x(seconds)
        lines.append(f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{y:.0f}" stroke="#d0d7de"/>')
        lines.append(_text(x, y + 16, f"{seconds:g} s", anchor="middle"))
    size = f'width="{LEFT + WIDTH + 200}" height="{y + 28:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#1f2328">',
            "<title>Seconds from the failure to the first healthy answer, medians, logarithmic</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *lines,
            *parts,
            "</svg>",
            "",
        ]
    )
