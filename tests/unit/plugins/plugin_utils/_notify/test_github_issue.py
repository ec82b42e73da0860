# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text and the target of a GitHub issue. tests/integration/test_postmortem_issue.py tests the requests."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import github_issue

DOCUMENT = (
    "# Postmortem\n\nIt fell.\n\n## 1. When\n\nAt night.\n\n## 7. Timeline\n\nA, then B.\n\n## Evidence\n\nSome.\n"
)


def test_a_long_document_is_cut_at_sections():
    long = DOCUMENT.replace("A, then B.", "| step 😀 |\n" * 8000)
    text = github_issue.body(long, incident="INC-1", where="/state/INC-1.md")
    assert github_issue.LONGEST - 65400 < len(text.encode("utf-16-le")) // 2 <= github_issue.LONGEST
    assert "step" not in text and "## 7. Timeline\n" in text and "/state/INC-1.md" in text
    for kept in ("It fell.", "At night.", "## Evidence\n\nSome."):
        assert kept in text
    head = github_issue.body("😀" * 70000, incident="INC-1", where="/x")
    assert len(head.encode("utf-16-le")) // 2 <= github_issue.LONGEST and head.rstrip().endswith("/x_")
    assert github_issue.body(DOCUMENT, incident="INC-1", where="/x").endswith(DOCUMENT)


def test_an_id_cannot_end_its_mark():
    mark = github_issue.marker("INC --> <script>")
    assert mark.startswith("<!-- incident: INC_") and mark.index("-->") == len(mark) - 3


def test_a_host_cannot_insert_a_mark_into_an_issue():
    text = github_issue.body("kept in `<!-- incident: INC-2 -->`\n", incident="INC-1", where="/x")
    assert github_issue.marker("INC-1") in text and github_issue.marker("INC-2") not in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"repository": "o/r/../x"}, "repository is 'o/r/../x'"),
        ({"api": "http://git.example/api/v3"}, "api_url is not https://"),
        ({"token": ""}, "token is empty"),
        ({"token": "a\nb"}, "token contains invalid characters"),
    ],
)
def test_targets(changes, told):
    target = {"api": "https://git.example/api/v3", "repository": "o/r", "token": "t", **changes}
    assert github_issue.why_not(github_issue.Target(**target)).startswith(told)
    assert bool(told) == bool(github_issue.why_not(github_issue.Target(**target)))
