# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each part of triage redacts its own long files, because the parts run in parallel."""

from __future__ import annotations

import pytest
import triage_samples

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import triage_pass
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, file, found

FIRST, SECOND = "Kanarienvogel-4711", "Zeisig-und-Stieglitz-0815"
LONG = f"a line with {FIRST} and {SECOND}\n" * 1000


@pytest.fixture
def triage(tmp_path):
    base = Question(
        service=triage_samples.service(tmp_path),
        run=commands.run,
        since=0,
        budget=5,
        log_lines=10,
        kernel_log_command=(),
        keep=True,
    )
    return triage_pass.Triage(base, deadline=10, part_timeout=5, window=600)


def part(*secrets, text=""):
    """Return a part that finds secrets, and that saves a file if text is set."""
    evidence = [file("server.log", "/var/log/server.log", text)] if text else []
    return lambda question: found({}, evidence=evidence, secrets=secrets)


def test_a_part_redacts_its_long_file(triage):
    triage._ask({"environment": part(FIRST)}, timeout=5)
    triage._ask({"log": part(SECOND, text=LONG)}, timeout=5)
    (saved,) = triage.done.files()
    assert saved["redacted"] is True
    assert saved["text"] == redact.Redactor([FIRST, SECOND]).text(LONG)
    assert FIRST not in saved["text"] and SECOND not in saved["text"]


def test_a_secret_that_another_part_finds_is_redacted_too(triage):
    triage._ask({"log": part(FIRST, text=LONG), "environment": part(SECOND)}, timeout=5)
    (saved,) = triage.done.files()
    # When the file is saved, all secrets in it are masked. See evidence.save.
    assert "redacted" not in saved
    assert saved["text"] == LONG


def test_terminal_sequences_are_removed_from_a_file_that_a_part_redacts(triage):
    triage._ask({"log": part(text="\x1b[31mred\x1b[0m\x07\n" * 2000)}, timeout=5)
    (saved,) = triage.done.files()
    assert saved["text"] == "red\\x07\n" * 2000


def test_the_files_of_a_second_save_are_redacted(triage):
    triage._ask({"first": part(text="short\n"), "second": part(text=LONG)}, timeout=5)
    assert ["redacted" in each for each in triage.done.files()] == [False, True]
    (saved,) = triage.done.files(1)
    assert saved["redacted"] is True


def test_a_part_with_little_time_left_does_not_redact(triage):
    question = triage._base._replace(budget=5, asked_at=0.0)
    result = part(text=LONG)(question)
    assert triage_pass._with_redacted(result, question) is result


def test_a_part_without_a_long_file_prepares_no_redactor(triage, monkeypatch):
    """Most parts have no long file. Preparing a redactor takes time, and users are waiting."""
    monkeypatch.setattr(triage_pass.redact, "Redactor", None)
    question = triage._base.begun_with(5)
    result = part(FIRST, text="short\n")(question)
    assert triage_pass._with_redacted(result, question) is result
