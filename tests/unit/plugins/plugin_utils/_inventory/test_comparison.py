# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A discovery is compared with the inventory and the defaults.

A host can set only known variables, and only to plain values.
"""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, plain
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import comparison, screen, variables
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue

EN = catalogue.of("en")
NONE_OPEN = "QUESTIONS: 0. If the file still contains questions, they are no longer open: delete these comments"


def found(*questions, information=(), **values):
    return {
        "service": {"unit": "itsm-nexus-prod", "running": True, "app_dir": "/srv/itsm"},
        "variables": [
            {"variable": name, "value": value, "source": "a test", "messages": {}} for name, value in values.items()
        ],
        "questions": [{"variable": name, "question": "What?", "messages": {}} for name in questions],
        "information": [
            {"text": text, "messages": plain(text=Message("quoted", {"text": text}))} for text in information
        ],
    }


def compare(discovery, known=None, unsure=()):
    return comparison.compare(EN, discovery, known or {}, unsure=dict.fromkeys(unsure))


def states(discovery, known=None, unsure=()):
    return {each.name: each.state for each in compare(discovery, known, unsure).settings}


def test_every_variable_is_specified_by_a_role():
    assert set(variables.NAMES) <= set(variables.specification())
    assert variables.defaults()["nexus_https_port"] == 6443
    # The default value is a template.
    assert "database_recovery_backup_dirs" not in variables.defaults()


@pytest.mark.parametrize(
    ("name", "value", "known", "state"),
    [
        ("nexus_https_port", 6443, None, "default"),
        ("nexus_https_port", 7443, None, "new"),
        ("nexus_https_port", 6443, 7443, "other"),
        ("nexus_https_port", 6443, "6443", "same"),
        ("nexus_https_port", 6443, "no number", "other"),
        ("nexus_stop_timeout", 30, None, "default"),
        ("nexus_unit", "itsm-nexus-prod", "itsm-nexus-prod.service", "same"),
        ("nexus_command", ["/usr/bin/node", "backend/server.js"], None, "default"),
        ("nexus_command", ["node", "server.js"], ["node", "index.js"], "other"),
        ("nexus_command", ["node", "server.js"], [], "other"),
        ("nexus_db_path", "backend/a.db", "/srv/itsm/backend/a.db", "same"),
        ("nexus_db_path", "backend/a.db", "/srv/other/backend/a.db", "other"),
        ("nexus_log_file", "", None, "new"),
        ("nexus_log_file", "", "", "same"),
        ("nexus_log_patterns", ["backend/logs/*.log"], ["backend/logs/*.log", "more/*.log"], "same"),
        ("nexus_log_patterns", ["backend/logs/*.log", "x/*.log"], ["backend/logs/*.log"], "other"),
        ("nexus_health_ok_statuses", ["OK"], ["ok", "up"], "same"),
        ("nexus_health_path", "/health", "/health", "same"),
        ("nexus_health_path", "/health", None, "new"),
        ("database_recovery_backup_dirs", ["/backup"], None, "new"),
        ("database_recovery_backup_dirs", ["/backup"], ["/backup/", "/more"], "same"),
    ],
)
def test_state_of_a_variable(name, value, known, state):
    inventory = {} if known is None else {name: known}
    assert states(found(nexus_app_dir="/srv/itsm", **{name: value}), inventory)[name] == state


def test_a_variable_of_the_command_line_hides_the_inventory():
    assert states(found(nexus_unit="a"), {"nexus_unit": "a"}, unsure=["nexus_unit"]) == {"nexus_unit": "new"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ansible_connection", "local"),
        ("nexus_login_password", "{{ lookup('pipe', 'id') }}"),
        ("nexus_app_dir", "/srv/{{ lookup('pipe', 'id') }}"),
        ("nexus_app_dir", "/srv/{% raw %}"),
        ("nexus_app_dir", "/srv\nansible_connection: local"),
        ("nexus_app_dir", "/srv/\x1b[31m"),
        ("nexus_app_dir", ["/srv"]),
        ("nexus_command", ["node", "{{ x }}"]),
        ("nexus_command", "node server.js"),
        ("nexus_https_port", "6443"),
        ("nexus_https_port", True),
        ("nexus_manager", "upstart"),
    ],
)
def test_a_value_that_the_controller_must_not_use_becomes_a_question(name, value):
    compared = compare(found(**{name: value}))
    assert compared.settings == []
    (question,) = compared.questions
    assert question.name in ("", name)
    assert "does not accept" in question.text


@pytest.mark.parametrize("name", ["nexus_login_password", "nexus_environment_file"])
def test_an_empty_value_can_be_an_answer(name):
    discovery = found(name)
    assert [each.name for each in compare(discovery).questions] == [name]
    assert [each.name for each in compare(discovery, {name: None}).questions] == [name]
    assert [each.name for each in compare(discovery, {name: ""}, unsure=[name]).questions] == [name]
    assert compare(discovery, {name: ""}).questions == []


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (Message("discovery.question.other_folder", {"path": "/old", "found": "/srv/itsm"}), "nexus_app_dir"),
        (Message("discovery.question.no_such_file", {"path": "/etc/old"}), "nexus_environment_file"),
        (Message("discovery.question.down", {}), ""),
    ],
)
def test_a_question_about_a_wrong_value_stays_open_and_names_its_variable(told, name):
    discovery = {**found(), "questions": [{"variable": "", "question": "What?", "messages": plain(question=told)}]}
    (question,) = compare(discovery, {"nexus_app_dir": "/old", "nexus_environment_file": "/etc/old"}).questions
    assert (question.name, question.beside) == ("", name)


@pytest.mark.parametrize(
    ("state", "questions", "words"),
    [
        ("updated", [], NONE_OPEN),
        ("matches", [], NONE_OPEN),
        ("kept", [], NONE_OPEN),
        ("matches", ["nexus_unit"], "QUESTIONS: 1"),
        ("written", [], None),
    ],
)
def test_the_screen_says_if_no_question_is_open(state, questions, words):
    discovery = found(*questions)
    compared = compare(discovery)
    shown = screen.lines(EN, compared, service=discovery["service"], state=state, path="x", inventories=["i"])
    assert [each for each in shown if each.startswith("QUESTIONS")] == ([words] if words else [])


def test_a_question_is_open_until_the_inventory_answers_it():
    discovery = found("nexus_tls_cert_path", "", "ansible_user")
    assert [each.name for each in compare(discovery).questions] == ["nexus_tls_cert_path", "", ""]
    assert [each.name for each in compare(discovery, {"nexus_tls_cert_path": "/a"}).questions] == ["", ""]
    assert len(compare(discovery, {"nexus_tls_cert_path": ""}).questions) == 3


def test_text_of_the_host_is_one_line_without_control_characters():
    compared = compare(found(information=["a\nb \x1b[31mred\x1b[0m"]))
    assert compared.information == ["a b red"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (screen.WRITTEN, ["WRITTEN: /i/host_vars/x.yml, variables: 2", "next step: review /i/host_vars/x.yml"]),
        (screen.WOULD_WRITE, ["NOT WRITTEN (check mode)", "next step: run this playbook again without --check"]),
        (
            screen.KEPT,
            [
                "KEPT: /i/host_vars/x.yml",
                "DIFFERENCES between the inventory and the host: 2",
                "outage_discover_update=true",
            ],
        ),
        (screen.UPDATED, ["UPDATED: /i/host_vars/x.yml", "DIFFERENCES", "next step: review"]),
        (screen.WOULD_UPDATE, ["NOT UPDATED (check mode)", "DIFFERENCES"]),
        (screen.MATCHES, ["NO DIFFERENCE", "next step: run ansible-playbook -i 'a b' playbooks/outage_detect.yml"]),
        (screen.NO_FILE, ["the inventory is not a file", "next step: copy the text"]),
    ],
)
@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_the_screen(state, expected, language):
    compared = compare(found("", nexus_https_port=1, nexus_http_port=2), {"nexus_https_port": 3})
    lines = screen.lines(
        catalogue.of(language),
        compared,
        service={"unit": None, "running": False, "app_dir": "/srv"},
        state=state,
        path="/i/host_vars/x.yml",
        inventories=["a b"],
    )
    text = "\n".join(lines)
    assert all("\n" not in line for line in lines)
    if language == "en":
        assert all(each in text for each in expected), text
        assert text.startswith("FOUND: a process without a unit (not running) in /srv")
    if state in (screen.KEPT, screen.UPDATED, screen.WOULD_UPDATE) and language == "en":
        assert "  nexus_https_port: inventory 3, host 1 (" in text
        assert "  nexus_http_port: not set in the inventory (default 8080); the host has 2 (" in text


def test_the_specification_rejects_a_wrong_value():
    assert variables.problems({"nexus_https_port": 1, "nexus_manager": "systemd"}) == []
    assert "nexus_manager" in variables.problems({"nexus_manager": "upstart"})[0]
