# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/causes.md, which lists all causes with the remedies of a run and of a person.

With --check, only report whether the page is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Mapping

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "causes.md"
sys.path.insert(0, str(ROOT / "collections"))
# Causes that share a remedy with another cause.
SHARED = {"hung": "restart", "killed": "start", "stopped": "start", "tls_expiring": "tls_expired.renew"}
HEAD = """# Causes

The closing summary, the postmortem and `outage_triage.yml` report one or more of these causes. If a run cannot remedy
the cause, a person takes the action in the last column. If a cause has several actions, the summary shows the action
that applies to the host, with paths and values.

For each cause, a run tries the rungs of the ladder, unless the cause makes a rung useless or a start unsafe. The second
column shows whether the run fixes the cause before it tries the rungs:

- *yes*: by default. [Remediation](../roles/remediation/README.md) describes the limits of each remedy.
- *if allowed*: only if `remediation_allowed` contains the cause.
- *no*: never.

| cause | fixed by a run | action for a person |
|---|---|---|
"""


def page() -> str:
    """Return the content of the page."""
    from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.table import CAUSES  # noqa: PLC0415
    from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue  # noqa: PLC0415

    words, role = catalogue.of("en"), ROOT / "roles" / "remediation"
    allowed = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))["remediation_allowed"]
    rows = []
    for cause in CAUSES:
        has_remedy = (role / "tasks" / f"{cause}.yml").exists()
        by_a_run = "yes" if cause in allowed else "if allowed" if has_remedy else "no"
        told = "<br>".join(_remedies(words.sentences, cause)).replace("|", "\\|")
        rows.append(f"| `{cause}` | {by_a_run} | {told} |\n")
    return HEAD + "".join(rows)


def _remedies(sentences: Mapping[str, str], cause: str) -> List[str]:
    """Return the remedies for a cause. Each value that is inserted on a host is replaced by its name in italics."""
    ids = [each for each in sentences if each == f"remedy.{cause}" or each.startswith(f"remedy.{cause}.")]
    ids = [*ids, *([f"remedy.{SHARED[cause]}"] if cause in SHARED else [])]
    if not ids:
        raise LookupError(f"{cause} has no remedy: add it to SHARED in docs/causes.py")
    return [f"{_with_names(sentences[each])}." for each in ids]


def _with_names(text: str) -> str:
    return text.replace("{", "*").replace(":;}", "*").replace("}", "*")


def main() -> int:
    """Write the page or, with --check, report whether it is up to date. Return the exit code."""
    old = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page()
    if "--check" in sys.argv[1:]:
        if old:
            print("docs/causes.md does not match the table of causes: run make docs", file=sys.stderr)
        return int(old)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
