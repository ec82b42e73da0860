# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that are packed while the one before works: what Ansible finds in its cache is what it would have made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# As the callback does it, and as a worker of Ansible does it, each into an empty cache.
SCRIPT = """
import json, os, shutil, sys, time
from ansible import constants
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import ahead

cache = os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache")

def kept():
    made = [name for name in os.listdir(cache) if not name.endswith((".lock", "-part"))]
    return {name: os.path.getsize(os.path.join(cache, name)) for name in made}

packer = ahead.Packer()
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
ahead._pack("itsm_nexus.runbook.sqlite_check")
print(json.dumps([packed, kept()]))
"""


# What a worker would load for the least of tasks, before and after.
LOADING = """
import os, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import ahead

def loaded():
    kinds = [f"ansible.plugins.{kind}." for kind in ("filter", "test", "action", "connection", "shell")]
    kinds.append("ansible_collections.itsm_nexus.runbook.plugins.action.")
    return {kind for kind in kinds for name in sys.modules if name.startswith(kind)}

before = loaded()
packer = ahead.Packer()
packer.play({"module_defaults": {"group/itsm_nexus.runbook.host": {}}}, DataLoader())
packer.end()
print(len(loaded()), len(before), os.environ.get("PYTHONUNBUFFERED"))
"""


def test_what_every_worker_needs_is_loaded_once() -> None:
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


def test_what_follows_a_module_is_packed_as_ansible_would(tmp_path: Path) -> None:
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
    assert [name.split("-")[0].rsplit(".", 1)[-1] for name in ahead] == ["sqlite_check"]
    # The moment of packing stands in it, compressed: some bytes more or less.
    (size,), (wanted,) = ahead.values(), by_ansible.values()
    assert abs(size - wanted) < 200
