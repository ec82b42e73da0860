# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outage_recover_* variables, their valid and invalid values, and the list of rungs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder as recovery_ladder
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS as LADDER
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import en as messages_en
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import ja as messages_ja
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import settings as recovery_settings
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import chart
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

ROOT = Path(__file__).resolve().parents[5]
RUNGS = list(recovery_ladder.RUNGS)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("rungs", None, RUNGS),
        ("rungs", "restart", ["restart"]),
        ("rungs", ["restart"], ["restart"]),
        ("rungs", "['restart', 'standard_recovery']", ["restart", "standard_recovery"]),
        ("rungs", "restart, standard_recovery", ["restart", "standard_recovery"]),
        ("rungs", ["['restart']", "standard_recovery"], ["restart", "standard_recovery"]),
        ("rungs", [], []),
        ("rungs", "[]", []),
        ("highest_rung", None, RUNGS[-1]),
        ("highest_rung", "", RUNGS[-1]),
        ("highest_rung", "restart", "restart"),
        ("act_on", None, ["critical", "emergency"]),
        ("act_on", "critical", ["critical"]),
        ("act_on", "[none, warning]", ["none", "warning"]),
        ("act_on", [], []),
        ("wait", None, 0.0),
        ("wait", "600", 600.0),
        ("wait", 0.5, 0.5),
        ("reconnect", None, 60.0),
        ("reconnect", "0", 0.0),
        ("task_timeout", "60", 60),
        ("task_timeout", 0, 0),
        ("serial", None, "100%"),
        ("serial", "2", "2"),
        ("serial", 2, 2),
        ("serial", "20%", "20%"),
        ("serial", [1, "5", "50%"], [1, 5, "50%"]),
        ("serial", "[1, '50%']", [1, "50%"]),
        ("strategy", None, "free"),
        ("strategy", "ansible.builtin.linear", "ansible.builtin.linear"),
        ("continued", "yes", True),
        ("continued", False, False),
        ("single_host", None, False),
        ("single_host", "true", True),
        ("reason", "It is down", "It is down"),
        ("ticket", 4711, "4711"),
        ("unreachable_dir", "~/unreachable", "~/unreachable"),
    ],
)
def test_a_setting_is_read_from_an_inventory_and_from_a_command_line(name: str, value: Any, read: Any) -> None:
    assert recovery_settings.setting(value, name) == read
    assert recovery_settings.problems({name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("rungs", "database_recovery", "is 'database_recovery'"),
        ("rungs", ["triage", "restart"], "contains 'triage'"),
        ("rungs", "[restart, foo]", "contains 'foo'"),
        ("rungs", "", "is ''"),
        ("rungs", "[", "is '['"),
        ("rungs", 5, "is '5'"),
        ("rungs", {"restart": True}, "is '{"),
        ("rungs", [{"restart": True}], "contains '{"),
        ("highest_rung", "restrat", "is 'restrat'"),
        ("highest_rung", ["restart"], "is '['restart']'"),
        ("act_on", "crtical", "is 'crtical'"),
        ("act_on", ["critical", "unreachable"], "contains 'unreachable'"),
        ("act_on", True, "is 'True'"),
        ("wait", "soon", "is 'soon'"),
        ("wait", -1, "is '-1'"),
        ("wait", "inf", "is 'inf'"),
        ("wait", "nan", "is 'nan'"),
        ("wait", True, "is 'True'"),
        ("wait", [600], "is '[600]'"),
        ("wait", "", "is ''"),
        ("task_timeout", "soon", "is 'soon'"),
        ("task_timeout", 1.5, "is '1.5'"),
        ("serial", "soon", "is 'soon'"),
        ("serial", 0, "is '0'"),
        ("serial", "0%", "is '0%'"),
        ("serial", "200%", "is '200%'"),
        ("serial", [], "is '[]'"),
        ("serial", [1, "x"], "contains 'x'"),
        ("serial", True, "is 'True'"),
        ("strategy", "fre", "is 'fre'"),
        ("continued", "perhaps", "is 'perhaps'"),
        ("single_host", "app.one", "is 'app.one'"),
        ("reason", ["down"], "is '['down']'"),
        ("ticket", {"number": 1}, "is '{'number': 1}'"),
        ("unreachable_dir", " ", "is ' '"),
        ("unreachable_dir", 7, "is '7'"),
    ],
)
def test_invalid_values_are_named_with_the_allowed_ones(name: str, value: Any, told: str) -> None:
    (problem,) = recovery_settings.problems({name: value, "wait" if name != "wait" else "serial": 1})
    assert problem.startswith(f"outage_recover_{name} {told}")
    assert f": must be {recovery_settings.SETTINGS[name].allowed}" in problem
    # Play keywords fall back to the default, because Ansible evaluates them before a task can reject the value.
    assert recovery_settings.setting(value, name) == recovery_settings.SETTINGS[name].default


def test_a_long_value_is_shortened() -> None:
    (problem,) = recovery_settings.problems({"wait": "x" * 10_000})
    assert len(problem) < 200


def test_each_setting_of_the_playbook_is_checked() -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "playbooks").rglob("*.yml"))
    read = set(re.findall(r"(?<![\w.])outage_recover_(\w+) \| default\(none\)", text))
    looked_at = set(re.findall(r"^      '(\w+)': outage_recover_\w+ \| default\(none\)", text, flags=re.MULTILINE))
    assert read == looked_at == set(recovery_settings.SETTINGS)


def test_the_limit_allows_only_rungs_at_or_below_it() -> None:
    assert recovery_settings.ladder() == recovery_settings.ladder("") == RUNGS
    for number, rung in enumerate(RUNGS, 1):
        assert recovery_settings.ladder(rung) == RUNGS[:number]
    for stranger in ("restrat", "database_recovery", "triage", ["restart"]):
        assert recovery_settings.ladder(stranger) == []


# Roles that start or stop the service but are not rungs.
NOT_RUNGS = ("database_recovery", "remediation")


def roles_like_rungs() -> list[str]:
    """Return the roles that start or stop the service and set <role>_result."""
    texts = {
        folder.name: "".join(path.read_text("utf-8") for path in (folder / "tasks").glob("*.yml"))
        for folder in (ROOT / "roles").iterdir()
    }
    return sorted(role for role, text in texts.items() if "tasks_from: process" in text and f"{role}_result:" in text)


def test_all_files_use_the_same_list_of_rungs() -> None:
    assert list(LADDER) == RUNGS
    lacks_row = [role for role in roles_like_rungs() if role not in (*RUNGS, *NOT_RUNGS)]
    assert lacks_row == [], (
        f"plugins/module_utils/_incident/ladder.py lacks a row for {', '.join(lacks_row)} in LADDER. "
        "If the role is not a rung, add it to NOT_RUNGS in this test"
    )
    assert list(incident_model.RUNGS) == [*RUNGS, "database_recovery"]
    assert [lane for lane in chart.LANES if lane in RUNGS] == RUNGS
    # These files cannot import the list of rungs, so they repeat it.
    catalogues = "plugins/plugin_utils/_messages"
    japanese = {rung: messages_ja.SENTENCES.get(f"part.{rung}") for rung in RUNGS}
    lacks = {}
    for rung in RUNGS:
        if not (ROOT / "roles" / rung / "tasks" / "main.yml").is_file():
            lacks[f"roles/{rung}/tasks/main.yml"] = ["the role of the rung"]
        # If the English name is missing, rungs.py inserts the rung's identifier, even into a Japanese text.
        if f"part.{rung}" not in messages_en.SENTENCES:
            lacks.setdefault(f"{catalogues}/en.py", []).append(f"the English name, part.{rung}")
        if japanese[rung] is None:
            lacks.setdefault(f"{catalogues}/ja.py", []).append(f"the Japanese name, part.{rung}")
    ladder = "、".join(japanese[rung] or f"part.{rung} of {catalogues}/ja.py" for rung in RUNGS)
    places = [
        ("docs/operations.md", f"`[{', '.join(RUNGS)}]`"),
        ("docs/operations.md", f"| `outage_recover_highest_rung` | `{RUNGS[-1]}` |"),
        ("docs/architecture.md", " -- fails --> ".join(f"R{number}[{rung}]" for number, rung in enumerate(RUNGS, 1))),
        ("README.md", f'("rungs"): {", ".join(rung.replace("_", " ") for rung in RUNGS)}.'),
        ("README.ja.md", f"復旧段階: {ladder}。"),
        *(("plugins/modules/triage_info.py", f"V({rung})") for rung in RUNGS),
        *((page, f"[{rung}](roles/{rung}/README.md)") for page in ("README.md", "README.ja.md") for rung in RUNGS),
    ]
    for page, what in places:
        if what not in (ROOT / page).read_text("utf-8"):
            lacks.setdefault(page, []).append(what)
    assert lacks == {}, "\n".join(f"{page} lacks {' and '.join(each)}" for page, each in lacks.items())
    # No playbook contains its own list of rungs. awx.yml is excluded, because other tests check its surveys.
    playbooks = [path for path in (ROOT / "playbooks").rglob("*.yml") if path.name != "awx.yml"]
    assert not [path.name for path in playbooks if re.search(r"\[[^\]]*restart,", path.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("outage_recover_hihgest_rung", "outage_recover_highest_rung"),
        ("outage_recover_rung", "outage_recover_rungs"),
        ("outage_recover_acton", "outage_recover_act_on"),
        ("outage_recover_host", "outage_recover_hosts"),
    ],
)
def test_a_misspelled_setting_is_refused(name: str, meant: str) -> None:
    assert recovery_settings.problems({}, names=[name, meant]) == [f"{name} is not a setting. Use {meant} instead"]


def test_other_names_are_ignored() -> None:
    settings = [f"{recovery_settings.PREFIX}{name}" for name in recovery_settings.SETTINGS]
    assert recovery_settings.problems({}, names=[*settings, "outage_recover_hosts"]) == []
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").rglob("*.yml")]
    facts = {name for text in texts for name in re.findall(r"\boutage_recover_\w+", text)} - {*settings}
    assert len(facts) > 10
    assert recovery_settings.problems({}, names=[*facts, "outage_recover_team"]) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, ""),
        ({"tags": ("all",), "skip_tags": (), "start_at_task": None}, ""),
        ({"tags": ("all", "x")}, ""),
        ({"tags": ("x", "y")}, "--tags 'x,y' would skip tasks"),
        ({"tags": ("always",)}, "--tags 'always' would skip tasks"),
        ({"tags": ("all",), "skip_tags": ("x",)}, "--skip-tags 'x' would skip tasks"),
        ({"tags": ("all",), "start_at_task": "Close the incident"}, "--start-at-task 'Close the incident' would skip"),
        ({"tags": ("x",), "listtasks": True}, ""),
        ({"skip_tags": ("x",), "syntax": True}, ""),
    ],
)
def test_options_that_skip_tasks_are_named(options: dict[str, Any], told: str) -> None:
    said = recovery_settings.partial(options)
    assert said.startswith(told)
    assert bool(said) == bool(told)


INVENTORY = {
    "all": ["app.one", "app.two", "both", "outside"],
    "ungrouped": [],
    "itsm_nexus": ["app.one", "app.two", "both"],
    "front": ["app.one"],
    "both": ["both"],
}


def refused(wanted: Any, limit: Any) -> str:
    return recovery_settings.single_host(
        wanted, limit=limit, hosts="itsm_nexus", groups=INVENTORY, members=INVENTORY["itsm_nexus"]
    )


@pytest.mark.parametrize("wanted", [None, "", "false", False])
def test_a_run_started_by_a_person_may_have_any_limit(wanted: Any) -> None:
    assert [refused(wanted, limit) for limit in (None, "all", "app.*", "front", "nobody")] == [""] * 5


@pytest.mark.parametrize("wanted", ["true", True])
def test_a_run_for_one_host_may_be_limited_to_one_host(wanted: Any) -> None:
    assert [refused(wanted, limit) for limit in ("app.one", "app.two")] == ["", ""]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (None, "--limit is missing"),
        ("", "--limit is missing"),
        ("all", "--limit 'all' is a group of the inventory"),
        ("ungrouped", "--limit 'ungrouped' is a group of the inventory"),
        ("itsm_nexus", "--limit 'itsm_nexus' is a group of the inventory"),
        # A group with a single host is also rejected, because more hosts may be added to the group later.
        ("front", "--limit 'front' is a group of the inventory"),
        # If a host and a group have the same name, Ansible cannot distinguish them.
        ("both", "--limit 'both' is a group of the inventory"),
        ("localhost", "--limit 'localhost' is not a host of the inventory"),
        ("nobody", "--limit 'nobody' is not a host of the inventory"),
        ("app.*", "--limit 'app.*' is not a host of the inventory"),
        ("app.one,app.two", "--limit 'app.one,app.two' is not a host of the inventory"),
        ("app.one:!app.two", "--limit 'app.one:!app.two' is not a host of the inventory"),
        ("outside", "--limit 'outside' is not a host of 'itsm_nexus'"),
    ],
)
def test_a_run_for_one_host_is_refused_with_any_other_limit(limit: Any, told: str) -> None:
    said = refused("true", limit)
    assert said.startswith(f"{told}: nothing was done. ")
    assert "must be the name of one host of 'itsm_nexus'; a group, a pattern or a list is not allowed" in said


def test_a_run_for_one_host_needs_no_limit_if_there_is_only_one_host() -> None:
    alone = {"all": ["app.one"], "itsm_nexus": ["app.one"]}
    for limit, allowed in ((None, True), ("", True), ("all", False)):
        said = recovery_settings.single_host(
            "true", limit=limit, hosts="itsm_nexus", groups=alone, members=alone["itsm_nexus"]
        )
        assert (said == "") is allowed


def test_an_invalid_limit_to_one_host_is_refused() -> None:
    assert refused("perhaps", "app.one") == "outage_recover_single_host is 'perhaps': must be true or false"


def test_the_playbooks_that_event_rules_start_check_the_limit_in_each_play() -> None:
    for name in ("outage_recover", "outage_triage", "outage_maintenance"):
        for play in yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")):
            wanted = "recovery_single_host(outage_recover_single_host | default(none), groups)"
            assert f"| itsm_nexus.runbook.{wanted}" in play["hosts"]


def test_every_play_refuses_a_partial_run() -> None:
    plays = [
        (path.name, " ".join(play["hosts"].split()))
        for path in sorted((ROOT / "playbooks").glob("*.yml"))
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        if "ansible.builtin.import_playbook" not in play
    ]
    assert plays
    assert [name for name, hosts in plays if not hosts.endswith("| itsm_nexus.runbook.recovery_whole }}")] == []


def written(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return f"[{', '.join(default)}]"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"


def test_the_operations_guide_lists_every_setting_with_its_default() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    # Only the AWX workflow sets this variable, so the page about AWX describes it.
    settings = {name: setting for name, setting in recovery_settings.SETTINGS.items() if name != "continued"}
    missing = []
    for name, setting in settings.items():
        row = re.search(rf"^\|[^|]*`outage_recover_{name}`[^|]*\| `?([^`|]+?)`? \|", guide, re.MULTILINE)
        if not row or row[1] != written(setting.default):
            missing.append(f"outage_recover_{name}: {written(setting.default)}")
    assert missing == []
