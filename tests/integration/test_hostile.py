# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hostile host can return arbitrary results. The controller does not execute, template or trust these results."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from .conftest import Run, Service

PROJECT = Path(__file__).resolve().parents[2]

# A host on which Python has been replaced can return any result. This module returns such a result.
_EVIL = """#!/usr/bin/python3
import json
print(json.dumps({"changed": False, "ansible_facts": %s, "said": %s}))
"""

_PLAY = """
- hosts: evil
  gather_facts: false
  tasks:
    - evil:
      register: evil
    - itsm_nexus.runbook.notify_command:
        argv: "{{ escalation_contacts.leader.channels[0].argv }}"
        retries: 0
      register: told
    - ansible.builtin.set_fact:
        cleaned: "{{ {'summary': evil.said} | itsm_nexus.runbook.escalation_facts }}"
    - ansible.builtin.debug:
        msg: "{{ cleaned.summary }} | {{ told.ok }} | {{ told.error }}"
"""


def play(folder: Path, *, facts: object, said: str, **environment: str) -> str:
    (folder / "library").mkdir()
    (folder / "library" / "evil.py").write_text(_EVIL % (json.dumps(facts), json.dumps(said)))
    (folder / "play.yml").write_text(_PLAY)
    contacts = {"leader": {"channels": [{"type": "command", "argv": ["touch", str(folder / "told")]}]}}
    inventory = {"all": {"hosts": {"evil": {"ansible_connection": "local", "escalation_contacts": contacts}}}}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    done = subprocess.run(
        ["ansible-playbook", "-i", folder / "hosts.json", folder / "play.yml"],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "false",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def planted(folder: Path) -> object:
    return {"escalation_contacts": {"leader": {"channels": [{"argv": ["touch", str(folder / "owned")]}]}}}


TEMPLATES = (
    "{{ lookup('ansible.builtin.pipe', 'touch OWNED') }}",
    "{% set x = lookup('ansible.builtin.pipe', 'touch OWNED') %}{{ x }}",
)


def test_a_host_can_neither_choose_commands_of_the_controller_nor_give_it_a_template(tmp_path: Path) -> None:
    said = " ".join(TEMPLATES).replace("OWNED", str(tmp_path / "owned"))
    screen = play(tmp_path, facts=planted(tmp_path), said=said)
    assert not (tmp_path / "owned").exists()
    assert (tmp_path / "told").exists(), screen
    assert screen.count("touch") == len(TEMPLATES)


def test_a_host_cannot_choose_commands_if_facts_are_variables(tmp_path: Path) -> None:
    screen = play(tmp_path, facts=planted(tmp_path), said="", ANSIBLE_INJECT_FACT_VARS="true")
    assert not (tmp_path / "owned").exists()
    assert "False | the facts of the host set escalation_contacts" in screen


CANARY = "Kanarienvogel-42!x"
MARKS = (
    *("\x1b]0;owned\x07", "\x1b[2J", "\u202e", "<script>alert(1)</script>", "![i](http://192.0.2.1/)", "@everyone"),
    "a\r\nBcc: x@a.example",
)


def plant(service: Service, owned: Path) -> str:
    """Plant templates in the log and the database.

    If a template is evaluated, it creates the file `owned`. Return one of the templates.
    """
    call = f"lookup('ansible.builtin.pipe', 'touch {owned}')"
    template = f"{{{{ {call} }}}}"
    with service.log.open("a", encoding="utf-8") as log:
        for text in (template, f"{{% set x = {call} %}}{{{{ x }}}}", f"!unsafe {template}", *MARKS):
            log.write(f"Error: {text}\n    at {text} (/srv/x.js:1:1)\n")
        log.write("DB_PASS=CANARY where `token` = 'CANARY' - SQLITE_BUSY\n".replace("CANARY", CANARY))
    with contextlib.closing(sqlite3.connect(service.database)) as database:
        for name in (template, *MARKS):
            database.execute(f'CREATE TABLE "{name}" (id)')
        database.commit()
    return template


def proved(run: Run, owned: Path) -> None:
    """Assert that no template was evaluated, and that no secret or active content is on the screen or in a document."""
    assert not owned.exists()
    written = {path.name: path.read_text(encoding="utf-8") for path in run.postmortems.iterdir()}
    for text in (run.screen, *written.values()):
        assert CANARY not in text
        assert not [mark for mark in ("\x1b]", "\x1b[2J", "\u202e") if mark in text]
    pages = [text for name, text in written.items() if name.endswith(".html")]
    assert pages and not [text for text in pages if "<script" in text or "<img" in text]


def test_a_host_full_of_templates_is_recovered_without_evaluating_one(service: Service, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    plant(service, owned)
    service.kill()
    listener = tmp_path / "told"
    contacts = {"leader": {"name": "Leader", "channels": [{"type": "command", "argv": ["tee", str(listener)]}]}}
    run = service.play(
        "playbooks/outage_recover.yml",
        "-vvv",
        escalation_contacts=contacts,
        escalation_rules=[{"name": "all", "when": True, "to": ["leader"], "reason": "a test"}],
    )
    assert (run.rc, service.healthy()) == (0, True)
    proved(run, owned)
    assert CANARY not in listener.read_text(encoding="utf-8")
    # The secrets of the run itself do not appear on the screen or in files on the host either.
    own = [value for name, value in service.environment().items() if name.endswith(("_SECRET", "_PASSWORD"))]
    kept = [path.read_text("utf-8", "replace") for path in service.state.rglob("*") if path.is_file()]
    assert len(own) > 1 and len(kept) > 3
    for secret in (CANARY, *own):
        assert not [text for text in (run.screen, *kept) if secret in text]


def test_a_template_in_a_command_line_is_shown_and_not_evaluated(service: Service, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    template = plant(service, owned)
    service.kill()
    program = f"import socket; s = socket.create_server(('', {service.http_port})); [s.accept() for _ in iter(int, 1)]"
    argv = ["python3", "-c", program, template, f"--db-pass={CANARY}", "\x1b]0;owned\x07"]
    with subprocess.Popen(argv) as stranger:
        try:
            run = service.play("playbooks/outage_recover.yml", "-vvv")
        finally:
            stranger.kill()
    assert run.rc != 0
    assert str(stranger.pid) in run.screen
    proved(run, owned)


def test_a_hostile_inventory_name_has_no_effect(tmp_path: Path) -> None:
    # An inventory may be generated from names that the hosts have chosen themselves.
    kept = tmp_path / "a" / "b" / "unreachable"
    hosts = {"../../../owned": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}}
    (tmp_path / "hosts.json").write_text(json.dumps({"itsm_nexus": {"hosts": hosts}}))
    done = subprocess.run(
        [
            *("ansible-playbook", "-i", tmp_path / "hosts.json", "playbooks/outage_recover.yml"),
            *("-e", f"outage_recover_unreachable_dir={kept}", "-e", "ansible_become=false"),
        ],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ITSM_NEXUS_POSTMORTEM_DIR": f"{tmp_path}/p",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    (record,) = kept.iterdir()
    assert [path.name for path in record.iterdir()] == ["incident.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "hosts.json", "p"]
    assert not (tmp_path.parent / "owned").exists()


# Terminal controls: escape sequences in 7-bit and 8-bit form, bell, text direction, carriage return.
ORDERS = "\x1b]0;owned\x07\x1b[2J \x9b2J \u202e a\rb"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
ANSWER = {
    "changed": True,
    "msg": ORDERS,
    "warnings": [ORDERS],
    "diff": {"before": f"{ORDERS}\n", "after": f"{ORDERS}2\n", "before_header": ORDERS, "after_header": ORDERS},
    "ansible_facts": {"said": ORDERS},
    "invocation": {"module_args": {"said": ORDERS}},
    "_ansible_verbose_always": True,
    "_ansible_verbose_override": False,
    "_ansible_delegated_vars": {"ansible_host": ORDERS},
    "_ansible_item_label": ORDERS,
    "_ansible_other": ORDERS,
    ORDERS: ORDERS,
}
LIES = {
    "ok": json.dumps(ANSWER),
    "raw": json.dumps(ANSWER, ensure_ascii=False).replace("\\u009b", "\x9b"),
    "failed": json.dumps({**ANSWER, "failed": True, "exception": f"Traceback\n{ORDERS}"}),
    # The result format of modules up to ansible-core 2.18.
    "deprecations": json.dumps(
        {**ANSWER, "deprecations": [{"msg": ORDERS, "version": "9.9", "collection_name": ORDERS}]}
    ),
    "results": json.dumps({**ANSWER, "results": [ANSWER, ORDERS]}),
    "lines-around-it": f"{ORDERS}\n{json.dumps(ANSWER)}\n{ORDERS}\n",
    "no-answer": f"{ORDERS}\n",
    # The result format of modules since ansible-core 2.19.
    "messages-of-ansible-core": json.dumps(
        {
            **ANSWER,
            "warnings": [{"__ansible_type": "WarningSummary", "event": {"__ansible_type": "Event", "msg": ORDERS}}],
            "deprecations": [
                {"__ansible_type": "DeprecationSummary", "event": {"__ansible_type": "Event", "msg": ORDERS}},
            ],
            "failed": True,
            "exception": {"__ansible_type": "ErrorSummary", "event": {"__ansible_type": "Event", "msg": ORDERS}},
        }
    ),
}


def liar(folder: Path, answer: str) -> dict[str, str]:
    """Return variables for a host with a fake Python, which returns the same result for every module."""
    folder.mkdir()
    (folder / "answer").write_text(answer, encoding="utf-8", newline="")
    (folder / "error").write_text(f"{ORDERS}\n", encoding="utf-8", newline="")
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\ncat >/dev/null\ncat {folder}/error >&2\nexec cat {folder}/answer\n", "utf-8")
    python.chmod(0o755)
    return {"ansible_connection": "local", "ansible_python_interpreter": str(python)}


@pytest.mark.parametrize("verbose", [[], ["-vvv"]], ids=["quiet", "verbose"])
def test_no_answer_of_a_host_controls_the_terminal(tmp_path: Path, verbose: list[str]) -> None:
    hosts = {name: liar(tmp_path / name, answer) for name, answer in LIES.items()}
    tasks = [
        {"itsm_nexus.runbook.sqlite_owner": {"path": "/srv/x.db", "user": "nobody"}, "ignore_errors": True},
        {"itsm_nexus.runbook.health_probe": {"endpoints": []}, "ignore_errors": True},
        {"itsm_nexus.runbook.incident": {"state": "open"}, "ignore_errors": True, "register": "said"},
        {"ansible.builtin.debug": {"var": "said"}},
    ]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.json", "--diff", *verbose],
        cwd=PROJECT,
        env={
            **environment,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_DEPRECATION_WARNINGS": "true",
            "ITSM_NEXUS_POSTMORTEM_DIR": str(tmp_path / "p"),
        },
        capture_output=True,
        check=False,
        timeout=120,
    )
    screen = (done.stdout + done.stderr).decode("utf-8")
    print(screen)
    assert screen.count("TASK [") == 4
    assert [sign for sign in OBEYED if sign in screen] == []
    for name in LIES:
        # The result that the last task shows.
        (said,) = re.findall(rf"^ok: \[{name}\] => ({{$.+?^}})$", screen, flags=re.MULTILINE | re.DOTALL)
        assert "owned" in said or (name == "no-answer" and not verbose)


# ansible-core publishes the statistics of any module as artifacts of the job. In AWX, these become extra variables of
# the later steps of the workflow.
CLAIM = {"escalation_contacts": "OWNED", "outage_recover": {"other": {"outcome": "OWNED"}}}
EFFECTS = {
    "ansible_stats": {"data": CLAIM, "per_host": False, "aggregate": True},
    "ansible_facts": {**CLAIM, "discovered_interpreter_python": "OWNED"},
}


def test_no_answer_of_a_host_sets_a_variable_or_an_artifact(tmp_path: Path) -> None:
    # The incident module returns the value of its option "opened". This value is from an earlier result of the host.
    answer = {"changed": False, **EFFECTS, "results": [EFFECTS, [EFFECTS]], "opened": {"id": "1", **EFFECTS}}
    variables = liar(tmp_path / "host", json.dumps(answer))
    contacts = "{{ escalation_contacts | default('unset') }}"
    facts = "{{ ansible_facts | combine(hostvars.localhost.ansible_facts | default({})) }}"
    tasks = [
        {"itsm_nexus.runbook.service_discovery_info": {"app_dir": "/srv/x"}},
        {"itsm_nexus.runbook.service_discovery_info": {"app_dir": "{{ item }}"}, "loop": ["/srv/x", "/srv/y"]},
        {"itsm_nexus.runbook.health_probe": {"endpoints": []}, "register": "seen"},
        {"itsm_nexus.runbook.incident": {"state": "open", "opened": "{{ seen.opened }}"}},
        {
            "itsm_nexus.runbook.incident": {"state": "open", "opened": "{{ seen.opened }}"},
            "delegate_to": "localhost",
            "delegate_facts": True,
        },
        {"itsm_nexus.runbook.first_response": {}},
        {"itsm_nexus.runbook.preparedness_info": {}},
        {"itsm_nexus.runbook.impact_info": {"path": "/srv/x.db", "start": "x", "end": "x"}},
        {"itsm_nexus.runbook.postmortem_archive": {"dir": "/srv/x"}},
        {"ansible.builtin.set_stats": {"data": {"of_the_controller": "{{ seen.opened.id }}"}}},
        {"ansible.builtin.debug": {"msg": f"contacts {contacts}, facts {facts}"}},
    ]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "evil", "gather_facts": False, "tasks": tasks}]))
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"evil": variables}}}))
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.json", tmp_path / "play.json"],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_INJECT_FACT_VARS": "true",
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ITSM_NEXUS_POSTMORTEM_DIR": str(tmp_path / "p"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    screen = done.stdout + done.stderr
    assert done.returncode == 0 and screen.count("TASK [") == len(tasks), screen
    assert "OWNED" not in screen
    assert "contacts unset, facts {}" in screen
    (published,) = re.findall(r"^CUSTOM STATS: \**\n\s*RUN: (.*)$", screen, flags=re.MULTILINE)
    assert json.loads(published) == {"of_the_controller": "1"}
