# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/postmortem-schema.json, the JSON Schema of the postmortem.

With --check, only report whether the file is up to date.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

WIDTH = 120
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "postmortem-schema.json"
sys.path.insert(0, str(ROOT / "collections"))


def text() -> str:
    """Return the content of the file."""
    from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import schema as document_schema  # noqa: PLC0415

    return laid_out(document_schema.schema()) + "\n"


def laid_out(value: Any, *, before: str = "", margin: str = "") -> str:
    """Return a value as JSON.

    If a nested value fits on a single line, it is not split. before: the text that precedes the value on its line.
    margin: the indentation of this line.
    """
    line = before + json.dumps(value)
    deeper = margin + " "
    if len(margin + line) < WIDTH or not isinstance(value, (dict, list)):
        return line
    if isinstance(value, dict):
        parts = [laid_out(each, before=f"{json.dumps(name)}: ", margin=deeper) for name, each in value.items()]
        return f"{before}{{\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{margin}}}"
    # In this schema, every list that is too long for one line contains only names.
    names = textwrap.fill(json.dumps(value)[1:-1], WIDTH, initial_indent=deeper, subsequent_indent=deeper)
    return f"{before}[\n{names}\n{margin}]"


def main() -> int:
    """Write the file or, with --check, report whether it is up to date. Return the exit code."""
    if "--check" in sys.argv[1:]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text()
        if not same:
            print(f"{PAGE} does not match the model: run make docs", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
