# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""awx_configure.yml succeeds on a server that validates requests as AWX 24.6.1 does."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator

import ansible
import pytest
import yaml
from awx_server import Awx, described, texts

from .conftest import on_screen

ROOT = Path(__file__).resolve().parents[2]
ORGANIZATION = "ITSM-Sec Nexus"

# This action plugin runs the real module in the task's process, so that no call starts a Python interpreter.
IN_PROCESS = """\
import contextlib, importlib, io, json
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        name = self._task.action.rsplit(".", 1)[-1]
        module = importlib.import_module("ansible_collections.awx.awx.plugins.modules." + name)
        screen = io.StringIO()
        with patch_module_args(dict(self._task.args)), contextlib.redirect_stdout(screen):
            with contextlib.suppress(SystemExit):
                module.main()
        return json.loads(screen.getvalue())
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collections folder with awx.awx, whose modules run in the task's process."""
    installed = Path(ansible.__file__).parents[1] / "ansible_collections" / "awx" / "awx"
    folder = tmp_path_factory.mktemp("collections")
    copy = folder / "ansible_collections" / "awx" / "awx"
    (copy / "plugins" / "action").mkdir(parents=True)
    for part in ("MANIFEST.json", "FILES.json", "meta"):
        (copy / part).symlink_to(installed / part)
    for part in ("modules", "module_utils", "lookup", "doc_fragments"):
        (copy / "plugins" / part).symlink_to(installed / "plugins" / part)
    for module in (installed / "plugins" / "modules").glob("*.py"):
        (copy / "plugins" / "action" / module.name).write_text(IN_PROCESS)
    return folder


@dataclasses.dataclass
class Controller:
    awx: Awx
    collections: Path

    def configure(self, **changes: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "CONTROLLER_"))
        }
        environment.update(
            LC_ALL="C.UTF-8",
            ANSIBLE_COLLECTIONS_PATH=f"{self.collections}:{ROOT / 'collections'}",
            CONTROLLER_HOST=self.awx.url,
            CONTROLLER_OAUTH_TOKEN="of-the-test",
        )
        argv = [
            "ansible-playbook",
            "playbooks/awx_configure.yml",
            "-e",
            yaml.safe_dump(changes, default_flow_style=True),
        ]
        return on_screen(argv, cwd=ROOT, env=environment, timeout=600)

    def succeed(self, **changes: Any) -> str:
        done = self.configure(**changes)
        assert (done.returncode, self.awx.refused) == (0, [])
        return done.stdout


@pytest.fixture
def controller(collections: Path) -> Iterator[Controller]:
    awx = Awx()
    yield Controller(awx, collections)
    awx.close()


def test_objects_are_created_once_and_all_removed(controller: Controller) -> None:
    awx = controller.awx
    # Objects that the playbook did not create: another organization, and an operator's objects in our organization.
    other = awx.add("organizations", name="Default")
    awx.add("job_templates", name="outage_recover", organization=other["id"])

    controller.succeed()
    organization = awx.named("organizations", ORGANIZATION)
    templates = {
        each["name"]: each for each in awx.objects["job_templates"].values() if each["organization"] != other["id"]
    }
    assert all(
        each["allow_simultaneous"] is False and each["ask_limit_on_launch"] and each["timeout"]
        for each in templates.values()
    )
    # Each job receives the address of AWX and builds its own URL from this address.
    assert {json.loads(each["extra_vars"])["outage_recover_awx_url"] for each in templates.values()} == {awx.url}
    assert json.loads(templates["outage_recover"]["extra_vars"])["outage_recover_highest_rung"] == "standard_recovery"
    assert {(each["forks"], each["job_slice_count"]) for each in templates.values()} == {(0, 1)}
    assert not any(awx.linked(each, "instance_groups") for each in templates.values())
    assert templates["database_recover"]["job_type"] == "check"
    assert [
        template["name"] for template in awx.linked(templates["outage_recover"], "notification_templates_error")
    ] == ["ITSM runbook failed"]
    workflow = awx.named("workflow_job_templates", "outage_workflow")
    assert [each["name"] for each in awx.linked(workflow, "notification_templates_approvals")] == [
        "ITSM runbook is waiting for approval"
    ]
    # The links between the workflow nodes, as AWX stores them.
    nodes = {each["identifier"]: each for each in awx.objects["workflow_job_template_nodes"].values()}
    for node in described()["awx_workflow_nodes"]:
        for association, key in (
            ("success_nodes", "success"),
            ("failure_nodes", "failure"),
            ("always_nodes", "always"),
        ):
            led = [each["identifier"] for each in awx.linked(nodes[node["identifier"]], association)]
            assert led == node.get(key, []), node
        if "template" in node:
            assert nodes[node["identifier"]]["unified_job_template"] == templates[node["template"]]["id"]
    assert awx.objects["approvals"][nodes["approve_clean_start"]["unified_job_template"]]["timeout"] == 900
    # The permissions.
    teams = {each["name"]: each["id"] for each in awx.objects["teams"].values()}
    granted = {(name, role): awx.links.get((id_, "teams"), []) for id_, (name, role) in awx.roles.items()}
    assert granted["outage_workflow", "approval"] == [teams["ITSM approvers"]]
    assert granted["outage_workflow", "execute"] == [teams["ITSM operators"]]
    assert (
        granted["outage_clean_start", "execute"] == granted["database_recover", "execute"] == [teams["ITSM approvers"]]
    )
    # Both teams can read the hosts, but they have no other rights to the inventory.
    rights = {
        role: sorted(led) for (name, role), led in granted.items() if name == described()["awx_inventory"] and led
    }
    assert rights == {"read": sorted([teams["ITSM operators"], teams["ITSM approvers"]])}
    # Approvers can read the workflow's jobs before they approve.
    for node in described()["awx_workflow_nodes"]:
        if "template" in node:
            assert teams["ITSM approvers"] in granted[node["template"], "read"]
    assert [
        each["name"] for each in awx.linked(templates["outage_triage_clean_start"], "notification_templates_success")
    ] == ["ITSM clean start needs approval"]
    # AWX sends a notification of a success only if the setting enables it.
    assert not awx.linked(templates["outage_recover"], "notification_templates_success")
    assert not awx.linked(workflow, "notification_templates_success")
    # If there is no credential, no schedule starts a job.
    schedules = {each["name"]: each for each in awx.objects["schedules"].values()}
    assert awx.surveys and schedules and not [name for name, each in schedules.items() if each["enabled"]]

    # The command in docs/awx.md that launches a job sends the answers to the survey questions.
    (by_api,) = re.findall(r"^```sh\n([^`]*curl [^`]*)^```", (ROOT / "docs/awx.md").read_text("utf-8"), re.MULTILINE)
    environment = {**os.environ, "CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": "of-the-test"}
    done = on_screen(["bash", "-euc", by_api], env=environment, timeout=60)
    assert (done.returncode, awx.refused) == (0, [])
    assert awx.launched == [
        {
            "template": "outage_workflow",
            "extra_vars": {"outage_recover_reason": "The phone rang"},
            "limit": "itsm-prod-01.example.com",
        }
    ]

    # A second run makes only two changes: it removes the step of an old version, and resets a field that someone has
    # changed.
    awx.add(
        "workflow_job_template_nodes",
        identifier="of_old",
        workflow_job_template=workflow["id"],
        name="",
        organization=1,
    )
    templates["outage_verify"]["timeout"] = 1
    again = controller.succeed()
    assert "changed: [localhost] => (item=of_old)" in again and "changed: [localhost] => (item=outage_verify)" in again
    assert again.count("changed: ") == 2
    assert templates["outage_verify"]["timeout"] == 600
    assert "of_old" not in {each["identifier"] for each in awx.objects["workflow_job_template_nodes"].values()}

    # The inventory source has a new path, so AWX reads it. A person has added a credential, so schedules are enabled.
    key = awx.add("credentials", name="key", organization=organization["id"], credential_type=1)
    awx.links[templates["outage_detect"]["id"], "credentials"] = [key["id"]]
    before = len(awx.updates)
    controller.succeed(awx_inventory_path="inventories/other/hosts.yml")
    assert [each["read"]["source_path"] for each in awx.updates.values()][before:] == ["inventories/other/hosts.yml"]
    assert [name for name, each in schedules.items() if not each["enabled"]] == [
        "ITSM restore drill, every four weeks",
        "ITSM recovery every minute, without an event rule",
    ]
    # The next run replaces a state that a person has set in AWX. Therefore, a setting lists the enabled schedules.
    controller.succeed(awx_inventory_path="inventories/other/hosts.yml", awx_optional_schedules=["outage_workflow"])
    disabled = [name for name, each in schedules.items() if not each["enabled"]]
    assert disabled == ["ITSM restore drill, every four weeks"]
    del awx.objects["credentials"][key["id"]]

    # A recovery runs for longer than the playbook waits. A second recovery ends in time.
    awx.run(templates["outage_recover"], requests=1000)
    early = controller.configure(awx_state="absent", awx_absent_wait=1, awx_absent_interval=1)
    assert early.returncode != 0 and "Running: outage_recover. Only the schedules were removed." in early.stdout
    assert not awx.objects["schedules"] and templates["outage_recover"]["id"] in awx.objects["job_templates"]
    awx.running.clear()
    awx.run(templates["outage_recover"], requests=2)

    # Credentials of operators are kept, including their organization and their type.
    kind = awx.named("credential_types", "ITSM service login")
    awx.add("credentials", name="login", organization=organization["id"], credential_type=kind["id"])
    left = controller.succeed(awx_state="absent", awx_absent_interval=1)
    assert "is kept, because it still contains login" in left
    awx.end_deletions()
    kept = {kind: awx.names(kind) for kind, things in awx.objects.items() if things and kind != "approvals"}
    assert kept == {
        "organizations": ["Default", ORGANIZATION],
        "credentials": ["login"],
        "credential_types": ["ITSM service login"],
        "job_templates": ["outage_recover"],
    }
    awx.objects["credentials"].clear()
    controller.succeed(awx_state="absent")
    assert awx.names("organizations") == ["Default"] and not awx.objects["credential_types"]


def test_objects_of_other_owners_are_unchanged(controller: Controller) -> None:
    awx = controller.awx
    organization = awx.add("organizations", name=ORGANIZATION, description="Of others")
    theirs = awx.add("job_templates", name="outage_recover", organization=organization["id"], description="Of others")
    before = dict(theirs)
    done = controller.configure()
    assert done.returncode != 0
    assert (
        "AWX already has job_templates with these names, which this playbook did not create: outage_recover."
        in done.stdout
    )
    assert theirs == before and not awx.objects["teams"] and awx.refused == []
    left = controller.succeed(awx_state="absent")
    assert "is kept, because this playbook did not create it" in left
    assert awx.names("job_templates") == ["outage_recover"] and awx.names("organizations") == [ORGANIZATION]


def test_invalid_settings_and_settings_for_capacity(controller: Controller) -> None:
    awx = controller.awx
    # The value of awx_url is invalid. The password in this address is not shown.
    done = controller.configure(awx_url="https://admin:0ff-the-record@awx.example.com")
    assert done.returncode != 0 and "awx_url is not valid" in done.stdout and "0ff-the-record" not in done.stdout
    for wrong in ({"awx_forks": "many"}, {"awx_forks": -1}, {"awx_instance_groups": "recovery"}):
        done = controller.configure(**wrong)
        assert done.returncode != 0 and "awx_forks must be an integer, 0 or greater" in done.stdout, wrong
    missing = controller.configure(awx_instance_groups=["recovery", "other"])
    assert missing.returncode != 0 and "may not read them: recovery, other" in missing.stdout
    assert not awx.objects["organizations"] and awx.refused == []

    group = awx.add("instance_groups", name="recovery")
    settings = {"awx_forks": 20, "awx_instance_groups": ["recovery"]}
    controller.succeed(**settings)
    templates = list(awx.objects["job_templates"].values())
    assert {(each["forks"], each["job_slice_count"]) for each in templates} == {(20, 1)}
    assert all(awx.linked(each, "instance_groups") == [group] for each in templates)

    # Someone has set a slice count. The next run resets the slice count, but keeps the instance groups, because the
    # playbook does not set instance groups.
    templates[0]["job_slice_count"] = 4
    again = controller.succeed(awx_forks=20)
    assert again.count("changed: ") == 1 and templates[0]["job_slice_count"] == 1
    assert all(awx.linked(each, "instance_groups") == [group] for each in templates)


def test_a_success_is_reported_if_the_setting_says_so(controller: Controller) -> None:
    awx = controller.awx
    controller.succeed(awx_notify_succeeded=["ITSM runbook succeeded"])
    reported = {
        thing["name"]: [each["name"] for each in awx.linked(thing, "notification_templates_success")]
        for kind in ("job_templates", "workflow_job_templates")
        for thing in awx.objects[kind].values()
    }
    recoveries = ("outage_recover", "outage_release", "database_recover", "outage_workflow")
    assert {name: names for name, names in reported.items() if names} == {
        "outage_triage_clean_start": ["ITSM clean start needs approval"],
        **{name: ["ITSM runbook succeeded"] for name in recoveries},
    }
    # If the setting is missing, AWX does not report success.
    controller.succeed()
    assert not awx.linked(awx.named("workflow_job_templates", "outage_workflow"), "notification_templates_success")


def test_texts_are_in_the_language_of_the_setting(controller: Controller) -> None:
    awx = controller.awx
    for wrong in (["outage_detect"], "outage_workflow"):
        refused = controller.configure(awx_optional_schedules=wrong)
        said = f"awx_optional_schedules is {wrong}: must be a list of outage_restore_drill or outage_workflow"
        assert refused.returncode != 0 and said in refused.stdout
    refused = controller.configure(awx_language="fr")
    assert refused.returncode != 0 and "awx_language is 'fr': must be en or ja" in refused.stdout
    assert not awx.objects["organizations"]

    controller.succeed()
    # AWX refuses to change the fields of a credential type that is in use.
    login = awx.named("credential_types", "ITSM service login")
    awx.add("credentials", name="login", organization=login["id"], credential_type=login["id"])
    controller.succeed(awx_language="ja")
    ours, mark = described("ja"), described()["awx_mark"]
    recover = awx.named("job_templates", "outage_recover")
    (template,) = (each for each in ours["awx_job_templates"] if each["name"] == "outage_recover")
    assert recover["description"] == f"{template['description']} {mark}"
    asked = [question["question_name"] for question in awx.surveys[recover["id"]]["spec"]]
    assert asked == [ours["awx_questions"][name]["question_name"] for name in template["survey"]]
    failed = awx.named("notification_templates", "ITSM runbook failed")
    assert failed["messages"]["error"]["message"] == "{{ job_friendly_name }} {{ job.name }} が失敗しました"
    (approval,) = awx.objects["approvals"].values()
    assert approval["name"] == "ITSM-Sec Nexus のクリーンスタート"
    source = awx.named("inventory_sources", ours["awx_inventory_source"])
    assert source["description"] == f"プロジェクトの inventories/production/hosts.yml。 {mark}"
    # No English description remains, and a second run changes nothing.
    english = {each for each in texts("en").values() if "{{" not in each}
    described_in_english = [
        (kind, thing.get("name"))
        for kind, things in awx.objects.items()
        for thing in things.values()
        if thing.get("description", "").removesuffix(f" {mark}") in english
    ]
    assert described_in_english == []
    assert "changed: " not in controller.succeed(awx_language="ja")


def test_a_failed_project_update_is_reported(controller: Controller) -> None:
    controller.awx.fetched = "failed"
    done = controller.configure(awx_project_url="https://git.example.com/none")
    assert done.returncode != 0 and not controller.awx.objects["job_templates"]
    assert "AWX could not fetch https://git.example.com/none (failed)" in done.stdout


def test_a_failed_inventory_update_is_reported_in_one_line(controller: Controller) -> None:
    awx = controller.awx
    awx.synced = "failed"
    # AWX is still deleting the inventory of an earlier installation.
    organization = awx.add("organizations", name=ORGANIZATION, description=described()["awx_mark"])
    old = {"description": described()["awx_mark"], "organization": organization["id"], "pending_deletion": 5}
    old = awx.add("inventories", name=described()["awx_inventory"], **old)
    awx.sync_output = "Reading\n\x1b[0;31mERROR! Source path inventories/none not found.\x1b[0m\nEnd\n"
    done = controller.configure(awx_inventory_path="inventories/none")
    assert done.returncode != 0 and not awx.objects["job_templates"] and not awx.objects["schedules"]
    (inventory,) = awx.objects["inventories"].values()
    assert inventory["id"] != old["id"] and not inventory.get("pending_deletion")
    reason = "(failed): ERROR! Source path inventories/none not found."
    assert f"AWX could not read inventories/none of the project 'ITSM runbook project' {reason}" in done.stdout
