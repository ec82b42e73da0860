# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's file is written next to the inventory or into an existing folder. The old content is not returned."""

from __future__ import annotations

import types

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.action import inventory_render
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory.host_file import InventoryError

FOUND = {
    "service": {"unit": "itsm-nexus-prod", "running": True, "app_dir": "/srv/itsm"},
    "variables": [
        {"variable": name, "value": value, "source": source, "messages": {"source": quoted(source).to_dict()}}
        for name, value, source in (("nexus_http_port", 8081, "PORT"), ("nexus_https_port", 6443, "HTTPS_PORT"))
    ],
    "questions": [],
    "information": [],
}


class Templar:
    """Returns each value unchanged. If a template uses a vault variable, it fails as if the variable were undefined."""

    available_variables = None

    def template(self, value):
        if "vault" in str(value):
            raise inventory_render.AnsibleError("undefined")
        return value


def run(folder, *, dest="", update=False, check_mode=False, diff=False, **variables):
    action = inventory_render.ActionModule.__new__(inventory_render.ActionModule)
    action._task = types.SimpleNamespace(check_mode=check_mode, diff=diff)
    action._templar = Templar()
    options = {"discovery": FOUND, "dest": dest, "update": update, "language": "en"}
    host = {"inventory_hostname": "itsm-prod-01", "inventory_dir": str(folder) if folder else None, **variables}
    return action._rendered(options, host)


def test_the_file_is_written_once(tmp_path):
    done = run(tmp_path)
    path = tmp_path / "host_vars" / "itsm-prod-01.yml"
    assert (done["changed"], done["written"], done["dest"], done["show_text"]) == (True, True, str(path), False)
    assert "nexus_http_port: 8081\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o644
    before = path.stat().st_mtime_ns
    again = run(tmp_path, nexus_http_port=8081)
    assert (again["changed"], again["written"], again["differences"]) == (False, False, [])
    assert path.stat().st_mtime_ns == before


def test_a_file_with_only_comments_can_be_updated(tmp_path):
    assert run(tmp_path, nexus_http_port=8081)["differences"] == []
    path = tmp_path / "host_vars" / "itsm-prod-01.yml"
    assert "nexus_http_port: 8081\n" not in path.read_text().replace("#   nexus", "")
    path.chmod(0o600)
    done = run(tmp_path, update=True, nexus_http_port=1)
    assert (done["changed"], done["written"]) == (True, True)
    assert path.read_text().endswith("# Source: PORT\nnexus_http_port: 8081\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_lines_of_a_file_are_in_no_result(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("api_token: canary\nnexus_http_port: 1\n")
    for update in (False, True):
        done = run(tmp_path, dest="mine.yml", update=update, diff=True, nexus_http_port=1)
        assert "canary" not in str(done)
    assert done["diff"][0]["before"] == "nexus_http_port: 1\n"
    assert done["diff"][0]["after"] == "nexus_http_port: 8081\n"
    assert "api_token: canary\n" in path.read_text()


def test_without_an_inventory_file_the_text_is_shown():
    done = run(None)
    assert (done["changed"], done["dest"], done["show_text"]) == (False, None, True)
    assert "nexus_http_port: 8081\n" in done["text"]


def test_a_job_of_awx_shows_the_text(tmp_path):
    done = run(tmp_path, awx_job_id=7)
    assert (done["written"], done["show_text"]) == (True, True)


@pytest.mark.parametrize(
    ("dest", "variables", "error"),
    [
        ("nowhere/x.yml", {}, "the folder .*nowhere does not exist. Create it"),
        ("all.yml", {"ansible_play_hosts_all": ["itsm-prod-01", "b"]}, "must contain the name of the host"),
        (".", {}, "Cannot read .*: "),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error(tmp_path, dest, variables, error):
    with pytest.raises(InventoryError, match=error):
        run(tmp_path, dest=dest, **variables)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["../../other", "a/b", "..", ".hidden"])
def test_a_host_name_does_not_lead_to_another_folder(tmp_path, host):
    """Host names may come from another source, such as a cloud provider."""
    (tmp_path / "inventory").mkdir()
    with pytest.raises(InventoryError, match="cannot be the name of a file"):
        run(tmp_path / "inventory", inventory_hostname=host)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_several_hosts_have_their_own_files(tmp_path):
    hosts = {"ansible_play_hosts_all": ["itsm-prod-01", "b"]}
    assert run(tmp_path, dest="itsm-prod-01.yml", **hosts)["written"]


def test_an_encrypted_file_is_compared_but_not_updated(tmp_path):
    path = tmp_path / "host_vars" / "itsm-prod-01.yml"
    path.parent.mkdir()
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    assert [each["variable"] for each in run(tmp_path, nexus_http_port=1)["differences"]] == ["nexus_http_port"]
    with pytest.raises(InventoryError, match="it is encrypted"):
        run(tmp_path, update=True, nexus_http_port=1)


def test_a_template_that_fails_does_not_stop_the_comparison(tmp_path):
    assert run(tmp_path, nexus_http_port="{{ vault_port }}")["written"]


def test_a_variable_of_the_command_line_is_not_compared_if_the_file_sets_it(tmp_path, monkeypatch):
    given = {"nexus_http_port": 1}
    monkeypatch.setattr(inventory_render.ansible_core.load_extra_vars, "extra_vars", given, raising=False)
    assert run(tmp_path, nexus_http_port=1)["written"]
    assert "nexus_http_port: 8081\n" in (tmp_path / "host_vars" / "itsm-prod-01.yml").read_text()
    assert run(tmp_path, nexus_http_port=1)["differences"] == []
