# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packed modules that are cached between runs are either reused unchanged or ignored."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible import constants

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_cache

PREFIX = "ansible_collections.itsm_nexus.runbook.plugins.modules."
PROBE = f"{PREFIX}health_probe-ZIP_DEFLATED-none"


class Runs:
    """Several consecutive Ansible runs. Each run has its own folder for packed modules."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch, self._number = folder, monkeypatch, 0
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.begin()

    def begin(self) -> None:
        self._number += 1
        self._patch.setattr(constants, "DEFAULT_LOCAL_TMP", str(self.folder / f"run{self._number}"))
        self.packed.parent.mkdir()

    @property
    def packed(self) -> Path:
        return self.folder / f"run{self._number}" / "ansiballz_cache"

    def pack(self, **modules: str) -> None:
        self.packed.mkdir(exist_ok=True)
        for name, data in modules.items():
            (self.packed / f"{PREFIX}{name}-ZIP_DEFLATED-none").write_text(data)

    def kept(self) -> list[Path]:
        return sorted(path for path in Path(module_cache.home()).rglob("*") if path.is_file())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_modules_packed_by_a_run_are_used_by_the_next(runs):
    assert module_cache.lay() == []
    runs.pack(health_probe="probe", incident="record")
    (runs.packed / f"{PROBE}.lock").touch()
    (runs.packed / f"{PREFIX}npm_ci-ZIP_DEFLATED-none-part").write_text("half")
    (runs.packed / "ansible.modules.command-ZIP_DEFLATED-none").write_text("of Ansible")
    module_cache.keep()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in runs.kept())
    runs.begin()
    assert sorted(module_cache.lay()) == ["health_probe", "incident"]
    assert {path.name: path.read_text() for path in runs.packed.iterdir()} == {
        PROBE: "probe",
        f"{PREFIX}incident-ZIP_DEFLATED-none": "record",
    }


def test_kept_modules_are_not_written_again(runs):
    runs.pack(health_probe="probe")
    module_cache.keep()
    before = [(path, path.stat().st_mtime_ns) for path in runs.kept()]
    runs.pack(health_probe="packed a second later")
    module_cache.keep()
    assert [(path, path.stat().st_mtime_ns) for path in runs.kept()] == before


@pytest.mark.parametrize("damaged", ["", "prob", "Probe"])
def test_a_damaged_module_is_packed_again(runs, damaged):
    runs.pack(health_probe="probe", incident="record")
    module_cache.keep()
    (path,) = (path for path in runs.kept() if "health_probe" in path.name)
    path.write_text(damaged)
    runs.begin()
    assert module_cache.lay() == ["incident"]
    assert not (runs.packed / PROBE).exists()
    runs.pack(health_probe="packed anew")
    module_cache.keep()
    runs.begin()
    assert "health_probe" in module_cache.lay()
    assert (runs.packed / PROBE).read_text() == "packed anew"


@pytest.mark.parametrize("which", ["all", "generation"])
def test_nothing_is_used_from_a_folder_that_others_may_write_to(runs, which):
    runs.pack(health_probe="probe")
    module_cache.keep()
    folder = Path(module_cache.home()) if which == "all" else runs.kept()[0].parent
    folder.chmod(0o777)
    runs.begin()
    assert module_cache.lay() == []


def test_nothing_is_used_from_another_folder(runs):
    runs.pack(health_probe="probe")
    module_cache.keep()
    generation = runs.kept()[0].parent
    generation.rename(runs.folder / "elsewhere")
    generation.symlink_to(runs.folder / "elsewhere")
    runs.begin()
    assert module_cache.lay() == []


def test_nothing_is_used_from_a_folder_of_others(runs, monkeypatch):
    runs.pack(health_probe="probe")
    module_cache.keep()
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    runs.begin()
    assert module_cache.lay() == []


@pytest.mark.parametrize("kind", ["modules", "module_utils"])
def test_a_changed_collection_is_packed_again(runs, tmp_path, monkeypatch, kind):
    plugins = tmp_path / "collection" / "plugins"
    for name in ("modules", "module_utils"):
        (plugins / name).mkdir(parents=True)
        (plugins / name / "one.py").write_text("old")
    monkeypatch.setattr(module_cache, "_COLLECTION", str(tmp_path / "collection"))
    runs.pack(health_probe="probe")
    module_cache.keep()
    assert module_cache.lay() == ["health_probe"]
    (plugins / kind / "one.py").write_text("new one")
    runs.begin()
    assert module_cache.lay() == []
    (plugins / kind / "one.py").write_text("old")
    (plugins / kind / "another.py").touch()
    assert module_cache.lay() == []


def test_unused_generations_are_deleted(runs, monkeypatch):
    for number in range(6):
        monkeypatch.setattr(module_cache, "ansible_version", f"2.{number}")
        runs.pack(health_probe=f"probe {number}")
        module_cache.keep()
        os.utime(runs.packed, (number, number))
    assert sorted(path.read_text() for path in runs.kept()) == [f"probe {number}" for number in range(2, 6)]


def test_a_read_only_home_costs_only_time(runs):
    (runs.folder / "cache").write_text("a file in the way")
    runs.pack(health_probe="probe")
    module_cache.keep()
    assert module_cache.lay() == []


@dataclasses.dataclass(frozen=True)
class Packed:
    """A packed module, as Ansible caches it during a run."""

    zip_data: bytes


def pack(path: Path, source: str) -> None:
    """Write a packed module as an Ansible run does. The module contains one file with the given source."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("packed_for_a_test.py", source)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Packed(base64.b64encode(archive.getvalue()))))


def imported(path: Path, folder: Path) -> list[str]:
    """Import a packed module's file in a separate process. Return the file name that Python loaded, and SAID."""
    archive = folder / "payload.zip"
    module = pickle.loads(path.read_bytes())  # noqa: S301 - written by this test
    archive.write_bytes(base64.b64decode(module.zip_data))
    script = "import packed_for_a_test as one; print(one.__file__, one.SAID)"
    environment = {**os.environ, "PYTHONPATH": str(archive)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    file, said = done.stdout.split()
    return [Path(file).name, said]


def test_modules_are_compiled_for_hosts_with_the_same_python(runs, tmp_path):
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep([module_cache.here()])
    assert imported(runs.packed / PROBE, tmp_path) == ["packed_for_a_test.py", "hello"]
    runs.begin()
    assert module_cache.lay() == ["health_probe"]
    assert imported(runs.packed / PROBE, tmp_path) == ["packed_for_a_test.pyc", "hello"]


def test_a_python_of_another_release_uses_the_source(runs, tmp_path, monkeypatch):
    other = module_cache._COMPILER.replace("importlib.util.MAGIC_NUMBER", repr(b"\x00\x00\r\n"))
    monkeypatch.setattr(module_cache, "_COMPILER", other)
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep([module_cache.here()])
    assert len(runs.kept()) == 2
    runs.begin()
    module_cache.lay()
    assert imported(runs.packed / PROBE, tmp_path) == ["packed_for_a_test.py", "hello"]


def program(folder: Path, *, says: str) -> None:
    """Create a program python3.99 that runs this Python but reports `says` as the cache tag for compiled code."""
    path = folder / "bin" / "python3.99"
    path.parent.mkdir()
    lines = [
        f"#!{sys.executable}",
        "import sys",
        f"sys.implementation.cache_tag = {says!r}",
        "exec(sys.argv[sys.argv.index('-c') + 1])",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "taken"), [("cpython-399", "packed_for_a_test.pyc"), ("cpython-398", "packed_for_a_test.py")]
)
def test_modules_for_another_python_are_compiled_by_the_same_version(runs, tmp_path, monkeypatch, says, taken):
    program(tmp_path, says=says)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep(["cpython-399"])
    runs.begin()
    assert module_cache.lay() == ["health_probe"]
    assert imported(runs.packed / PROBE, tmp_path) == [taken, "hello"]


def test_hosts_with_a_new_python_get_newly_compiled_code(runs, tmp_path, monkeypatch):
    program(tmp_path, says="cpython-399")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    pack(runs.packed / PROBE, "SAID = 'hello'")
    for python in (module_cache.here(), "cpython-399"):
        module_cache.keep([python])
        compiled = [path.parent.name for path in runs.kept() if "compiled" in path.parent.name]
        assert compiled == [f"compiled-{python}"]


@pytest.mark.parametrize("pythons", [["cpython-300"], ["../cpython-300"], ["cpython-300", module_cache.here()]])
def test_modules_are_not_compiled_for_a_missing_python_or_for_several_versions(runs, pythons):
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep([module_cache.here()])
    assert len(runs.kept()) == 2
    module_cache.keep([])
    assert len(runs.kept()) == 2, "a run without hosts gives no information about them"
    module_cache.keep(pythons)
    assert len(runs.kept()) == 1
    runs.begin()
    assert module_cache.lay() == ["health_probe"]


def test_a_python_that_fails_to_compile_is_not_tried_again(runs, tmp_path, monkeypatch):
    program(tmp_path, says="cpython-398")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep(["cpython-399"])
    monkeypatch.setattr(module_cache.subprocess, "run", lambda *_, **_options: pytest.fail("asked again"))
    module_cache.keep(["cpython-399"])
    runs.begin()
    assert module_cache.lay() == ["health_probe"]


@pytest.mark.parametrize("damaged", [b"", b"no pickle"])
def test_a_damaged_module_is_not_compiled(runs, damaged):
    pack(runs.packed / PROBE, "SAID = 'hello'")
    module_cache.keep()
    (path,) = runs.kept()
    path.write_bytes(damaged)
    module_cache.keep([module_cache.here()])
    runs.begin()
    assert module_cache.lay() == []
