# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-builder accepts execution-environment.yml and finds the collection's requirements."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILDER = Path(sys.executable).parent / "ansible-builder"


def builder(*arguments: object) -> str:
    done = subprocess.run([BUILDER, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_build_context_is_created(tmp_path: Path) -> None:
    context = tmp_path / "context"
    # Set the file name. The default depends on the container engine, which may be missing on this machine.
    builder("create", "--file", "execution-environment.yml", "--context", context, "--output-filename", "Containerfile")
    asked = yaml.safe_load((context / "_build" / "requirements.yml").read_text("utf-8"))
    assert asked["collections"] == [{"name": "awx.awx", "version": "24.6.1"}]
    assert (context / "_build" / "bindep.txt").read_text("utf-8") == (ROOT / "meta" / "ee-bindep.txt").read_text(
        "utf-8"
    )
    assert "ansible-core>=2.21" in (context / "Containerfile").read_text("utf-8")


def test_the_image_has_an_ansible_core_and_a_python_that_are_tested() -> None:
    needs = yaml.safe_load((ROOT / "execution-environment.yml").read_text("utf-8"))["dependencies"]
    (core,) = re.findall(r"ansible-core>=(2\.\d+),<2\.\d+$", needs["ansible_core"]["package_pip"])
    rows = dict(re.findall(r'^    \[(.+?)\]="(.+)"$', (ROOT / "tests/publish/cores").read_text("utf-8"), re.MULTILINE))
    assert needs["python_interpreter"]["package_system"].replace("python", "") in rows[core].split()


def test_requirements_of_the_collection_are_found() -> None:
    found = yaml.safe_load(builder("introspect", "collections"))
    assert found["python"] == []
    assert {line.split()[0] for line in found["system"]} == {"openssh-clients", "openssh-client", "tzdata"}
