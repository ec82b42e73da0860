# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The readiness report as data: its hosts, the lines of each host, and the JSON document."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import checks as all_checks
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import end_of_life
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.checks import Check
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    NOT_CHECKED,
    NOT_READY,
    READY,
    WARNING,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html, html_template
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.markdown import escape
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import ATTENTION, BAD, GOOD

# The version of the JSON document. The version changes if a key is removed or its meaning changes.
SCHEMA = 1
_RANK = {NOT_READY: 0, WARNING: 1, NOT_CHECKED: 2, READY: 3}


class Host(NamedTuple):
    """A host in the report."""

    host: str
    service: str
    checks: List[Check]

    @property
    def ready(self) -> bool:
        """True if the host is ready for a recovery."""
        return all_checks.is_ready(self.checks)

    @property
    def blocking(self) -> List[str]:
        """The IDs of the checks that prevent the host from being ready."""
        return [check.id for check in self.checks if check.blocks]


class Line(NamedTuple):
    """The text of a check in one language. remedy: the action that a person should take, or empty."""

    id: str
    name: str
    verdict: str
    told: str
    remedy: str
    tone: str
    blocks: bool


def line(words: Words, check: Check) -> Line:
    """Return the text of a check in one language."""
    tone = BAD if check.blocks else GOOD if check.verdict == READY else ATTENTION
    return Line(
        id=check.id,
        name=words.say(f"ready.name.{check.id}"),
        verdict=words.say(f"ready.verdict.{check.verdict}"),
        told=_sentence(words, check.told),
        remedy=_sentence(words, check.remedy) if check.remedy else "",
        tone=tone,
        blocks=check.blocks,
    )


def _sentence(words: Words, told: Message) -> str:
    return words.sentence(words.message(told.to_dict(), told.id))


def lines(words: Words, host: Host) -> List[Line]:
    """Return the text of each check of a host in one language, most important checks first."""
    ordered = sorted(host.checks, key=lambda check: (not check.blocks, _RANK[check.verdict]))
    return [line(words, check) for check in ordered]


def counts(words: Words, host: Host) -> str:
    """Return the number of checks of a host for each verdict."""
    found = all_checks.by_verdict(host.checks)
    return words.say("ready.screen.counts", **{verdict: len(each) for verdict, each in found.items()})


def verdict(words: Words, ready: bool) -> str:
    """Return the verdict on a host or on all hosts."""
    return words.say("ready.yes" if ready else "ready.no")


def subject(words: Words, host: Host) -> str:
    """Return the name of a host and of its service."""
    return words.say("ready.host", service=host.service, host=host.host)


def _summary(words: Words, hosts: Sequence[Host]) -> str:
    bad = [host.host for host in hosts if not host.ready]
    if len(hosts) == 1:
        return words.sentence(words.say("ready.not_one" if bad else "ready.one"))
    if not bad:
        return words.sentence(words.say("ready.all", number=len(hosts)))
    return words.sentence(words.say("ready.some", number=len(bad), all=len(hosts), hosts=words.listed(bad)))


def _notes(words: Words) -> List[str]:
    compared = words.say("ready.versions_compared", day=end_of_life.COMPARED)
    return [words.sentence(words.say("ready.written")), words.sentence(compared)]


def as_html(words: Words, hosts: Sequence[Host], *, at: str) -> str:
    """Return the report as a page. at: the time of the report."""
    ready = all(host.ready for host in hosts)
    shown = [
        {
            "name": subject(words, host),
            "verdict": verdict(words, host.ready),
            "tone": GOOD if host.ready else BAD,
            "counts": counts(words, host),
            "lines": lines(words, host),
        }
        for host in hosts
    ]
    return html.render(
        words,
        html_template.READINESS,
        title=words.say("ready.page", at=words.when(at)),
        tone=GOOD if ready else BAD,
        verdict=verdict(words, ready),
        summary=_summary(words, hosts),
        footer=words.paragraph(_notes(words)),
        hosts=shown,
    )


def as_markdown(words: Words, hosts: Sequence[Host], *, at: str) -> str:
    """Return the report as Markdown. at: the time of the report."""
    ready = all(host.ready for host in hosts)
    parts = [
        f"# {escape(words.say('ready.page', at=words.when(at)))}",
        f"**{escape(verdict(words, ready))}**",
        escape(_summary(words, hosts)),
    ]
    columns = [words.say(f"ready.column.{name}") for name in ("check", "verdict", "told", "remedy")]
    for host in hosts:
        parts += [
            f"## {escape(subject(words, host))}: {escape(verdict(words, host.ready))}",
            escape(counts(words, host)),
        ]
        rows = [[each.name, f"**{each.verdict}**" if each.blocks else each.verdict] for each in lines(words, host)]
        texts = [[escape(each.told), escape(each.remedy)] for each in lines(words, host)]
        table = [columns, ["---"] * len(columns), *([*row, *text] for row, text in zip(rows, texts))]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in table))
    return "\n\n".join([*parts, *map(escape, _notes(words))]) + "\n"


def as_data(words: Words, hosts: Sequence[Host], *, at: str) -> Dict[str, Any]:
    """Return the report as plain data, with the text both in one language and as translatable messages."""
    return {
        "schema": SCHEMA,
        "kind": "readiness",
        "written_at": at,
        "language": words.language,
        "ready": all(host.ready for host in hosts),
        "hosts": [
            {
                "host": host.host,
                "service": host.service,
                "ready": host.ready,
                "not_ready": host.blocking,
                "checks": [_check_as_data(words, check) for check in host.checks],
            }
            for host in hosts
        ],
    }


def _check_as_data(words: Words, check: Check) -> Dict[str, Any]:
    shown = line(words, check)
    remedy: Optional[Dict[str, Any]] = check.remedy.to_dict() if check.remedy else None
    return {
        "id": check.id,
        "verdict": check.verdict,
        "essential": check.essential,
        "text": shown.told,
        "remedy": shown.remedy,
        "messages": {"text": check.told.to_dict(), **({"remedy": remedy} if remedy else {})},
    }


def as_json(words: Words, hosts: Sequence[Host], *, at: str) -> str:
    """Return the report as a JSON document."""
    return json.dumps(as_data(words, hosts, at=at), ensure_ascii=False, indent=1) + "\n"
