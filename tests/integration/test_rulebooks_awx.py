# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rulebooks for AWX launch the templates that awx_configure.yml creates, and the templates recover the service.

A test server replaces AWX. This server has the same job templates, validates survey answers as AWX does, and runs the
playbook of each accepted job.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import awx_server
import pytest
from tcp_ports import free_port

from .conftest import Run, Service
from .test_rulebooks import INTERVAL, TOKEN, Rulebook, alert, post, running, wait_for, watching

AWX_TOKEN = "made-by-awx"
DATA = awx_server.described()


class Awx:
    """The part of AWX that is needed to launch jobs and wait until they finish."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.templates = dict(enumerate(DATA["awx_job_templates"], 1))
        self.launched: list[dict[str, Any]] = []
        self.refused: list[Any] = []
        self.screens: list[str] = []
        self._jobs: dict[int, dict[str, Any]] = {}
        self._threads: list[threading.Thread] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    if self.headers.get("Authorization") != f"Bearer {AWX_TOKEN}":
                        raise awx_server.Refused({"detail": "not logged in"}, 401)
                    status, said = owner.answer(self.command, self.path, json.loads(body or b"{}"))
                except awx_server.Refused as refusal:
                    owner.refused.append(refusal.what)
                    status, said = refusal.status, refusal.what
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(180)

    def at_work(self) -> bool:
        return any(job["status"] == "running" for job in self._jobs.values())

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        parts = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        what = parts.path.removeprefix("/api/v2/").strip("/").split("/")
        if what == ["config"]:
            return 200, {"version": "24.6.1"}
        if what == ["unified_job_templates"]:
            found = [
                self._described(number) for number, each in self.templates.items() if each["name"] == query["name"]
            ]
            return 200, {"count": len(found), "next": None, "results": found}
        if what[0] == "job_templates" and what[2:] == ["launch"] and method == "POST":
            return 201, self._launch(self.templates[int(what[1])], body)
        if what == ["jobs"]:
            asked = [self._jobs[int(number)] for number in query["id__in"].split(",")]
            return 200, {"count": len(asked), "next": None, "results": asked}
        raise awx_server.Refused({"detail": f"no {path}"}, 404)

    def _described(self, number: int) -> dict[str, Any]:
        """Return the job template as AWX describes it.

        The template prompts for a limit and for its survey variables.
        """
        return {
            "id": number,
            "type": "job_template",
            "name": self.templates[number]["name"],
            "summary_fields": {"organization": {"name": DATA["awx_organization"]}},
            "related": {"launch": f"/api/v2/job_templates/{number}/launch/"},
            "ask_limit_on_launch": True,
            "ask_labels_on_launch": False,
            "ask_inventory_on_launch": False,
            "ask_variables_on_launch": False,
        }

    def _launch(self, template: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        answers = body.get("extra_vars", {})
        survey = survey_of(template)
        awx_server.judge_answers(survey, answers, all_required=True)
        if body.keys() - {"limit", "extra_vars"}:
            raise awx_server.Refused({"detail": sorted(body)})
        job = {"id": len(self._jobs) + 1, "status": "running", "created": "2026-03-02T01:02:03.456Z", "artifacts": {}}
        job["url"] = f"/api/v2/jobs/{job['id']}/"
        self._jobs[job["id"]] = job
        self.launched.append({"template": template["name"], "limit": body["limit"], **answers})

        def work() -> None:
            given = awx_server.variables(template, survey, answers)
            done = self.service.play(f"playbooks/{template['name']}.yml", f"--limit={body['limit']}", **given)
            self.screens.append(done.screen)
            job["status"] = "failed" if done.rc else "successful"

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()
        return job

    def by_webhook(self, name: str, *arguments: str) -> Run:
        """Run the job that a webhook starts. The job has no limit, and nobody answers the survey."""
        template = next(each for each in self.templates.values() if each["name"] == name)
        assert template["webhook"]
        given = awx_server.variables(template, survey_of(template), {})
        return self.service.play(f"playbooks/{name}.yml", *arguments, **given)


def survey_of(template: dict[str, Any]) -> dict[str, Any]:
    return {"spec": [DATA["awx_questions"][name] for name in template.get("survey", [])]}


@pytest.fixture
def awx(service: Service, monkeypatch: pytest.MonkeyPatch) -> Any:
    server = Awx(service)
    # Variables that docs/eda.md requires.
    monkeypatch.setenv("EDA_CONTROLLER_URL", server.url)
    monkeypatch.setenv("EDA_CONTROLLER_TOKEN", AWX_TOKEN)
    yield server
    server.close()
    assert server.refused == []


def await_end(rulebook: Rulebook, template: str) -> None:
    wait_for(
        lambda: f"Job template '{template}' completed successfully" in rulebook.screen(), f"{template} ends", rulebook
    )


def test_watch_launches_the_recovery_once(awx: Awx, service: Service) -> None:
    variables = {**watching(service), "awx_organization": DATA["awx_organization"]}
    with running("itsm_nexus.runbook.watch_awx", service, variables) as rulebook:
        time.sleep(2 * INTERVAL)
        service.kill()
        rulebook.await_recoveries(1)
        await_end(rulebook, "outage_recover")
        time.sleep(10 * INTERVAL)
    assert awx.launched == [
        {
            "template": "outage_recover",
            "limit": "localhost",
            "outage_recover_single_host": "true",
            "outage_recover_reason": "The watch: emergency (consecutive failures: 1)",
        }
    ]


def test_alerts_launch_a_triage_and_one_recovery(awx: Awx, service: Service) -> None:
    port = free_port()
    variables = {
        "alertmanager_port": port,
        "alertmanager_token": TOKEN,
        "awx_organization": DATA["awx_organization"],
    }
    with running("itsm_nexus.runbook.alertmanager_awx", service, variables) as rulebook:
        assert post(port, alert(labels={"severity": "warning"})) == 200
        await_end(rulebook, "outage_triage")
        service.kill()
        fail_jobs_for_a_group(awx, rulebook, port)
        for _ in range(3):
            assert post(port, alert(), alert("Another")) == 200
        rulebook.await_recoveries(1)
        await_end(rulebook, "outage_recover")
    assert [awx.launched[0], *awx.launched[3:]] == [
        {"template": "outage_triage", "limit": "localhost", "outage_recover_single_host": "true"},
        {
            "template": "outage_recover",
            "limit": "localhost",
            "outage_recover_single_host": "true",
            "outage_recover_reason": "A Prometheus alert",
        },
    ]


def fail_jobs_for_a_group(awx: Awx, rulebook: Rulebook, port: int) -> None:
    """Post alerts for a group and for an unknown host. The resulting jobs fail before they change anything."""
    # A template would convert the last value to a number, but a job's limit must be a string.
    for host in ("all", "local*", "itsm_nexus", "0x10"):
        assert post(port, alert(labels={"itsm_host": host})) == 200
    wait_for(lambda: len(awx.launched) == 3 and not awx.at_work(), "two more jobs end", rulebook)
    assert {each["limit"] for each in awx.launched[1:]} == {"itsm_nexus", "0x10"}
    assert rulebook.screen().count('Alert rejected, nothing was started: the label itsm_host is "') == 2
    # The jobs run in parallel, so their order is unknown.
    group, stranger = sorted(awx.screens[1:], key=lambda screen: "0x10" in screen)
    assert "--limit 'itsm_nexus' is a group of the inventory: nothing was done." in " ".join(group.split())
    assert "Could not match supplied host pattern, ignoring: 0x10" in stranger
    assert "TASK [" not in group + stranger
    assert rulebook.incidents() == []


@pytest.mark.parametrize("name", ["outage_recover", "outage_maintenance"])
def test_a_webhook_does_not_select_all_hosts(awx: Awx, laid: Service, tmp_path: Path, name: str) -> None:
    other = tmp_path / "hosts.yml"
    other.write_text("itsm_nexus: {hosts: {other.example.com: {ansible_connection: local}}}\n", encoding="utf-8")
    done = awx.by_webhook(name, "-i", str(other))
    assert done.rc != 0 and "--limit is missing: nothing was done." in " ".join(done.screen.split())
    assert "TASK [" not in done.screen and not laid.state.exists()


def test_a_clean_start_in_one_job_needs_an_approver(awx: Awx) -> None:
    recover = next(each for each in awx.templates.values() if each["name"] == "outage_recover")
    survey = survey_of(recover)
    with pytest.raises(awx_server.Refused, match="clean_start_recovery is not a choice"):
        awx_server.judge_answers(survey, {"outage_recover_highest_rung": "clean_start_recovery"}, all_required=False)
    for each in (survey, {}):
        given = awx_server.variables(recover, each, {})
        assert given["outage_recover_highest_rung"] == "standard_recovery"
    # Operators and webhooks may also launch other templates, but none of these tries a clean start. The workflow asks
    # for approval.
    climbing = [each for each in awx.templates.values() if "highest_rung" in each.get("survey", [])]
    assert {each["name"] for each in climbing if each["team"] == recover["team"]} == {
        "outage_restart",
        "outage_standard_recovery",
    }
