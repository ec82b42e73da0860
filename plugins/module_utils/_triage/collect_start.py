# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the conditions for the next start: can systemd run the unit, and can the service use its database?

Each fact describes the current state of the host, whereas an exit code describes only the last start.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import path_status, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_application, messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    Service,
    found,
    rights_of,
    rights_on,
    user_name,
)

# The kernel can run ELF files, and scripts that specify their interpreter.
_ELF, _SCRIPT = b"\x7fELF", b"#!"
_HEAD = 256
# Suffixes of the database and of the files that SQLite creates next to it.
_FAMILY = ("", "-wal", "-shm")
_MOST_OTHERS = 20
# The facts that explain why systemd cannot run the unit.
_FAULTS = ("program_fault", "folder_fault", "user_fault", "group_fault")


def _account(user: str) -> Optional[pwd.struct_passwd]:
    with contextlib.suppress(KeyError, ValueError):
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    return None


@contextlib.contextmanager
def _rights(account: Optional[pwd.struct_passwd]) -> Iterator[bool]:
    """If possible, run the block as the account and yield True. Otherwise, yield False."""
    if account is None or os.geteuid() not in (0, account.pw_uid):
        yield False
        return
    with run_as.acting_as(account):
        yield True


def _rights_of(account: Optional[pwd.struct_passwd]) -> safe_open.Rights:
    return None if account is None or account.pw_uid == 0 else (account.pw_uid, account.pw_gid)


def _may(path: str, mode: int, *, account: Optional[pwd.struct_passwd]) -> Optional[bool]:
    """Return True if the service's user has access to a path, False if not, or None if unknown.

    Access control lists are considered.
    """
    with _rights(account) as acting:
        return os.access(path, mode, effective_ids=True) if acting else None


def _program_fault(path: str, *, account: Optional[pwd.struct_passwd]) -> Optional[Message]:
    """Return the reason why the kernel cannot run a program, or None if no reason is found."""
    denied = _may(path, os.X_OK, account=account) is False
    not_executable = message("reason.start.not_executable", path=path)
    try:
        descriptor = path_status.open_path(path, user=_rights_of(account))
    except (FileNotFoundError, NotADirectoryError):
        return message("reason.start.missing", path=path)
    except OSError:
        return not_executable if denied else None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return message("reason.start.not_a_file", path=path)
        if os.fstatvfs(descriptor).f_flag & os.ST_NOEXEC:
            return message("reason.start.noexec", path=path)
    finally:
        os.close(descriptor)
    return not_executable if denied else _format_fault(path, account=account)


def _format_fault(path: str, *, account: Optional[pwd.struct_passwd]) -> Optional[Message]:
    """Return the reason why the kernel cannot run a file in this format.

    The result is None if the kernel can run the file, or if this is unknown.
    """
    head = _ELF
    with contextlib.suppress(OSError), os.fdopen(safe_open.open_file(path), "rb") as stream:
        head = stream.read(_HEAD)
    if head.startswith(_SCRIPT):
        words = head[len(_SCRIPT) :].split(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else ""
        with _rights(account) as acting:
            # The service's user may have written the file, so root must not check the path for this user.
            missing = (acting or os.geteuid() != 0) and not os.path.exists(interpreter)
        return message("reason.start.no_interpreter", path=path, interpreter=repr(interpreter)) if missing else None
    return None if head.startswith(_ELF) else message("reason.start.no_program", path=path)


def _folder_fault(path: str, *, account: Optional[pwd.struct_passwd]) -> Optional[Message]:
    denied = message("reason.start.not_entered", path=path) if _may(path, os.X_OK, account=account) is False else None
    try:
        is_folder = stat.S_ISDIR(path_status.status(path, user=_rights_of(account)).st_mode)
    except PermissionError:
        return denied
    except OSError:
        is_folder = False
    return denied if is_folder else message("reason.start.not_a_folder", path=path)


def start(question: Question) -> Dict[str, Any]:
    """Check the environment files of the service, and the paths and accounts that its program needs to start."""
    service, unit = question.service, question.known.unit
    facts: Dict[str, Any] = dict.fromkeys(("program", "folder", *_FAULTS))
    faults: Dict[str, Optional[Message]] = dict.fromkeys(_FAULTS)
    if service.manager == "systemd":
        needed = list(unit.get("environment_files") or ())
    else:
        needed = [service.path(service.environment_file)] if service.environment_file else []
    facts["environment_files"] = [{"path": path, "exists": _exists(path, user=rights_of(service))} for path in needed]
    used = [*needed, unit.get("file"), unit.get("program"), *(unit.get("drop_ins") or ())]
    # The folders of the drop-ins are included, because removing a drop-in changes the modification time of its folder.
    facts["changed_at"] = _changed_at([*used, *map(os.path.dirname, unit.get("drop_ins") or ())], service=service)
    # If the unit has its own root folder or a dynamic user, the host's paths and accounts do not apply to the unit.
    if service.manager != "systemd" or unit.get("load_state") != "loaded" or unit.get("confined"):
        return found(facts)
    user, group = str(unit.get("user") or "root"), str(unit.get("group") or "")
    account = _account(user)
    if account is None and not user.isdecimal():
        faults["user_fault"] = message("reason.start.no_user", user=user)
    if group and not _is_group(group):
        faults["group_fault"] = message("reason.start.no_group", group=group)
    judged = _judged(account, unit)
    facts["program"], facts["folder"] = unit.get("program"), unit.get("needed_folder")
    if str(facts["program"]).startswith("/"):
        faults["program_fault"] = _program_fault(facts["program"], account=judged)
    if facts["folder"]:
        faults["folder_fault"] = _folder_fault(facts["folder"], account=judged)
    facts.update({name: messages.english(fault) if fault else None for name, fault in faults.items()})
    facts["messages"] = {name: fault.to_dict() for name, fault in faults.items() if fault}
    return found(facts)


def _judged(account: Optional[pwd.struct_passwd], unit: Mapping[str, Any]) -> Optional[pwd.struct_passwd]:
    """Return the account, or None if its permissions cannot be determined.

    If the unit adds groups, the result is None, because these groups may grant permissions that the account lacks.
    """
    group = str(unit.get("group") or "")
    if account is None or unit.get("more_groups"):
        return None
    names = [group] if group else []
    with contextlib.suppress(KeyError, ValueError):
        names = [] if not group or grp.getgrnam(group).gr_gid == account.pw_gid else names
    return None if names else account


def _is_group(name: str) -> bool:
    if name.isdecimal():
        return True
    try:
        return bool(grp.getgrnam(name))
    except KeyError:
        return False


def _changed_at(paths: Iterable[Optional[str]], *, service: Service) -> Optional[str]:
    """Return the time of the latest change to the paths, or None.

    If a path is a link, consider both the link and its target.
    """
    times: List[float] = []
    for path in paths:
        with contextlib.suppress(OSError), safe_open.acting(rights_on(service, path or "")):
            times += [os.lstat(path or "").st_ctime, os.stat(path or "").st_ctime]
    return timestamps.iso(max(times)) if times else None


def _exists(path: str, *, user: safe_open.Rights) -> Optional[bool]:
    """Return True if a file exists, False if it does not exist, or None if this cannot be checked."""
    try:
        path_status.status(path, user=user)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def modules(question: Question) -> Dict[str, Any]:
    """Compare node_modules with the lock file, without running Node.

    If the comparison fails, `complete` is None. An application without package.json needs no modules, so its modules
    are complete.
    """
    app_dir = question.service.app_dir
    if not path_status.mode_of(question.service.path("package.json"), user=rights_of(question.service)):
        return found({"complete": True})
    with collect_application.as_service(question):
        try:
            wanted = npm_lock.installable(npm_lock.read_packages(npm_lock.lock_file(app_dir)), omit_dev=True)
        except npm_lock.NpmError:
            return found({"complete": None})
        differences = npm_lock.differences(app_dir, wanted=wanted, platform="linux", arch=npm_lock.architecture())
    # If npm's node_modules/.package-lock.json is missing, nothing was compared.
    told = [each for each in differences if not each.path.endswith("/.package-lock.json")]
    return found({"complete": False if told else None if differences else True})


def ownership(question: Question) -> Dict[str, Any]:
    """Check whether the service's user can write to the database files and their folder. List other users' files."""
    account = _account(str(question.known.unit.get("user") or question.service.user))
    theirs = _rights_of(account)
    path, rights = path_status.resolve(question.known.database_path, user=theirs)
    folder = os.path.dirname(path)
    facts: Dict[str, Any] = {
        "user": account.pw_name if account else None,
        "database": path,
        "folder": folder,
        "denied": [],
        "foreign": [],
        "others": [],
        "read_only": None,
    }
    with _rights(_judged(account, question.known.unit)) as possible:
        pass
    if account is None or not possible:
        return found(facts)
    with safe_open.acting(rights):
        if not stat.S_ISDIR(path_status.mode_of(folder, user=theirs)):
            return found(facts)
        facts["read_only"] = _is_read_only(folder, user=theirs)
    for name in ("", *(path + suffix for suffix in _FAMILY)):
        with safe_open.acting(rights):
            entry = _entry(name or folder, account=account, folder=not name)
        if entry is not None and entry["denied"]:
            facts["denied"].append({key: entry[key] for key in ("path", "owner", "group", "mode")})
        if name and entry is not None and entry["uid"] != account.pw_uid:
            facts["foreign"].append(name)
    # List the folder with the user's permissions. The path may contain a link to a folder that this user must not see.
    with safe_open.acting(safe_open.account_rights(account.pw_name)):
        facts["others"] = _others(folder, family=[path + suffix for suffix in _FAMILY], uid=account.pw_uid)
    return found(facts)


def _is_read_only(folder: str, *, user: safe_open.Rights) -> Optional[bool]:
    with contextlib.suppress(OSError):
        descriptor = path_status.open_path(folder, user=user)
        try:
            return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
        finally:
            os.close(descriptor)
    return None


def _entry(path: str, *, account: pwd.struct_passwd, folder: bool) -> Optional[Dict[str, Any]]:
    try:
        status = path_status.status(path, user=_rights_of(account))
    except OSError:
        return None
    wanted = os.R_OK | os.W_OK | (os.X_OK if folder else 0)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return {
        "path": path,
        "owner": user_name(status.st_uid),
        "group": group,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "uid": status.st_uid,
        "denied": _may(path, wanted, account=account) is False,
    }


def _others(folder: str, *, family: List[str], uid: int) -> List[str]:
    """Return the folder and the entries in it that the service's user does not own. Omit `family`."""
    try:
        others = [folder] if os.stat(folder).st_uid != uid else []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.path not in family and entry.stat(follow_symlinks=False).st_uid != uid:
                    others.append(entry.path)
    except OSError:
        return [folder]  # the entries cannot be listed, so their owners are unknown
    return sorted(others)[:_MOST_OTHERS]
