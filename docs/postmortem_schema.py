# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/postmortem-schema.json, the description of the postmortem's JSON document; with --check only compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "postmortem-schema.json"
sys.path.insert(0, str(ROOT / "collections"))


def text() -> str:
    """Return what the file is to hold."""
    from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import schema as document_schema  # noqa: PLC0415

    return json.dumps(document_schema.schema(), indent=2) + "\n"


def main() -> int:
    """Write the file, or say whether it is what it is to be."""
    if "--check" in sys.argv[1:]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text()
        if not same:
            print(f"{PAGE} is not what the model says: run make docs", file=sys.stderr)
        return 0 if same else 1
    PAGE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
