# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of all drills look at: the host from outside, and what the recovery left behind."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import testinfra

# The fields that the runbook asks of a postmortem.
SECTIONS = (
    "1. When",
    "2. How it was detected",
    "3. Impact",
    "4. Root cause",
    "5. Recovery steps",
    "6. Prevention",
    "7. Timeline",
)
WRITTEN = {f"Written before the outage, number {number}" for number in range(1, 8)}


class Drill:
    """One drill: its host, and the files of its runs in .molecule/<name>/."""

    def __init__(self, name: str, project: Path) -> None:
        self.name = name
        self.output = project / ".molecule" / name
        self.container = f"itsm-nexus-{name.replace('_', '-')}"
        self.host = testinfra.get_host(f"podman://{self.container}")

    def observation(self, name: str) -> dict[str, Any]:
        """What the host was like while `sound` or `broken`."""
        return json.loads((self.output / f"{name}.json").read_text(encoding="utf-8"))

    def now(self) -> dict[str, Any]:
        """What the host is like now."""
        return json.loads(self.host.check_output("/opt/drill/bin/observe.py"))

    def rows_of(self, database: str) -> dict[str, int] | None:
        """Rows per table of that file alone, None where the sqlite3 shell finds it unsound."""
        return json.loads(self.host.check_output(f"/opt/drill/bin/observe.py {database}"))

    def screen(self, run: str = "recover") -> str:
        return (self.output / f"{run}.log").read_text(encoding="utf-8")

    def recap(self, run: str = "recover") -> dict[str, int]:
        """Ansible's own count of what a run did: ok, changed, failed and so on."""
        line = re.search(rf"^{self.name} +: (.*)$", self.screen(run), re.MULTILINE)
        assert line, self.screen(run)
        return {key: int(value) for key, value in (pair.split("=") for pair in line[1].split())}

    def documents(self, run: str = "recover") -> list[Path]:
        return sorted((self.output / run).glob("*.md")) + sorted((self.output / run).glob("*.json"))

    def postmortem(self, run: str = "recover") -> dict[str, Any]:
        """The JSON document; the Markdown beside it must tell all that the runbook asks for."""
        markdown, data = self.documents(run)
        told = json.loads(data.read_text(encoding="utf-8"))
        text = markdown.read_text(encoding="utf-8")
        for section in SECTIONS:
            assert f"\n## {section}" in text, f"no {section} in {markdown}"
        assert told["incident"] in text
        assert str(markdown) in self.screen(run)
        return told

    def ask(self, url: str) -> tuple[int, Any]:
        """Ask the service as a client on another machine does: (HTTP status or 0, JSON body or None)."""
        address = (self.output / "address").read_text(encoding="utf-8")
        asked = subprocess.run(
            ["curl", "-sk", "--max-time", "5", "-w", "\n%{http_code}", url.replace("//host", f"//{address}")],
            check=False,
            capture_output=True,
            text=True,
        )
        body, _, status = asked.stdout.rpartition("\n")
        return int(status), json.loads(body) if asked.returncode == 0 else None

    def assert_serves(self) -> None:
        for url in ("https://host:6443/api/v1/health", "http://host:8080/api/v1/health"):
            status, body = self.ask(url)
            assert (status, body and body["status"]) == (200, "ok"), url

    def assert_every_row_is_there(self) -> None:
        """In the database's files and over HTTP, none lost; nothing added but by what the recovery does itself."""
        before, after = self.observation("sound")["rows"], self.now()["rows"]
        assert before["incidents"] >= len(WRITTEN)
        assert after == before
        _, answer = self.ask("https://host:6443/api/v1/incidents")
        assert answer["total"] == before["incidents"]
        assert {incident["title"] for incident in answer["incidents"]} >= WRITTEN

    def assert_recovered(self, *, severity: str, cause: str, rung: str) -> dict[str, Any]:
        """The service is back and the postmortem says how; returns the postmortem."""
        self.assert_serves()
        self.assert_every_row_is_there()
        told = self.postmortem()
        rows = self.observation("sound")["rows"]
        assert (told["outcome"], told["severity"], told["cause"], told["rung"]) == ("recovered", severity, cause, rung)
        assert [(tried["rung"], tried["held"]) for tried in told["rungs_tried"]] == [(rung, True)]
        assert told["data_loss"] == "none"
        assert {table: told["rows_before"][table] for table in rows} == rows
        assert {table: told["rows_after"][table] for table in rows} == rows
        assert 0 < told["durations"]["outage"] < 60
        closing = self.screen()[-2500:]
        for word in (severity, cause, f"{rung} held"):
            assert word in closing, closing
        assert self.recap()["failed"] == 0
        return told
