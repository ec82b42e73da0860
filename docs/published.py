# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/published.md and docs/published-schema.json, which describe the variables that the playbooks publish.

With --check, only report whether the files are up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict

import postmortem_schema

DOCS = Path(__file__).resolve().parent
HEAD = """# Published variables

The playbooks publish their results with `set_stats`. AWX stores these variables as job artifacts, and passes them to
later workflow steps. [published-schema.json](published-schema.json) contains the JSON Schema of the variables. Times
are in UTC (ISO 8601), durations in seconds, and sizes in bytes. Null means unknown. Any value can be null. A dictionary
inside a value may contain more keys than this page lists.

A *message* is a translatable text, in the form of a dictionary with the keys `id` and `values`. *Messages* means one
message or a list of messages.
"""


def pages() -> Dict[Path, str]:
    """Return the content of the files by path."""
    from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import published_schema  # noqa: PLC0415

    return {
        DOCS / "published.md": "\n\n".join([HEAD.rstrip(), *published_schema.tables()]) + "\n",
        DOCS / "published-schema.json": postmortem_schema.laid_out(published_schema.schema()) + "\n",
    }


def main() -> int:
    """Write the files or, with --check, report whether they are up to date. Return the exit code."""
    old = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"docs/{path.name} does not match the table of published variables: run make docs", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.write_text(pages()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
