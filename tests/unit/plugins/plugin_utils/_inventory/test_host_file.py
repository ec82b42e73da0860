# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's file: a new file with sources and questions, and an update that keeps a person's changes."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import host_file
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory.comparison import (
    DEFAULT,
    NEW,
    OTHER,
    SAME,
    Comparison,
    Question,
    Setting,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue

EN = catalogue.of("en")
COMMAND = Setting("nexus_command", ["/opt/node", "a b.js"], "ExecStart", NEW, None)
PORT = Setting("nexus_http_port", 8081, "PORT in /etc/env", OTHER, 8080)
UNIT = Setting("nexus_unit", "itsm-nexus-prod", "systemd", SAME, "itsm-nexus-prod")
HTTPS = Setting("nexus_https_port", 6443, "HTTPS_PORT", DEFAULT, 6443)


def test_a_new_file():
    compared = Comparison(
        [COMMAND, PORT, UNIT, HTTPS],
        [
            Question("", "Is it down?"),
            Question("nexus_http_port", "Really?"),
            Question("nexus_tls_cert_path", "Which?"),
        ],
        ["systemd: Restart=always"],
    )
    text = host_file.render(EN, compared, host="itsm-prod-01")
    assert text == (
        "---\n"
        "# The variables of itsm-prod-01, found by outage_discover.yml.\n"
        "# Review each line and answer the questions. If the line below a question is correct, "
        "delete only the question. All\n"
        "#   other variables keep their values.\n"
        "\n"
        "# QUESTION: Is it down?\n"
        "\n"
        "# Source: ExecStart\n"
        "nexus_command: [/opt/node, a b.js]\n"
        "\n"
        "# QUESTION: Really?\n"
        "# Source: PORT in /etc/env\n"
        "nexus_http_port: 8081\n"
        "\n"
        "# QUESTION: Which?\n"
        "# nexus_tls_cert_path:\n"
        "\n"
        "# These defaults are correct on this host:\n"
        "#   nexus_https_port: 6443  (HTTPS_PORT)\n"
        "\n"
        "# These values are correct and are already set elsewhere in the inventory:\n"
        "#   nexus_unit: itsm-nexus-prod  (systemd)\n"
        "\n"
        "# Information:\n"
        "#   systemd: Restart=always\n"
    )
    host_file.check(text, compared.differences, path="x")
    assert yaml.safe_load(text) == {"nexus_command": ["/opt/node", "a b.js"], "nexus_http_port": 8081}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            [COMMAND, PORT],
            "# Source: ExecStart\nnexus_command: [/opt/node, a b.js]\n\n# QUESTION: Is it right?\n# Source: P",
        ),
        ([COMMAND], "nexus_command: [/opt/node, a b.js]\n\n# QUESTION: Is it right?\n# nexus_http_port:\n"),
    ],
)
def test_a_question_is_next_to_the_variable_that_answers_it(settings, expected):
    compared = Comparison(settings, [Question("", "Is it right?", "nexus_http_port")], [])
    text = host_file.render(EN, compared, host="itsm-prod-01")
    assert expected in text
    assert text.count("QUESTION") == 1


def test_the_question_about_the_login_names_both_variables():
    compared = Comparison([], [Question("nexus_login_password", "Check the login?")], [])
    text = host_file.render(EN, compared, host="itsm-prod-01")
    assert "# QUESTION: Check the login?\n# nexus_login_username:\n# nexus_login_password:\n" in text


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_a_file_in_each_language_loads(language):
    compared = Comparison([COMMAND], [Question("", "?" * 300)], ["x " * 200])
    host_file.check(host_file.render(catalogue.of(language), compared, host="x"), [COMMAND], path="x")


@pytest.mark.parametrize("value", ["yes", "8080", "a: b", "# a", "", "*x", "!vault", "日本", 1.5, [], ["a, b", "]"]])
def test_a_value_is_read_back_as_it_was(value):
    assert yaml.safe_load(host_file.line("x", value)) == {"x": value}
    assert "\n" not in host_file.line("x", value)


def test_a_long_comment_is_wrapped():
    lines = host_file.comment("word " * 60 + "x" * 200)
    assert len(lines) > 2
    assert all(line.startswith("# ") for line in lines)
    assert all(len(line) <= 120 for line in lines[:-1])


EXISTING = """---
# Mine.
ansible_user: me   # not root

# Source: an earlier run
#   on two lines
nexus_http_port: 8080  # the load balancer
nexus_command:
  - node
  - server.js

# The password is in a vault.
nexus_login_password: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  6162
# The end.
"""


def test_an_update_changes_only_the_variables_that_differ():
    text = host_file.update(EN, EXISTING, [COMMAND, PORT], path="x")
    assert text == EXISTING.replace(
        "# Source: an earlier run\n#   on two lines\nnexus_http_port: 8080  # the load",
        "# Source: PORT in /etc/env\nnexus_http_port: 8081  # the load",
    ).replace("nexus_command:\n  - node\n  - server.js\n", "nexus_command: [/opt/node, a b.js]\n")
    assert host_file.update(EN, text, [COMMAND, PORT], path="x") == text


@pytest.mark.parametrize("text", ["", "---\n", "---\n# Only a comment.\n", "a: 1", "a: 1\n"])
def test_a_missing_variable_is_added_at_the_end(text):
    updated = host_file.update(EN, text, [PORT], path="x")
    assert updated.startswith(text)
    assert updated.endswith("\n# Source: PORT in /etc/env\nnexus_http_port: 8081\n")
    assert yaml.safe_load(updated)["nexus_http_port"] == 8081


def test_other_languages_replace_the_source_too():
    japanese = host_file.update(catalogue.of("ja"), "nexus_http_port: 1\n", [PORT], path="x")
    assert japanese == "nexus_http_port: 8081\n"
    rendered = host_file.update(catalogue.of("ja"), "", [PORT], path="x")
    assert host_file.update(EN, rendered, [PORT], path="x").endswith(
        "# Source: PORT in /etc/env\nnexus_http_port: 8081\n"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [", "it is not YAML"),
        ("- a\n", "it must contain variables"),
        ("{a: 1}\n", "it is not YAML"),
        ("nexus_http_port: 1\n...\n", "it is not YAML"),
    ],
)
def test_a_file_that_cannot_be_updated_is_an_error(text, error):
    with pytest.raises(host_file.InventoryError, match=error):
        host_file.update(EN, text, [PORT, UNIT], path="x")


def test_a_file_that_does_not_fit_its_role_is_an_error():
    wrong = Setting("nexus_manager", "upstart", "x", NEW, None)
    with pytest.raises(host_file.InventoryError, match="nexus_manager"):
        host_file.check("nexus_manager: upstart", [wrong], path="x")
    with pytest.raises(host_file.InventoryError, match="would not load"):
        host_file.check("nexus_manager: systemd", [wrong], path="x")


def test_the_usual_file_of_a_host(tmp_path):
    folder = tmp_path / "host_vars"
    assert host_file.usual_path(str(tmp_path), "a") == str(folder / "a.yml")
    folder.mkdir()
    (folder / "a.yaml").touch()
    assert host_file.usual_path(str(tmp_path), "a") == str(folder / "a.yaml")
    (folder / "b").mkdir()
    assert host_file.usual_path(str(tmp_path), "b") == str(folder / "b" / "discovered.yml")


def test_the_comparison_without_some_settings():
    compared = Comparison([COMMAND, PORT], [], [])
    assert compared.without(["nexus_http_port"]).settings == [COMMAND]
