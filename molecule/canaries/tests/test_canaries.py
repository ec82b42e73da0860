# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recovery never shows or stores a secret from a log, the journal, an environment, a database or a command line."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from drills import STATE_DIR, Drill

# These names must match those in molecule/shared/host/plant-secrets.
PLACES = (
    *("environment", "url", "dotenv", "log", "header", "journal", "option", "database", "statement", "command_line"),
    *("phrase", "bytes", "next_line", "split", "encoded"),
)


@pytest.fixture(scope="module")
def canaries(drill: Drill) -> dict[str, str]:
    return json.loads((drill.output / "canaries.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle(drill: Drill) -> dict[str, str]:
    """Return the content of every evidence file on the host, by path."""
    paths = drill.host.check_output(f"find {STATE_DIR} -type f -path '*/evidence/*'").split()
    return {path: drill.host.check_output(f"cat {path}") for path in paths}


def test_the_outage_was_diagnosed_and_recovered(drill: Drill, bundle: dict[str, str]) -> None:
    told = drill.postmortem()
    assert (told["outcome"], told["cause"]) == ("recovered", "db_locked")
    names = {path.rpartition("/")[2] for path in bundle}
    assert names >= {"manifest.json", "triage.json", "server.log", "journal.txt", "files.txt"}


def test_the_lines_are_kept_without_their_secrets(bundle: dict[str, str]) -> None:
    everything = "\n".join(bundle.values())
    for words in (
        "login with password=[redacted] refused",
        "Authorization: [redacted] mail by [redacted]",
        "--client-secret [redacted]",
        "https://report:[redacted]@reports.example/x",
        # The finding shows only the name of the program that locks the database.
        "/opt/drill/bin/hold-lock, user",
        "caught: token=[redacted] and [redacted]",
    ):
        assert words in everything, words


def forms_of(canary: str) -> set[str]:
    """Return strings that reveal a canary: the canary, its halves, its URL encoding, and parts of its base64 forms."""
    encoded = {base64.b64encode(b" " * before + canary.encode()).decode()[4:-4] for before in range(3)}
    return {canary, canary[:16], canary[16:], urllib.parse.quote(canary), *encoded}


@pytest.mark.parametrize("place", PLACES)
def test_no_written_file_contains_it(
    drill: Drill, canaries: dict[str, str], bundle: dict[str, str], place: str
) -> None:
    forms = forms_of(canaries[place])
    written = {path: path.read_text("utf-8") for path in drill.output.rglob("*") if path.is_file()}
    documents = [path for path in written if path.suffix in (".jsonl", ".md", ".html", ".json", ".log")]
    assert {path.suffix for path in documents} == {".jsonl", ".md", ".html", ".json", ".log"}
    # The files include the output of a run with -vvv.
    assert "<" in written[drill.output / "recover.log"] and "ESTABLISH" in written[drill.output / "recover.log"]
    texts = {**{str(path): written[path] for path in documents if path.name != "canaries.json"}, **bundle}
    assert [path for path, text in texts.items() for form in forms if form in text] == []


@pytest.mark.parametrize("place", PLACES)
def test_no_other_record_on_the_host_contains_it(drill: Drill, canaries: dict[str, str], place: str) -> None:
    found = drill.host.run(f"grep -rlF {canaries[place]} {STATE_DIR} /run/itsm-runbook /tmp /var/tmp /home /root")
    # A backup of the database would contain the canary, but the rung in this drill does not make a backup.
    assert found.rc == 1, found.stdout


def test_the_service_serves(drill: Drill) -> None:
    drill.assert_serves()
