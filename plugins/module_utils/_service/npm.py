# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's C(node_modules): does it agree with the lock file, and a new one built beside it and swapped in.

C(npm ci) deletes C(node_modules) before it downloads: where the registry does not answer, the service is left with
nothing. Here npm works in a temporary folder within the application's, and the old tree goes only once the new one has
been loaded by node. All names below are entries of the application's folder, so that a swap is a few renames:

C(.npm_ci-*)                being built; one that holds C(complete) was built, loaded and flushed to disk
C(node_modules.previous)    what C(node_modules) was before the last swap
C(node_modules.older)       what C(node_modules.previous) was, while a swap is under way
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    redact,
    safe_open,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as

# Packages with a compiled part that the service cannot do without.
NATIVE_DRIVERS = ("better-sqlite3", "sqlite3", "bcrypt")

_TREE = "node_modules"
_PREVIOUS = "node_modules.previous"
_OLDER = "node_modules.older"
_BUILD_PREFIX = ".npm_ci-"
_COMPLETE = "complete"
# The first that exists counts, as for npm.
_LOCK_FILES = ("npm-shrinkwrap.json", "package-lock.json")

# Of a lock file or a package.json.
_LARGEST = 64 << 20
# Of the package.json of one package.
_LARGEST_MANIFEST = 1 << 20

_NODE_TIMEOUT = 60.0
_FLUSH_TIMEOUT = 300.0
_MEBIBYTE = 1024 * 1024
_MOST_REASONS = 20
_MOST_ERROR_TEXT = 600

# What npm and the scripts it runs may learn of our environment: the way to the registry, and npm's own settings.
_HANDED_ON = re.compile(
    r"(?i)(npm_config_.*|https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_(file|dir)|lang|lc_.*|tz|cc|cxx|jobs|python)\Z"
)

# Loads each package, saying which one is next, since a broken native part may end the process. better-sqlite3 loads its
# native part only when a database is opened.
_LOADER = """
const say = (line) => require('fs').writeSync(1, '\\n@npm_ci ' + JSON.stringify(line) + '\\n');
const { platform, arch, versions } = process;
say({ platform, arch, abi: versions.modules });
for (const name of process.argv.slice(1)) {
  say({ name });
  try {
    const loaded = require(name);
    if (name === 'better-sqlite3') new loaded(':memory:').close();
  } catch (error) {
    say({ name, error: String((error && error.message) || error).split('\\n')[0] });
  }
}
say({ done: true });
process.exit(0);
"""


class NpmError(Exception):
    """The modules could not be looked at, or a new tree could not be built and put in place; the old one is there."""


@dataclasses.dataclass(frozen=True)
class NodeReport:
    """What node is, and why which package does not load."""

    platform: str
    arch: str
    abi: str
    failures: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One package that is not as the lock file says: C(wanted) and C(found) versions, C(None) where there is none."""

    path: str
    wanted: Optional[str]
    found: Optional[str]
    reason: str


_explained = functools.partial(run_as.explained, failure=NpmError)


def _read(path: str, *, limit: int = _LARGEST) -> bytes:
    # Neither to hang on a pipe put in its place, nor to read a device without end.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "it is not a regular file", path)
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    return data


def _read_json(path: str) -> Dict[str, Any]:
    with _explained(f"read {path}"):
        data = _read(path)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NpmError(f"Cannot read {path}: it is not JSON") from error
    if not isinstance(value, dict):
        raise NpmError(f"Cannot read {path}: it is not a JSON object")
    return value


def lock_file(app_dir: str) -> str:
    """Return the path of the lock file. Raises NpmError where there is none."""
    for name in _LOCK_FILES:
        path = os.path.join(app_dir, name)
        if os.path.exists(path):
            return path
    raise NpmError(f"There is no package-lock.json in {app_dir}: npm ci cannot install without one")


def read_packages(path: str) -> Dict[str, Dict[str, Any]]:
    """Return the C(packages) of a lock file (version 2 or 3): folder relative to the application -> entry."""
    packages = _read_json(path).get("packages")
    if not isinstance(packages, dict):
        raise NpmError(f"Cannot read {path}: it has no packages (a lock file of npm 6?)")
    return {folder: entry for folder, entry in packages.items() if isinstance(entry, dict)}


def installable(packages: Mapping[str, Dict[str, Any]], *, omit_dev: bool) -> Dict[str, Dict[str, Any]]:
    """Return the entries that belong into C(node_modules): not the application itself, nor local folders' targets."""
    return {
        folder: entry
        for folder, entry in packages.items()
        if "node_modules" in folder.split("/") and not entry.get("extraneous") and not (omit_dev and entry.get("dev"))
    }


def _fits(allowed: Any, actual: str) -> bool:
    """Whether a package's C(os) or C(cpu) list (C(!x) excludes x) allows this host."""
    listed = allowed if isinstance(allowed, list) else [allowed]
    names = [name for name in listed if isinstance(name, str)]
    if f"!{actual}" in names:
        return False
    wanted = [name for name in names if not name.startswith("!")]
    return not wanted or actual in wanted or "any" in wanted


def _package_name(folder: str) -> str:
    return folder.rsplit("node_modules/", 1)[-1]


def _version(entry: Mapping[str, Any]) -> Optional[str]:
    version = entry.get("version")
    return version.strip().lstrip("v=") if isinstance(version, str) else None


def _on_disk(app_dir: str, folder: str, wanted: Mapping[str, Any]) -> Optional[Difference]:
    """Compare one package's folder with its lock entry."""
    name, version = _package_name(folder), _version(wanted)
    if wanted.get("link"):
        if os.path.isdir(os.path.join(app_dir, folder)):
            return None
        return Difference(folder, "link", None, f"{name}: its link {folder} leads nowhere")
    try:
        manifest = json.loads(
            _read(os.path.join(app_dir, folder, "package.json"), limit=_LARGEST_MANIFEST).decode("utf-8")
        )
        found = _version(manifest) if isinstance(manifest, dict) else None
    except OSError:
        return Difference(folder, version, None, f"{name}: {folder}/package.json is missing or unreadable")
    except (ValueError, RecursionError):
        return Difference(folder, version, "broken", f"{name}: {folder}/package.json is not JSON")
    if version is None or found == version:
        return None
    return Difference(folder, version, found, f"{name}: {folder} holds version {found}, the lock file wants {version}")


def differences(app_dir: str, *, wanted: Mapping[str, Dict[str, Any]], platform: str, arch: str) -> List[Difference]:
    """Return how C(node_modules) differs from C(wanted) (see M(installable)), without asking npm.

    An optional package that npm did not install is no difference; neither is a package nobody asked for, unless it lies
    below another one, where it would be found before the right one. What C(node_modules/.package-lock.json) says is
    compared first, then each package's own C(package.json).
    """
    if not wanted:
        return []
    if not os.path.isdir(os.path.join(app_dir, _TREE)):
        return [Difference(_TREE, "a folder", None, "node_modules is missing")]
    try:
        hidden = read_packages(os.path.join(app_dir, _TREE, ".package-lock.json"))
    except NpmError:
        reason = "node_modules/.package-lock.json is missing or broken: no npm install was finished there"
        return [Difference(f"{_TREE}/.package-lock.json", "a lock file", None, reason)]
    found: List[Difference] = []
    for folder, entry in wanted.items():
        name, installed = _package_name(folder), hidden.get(folder)
        if installed is None:
            if not (entry.get("optional") or entry.get("devOptional")):
                found.append(
                    Difference(
                        folder, _version(entry), None, f"{name} {_version(entry)} is in the lock file, not installed"
                    )
                )
            continue
        if _version(installed) != _version(entry):
            reason = f"{name}: the lock file wants version {_version(entry)}, {_version(installed)} is installed"
            found.append(Difference(folder, _version(entry), _version(installed), reason))
            continue
        if None not in (installed.get("integrity"), entry.get("integrity")) and (
            installed["integrity"] != entry["integrity"]
        ):
            reason = f"{name} {_version(entry)}: another package of the same version is installed (integrity differs)"
            found.append(Difference(folder, _version(entry), "another", reason))
            continue
        if not (_fits(entry.get("os"), platform) and _fits(entry.get("cpu"), arch)):
            reason = f"{name}: node_modules was installed for another platform than {platform}-{arch}"
            found.append(Difference(folder, None, _version(installed), reason))
            continue
        on_disk = _on_disk(app_dir, folder, entry)
        if on_disk is not None:
            found.append(on_disk)
    for folder, entry in hidden.items():
        if folder not in wanted and folder.rpartition("/node_modules/")[0] in wanted:
            reason = f"{_package_name(folder)}: {folder} is installed, but not in the lock file"
            found.append(Difference(folder, None, _version(entry), reason))
    return found


def _environment(account: pwd.struct_passwd, *, home: str, node: str) -> Dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if _HANDED_ON.match(name)}
    # npm is itself a node script: the first node on the path is to be the one asked for.
    folders = [os.path.dirname(node), *os.environ.get("PATH", "").split(":"), *procfs.STANDARD_PATH.split(":")]
    environment.update(
        PATH=":".join(dict.fromkeys(folder for folder in folders if folder.startswith("/"))),
        HOME=home,
        USER=account.pw_name,
        LOGNAME=account.pw_name,
        NO_COLOR="1",
        CI="true",
    )
    # Headers that came with this node: node-gyp would fetch them from nodejs.org.
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(node)))
    if os.path.isfile(os.path.join(prefix, "include", "node", "node_version.h")):
        environment.setdefault("npm_config_nodedir", prefix)
    return environment


def find_program(name: str) -> str:
    """Return the absolute path of a program. Raises NpmError where it is not on this host."""
    search = f"{os.environ.get('PATH', '')}:{procfs.STANDARD_PATH}"
    found = shutil.which(name, path=search)
    if found is None:
        raise NpmError(f"Cannot find the program {name!r} on this host (looked in {search})")
    return os.path.abspath(found)


def ask_node(
    folder: str, *, names: Sequence[str], node: str, account: pwd.struct_passwd, run: commands.Runner = commands.run
) -> NodeReport:
    """Let node load the packages C(names) from C(folder)'s C(node_modules), as C(account). Raises NpmError."""
    with _explained(f"run {node} in {folder}"):
        done = run(
            [node, "-e", _LOADER, "--", *names],
            timeout=_NODE_TIMEOUT,
            cwd=folder,
            env=_environment(account, home=account.pw_dir, node=node),
            user=account.pw_name,
        )
    lines = _of_loader(done.stdout)
    if not lines:
        raise NpmError(f"Cannot run {node} in {folder}: {_first_line(done.stderr) or f'exit code {done.rc}'}")
    failures = {line["name"]: str(line["error"]) for line in lines if "error" in line and "name" in line}
    last = lines[-1]
    if "name" in last:
        failures[last["name"]] = "node hangs loading it" if done.timed_out else f"node died loading it (code {done.rc})"
    return NodeReport(platform=lines[0]["platform"], arch=lines[0]["arch"], abi=str(lines[0]["abi"]), failures=failures)


def _of_loader(output: str) -> List[Dict[str, Any]]:
    """Return what the loader said; what is not of its form, a package that was loaded may have said."""
    lines: List[Dict[str, Any]] = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line[8:]) if line.startswith("@npm_ci ") else None
            if isinstance(said, dict) and (lines or {"platform", "arch", "abi"} <= said.keys()):
                name = said.get("name")
                lines += [said] if name is None or isinstance(name, str) else []
    return lines


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def npm_message(stderr: str, *, redactor: redact.Redactor) -> str:
    """Return what npm says went wrong in one bounded line without secrets."""
    lines = [line.strip() for line in stderr.splitlines()]
    said = [re.sub(r"^npm (?:error|ERR!)\s*", "", line) for line in lines if re.match(r"npm (?:error|ERR!)", line)]
    said = [line for line in (said or lines) if line and "complete log of this run" not in line]
    # Long output is a compiler's: what failed stands in the first lines, why in those with an error in them.
    chosen = said[:4] + [line for line in said[4:] if re.search(r"(?i)\berror\b|ERR!.*stack", line)][:3]
    message = redactor.text("; ".join(chosen) or "it said nothing")
    return message if len(message) <= _MOST_ERROR_TEXT else message[:_MOST_ERROR_TEXT] + "..."


def _npmrc_secrets(paths: Sequence[str]) -> List[str]:
    found: List[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            text = _read(path).decode("utf-8", "replace")
            found.extend(re.findall(r"(?im)^[^#;=\n]*(?:_auth|_authToken|_password|password)\s*=\s*(\S+)", text))
    return [value.strip("\"'") for value in found]


def _remove(path: str) -> bool:
    """Remove a tree or a link; whether it is gone. Files below a link are never touched.

    What root once installed in the user's folder, only root can remove: in the folder that was opened without links.
    """
    with contextlib.suppress(OSError):
        if os.path.islink(path):
            os.unlink(path)
        else:
            atomic_files.remove_tree(path)
    if os.path.lexists(path) and os.geteuid() != os.getuid() and os.path.basename(path) in (_PREVIOUS, _OLDER):
        with safe_open.acting(None), contextlib.suppress(OSError):
            _remove_modules_of_root(path)
    return not os.path.lexists(path)


def _remove_modules_of_root(path: str) -> None:
    """Remove a tree in the user's folder if root once installed it. Raises OSError.

    Not one that merely has its name: the user may have given it to another folder of root's.
    """
    parent, name = os.path.split(path)
    folder = safe_open.open_any(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, lend=False)
    try:
        mark = os.path.join(name, ".package-lock.json")
        if all(os.stat(each, dir_fd=folder, follow_symlinks=False).st_uid == 0 for each in (name, mark)):
            atomic_files.remove_tree(name, parent=folder)
    finally:
        os.close(folder)


def _measure(tree: str) -> Tuple[int, int]:
    """Return bytes on disk and the number of entries of a tree."""
    size = count = 0
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
                count += 1
    return size, count


class Application:
    """One application's folder and what is installed in it. Raises NpmError wherever its methods cannot do their work.

    C(user) is whom the service runs as: npm, the scripts of packages, and node run as this user.
    """

    def __init__(
        self,
        *,
        app_dir: str,
        user: Optional[str] = None,
        node: str = "node",
        npm: str = "npm",
        omit_dev: bool = True,
        load_test: Optional[Sequence[str]] = None,
        run: commands.Runner = commands.run,
    ) -> None:
        if not os.path.isabs(app_dir) or not os.path.isdir(app_dir):
            raise NpmError(f"app_dir is {app_dir!r}: must be the absolute path of an existing folder")
        self.app_dir = os.path.realpath(app_dir)
        with _explained(f"work in {app_dir}"):
            # Root would put what was built as the user into the application of somebody else.
            judged, there = safe_open.look_up(app_dir, beside=False), os.stat(self.app_dir)
            if judged is None or not os.path.samestat(judged, there):
                raise OSError(0, "another folder has taken its place")
        with _explained(f"act as user {user!r} in {app_dir}"):
            # Whoever could exchange the folder gets only its own rights; root's are used only if nobody else could.
            self.rights = safe_open.rights_on(app_dir, user=safe_open.account_rights(user))
            if self.rights and user and not self._may_write(self.rights):
                # It belongs to another account, which gets no more than its own rights either.
                self.rights, user = safe_open.rights_on(app_dir), None
            name = user or (run_as.name_of(self.rights[0]) if self.rights else None)
            self.account = run_as.resolve(name, folder=self.app_dir)
        self.omit_dev = omit_dev
        self._run = run
        self._npm = npm
        self._node = find_program(node)
        with run_as.acting_as(self.account):
            self._theirs = self.rights is not None or os.access(self.app_dir, os.W_OK | os.X_OK, effective_ids=True)
            self._lock_file = lock_file(self.app_dir)
            self._sources = {
                os.path.basename(path): self._source(path)
                for path in (os.path.join(self.app_dir, "package.json"), self._lock_file)
            }
            self.wanted = installable(read_packages(self._lock_file), omit_dev=omit_dev)
        here = {_package_name(folder) for folder in self.wanted}
        unknown = sorted(set(load_test or ()) - here)
        if unknown:
            raise NpmError(f"load_test is {unknown}: must name packages of {self._lock_file}")
        self.load_test = list(load_test) if load_test is not None else self._drivers()

    def _may_write(self, rights: Tuple[int, int]) -> bool:
        with safe_open.acting(rights):
            return os.access(self.app_dir, os.W_OK | os.X_OK, effective_ids=True)

    @staticmethod
    def _source(path: str) -> bytes:
        with _explained(f"read {path}"):
            return _read(path)

    def _drivers(self) -> List[str]:
        entries = {name: self.wanted.get(f"{_TREE}/{name}") for name in NATIVE_DRIVERS}
        return [name for name, entry in entries.items() if entry is not None and not entry.get("optional")]

    def path(self, name: str) -> str:
        """Return the path of an entry of the application's folder."""
        return os.path.join(self.app_dir, name)

    @contextlib.contextmanager
    def writing(self, action: str) -> Iterator[None]:
        """Act as the user where the folder is the user's to write in; errors name what was tried."""
        with _explained(action), contextlib.ExitStack() as stack:
            if self._theirs:
                stack.enter_context(run_as.acting_as(self.account))
            yield

    def require_rights(self) -> None:
        """Stop before any work where neither the user nor we may write in the folder."""
        if not self._theirs and os.geteuid() != 0:
            raise NpmError(f"Cannot install in {self.app_dir}: user {self.account.pw_name!r} may not write there")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out; the kernel lets go of the lock when this process ends, however it ends."""
        with self.writing(f"open {self.app_dir}"):
            descriptor = os.open(self.app_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NpmError(f"Cannot install in {self.app_dir}: another run is installing there") from None
            yield
        finally:
            os.close(descriptor)

    # What an earlier run left when it was killed

    def interrupted(self) -> List[Tuple[str, str]]:
        """Return the renames (from, to) that undo a swap which was killed midway, in their order."""
        there = {name for name in (_TREE, _PREVIOUS, _OLDER) if os.path.lexists(self.path(name))}
        moves: List[Tuple[str, str]] = []
        for source, target in ((_PREVIOUS, _TREE), (_OLDER, _PREVIOUS)):
            if source in there and target not in there:
                moves.append((source, target))
                there = (there - {source}) | {target}
        return moves

    def mend(self) -> List[str]:
        """Undo a swap that was killed midway; return what was done, in words."""
        moves = self.interrupted()
        for source, target in moves:
            with self.writing(f"put {self.path(source)} back as {target}"):
                os.rename(self.path(source), self.path(target))
                atomic_files.fsync_folder(self.app_dir)
        return [f"put {source} back as {target}" for source, target in moves]

    def litter(self) -> List[str]:
        """Return the folders that a killed run left, without those in which its npm still works."""
        with _explained(f"list {self.app_dir}"):
            names = [
                entry.name
                for entry in os.scandir(self.app_dir)
                if entry.name.startswith(_BUILD_PREFIX) and entry.is_dir(follow_symlinks=False)
            ]
        if os.path.lexists(self.path(_OLDER)) and os.path.lexists(self.path(_PREVIOUS)):
            names.append(_OLDER)
        if not names:
            return []
        busy: Set[str] = set()
        with _explained(f"find out who works in {self.app_dir}"):
            with safe_open.acting(None):  # only root sees where others work
                processes = list(procfs.processes())
            for process in processes:
                if process.cwd is not None and process.cwd.startswith(self.app_dir + "/"):
                    busy.add(process.cwd[len(self.app_dir) + 1 :].split("/", 1)[0])
        return sorted(self.path(name) for name in names if name not in busy)

    # Looking

    def look(self) -> Tuple[List[Difference], NodeReport]:
        """Return what is wrong with the tree that is there, the native drivers' loading included."""
        there = os.path.isdir(self.path(_TREE))
        report = ask_node(
            self.app_dir,
            names=self.load_test if there else [],
            node=self._node,
            account=self.account,
            run=self._run,
        )
        with run_as.acting_as(self.account):
            found = differences(self.app_dir, wanted=self.wanted, platform=report.platform, arch=report.arch)
        known = {difference.path for difference in found}
        for name, error in report.failures.items():
            folder = f"{_TREE}/{name}"
            if folder not in known:
                found.append(Difference(folder, "loads", "does not load", f"{name} does not load: {error}"))
        return found, report

    def count(self) -> int:
        """Return how many packages npm says it installed; it says nothing where there was none to install."""
        with run_as.acting_as(self.account):
            path = self.path(f"{_TREE}/.package-lock.json")
            return len(read_packages(path)) if os.path.exists(path) else 0

    # Building

    def fingerprint(self, report: NodeReport) -> str:
        """Return what a finished tree depends on, as one word."""
        digest = hashlib.sha256(f"{report.platform}-{report.arch}-{report.abi} dev={not self.omit_dev}\n".encode())
        for name in sorted(self._sources):
            digest.update(hashlib.sha256(self._sources[name]).digest())
        return digest.hexdigest()

    def finished(self, *, fingerprint: str) -> Optional[str]:
        """Return the folder of a tree that a killed run finished and did not come to swap in."""
        for folder in self.litter():
            with run_as.acting_as(self.account), contextlib.suppress(OSError):
                complete = _read(os.path.join(folder, _COMPLETE)).decode("ascii", "replace")
                if complete == fingerprint and os.path.isdir(os.path.join(folder, _TREE)):
                    return folder
        return None

    def _refuse_links(self) -> None:
        linked = sorted(
            str(entry.get("resolved", folder)) for folder, entry in self.wanted.items() if entry.get("link")
        )
        if linked:
            raise NpmError(
                f"Cannot build node_modules beside the old one in {self.app_dir}: the lock file links folders of the "
                f"application itself ({', '.join(linked[:5])}; workspaces or file: dependencies), which npm ci would "
                "change in place; install by hand"
            )

    def _check_room(self, *, reserve: int) -> None:
        size, count = _measure(self.path(_TREE))
        needed = max(size + size // 4, len(self.wanted) * _MEBIBYTE // 2)
        status = os.statvfs(self.app_dir)
        free = status.f_bavail * status.f_frsize
        if free < needed + reserve:
            kept = f", {reserve} are to stay free" if reserve else ""
            raise NpmError(
                f"Cannot build node_modules in {self.app_dir}: it takes about {needed} bytes{kept}, {free} are free on "
                "its file system"
            )
        # Some file systems have no fixed number of inodes and say 0.
        if status.f_files and status.f_favail < count + count // 4:
            raise NpmError(
                f"Cannot build node_modules in {self.app_dir}: it takes about {count + count // 4} inodes, "
                f"{status.f_favail} are free on its file system"
            )

    def _lay_out(self) -> str:
        """Make the folder to build in: a snapshot of the two JSON files, links to all else that scripts may look at."""
        with self.writing(f"make a folder to build in below {self.app_dir}"):
            build = tempfile.mkdtemp(prefix=_BUILD_PREFIX, dir=self.app_dir)
            if not self._theirs:
                os.chown(build, self.account.pw_uid, self.account.pw_gid)
        try:
            with _explained(f"prepare {build}"), run_as.acting_as(self.account):
                for name, data in self._sources.items():
                    with open(os.path.join(build, name), "xb") as stream:
                        stream.write(data)
                for entry in os.listdir(self.app_dir):
                    ours = entry.startswith((_BUILD_PREFIX, _TREE)) or entry in (*_LOCK_FILES, "package.json", ".git")
                    if not ours:
                        os.symlink(os.path.join(os.pardir, entry), os.path.join(build, entry))
        except NpmError:
            _remove(build)
            raise
        return build

    def _home(self, build: str) -> str:
        """Return a home in which npm can keep its cache: the user's own, else one that goes with the build."""
        home = self.account.pw_dir
        with run_as.acting_as(self.account):
            cache = os.path.join(home, ".npm")
            usable = os.access(cache if os.path.lexists(cache) else home, os.W_OK | os.X_OK, effective_ids=True)
            if usable and home != "/":
                return home
            home = os.path.join(build, ".npm_ci-home")
            with _explained(f"prepare {build}"):
                os.mkdir(home, 0o700)
        return home

    def _npm_ci(self, build: str, *, offline: bool, cache: Optional[str], timeout: float) -> None:
        npm = find_program(self._npm)
        home = self._home(build)
        argv = [npm, "ci", "--omit=dev" if self.omit_dev else "--include=dev"]
        argv += ["--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--loglevel=error", "--logs-max=0"]
        argv.append("--offline" if offline else "--prefer-offline")
        if cache:
            argv += ["--cache", cache]
        with _explained(f"run npm ci for {self.app_dir}"):
            done = self._run(
                argv,
                timeout=timeout,
                cwd=build,
                env=_environment(self.account, home=home, node=self._node),
                user=self.account.pw_name,
            )
        if done.timed_out:
            raise NpmError(
                f"npm ci for {self.app_dir} did not end within {timeout:g} s; the old node_modules is in place"
            )
        if not done.ok:
            with run_as.acting_as(self.account):
                secrets = _npmrc_secrets([self.path(".npmrc"), os.path.join(home, ".npmrc")])
            redactor = redact.Redactor([*secrets, *redact.secret_values(os.environ)])
            raise NpmError(
                f"npm ci for {self.app_dir} failed (code {done.rc}), the old node_modules is in place: "
                + npm_message(done.stderr, redactor=redactor)
            )

    def _load(self, folder: str) -> None:
        failures = ask_node(folder, names=self.load_test, node=self._node, account=self.account, run=self._run).failures
        if failures:
            said = "; ".join(f"{name}: {error}" for name, error in failures.items())
            raise NpmError(
                f"The node_modules just built for {self.app_dir} does not load, the old one is in place: {said}"
            )

    def _refuse_absolute_links(self, build: str) -> None:
        for folder, folders, names in os.walk(os.path.join(build, _TREE)):
            for name in folders + names:
                path = os.path.join(folder, name)
                if os.path.islink(path) and os.readlink(path).startswith(build):
                    raise NpmError(
                        f"The node_modules just built for {self.app_dir} cannot be moved, the old one is in place: "
                        f"{os.path.relpath(path, build)} is a link to an absolute path in it"
                    )

    def _hand_over(self, build: str) -> None:
        """Give a tree built for a folder that the user may not write in to whom the old one belongs."""
        if self._theirs:
            return
        old = self.path(_TREE)
        owner = os.lstat(old if os.path.lexists(old) else self.app_dir)
        with _explained(f"hand over {build}"):
            for _folder, folders, names, descriptor in os.fwalk(os.path.join(build, _TREE), follow_symlinks=False):
                for name in [".", *folders, *names]:
                    self._give(name, descriptor, owner)

    def _give(self, name: str, folder: int, owner: os.stat_result) -> None:
        """Give away an entry that the user made, and no other that has taken its place. Raises OSError."""
        opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(opened)
            if status.st_uid not in (self.account.pw_uid, owner.st_uid):
                raise OSError(0, f"{name} was not made by user {self.account.pw_name}")
            if stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
                raise OSError(0, f"{name} has a second name, by which its user could still change it")
            if status.st_uid != owner.st_uid:
                os.chown(f"/proc/self/fd/{opened}", owner.st_uid, owner.st_gid)
        finally:
            os.close(opened)

    def build(self, *, fingerprint: str, offline: bool, cache: Optional[str], timeout: float, reserve: int = 0) -> str:
        """Build a tree, load it, flush it to disk; return its folder, which the caller removes. Old trees stay."""
        self._refuse_links()
        self._check_room(reserve=reserve)
        build = self._lay_out()
        try:
            self._npm_ci(build, offline=offline, cache=cache, timeout=timeout)
            if not os.path.isdir(os.path.join(build, _TREE)):
                # npm makes none for an application without dependencies.
                with _explained(f"prepare {build}"), run_as.acting_as(self.account):
                    os.mkdir(os.path.join(build, _TREE))
            self._load(build)
            self._refuse_absolute_links(build)
            self._hand_over(build)
            with _explained(f"flush {build} to disk"):
                flushed = self._run(["sync", "-f", os.path.join(build, _TREE)], timeout=_FLUSH_TIMEOUT)
            if not flushed.ok:
                raise NpmError(
                    f"Cannot flush {build} to disk: {_first_line(flushed.stderr) or 'no end within the time'}"
                )
            with _explained(f"finish {build}"), run_as.acting_as(self.account):
                atomic_files.write_atomically(os.path.join(build, _COMPLETE), fingerprint.encode("ascii"))
        except BaseException:
            _remove(build)
            raise
        return build

    # Swapping

    def swap(self, build: str) -> None:
        """Put the tree built in C(build) in place, the old one aside; all as before where that or loading it fails."""
        if not os.path.lexists(self.path(_TREE)):
            moves = []
        else:
            if os.path.lexists(self.path(_OLDER)) and not _remove(self.path(_OLDER)):
                raise NpmError(f"Cannot swap node_modules in {self.app_dir}: {self.path(_OLDER)} cannot be removed")
            moves = [(self.path(_PREVIOUS), self.path(_OLDER))] if os.path.lexists(self.path(_PREVIOUS)) else []
            moves.append((self.path(_TREE), self.path(_PREVIOUS)))
        moves.append((os.path.join(build, _TREE), self.path(_TREE)))
        done: List[Tuple[str, str]] = []
        try:
            with self.writing(f"swap node_modules in {self.app_dir}"):
                for source, target in moves:
                    os.rename(source, target)
                    done.append((source, target))
                atomic_files.fsync_folder(self.app_dir)
            self._load(self.app_dir)
        except NpmError:
            with self.writing(f"put the old node_modules of {self.app_dir} back"):
                for source, target in reversed(done):
                    os.rename(target, source)
            raise


def _reasons(found: Sequence[Difference]) -> List[str]:
    reasons = [difference.reason for difference in found[:_MOST_REASONS]]
    if len(found) > _MOST_REASONS:
        reasons.append(f"and {len(found) - _MOST_REASONS} packages more")
    return reasons


def _diff(application: Application, found: Sequence[Difference]) -> Dict[str, str]:
    tree = application.path(_TREE)
    return {
        "before_header": tree,
        "after_header": tree,
        "before": "".join(f"{item.path} {item.found}\n" for item in found if item.found is not None),
        "after": "".join(f"{item.path} {item.wanted}\n" for item in found if item.wanted is not None),
    }


def npm_ci(
    application: Application,
    *,
    always: bool = False,
    offline: bool = False,
    cache: Optional[str] = None,
    timeout: float = 600.0,
    build_only: bool = False,
    reserve: int = 0,
    check_mode: bool = False,
) -> Dict[str, Any]:
    """Make C(node_modules) agree with the lock file; return the result as the module C(npm_ci) documents it.

    With C(build_only) the new tree is left where it was built: the next call puts it in place. C(reserve) bytes stay
    free on the file system. Raises NpmError, with the tree that was there in place.
    """
    if cache and not os.path.isabs(cache):
        raise NpmError(f"cache is {cache!r}: must be an absolute path")
    if reserve < 0:
        raise NpmError(f"reserve is {reserve}: must be 0 bytes or more")
    with safe_open.acting(application.rights), _explained(f"install in {application.app_dir}"):
        result: Dict[str, Any] = {"installed": 0, "swapped": False, "built": None, "mended": [], "leftovers": []}
        if check_mode:
            moves = application.interrupted()
            result["mended"] = [f"put {source} back as {target}" for source, target in moves]
            litter = application.litter()
            found, _report = application.look()
            # A tree that a run puts back first cannot be compared before that.
            if found and moves and moves[0][1] == _TREE:
                found = [
                    dataclasses.replace(found[0], reason="node_modules is missing: an earlier swap was killed midway")
                ]
            result["changed"] = bool(found or always or moves or litter)
        else:
            application.require_rights()
            with application.locked():
                _install(
                    application,
                    result,
                    always=always,
                    offline=offline,
                    cache=cache,
                    timeout=timeout,
                    build_only=build_only,
                    reserve=reserve,
                )
            found = result.pop("found")
        previous = application.path(_PREVIOUS)
        result.update(
            needed=bool(found),
            reasons=_reasons(found),
            previous=previous if os.path.lexists(previous) else None,
            diff=_diff(application, found),
        )
        return result


def _install(
    application: Application,
    result: Dict[str, Any],
    *,
    always: bool,
    offline: bool,
    cache: Optional[str],
    timeout: float,
    build_only: bool,
    reserve: int,
) -> None:
    result["mended"] = application.mend()
    found, report = application.look()
    result["found"] = found
    fingerprint = application.fingerprint(report)
    build = application.finished(fingerprint=fingerprint) if found or always else None
    is_new = False
    # Before anything is built: they take the room that the new tree needs.
    removed = [path for path in application.litter() if path != build and _remove(path)]
    if found or always:
        if build is None:
            build = application.build(
                fingerprint=fingerprint, offline=offline, cache=cache, timeout=timeout, reserve=reserve
            )
            is_new = True
        if not build_only:
            _put_in_place(application, build)
            result["swapped"] = True
            result["installed"] = application.count()
    result["leftovers"] = [path for path in application.litter() if not (build_only and path == build)]
    result["built"] = build if build_only else None
    result["changed"] = bool(result["swapped"] or is_new or result["mended"] or removed)


def _put_in_place(application: Application, build: str) -> None:
    try:
        application.swap(build)
    finally:
        _remove(build)
    for path in application.litter():
        _remove(path)
