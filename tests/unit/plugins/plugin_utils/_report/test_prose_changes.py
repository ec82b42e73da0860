# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The changes before an outage, as shown in the documents and in the summary."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import compare, kinds, relations
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html as html_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import markdown as markdown_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_changes
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents

from .._timeline.test_events import OUTCOME, Recording
from .test_render import HOSTILE

EN, JA = catalogue.of("en"), catalogue.of("ja", "Asia/Tokyo")
SINCE = "2026-03-02T00:30:00.000Z"
LOCK = {
    **{"kind": "lock_file", "name": "package-lock.json", "what": "changed", "before": "", "after": "", "inside": ""},
    **{"at": "2026-03-02T00:57:00.000Z", "earliest": SINCE, "latest": "2026-03-02T01:05:00.000Z"},
    **{"relation": "explains", "cause": "modules_broken", "seconds_before": 180.0},
}
LIMIT = {
    **LOCK,
    **{"kind": "unit", "name": "MemoryMax", "inside": "/etc/u.service", "before": "1G", "after": "64M", "at": None},
    **{"relation": "possible", "cause": None, "seconds_before": None},
}


def incident(*items, cause="modules_broken", since=SINCE, omitted=0):
    """Return an incident whose triage found these changes."""
    recording = Recording().add("run_start", playbook="outage_recover.yml").down().opened()
    finding = {"cause": cause, "confidence": 0.9, "summary": "It failed."}
    changes = {"since": since, "failed_at": "2026-03-02T01:00:00.000Z", "items": list(items), "omitted": omitted}
    recording.task("triage_info", {"findings": [finding], "facts": {"changes": changes}}, role="triage")
    outcome = {**OUTCOME, "outcome": "not_recovered", "cause": cause}
    (found,) = timeline_incidents.from_events(recording.add("outcome", host="node1", data=outcome).ended().events)
    return found


def section(words, found):
    text = markdown_report.markdown(words, found)
    return text.partition(f"## {words.say('doc.changes')}\n\n")[2].partition("\n\n## ")[0]


def test_the_changes_are_in_a_table_in_their_order():
    assert section(EN, incident(LOCK, LIMIT, omitted=3)) == (
        "Changes since the last healthy run on 2026-03-02 00:30:00 UTC, most likely cause first. "
        "3 further changes are not listed.\n\n"
        "| UTC | Time to the failure | Changed | Change | Relation |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 2026-03-02T00:57:00.000Z | 3 min before the failure | package-lock.json (lock file) | changed "
        "| may have caused: modules_broken |\n"
        "| unknown | since the last healthy run | MemoryMax in /etc/u.service (unit) | changed: 1G → 64M | possible |"
    )


def test_the_page_has_the_same_changes():
    for words in (EN, JA):
        found = incident(LOCK, LIMIT)
        page = html_report.page(words, found)
        for each in prose_changes.changes(words, found):
            assert all(text in page for text in (each.gap, each.what, each.change, each.relation))


@pytest.mark.parametrize(
    ("found", "english", "japanese"),
    [
        (
            incident(LOCK, LIMIT),
            "3 min before the failure: package-lock.json (lock file) changed",
            "停止の3分前：package-lock.json（lock ファイル）の変更",
        ),
        (incident(LIMIT), "", ""),
        (
            incident(LIMIT, cause="unknown"),
            "since the last healthy run: MemoryMax in /etc/u.service (unit) changed",
            "最後に正常だった実行以降：/etc/u.service 内の MemoryMax（ユニット）の変更",
        ),
        (incident({**LOCK, "relation": "after", "seconds_before": -5.0}), "", ""),
        (incident(), "", ""),
    ],
)
def test_the_summary_names_a_change_that_is_related_to_the_cause(found, english, japanese):
    for words, wanted in ((EN, english), (JA, japanese)):
        assert prose_changes.nearest(words, found) == wanted
        lines = screen_report.summary(words, found, document="/tmp/a.md")
        shown = [line for line in lines if line.startswith(f"  {words.say('screen.change')}")]
        assert len(shown) == bool(wanted)


def test_a_host_without_changes_and_a_host_that_was_not_compared_are_told_apart():
    assert section(EN, incident()) == "No changes were found since the last healthy run on 2026-03-02 00:30:00 UTC."
    assert section(EN, incident(since=None)) == (
        "Unknown, because the host was not compared with an earlier healthy run. To make the comparison possible for "
        "the next outage, run outage_verify.yml while the service is healthy, with nexus_manifest_enabled set to true "
        "(the default)."
    )


def test_every_kind_and_relation_has_a_name_in_each_language():
    for words in (EN, JA):
        assert all(words.knows("change_kind", kind) for kind in kinds.KINDS)
        assert all(words.knows("change_relation", relation) for relation in relations.ORDER)
        deeds = (compare.CHANGED, compare.ADDED, compare.REMOVED, compare.ACCESS)
        assert all(words.knows("change_what", deed) for deed in deeds)


def test_names_from_a_hostile_host_have_no_effect():
    names = ("kind", "name", "what", "before", "after", "inside", "at")
    hostile = {**dict.fromkeys(names, HOSTILE), "relation": "named"}
    found = incident(hostile)
    for words in (EN, JA):
        assert "<script" not in html_report.page(words, found)
        assert "<script" not in markdown_report.markdown(words, found)
        assert prose_changes.nearest(words, found)
