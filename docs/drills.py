#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write docs/drills.md from the drill results. Run `make matrix` after the drills.

With --check, only compare the page with the list of drills whose tests check a cause. A difference is an error.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "drills.md"
HEAD = """# Results of the drills

Each row describes a drill. A drill causes a real fault on a real systemd host in a container. `outage_recover.yml` then
recovers the service over OpenSSH, and the drill checks the result from outside. All drills except `process_mode` deploy
the demo service like the real service. In these drills, the run uses only the drill's policies and the variables that
`outage_discover.yml` found on the host. `make matrix` writes this table from the postmortems of these runs. During the
measurements, two drills ran in parallel. The outage duration includes the time that the drill needs to break the
service. If a drill has two runs, the outage duration also includes the time until the policy allowed the remedy.

| cause | drill | what happens | ranked first? | if the policy forbids the remedy | recovered by | outage (s) |
|---|---|---|---|---|---|---|
"""


def with_cause() -> dict[str, str]:
    """Return the descriptions of the drills whose tests check a cause, by drill name."""
    found = {}
    for test in sorted(ROOT.glob("molecule/*/tests/test_*.py")):
        text = test.read_text(encoding="utf-8")
        if re.search(r"\bdrill\.(assert_recovered|assert_remedied|assert_left_alone|cause\b)", text):
            found[test.parent.parent.name] = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0].rstrip(".")
    return found


def row(result: dict[str, Any], about: str) -> str:
    """Return the table row for a drill. about: the drill's description."""
    by = " and ".join(f"`{each}`" if " " not in each else each for each in result["by"])
    cells = [
        f"`{result['cause']}`",
        f"`{result['drill']}`",
        about,
        "yes" if result["found_first"] else "**no**",
        "left alone, escalated" if result["left_alone"] else "",
        by if result["recovered"] else "not recoverable" if result["passed"] else "**nothing**",
        "ongoing" if not result["recovered"] else f"{result['outage_seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Write or check the page, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check that the page lists every drill")
    drills = with_cause()
    if parser.parse_args().check:
        named = set(re.findall(r"^\| `\w+` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
        for name in sorted(named ^ set(drills)):
            what = "is not a drill" if name in named else "is missing"
            first = "" if name in named else f"make molecule SCENARIO={name}, then "
            print(f"{PAGE.relative_to(ROOT)}: {name} {what}: {first}make matrix")
        return int(named != set(drills))
    results = {path.parent.name: json.loads(path.read_text()) for path in ROOT.glob(".molecule/*/result.json")}
    bad = [name for name in drills if not results.get(name, {}).get("passed")]
    for name in bad:
        print(f"drill {name} has {'failed' if name in results else 'not been run'}: make molecule SCENARIO={name}")
    if bad:
        return 1
    rows = sorted(row(results[name], about) for name, about in drills.items())
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
