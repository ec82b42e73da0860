# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole project: every program states its licence, every file is used, and names in the documentation exist."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# The string is split into two parts. Otherwise, the program reuse would read this line as the licence of this file.
LICENCE = "SPDX-License-Identifier" + ": GPL-3.0-or-later"
# Files that a program finds by their names. No other file has to mention them.
FOUND_BY_NAME = {
    ".ansible-lint": "ansible-lint",
    ".gitignore": "git",
    ".pre-commit-config.yaml": "pre-commit",
    ".yamllint": "yamllint",
    "ansible-navigator.yml": "ansible-navigator",
    "LICENSES/GPL-3.0-or-later.txt": "reuse",
    "REUSE.toml": "reuse",
    "changelogs/changelog.yaml": "antsibull-changelog",
    "changelogs/config.yaml": "antsibull-changelog",
    "collections/ansible_collections/itsm_nexus/runbook": "Ansible, in a checkout",
    "collections/requirements.yml": "AWX",
    "demo/service/package-lock.json": "npm",
    "galaxy.yml": "ansible-galaxy",
    "meta/execution-environment.yml": "ansible-builder",
    "meta/extensions.yml": "ansible-rulebook and Galaxy",
    "meta/runtime.yml": "Ansible",
    "molecule/conftest.py": "pytest",
    "noxfile.py": "nox",
    "tests/integration/conftest.py": "pytest",
}
# Patterns of files that a program finds by folder or file name. The comments name the program.
FOUND_BY_FOLDER = (
    r"\.ci/|\.github/",  # continuous integration
    r"changelogs/fragments/",  # antsibull-changelog
    r"docs/docsite/",  # antsibull-docs
    r"(demo/service/backend|molecule/other_service/desk)/migrations/",  # knex
    r"inventories/[^/]+/(hosts\.yml|(group|host)_vars/)",  # ansible-playbook -i
    r"molecule/[^/]+/(molecule\.yml|tests/test_)",  # molecule
    r"molecule/shared/callback_plugins/",  # Ansible, by the folder
    r"plugins/(action|callback|doc_fragments|filter|modules)/",  # Ansible, by the name of the plugin
    r"requirements-\w+\.txt$",  # the Makefile
    r"roles/escalation/tasks/channels/",  # the escalation role, by the type of the channel
    r"roles/[^/]+/(defaults|meta|tasks|vars)/main\.yml$|roles/[^/]+/(README\.md|meta/argument_specs\.yml)$",  # Ansible
    r"tests/(fuzz|unit|integration)/(plugins/.*)?(test_|__init__)",  # pytest
    r"plugins/(module|plugin)_utils/\w+/",  # test_packages.py
    r"tests/unit/recorded/",  # test_recorded.py
)


def tracked() -> list[str]:
    """Return the paths of all files in the repository that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.splitlines()
    return sorted(name for name in set(listed) if (ROOT / name).is_symlink() or (ROOT / name).is_file())


def text_of(name: str) -> str:
    path = ROOT / name
    return "" if path.is_symlink() else path.read_text(encoding="utf-8", errors="replace")


FILES = tracked()
PAGES = [name for name in FILES if name.endswith(".md") and name != "CHANGELOG.md"]


def is_program(name: str) -> bool:
    return name.endswith((".py", ".js", ".sh")) or text_of(name).startswith("#!")


def test_every_program_names_its_licence() -> None:
    programs = [name for name in FILES if is_program(name) and text_of(name)]
    assert len(programs) > 100
    assert [name for name in programs if LICENCE not in "\n".join(text_of(name).splitlines()[:8])] == []


def test_every_file_is_used() -> None:
    texts = {name: text_of(name) for name in FILES if name != "demo/service/package-lock.json"}
    without = []
    for name in FILES:
        if name in FOUND_BY_NAME or re.match("|".join(FOUND_BY_FOLDER), name):
            continue
        path = Path(name)
        # Search for the name with and without its suffix, because Python, Node and Ansible omit the suffix.
        word = path.stem if path.suffix in {".py", ".js", ".j2", ".yml"} else path.name
        pattern = re.compile(rf"(?<![\w-])(?:{re.escape(path.name)}|{re.escape(word)})(?![\w-])")
        # Search for the plain word first, because searching with the pattern is slow.
        if not any(word in text and pattern.search(text) for other, text in texts.items() if other != name):
            without.append(name)
    assert without == [], f"nothing reads {', '.join(without)}"


def test_every_constant_of_a_plugin_is_used() -> None:
    assigned, read, elsewhere = set(), set(), set()
    for name in tracked():
        if not name.startswith(("plugins/", "tests/")) or not name.endswith(".py"):
            continue
        tree = ast.parse(text_of(name))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                read.add((name, node.id))
            elif isinstance(node, ast.Attribute):
                elsewhere.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                elsewhere |= {alias.name for alias in node.names}
        for node in tree.body if name.startswith("plugins/") else ():
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            assigned |= {
                (name, inner.id) for each in targets if each for inner in ast.walk(each) if isinstance(inner, ast.Name)
            }
    # Ansible itself reads these plugin constants.
    read_by_ansible = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    assert len(assigned) > 300
    assert not {each for each in assigned - read if each[1] not in elsewhere | read_by_ansible}


def test_lines_of_plugins_are_as_short_as_ansible_test_requires() -> None:
    long = [
        f"{name}:{number}"
        for name in FILES
        if name.startswith("plugins/") and name.endswith(".py")
        for number, line in enumerate(text_of(name).splitlines(), start=1)
        if len(line) > 160
    ]
    assert long == []


def test_every_exception_exists() -> None:
    assert set(FOUND_BY_NAME) - set(FILES) == set()
    for pattern in FOUND_BY_FOLDER:
        assert any(re.match(pattern, name) for name in FILES), pattern


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub generates for a page's headings."""
    found = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_are_valid(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, heading = target.partition("#")
        path = (ROOT / page).parent / place if place else ROOT / page
        assert path.exists(), f"{page} links to {target}, which does not exist"
        if heading:
            assert heading in anchors(path.read_text(encoding="utf-8")), f"{page} links to {target}, an unknown heading"


def names_in(page: str) -> dict[str, set[str]]:
    """Return the properties in which both README pages must agree: names, and counts of headings and table rows."""
    text = text_of(page)
    return {
        "playbooks": set(re.findall(r"\b\w+\.yml\b", text)),
        "roles": set(re.findall(r"\(roles/(\w+)/README\.md\)", text)),
        "code": set(re.findall(r"`([a-z][\w./:*\- ]*)`", text)),
        "variables": set(
            re.findall(r"\b(?:outage|remediation|escalation|nexus|detection|postmortem)_\w+\b|\bITSM_NEXUS_\w+", text)
        ),
        "targets": set(re.findall(r"\bmake ([a-z]+)", text)),
        "pages": set(re.findall(r"\((docs/[\w./-]+)\)", text)),
        "headings": {str(len(re.findall(r"^## ", text, re.MULTILINE)))},
        "rows": {str(len(re.findall(r"^\| ", text, re.MULTILINE)))},
    }


def test_both_readmes_contain_the_same_names() -> None:
    assert names_in("README.ja.md") == names_in("README.md")


def test_the_settings_on_the_page_are_those_of_the_checkout() -> None:
    def settings(text: str) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        return {name: dict(parser[name]) for name in parser.sections()}

    (shown,) = re.findall(r"^```ini\n(.+?)^```$", text_of("docs/operations.md"), re.MULTILINE | re.DOTALL)
    own = settings(text_of("ansible.cfg"))
    # The page omits the collection's folder in the checkout, Ansible's defaults, inventory settings, and preferences.
    # The checkout's setting in [connection] also applies to SSH.
    left = {"collections_path", "host_key_checking", "retry_files_enabled", "interpreter_python", "nocows"}
    own["defaults"] = {name: value for name, value in own["defaults"].items() if name not in left}
    assert own["ssh_connection"].pop("pipelining") == own["connection"]["pipelining"]
    assert settings(shown) == own


def test_the_readme_names_every_playbook_role_module_and_page() -> None:
    text = text_of("README.md")
    missing = [
        name
        for name in FILES
        for pattern in (
            r"playbooks/(\w+\.yml)",
            r"roles/(\w+)/README\.md",
            r"plugins/modules/(\w+)\.py",
            r"(docs/[\w-]+\.md)",
        )
        if (found := re.fullmatch(pattern, name)) and not re.search(rf"(?<!\w){re.escape(found[1])}(?!\w)", text)
    ]
    assert missing == [], f"README.md does not mention {', '.join(missing)}"


def test_every_variable_on_a_page_is_read() -> None:
    read = {
        word
        for name in FILES
        if name.startswith(("roles/", "playbooks/", "plugins/")) and not name.endswith(".md")
        for word in re.findall(r"\w+", text_of(name))
    }
    unread = {
        f"{page}: {name}"
        for page in PAGES
        for name in re.findall(
            r"`((?:nexus|outage|detection|triage|remediation|escalation|verification|postmortem)_\w+)`", text_of(page)
        )
        if name not in read and not (ROOT / "molecule" / name).is_dir()
    }
    assert unread == set()


# The chapters of the runbook that contain steps.
CHAPTERS = ("1.1", "1.2", "1.3", "2.1", "2.2", "3.1", "3.2", "3.3", "4.1", "4.2", "5.1", "6", "7.1", "7.2")


# Parts that are older than this test and are not mentioned in any entry.
NOT_NAMED = ("outage_restart", "outage_standard_recovery", "postmortem_archive")


def test_the_changelog_names_every_role_module_and_playbook() -> None:
    entries = "".join(text_of(name) for name in FILES if re.match(r"changelogs/(fragments/|changelog\.yaml)", name))
    pattern = r"(?:roles/(\w+)/meta/main|plugins/modules/(\w+)|playbooks/(\w+))\.(?:yml|py)"
    parts = {next(filter(None, found.groups())) for name in FILES if (found := re.fullmatch(pattern, name))}
    missing = [name for name in sorted(parts) if not re.search(rf"\b{name}\b", entries) and name not in NOT_NAMED]
    assert missing == [], f"no file in changelogs/fragments/ mentions {', '.join(missing)}"


def test_every_line_of_the_runbook_has_code_and_a_test() -> None:
    drills = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    page = text_of("docs/traceability.md")
    rows = re.findall(r"^\| ([\d.]+) \| ([^|]+) \| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", page, re.MULTILINE)
    assert sorted({chapter for chapter, *_ in rows}) == sorted(CHAPTERS)
    # This test checks only the folders of the links. Another test checks the links on all pages.
    for chapter, what, code, drill, test in rows:
        assert re.search(r"\]\(\.\./(plugins|roles|playbooks)/", code), f"{chapter} {what}: no code"
        assert re.search(r"\]\(\.\./tests/", test), f"{chapter} {what}: no test"
        assert set(re.findall(r"`(\w+)`", drill)) <= drills, f"{chapter} {what}: {drill}"
    named = set(re.findall(r"`(\w+)`", page))
    assert drills - named == set(), "docs/traceability.md must list every drill"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for name in FILES:
        if name.endswith((".md", ".yml", ".yaml")) and not name.startswith("changelogs/") and name != "CHANGELOG.md":
            named = set(re.findall(r"(?:`|^ +- run: |^)make ([a-z-]+)", text_of(name), re.MULTILINE))
            assert named <= targets, name


def test_make_says_that_a_drill_installs_programs() -> None:
    """With .ONESHELL, an @ before the first line hides all commands of the recipe."""
    (first,) = re.findall(r"^molecule:.*\n\t(.+)", text_of("Makefile"), re.MULTILINE)
    assert re.match(r'@echo ".*installed on this machine', first)


def test_ci_runs_every_supported_ansible_core_with_one_of_its_pythons() -> None:
    cores = text_of("tests/publish/cores")
    pythons = dict(re.findall(r'^    \[(.+?)\]="(.+)"$', cores, re.MULTILINE))
    assert re.findall(r"^supported=\((.+)\)$", cores, re.MULTILINE) == [" ".join(pythons)]
    rows = yaml.safe_load(text_of(".github/workflows/test.yml"))["jobs"]["cores"]["strategy"]["matrix"]["include"]
    assert [row["core"] for row in rows] == list(pythons)
    assert [row for row in rows if row["python"] not in pythons[row["core"]].split()] == []
    released = [core for core in pythons if core != "devel"]
    assert f"ansible-core {released[0]} to {released[-1]}" in text_of("README.md")
    assert yaml.safe_load(text_of("meta/runtime.yml"))["requires_ansible"] == f">={released[0]}.0"


# ansible-core and its requirements, which exist only on the controller.
OF_CORE = {"ansible", "ansible_collections", "jinja2", "markupsafe", "yaml"}
# Python 3.9 provides no list of its modules.
STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", None) or {
    *sys.builtin_module_names,
    *(path.name.partition(".")[0] for path in Path(sysconfig.get_path("stdlib")).glob("*")),
    *(path.name.partition(".")[0] for path in Path(sysconfig.get_path("stdlib")).glob("lib-dynload/*")),
}


def imported_by(name: str) -> set[str]:
    """Return the top-level packages that a Python file imports."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(text_of(name))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
    return {module.partition(".")[0] for module in modules}


def test_the_installed_collection_contains_no_code_of_others() -> None:
    names = [name for name in FILES if re.match(r"(plugins|extensions)/.*\.py$", name)]
    assert len(names) > 100
    for name in names:
        on_hosts = name.startswith(("plugins/modules/", "plugins/module_utils/"))
        allowed = {"ansible", "ansible_collections"} if on_hosts else OF_CORE
        assert imported_by(name) <= {*STANDARD_LIBRARY, *allowed}, name
        if on_hosts:
            of_core = re.search(r"^\s*(?:from|import) ansible\.(?!module_utils\b)", text_of(name), re.MULTILINE)
            assert not of_core, name


def test_the_packages_of_the_demo_service_are_pinned_by_hashes() -> None:
    packages = json.loads(text_of("demo/service/package-lock.json"))["packages"]
    for name, package in packages.items():
        if name:
            assert package["integrity"].startswith("sha512-"), name
            assert package["resolved"].startswith("https://registry.npmjs.org/"), name


# The folders with the files that an installed collection needs.
INSTALLED = ("extensions/", "meta/", "playbooks/", "plugins/", "roles/")


def published(folder: Path, names: Iterable[str]) -> set[str]:
    """Build the collection from these files, and return the names of the files in its tarball. folder: a new folder."""
    for name in ["galaxy.yml", "README.md", "LICENSE", *names]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", folder / "built"], cwd=folder, check=True)
    (tarball,) = (folder / "built").glob("*.tar.gz")
    with tarfile.open(tarball) as archive:
        return {member.name for member in archive if member.isfile()}


def test_every_file_that_an_installed_collection_needs_is_published(tmp_path: Path) -> None:
    needed = {name for name in FILES if name.startswith(INSTALLED)}
    assert "roles/start_guard/files/start_guard.py" in needed
    missing = needed - published(tmp_path, needed)
    assert not missing, f"galaxy.yml does not include {', '.join(sorted(missing))}"


def test_only_example_inventories_are_published(tmp_path: Path) -> None:
    examples = [name for name in FILES if name.startswith("inventories/")]
    shipped = {name.split("/")[1] for name in examples}
    # Try names that are similar to those of the examples: every prefix, with and without a suffix. Also try a few
    # typical names.
    strays = {name[:length] + more for name in shipped for length in range(len(name) + 1) for more in ("", "x", ".bak")}
    strays |= {"osaka", "prodlike", "staging", "desk", "hosts.yml"}
    for stray in sorted(strays - shipped - {""}):
        (tmp_path / "inventories" / stray / "group_vars").mkdir(parents=True)
        (tmp_path / "inventories" / stray / "group_vars" / "all.yml").touch()
        (tmp_path / "inventories" / f"{stray}.ini").touch()
    assert sorted(name for name in published(tmp_path, examples) if name.startswith("inventories/")) == examples


def test_a_vault_next_to_the_example_variables_adds_to_them(tmp_path: Path) -> None:
    def variables() -> dict[str, object]:
        command = ["ansible-inventory", "-i", mine, "--vault-password-file", password, "--host", host]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)

    mine, password, host = tmp_path / "mine", tmp_path / "password", "itsm-prod-01.example.com"
    password.write_text("of a test\n", encoding="utf-8")
    shutil.copytree(ROOT / "inventories/production", mine)
    before = variables()
    assert before["nexus_unit"] == "itsm-system"
    (vault,) = re.findall(r"ansible-vault create inventories/mine/(\S+)", text_of("docs/operations.md"))
    (mine / vault).parent.mkdir(parents=True, exist_ok=True)
    (mine / vault).write_text("vault_nexus_login_password: known to nobody\n", encoding="utf-8")
    subprocess.run(["ansible-vault", "encrypt", "--vault-password-file", password, mine / vault], check=True)
    after = variables()
    # ansible-core 2.22 and later mask the value of a vault in the output of ansible-inventory.
    assert after.pop("vault_nexus_login_password") in {"known to nobody", "$REDACTED$"}
    assert after == before
