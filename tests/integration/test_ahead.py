# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If modules are packed in advance, Ansible's cache contains the entries that Ansible itself would create."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch

from .conftest import Service

ROOT = Path(__file__).resolve().parents[2]

# Pack a module twice, each time into an empty cache: first as the callback does, then as an Ansible worker does.
SCRIPT = """
import json, os, shutil, sys, time
from ansible import constants
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch

cache = os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")

def kept():
    made = [name for name in os.listdir(cache) if not name.endswith((".lock", "-part"))]
    return {name: os.path.getsize(os.path.join(cache, name)) for name in made}

packer = module_prefetch.Packer()
packer.begun("node_process")
assert not packer._children, "not in a recovery"
packer.recovers = True
packer.begun("npm_ci")
assert not os.path.exists(cache), "nothing follows it"
packer.begun("node_process")
packer.begun("node_process")
(child,) = packer._children
deadline = time.monotonic() + 60
while not (os.path.exists(cache) and kept()) and time.monotonic() < deadline:
    time.sleep(0.05)
packer.end()
packed = kept()
shutil.rmtree(cache)
module_prefetch._pack("itsm_nexus.runbook.sqlite_info")
print(json.dumps([packed, kept()]))
"""


# Count the kinds of plugins that are loaded, before and after the packer prepares a play.
LOADING = """
import os, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch

def loaded():
    kinds = [f"ansible.plugins.{kind}." for kind in ("filter", "test", "action", "connection", "shell")]
    kinds.append("ansible_collections.itsm_nexus.runbook.plugins.action.")
    return {kind for kind in kinds for name in sys.modules if name.startswith(kind)}

before = loaded()
packer = module_prefetch.Packer()
packer.play({"module_defaults": {"group/itsm_nexus.runbook.host": {}}}, DataLoader())
packer.end()
print(len(loaded()), len(before), os.environ.get("PYTHONUNBUFFERED"))
"""


def test_imports_of_every_worker_are_loaded_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADING],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    after, before, unbuffered = done.stdout.split()
    assert int(after) == 6 > int(before)
    assert unbuffered == "None"


def test_next_module_is_packed_as_ansible_would(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ahead, by_ansible = json.loads(done.stdout)
    assert list(ahead) == list(by_ansible)
    assert [name.split("-")[0].rsplit(".", 1)[-1] for name in ahead] == ["sqlite_info"]
    # A package contains its creation time, so its compressed size varies by a few bytes.
    (size,), (wanted,) = ahead.values(), by_ansible.values()
    assert abs(size - wanted) < 200


# The code that packs modules in advance uses names from ansible-core that a later version may remove. For each of
# these names, run ansible-playbook with a copy of the collection that uses a nonexistent name instead.
WITHOUT = """
import ast, importlib, os, pathlib, re, sys
sys.dont_write_bytecode = True
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible.cli.playbook import PlaybookCLI

def names(tree):
    modules, given = set(), set()
    for node in ast.walk(tree):
        # In a callback, also check the attributes of its methods' arguments, and the attributes that it inherits.
        if isinstance(node, ast.ClassDef) and node.name == "CallbackModule":
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            given |= {each.arg for method in methods for each in method.args.args} - {"self"}
            of_self = [
                each
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
            ]
            own = {each.name for each in methods} | {each.attr for each in of_self if isinstance(each.ctx, ast.Store)}
            yield from {each.attr for each in of_self} - own
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ansible":
            for each in node.names:
                try:
                    importlib.import_module(f"{node.module}.{each.name}")
                    modules.add(each.asname or each.name)
                except ImportError:
                    yield each.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules | given:
            # Renaming such a name would also rename a module of the standard library.
            if node.attr not in sys.stdlib_module_names:
                yield node.attr

playbook, *files = sys.argv[1:]
for file in map(pathlib.Path, files):
    text = file.read_text()
    for name in sorted(set(names(ast.parse(text)))):
        file.write_text(re.sub(rf"\\b{name}\\b", f"{name}_gone", text))
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = PlaybookCLI(["ansible-playbook", "-i", "localhost,", playbook]).run()
            finally:
                sys.stdout.flush()
                os._exit(code)
        print("ENDED", file.parent.name, file.name, name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    file.write_text(text)
"""

PREFETCH = (
    "plugin_utils/_prefetch/module_prefetch.py",
    "plugin_utils/_prefetch/module_cache.py",
    "callback/module_prefetch.py",
    "callback/postmortem.py",
    "plugin_utils/_timeline/ansible_core.py",
    "plugin_utils/_timeline/task_result.py",
)

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  module_defaults:
    group/itsm_nexus.runbook.host:
      run: ""
  tasks:
    - itsm_nexus.runbook.fail_settings:
        problems: []
    - ansible.builtin.debug:
        msg: it went on
"""


def test_a_removed_ansible_core_name_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    collection = tmp_path / "ansible_collections" / "itsm_nexus" / "runbook"
    for name in ("plugins", "meta", "galaxy.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        collection.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, collection / name)
    settings = {"ANSIBLE_CONFIG": ROOT / "ansible.cfg", "ANSIBLE_HOME": tmp_path / "home", "XDG_CACHE_HOME": tmp_path}
    files = [collection / "plugins" / name for name in PREFETCH]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, tmp_path / "play.yml", *files],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
            **{key: str(each) for key, each in settings.items()},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    ended = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert len(ended) > 10, done.stdout + done.stderr
    of_callbacks = {name for folder, _file, name, _code in ended if folder == "callback"}
    assert of_callbacks >= {"CallbackBase", "get_ds", "get_loader", "get_option", "CLIARGS"}
    of_details = {name for _folder, file, name, _code in ended if file == "ansible_core.py"}
    assert of_details == {"__version__", "load_extra_vars"}
    assert [line for line in ended if line[-1] != "0"] == []
    assert done.stdout.count("it went on") == len(ended)


BOTH = "itsm_nexus.runbook.postmortem,itsm_nexus.runbook.module_prefetch"


@pytest.mark.parametrize(
    ("settings", "prefetched"),
    [
        ({}, True),
        ({"ANSIBLE_CALLBACKS_ENABLED": BOTH, "ITSM_NEXUS_MODULE_PREFETCH": "false"}, False),
        ({"ANSIBLE_CALLBACKS_ENABLED": "itsm_nexus.runbook.postmortem"}, False),
    ],
    ids=["by the settings of a checkout", "switched off", "not enabled"],
)
def test_modules_are_packed_before_their_turn_if_the_callback_is_on(
    tmp_path: Path, settings: dict[str, str], prefetched: bool
) -> None:
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-v", "-i", "localhost,", tmp_path / "play.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Modules are no longer prepared in advance" not in done.stdout
    assert (tmp_path / "cache" / "itsm-nexus-runbook" / "modules").exists() is prefetched


def test_modules_of_a_playbook_without_a_health_check_are_compiled_for_its_next_run(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(service.folder / "cache"))
    run = service.play("playbooks/outage_triage.yml")
    assert run.rc == 0, run.screen
    generations = service.folder / "cache" / "itsm-nexus-runbook" / "modules"
    packed, compiled = (
        {path.name.partition("-")[0] for path in generations.glob(pattern) if path.is_file()}
        for pattern in ("*/*", "*/compiled-*/*")
    )
    assert any(name.endswith(".service_preflight_info") for name in packed) is module_prefetch._SUPPORTED
    assert compiled == packed
