#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write every role's README.md from its argument specification. Run `make docs`.

The source is meta/argument_specs.yml. With --check, nothing is written, and outdated files are an error.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def plain(text: str) -> str:
    """Convert Ansible's documentation markup (C(), O(), V(), M(), P(), RV()) to Markdown code spans."""
    text = re.sub(r"\bP\(([^)#]*)#(\w+)\)", r"the \2 `\1`", text)
    return re.sub(r"\b(?:RV|[COMV])\((?:ignore:)?([^)]*)\)", r"`\1`", text)


def paragraphs(value: str | list[str]) -> list[str]:
    """Return a description, which is a string or a list of strings, as Markdown paragraphs."""
    return [plain(value)] if isinstance(value, str) else [plain(part) for part in value]


def cell(option: dict[str, Any]) -> str:
    """Return the table cell for an option's default: the default value, "required", or an empty string."""
    if option.get("required"):
        return "required"
    return f"`{json.dumps(option['default'], ensure_ascii=False)}`" if "default" in option else ""


def kind(option: dict[str, Any]) -> str:
    """Return an option's choices. If the option has no choices, return its type."""
    name = f"list of {option['elements']}" if "elements" in option else option["type"]
    return " or ".join(f"`{choice}`" for choice in option["choices"]) if "choices" in option else name


def render(role: str, specs: dict[str, Any]) -> str:
    """Return the README for a role. The "main" entry point comes first."""
    lines = [f"# Role `itsm_nexus.runbook.{role}`", ""]
    for entry, spec in sorted(specs.items(), key=lambda item: item[0] != "main"):
        title = plain(spec["short_description"])
        lines += [title if entry == "main" else f"## Entry point `{entry}`: {title}", ""]
        for part in paragraphs(spec.get("description", [])):
            lines += [part, ""]
        if spec["options"]:
            lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
            for name, option in spec["options"].items():
                meaning = " ".join(paragraphs(option["description"]))
                lines.append(f"| `{name}` | {kind(option)} | {cell(option)} | {meaning} |")
            lines.append("")
    lines += ["`make docs` generates this page from `meta/argument_specs.yml`.", ""]
    return "\n".join(lines)


def main() -> int:
    """Write the pages and return the exit code. With --check, only report the outdated pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page is outdated")
    check = parser.parse_args().check
    stale = []
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        role = path.parent.parent
        text = render(role.name, yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"])
        page = role / "README.md"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        print("Not up to date, run `make docs`: " + ", ".join(stale), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
