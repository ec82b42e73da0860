# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An application's modules: broken modules are detected, and the old modules are kept if an installation fails.

Small scripts replace npm and node. The npm script creates a given tree. The node script reports a load
failure only for packages that contain a file named "broken".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    redact,
    safe_open,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    npm,
    npm_application,
    npm_build,
    npm_lock,
)

NODE = """#!/bin/sh
shift 3
say() { printf '\\n@npm_ci %s\\n' "$1"; }
say '{"platform": "linux", "arch": "x64", "abi": "115"}'
for name in "$@"; do
  say "{\\"name\\": \\"$name\\"}"
  if [ -e "node_modules/$name/deadly" ]; then kill -9 $$; fi
  error=""
  if [ ! -e "node_modules/$name/package.json" ]; then error="Cannot find module"; fi
  if [ -e "node_modules/$name/broken" ]; then error="wrong ELF class"; fi
  if [ -n "$error" ]; then say "{\\"name\\": \\"$name\\", \\"error\\": \\"$error\\"}"; fi
done
say '{"done": true}'
"""

NPM = """#!/bin/sh
printf '%s\\n' "$*" "uid $(id -u)" "home $HOME" "$(ls -A)" >"${npm_config_fake_log:-/dev/null}"
rm -rf node_modules
case "$npm_config_fake" in
  fail) printf '%s\\n' "npm error code E401" \
    "npm error 401 for https://user:s3cretpass@registry, _authToken=tok-12345678" \
    "npm error A complete log of this run can be found in: /x" >&2; exit 1 ;;
  hang) sleep 30 ;;
esac
cp -r "$npm_config_fake_tree" node_modules
"""

OLD = {"express": "4.0.0", "better-sqlite3": "11.0.0"}
NEW = {"express": "5.1.0", "better-sqlite3": "12.0.0"}


def lock_of(versions: dict, **extra: dict) -> dict:
    packages = {f"node_modules/{name}": {"version": version} for name, version in versions.items()}
    packages.update(extra)
    return {"lockfileVersion": 3, "packages": packages}


def lay_tree(tree: Path, lock: dict) -> None:
    tree.mkdir(parents=True)
    for folder, entry in lock["packages"].items():
        package = tree.parent / folder.replace("node_modules", tree.name, 1)
        package.mkdir(parents=True)
        (package / "package.json").write_text(json.dumps({"version": entry.get("version")}))
    (tree / ".package-lock.json").write_text(json.dumps(lock))


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def run(argv, **options):
    # Disable flushing to disk, which is slow and not needed in these tests.
    if argv[0] == "sync":
        return commands.Completed(argv=argv, rc=0, stdout="", stderr="", duration=0.0)
    return commands.run(argv, **options)


class Site:
    """An application's folder with old modules, a lock file, and the tree that npm will create."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.app = base / "app"
        self.app.mkdir()
        (self.app / "package.json").write_text("{}")
        (self.app / "backend").mkdir()
        (self.app / "backend" / "itsm.db").write_text("rows")
        self.node = script(base / "node", NODE)
        self.npm = script(base / "npm", NPM)
        self.tree = base / "tree" / "node_modules"
        self.lock(NEW)
        lay_tree(self.app / "node_modules", lock_of(OLD))
        lay_tree(self.tree, lock_of(NEW))

    def lock(self, versions: dict, **extra: dict) -> None:
        lock = lock_of(versions, **extra)
        lock["packages"][""] = {"name": "app"}
        (self.app / "package-lock.json").write_text(json.dumps(lock))

    def application(self, **options) -> npm_application.Application:
        options.setdefault("run", run)
        return npm_application.Application(app_dir=str(self.app), node=self.node, npm=self.npm, **options)

    def install(self, *, application: dict | None = None, **options) -> dict:
        return npm.npm_ci(self.application(**(application or {})), **options)

    def version(self, tree: str = "node_modules") -> str | None:
        path = self.app / tree / "express" / "package.json"
        return json.loads(path.read_text())["version"] if path.exists() else None

    def names(self) -> list[str]:
        return sorted(path.name for path in self.app.iterdir() if path.suffix != ".json")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setenv("npm_config_fake_tree", str(site.tree))
    return site


# Problems


def found_in(site: Site, **options) -> list[str]:
    return site.install(check_mode=True, **options)["reasons"]


def agree(site: Site) -> None:
    site.lock(OLD)


def edit_json(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def hidden(site: Site, folder: str, entry: dict) -> None:
    edit_json(site.app / "node_modules" / ".package-lock.json", lambda lock: lock["packages"].update({folder: entry}))


def locked(site: Site, folder: str, entry: dict) -> None:
    edit_json(site.app / "package-lock.json", lambda lock: lock["packages"].update({folder: entry}))


def lay(site: Site, folder: str, version: str) -> None:
    (site.app / folder).mkdir(parents=True)
    (site.app / folder / "package.json").write_text(json.dumps({"version": version}))


def nothing(site: Site) -> None:
    pass


def dev_package(site: Site) -> None:
    locked(site, "node_modules/prettier", {"version": "3.0.0", "dev": True})


def dev_package_installed(site: Site) -> None:
    dev_package(site)
    hidden(site, "node_modules/prettier", {"version": "2.0.0", "dev": True})


def optional_package_not_installed(site: Site) -> None:
    locked(site, "node_modules/fsevents", {"version": "2.0.0", "optional": True, "os": ["darwin"]})


def optional_package_lost(site: Site) -> None:
    locked(site, "node_modules/fast", {"version": "2.0.0", "optional": True})
    hidden(site, "node_modules/fast", {"version": "2.0.0", "optional": True})


def package_of_another_platform(site: Site) -> None:
    entry = {"version": "2.0.0", "optional": True, "os": ["darwin"], "cpu": ["!x64"]}
    locked(site, "node_modules/fsevents", entry)
    hidden(site, "node_modules/fsevents", entry)
    lay(site, "node_modules/fsevents", "2.0.0")


def package_of_this_platform(site: Site) -> None:
    entry = {"version": "2.0.0", "optional": True, "os": ["linux", "darwin"], "cpu": ["!arm"]}
    locked(site, "node_modules/native", entry)
    hidden(site, "node_modules/native", entry)
    lay(site, "node_modules/native", "2.0.0")


def other_content_of_same_version(site: Site) -> None:
    locked(site, "node_modules/express", {"version": "4.0.0", "integrity": "sha512-a"})
    hidden(site, "node_modules/express", {"version": "4.0.0", "integrity": "sha512-b"})


def version_written_with_v(site: Site) -> None:
    (site.app / "node_modules/express/package.json").write_text('{"version": "v4.0.0"}')


def dangling_link(site: Site) -> None:
    locked(site, "node_modules/local", {"resolved": "packages/local", "link": True})
    locked(site, "packages/local", {"version": "1.0.0"})
    hidden(site, "node_modules/local", {"resolved": "packages/local", "link": True})
    (site.app / "node_modules/local").symlink_to("../packages/local")


def link_that_leads_somewhere(site: Site) -> None:
    dangling_link(site)
    (site.app / "packages/local").mkdir(parents=True)


def nested_package_too_much(site: Site) -> None:
    hidden(site, "node_modules/express/node_modules/qs", {"version": "1.0.0"})


def package_too_much_beside(site: Site) -> None:
    hidden(site, "node_modules/extra", {"version": "1.0.0"})


def nested_package_missing(site: Site) -> None:
    locked(site, "node_modules/express/node_modules/qs", {"version": "1.0.0"})


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (nothing, []),
        (dev_package, []),
        (dev_package_installed, []),
        (optional_package_not_installed, []),
        (package_of_this_platform, []),
        (version_written_with_v, []),
        (link_that_leads_somewhere, []),
        (package_too_much_beside, []),
        (lambda site: shutil.rmtree(site.app / "node_modules"), ["node_modules is missing"]),
        (
            lambda site: (site.app / "node_modules/.package-lock.json").unlink(),
            ["node_modules/.package-lock.json is missing or broken: the last npm install there did not finish"],
        ),
        (
            lambda site: (site.app / "node_modules/.package-lock.json").write_text("{"),
            ["node_modules/.package-lock.json is missing or broken: the last npm install there did not finish"],
        ),
        (
            lambda site: locked(site, "node_modules/express", {"version": "5.0.0"}),
            ["express: the lock file requires version 5.0.0, but 4.0.0 is installed"],
        ),
        (
            lambda site: locked(site, "node_modules/@scope/new", {"version": "1.0.0"}),
            ["@scope/new 1.0.0 is in the lock file, but not installed"],
        ),
        (
            lambda site: shutil.rmtree(site.app / "node_modules/express"),
            ["express: node_modules/express/package.json is missing or unreadable"],
        ),
        (
            lambda site: (site.app / "node_modules/express/package.json").write_text(""),
            ["express: node_modules/express/package.json is not JSON"],
        ),
        (
            lambda site: (site.app / "node_modules/express/package.json").write_text('{"version": "4.0.1"}'),
            ["express: node_modules/express contains version 4.0.1, but the lock file requires 4.0.0"],
        ),
        (optional_package_lost, ["fast: node_modules/fast/package.json is missing or unreadable"]),
        (package_of_another_platform, ["fsevents: node_modules was installed for a platform other than linux-x64"]),
        (
            other_content_of_same_version,
            ["express 4.0.0: a different package with the same version is installed (integrity differs)"],
        ),
        (dangling_link, ["local: the link node_modules/local is broken"]),
        (nested_package_too_much, ["qs: node_modules/express/node_modules/qs is installed, but not in the lock file"]),
        (nested_package_missing, ["qs 1.0.0 is in the lock file, but not installed"]),
        (
            lambda site: (site.app / "node_modules/better-sqlite3/broken").touch(),
            ["better-sqlite3 does not load: wrong ELF class"],
        ),
        (
            lambda site: (site.app / "node_modules/better-sqlite3/deadly").touch(),
            ["better-sqlite3 does not load: node exited while loading it (code -9)"],
        ),
        # The package is reported only as missing, not as a package that fails to load.
        (
            lambda site: shutil.rmtree(site.app / "node_modules/better-sqlite3"),
            ["better-sqlite3: node_modules/better-sqlite3/package.json is missing or unreadable"],
        ),
    ],
)
def test_broken_modules_are_reported_with_a_reason(site, change, reasons):
    agree(site)
    change(site)
    before = site.names()
    result = site.install(check_mode=True)
    assert result["reasons"] == reasons
    assert result["needed"] is result["changed"] is bool(reasons)
    assert (result["diff"]["before"] != result["diff"]["after"]) is bool(reasons)
    assert site.names() == before


def test_dev_packages_count_if_they_are_required(site):
    agree(site)
    dev_package(site)
    assert found_in(site, application={"omit_dev": False}) == ["prettier 3.0.0 is in the lock file, but not installed"]


def test_many_reasons_are_shortened(site):
    site.lock({f"p{number:02}": "1.0.0" for number in range(50)})
    reasons = found_in(site)
    assert len(reasons) == 21
    assert reasons[-1] == "and 30 more packages"


def test_an_application_without_dependencies_needs_no_modules(site):
    site.lock({})
    shutil.rmtree(site.app / "node_modules")
    assert found_in(site) == []


def test_the_shrinkwrap_takes_precedence_over_the_lock_file(site):
    agree(site)
    (site.app / "npm-shrinkwrap.json").write_text(json.dumps(lock_of({"express": "9.9.9"})))
    assert found_in(site) == ["express: the lock file requires version 9.9.9, but 4.0.0 is installed"]


def test_checking_a_large_tree_is_fast(site):
    versions = {f"package-{number}": "1.0.0" for number in range(1000)}
    site.lock(versions)
    shutil.rmtree(site.app / "node_modules")
    lay_tree(site.app / "node_modules", lock_of(versions))
    started = time.monotonic()
    assert found_in(site) == []
    assert time.monotonic() - started < 2.0


# Installing


def test_new_modules_are_swapped_in_and_the_old_modules_are_kept(site, monkeypatch, tmp_path):
    monkeypatch.setenv("npm_config_fake_log", str(tmp_path / "log"))
    result = site.install(cache="/some/cache")
    assert result["changed"] is result["swapped"] is result["needed"] is True
    assert result["installed"] == 2
    assert result["previous"] == str(site.app / "node_modules.previous")
    assert (site.version(), site.version("node_modules.previous")) == ("5.1.0", "4.0.0")
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]
    assert (site.app / "backend/itsm.db").read_text() == "rows"
    argv, _uid, _home, *names = (tmp_path / "log").read_text().splitlines()
    assert argv.startswith("ci --omit=dev --no-audit --no-fund ")
    assert argv.endswith("--prefer-offline --cache /some/cache")
    assert "backend" in names
    again = site.install()
    assert again["changed"] is again["swapped"] is again["needed"] is False
    assert again["previous"] == result["previous"]


def test_always_also_rebuilds_sound_modules_and_keeps_one_old_tree(site):
    site.install()
    (site.app / "node_modules" / "mark").touch()
    result = site.install(always=True)
    assert result["needed"] is False
    assert result["swapped"] is result["changed"] is True
    assert (site.app / "node_modules.previous" / "mark").exists()
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


def test_offline_uses_the_cache_only(site, monkeypatch, tmp_path):
    monkeypatch.setenv("npm_config_fake_log", str(tmp_path / "log"))
    site.install(offline=True)
    argv = (tmp_path / "log").read_text().splitlines()[0].split()
    assert "--offline" in argv
    assert "--prefer-offline" not in argv


def test_without_modules_there_is_no_old_tree_to_keep(site):
    shutil.rmtree(site.app / "node_modules")
    result = site.install()
    assert result["previous"] is None
    assert site.version() == "5.1.0"
    assert site.names() == ["backend", "node_modules"]


def test_a_link_in_place_of_the_modules_is_kept_unchanged(site):
    elsewhere = site.base / "elsewhere"
    (site.app / "node_modules").rename(elsewhere)
    (site.app / "node_modules").symlink_to("../elsewhere")
    site.install()
    assert (site.app / "node_modules.previous").is_symlink()
    assert not (site.app / "node_modules").is_symlink()
    site.install(always=True)
    assert (elsewhere / "express").is_dir()


def break_driver(site: Site) -> None:
    (site.tree / "better-sqlite3" / "broken").touch()


def link_into_the_build(site: Site) -> None:
    script(site.base / "npm", NPM + 'ln -s "$PWD/node_modules/express" node_modules/absolute\n')


def fill_the_disk(site: Site, monkeypatch) -> None:
    real = os.statvfs

    class Full:
        f_bavail, f_frsize, f_files, f_favail = 1, 4096, 0, 0

    monkeypatch.setattr(os, "statvfs", lambda path: Full() if path == str(site.app) else real(path))


def run_out_of_inodes(site: Site, monkeypatch) -> None:
    class Full:
        f_bavail, f_frsize, f_files, f_favail = 1 << 40, 4096, 1000, 1

    monkeypatch.setattr(os, "statvfs", lambda path: Full())


def use_workspaces(site: Site) -> None:
    site.lock(NEW, **{"node_modules/mine": {"link": True, "resolved": "packages/mine"}})


@pytest.mark.parametrize(
    ("fault", "options", "message"),
    [
        (
            "fail",
            {},
            r"npm ci for .* failed with exit code 1 \(the old node_modules is still in place\): code E401; 401",
        ),
        (
            "hang",
            {"timeout": 0.2},
            r"npm ci for .* did not finish within 0.2 s; the old node_modules is still in place",
        ),
        (
            break_driver,
            {},
            r"Cannot load .* \(the old node_modules is still in place\): better-sqlite3: wrong ELF class",
        ),
        (link_into_the_build, {}, "node_modules/absolute, a link to an absolute path"),
        (fill_the_disk, {}, "it needs about 1048576 bytes, but only 4096 are free"),
        (run_out_of_inodes, {}, "it needs about .* inodes, but only 1 are free"),
        (use_workspaces, {}, r"links to folders of the application itself \(packages/mine\)"),
        (lambda site: os.unlink(site.npm), {}, "Cannot find the program .*/npm"),
    ],
)
def test_every_failure_keeps_the_old_modules(site, monkeypatch, fault, options, message):
    if isinstance(fault, str):
        monkeypatch.setenv("npm_config_fake", fault)
    elif fault.__code__.co_argcount == 2:
        fault(site, monkeypatch)
    else:
        fault(site)
    with pytest.raises(npm_lock.NpmError, match=message) as caught:
        site.install(**options)
    text = str(caught.value)
    assert "\n" not in text
    assert "tok-1234" not in text
    assert "s3cretpass" not in text
    assert site.version() == "4.0.0"
    assert site.names() == ["backend", "node_modules"]


def test_a_swap_is_undone_if_the_modules_fail_to_load(site, monkeypatch):
    site.install()
    site.lock(OLD)
    shutil.rmtree(site.tree)
    lay_tree(site.tree, lock_of(OLD))

    def spoiled(argv, **options):
        done = run(argv, **options)
        if "-e" in argv and options["cwd"] == str(site.app) and site.version() == "4.0.0":
            said = '\n@npm_ci {"name": "better-sqlite3", "error": "gone"}\n'
            return commands.Completed(argv, 0, done.stdout + said, "", 0)
        return done

    with pytest.raises(npm_lock.NpmError, match=r"Cannot load .*the old node_modules is still in place"):
        site.install(application={"run": spoiled})
    assert (site.version(), site.version("node_modules.previous")) == ("5.1.0", "4.0.0")
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


def test_a_rename_that_fails_is_undone(site, monkeypatch):
    site.install()
    site.lock(OLD)
    real, calls = os.rename, []

    def rename(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    shutil.rmtree(site.tree)
    lay_tree(site.tree, lock_of(OLD))
    with pytest.raises(npm_lock.NpmError, match=r"Cannot swap node_modules in .*: Input/output error"):
        site.install()
    assert (site.version(), site.version("node_modules.previous")) == ("5.1.0", "4.0.0")
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app_dir": "relative"}, "app_dir is 'relative': must be the absolute path"),
        ({"app_dir": "/nonexistent"}, "app_dir is '/nonexistent': must be the absolute path"),
        ({"user": "no-such-user"}, "There is no user 'no-such-user' on this host"),
        ({"node": "no-such-node"}, "Cannot find the program 'no-such-node' on this host"),
        ({"load_test": ["express", "left-pad"]}, r"load_test is \['left-pad'\]: must contain only packages of"),
    ],
)
def test_invalid_parameters_are_named(site, options, message):
    parameters = {"app_dir": str(site.app), "node": site.node, "npm": site.npm, **options}
    with pytest.raises(npm_lock.NpmError, match=message):
        npm_application.Application(**parameters)


def test_a_relative_cache_is_refused(site):
    with pytest.raises(npm_lock.NpmError, match="cache is 'cache': must be an absolute path"):
        site.install(cache="cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no package-lock.json in"),
        ("{", "package-lock.json: it is not JSON"),
        ("[]", "package-lock.json: it is not a JSON object"),
        ('{"lockfileVersion": 1, "dependencies": {}}', "it has no packages"),
    ],
)
def test_an_invalid_lock_file_is_reported(site, content, message):
    (site.app / "package-lock.json").unlink()
    if content is not None:
        (site.app / "package-lock.json").write_text(content)
    with pytest.raises(npm_lock.NpmError, match=message):
        site.application()


def test_a_node_that_does_not_run_is_reported(site):
    script(Path(site.node), "#!/bin/sh\necho 'libnode.so: cannot open' >&2\nexit 127\n")
    with pytest.raises(npm_lock.NpmError, match=r"Cannot run .*/node in .*: libnode.so: cannot open"):
        site.install()


def test_output_of_npm_is_limited_and_contains_no_secrets():
    gyp = [f"npm error gyp info line {number}" for number in range(200)]
    said = ["npm warn old", "npm error code 1", "npm error path /app", *gyp, "npm error gyp ERR! stack Error: no g++"]
    text = "\n".join(said)
    message = npm_build.npm_message(text, redactor=redact.Redactor(["verysecret"]))
    assert message.startswith("code 1; path /app; gyp info line 0")
    assert message.endswith("gyp ERR! stack Error: no g++")
    assert len(npm_build.npm_message("npm error " + "x" * 5000, redactor=redact.Redactor())) < 700
    assert "verysecret" not in npm_build.npm_message("npm error verysecret", redactor=redact.Redactor(["verysecret"]))
    assert npm_build.npm_message("", redactor=redact.Redactor()) == "it printed nothing"


def test_tokens_of_npmrc_are_known_secrets(site, monkeypatch):
    (site.app / ".npmrc").write_text("registry=https://r/\n//r/:_authToken=plainlookingword\n")
    script(site.base / "npm", "#!/bin/sh\necho 'npm error bad plainlookingword' >&2\nexit 1\n")
    with pytest.raises(npm_lock.NpmError, match=r"bad \[redacted\]"):
        site.install()


# Killed installations


STEPS = (
    (os, "rename"),
    (os, "symlink"),
    (os, "replace"),
    (tempfile, "mkdtemp"),
    (shutil, "rmtree"),
    (atomic_files, "fsync_folder"),
)


def killed_install(site: Site, *, step: int) -> bool:
    """Install the modules in a child process that is killed at the given step.

    Return False if the process exited before that step.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function):
            def call(*args, **options):
                nonlocal count
                for moment in ("before", "after"):
                    count += 1
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    if moment == "before":
                        value = function(*args, **options)
                return value

            return call

        for module, name in STEPS:
            setattr(module, name, counted(getattr(module, name)))
        code = 1
        try:
            site.install(application={"run": counted(run)})
            code = 0
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def reset(site: Site) -> None:
    for name in site.names():
        if name != "backend":
            shutil.rmtree(site.app / name)
    lay_tree(site.app / "node_modules", lock_of(OLD))
    lay_tree(site.app / "node_modules.previous", lock_of({"express": "3.0.0"}))


def test_killed_at_any_step_the_next_run_recovers(site):
    step = 0
    gaps = 0
    while True:
        step += 1
        reset(site)
        if not killed_install(site, step=step):
            break
        if site.version() is None:
            gaps += 1
            assert site.version("node_modules.previous") == "4.0.0", step
            told = site.install(check_mode=True)
            assert told["restored"][0] == "move node_modules.previous back to node_modules"
            assert told["reasons"] == ["node_modules is missing: an earlier swap was interrupted"]
        swapped = site.version() == "5.1.0"
        result = site.install()
        assert result["swapped"] is not swapped, step
        assert site.version() == "5.1.0", step
        assert site.version("node_modules.previous") == "4.0.0", step
        assert site.names() == ["backend", "node_modules", "node_modules.previous"], step
        assert (site.app / "backend/itsm.db").read_text() == "rows"
        assert site.install()["changed"] is False
    # The installation was killed at every step, including the two steps at which node_modules does not exist.
    assert step > 20
    assert gaps == 2


def test_the_previous_tree_comes_back_after_a_kill_between_the_renames(site):
    agree(site)
    lay_tree(site.app / "node_modules.older", lock_of({"express": "3.0.0"}))
    result = site.install()
    assert result["restored"] == ["move node_modules.older back to node_modules.previous"]
    assert (result["changed"], result["swapped"]) == (True, False)
    assert (site.version(), site.version("node_modules.previous")) == ("4.0.0", "3.0.0")
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


def test_a_tree_that_a_killed_run_finished_is_not_built_again(site, monkeypatch):
    application = site.application()
    _found, report = application.look()
    npm_build.build(application, fingerprint=application.fingerprint(report), offline=False, cache=None, timeout=60)
    monkeypatch.setenv("npm_config_fake", "fail")
    assert site.install()["swapped"] is True
    assert site.version() == "5.1.0"
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


def test_a_tree_that_is_only_built_leaves_the_old_one_in_place_until_the_next_call(site, monkeypatch):
    result = site.install(build_only=True)
    assert (result["changed"], result["swapped"], result["leftovers"]) == (True, False, [])
    assert os.path.isdir(os.path.join(result["built"], "node_modules"))
    assert site.version() == OLD["express"]

    again = site.install(build_only=True)
    assert (again["changed"], again["built"]) == (False, result["built"])

    # The swap needs neither npm nor disk space. Therefore, it succeeds even if there is no registry and the disk is
    # full.
    monkeypatch.setenv("npm_config_fake", "fail")
    swapped = site.install(reserve=1 << 60)
    assert (swapped["swapped"], swapped["built"]) == (True, None)
    assert site.version() == "5.1.0"
    assert site.names() == ["backend", "node_modules", "node_modules.previous"]


def test_nothing_is_built_if_nothing_differs(site):
    agree(site)
    result = site.install(build_only=True)
    assert (result["changed"], result["built"]) == (False, None)


def test_the_build_leaves_the_reserved_space_free(site):
    with pytest.raises(npm_lock.NpmError, match=f"{1 << 60} must stay free"):
        site.install(build_only=True, reserve=1 << 60)
    assert site.version() == OLD["express"]
    assert site.names() == ["backend", "node_modules"]


def test_a_tree_built_for_another_lock_file_is_deleted(site, monkeypatch):
    application = site.application()
    _found, report = application.look()
    npm_build.build(application, fingerprint=application.fingerprint(report), offline=False, cache=None, timeout=60)
    site.lock({**NEW, "added": "1.0.0"})
    monkeypatch.setenv("npm_config_fake", "fail")
    with pytest.raises(npm_lock.NpmError, match="E401"):
        site.install()
    assert site.names() == ["backend", "node_modules"]


def test_leftovers_are_deleted_even_if_nothing_is_needed(site):
    agree(site)
    (site.app / ".npm_ci-abc" / "node_modules").mkdir(parents=True)
    (site.app / ".npm_ci-abc" / "backend").symlink_to("../backend")
    assert site.install(check_mode=True)["changed"] is True
    result = site.install()
    assert (result["changed"], result["swapped"]) == (True, False)
    assert site.names() == ["backend", "node_modules"]
    assert (site.app / "backend/itsm.db").exists()


def test_a_folder_in_use_by_an_orphaned_npm_is_kept(site):
    agree(site)
    work = site.app / ".npm_ci-abc" / "node_modules"
    work.mkdir(parents=True)
    with subprocess.Popen(["sleep", "30"], cwd=work) as orphan:
        try:
            assert site.install()["changed"] is False
            assert work.exists()
        finally:
            orphan.kill()
    assert site.install()["changed"] is True
    assert not work.exists()


def test_two_runs_at_once_are_refused(site):
    with site.application().locked(), pytest.raises(npm_lock.NpmError, match="another run is installing there"):
        site.install()
    assert site.install()["swapped"] is True


# As the service's user

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def public_site(monkeypatch):
    """Yield an application in a folder that the user "nobody" can enter, unlike pytest's own folders."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    site = Site(base)
    log = base / "log"
    log.touch()
    log.chmod(0o666)
    monkeypatch.setenv("npm_config_fake_tree", str(site.tree))
    monkeypatch.setenv("npm_config_fake_log", str(log))
    yield site
    shutil.rmtree(base)


def give_to_nobody(tree: Path) -> pwd.struct_passwd:
    nobody = pwd.getpwnam("nobody")
    for folder, folders, names in os.walk(tree):
        for name in [".", *folders, *names]:
            os.chown(os.path.join(folder, name), nobody.pw_uid, nobody.pw_gid)
    return nobody


def owners(tree: Path) -> set[int]:
    return {os.lstat(os.path.join(folder, name)).st_uid for folder, _, names in os.walk(tree) for name in [".", *names]}


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_npm_runs_as_the_service_user(public_site, user):
    nobody = give_to_nobody(public_site.app)
    # Make root the owner of the old tree, as if root had installed it. The user can move this tree, but only root can
    # remove it.
    shutil.copytree(public_site.app / "node_modules", public_site.app / "node_modules.previous")
    public_site.install(application={"user": user})
    _argv, uid, home, *_names = (public_site.base / "log").read_text().splitlines()
    assert uid == f"uid {nobody.pw_uid}"
    # npm's cache is in the build folder, because the user "nobody" has no home directory.
    assert "/.npm_ci-" in home
    assert owners(public_site.app / "node_modules") == {nobody.pw_uid}
    assert public_site.names() == ["backend", "node_modules", "node_modules.previous"]
    assert os.geteuid() == 0


@needs_root
def test_the_tree_belongs_to_the_owner_of_a_folder_closed_to_the_service_user(public_site):
    public_site.install(application={"user": "nobody"})
    assert f"uid {pwd.getpwnam('nobody').pw_uid}" in (public_site.base / "log").read_text()
    assert owners(public_site.app / "node_modules") == {0}
    assert public_site.version() == "5.1.0"


@needs_root
@pytest.mark.parametrize("user", ["nobody", None])
def test_a_user_that_replaces_the_build_does_not_get_a_tree_of_another_user(public_site, user):
    """The user's own folder is read-only. A package replaces the build folder while the package is being loaded."""
    give_to_nobody(public_site.app)
    public_site.app.chmod(0o555)
    victim = public_site.base / "victim"
    lay_tree(victim / "node_modules", lock_of(NEW))
    exchange = f"""#!/bin/sh
case "$PWD" in
  */.npm_ci-*) chmod u+w ..; mv "$PWD" ../away; ln -s {victim} "$PWD" ;;
esac
"""
    script(public_site.base / "node", exchange + NODE)
    with pytest.raises(npm_lock.NpmError, match="Permission denied"):
        public_site.install(application={"user": user})
    assert owners(victim) == {0}
    assert public_site.version() == "4.0.0"


@needs_root
def test_a_build_folder_does_not_change_its_owner_by_path(public_site, monkeypatch):
    """The user replaces a folder that root has just created in the user's folder."""
    nobody = give_to_nobody(public_site.app)
    public_site.app.chmod(0o555)
    victim = public_site.base / "victim"
    victim.mkdir(mode=0o700)
    make = tempfile.mkdtemp

    def make_and_exchange(**where):
        made = make(**where)
        with safe_open.acting((nobody.pw_uid, nobody.pw_gid)):
            public_site.app.chmod(0o755)
            os.rename(made, f"{made}.away")
            os.symlink(victim, made)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_exchange)
    with contextlib.suppress(npm_lock.NpmError):
        public_site.install(application={"user": "nobody"})
    assert (victim.stat().st_uid, list(victim.iterdir())) == (0, [])


@needs_root
@pytest.mark.parametrize("check_mode", [True, False])
def test_code_of_the_user_never_runs_as_the_owner_of_the_folder(public_site, check_mode):
    """A third account owns the application's folder, but the service's user owns the packages."""
    os.chown(public_site.app, pwd.getpwnam("daemon").pw_uid, -1)
    give_to_nobody(public_site.app / "node_modules")
    users = []

    def run(argv, **options):
        users.append(options.get("user"))
        return commands.run(argv, **options)

    application = {"user": "nobody", "run": run}
    with contextlib.nullcontext() if check_mode else pytest.raises(npm_lock.NpmError, match="Permission denied"):
        public_site.install(application=application, check_mode=check_mode)
    assert set(users) == {"nobody"}


@needs_root
def test_with_neither_root_nor_write_permission_nothing_is_tried(public_site):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            public_site.install()
        except npm_lock.NpmError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        said = stream.read()
    assert said == f"Cannot install in {public_site.app}: user 'nobody' cannot write there"


# With the real programs


@pytest.mark.skipif(not (shutil.which("npm") and shutil.which("node")), reason="npm is not installed")
def test_real_npm_installs_a_packed_dependency_offline(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in {
            "package.json": json.dumps({"name": "dep", "version": "1.2.3", "bin": {"dep": "cli.js"}}),
            "index.js": "module.exports = 42;",
            "cli.js": "#!/usr/bin/env node\nconsole.log(require('./index.js'));\n",
        }.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(text), 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    app = tmp_path / "app"
    app.mkdir()
    (app / "dep-1.2.3.tgz").write_bytes(packed.getvalue())
    root = {"name": "app", "version": "1.0.0", "dependencies": {"dep": "file:dep-1.2.3.tgz"}}
    # The application's postinstall script must find the application's files.
    (app / "package.json").write_text(json.dumps({**root, "scripts": {"postinstall": "node scripts/after.js"}}))
    (app / "scripts").mkdir()
    (app / "scripts" / "after.js").write_text("require('fs').writeFileSync('node_modules/after', process.cwd());")
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    dep = {"version": "1.2.3", "resolved": "file:dep-1.2.3.tgz", "integrity": integrity, "bin": {"dep": "cli.js"}}
    lock = {"name": "app", "lockfileVersion": 3, "requires": True, "packages": {"": root, "node_modules/dep": dep}}
    (app / "package-lock.json").write_text(json.dumps(lock))

    def application() -> npm_application.Application:
        return npm_application.Application(app_dir=str(app), load_test=["dep"], run=run)

    result = npm.npm_ci(application(), offline=True, cache=str(tmp_path / "cache"))
    assert result["reasons"] == ["node_modules is missing"]
    assert (result["installed"], result["swapped"]) == (1, True)
    assert "/.npm_ci-" in (app / "node_modules/after").read_text()
    # Commands that packages provide still work after the tree has been moved.
    command = app / "node_modules/.bin/dep"
    assert os.readlink(command) == "../dep/cli.js"
    assert subprocess.check_output([str(command)], text=True) == "42\n"
    assert stat.S_IMODE((app / "node_modules").stat().st_mode) & 0o055 == 0o055
    assert npm.npm_ci(application())["changed"] is False
    (app / "node_modules/dep/index.js").write_text("throw new Error('spoiled\\nsecond line');")
    assert npm.npm_ci(application(), check_mode=True)["reasons"] == ["dep does not load: spoiled"]
