# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules for roles: defaults match argument specifications, and variables are used and named correctly."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import reach
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import rules as notification_rules
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import settings as notification_settings

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: Path) -> dict:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def specification(role: str) -> str:
    return f"roles/{role}/meta/argument_specs.yml"


def options(role: str) -> dict:
    path = ROOT / specification(role)
    assert path.is_file(), f"{specification(role)} is missing"
    return load(path)["argument_specs"]["main"]["options"]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specifications_match(role: str) -> None:
    place, specified = f"roles/{role}/defaults/main.yml", options(role)
    defaults = load(ROOT / place)
    optional = {name for name, option in specified.items() if not option.get("required")}
    wrong = [f"{place} lacks {name}" for name in sorted(optional - {*defaults})]
    wrong += [f"{specification(role)} lacks {name}" for name in sorted({*defaults} - {*specified})]
    wrong += [f"{place} has {name}, which is required" for name in sorted(({*defaults} & {*specified}) - optional)]
    for name in sorted({*defaults} & optional):
        value = defaults[name]
        if "default" in specified[name]:
            if specified[name]["default"] != value:
                wrong.append(f"{name} has different defaults in {specification(role)} and {place}")
        # A default may be omitted there only if it uses other variables or is too long for a table.
        elif not isinstance(value, (list, dict)) and "{{" not in str(value):
            wrong.append(f"{specification(role)} lacks the default of {name}")
    assert wrong == [], "\n".join(wrong)


_VARIABLES = sorted(
    path
    for folder in ("roles/*/vars", "roles/*/defaults", "playbooks/vars")
    for path in ROOT.glob(f"{folder}/*.yml")
    # The variables for AWX contain Ansible's YAML tags.
    if not path.name.startswith("awx")
)


@pytest.mark.parametrize("path", _VARIABLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_variable_is_none(path: Path) -> None:
    """Before ansible-core 2.19, a template that results in None is an empty string, so `is none` is false."""
    ends = re.compile(r"(default\(none(, true)?\)|\belse none|\{\{-? *none) *-?\}\}\s*$")
    wrong = [name for name, value in load(path).items() if isinstance(value, str) and ends.search(value)]
    assert not wrong, f"{path.relative_to(ROOT)}: {wrong}: use a variable that is true if the value is known"


@pytest.mark.parametrize("role", ROLES)
def test_public_variables_begin_with_the_name_of_their_role(role: str) -> None:
    for name in options(role):
        assert name.startswith((f"{role}_", "nexus_")), name


@functools.cache
def words_read() -> set[str]:
    """Return the words in roles, playbooks and plugins.

    Words before a colon are omitted, because variables are only set there.
    """
    return {
        word
        for folder in ("roles", "playbooks", "plugins")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".yml", ".py", ".j2"} and path.name != "argument_specs.yml"
        for word in re.findall(r"\w+\b(?!:)", path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_used(role: str) -> None:
    for name in options(role):
        assert name in words_read(), (
            f"{specification(role)} has {name}, which nothing in roles, playbooks or plugins reads"
        )


@pytest.mark.parametrize("role", ROLES)
def test_main_tasks_stay_short(role: str) -> None:
    text = (ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8")
    tasks = yaml.safe_load(text)
    assert len(tasks) <= 8
    assert len(text.splitlines()) <= 40, "move a step into a separate task file and import it, which costs no time"
    assert all(task["name"][0].isupper() for task in tasks)


# Only playbooks decide how a recovery continues after a failure. These role files may contain a `rescue` section, for
# the stated reason.
RESCUES_IN_ROLES = {
    "roles/detection/tasks/probe_health.yml": "raises again: names the wrong setting, at no cost for a healthy service",
    "roles/escalation/tasks/notify.yml": "records: a channel of the user may fail, the next one is tried",
    "roles/remediation/tasks/release.yml": "raises again: a release without its modules must not stay in place",
    "roles/remediation/tasks/remedy.yml": "records: a remedy may fail, the next one and the ladder have their turn",
}
RAISES = {"ansible.builtin.fail"}
RECORDS = {"ansible.builtin.set_fact", "itsm_nexus.runbook.incident"}


def blocks(tasks: list[dict]) -> list[dict]:
    """Return all blocks in a list of tasks, including blocks inside blocks."""
    found = [task for task in tasks if "block" in task]
    inner = [blocks(task.get(part, [])) for task in found for part in ("block", "rescue", "always")]
    return found + [block for each in inner for block in each]


@functools.cache
def blocks_by_file() -> dict[str, list[dict]]:
    found = {}
    patterns = ("roles/*/tasks/**/*.yml", "playbooks/*.yml", "playbooks/tasks/*.yml")
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        parts = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        tasks = [task for part in parts for task in (part.get("tasks", []) if "hosts" in part else [part])]
        found[path.relative_to(ROOT).as_posix()] = blocks(tasks)
    return found


def test_only_playbooks_handle_a_failure() -> None:
    in_roles = {name: found for name, found in blocks_by_file().items() if name.startswith("roles/")}
    rescued = {name for name, found in in_roles.items() if any("rescue" in block for block in found)}
    assert rescued == set(RESCUES_IN_ROLES)
    assert not [name for name, found in in_roles.items() if any("always" in block for block in found)]


@pytest.mark.parametrize("name", [name for name, found in blocks_by_file().items() if found])
def test_every_rescue_raises_again_or_records(name: str) -> None:
    for block in blocks_by_file()[name]:
        rescue = block.get("rescue")
        # A conditional task does not count, because it can be skipped.
        kept = [task for task in rescue or [] if (RAISES | RECORDS) & set(task) and "when" not in task]
        assert kept or not rescue, f"{block.get('name')}: its rescue hides the failure"


def tasks_within(tasks: list[dict]) -> list[dict]:
    """Return all tasks in a list, including the tasks inside blocks."""
    inner = [tasks_within(task.get(part, [])) for task in tasks for part in ("block", "rescue", "always")]
    return [*tasks, *(task for each in inner for task in each)]


def starts_the_service(task: dict) -> bool:
    """Return True if a task can start the service in the only permitted way: with the process tasks of nexus."""
    role = task.get("ansible.builtin.import_role") or task.get("ansible.builtin.include_role") or {}
    return (role.get("name"), role.get("tasks_from")) == ("itsm_nexus.runbook.nexus", "process")


def imports_nexus(task: dict) -> bool:
    """Return True if the task imports the whole nexus role, which only checks the settings."""
    return task.get("ansible.builtin.import_role") == {"name": "itsm_nexus.runbook.nexus"}


def depends_on_nexus(folder: Path) -> bool:
    """Return True if the nexus role is a dependency of the role, or if tasks/main.yml imports the whole nexus role."""
    dependencies = load(folder / "meta" / "main.yml").get("dependencies", [])
    return {"role": "itsm_nexus.runbook.nexus"} in dependencies or any(
        imports_nexus(task) for task in load(folder / "tasks" / "main.yml")
    )


@pytest.mark.parametrize("rung", RUNGS)
def test_the_role_of_a_rung_is_complete(rung: str) -> None:
    """A rung's role starts the service through the nexus role, depends on that role, and reports a result."""
    folder = ROOT / "roles" / rung
    tasks = [
        task
        for path in (folder / "tasks").glob("*.yml")
        for task in tasks_within(yaml.safe_load(path.read_text("utf-8")))
    ]
    missing = []
    if not any(f"{rung}_result" in (task.get("ansible.builtin.set_fact") or {}) for task in tasks):
        missing.append(f"roles/{rung}/tasks lacks a task that sets {rung}_result")
    if not any(starts_the_service(task) for task in tasks):
        missing.append(f"roles/{rung}/tasks lacks import_role or include_role of nexus with tasks_from: process")
    if not (folder / "meta" / "main.yml").is_file():
        missing.append(f"roles/{rung}/meta/main.yml is missing")
    elif not depends_on_nexus(folder):
        missing.append(f"roles/{rung}/meta/main.yml lacks the dependency on itsm_nexus.runbook.nexus")
    assert missing == [], "\n".join(missing)


# Modules that do not change the service. If an option is listed for a module, the module makes no change only if this
# option is set.
CHANGES_NOTHING = {
    "ansible.builtin.assert": None,
    "ansible.builtin.debug": None,
    "ansible.builtin.fail": None,
    "ansible.builtin.set_fact": None,
    "itsm_nexus.runbook.fail_settings": None,
    "itsm_nexus.runbook.npm_ci": "build_only",
    "itsm_nexus.runbook.sqlite_backup": "room_only",
}


def in_order(folder: Path, name: str = "main.yml") -> list[dict]:
    """Return the tasks of a role in the order in which they run, including the tasks in included files."""
    found = []
    for task in tasks_within(yaml.safe_load((folder / name).read_text("utf-8"))):
        file = task.get("ansible.builtin.import_tasks") or task.get("ansible.builtin.include_tasks")
        found += in_order(folder, file) if file else [task]
    return found


def changes_nothing(task: dict) -> bool:
    module = next(key for key in task if "." in key)
    option = CHANGES_NOTHING.get(module, "")
    if module.endswith("_info") or option is None or imports_nexus(task):
        return True
    return bool(option and task[module].get(option) is True)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_changes_nothing_before_its_attempt_is_recorded(rung: str) -> None:
    """If a run is killed before the first call to node_process, no record shows a change."""
    tasks = in_order(ROOT / "roles" / rung / "tasks")
    first = next(number for number, task in enumerate(tasks) if starts_the_service(task))
    wrong = [task["name"] for task in tasks[:first] if "block" not in task and not changes_nothing(task)]
    assert wrong == [], f"roles/{rung}/tasks: move these tasks after the first import of nexus (process)"


@pytest.mark.parametrize("rung", RUNGS)
def test_the_page_about_another_service_names_every_rung(rung: str) -> None:
    page = read("docs/your-service.md")
    assert re.search(rf"`[^`\n]*\b{rung}`", page), f"docs/your-service.md does not say what {rung} needs"


@pytest.mark.parametrize("role", ["database_recovery", "remediation", "verification"])
def test_the_reason_of_a_failed_role_is_a_message(role: str) -> None:
    """Text that a task builds has no message ID, so a Japanese document would quote it in English."""
    fails = {}
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        for task in tasks_within(yaml.safe_load(path.read_text(encoding="utf-8"))):
            if "ansible.builtin.fail" in task:
                fails[f"{path.name}: {task['name']}"] = task["ansible.builtin.fail"]["msg"]
            assert "message_each('quoted'" not in str(task), task["name"]
    assert fails
    recorded = re.compile(r"\{\{ \w+\.(?:problems \| join\('; '\)|failure \| itsm_nexus\.runbook\.message_text) \}\}")
    assert not {name: text for name, text in fails.items() if not recorded.fullmatch(text)}


OPEN = {"id": "reason.restore.wal_unread", "values": {"why": [{"id": "reason.restore.open_in", "values": {}}]}}


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ({"reason": [OPEN]}, "backup (unknown as long as the database is open): why. Lost: 1 row."),
        # The list of losses also states why the WAL was not read.
        ({"reason": [{"id": "x"}], "statement": [OPEN]}, "backup (not possible): why. Lost: 1 row."),
        # The name of a table is in the statement.
        ({"reason": [{"id": "x"}], "statement": ["1 unconfirmed"]}, "backup (not possible): why. Lost: 1 row."),
        ({"reason": [{"id": "reason.restore.unconfirmed"}]}, "backup (needs confirmation): why. Lost: 1 row."),
        ({}, "backup (not possible): why. Lost: 1 row."),
    ],
)
def test_the_list_of_losses_does_not_affect_why_a_method_is_not_possible(messages: dict, shown: str) -> None:
    tasks = yaml.safe_load((ROOT / "roles/database_recovery/tasks/database.yml").read_text(encoding="utf-8"))
    (told,) = [each["ansible.builtin.debug"]["msg"] for each in tasks if each["name"].startswith("Show what each")]
    way = {"method": "backup", "possible": False, "reason": "why", "statement": "1 row", "messages": messages}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - plain text
    text = environment.from_string(told).render(item=way, _database_recovery_plan={"method": "salvage"})
    assert " ".join(text.split()) == shown


@pytest.mark.parametrize(
    ("check_mode", "why", "ident"),
    [
        (True, [OPEN], "reason.recovery.not_examined"),
        # This run has stopped the service, but another process still has the database open.
        (False, [OPEN], "reason.recovery.no_method"),
        (True, [{"id": "reason.restore.unconfirmed"}], "reason.recovery.no_method"),
    ],
)
def test_a_check_offers_no_empty_database_before_all_methods_are_examined(
    check_mode: bool, why: list[dict], ident: str
) -> None:
    tasks = tasks_within(yaml.safe_load((ROOT / "roles/database_recovery/tasks/database.yml").read_text("utf-8")))
    (told,) = [each["vars"] for each in tasks if each["name"] == "Record why no method applies"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - plain text
    environment.filters["itsm_nexus.runbook.message"] = lambda ident, **values: f"{ident} of {values['path']}"
    text = environment.from_string(told["_database_recovery_reason"]).render(
        {"_database_recovery_plan": {"messages": {"reason": why}}, "nexus_database": "/db"},
        ansible_check_mode=check_mode,
    )
    assert text.strip() == f"{ident} of /db"


def test_the_result_of_a_database_recovery_has_its_messages() -> None:
    known = yaml.safe_load((ROOT / "roles/database_recovery/vars/main.yml").read_text(encoding="utf-8"))
    assert "messages" in known["_database_recovery_keys"]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


CHANNELS = sorted((ROOT / "roles/escalation/tasks/channels").glob("*.yml"))

# The keys of those channels whose values are checked.
JUDGED = {*notification_settings._JUDGES}

# For each of these channels, the part of its file that inserts the text. Only people read the messages of these
# channels, so no program needs the id and the event in a body. The subject states the event.
TEXTS_FOR_PEOPLE = {
    "command": "[escalation_message.subject, '', escalation_message.text, '']",
    "mail": 'subject: "{{ escalation_message.subject }}"',
    "webhook": "escalation_message | itsm_nexus.runbook.escalation_body(escalation_channel.shape)",
}

# Channel names in the English pages and in the Japanese README.
NAMES = {
    "command": ("a command", "コマンド"),
    "http": ("signed JSON", "署名付き JSON"),
    "mail": ("mail", "メール"),
    "pagerduty": ("PagerDuty", "PagerDuty"),
    "webhook": ("chat webhook", "webhook"),
}


def lacks_of_body(place: str, tasks: list[dict]) -> list[str]:
    """Return a line for each value that is missing from the body of a channel's message. place: the channel's file."""
    bodies = [value["body"] for task in tasks for value in task.values() if isinstance(value, dict) and "body" in value]
    if not bodies:
        return [f"{place} lacks a body with escalation_message, or with its id and its event"]
    if re.search(r"\{\{ escalation_message(?: \| to_json(?:\([^)]*\))?)? \}\}", str(bodies)):
        return []
    why = {
        "id": "the receiver cannot recognize a repeated message",
        "event": "a resolution looks like a new alert",
    }
    return [
        f"{place} lacks escalation_message.{name} in its body: {reason}"
        for name, reason in why.items()
        if not re.search(rf"\bescalation_message\.{name}\b", str(bodies))
    ]


@pytest.mark.parametrize("path", CHANNELS, ids=[path.stem for path in CHANNELS])
def test_a_channel_is_complete(path: Path) -> None:
    """Every channel has settings, documentation and a complete message, and its tasks reveal no secret."""
    kind, place, text = path.stem, path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    texts = {
        "docs/escalation.md": f"| `{kind}` |",
        "docs/docsite/rst/guide_notifications.rst": f"``{kind}``",
        "roles/escalation/meta/argument_specs.yml": f"C({kind})",
    }
    missing = [f"{page} lacks {what}" for page, what in texts.items() if what not in read(page)]
    if kind in NAMES:
        english, japanese = NAMES[kind]
        pages = {"README.md": english, "docs/operations.md": english, "README.ja.md": japanese}
        missing += [f"{page} lacks {name}" for page, name in pages.items() if name not in read(page)]
    else:
        missing.append(f"tests/unit/test_roles.py lacks {kind} in NAMES: the names in the pages for users")
    if kind not in notification_settings.CHANNEL_KEYS:
        missing.append(f"plugins/plugin_utils/_notify/settings.py lacks the required keys of {kind} in CHANNEL_KEYS")
    server = reach.Server(host="localhost", port=25, security="none")
    if reach._check({"type": kind}, server=server, timeout=1.0, ca_path=None) is None:
        missing.append(f"plugins/plugin_utils/_notify/reach.py lacks the check of {kind} in _check")
    tasks = yaml.safe_load(text)
    missing += [
        f"{place} lacks no_log: true in the task {task['name']!r}" for task in tasks if task.get("no_log") is not True
    ]
    # A command verifies certificates itself, so it needs no ca_path.
    settings = ("timeout", "retries", "retry_delay", *(() if kind == "command" else ("ca_path",)))
    missing += [f"{place} lacks escalation_{name}" for name in settings if f"escalation_{name}" not in text]
    if "escalation_sent" not in text:
        missing.append(f"{place} lacks the result escalation_sent")
    known = {*notification_settings.CHANNEL_KEYS.get(kind, ()), *notification_settings.OPTIONAL_KEYS.get(kind, ())}
    missing += [
        f"plugins/plugin_utils/_notify/settings.py lacks the key {key} of {kind} in CHANNEL_KEYS or OPTIONAL_KEYS"
        for key in sorted({*re.findall(r"escalation_channel\.(\w+)", text)} - {*known, "name", "type"})
    ]
    missing += [f"plugins/plugin_utils/_notify/settings.py lacks {key} in _JUDGES" for key in sorted(known - JUDGED)]
    if f"type: {kind}" not in read("roles/escalation/defaults/main.yml"):
        missing.append(f"roles/escalation/defaults/main.yml lacks an example of the type {kind}")
    if kind not in TEXTS_FOR_PEOPLE:
        body = lacks_of_body(place, tasks)
        missing += [f"{each}. If only people read the message, add {kind} to TEXTS_FOR_PEOPLE" for each in body]
    elif TEXTS_FOR_PEOPLE[kind] not in text:
        missing.append(f"{place} lacks {TEXTS_FOR_PEOPLE[kind]}")
    assert missing == [], "\n".join(missing)


@pytest.mark.parametrize("name", ["notify_command", "notify_http", "notify_mail"])
def test_the_options_of_a_notification_are_documented(name: str) -> None:
    plugin = importlib.import_module(f"ansible_collections.itsm_nexus.runbook.plugins.action.{name}").ActionModule
    module = importlib.import_module(f"ansible_collections.itsm_nexus.runbook.plugins.modules.{name}")
    documented = yaml.safe_load(module.DOCUMENTATION)
    assert {*plugin.options, *notification_action.LIMITS} == set(documented["options"])


DOCUMENTED_CHANNELS = re.findall(
    r"^```yaml\n# (roles/escalation/tasks/channels/\w+\.yml)\n(.+?)^```$",
    (ROOT / "docs/escalation.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_documented_channels_send_a_complete_message() -> None:
    assert DOCUMENTED_CHANNELS
    taken = [name for name, _text in DOCUMENTED_CHANNELS if (ROOT / name).exists()]
    assert taken == [], "docs/escalation.md: choose other examples; the collection has these channels"
    lacks = [
        lack
        for name, text in DOCUMENTED_CHANNELS
        for lack in lacks_of_body(f"docs/escalation.md, the example {name},", yaml.safe_load(text))
    ]
    assert lacks == [], "\n".join(lacks)


def test_a_notification_about_repeated_restarts_names_their_time() -> None:
    """The reader of the notification may not know the settings."""
    assert _about_restarts(4, earlier=0) == "Recovery runs started the service 4 times within the last 90 minutes."


def _about_restarts(number: int, *, earlier: int) -> str:
    rules = load(ROOT / "roles/escalation/defaults/main.yml")["escalation_rules"]
    (reason,) = [rule["reason"] for rule in rules if rule["name"] == "repeated_restarts"]
    return jinja2.Template(reason).render(
        escalation_restarts=number, escalation_restarts_earlier=earlier, escalation_restart_window="5400.0"
    )


@pytest.mark.parametrize(("in_window", "of_incident", "earlier"), [(3, 2, 1), (3, 3, 0), (3, 5, 0), (3, 0, 3)])
def test_a_notification_about_repeated_restarts_counts_those_of_earlier_incidents(
    in_window: int, of_incident: int, earlier: int
) -> None:
    """If all starts were part of this incident, the message must not refer the reader to another incident."""
    closing = (ROOT / "playbooks/tasks/close_incident.yml").read_text(encoding="utf-8")
    (counted,) = re.findall(r'escalation_restarts_earlier: "(.+)"', closing)
    record = {"restarts_in_window": in_window, "starts": [{}] * of_incident}
    assert jinja2.Template(counted).render(outage_recover_record=record) == str(earlier)
    told = _about_restarts(in_window, earlier=earlier)
    assert told.endswith(f" minutes, {earlier} of them in earlier incidents." if earlier else " minutes.")


ANSWERS_WITH_DAMAGE = {"escalation_outcome": "degraded", "escalation_data_loss": True}
DOWN = {"escalation_outcome": "not_recovered"}


@pytest.mark.parametrize(
    ("before", "now", "level"),
    [
        ({"escalation_outcome": "degraded"}, DOWN, "not_recovered"),
        ({"escalation_outcome": "degraded"}, {**DOWN, "escalation_cause": "unknown"}, "everyone"),
        ({"escalation_outcome": "degraded"}, {**DOWN, "escalation_data_loss": True}, "data_loss"),
        ({"escalation_outcome": "degraded"}, ANSWERS_WITH_DAMAGE, "degraded_database"),
        (ANSWERS_WITH_DAMAGE, {**DOWN, "escalation_data_loss": True}, "data_loss"),
        ({"escalation_outcome": "degraded"}, {**DOWN, "escalation_severity": "unreachable"}, "unreachable"),
    ],
)
def test_a_degraded_service_that_fails_is_a_higher_level(
    before: dict[str, object], now: dict[str, object], level: str
) -> None:
    """If the service was degraded and then goes down, the notified contacts are notified again."""
    variables = load(ROOT / "roles/escalation/defaults/main.yml")
    values = {
        **{name: variables[name] for name in ("escalation_everyone_after", "escalation_leader_after_restarts")},
        **dict.fromkeys(("escalation_data_loss", "escalation_recovered"), False),
        **{"escalation_cause": "db_locked", "escalation_severity": "critical", "escalation_data_loss_verdict": "none"},
        **{"escalation_outage_seconds": 60.0, "escalation_restarts": 0, "escalation_restart_window": 3600.0},
    }

    def planned(changes: dict[str, object], notified: list[dict[str, object]]) -> list[dict[str, object]]:
        environment = jinja2.Environment(autoescape=True)
        environment.filters["bool"] = bool
        rules = [
            {**rule, "when": environment.from_string(str(rule["when"])).render({**values, **changes})}
            for rule in variables["escalation_rules"]
        ]
        contacts = {
            name: {"channels": [{"type": "mail", "to": f"{name}@example.com"}]}
            for name in ("project_leader", "dba", "everyone")
        }
        planned = notification_rules.plan(
            rules, contacts=contacts, notified=notified, recovered=False, acknowledged=False
        )
        assert planned["level"] == level or not notified
        return list(planned["deliveries"])

    told = [{**each, "ok": True} for each in planned(before, [])]
    assert told
    assert {each["level"] for each in planned(now, told)} == {level}


def test_the_timers_start_only_if_the_role_is_asked_to_start_them() -> None:
    """With controller_timer_state=present, only the units are installed.

    In check mode, these units may not exist yet.
    """
    tasks = yaml.safe_load((ROOT / "roles" / "controller_timer" / "tasks" / "present.yml").read_text(encoding="utf-8"))
    starting = [task for task in tasks if "ansible.builtin.systemd_service" in task]
    assert [task["ansible.builtin.systemd_service"]["name"].split("}}-")[1] for task in starting] == [
        "detect.timer",
        "{{ item.name }}.timer",
    ]
    for task in starting:
        started, checked = task["when"]
        assert started == "controller_timer_state == 'started'"
        assert re.fullmatch(r"not \(ansible_check_mode and controller_timer_placed\w* is changed\)", checked)
