# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packages of module_utils and plugin_utils import only from lower levels, and each file is imported somewhere."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path

import graphlib
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
PREFIX = "ansible_collections.itsm_nexus.runbook.plugins."

# Packages by level, lowest first. A package may import only from packages at lower levels.
MODULE_UTILS = [
    ["_common"],
    ["_host"],
    ["_sqlite", "_incident"],
    ["_service"],
    ["_readiness", "_backups", "_changes"],
    ["_triage", "_discovery"],
    ["_preparedness", "_response"],
]
# All packages in plugin_utils may also import from module_utils.
PLUGIN_UTILS = [
    ["_timeline", "_messages", "_watch"],
    ["_policy", "_notify", "_prefetch", "_inventory"],
    ["_report", "_action"],
    ["_ready_report"],
]
# Calls in late_import and document_store that import a plugin_utils module by name when the module is first needed.
LATE = re.compile(r'(?:late_import\.module|function)\(\s*f?"(_\w+\.\w+)"')
LOADED_BY_NAME = {
    "plugin_utils._messages.en",
    "plugin_utils._messages.ja",
    "plugin_utils._report.html",
    "plugin_utils._report.markdown",
    *(f"plugin_utils.{name}" for path in PLUGINS.rglob("*.py") for name in LATE.findall(path.read_text("utf-8"))),
}


def modules() -> dict[str, Path]:
    """Return the files of all packages by their dotted names relative to plugins."""
    files = itertools.chain(*((PLUGINS / kind).rglob("*.py") for kind in ("module_utils", "plugin_utils")))
    return {".".join(path.relative_to(PLUGINS).with_suffix("").parts): path for path in files}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports from this collection, as dotted names relative to plugins."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PREFIX):
            base = node.module[len(PREFIX) :]
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


MODULES = modules()
FILES = sorted(name for name in MODULES if not name.endswith("__init__"))


@functools.cache
def all_imports() -> dict[str, set[str]]:
    """Return the modules that each file imports."""
    return {name: imports(MODULES[name]) for name in FILES}


def rank(name: str) -> int:
    """Return the level of a module's package, starting at 0. All levels of plugin_utils are above module_utils."""
    kind, package = name.split(".")[:2]
    layers = [*MODULE_UTILS, *PLUGIN_UTILS]
    of_kind = MODULE_UTILS if kind == "module_utils" else PLUGIN_UTILS
    return next(layers.index(layer) for layer in of_kind if package in layer)


@pytest.mark.parametrize("kind", ["module_utils", "plugin_utils"])
def test_every_file_is_in_a_package_with_a_description(kind: str) -> None:
    layers = MODULE_UTILS if kind == "module_utils" else PLUGIN_UTILS
    there = {path.name for path in (PLUGINS / kind).iterdir() if path.name != "__pycache__"}
    assert there == {package for layer in layers for package in layer}
    for package in there:
        source = (PLUGINS / kind / package / "__init__.py").read_text(encoding="utf-8")
        said = ast.get_docstring(ast.parse(source)) or ""
        assert len([line for line in said.splitlines() if line]) == 3, package


def upwards(name: str) -> list[str]:
    """Return a file's imports from other packages at the level of the file's own package or above."""
    own = name.split(".")[:2]
    return sorted(each for each in all_imports()[name] if each.split(".")[:2] != own and rank(each) >= rank(name))


def test_imports_point_down() -> None:
    assert len(FILES) > 100
    wrong = [f"{name} may not import {', '.join(upwards(name))}" for name in FILES if upwards(name)]
    assert wrong == [], "see MODULE_UTILS and PLUGIN_UTILS above"


def reached_from(start: str) -> set[str]:
    """Return a file, or the files of a package, and all files that these files import, directly or indirectly."""
    reached, waiting = set(), {name for name in FILES if name == start or name.startswith(f"{start}.")}
    while waiting:
        reached |= waiting
        waiting = set().union(*(all_imports().get(name, set()) for name in waiting)) - reached
    return reached & set(FILES)


def of_ansible_core(path: Path) -> set[str]:
    """Return the modules of ansible-core that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "ansible"}


def test_decisions_do_not_use_ansible_core() -> None:
    """A decision uses only the given facts, so it is the same in every release of ansible-core, and in a test."""
    reached = reached_from("plugin_utils._policy")
    assert "plugin_utils._policy.verdict" in reached
    assert {name: found for name in sorted(reached) if (found := of_ansible_core(MODULES[name]))} == {}
    assert of_ansible_core(MODULES["plugin_utils._action.on_host"]) > {"ansible.errors"}


def test_there_are_no_import_cycles() -> None:
    assert list(graphlib.TopologicalSorter(all_imports()).static_order())


def test_the_summary_of_a_healthy_run_loads_no_code_of_the_host() -> None:
    """Ansible compiles each imported file again in each run, so such imports delay every run."""
    reached = reached_from("plugin_utils._report.closing")
    ends = {name for name in reached if name.startswith(("module_utils._host.", "module_utils._changes."))}
    assert "plugin_utils._report.screen" in reached
    assert ends <= {"module_utils._changes.relations"}


def test_the_ways_through_the_code_are_short_and_never_lead_back() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Three paths through the code\n")[2].partition("\n## ")[0]
    ways = [
        re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", table, re.MULTILINE) for table in section.split("| file | name |")
    ]
    assert [len(way) <= 8 for way in ways] == [True] * 4 and [bool(way) for way in ways] == [False, True, True, True]
    for way in ways:
        for number, (file, name) in enumerate(way):
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), f"{file} does not contain {name}"
            if file.endswith(".py"):
                earlier = {
                    each.removesuffix(".py").removeprefix("plugins/").replace("/", ".") for each, _ in way[:number]
                }
                assert not imports(ROOT / file) & earlier, f"{file} imports a file from an earlier row"


def test_every_file_has_an_importer() -> None:
    outside = [path for folder in ("plugins", "extensions", "docs") for path in (ROOT / folder).rglob("*.py")]
    imported = set().union(*(imports(path) for path in outside))
    assert set(FILES) - imported <= LOADED_BY_NAME <= set(FILES)


def test_the_tests_of_a_package_are_in_a_folder_of_its_name() -> None:
    tests = Path(__file__).parent / "plugins"
    for folder in tests.glob("*_utils/*/"):
        if folder.is_dir() and folder.name != "__pycache__":
            assert (PLUGINS / folder.relative_to(tests) / "__init__.py").exists(), folder


def test_every_package_is_private() -> None:
    for kind in ("module_utils", "plugin_utils"):
        names = [path.name for path in (PLUGINS / kind).iterdir() if path.name != "__pycache__"]
        assert [name for name in names if not name.startswith("_")] == []
