# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets in log, journal, environment, database, command lines: none is in what a recovery shows or leaves behind."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from drills import STATE_DIR, Drill

# As plant-secrets has them.
PLACES = (
    *("environment", "url", "dotenv", "log", "header", "journal", "option", "database", "statement", "command_line"),
    *("phrase", "bytes", "next_line", "split", "encoded"),
)


@pytest.fixture(scope="module")
def canaries(drill: Drill) -> dict[str, str]:
    return json.loads((drill.output / "canaries.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle(drill: Drill) -> dict[str, str]:
    """The evidence of all passes, by path."""
    paths = drill.host.check_output(f"find {STATE_DIR} -type f -path '*/evidence/*'").split()
    return {path: drill.host.check_output(f"cat {path}") for path in paths}


def test_the_outage_was_looked_into_and_recovered(drill: Drill, bundle: dict[str, str]) -> None:
    told = drill.postmortem()
    assert (told["outcome"], told["cause"]) == ("recovered", "db_locked")
    names = {path.rpartition("/")[2] for path in bundle}
    assert names >= {"manifest.json", "triage.json", "server.log", "journal.txt", "files.txt"}


def test_the_lines_that_held_them_are_there_without_them(bundle: dict[str, str]) -> None:
    everything = "\n".join(bundle.values())
    for words in (
        "login with password=[redacted] refused",
        "Authorization: [redacted] mail by [redacted]",
        "--client-secret [redacted]",
        "https://report:[redacted]@reports.example/x",
        # Of who locks the database, the program alone is told.
        "/opt/drill/bin/hold-lock)",
        "caught: token=[redacted] and [redacted]",
    ):
        assert words in everything, words


def forms_of(canary: str) -> set[str]:
    """The canary, its halves, and the part that all base64 texts with it have in common, at each of three offsets."""
    encoded = {base64.b64encode(b" " * before + canary.encode()).decode()[4:-4] for before in range(3)}
    return {canary, canary[:16], canary[16:], urllib.parse.quote(canary), *encoded}


@pytest.mark.parametrize("place", PLACES)
def test_it_is_in_nothing_that_was_written(
    drill: Drill, canaries: dict[str, str], bundle: dict[str, str], place: str
) -> None:
    forms = forms_of(canaries[place])
    written = {path: path.read_text("utf-8") for path in drill.output.rglob("*") if path.is_file()}
    documents = [path for path in written if path.suffix in (".jsonl", ".md", ".html", ".json", ".log")]
    assert {path.suffix for path in documents} == {".jsonl", ".md", ".html", ".json", ".log"}
    # The screen at -vvv is one of them.
    assert "<" in written[drill.output / "recover.log"] and "ESTABLISH" in written[drill.output / "recover.log"]
    texts = {**{str(path): written[path] for path in documents if path.name != "canaries.json"}, **bundle}
    assert [path for path, text in texts.items() for form in forms if form in text] == []


@pytest.mark.parametrize("place", PLACES)
def test_it_is_in_no_other_record_on_the_host(drill: Drill, canaries: dict[str, str], place: str) -> None:
    found = drill.host.run(f"grep -rlF {canaries[place]} {STATE_DIR} /run/itsm-runbook /tmp /var/tmp /home /root")
    # Backups of the database hold what the database holds; there are none of this rung.
    assert found.rc == 1, found.stdout


def test_the_service_serves(drill: Drill) -> None:
    drill.assert_serves()
