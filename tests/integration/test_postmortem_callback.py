# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The callback in real runs of ansible-playbook. The modules return results that the test chooses."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
import yaml
from github_api import TOKEN, Api

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANSIBLE = os.environ.get("ITSM_NEXUS_TEST_ANSIBLE_PLAYBOOK") or str(
    pathlib.Path(sys.executable).parent / "ansible-playbook"
)

# Replaces the real module of the same name. Returns the value of the option "answer" as the result.
ANSWERING_MODULE = """\
from ansible.module_utils.basic import AnsibleModule
import time
module = AnsibleModule(
    argument_spec=dict(answer=dict(type="dict", default={}), fail=dict(type="str"), sleep=dict(type="float", default=0),
                       secret=dict(type="str", no_log=True), plain=dict(type="str"), crash=dict(type="str")),
    supports_check_mode=True,
)
time.sleep(module.params["sleep"])
if module.params["crash"]:
    raise ValueError(module.params["crash"])
if module.params["fail"]:
    module.fail_json(msg=module.params["fail"], **module.params["answer"])
module.exit_json(**module.params["answer"])
"""

# Two stdout callbacks. The "quiet" callback prints nothing, so every line on the screen is from our callback. The
# "json" callback prints JSON for programs.
STDOUT = """\
DOCUMENTATION = "name: NAME\\ntype: stdout\\nshort_description: Almost silent\\ndescription: [It is.]\\n"
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "itsm_nexus.runbook.NAME"
    def v2_playbook_on_stats(self, stats):
        SAY
"""
SAYING = {"quiet": "pass", "json": "print('{\"hosts\":', len(stats.processed), '}')"}

DOWN = {
    "healthy": False,
    "severity": "emergency",
    "consecutive_failures": 1,
    "process": {"state": "gone", "pids": []},
    "endpoints": [{"name": "https", "ok": False, "error": "connection refused"}],
    "first_failure_at": "2026-03-02T01:00:10.000Z",
    "last_success_at": "2026-03-02T01:00:00.000Z",
}
UP = {"healthy": True, "severity": "none", "attempts": 2, "first_healthy_at": "2026-03-02T01:00:20.000Z"}
FINDINGS = {
    "findings": [
        {
            "cause": "killed",
            "confidence": 0.9,
            "summary": "The process was killed with signal 9.",
            "evidence": [{"source": "systemctl", "text": "Result=signal"}],
            "remedy": "Find out who sent the signal",
        }
    ],
    "bundle": "/var/lib/itsm-runbook/evidence/INC-1",
    "row_counts": {"users": 3},
}
OUTCOME = {
    "incident": "INC-1",
    "host": "node1",
    "severity": "emergency",
    "outcome": "recovered",
    "cause": "killed",
    "cause_summary": "The process was killed with signal 9.",
    "rung": "restart",
    "rungs_tried": [{"rung": "restart", "held": True, "halted": False, "reason": "", "seconds": 2.5}],
    "outage_seconds": 10.0,
    "outage_started_at": "2026-03-02T01:00:10.000Z",
    "detected_at": "2026-03-02T01:00:12.000Z",
    "mitigated_at": "2026-03-02T01:00:20.000Z",
    "resolved_at": "2026-03-02T01:00:30.000Z",
    "data_loss": "none",
    "rows_before": {"users": 3},
    "rows_after": {"users": 3},
    "escalation": {"level": "log", "to": [], "notified": [], "reason": "a restart was enough"},
    "evidence": "/var/lib/itsm-runbook/evidence/INC-1",
}


def own(module, answer=None, **options):
    return {f"itsm_nexus.runbook.{module}": {"answer": answer or {}, **options}}


def publish(outcome):
    data = {"outage_recover": "{{ {inventory_hostname: published} }}"}
    return {
        "ansible.builtin.set_stats": {"per_host": False, "aggregate": True, "data": data},
        "vars": {"published": outcome},
    }


OPEN = {"name": "Open the incident", **own("incident", {"id": "INC-1", "opened_at": "2026-03-02T01:00:12.000Z"})}
LOOK = {"name": "Probe", **own("health_probe", DOWN)}
RECOVERY = [
    LOOK,
    OPEN,
    {"name": "Triage", **own("triage_info", FINDINGS)},
    {"ansible.builtin.include_role": {"name": "itsm_nexus.runbook.restart"}},
    {"name": "Publish", **publish(OUTCOME)},
]


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """Create a collection with our collection's name and callback, and with modules that return given results.

    Returns the folder that contains ansible_collections.
    """
    root = tmp_path_factory.mktemp("collections")
    target = root / "ansible_collections" / "itsm_nexus" / "runbook"
    target.mkdir(parents=True)
    shutil.copy(ROOT / "galaxy.yml", target)
    for part in ("action", "callback", "doc_fragments", "filter", "plugin_utils", "module_utils"):
        shutil.copytree(
            ROOT / "plugins" / part, target / "plugins" / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    modules = target / "plugins" / "modules"
    modules.mkdir()
    for name in ("postmortem_render", "postmortem_issue", "postmortem_archive"):
        shutil.copy(ROOT / "plugins" / "modules" / f"{name}.py", modules)
    for name in ("health_probe", "incident", "impact_info", "triage_info", "node_process", "npm_ci"):
        (modules / f"{name}.py").write_text(ANSWERING_MODULE)
    for name, say in SAYING.items():
        (target / "plugins" / "callback" / f"{name}.py").write_text(STDOUT.replace("NAME", name).replace("SAY", say))
    inner = {"ansible.builtin.include_role": {"name": "itsm_nexus.runbook.nexus", "tasks_from": "process"}}
    roles = {
        ("restart", "main"): [inner],
        ("nexus", "process"): [
            {
                "name": "Restart the process",
                **own("node_process", {"changed": True, "pids_before": [], "pids_after": [4321], "state": "restarted"}),
            }
        ],
    }
    # Copy the postmortem role without its dependency, which is a role that checks the service's variables.
    shutil.copytree(ROOT / "roles" / "postmortem", target / "roles" / "postmortem")
    (target / "roles" / "postmortem" / "meta" / "main.yml").unlink()
    for (role, file), tasks in roles.items():
        folder = target / "roles" / role / "tasks"
        folder.mkdir(parents=True)
        (folder / f"{file}.yml").write_text(yaml.safe_dump(tasks))
    return root


class Controller:
    """Runs playbooks in a separate folder."""

    def __init__(self, folder, collections):
        self.folder = folder
        self.postmortems = folder / "state" / "postmortems"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CALLBACKS_ENABLED": "itsm_nexus.runbook.postmortem",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ITSM_NEXUS_POSTMORTEM_DIR": str(self.postmortems),
        }
        (folder / "hosts.yml").write_text("all: {hosts: {node1: {ansible_connection: local}}}\n")
        (folder / "ansible.cfg").write_text("[defaults]\n")

    def playbook(self, name, tasks, **keys):
        play = {"name": "Recover", "hosts": "all", "gather_facts": False, "tasks": tasks, **keys}
        (self.folder / name).write_text(yaml.safe_dump([play], sort_keys=False))
        return name

    def start(self, *arguments, apart=False):
        return subprocess.Popen(
            [ANSIBLE, "-i", "hosts.yml", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def files(self, pattern="*"):
        return sorted(self.postmortems.glob(pattern))

    def events(self):
        return [json.loads(line) for path in self.files("*.jsonl") for line in path.read_text().splitlines()]

    def everything(self):
        return "".join(path.read_text() for path in self.files())


@pytest.fixture
def controller(tmp_path, collection):
    return Controller(tmp_path, collection)


def test_recovery_is_recorded_and_shown(controller):
    rc, output = controller.run(controller.playbook("recover.yml", RECOVERY))
    assert rc == 0, output
    assert "postmortem is incomplete" not in output
    assert {path.name for path in controller.files()} >= {"INC-1.md", "INC-1.json", "INC-1.html", "index.html"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in controller.files()] == [0o600] * 5
    assert stat.S_IMODE(controller.postmortems.stat().st_mode) == 0o700

    events = controller.events()
    assert [event["kind"] for event in events if event["kind"] != "started"] == [
        "run_start",
        "play_start",
        *["task"] * 6,
        "outcome",
        "stats",
    ]
    process = next(event for event in events if event.get("task") == "Restart the process" and event["kind"] == "task")
    assert (process["role"], process["action"]) == ("restart", "itsm_nexus.runbook.node_process")
    assert process["status"] == "changed"
    assert process["data"]["pids_after"] == [4321]
    assert 0 < process["duration"] < 30

    document = (controller.postmortems / "INC-1.md").read_text()
    for part in ("RECOVERED", "killed", "restart", "10 s", "Result=signal", "4321"):
        assert part in document
    model = json.loads((controller.postmortems / "INC-1.json").read_text())
    assert (model["outcome"], model["source"], model["rung"]) == ("recovered", "verdict", "restart")
    summary = output[output.index("OUTAGE SUMMARY") :]
    assert output.index("PLAY RECAP") < output.index("OUTAGE SUMMARY")
    for part in ("RECOVERED: node1", "killed", "restart succeeded", "10 s", "3 in 1 table before", "INC-1.md"):
        assert part in summary


def test_a_healthy_run_and_a_foreign_playbook_write_nothing(controller):
    healthy = controller.playbook("healthy.yml", [{"name": "Probe", **own("health_probe", UP)}])
    foreign = controller.playbook("foreign.yml", [{"ansible.builtin.ping": None}])
    rc, output = controller.run(healthy, foreign)
    assert rc == 0, output
    assert not controller.postmortems.exists()
    assert output.count("HEALTHY: node1, this run did not change the service") == 1
    assert "OUTAGE" not in output


def test_triage_alone_ends_with_its_findings(controller):
    tasks = [LOOK, {"name": "End", "ansible.builtin.fail": {"msg": "{{ 1 }}"}}]
    rc, output = controller.run(
        controller.playbook("triage.yml", [{"name": "Triage", **own("triage_info", FINDINGS)}]),
        controller.playbook("detect.yml", tasks),
    )
    assert rc == 2, output
    assert "CAUSE: node1, killed (confidence 90%): The process was killed with signal 9; evidence on the host: /" in (
        output
    )
    assert "DOWN: node1, emergency: https: connection refused; this run did not change the service" in output
    assert not controller.postmortems.exists()


def test_check_mode_writes_nothing_and_says_so(controller):
    would = {**OUTCOME, "outcome": "would_recover"}
    rc, output = controller.run("--check", controller.playbook("recover.yml", [*RECOVERY[:-1], publish(would)]))
    assert rc == 0, output
    assert not controller.postmortems.exists()
    assert "WOULD TRY TO RECOVER" in output


def test_no_kind_of_secret_is_written(controller):
    secret = {key: f"CANARY{number}" for number, key in enumerate("abcdefgh")}
    tasks = [
        {"name": "Probe {{ secret.a }}", **own("health_probe", DOWN, secret="{{ secret.b }}", plain="{{ secret.c }}")},
        OPEN,
        {
            "name": "Answer {{ secret.a }}",
            **own("triage_info", {**FINDINGS, "facts": "{{ secret.d }}", "extra": "{{ secret.d }}"}),
        },
        {"name": "Hidden", "no_log": True, **own("npm_ci", {"reasons": ["{{ secret.b }}"], "needed": True})},
        {
            "name": "Hidden by template",
            "no_log": "{{ hide }}",
            "loop": ["{{ secret.e }}"],
            **own("npm_ci", {"reasons": ["{{ item }}"]}),
        },
        {
            "name": "Loop {{ item | default('') }}",
            "loop": ["{{ secret.e }}", "x"],
            "ansible.builtin.command": "echo {{ item }}",
        },
        {
            "block": [
                {"name": "Fail with it", "ansible.builtin.fail": {"msg": "Constant words, and {{ secret.f }}"}},
            ],
            "rescue": [
                {
                    "ansible.builtin.assert": {"that": ["secret.f == 'x'"], "fail_msg": "{{ secret.f }}"},
                    "ignore_errors": True,
                },
                {
                    "name": "Not even begun",
                    "ignore_errors": True,
                    **own(
                        "npm_ci", {}, plain="{{ secret.g | mandatory(secret.g) | extract({}) | mandatory(secret.g) }}"
                    ),
                },
                {"name": "Crash", "ignore_errors": True, **own("npm_ci", {}, crash="{{ secret.g }}")},
                {
                    "name": "Hidden failure",
                    "no_log": True,
                    "ignore_errors": True,
                    **own("npm_ci", {"reasons": ["{{ secret.b }}"]}, fail="{{ secret.b }}"),
                },
                {
                    "name": "Logged password",
                    "ignore_errors": True,
                    **own("npm_ci", fail="npm said: DB_PASSWORD={{ secret.h }} is wrong"),
                },
            ],
        },
        {"name": "Slow {{ secret.a }}", **own("npm_ci", {}, sleep=0.6)},
        {"name": "Publish", **publish({**OUTCOME, "surplus": "{{ secret.d }}"})},
    ]
    playbook = controller.playbook("recover.yml", tasks, vars={"secret": secret, "hide": True})
    # Ansible's own output may contain a task's secrets. The silent callback hides it, so only our callback prints.
    controller.environment.update(
        ANSIBLE_STDOUT_CALLBACK="itsm_nexus.runbook.quiet", ITSM_NEXUS_POSTMORTEM_PROGRESS="0.05"
    )
    rc, output = controller.run(playbook)
    assert rc == 0, output
    assert "postmortem is incomplete" not in output
    assert "CANARY" not in controller.everything()
    assert "CANARY" not in output
    assert "OUTAGE SUMMARY" in output and "... " in output
    events = {event.get("task"): event for event in controller.events() if event["kind"] == "task"}
    assert events["Fail with it"]["msg"] == "Constant words, and …"
    assert "npm said" in events["Logged password"]["msg"]
    assert events["Not even begun"]["msg"] is None
    assert events["Crash"]["msg"] is None
    assert events["Hidden"]["hidden"] and "data" not in events["Hidden"]
    assert "Probe …" in events


def test_a_killed_controller_leaves_a_timeline_and_the_next_run_reports_both(controller):
    hang = {"name": "Rebuild the modules", **own("npm_ci", {}, sleep=30)}
    process = controller.start(controller.playbook("killed.yml", [*RECOVERY[:3], hang]))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and "Rebuild the modules" not in controller.everything():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with open(controller.files("*.jsonl")[0], "a") as torn:
        torn.write('{"v":1,"at":"2026-')
    assert not controller.files("*.md")

    render = str(ROOT / "playbooks" / "outage_postmortem.yml")
    rc, output = controller.run("--check", render)
    assert rc == 0, output
    assert not controller.files("*.md")
    # The documents contain the contacts and addresses of the site, so Ansible shows their text only with --diff.
    assert not any(line.startswith("+") for line in output.splitlines())
    rc, output = controller.run("--check", "--diff", render)
    assert any(line.startswith("+") for line in output.splitlines())
    # The timeline is about node1, so a run that is limited to another host writes no documents.
    rc, output = controller.run("-i", "node2,", render, "--limit", "node2")
    assert rc == 0 and "changed=0" in output and not controller.files("*.md"), output
    rc, output = controller.run(render, "--limit", "node1")
    assert rc == 0, output
    assert "changed=1" in output
    assert json.loads((controller.postmortems / "INC-1.json").read_text())["outcome"] == "unfinished"

    rc, output = controller.run(controller.playbook("recover.yml", RECOVERY))
    assert rc == 0, output
    assert "postmortem is incomplete" not in output
    model = json.loads((controller.postmortems / "INC-1.json").read_text())
    assert [run["complete"] for run in model["runs"]] == [False, True]
    assert model["runs"][0]["last_task"] == "Rebuild the modules"
    assert "ended early" in (controller.postmortems / "INC-1.md").read_text()

    rc, output = controller.run(render, "-e", "postmortem_incident=INC-1")
    assert rc == 0, output
    assert "changed=0" in output
    rc, output = controller.run(render)
    assert rc == 0 and "has its postmortem" in output, output
    # Add the timeline of a killed run. The documents do not include this run yet.
    later = json.loads(controller.files("*.jsonl")[0].read_text().splitlines()[0])["run"]
    text = controller.files("*.jsonl")[0].read_text().replace(later, "20990101T000000Z-abcdef")
    (controller.postmortems / "20990101T000000Z-abcdef.jsonl").write_text(text)
    rc, output = controller.run(render)
    assert rc == 0 and "changed=1" in output, output
    assert len(json.loads((controller.postmortems / "INC-1.json").read_text())["runs"]) == 3
    rc, output = controller.run(render, "-e", "postmortem_incident=INC-2")
    assert rc == 2
    assert "No timeline in" in output and "INC-2" in output


def test_free_strategy_many_hosts_and_an_unreachable_one(controller):
    hosts = {f"node{number}": {"ansible_connection": "local"} for number in range(4)}
    hosts["gone"] = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o BatchMode=yes"}
    (controller.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    opening = {"name": "Open", **own("incident", {"id": "INC-{{ inventory_hostname }}"})}
    outcome = {
        **OUTCOME,
        "outcome": "not_recovered",
        "next_step": "Call the DBA",
        "data_loss": "suspected",
        "rung": None,
    }
    tasks = [LOOK, {"name": "Say hello", "ansible.builtin.ping": {}}, opening, {"name": "Publish", **publish(outcome)}]
    rc, output = controller.run("-f", "10", controller.playbook("recover.yml", tasks, strategy="free"))
    assert rc == 4, output
    assert len(controller.files("INC-node?.md")) == 4
    assert "postmortem is incomplete" not in output
    for number in range(4):
        assert f"NOT RECOVERED: node{number}" in output
    assert output.count("next step   Call the DBA.") == 4
    assert {event["host"] for event in controller.events() if event["kind"] == "unreachable"} == {"gone"}
    # The first failure is reported, although later tasks failed for the same reason.
    assert "UNREACHABLE: gone, the host cannot be reached: Failed to connect to the host via ssh" in output


def test_an_unwritable_folder_is_reported_and_does_not_stop_the_run(controller):
    controller.postmortems.parent.mkdir()
    controller.postmortems.write_text("a file in the way")
    rc, output = controller.run(controller.playbook("recover.yml", RECOVERY))
    assert rc == 0, output
    assert "The postmortem is incomplete" in output
    assert "Cannot write the postmortem" in " ".join(output.split())
    assert "RECOVERED: node1" in output
    assert "not written" in output


# The tasks in a playbook. RECORDED lists the events that every strategy must record for these tasks on one host, even
# in check mode.
MATRIX = [
    {"name": "Told at once", **own("health_probe", DOWN)},
    OPEN,
    {"name": "Turn by turn", "loop": ["one", "two"], **own("npm_ci", {"needed": True, "reasons": ["{{ item }}"]})},
    {"name": "Passed over", "when": "inventory_hostname == 'nobody'", **own("npm_ci")},
    {
        "block": [{"name": "Broken", **own("npm_ci", fail="npm said no")}],
        "rescue": [{"name": "Mended", **own("npm_ci", {"changed": True, "swapped": True})}],
        "always": [{"name": "Forgiven", "ignore_errors": True, **own("npm_ci", fail="again no")}],
    },
    {"name": "By another", "delegate_to": "localhost", **own("node_process", {"state": "started"})},
    {
        "name": "At the third go",
        "register": "went",
        "until": "went is not failed",
        "retries": 1,
        "delay": 0,
        "ignore_errors": True,
        **own("node_process", fail="not yet"),
    },
    {"name": "Publish", **publish(OUTCOME)},
]
RECORDED = [
    ("task", "Told at once", "ok"),
    ("task", "Open the incident", "ok"),
    ("task", "Turn by turn", "ok"),
    ("task", "Turn by turn", "ok"),
    ("task", "Broken", "failed"),
    ("task", "Mended", "changed"),
    ("task", "Forgiven", "ignored"),
    ("task", "By another", "ok"),
    ("retry", "At the third go", None),
    ("task", "At the third go", "ignored"),
    ("outcome", None, None),
]


@pytest.mark.parametrize("strategy", ["linear", "free", "ansible.builtin.host_pinned"])
def test_every_strategy_records_the_same_events(controller, strategy):
    hosts = [f"node{number}" for number in range(3)]
    inventory = {"all": {"hosts": {host: {"ansible_connection": "local"} for host in hosts}}}
    (controller.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    tasks = [
        {**each, **own("incident", {"id": "INC-{{ inventory_hostname }}"})} if each is OPEN else each for each in MATRIX
    ]
    rc, output = controller.run("-f", "10", controller.playbook("recover.yml", tasks, strategy=strategy))
    assert rc == 0, output
    assert "postmortem is incomplete" not in output
    events = controller.events()
    for host in hosts:
        mine = [event for event in events if event.get("host") == host and event["kind"] != "started"]
        assert [(event["kind"], event.get("task"), event.get("status")) for event in mine] == RECORDED
        turns = [event["data"]["reasons"] for event in mine if event.get("task") == "Turn by turn"]
        assert turns == [["one"], ["two"]]
    assert {path.name for path in controller.files("INC-*.html")} == {f"INC-{host}.html" for host in hosts}
    index = (controller.postmortems / "index.html").read_text()
    assert all(f'href="INC-{host}.html"' in index for host in hosts)


def test_several_playbooks_in_one_command_are_several_runs(controller):
    playbooks = [controller.playbook(f"{name}.yml", RECOVERY) for name in ("first", "second")]
    rc, output = controller.run(*playbooks)
    assert rc == 0, output
    assert len(controller.files("*.jsonl")) == 2
    model = json.loads((controller.postmortems / "INC-1.json").read_text())
    assert [run["playbook"] for run in model["runs"]] == ["first.yml", "second.yml"]


def test_a_long_task_shows_its_progress(controller):
    controller.environment["ITSM_NEXUS_POSTMORTEM_PROGRESS"] = "0.3"
    # The steps of a recovery, and then a long task.
    tasks = [*RECOVERY, {"name": "Watch {{ 1 }} of it", **own("npm_ci", {}, sleep=2)}]
    process = controller.start(controller.playbook("slow.yml", tasks), apart=True)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output
    lines = [line for line in errors.splitlines() if line.startswith("... ")]
    of_it = [number for number, line in enumerate(lines) if "Watch … of it on node1" in line]
    assert of_it and of_it == list(range(of_it[0], len(lines))), lines
    assert "... " not in output


def test_a_short_task_shows_no_progress(controller):
    process = controller.start(controller.playbook("soon.yml", [LOOK]), apart=True)
    _output, errors = process.communicate(timeout=60)
    assert "... " not in errors


def test_output_for_a_program_is_unchanged(controller):
    controller.environment.update(
        ANSIBLE_STDOUT_CALLBACK="itsm_nexus.runbook.json", ITSM_NEXUS_POSTMORTEM_PROGRESS="0.2"
    )
    slow = {"name": "Slow", **own("npm_ci", {}, sleep=1)}
    process = controller.start(controller.playbook("recover.yml", [*RECOVERY, slow]), apart=True)
    output, errors = process.communicate(timeout=60)
    assert json.loads(output) == {"hosts": 1}
    assert "RECOVERED: node1" in errors and "... " in errors


def test_documents_and_summary_use_the_language_of_the_playbook_or_configuration(controller):
    told = {**OUTCOME, "language": "ja", "timezone": "Asia/Tokyo"}
    hosts = {"outage_summary": {"recovered": ["node1"], "healthy": ["node2"]}}
    summing = {"name": "Sum up", "ansible.builtin.set_stats": {"data": hosts, "per_host": False}}
    tasks = [*RECOVERY[:-1], {"name": "P", **publish(told)}, summing]
    rc, output = controller.run(controller.playbook("recover.yml", tasks))
    assert rc == 0, output
    assert "全2台" in output
    document = (controller.postmortems / "INC-1.md").read_text()
    assert "## 1. 発生日時" in document and "2026年03月02日 10:00:10" in document
    assert "復旧済み" in output
    assert '<html lang="ja">' in (controller.postmortems / "INC-1.html").read_text()
    assert '<html lang="ja">' in (controller.postmortems / "index.html").read_text()

    rc, output = controller.run(str(ROOT / "playbooks" / "outage_postmortem.yml"), "-e", "postmortem_incident=INC-1")
    assert rc == 0 and "changed=0" in output, output
    controller.environment["ITSM_NEXUS_POSTMORTEM_LANGUAGE"] = "ja"
    rc, output = controller.run(controller.playbook("healthy.yml", [{"name": "Probe", **own("health_probe", UP)}]))
    assert "\u6b63\u5e38\uff1anode1" in output


IMPACT = {"users": 12, "requests": 40, "requests_failed": 9, "requests_from": "/var/log/access.log"}
CLOSED = {
    "id": "INC-1",
    "opened_at": "2026-03-02T01:00:12.000Z",
    "closed_at": "2026-03-02T01:00:30.000Z",
    "outage_started_at": "2026-03-02T01:00:10.000Z",
}
# Replaces a module that the role calls. The replacement accepts the options and returns a fixed result.
PLAIN_MODULE = """\
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec=dict.fromkeys(
    (
        *("state", "state_dir", "run", "outcome", "notified", "path", "user", "query", "access_log", "start", "end"),
        *("access_log_patterns", "known_timelines", "timeline", "app_dir", "journal_unit", "time_budget", "login"),
    ),
    dict(type="raw")), supports_check_mode=True)
module.exit_json(**{answer})
"""


@pytest.fixture
def publishing(controller, collection, tmp_path):
    """Start a simulated GitHub API, and prepare a run of the role with modules that return the results of a recovery.

    Yields the controller, the API, the host's state folder and the playbook.
    """
    copy = tmp_path / "collections"
    shutil.copytree(collection, copy)
    modules = copy / "ansible_collections" / "itsm_nexus" / "runbook" / "plugins" / "modules"
    (modules / "incident.py").write_text(PLAIN_MODULE.replace("{answer}", repr(CLOSED)))
    (modules / "impact_info.py").write_text(PLAIN_MODULE.replace("{answer}", repr(IMPACT)))
    controller.environment.update(
        ANSIBLE_COLLECTIONS_PATH=str(copy), ITSM_NEXUS_GITHUB_TOKEN=TOKEN, ANSIBLE_STDOUT_CALLBACK="default"
    )
    state = tmp_path / "host"
    state.mkdir()
    old = state / "postmortems" / "INC-0.md"
    old.parent.mkdir()
    old.write_text("old")
    os.utime(old, (0, 0))
    with Api() as api:
        variables = {
            "nexus_state_dir": str(state),
            "nexus_database": "/app/itsm.db",
            "nexus_app_dir": "/app",
            "nexus_log_file": "/var/log/itsm.log",
            "nexus_log_patterns": ["logs/*.log"],
            "nexus_manager": "systemd",
            "nexus_unit": "itsm",
            "postmortem_github_repository": "o/r",
            "postmortem_github_api_url": api.url,
            "postmortem_github_patience": 0,
            "postmortem_run": "run-1",
            "postmortem_outcome": {**OUTCOME, "escalation": {**OUTCOME["escalation"], "notified_now": []}},
        }
        role = {"ansible.builtin.include_role": {"name": "itsm_nexus.runbook.postmortem"}}
        opening = {"name": "Open", "itsm_nexus.runbook.incident": {"state": "open"}}
        tasks = [LOOK, opening, RECOVERY[2], RECOVERY[3], role]
        yield controller, api, state, controller.playbook("recover.yml", tasks, vars=variables)
        api.shutdown()
        assert api.violations == []


def test_the_role_publishes_the_outcome(publishing):
    controller, api, state, playbook = publishing
    rc, output = controller.run(playbook, "-vvv")
    assert rc == 0, output
    assert "postmortem is incomplete" not in output
    assert TOKEN not in output and TOKEN not in controller.everything()
    (made,) = api.issues
    assert made["title"] == "Postmortem: node1, incident INC-1"
    assert [each["name"] for each in made["labels"]] == ["postmortem"]
    for told in (
        "**RECOVERED**",
        "12 users",
        "at least 9 of 40 requests logged in /var/log/access.log returned 5xx",
        "Closed | 2026-03-02T01:00:30.000Z",
    ):
        assert told in made["body"]
    assert "ended early" not in made["body"]
    assert sorted(path.name for path in (state / "postmortems").iterdir()) == ["INC-1.html", "INC-1.json", "INC-1.md"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state / "postmortems").iterdir()} == {0o600}
    # The published documents are identical to the final documents on the controller.
    for name in ("INC-1.md", "INC-1.html"):
        assert (state / "postmortems" / name).read_text() == (controller.postmortems / name).read_text()
    assert json.loads((state / "postmortems" / "INC-1.json").read_text())["impact"]["users"] == 12

    rc, output = controller.run(
        str(ROOT / "playbooks" / "outage_postmortem.yml"),
        *("-e", "postmortem_incident=INC-1", "-e", "postmortem_github_repository=o/r"),
        *("-e", f"postmortem_github_api_url={api.url}"),
    )
    assert rc == 0, output
    assert (len(api.issues), api.comments) == (1, {})


def test_an_issue_that_cannot_be_created_is_a_warning(publishing):
    controller, api, state, playbook = publishing
    api.troubles = [(None, 500, {})] * 9
    rc, output = controller.run(playbook)
    assert rc == 0, output
    assert "The postmortem was not published: 127.0.0.1 answered 500" in " ".join(output.split())
    assert "RECOVERED: node1" in output and "failed=0" in output
    assert (state / "postmortems" / "INC-1.md").exists() and (controller.postmortems / "INC-1.html").exists()


def test_a_host_without_a_copy_does_not_end_the_run(publishing):
    controller, api, state, playbook = publishing
    shutil.rmtree(state)
    state.write_text("a file in the way")
    rc, output = controller.run(playbook)
    assert rc == 0, output
    assert "The postmortem was not published completely" in output
    assert len(api.issues) == 1


class Dav(http.server.BaseHTTPRequestHandler):
    """A folder on a WebDAV server, with one user."""

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers.get("Authorization") == f"Basic {base64.b64encode(b'itsm:sesame').decode()}"
        if known:
            self.server.stored[self.path] = content
        self.send_response(201 if known else 401)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def dav():
    """Start a WebDAV server. Yields the server. Its `stored` attribute contains each document by path."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dav) as server:
        server.stored = {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_documents_are_copied_to_other_places(publishing, dav, tmp_path):
    controller, _api, state, playbook = publishing
    url = f"http://127.0.0.1:{dav.server_port}/itsm/"
    shared, remote = tmp_path / "shared" / "postmortems", tmp_path / "remote"
    places = [
        {"type": "directory", "path": str(shared), "mode": "0644", "url": "https://docs.example.com/itsm"},
        {"type": "directory", "path": str(remote), "host": "docs1"},
        {"type": "webdav", "url": url, "username": "itsm", "password": "sesame"},
        {"type": "webdav", "url": url, "username": "itsm", "password": "wrong-password"},
    ]
    rc, output = controller.run(playbook, "-vvv", "-e", json.dumps({"postmortem_destinations": places}))
    assert rc == 0, output
    names = ["INC-1.html", "INC-1.json", "INC-1.md"]
    assert sorted(path.name for path in shared.iterdir()) == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()} == {0o644}
    assert sorted(dav.stored) == [f"/itsm/{name}" for name in names]
    assert dav.stored["/itsm/INC-1.html"] == (shared / "INC-1.html").read_bytes()
    assert (shared / "INC-1.html").read_bytes() == (state / "postmortems" / "INC-1.html").read_bytes()
    end = " ".join(output[output.index("PLAY RECAP") :].split())
    assert f"https://docs.example.com/itsm/INC-1.html {url}INC-1.html {controller.postmortems}" in end
    # The host docs1 does not exist. The recovery has succeeded, although two copies failed.
    assert not remote.exists()
    assert f"docs1:{remote}/INC-1.html" not in end and "failed=0" in end and "RECOVERED: node1" in end
    told = " ".join(output.split())
    assert f"The postmortem was not copied to docs1:{remote}/INC-1.html: " in told
    assert "401" in told[told.index("not copied to") :]
    assert "sesame" not in output and "wrong-password" not in output
    # If a postmortem is written again, it is also copied again.
    shutil.rmtree(shared)
    again = str(ROOT / "playbooks" / "outage_postmortem.yml")
    rc, output = controller.run(
        *(again, "-e", "postmortem_incident=INC-1", "-e", json.dumps({"postmortem_destinations": places[:2]}))
    )
    assert rc == 0 and f"not copied to docs1:{remote}" in " ".join(output.split()), output
    assert sorted(path.name for path in shared.iterdir()) == names and not remote.exists()


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ({"type": "ftp"}, "value of type must be one of: directory, webdav, got: ftp"),
        ({"type": "webdav"}, "type is webdav but all of the following are missing: url"),
        ({"type": "directory", "host": "docs1"}, "type is directory but all of the following are missing: path"),
    ],
)
def test_an_incomplete_destination_is_named(controller, place, problem):
    role = {"name": "itsm_nexus.runbook.postmortem", "tasks_from": "validate"}
    known = {"nexus_log_file": "/l", "nexus_log_patterns": [], "nexus_manager": "systemd", "nexus_unit": "itsm"}
    playbook = controller.playbook("validate.yml", [{"ansible.builtin.include_role": role}], vars=known)
    rc, output = controller.run(playbook, "-e", json.dumps({"postmortem_destinations": [place]}))
    assert rc != 0 and problem in " ".join(output.split())


def test_check_mode_publishes_nothing(publishing):
    controller, api, state, playbook = publishing
    rc, output = controller.run(playbook, "--check")
    assert rc == 0, output
    assert (api.requests, controller.postmortems.exists()) == ([], False)
    assert [path.name for path in (state / "postmortems").iterdir()] == ["INC-0.md"]
