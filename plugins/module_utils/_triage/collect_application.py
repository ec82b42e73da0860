# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the application: database, migrations, dependencies, Node, and files."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import re
import stat
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    parallel,
    path_status,
    safe_open,
    semver,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    knex,
    knex_tables,
    migration_names,
    npm_load,
    npm_lock,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    file,
    found,
    identity,
    program,
    read_theirs,
    rights_of,
    user_name,
    why,
)

_MOST_ENTRIES = 500
# The output format of `node --version`. Any other output is ignored, because the program may not be Node.
_VERSION = re.compile(r"v\d[\w.+-]{0,38}\n?\Z")
_MOST_REASONS = 20
# Another process's lock is treated as permanent only if each of _LOOKS checks within _LASTS seconds finds the lock.
_LASTS, _LOOKS = 0.5, 5


def database(question: Question, *, checks: Sequence[str] = ("quick",)) -> Dict[str, Any]:
    """Check the database that the service uses, and count its rows. By default, only the quick check runs."""
    # If the check times out, its whole result is lost. Therefore, the check may use only 90 % of the remaining time.
    budget = question.left * 0.9
    owner = None
    with contextlib.suppress(KeyError):
        owner = pwd.getpwnam(question.service.user).pw_name if question.service.user else None
    facts = sqlite_check.check(
        path=question.known.database_path,
        owner=owner,
        checks=checks,
        row_counts=True,
        time_budget=budget,
        busy_timeout=min(1.0, budget),
    )
    ours = {item["pid"] for item in question.known.processes}
    redactor = question.redactor
    for holder in facts["holders"]:
        process = procfs.read_process(holder["pid"])
        known: Dict[str, Any] = {"start_ticks": None, "exe": None, "user": None, "ours": holder["pid"] in ours}
        if process is not None:
            known = identity(process, ours=known["ours"], redactor=redactor)
        holder.update({name: known[name] for name in ("start_ticks", "exe", "user", "ours")})
        holder["age"] = None if process is None else round(process.age, 1)
    _watch_strangers(question, [holder for holder in facts["holders"] if not holder["ours"]])
    return found(facts)


def _watch_strangers(question: Question, strangers: List[Dict[str, Any]]) -> None:
    """Check the locks repeatedly, and record the number of seconds for which each foreign process blocked all writes.

    A short transaction does no harm. A forgotten transaction blocks every write, although the service seems healthy.
    """
    begun = time.monotonic()
    for holder in strangers:
        holder["blocks_for"] = None
    blocking = {holder["pid"]: holder for holder in strangers if holder["role"] in sqlite_holders.BLOCKING}
    for _look in range(_LOOKS):
        if not blocking or question.left < _LASTS:
            return
        time.sleep(_LASTS / _LOOKS)
        try:
            _files, now = sqlite_holders.survey(question.known.database_path, user=question.service.user)
        except sqlite_files.SqliteError:
            return
        still = {each.pid for each in now.found if each.role in sqlite_holders.BLOCKING}
        blocking = {pid: holder for pid, holder in blocking.items() if pid in still}
    for holder in blocking.values():
        holder["blocks_for"] = round(time.monotonic() - begun, 3)


def _migrators(question: Question) -> List[Dict[str, Any]]:
    """Return processes in the service's folder that may be applying migrations. The service itself is omitted."""
    folder = os.path.realpath(question.service.app_dir)
    ours = {item["pid"] for item in question.known.processes}
    migrators = []
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            cwd = os.readlink(f"/proc/{pid}/cwd")
            if pid in ours or not (cwd == folder or cwd.startswith(folder + "/")):
                continue
            process = procfs.read_process(pid)
            if process is not None and process.alive and knex.may_migrate(process.argv):
                migrators.append(identity(process, ours=False, redactor=question.redactor))
    return migrators


def _migrator(question: Question) -> knex.Migrator:
    service = question.service
    return knex.Migrator(
        app_dir=service.app_dir,
        db_path=question.known.database_path,
        user=service.user or None,
        node=program(question) or service.command[0],
        environment_file=service.path(service.environment_file) if service.environment_file else None,
        timeout=question.left * 0.9,
        run=question.run,
    )


def migrations_shipped(question: Question) -> Dict[str, Any]:
    """Return the application's migrations from the usual folder. If the usual folder does not exist, ask knex."""
    with as_service(question):
        names = migration_names.in_folder(question.service.app_dir)
    if names is not None:
        return found({"names": names, "by": "folder", "error": None})
    return migrations_listed(question)


def migrations_listed(question: Question) -> Dict[str, Any]:
    """Ask knex for the application's migrations. The service's database is not used."""
    try:
        return found({"names": _migrator(question).shipped(), "by": "knex", "error": None})
    except knex_tables.KnexError as error:
        return found({"names": None, "by": "knex", "error": str(error)})


def to_be_listed(facts: Mapping[str, Any], shipped: Mapping[str, Any]) -> bool:
    """Return True if knex must be asked for the application's migrations.

    If the usual folder contains exactly the completed migrations in `facts`, no migration is pending, and knex is not
    needed. If the names of the migrations differ, the knexfile may specify another folder.
    """
    if shipped.get("by") != "folder" or facts.get("error") or facts.get("pending") is not None:
        return False
    return bool(sorted(facts.get("completed") or ()) != shipped["names"])


def migrations(question: Question) -> Dict[str, Any]:
    """Return the completed migrations, the processes that may apply migrations, and the state of the migration lock.

    The facts also contain the objects of the schema, which collect_changes compares.
    """
    path = question.known.database_path
    facts: Dict[str, Any] = dict.fromkeys(("completed", "pending", "batch", "lock_held", "lock_stale", "error"))
    facts["migrators"] = _migrators(question)
    try:
        tables = knex_tables.read_tables(path, user=question.service.user)
        facts.update(completed=list(tables.names), batch=tables.batch, lock_held=tables.locked)
        facts["schema"] = list(tables.schema)
        if tables.several:
            status = _migrator(question).look()
            facts.update(completed=status.completed, pending=status.pending)
    except knex_tables.KnexError as error:
        facts["error"] = str(error)
    if facts["lock_held"] is not None:
        # The service applies migrations when it starts. If it has the database open, it may therefore be migrating.
        inside = [item for item in question.known.processes if path in item["open_databases"]]
        facts["lock_stale"] = facts["lock_held"] and not facts["migrators"] and not inside
    return found(facts)


def node(question: Question) -> Dict[str, Any]:
    """Return facts about the Node program that runs the service, and about the script and package.json."""
    service = question.service
    path = program(question)
    rights = rights_of(service)
    facts: Dict[str, Any] = {
        "path": path,
        "version": None,
        "engines": None,
        "engines_ok": None,
        "script": None,
        "script_exists": None,
        "modules_exist": stat.S_ISDIR(path_status.mode_of(service.path("node_modules"), user=rights)),
        "dependencies": 0,
    }
    if path:
        # The service's user may be able to replace the program. Therefore, run the program as this user, not as root.
        with contextlib.suppress(run_as.IdentityError, commands.CommandError):
            done = question.run_as(
                [path, "--version"],
                timeout=question.left,
                env={"PATH": procfs.STANDARD_PATH, "LC_ALL": "C"},
                user=run_as.resolve(service.user or None, folder=service.app_dir).pw_name,
            )
            facts["version"] = done.stdout.strip() if done.ok and _VERSION.match(done.stdout) else None
    script = next((word for word in service.command[1:] if not word.startswith("-")), None)
    if script:
        facts["script"] = service.path(script)
        facts["script_exists"] = stat.S_ISREG(path_status.mode_of(facts["script"], user=rights))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        package = json.loads(read_theirs(service.path("package.json")))
        facts["engines"] = (package.get("engines") or {}).get("node")
        facts["dependencies"] = len(package.get("dependencies") or {})
        facts["engines_ok"] = semver.satisfies(facts["version"], facts["engines"])
    return found(facts)


def _native(wanted: Mapping[str, Dict[str, Any]]) -> List[str]:
    """Return the packages that depend on the Node version: native drivers, and packages with an install script."""
    names = []
    for folder, entry in wanted.items():
        name = folder[len("node_modules/") :]
        if "node_modules/" in name or entry.get("optional") or entry.get("devOptional"):
            continue
        if name in npm_load.NATIVE_DRIVERS or entry.get("hasInstallScript"):
            names.append(name)
    return sorted(names)


def _unloadable(question: Question, wanted: Mapping[str, Dict[str, Any]]) -> Tuple[Dict[str, str], str, str]:
    """Return the error for each native package that cannot be loaded, and Node's platform and architecture."""
    service = question.service
    report = npm_load.ask_node(
        service.app_dir,
        names=_native(wanted),
        node=program(question) or service.command[0],
        account=run_as.resolve(service.user or None, folder=service.app_dir),
        run=question.run_as,
    )
    return dict(report.failures), report.platform, report.arch


@contextlib.contextmanager
def as_service(question: Question) -> Iterator[None]:
    """Run the block as the service's user if this process can switch to that user."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(run_as.IdentityError):
            account = run_as.resolve(question.service.user or None, folder=question.service.app_dir)
            stack.enter_context(run_as.acting_as(account))
        yield


def _read_tree(question: Question) -> Dict[str, Any]:
    """Compare node_modules with the lock file, and try to load the native packages in Node."""
    service = question.service
    facts: Dict[str, Any] = {"ok": None, "missing": [], "invalid": [], "unloadable": [], "reasons": [], "error": None}
    try:
        with as_service(question):
            wanted = npm_lock.installable(npm_lock.read_packages(npm_lock.lock_file(service.app_dir)), omit_dev=True)
    except npm_lock.NpmError as error:
        return {**facts, "error": str(error)}
    system, arch = "linux", npm_lock.architecture()
    failures: Dict[str, str] = {}
    try:
        failures, system, arch = _unloadable(question, wanted)
    except (npm_lock.NpmError, run_as.IdentityError) as error:
        facts["error"] = str(error)
    with as_service(question):
        differences = npm_lock.differences(service.app_dir, wanted=wanted, platform=system, arch=arch)
    unfinished = [item for item in differences if item.path.endswith("/.package-lock.json")]
    told = [item for item in differences if item not in unfinished]

    def names(items: List[npm_lock.Difference]) -> List[str]:
        return sorted({item.path.rpartition("node_modules/")[2] or item.path for item in items})

    facts["missing"] = names([item for item in told if item.found is None])
    facts["invalid"] = names([item for item in told if item.found is not None])
    facts["unloadable"] = sorted(set(failures) - set(facts["missing"]))
    reasons = [item.reason for item in differences] + [f"{name}: {failures[name]}" for name in facts["unloadable"]]
    facts["reasons"] = reasons[:_MOST_REASONS]
    # If node_modules does not contain npm's .package-lock.json, nothing was compared, so the result is unknown. Another
    # program or an older version of npm may have installed the packages.
    broken = bool(told or facts["unloadable"])
    facts["ok"] = False if broken else None if unfinished or facts["error"] else True
    return facts


def _npm_ls(question: Question, *, folder: str) -> Dict[str, Any]:
    """Run npm ls as the service's user and return its result. folder: for npm's cache and logs. Raises TimeoutError."""
    service = question.service
    account = run_as.resolve(service.user or None, folder=service.app_dir)
    own = program(question)
    environment = {
        "PATH": ":".join(([os.path.dirname(own)] if own else []) + [procfs.STANDARD_PATH]),
        "HOME": folder,
        "USER": account.pw_name,
        "LC_ALL": "C",
        "NO_COLOR": "1",
        "npm_config_cache": folder,
        "npm_config_logs_max": "0",
        "npm_config_update_notifier": "false",
    }
    done = question.run(
        [npm_load.find_program("npm"), "ls", "--omit=dev", "--json"],
        timeout=question.left * 0.9,
        cwd=service.app_dir,
        env=environment,
        user=account.pw_name,
    )
    if done.timed_out:
        raise TimeoutError(parallel.TIMED_OUT)
    try:
        answer = json.loads(done.stdout)
        said = [str(text)[:300] for text in answer.get("problems") or []]
    except (ValueError, AttributeError):
        answer, said = {"error": True}, []
    if "error" in answer and not said:
        return {"ok": None, "problems": [], "error": why(done)}
    # An extraneous package does no harm. If a package is missing, npm also reports all its dependencies as extraneous.
    problems = [text for text in said if not text.startswith("extraneous: ")]
    return {"ok": done.ok or not problems, "problems": problems[:_MOST_REASONS], "error": None}


def dependencies(question: Question) -> Dict[str, Any]:
    """Check whether the dependencies are installed and can be loaded.

    Reading the files is much faster than running npm ls, so npm ls runs only if the files are not sufficient. If npm
    ls hangs, only its own result is lost.
    """
    if not path_status.mode_of(question.service.path("package.json"), user=rights_of(question.service)):
        return found({"ok": None, "error": "There is no package.json", "npm_ls": None})
    facts = _read_tree(question)
    facts["npm_ls"] = None
    reports: Dict[str, Any] = {}
    if facts["ok"] is None:
        asked = question.begun_with(question.left * 0.8)
        account = run_as.resolve(question.service.user or None, folder=question.service.app_dir)
        # Do not use TemporaryDirectory: in older Python versions, its cleanup follows links when it changes modes. The
        # service's user can create links in the folder.
        with contextlib.ExitStack() as stack:
            folder = tempfile.mkdtemp(prefix="itsm-nexus-")
            stack.callback(atomic_files.discard_tree, folder, rights=(account.pw_uid, account.pw_gid))
            os.chown(folder, account.pw_uid, account.pw_gid)
            question_of_npm = functools.partial(_npm_ls, asked, folder=folder)
            part = parallel.ask({"npm_ls": question_of_npm}, timeout=asked.budget)["npm_ls"]
        late = part.error is not None and parallel.TIMED_OUT in part.error
        reports["npm_ls"] = parallel.TIMED_OUT if late else part.report
        facts["npm_ls"] = part.value or {"ok": None, "problems": [], "error": reports["npm_ls"]}
        facts["ok"] = facts["npm_ls"]["ok"]
    text = "\n".join([*facts["reasons"], *((facts["npm_ls"] or {}).get("problems") or ()), facts["error"] or "", ""])
    kept = [file("dependencies.txt", "package-lock.json, node_modules, npm ls", text)]
    return found(facts, evidence=kept if question.keep and text.strip() else (), reports=reports)


@contextlib.contextmanager
def _listed(folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """Yield the entries of a folder. Links of the service's user are followed with this user's rights."""
    descriptor = safe_open.open_any(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def files(question: Question) -> Dict[str, Any]:
    """List the entries in the application, database and log folders (name, size, owner and time, but no content)."""
    service = question.service
    folders = [service.app_dir, os.path.dirname(question.known.database_path), os.path.dirname(service.log_file)]
    text = []
    for folder in dict.fromkeys(folders):
        text.append(f"{folder}:")
        with contextlib.suppress(OSError), _listed(folder) as entries:
            for entry in sorted(entries, key=lambda item: item.name)[:_MOST_ENTRIES]:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    owner = user_name(status.st_uid)
                    text.append(
                        f"{stat.filemode(status.st_mode)} {owner:>12} {status.st_size:>12} "
                        f"{timestamps.iso(status.st_mtime)} {entry.name}"
                    )
        text.append("")
    return found({}, evidence=[file("files.txt", ", ".join(dict.fromkeys(folders)), "\n".join(text))])
