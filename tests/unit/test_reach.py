# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host without an answer: every module that works on the host has one for it, and the screen counts many hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import reach, render_screen, whitelist, words

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text("utf-8"))
ON_HOST = RUNTIME["action_groups"]["host"]


class TaskTimeoutError(BaseException):
    """Of the name that ansible-core gives to the end of a task's time."""


@pytest.mark.parametrize("module", ON_HOST)
def test_a_module_that_works_on_the_host_has_an_answer_where_the_host_has_none(module: str) -> None:
    routing = RUNTIME["plugin_routing"]["modules"].get(module, {"action_plugin": f"itsm_nexus.runbook.{module}"})
    name = routing["action_plugin"].rsplit(".", 1)[-1]
    assert "reach.OnHost" in (ROOT / "plugins" / "action" / f"{name}.py").read_text("utf-8")


def test_what_is_no_answer_is_told_apart_from_an_error() -> None:
    lost = reach.unanswered(AnsibleConnectionFailure("ssh: connect to host:\n timed out"), timeout=0)
    assert lost == "it can not be reached: ssh: connect to host: timed out"
    hung = reach.unanswered(TaskTimeoutError(), timeout=60)
    assert hung == "it gave no answer within 60 s: a disk of it hangs, or all of it"
    assert reach.unanswered(ValueError("timed out"), timeout=60) is None
    asked = reach.unanswered(AnsibleError("Missing sudo password"), timeout=0)
    assert asked == "it can not be worked on: Missing sudo password"
    assert reach.unanswered(AnsibleError("Missing sudo password in x=CANARY"), timeout=0) is None


@pytest.mark.parametrize(
    ("why", "look_at"),
    [
        ("Failed to connect to the host via ssh: me@host: Permission denied (publickey,password).", "ansible_user"),
        ("Invalid/incorrect password: Permission denied, please try again.", "ansible_user"),
        ("Received disconnect from ::1 port 22:2: Too many authentication failures", "ansible_user"),
        (
            "No ED25519 host key is known for host. Host key verification failed.",
            "known_hosts",
        ),
        ("@@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@@ IT IS POSSIBLE", "known_hosts"),
        ("Timeout (12s) waiting for privilege escalation prompt: ", "ansible_become_password"),
        ("Incorrect sudo password", "ansible_become_password"),
        ("ssh: connect to host host port 22: No route to host", "console"),
        ("Failed command was: mkdir /x && echo ok; mkdir: /x: Permission denied", "console"),
        ("it gave no answer within 60 s: a disk of it hangs, or all of it", "console"),
    ],
)
def test_the_next_step_says_what_to_look_at_and_nothing_of_what_was_said(why: str, look_at: str) -> None:
    step = reach.next_step(f"it can not be reached: {why} CANARY")
    assert look_at in step and "CANARY" not in step and step.endswith("run the playbook again.")


def test_nothing_is_guessed_of_a_service_that_could_not_be_looked_at() -> None:
    look = reach.look("it can not be reached")
    assert (look["healthy"], look["severity"], look["process"]["state"]) == (False, "unreachable", "unknown")
    assert look["endpoints"] == [] and look["last_success_at"] is look["first_failure_at"] is None
    assert "failed" not in look


@pytest.mark.parametrize(
    ("problems", "silent"),
    [(["nexus_app_dir"], True), (["nexus_app_dir", "nexus_user"], False), (["nexus_user"], False), ([], False)],
)
def test_a_disk_that_does_not_answer_is_no_wrong_setting(problems: list[str], silent: bool) -> None:
    preflight = {"problems": [{"variable": name} for name in problems], "silent": ["nexus_app_dir"]}
    assert reach.silent({"failed": True, "preflight": preflight}) is silent
    assert not reach.silent({"healthy": False, "preflight": None})


@pytest.mark.parametrize("language", ["en", "ja"])
def test_many_hosts_are_counted_and_those_that_want_somebody_are_named(language: str) -> None:
    spoken = words.of(language)
    healthy = [f"well-{number}" for number in range(52)]
    ended = {"healthy": healthy, "recovered": ["a", "b"], "unreachable": [f"lost-{number:02}" for number in range(20)]}
    tone, (head, *lines) = render_screen.hosts(spoken, ended)
    assert tone == render_screen.BAD
    assert all(text in head for text in ("74", "52", "20"))
    text = "\n".join(lines)
    assert "well-0" not in text and all(name in text for name in ("a", "b", "lost-00", "lost-19"))
    assert all(render_screen.columns(line) <= render_screen.WIDTH for line in lines)
    assert render_screen.hosts(spoken, {"healthy": healthy})[0] == render_screen.GOOD
    assert render_screen.hosts(spoken, {"healthy": healthy, "warning": ["a"]})[0] == render_screen.ATTENTION


def test_every_way_to_end_has_its_word() -> None:
    assert all(words.of("ja").knows("ended", ended) for ended in whitelist.SUMMARY)
