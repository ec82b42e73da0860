# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If a host does not respond, the result states only known facts, and the summary counts such hosts."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen_hosts, screen_layout
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist


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
        ("ssh: connect to host host port 22: Connection refused", "ansible_port"),
        ("ssh: connect to host host port 22: No route to host", "another way"),
        ("Failed command was: mkdir /x && echo ok; mkdir: /x: Permission denied", "console"),
        ("the host gave no answer within 60 s: a disk or the whole host hangs", "console"),
    ],
)
def test_the_next_step_names_what_to_check_without_text_of_the_host(why: str, look_at: str) -> None:
    step = unreachable.next_step(f"the host cannot be reached: {why} CANARY")
    assert catalogue.of("ja").message(unreachable.reach(why).to_dict())
    assert look_at in step and "CANARY" not in step and step.endswith("run the playbook again.")


def test_nothing_is_guessed_about_a_service_that_was_not_checked() -> None:
    look = unreachable.look(message("reason.unreached", why="gone"))
    assert (look["healthy"], look["severity"], look["process"]["state"]) == (False, "unreachable", "unknown")
    assert look["endpoints"] == [] and look["last_success_at"] is look["first_failure_at"] is None
    assert "failed" not in look


@pytest.mark.parametrize(
    ("problems", "silent"),
    [(["nexus_app_dir"], True), (["nexus_app_dir", "nexus_user"], False), (["nexus_user"], False), ([], False)],
)
def test_a_disk_that_does_not_answer_is_not_an_invalid_setting(problems: list[str], silent: bool) -> None:
    preflight = {"problems": [{"variable": name} for name in problems], "silent": ["nexus_app_dir"]}
    assert unreachable.silent({"failed": True, "preflight": preflight}) is silent
    assert not unreachable.silent({"healthy": False, "preflight": None})


@pytest.mark.parametrize("language", ["en", "ja"])
def test_hosts_are_counted_and_those_that_need_attention_are_named(language: str) -> None:
    spoken = catalogue.of(language)
    healthy = [f"well-{number}" for number in range(52)]
    ended = {"healthy": healthy, "recovered": ["a", "b"], "unreachable": [f"lost-{number:02}" for number in range(20)]}
    tone, (head, *lines) = screen_hosts.hosts(spoken, ended)
    assert tone == screen_layout.BAD
    assert all(text in head for text in ("74", "52", "20"))
    text = "\n".join(lines)
    assert "well-0" not in text and all(name in text for name in ("a", "b", "lost-00", "lost-19"))
    assert all(screen_layout.columns(line) <= screen_layout.WIDTH for line in lines)
    assert screen_hosts.hosts(spoken, {"healthy": healthy})[0] == screen_layout.GOOD
    assert screen_hosts.hosts(spoken, {"healthy": healthy, "warning": ["a"]})[0] == screen_layout.ATTENTION


def test_every_outcome_has_a_word() -> None:
    assert all(catalogue.of("ja").knows("ended", ended) for ended in allowlist.SUMMARY)
