# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each playbook runs as in an AWX job: with AWX's runner and environment, in a checkout that is deleted afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import awx_server
import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease

from .conftest import Service, assert_as_documented, on_screen
from .test_recovery import checkout

# The name contains a dot, as the names of real hosts do.
HOST = "app.one"
TOKEN = "ghp_nobodyMaySeeThisTokenEither0123456789"


@dataclasses.dataclass
class Job:
    """The data that AWX keeps about a job: exit code, events, artifacts."""

    folder: Path
    rc: int

    @property
    def events(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "job_events").glob("*.json"), key=lambda path: int(path.name.split("-")[0]))
        return [json.loads(path.read_text(encoding="utf-8")) for path in files]

    @property
    def artifacts(self) -> dict[str, Any]:
        """Return the artifacts, which AWX saves and passes to the next jobs in a workflow."""
        (closing,) = (event for event in self.events if event["event"] == "playbook_on_stats")
        kept: dict[str, Any] = closing["event_data"]["artifact_data"]
        return kept


@dataclasses.dataclass
class Awx:
    """Prepares jobs for one service as AWX 24.6.1 does, and runs them."""

    service: Service
    project: Path
    folder: Path
    artifacts: dict[str, Any] = dataclasses.field(default_factory=dict)
    launched: list[Job] = dataclasses.field(default_factory=list)

    @property
    def password(self) -> str:
        return self.service.environment()["ADMIN_PASSWORD"]

    def screen(self, job: Job) -> str:
        return "".join(event["stdout"] for event in job.events)

    def all_text(self, folder: Path) -> str:
        """Return the text of all files in a folder.

        The file with the runner's environment is omitted, because AWX masks the values in this file.
        """
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "command"]
        return "".join(path.read_text("utf-8", errors="replace") for path in files)

    def launch(
        self, playbook: str, *arguments: str, cancel: Callable[[], bool] | None = None, **extra_vars: Any
    ) -> Job:
        """Run a job. cancel: a function. As soon as it returns True, the job is cancelled."""
        number = len(self.launched) + 1
        job = self.folder / f"job_{number}"
        for part in ("env", "inventory", "home", "cp"):
            (job / part).mkdir(parents=True)
        shutil.copytree(self.project, job / "project", symlinks=True)
        script = job / "inventory" / "hosts"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(self.inventory())}\nEND\n", encoding="utf-8")
        script.chmod(stat.S_IRWXU)
        # A job receives the artifacts of earlier jobs, the survey answers and AWX's own variables. A separate file
        # contains the credential's variables.
        handed = {
            **self.artifacts,
            **extra_vars,
            **{f"{prefix}_job_id": number for prefix in ("awx", "tower")},
            **{f"{prefix}_user_name": "operator" for prefix in ("awx", "tower")},
        }
        (job / "env" / "extravars").write_text(json.dumps(handed), encoding="utf-8")
        (job / "env" / "injected").write_text(json.dumps({"nexus_login_password": self.password}), encoding="utf-8")
        (job / "env" / "cmdline").write_text(
            " ".join(["-u", "root", "-e", f"@{job}/env/injected", *arguments]), encoding="utf-8"
        )
        (job / "env" / "envvars").write_text(json.dumps(self.environment(job)), encoding="utf-8")
        kept = ("PATH", "USER")
        argv = ["ansible-runner", "run", job, "-p", f"playbooks/{playbook}.yml", "-i", "this"]
        environment = {**{key: value for key, value in os.environ.items() if key in kept}, "LC_ALL": "C.UTF-8"}
        if cancel is None:
            code = on_screen(argv, env=environment, timeout=300).returncode
        else:
            code = cancelled(argv, environment, cancel)
        launched = Job(self.folder / f"artifacts_{number}", code)
        # AWX keeps only the job's artifacts and events, and deletes the job's container.
        (job / "artifacts" / "this").rename(launched.folder)
        shutil.rmtree(job)
        if cancel is None:
            assert_as_documented(launched.artifacts)
            self.artifacts.update(launched.artifacts)
        self.launched.append(launched)
        return launched

    def environment(self, job: Path) -> dict[str, str]:
        """Return a job's environment variables as AWX's RunJob.build_env sets them."""
        ours = dict(
            line.split(" = ", 1)
            for line in (self.project / "ansible.cfg").read_text("utf-8").splitlines()
            if " = " in line
        )
        default = "~/.ansible/collections:/usr/share/ansible/collections"
        return {
            "HOME": str(job / "home"),
            "JOB_ID": job.name.split("_")[-1],
            "INVENTORY_ID": "1",
            "PROJECT_REVISION": "0" * 40,
            "AWX_HOST": "https://awx.example.com",
            "MAX_EVENT_RES": "700000",
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(job / "cp"),
            "ANSIBLE_COLLECTIONS_PATH": f"{job}/requirements_collections:{ours['collections_path']}:{default}",
            "ANSIBLE_ROLES_PATH": f"{job}/requirements_roles:~/.ansible/roles:/etc/ansible/roles",
            "ANSIBLE_CALLBACK_PLUGINS": f"{job}/plugins_path:~/.ansible/plugins:/usr/share/ansible/plugins/callback",
            "ANSIBLE_CALLBACKS_ENABLED": f"indirect_instance_count,{ours['callbacks_enabled']}",
            "ITSM_NEXUS_GITHUB_TOKEN": TOKEN,
        }

    def inventory(self) -> dict[str, Any]:
        variables = {
            **self.service.variables(),
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "verification_stability_count": 1,
            "verification_deadline": 3,
        }
        del variables["nexus_login_password"]
        return {
            "all": {"children": ["itsm_nexus"]},
            "itsm_nexus": {"hosts": [HOST]},
            "_meta": {"hostvars": {HOST: variables}},
        }


def cancelled(argv: list[Any], environment: dict[str, str], when: Callable[[], bool]) -> int:
    """Run a job and cancel it. As in AWX, all processes in the job's container are killed at the same time."""
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while not when():
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        mine = [run.pid]
        for pid in mine:
            # A process may exit after it was listed.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                mine += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
        for pid in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return run.wait(30)


@pytest.fixture
def awx(service: Service, tmp_path: Path) -> Awx:
    folder = tmp_path / "awx"
    folder.mkdir()
    # AWX chooses the name of the folder, so the collection must not depend on it.
    return Awx(service, checkout(tmp_path / "_7__runbook"), folder)


def assert_complete(job: Job) -> None:
    """Assert that no event is missing, and that every task that began on a host also ended there."""
    events = job.events
    assert [event["counter"] for event in events] == list(range(1, len(events) + 1))
    # Events that are not part of the playbook, such as warnings, may precede or follow the playbook's events.
    of_playbook = [event["event"] for event in events if event["event"].startswith("playbook_on_")]
    assert (of_playbook[0], of_playbook[-1]) == ("playbook_on_start", "playbook_on_stats")
    ends = ("runner_on_ok", "runner_on_failed", "runner_on_skipped", "runner_on_unreachable")
    begun, ended = (
        {(event["event_data"]["task_uuid"], event["event_data"]["host"]) for event in events if event["event"] in kinds}
        for kinds in (("runner_on_start",), ends)
    )
    assert begun and not begun - ended


def test_every_playbook_runs_as_a_job_of_awx_and_leaves_its_outcome(awx: Awx) -> None:
    service = awx.service
    healthy = awx.launch("outage_detect")
    assert (healthy.rc, healthy.artifacts["outage_detect"][HOST]["severity"]) == (0, "none")

    # During a maintenance window, outage_recover.yml changes nothing.
    until = {"outage_maintenance_until": "+2h", "outage_maintenance_reason": "Release 4.2"}
    assert awx.launch("outage_maintenance", outage_maintenance_state="present", **until).rc == 0
    service.kill()
    survey = {"outage_recover_reason": "The phone rang", "outage_recover_ticket": "INC-4711"}
    refused = awx.launch("outage_recover", outage_recover_highest_rung="clean_start_recovery", **survey)
    assert refused.rc != 0 and "Release 4.2" in awx.screen(refused) and not service.pids()
    assert awx.launch("outage_maintenance", outage_maintenance_state="absent", **until).rc == 0

    # The workflow steps are detect (which fails), triage, restart, verify and postmortem.
    down = awx.launch("outage_detect")
    assert (down.rc != 0, down.artifacts["outage_detect"][HOST]["severity"]) == (True, "emergency")
    workflow = {"outage_recover_continued": True, **survey}
    triage = awx.launch("outage_triage", **workflow)
    assert triage.rc == 0 and triage.artifacts["outage_triage"][HOST]["findings"]
    restart = awx.launch("outage_restart", outage_recover_highest_rung="restart", **workflow)
    outcome = restart.artifacts["outage_recover"][HOST]
    assert (restart.rc, outcome["outcome"], outcome["rung"]) == (0, "recovered", "restart")
    assert (outcome["reason"], outcome["ticket"], outcome["halted"]) == ("The phone rang", "INC-4711", "")
    verified = awx.launch("outage_verify", **workflow)
    assert (verified.rc, verified.artifacts["outage_verify"][HOST]["verified"]) == (0, True)
    assert awx.launch("outage_postmortem", **workflow).rc == 0

    # The container has been deleted. The postmortem is on the host, and the artifacts contain its path.
    kept = sorted(path.name for path in (service.state / "postmortems").iterdir())
    assert {f"{outcome['incident']}{suffix}" for suffix in (".md", ".json", ".html")} <= set(kept)
    told = json.loads((service.state / "postmortems" / f"{outcome['incident']}.json").read_text("utf-8"))
    assert (told["outcome"], told["rung"]) == ("recovered", "restart") and told["steps"] and told["source"] == "verdict"
    assert restart.artifacts["outage_postmortem"][HOST]["on_host"] == str(service.state / "postmortems")
    # The summary shows the path on the host and the artifacts, but not the path in the deleted container.
    end = " ".join("".join(event["stdout"] for event in restart.events).split())
    end = end[end.index("OUTAGE SUMMARY") :]
    place = service.state / "postmortems" / f"{outcome['incident']}.md"
    assert f"postmortem on {HOST}: {place} in the artifacts of this job: outage_postmortem" in end
    assert str(restart.folder) not in end

    # If the service is healthy, the other playbooks do nothing.
    for playbook in ("outage_standard_recovery", "outage_clean_start"):
        pids = service.pids()
        assert (awx.launch(playbook, **survey).rc, service.pids()) == (0, pids)
    checked = awx.launch("database_recover", "--check", database_recovery_method="auto", **survey)
    assert checked.rc == 0

    secrets = [awx.password, service.environment()["JWT_SECRET"], TOKEN]
    for job in awx.launched:
        assert_complete(job)
        assert not [secret for secret in secrets if secret in awx.all_text(job.folder)]
    assert not [secret for secret in secrets if secret in awx.all_text(service.state)]


def test_the_playbooks_for_preparation_publish_the_documented_variables(awx: Awx) -> None:
    """Every job's artifacts are compared with docs/published-schema.json."""
    for playbook in ("outage_backup", "outage_restore_drill", "outage_ready", "outage_discover"):
        assert set(awx.launch(playbook).artifacts) == {playbook}
    assert awx.artifacts["outage_backup"][HOST]["backup"]["verified"]


def test_a_workflow_that_does_not_recover_ends_in_escalation(awx: Awx) -> None:
    service = awx.service
    service.kill()
    server = service.app / "backend" / "server.js"
    code = server.read_text("utf-8")
    server.write_text("process.exit(3)\n", encoding="utf-8")
    workflow = {
        "outage_recover_continued": True,
        "outage_recover_reason": "A test",
        "outage_recover_highest_rung": "restart",
    }

    restart = awx.launch("outage_restart", **workflow)
    outcome = restart.artifacts["outage_recover"][HOST]
    assert (restart.rc != 0, outcome["outcome"], outcome["halted"]) == (True, "not_recovered", "")
    assert [tried["rung"] for tried in outcome["rungs_tried"]] == ["restart"]
    # No contact is notified yet, because a later step may still end the outage.
    assert outcome["escalation"]["to"] == []
    # Rungs above the highest allowed rung are not tried, and no approval is requested for them.
    gate = awx.launch("outage_triage", outage_triage_rung="clean_start_recovery", **workflow)
    reason = "clean_start_recovery cannot help: The highest allowed rung is restart"
    assert gate.rc != 0 and f"STOPPED: {HOST}, {reason}" in " ".join(awx.screen(gate).split())
    end = awx.launch("outage_escalate", **workflow)
    last = end.artifacts["outage_recover"][HOST]
    assert (end.rc != 0, last["outcome"], last["incident"]) == (True, "not_recovered", outcome["incident"])
    assert last["escalation"]["to"] and not service.pids()

    # A person fixes the service. Later steps do nothing, because an earlier workflow step has halted the recovery.
    server.write_text(code, encoding="utf-8")
    service.start()
    pids = service.pids()
    awx.artifacts["outage_recover"] = {HOST: {"halted": "Rows are missing.", "data_loss": "suspected"}}
    for playbook in ("outage_standard_recovery", "outage_escalate"):
        halted = awx.launch(playbook, outage_recover_reason="A test", outage_recover_continued=True)
        outcome = halted.artifacts["outage_recover"][HOST]
        assert (halted.rc != 0, outcome["outcome"], outcome["halted"]) == (True, "not_recovered", "Rows are missing.")
        assert outcome["data_loss"] == "suspected" and "DBA" in outcome["escalation"]["to"]
        assert service.pids() == pids


def test_an_approver_learns_what_to_approve(awx: Awx) -> None:
    awx.service.kill()
    data = awx_server.described()
    (node,) = (each for each in data["awx_workflow_nodes"] if each["identifier"] == "triage_again")
    (template,) = (each for each in data["awx_job_templates"] if each["name"] == node["template"])
    job = awx.launch(
        template["playbook"],
        outage_recover_reason="The phone rang",
        outage_recover_ticket="INC-4711",
        postmortem_language="ja",
        **template["extra_vars"],
    )
    assert job.rc == 0
    (mail,) = (each for each in data["awx_notification_templates"] if each["name"] in data["awx_notify_approvers"])
    text = awx_server.rendered(mail["messages"]["success"]["body"], approval=False, artifacts=job.artifacts)
    known = (
        "itsm-system",
        HOST,
        "The phone rang",
        "INC-4711",
        "WAL",
        "https://awx.example.com/#/jobs/playbook/1/output",
    )
    assert "承認または却下" in text and not [each for each in known if each not in text]
    assert job.artifacts["outage_approval"][HOST]["cause"]
    assert len(text.splitlines()) == 7 and "\\n" not in text


def test_a_cancelled_job_and_a_closing_job_leave_one_complete_document(awx: Awx) -> None:
    service = awx.service
    service.kill()
    server = service.app / "backend" / "server.js"
    code = server.read_text("utf-8")
    server.write_text("setTimeout(() => {}, 60000)\n", encoding="utf-8")
    record = service.state / "incident.json"

    def started() -> bool:
        return record.exists() and bool(json.loads(record.read_text("utf-8"))["starts"])

    address = {"outage_recover_awx_url": "https://awx.internal.example.com"}
    awx.launch("outage_recover", cancel=started, outage_recover_reason="The phone rang", **address)
    incident = json.loads(record.read_text("utf-8"))["id"]
    documents = service.state / "postmortems"
    assert not documents.exists()
    # The timeline on the host is private and does not contain secrets.
    (timeline,) = (service.state / "timelines").iterdir()
    assert stat.S_IMODE(timeline.stat().st_mode) == 0o600

    # A person fixes the service. The next job has an empty home folder.
    service.kill()
    server.write_text(code, encoding="utf-8")
    service.start()
    # Simulate a long time: the cancelled job started the service long ago, and the job's lease has expired.
    begun = json.loads(record.read_text("utf-8"))
    begun["starts"][0]["at"] = timestamps.iso(time.time() - 600)
    record.write_text(json.dumps(begun), encoding="utf-8")
    lease = Path(host_lease.Seat(state_dir=str(service.state)).folder) / "lease.json"
    lease.write_text(json.dumps({**json.loads(lease.read_text("utf-8")), "ends": 0}), encoding="utf-8")
    closing = awx.launch("outage_recover", outage_recover_reason="A check")
    assert closing.rc == 0
    outcome = closing.artifacts["outage_recover"][HOST]
    assert (outcome["incident"], outcome["outcome"]) == (incident, "resolved_manually")
    told = json.loads((documents / f"{incident}.json").read_text("utf-8"))
    assert told["outcome"] == "resolved_manually" and len(told["runs"]) == 2
    # The document contains the steps of the cancelled job, up to the step at which it was cancelled.
    first = told["runs"][0]["run"]
    actions = {step["action"] for step in told["steps"] if step["run"] == first}
    assert {"itsm_nexus.runbook.health_probe", "itsm_nexus.runbook.incident"} <= actions
    # The job was cancelled during the first response, so the result of the restart is unknown.
    assert [(rung["rung"], rung["held"]) for rung in told["rungs_tried"]] == [("restart", None)]
    # The template of the first job sets an address. The second job uses the address in AWX's settings.
    assert [run["job"] for run in told["runs"]] == [
        "https://awx.internal.example.com/#/jobs/playbook/1/output",
        "https://awx.example.com/#/jobs/playbook/2/output",
    ]
    # The artifact contains the same document.
    place = closing.artifacts["outage_postmortem"][HOST]
    assert (place["on_host"], place["unpublished"]) == (str(documents), [])
    assert place["text"] == (documents / f"{incident}.md").read_text("utf-8")
    assert not [run["job"] for run in told["runs"] if run["job"] not in place["text"]]
    assert_complete(closing)
    secrets = [awx.password, service.environment()["JWT_SECRET"], TOKEN]
    for folder in (service.state, closing.folder):
        assert not [secret for secret in secrets if secret in awx.all_text(folder)]
