#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/summary.svg, the picture in the README, which shows the closing summary of a drill.

With --check, only report whether the file is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests")]
import recorded

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen, screen_layout

PICTURE = ROOT / "docs" / "summary.svg"
DRILL = "hang"
# Width of one character, height of one line, and margin, in pixels.
WIDTH, HEIGHT, MARGIN = 7.85, 19, 16
PROMPT, LABEL, GOOD, PLAIN = "#7d8590", "#79c0ff", "#56d364", "#e6edf3"


def picture() -> str:
    """Return the SVG. It contains letters as text, not as shapes, so that search functions and screen readers work."""
    told = recorded.incident(DRILL)
    lines = screen.summary(
        recorded.SPOKEN["en"], told, document=f"~/.local/state/itsm-runbook/postmortems/{told.incident}.md"
    )
    shown = ["$ ansible-playbook -i inventories/mine playbooks/outage_recover.yml", "...", *lines]
    size = round(screen_layout.WIDTH * WIDTH + 2 * MARGIN), len(shown) * HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        f'height="{size[1]}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" role="img" '
        'aria-label="The closing summary of a recovery">',
        f'<rect width="{size[0]}" height="{size[1]}" rx="8" fill="#0d1117"/>',
    ]
    for number, line in enumerate(shown):
        y = MARGIN + (number + 0.75) * HEIGHT
        tone = PROMPT if number < 2 else GOOD if number == 2 else PLAIN
        label, text = (line[:14], line[14:]) if number > 2 else ("", line)
        parts += [_text(label, x=MARGIN, y=y, tone=LABEL)] if label.strip() else []
        parts.append(_text(text, x=MARGIN + len(label) * WIDTH, y=y, tone=tone))
    return "\n".join([*parts, "</svg>", ""])


def _text(text: str, *, x: float, y: float, tone: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{tone}" xml:space="preserve">{escape(text)}</text>'


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == picture():
            return 0
        print("docs/summary.svg is not up to date: run docs/picture.py", file=sys.stderr)
        return 1
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
