# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the facts for the readiness report in one pass. Nothing on the host is changed.

Each part is a function that returns plain data. The parts run in separate processes (see parallel). If a part hangs or
crashes, only its own fact is missing, and the reason is reported. If a part reads files that the service's user owns,
it acts as this user.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import stat
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import drill, listing
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    parallel,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import (
    clock,
    confine,
    log_rotation,
    run_as,
    systemd,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as service_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, start_guard_report
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import backups, secrets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    log_files,
    npm_application,
    npm_build,
    npm_lock,
    preflight,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.preflight_findings import (
    Config,
    absolute,
    usable_command,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    collect_certificate,
    collect_host,
    collect_process,
    collect_service,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Known, Question, Service

Part = Callable[[], Any]

# Folder for the trial build. Unlike /tmp, this folder is never in memory.
_SCRATCH = "/var/tmp"  # noqa: S108 - used with mkdtemp
_PREFIX = "itsm-nexus-ready-"
_OLD = 86400.0  # a killed check's folder is removed after this many seconds
# Time limit in seconds for loading the packages in a trial build, in addition to the time limit of npm.
_LOADING = 90.0
# The check of the service's own database may take this fraction of the time limit for all databases.
_LIVE_SHARE = 0.4
# A database recovery leaves _MARGIN bytes free. The evidence of a database recovery needs _EVIDENCE bytes in addition
# to the copied database.
_MARGIN, _EVIDENCE = 8 << 20, 64 << 20
_LARGEST = 1 << 20
_MOST_LOGS = 1000
# Slow checks run with a low priority, because the service is in use.
_NICE = 10
_SYSTEMD_ONLY = ("unit", "guard")
_OF_SERVICE = (
    *("environment", "process", "log", "room", "secrets", "certificate"),
    *("database", "backups", "modules"),
)


class Settings(NamedTuple):
    """The unchecked settings of the service, and the time limits in seconds. See the preparedness_info module."""

    config: Config
    log_patterns: Sequence[str]
    required_environment: Sequence[str]
    tls_cert_path: str
    tls_key_path: str
    npm_cache: str
    backup_dirs: Sequence[str]
    backup_patterns: Sequence[str]
    timeout: float
    rebuild: bool
    rebuild_timeout: float
    database_timeout: float


class _Collection:
    """The facts so far. `parts` contains each part's duration in seconds, or the reason why its fact is missing."""

    def __init__(self) -> None:
        self.facts: Dict[str, Any] = {}
        self.parts: Dict[str, Any] = {}

    def ask(self, wanted: Mapping[str, Part], *, timeout: float) -> None:
        for name, answer in parallel.ask(wanted, timeout=timeout).items():
            if answer.error is None:
                self.facts[name], self.parts[name] = answer.value, round(answer.seconds, 3)
            elif answer.error == parallel.TIMED_OUT:
                self.parts[name] = message("ready.part.late", seconds=f"{timeout:g}").to_dict()
            else:
                # The text of an exception begins with the name of its class.
                why = answer.error.partition(": ")[2] or answer.error
                self.parts[name] = message("ready.part.failed", why=quoted(why)).to_dict()

    def skip(self, names: Sequence[str], reason: str) -> None:
        self.parts.update(dict.fromkeys(names, message(f"ready.part.{reason}").to_dict()))

    def of(self, name: str) -> Mapping[str, Any]:
        facts = self.facts.get(name)
        return facts if isinstance(facts, dict) else {}


def collect(settings: Settings, *, run: commands.Runner = commands.run) -> Dict[str, Any]:
    """Return the fact and the duration in seconds of each part. If a fact is missing, return the reason instead."""
    config, done = settings.config, _Collection()
    early: Dict[str, Part] = {
        "settings": functools.partial(_settings, config, run=run),
        "privileges": functools.partial(_privileges, config),
        "clock": _clock,
        "drill": functools.partial(_drill, config.state_dir),
        "incident": functools.partial(_incident, config),
    }
    question = _question(settings, user=config.user, run=run)
    if config.manager == "systemd":
        early["unit"] = functools.partial(_unit, question)
        early["guard"] = functools.partial(_guard, config)
    else:
        done.skip(_SYSTEMD_ONLY, "process")
    done.ask(early, timeout=settings.timeout)
    resolved = done.of("settings").get("resolved") or {}
    done.facts["versions"] = {"python": platform.python_version(), "node": (resolved.get("node") or {}).get("version")}
    wrong = {problem["variable"] for problem in done.of("settings").get("problems", [])}
    if not resolved or wrong & {"nexus_app_dir", "nexus_user", "nexus_command", "nexus_db_path"}:
        done.skip(_OF_SERVICE, "settings")
    else:
        _of_service(settings, done, question, database=str(resolved["database_path"]))
    if "clock" in done.facts:
        # The controller compares this time with its own clock.
        done.facts["clock"]["at"] = timestamps.now()
    return {"facts": done.facts, "parts": done.parts}


def _of_service(settings: Settings, done: _Collection, question: Question, *, database: str) -> None:
    """Collect the facts about the service's files."""
    unit = Known(unit=done.of("unit"), database_path=database)
    question = question._replace(known=unit)
    done.ask(
        {
            "environment": functools.partial(_of_triage, collect_service.environment, question),
            "process": functools.partial(_process, question),
            "log": functools.partial(_log, settings, question),
            "room": functools.partial(_room, question),
        },
        timeout=settings.timeout,
    )
    known = unit._replace(environment=done.of("environment"), processes=done.of("process").get("processes", []))
    question = question._replace(known=known)
    done.ask(
        {
            "certificate": functools.partial(_of_triage, collect_certificate.certificate, question),
            "secrets": functools.partial(_secrets, question),
        },
        timeout=settings.timeout,
    )
    slow: Dict[str, Part] = {"databases": functools.partial(_databases, settings, question)}
    with contextlib.ExitStack() as stack:
        if settings.rebuild:
            try:
                folder = stack.enter_context(_scratch())
            except OSError as error:
                why = quoted(f"{error.filename}: {error.strerror}")
                done.parts["modules"] = message("ready.part.failed", why=why).to_dict()
            else:
                slow["modules"] = functools.partial(_modules, settings, question, folder)
        else:
            done.skip(["modules"], "switched_off")
        done.ask(slow, timeout=max(settings.database_timeout + 10, settings.rebuild_timeout + _LOADING))
    both, took = done.facts.pop("databases", {}), done.parts.pop("databases")
    for name in ("database", "backups"):
        done.parts[name] = took
        if name in both:
            done.facts[name] = both[name]


def _question(settings: Settings, *, user: str, run: commands.Runner) -> Question:
    config = settings.config
    service = Service(
        app_dir=config.app_dir,
        command=config.command if usable_command(config.command) else [],
        manager=config.manager,
        unit=config.unit,
        user=user,
        db_path=config.db_path,
        db_path_variable=config.db_path_variable,
        log_file=config.log_file,
        environment_file=config.environment_file,
        pid_file=config.pid_file,
        tls_cert_path=settings.tls_cert_path,
        tls_key_path=settings.tls_key_path,
        https_port=0,
        http_port=0,
        required_environment=settings.required_environment,
        state_dir=config.state_dir,
        log_patterns=settings.log_patterns,
    )
    budget = settings.timeout * 0.9
    return Question(
        service=service, run=run, since=time.time(), budget=budget, log_lines=0, kernel_log_command=[], keep=False
    )


def _of_triage(part: Callable[[Question], Dict[str, Any]], question: Question) -> Any:
    """Return the facts from one part of triage, without its evidence and secrets."""
    return part(question.begun_with(question.budget))["facts"]


def _settings(config: Config, *, run: commands.Runner) -> Dict[str, Any]:
    checked = preflight.examine(config, run=run)
    return {name: checked[name] for name in ("problems", "mismatches", "silent", "resolved")}


def _privileges(config: Config) -> Dict[str, Any]:
    """Return the account that runs this module, and whether it may start and stop the service."""
    name = run_as.name_of(os.geteuid())
    return {"user": name, "enough": os.geteuid() == 0 or (config.manager == "process" and name == config.user)}


def _clock() -> Dict[str, Any]:
    return {"synchronized": clock.synchronized()}


def _json(path: str) -> Dict[str, Any]:
    """Return the content of a JSON file in the state folder. If the file is missing, the result is {"missing": True}.

    Raises OSError, or ValueError if the content is not a JSON object.
    """
    try:
        content = json.loads(atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {"missing": True}
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains no JSON object")
    return content


def _drill(state_dir: str) -> Dict[str, Any]:
    return _json(os.path.join(state_dir, drill.RESULT))


def _incident(config: Config) -> Dict[str, Any]:
    """Return the hold on the service and the ID of the open incident."""
    where = service_hold.place(manager=config.manager, unit=config.unit, state_dir=config.state_dir)
    record = incident_store.current(config.state_dir) or {}
    return {"hold": service_hold.read(where), "open": record.get("id")}


def _unit(question: Question) -> Dict[str, Any]:
    facts = _of_triage(collect_service.unit, question)
    more = systemd.unit_properties(question.service.unit, ["UnitFileState", "NeedDaemonReload"], run=question.command)
    seconds = {
        f"{name}_seconds": systemd.timespan(str(facts.get(name) or ""))
        for name in ("restart_delay", "start_limit_interval")
    }
    return {
        **facts,
        **seconds,
        "at_boot": more.get("UnitFileState") or None,
        "needs_reload": more.get("NeedDaemonReload") == "yes",
    }


def _guard(config: Config) -> Dict[str, Any]:
    """Return the installed parts of the start guard and the restart recorder."""
    return start_guard_report.parts(config.unit)._asdict()


def _process(question: Question) -> Dict[str, Any]:
    """Return the resources that the service's processes use. Omit command lines, because they may contain secrets."""
    names = ("rss", "open_files", "open_files_max")
    facts = _of_triage(collect_process.process, question)
    return {**facts, "processes": [{name: each[name] for name in names} for each in facts["processes"]]}


def _log(settings: Settings, question: Question) -> Dict[str, Any]:
    """Return the size of the log files, and the logrotate configuration that rotates the log file."""
    service = question.service
    patterns = log_files.absolute(settings.log_patterns, folder=service.app_dir)
    theirs = safe_open.account_rights(service.user)
    found = log_files.find(service.log_file, patterns, user=service.user)[:_MOST_LOGS]
    sizes: Dict[str, int] = {}
    for each in found:
        with contextlib.suppress(OSError), safe_open.acting(theirs):
            sizes[each.path] = os.stat(each.path).st_size
    own = [each for each in found if each.path == service.log_file]
    siblings = [each for each in found if own and each.series == own[0].series and each.path != service.log_file]
    known = log_rotation.patterns()
    return {
        "path": service.log_file,
        "exists": service.log_file in sizes,
        "size": sizes.get(service.log_file, 0),
        "rotated_by": log_rotation.rotated_by(service.log_file, known),
        # A rotated file proves that another program rotates the log.
        "rotated_files": len(siblings),
        "scheduled": log_rotation.starts_daily(),
        "files": len(sizes),
        "bytes": sum(sizes.values()),
    }


def _room(question: Question) -> List[Dict[str, Any]]:
    """Return the file systems to which a recovery writes, and the number of bytes needed on each."""
    service, database = question.service, question.known.database_path
    with safe_open.acting(safe_open.account_rights(service.user)):
        sizes = [os.stat(path).st_size for path in (database, f"{database}-wal") if os.path.exists(path)]
    needs = [
        ("database", os.path.dirname(database), 2 * sum(sizes) + _MARGIN, 0),
        ("state", service.state_dir, sum(sizes) + _EVIDENCE, 0),
    ]
    with contextlib.suppress(npm_lock.NpmError):  # the part `modules` reports this error
        application = npm_application.Application(app_dir=service.app_dir, user=service.user or None)
        with safe_open.acting(application.rights):
            needs.append(("modules", service.app_dir, *npm_build.room_for(application)))
    found: Dict[str, Dict[str, Any]] = {}
    for use, path, size, inodes in needs:
        disk = collect_host.disk(question, path=path, use=use)["facts"]
        entry = found.setdefault(disk["mount"], {**disk, "uses": [], "needed": 0, "inodes_needed": 0})
        entry["uses"].append(use)
        entry["needed"] += size
        entry["inodes_needed"] += inodes
    return list(found.values())


def _secrets(question: Question) -> Dict[str, Any]:
    return secrets.examine(question)


def _databases(settings: Settings, question: Question) -> Dict[str, Any]:
    """Check the service's database and its backups, one after the other."""
    os.nice(_NICE)
    path, user = question.known.database_path, question.service.user or None
    deadline = time.monotonic() + settings.database_timeout
    budget = settings.database_timeout * _LIVE_SHARE
    check = sqlite_check.check(path=path, checks=["quick"], owner=user, time_budget=budget)
    problems = [each for each in check["problems"] if each["level"] == "error"]
    state_dir = question.service.state_dir
    last = last_good.last_good_rows(state_dir, path=path)
    found = backups.survey(
        backups.live(check, path=path, user=user, timeout=budget, last=last),
        dirs=settings.backup_dirs,
        patterns=settings.backup_patterns,
        user=user,
        budget=budget,
        deadline=deadline,
        recorded=listing.recorded(state_dir),
        configured=absolute(settings.config.db_path, app_dir=question.service.app_dir),
    )
    return {
        "database": {
            "path": check["database"]["path"],
            "healthy": check["healthy"],
            "conclusive": check["conclusive"],
            "problems": [{name: each.get(name) for name in ("code", "message", "messages")} for each in problems],
            "rows": sum(check["row_counts"].values()),
        },
        "backups": found,
    }


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """Create an empty folder that every account can enter. The folder is removed after use. Raises OSError."""
    place = _SCRATCH if os.access(_SCRATCH, os.W_OK) else tempfile.gettempdir()
    _remove_leftovers(place)
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    try:
        os.chmod(folder, 0o711)  # noqa: S103 - the service's user needs its own folder there
        yield os.path.realpath(folder)
    finally:
        atomic_files.discard_tree(folder)


def _remove_leftovers(place: str) -> None:
    """Remove folders that killed checks left behind. Only folders of this account are removed."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if entry.name.startswith(_PREFIX) and ours and status.st_mtime < time.time() - _OLD:
                atomic_files.discard_tree(entry.path)


def _modules(settings: Settings, question: Question, folder: str) -> Dict[str, Any]:
    """Try to build the modules offline, in a separate folder, and load them."""
    os.nice(_NICE)
    begun = time.monotonic()
    confined = confine.confine(folder)
    result: Dict[str, Any] = {"ok": True, "why": None}
    try:
        application = npm_application.Application(app_dir=question.service.app_dir, user=question.service.user or None)
        work = os.path.join(folder, "work")
        os.mkdir(work, 0o700)
        if os.geteuid() == 0:
            os.chown(work, application.account.pw_uid, application.account.pw_gid)
        with safe_open.acting(application.rights):
            npm_build.try_build(
                application,
                work,
                cache=settings.npm_cache or None,
                timeout=settings.rebuild_timeout,
                confined=confined,
            )
        result["packages"] = len(application.wanted)
    except npm_lock.NpmError as error:
        result.update(ok=False, why=error.told.to_dict())
    result["seconds"] = round(time.monotonic() - begun, 1)
    return result
