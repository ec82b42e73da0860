#!/usr/bin/env python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write build/docs/messages.html, which shows every message in English and Japanese. Run `make docs`."""

from __future__ import annotations

import itertools
import re
import string
import sys
from html import escape
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "collections")]

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html_template

PAGE = ROOT / "build" / "docs" / "messages.html"
LANGUAGES = ("en", "ja")
# The page begins with these message families, because on-call staff base their decisions on them.
FIRST = (
    "outcome",
    "cause",
    "finding",
    "part",
    "remedy",
    "reason",
    "escalation",
    "next",
    "next_step",
    "notified",
)
# The files with the escalation rules. If two files contain the same rule, the first text is shown.
ESCALATION_RULES = (
    "roles/escalation/defaults/main.yml",
    "roles/escalation/vars/main.yml",
    "playbooks/vars/database_recover.yml",
)
SAMPLES = {
    "path": "/srv/itsm/backend/itsm.db",
    "host": "itsm-prod-01",
    "service": "itsm-system",
    "incident": "INC-20260302T180211Z-1b84",
    "cause": "disk_full",
    "percent": "90%",
    "pid": "4711",
    "port": "6443",
    "status": "503",
    "seconds": "30",
    "number": "3",
    "at": "2026-03-02 18:01:53 UTC",
    "until": "2026-03-02 20:00:00 UTC",
}


def escalation_reasons() -> dict[str, str]:
    """Return the English reason of each escalation rule. The rules are variables of the role and of a playbook."""
    rules = [
        rule
        for path in ESCALATION_RULES
        for name, value in yaml.safe_load((ROOT / path).read_text(encoding="utf-8")).items()
        if name in ("escalation_rules", "_escalation_no_rules")
        for rule in value
    ]
    return {f"escalation.{rule['name']}": re.sub(r"{{.*?}}", "<value>", rule["reason"]) for rule in reversed(rules)}


def sample(words: catalogue.Words, key: str) -> str:
    """Return the message for a key, with sample values.

    If the key has no message, English texts contain the part of the key after the dot, for example the name of a cause.
    """
    if key not in words.sentences:
        return REASONS.get(key) or key.partition(".")[2]
    names = [name for _text, name, _format, _conversion in string.Formatter().parse(words.sentences[key]) if name]
    return words.sentences[key].format(**{name: message.Listed([SAMPLES.get(name, f"<{name}>")]) for name in names})


REASONS = escalation_reasons()


def page() -> str:
    """Return the page as HTML."""
    spoken = [catalogue.of(language) for language in LANGUAGES]
    keys = sorted(set().union(*(words.sentences for words in spoken)))
    families = {family: list(group) for family, group in itertools.groupby(keys, lambda key: key.split(".")[0])}
    parts = []
    for family in sorted(families, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        rows = [
            f"<dt><code>{escape(key)}</code></dt>"
            + "".join(
                f'<dd lang="{language}">{escape(sample(words, key))}</dd>' for language, words in zip(LANGUAGES, spoken)
            )
            for key in families[family]
        ]
        parts.append(f"<section><h2>{escape(family)}</h2><dl>{''.join(rows)}</dl></section>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Messages</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{html_template.STYLE} dt {{ margin-top: 10px; color: var(--quiet); }} dd {{ margin: 0; }}</style>"
        f"</head><body><main><h1>Messages</h1>{''.join(parts)}</main></body></html>\n"
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
