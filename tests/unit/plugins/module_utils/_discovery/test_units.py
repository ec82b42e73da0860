# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service is found by the name of its unit, by its command, or by its process."""

from __future__ import annotations

import os

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.commands import Completed
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import messages, units


def unit(name, argv="/usr/bin/node backend/server.js", *, active=True, folder="/srv/app", loaded=True):
    state = "active" if active else "inactive"
    command = f"{{ path={argv.split()[0]} ; argv[]={argv} ; ignore_errors=no ; start_time=[n/a] }}"
    return (
        f"Id={name}.service\nLoadState={'loaded' if loaded else 'not-found'}\nActiveState={state}\n"
        f"WorkingDirectory={folder}\nExecStart={command}\n"
    )


class Host:
    """A fake host with the given units. If no units are given, the host does not have systemd."""

    def __init__(self, **found):
        self.found = found

    def __call__(self, argv, *, timeout):
        if not self.found:
            return Completed(argv, 1, "", "System has not been booted with systemd", 0.1)
        if argv[1] == "show":
            names = [name.replace(".service", "") for name in argv[argv.index("--") + 1 :]]
            blocks = [self.found.get(name, unit(name, loaded=False)) for name in names]
            return Completed(argv, 0, "\n".join(blocks), "", 0.1)
        listed = "".join(f"{name}.service enabled enabled\n" for name in self.found)
        return Completed(argv, 0, f"{listed}getty@.service enabled enabled\n", "", 0.1)


def find(host, *, unit="", app_dir="", proc_root="/nonexistent"):
    return units.find(unit, app_dir=app_dir, run=host, proc_root=proc_root)


def test_a_named_unit_is_used():
    found = find(Host(**{"my-app": unit("my-app", "/usr/bin/npm start")}), unit="my-app.service")
    assert (found.unit.name, found.others, found.missing) == ("my-app", [], "")
    assert found.unit.argv == ["/usr/bin/npm", "start"]


@pytest.mark.parametrize(
    "argv",
    [
        "/usr/bin/node backend/server.js",
        "/opt/node/bin/node --max-old-space-size=512 /srv/app/backend/server.js",
        "/bin/sh -c exec node server.js",
        "/usr/bin/nodejs dist/server.mjs",
    ],
)
def test_a_unit_is_found_by_its_command(argv):
    host = Host(web=unit("web", "/usr/bin/node index.js"), cron=unit("cron", "/usr/sbin/cron"), x=unit("x", argv))
    assert find(host).unit.name == "x"


def test_a_unit_is_found_by_a_name_that_is_in_use():
    assert (
        find(Host(**{"itsm-sec-nexus-prod": unit("itsm-sec-nexus-prod", "/usr/bin/npm start")})).unit.argv[1] == "start"
    )


def test_a_unit_that_the_host_does_not_have_is_reported():
    found = find(Host(real=unit("real")), unit="itsm-system")
    assert (found.unit.name, found.missing) == ("real", "itsm-system")


def test_of_several_units_the_folder_or_the_state_decides():
    two = {"a": unit("a", folder="/srv/a"), "b": unit("b", folder="/srv/b", active=False)}
    assert (find(Host(**two)).unit.name, find(Host(**two)).others) == ("a", ["b"])
    assert find(Host(**two), app_dir="/srv/b/").unit.name == "b"


def test_several_active_units_are_listed():
    with pytest.raises(messages.DiscoveryError, match="It is unclear which of these units runs the service: a, b"):
        find(Host(a=unit("a", folder="/srv/a"), b=unit("b", folder="/srv/b")))


def test_a_named_unit_that_is_down_has_active_others():
    host = Host(old=unit("old", active=False), new=unit("new"), idle=unit("idle", active=False))
    found = find(host, unit="old")
    assert (found.unit.name, found.others) == ("old", ["new"])


@pytest.fixture
def proc(tmp_path):
    """Return a function that adds a process to a folder with the format of /proc."""
    (tmp_path / "self" / "ns").mkdir(parents=True)
    os.symlink("pid:[1]", tmp_path / "self" / "ns" / "pid")

    def add(pid, *argv, cwd, namespace="pid:[1]", exe="/usr/bin/node"):
        folder = tmp_path / str(pid)
        (folder / "ns").mkdir(parents=True)
        fields = " ".join(["S", "1", *["0"] * 17, "100"])
        (folder / "stat").write_text(f"{pid} (node) {fields} 0 0")
        (folder / "status").write_text("Uid:\t0\t0\t0\t0\n")
        (folder / "cmdline").write_text("".join(f"{word}\0" for word in argv))
        os.symlink(exe, folder / "exe")
        os.symlink(str(cwd), folder / "cwd")
        os.symlink(namespace, folder / "ns" / "pid")
        return str(tmp_path)

    return add


def test_without_a_unit_the_process_is_found(proc):
    proc(7, "node", "index.js", cwd="/srv/other")
    proc(8, "vim", "server.js", cwd="/srv/other", exe="/usr/bin/vim")
    proc(9, "node", "backend/server.js", cwd="/srv/container", namespace="pid:[2]")
    root = proc(10, "node", "backend/server.js", cwd="/srv/app")
    assert find(Host(), proc_root=root).process.pid == 10


def test_several_processes_are_listed_and_the_folder_decides(proc, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    proc(9, "node", "backend/server.js", cwd=folder)
    root = proc(10, "node", "backend/server.js", cwd="/srv/b")
    assert find(Host(), app_dir=str(folder), proc_root=root).process.pid == 9
    with pytest.raises(messages.DiscoveryError, match="It is unclear which of several processes is the service"):
        find(Host(), proc_root=root)


def test_a_folder_of_the_inventory_is_used_if_the_service_is_down(proc, tmp_path):
    root = proc(10, "node", "backend/server.js", cwd="/srv/b")
    found = find(Host(), app_dir=str(tmp_path), proc_root=root)
    assert (found.unit, found.process, found.folder, found.others) == (None, None, str(tmp_path), ["/srv/b"])


def test_a_folder_of_the_inventory_that_does_not_exist_is_named(proc):
    root = proc(10, "node", "index.js", cwd="/srv/b")
    with pytest.raises(messages.DiscoveryError, match="nexus_app_dir is /srv/none, but this host has no such folder"):
        find(Host(), app_dir="/srv/none", proc_root=root)


def test_a_host_without_the_service_is_an_error(proc):
    root = proc(10, "node", "index.js", cwd="/srv/b")
    with pytest.raises(messages.DiscoveryError, match="Set nexus_unit to the name of the unit"):
        find(Host(cron=unit("cron", "/usr/sbin/cron")), proc_root=root)
