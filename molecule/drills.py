# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks for all drills.

Each check compares the host's state, as seen from outside, with the files that a run wrote.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import testinfra

# Fields that the runbook requires in a postmortem.
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
STATE_DIR = "/var/lib/itsm-runbook"


class Service(NamedTuple):
    """The names of the demo service unit, its user and other parts on a host, read from a file in molecule/profiles."""

    profile: str
    unit: str
    user: str
    app: str
    database: str
    environment: str
    log: str
    http_port: str

    @classmethod
    def read(cls, profile: Path) -> Service:
        lines = [line for line in profile.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return cls(**dict(line.split("=", 1) for line in lines))

    @property
    def busy_files(self) -> tuple[str, ...]:
        """Files that the service itself changes while it runs."""
        return (self.log, f"{self.database}-shm")


# The service in drills that do not use the names of the real deployment.
RUNBOOK = Service.read(Path(__file__).parent / "profiles" / "runbook")


class Drill:
    """A drill, with the host and the files that the runs wrote to .molecule/<name>/."""

    def __init__(self, name: str, project: Path) -> None:
        self.name = name
        self.output = project / ".molecule" / name
        self.container = f"itsm-nexus-{name.replace('_', '-')}"
        self.cause: str | None = None
        self.host = testinfra.get_host(f"podman://{self.container}")

    @functools.cached_property
    def service(self) -> Service:
        return Service.read(self.output / "profile")

    def observation(self, name: str) -> dict[str, Any]:
        """Return the host state recorded under this name.

        Possible names: `sound`, `broken`, and `<run>-after` (the state after a run).
        """
        return json.loads((self.output / f"{name}.json").read_text(encoding="utf-8"))

    def now(self) -> dict[str, Any]:
        """Return the current state of the host."""
        return json.loads(self.host.check_output("/opt/drill/bin/observe.py"))

    def rows_of(self, database: str) -> dict[str, int] | None:
        """Return the row counts, by table, in a database file without its WAL, or None if sqlite3 rejects the file."""
        return json.loads(self.host.check_output(f"/opt/drill/bin/observe.py {database}"))

    def screen(self, run: str = "recover") -> str:
        return (self.output / f"{run}.log").read_text(encoding="utf-8")

    def recap(self, run: str = "recover") -> dict[str, int]:
        """Return the counts from the Ansible recap of a run: ok, changed, failed and so on."""
        line = re.search(rf"^{self.name} +: (.*)$", self.screen(run), re.MULTILINE)
        assert line, self.screen(run)
        return {key: int(value) for key, value in (pair.split("=") for pair in line[1].split())}

    def documents(self, run: str = "recover") -> list[Path]:
        return sorted((self.output / run).glob("*.md")) + sorted((self.output / run).glob("*.json"))

    def postmortem(self, run: str = "recover") -> dict[str, Any]:
        """Return the postmortem of a run. Assert that the Markdown document has every section in SECTIONS."""
        markdown, data = self.documents(run)
        told = json.loads(data.read_text(encoding="utf-8"))
        text = markdown.read_text(encoding="utf-8")
        for section in SECTIONS:
            assert f"\n## {section}" in text, f"no {section} in {markdown}"
        assert told["incident"] in text
        assert str(markdown) in self.screen(run)
        return told

    def ask(self, url: str) -> tuple[int, Any]:
        """Query the service from outside the host.

        Return the HTTP status (0 for no response) and the JSON body (None if there is none).
        """
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
        for url in ("https://host:6443/api/v1/health", f"http://host:{self.service.http_port}/api/v1/health"):
            status, body = self.ask(url)
            assert (status, body and body["status"]) == (200, "ok"), url

    def assert_every_row_is_there(self, *, migrations: int = 0) -> None:
        """Assert that the database and the API contain all rows. `migrations` is the number of applied migrations."""
        before, after = self.observation("sound")["rows"], self.now()["rows"]
        assert before["incidents"] >= len(WRITTEN)
        assert after == {**before, "knex_migrations": before["knex_migrations"] + migrations}
        _, answer = self.ask("https://host:6443/api/v1/incidents")
        assert answer["total"] == before["incidents"]
        assert {incident["title"] for incident in answer["incidents"]} >= WRITTEN

    def assert_untouched(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Assert that a run changed only its records and its hold.

        Changes that a running service makes to its own files are allowed.
        """
        # During the run, systemd continues to restart a unit in the state "auto-restart" until the unit reaches its
        # start limit.
        restarts = before["unit"]["SubState"] == "auto-restart"
        # Ignore the scheduling state of a process (running or sleeping).
        same = [
            [
                {**process, "state": ""}
                for process in seen["processes"]
                if not restarts or str(process["pid"]) != seen["unit"]["MainPID"]
            ]
            for seen in (before, after)
        ]
        assert same[0] == same[1], (before["unit"], after["unit"])
        # A run may hold the service to prevent every start, but must not make any other change. systemd does not
        # restart a held unit.
        dropins = f"/etc/systemd/system/{self.service.unit}.service.d"
        held = any(path.startswith(f"{dropins}/zz-held-") for path in after["files"])
        if held:
            assert after["unit"]["ActiveState"] in ("inactive", "failed"), after["unit"]
            assert after["processes"] == []
        elif restarts:
            assert after["unit"]["ActiveState"] in ("activating", "active", "failed"), after["unit"]
            assert after["unit"]["UnitFileState"] == before["unit"]["UnitFileState"]
        else:
            assert after["unit"] == before["unit"]
        assert after["rows"] == before["rows"]
        busy = self.service.busy_files if before["processes"] or restarts else ()
        # If systemd starts the service, the service may write to the WAL before it fails. The code above compares the
        # rows.
        busy = (*busy, f"{self.service.database}-wal") if restarts and not held else busy
        same = [
            {
                path: entry
                for path, entry in seen["files"].items()
                if not path.startswith(STATE_DIR)
                and path not in busy
                and not (held and path.startswith(dropins) and (path == dropins or "/zz-held-" in path))
            }
            for seen in (before, after)
        ]
        assert same[0] == same[1]

    def assert_left_alone(
        self, *, cause: str, run: str = "forbidden", to: tuple[str, ...] = ("project leader",)
    ) -> dict[str, Any]:
        """Assert that a run identified the cause, notified the contacts in `to`, and changed nothing else on the host.

        Returns the postmortem.
        """
        self.cause = cause
        told = self.postmortem(run)
        assert (told["outcome"], told["cause"], told["rung"]) == ("not_recovered", cause, None)
        assert told["findings"][0]["cause"] == cause
        assert told["rungs_tried"] == []
        assert [each for each in told["remedies"] if each["changed"]] == []
        assert told["escalation"]["to"] == list(to)
        closing = self.screen(run)[-4000:]
        for word in (cause, *to, "next step"):
            assert word in closing, closing
        self.assert_untouched(self.observation("broken"), self.observation(f"{run}-after"))
        return told

    def assert_recovered(
        self,
        *,
        severity: str,
        cause: str,
        rung: str,
        run: str = "recover",
        skipped: tuple[str, ...] = (),
        migrations: int = 0,
    ) -> dict[str, Any]:
        """Assert that the service is back and that the postmortem describes the recovery. Return the postmortem.

        skipped: the rungs that the run skipped because they cannot help. migrations: the number of applied migrations.
        """
        self.cause = cause
        self.assert_serves()
        self.assert_every_row_is_there(migrations=migrations)
        told = self.postmortem(run)
        rows = self.observation("sound")["rows"]
        assert (told["outcome"], told["severity"], told["cause"], told["rung"]) == ("recovered", severity, cause, rung)
        assert [(each["rung"], each["held"]) for each in self.of_last_run(told, "rungs_tried")] == [(rung, True)]
        assert [each["rung"] for each in self.of_last_run(told, "rungs_skipped")] == list(skipped)
        assert told["data_loss"] == "none"
        assert {table: told["rows_before"][table] for table in rows} == rows
        rows = {**rows, "knex_migrations": rows["knex_migrations"] + migrations}
        assert {table: told["rows_after"][table] for table in rows} == rows
        # The outage began after the drill recorded the state of the healthy service.
        assert 0 < told["durations"]["outage"] < time.time() - (self.output / "sound.json").stat().st_mtime
        closing = self.screen(run)[-2500:]
        for word in (severity, cause, f"{rung} succeeded"):
            assert word in closing, closing
        assert self.recap(run)["failed"] == 0
        # The run has removed its dead-man timer.
        assert self.host.check_output("systemctl list-units --all --plain --no-legend 'itsm-runbook-*'") == ""
        return told

    def assert_remedied(
        self,
        *,
        cause: str,
        severity: str = "emergency",
        run: str = "allowed",
        also: tuple[str, ...] = (),
        migrations: int = 0,
    ) -> dict[str, Any]:
        """Assert that a run remediated this cause and the causes in `also`, and then needed only a restart."""
        told = self.assert_recovered(severity=severity, cause=cause, rung="restart", run=run, migrations=migrations)
        applied = [each for each in self.of_last_run(told, "remedies") if each["changed"]]
        assert [(each["cause"], each["failed"]) for each in applied] == [(each, False) for each in (cause, *also)]
        assert all(each["action"] and each["detail"] for each in applied)
        return told

    @staticmethod
    def of_last_run(told: dict[str, Any], what: str) -> list[dict[str, Any]]:
        """Return the entries that the latest run added to a list in a postmortem (such as `rungs_tried`)."""
        return [each for each in told[what] if each["run"] == told["runs"][-1]["run"]]

    def write_result(self, *, passed: bool) -> None:
        """Save the result of the drill for docs/drills.md.

        If the drill test does not specify a cause, there is no result to save.
        """
        told = [json.loads(path.read_text(encoding="utf-8")) for path in self.output.glob("*/INC-*.json")]
        told.sort(key=lambda each: each["runs"][-1]["started_at"])
        if self.cause is None or not told:
            return
        last = told[-1]
        remediated = [each for each in self.of_last_run(last, "remedies") if each["changed"] and not each["failed"]]
        result = {
            "drill": self.name,
            "passed": passed,
            "cause": self.cause,
            "found_first": told[0]["cause"] == self.cause,
            "left_alone": told[0]["outcome"] == "not_recovered",
            "recovered": last["outcome"] == "recovered",
            "by": [*(f"remedy for {each['cause']}" for each in remediated), *([last["rung"]] if last["rung"] else [])],
            "outage_seconds": last["durations"]["outage"],
        }
        (self.output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
