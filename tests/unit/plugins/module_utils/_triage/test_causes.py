# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage finds each cause that is present, and lists it before its consequences.

No cause is found on a healthy host.
"""

from __future__ import annotations

import ast
import functools
import json
import pathlib
import re

import pytest
import yaml
from rounds import step

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, plain, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages as service_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import database as database_causes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import table
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.modules import sqlite_info, triage_info

# Modules outside _triage and _sqlite that collect facts, for example from logs, knex and npm.
GATHERING = (
    *(
        "_common/message",
        "_service/log_patterns",
        "_service/knex",
        "_service/knex_tables",
        "_service/migration_names",
        "_service/npm_lock",
        "_service/npm_load",
        "_service/http_probe",
        "_service/health",
        "_service/preflight",
        "_service/preflight_findings",
        "_service/preflight_service",
        "_service/preflight_settings",
    ),
    "_host/x509",
)

NODE = {
    "pid": 100,
    "start_ticks": 5000,
    "command": "node backend/server.js",
    "exe": "/usr/bin/node",
    "user": "itsm",
    "ours": True,
}
STRANGER = {
    "pid": 666,
    "start_ticks": 7000,
    "command": "nginx -g daemon off;",
    "exe": "/usr/sbin/nginx",
    "user": "www-data",
    "ours": False,
}

HEALTHY = {
    "service": {
        "app_dir": "/srv/itsm",
        "app_dir_exists": True,
        "manager": "systemd",
        "unit": "itsm-system",
        "pid_file_exists": None,
        "https_port": 6443,
        "http_port": 8080,
        "health_path": "/api/v1/health",
    },
    "window": {"since": "2026-03-02T00:52:03.000Z", "until": "2026-03-02T01:02:03.000Z"},
    "unit": {
        "name": "itsm-system",
        "load_state": "loaded",
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "exit_code": None,
        "exit_status": 0,
        "main_pid": 100,
        "last_pid": 100,
        "restarts": 0,
        "memory_max": None,
        "started_at": "2026-02-01T00:00:00.000Z",
    },
    "process": {
        "state": "running",
        "processes": [
            {
                "pid": 100,
                "state": "S",
                "started_at": "2026-02-01T00:00:00.000Z",
                "wait_channel": "ep_poll",
                "rss": 2 * 10**8,
            }
        ],
    },
    "ports": [
        {"port": 6443, "address": "::", "owners": [NODE]},
        {"port": 8080, "address": "::", "owners": [NODE]},
    ],
    "answer": {
        "https": {"port": 6443, "listening": True, "answered": True, "error": None, "certificate": {"expired": False}},
        "http": {"port": 8080, "listening": True, "answered": True, "error": None, "certificate": None},
    },
    "health": [
        {"name": name, "url": f"{name}://localhost:{port}/api/v1/health", "ok": True, "status": 200, "error": None}
        for name, port in (("https", 6443), ("http", 8080))
    ],
    "disk": [
        {
            "use": "database",
            "mount": "/srv",
            "size": 10**11,
            "available": 10**10,
            "inodes": 10**6,
            "inodes_available": 10**5,
        },
        # A small file system that is not full.
        {"use": "log", "mount": "/var/log", "size": 2**26, "available": 2**22, "inodes": 1000, "inodes_available": 100},
        # A file system that reports no inode counts (btrfs), and an unreachable file system.
        {"use": "state", "mount": "/", "size": 10**11, "available": 10**10, "inodes": 0, "inodes_available": 0},
        {"use": "application", "error": "timed out"},
    ],
    "memory": {"total": 10**10, "available": 8 * 10**9, "pressure": None, "control_group": {"peak": 3 * 10**8}},
    "kernel": {"source": "journalctl -k", "out_of_memory": []},
    "log": {"path": "/var/log/itsm/server.log", "exceptions": [], "signatures": {}},
    "journal": {
        "lines": ["2026-03-02T01:00:00.000Z node: served"],
        "exits": [],
        "stops": [],
        "start_limit": [],
        "exceptions": [],
        "signatures": {},
    },
    "certificate": {
        "path": "/srv/itsm/server.crt",
        "exists": True,
        "readable_by_service": True,
        "error": None,
        "subject": "CN=itsm",
        "not_before": "2026-01-01T00:00:00.000Z",
        "not_after": "2026-12-31T00:00:00.000Z",
        "expired": False,
        "not_yet_valid": False,
        "key": {"path": "/srv/itsm/server.key", "exists": True, "readable": True, "matches": True, "error": None},
    },
    "database": {
        "path": "/srv/itsm/backend/itsm.db",
        "configured": "/srv/itsm/backend/itsm.db",
        "source": "db_path",
        "problems": [],
        "holders": [{"pid": 100, "command": "node", "role": "writer", "ours": True}],
        "wal": {"pages_pending": 50, "frames_committed": 60},
        "data_loss_suspected": False,
        "conclusive": True,
    },
    "node": {
        "path": "/usr/bin/node",
        "script": "/srv/itsm/backend/server.js",
        "script_exists": True,
        "modules_exist": True,
        "dependencies": 5,
        "engines": ">=20",
        "engines_ok": True,
    },
    "dependencies": {"ok": True, "missing": [], "unloadable": [], "invalid": [], "reasons": []},
    "migrations": {"pending": [], "lock_held": False, "lock_stale": False, "migrators": []},
    "environment": {"names": ["JWT_SECRET"], "required_missing": [], "problems": []},
    "start": {
        "environment_files": [{"path": "/etc/itsm/itsm.env", "exists": True}],
        "program": "/usr/bin/node",
        "program_fault": None,
        "changed_at": "2026-01-01T00:00:00.000Z",
        "folder": "/srv/itsm",
        "folder_fault": None,
        "user_fault": None,
        "group_fault": None,
    },
    "ownership": {
        "user": "itsm",
        "database": "/srv/itsm/backend/itsm.db",
        "folder": "/srv/itsm/backend",
        "denied": [],
        "foreign": [],
        "others": [],
        "read_only": False,
    },
    "settings": [],
    "paths": [
        {"what": what, "configured": "x", "effective": "x", "source": "systemd", "same": same}
        for what, same in (("database", True), ("log", None), ("working directory", True))
    ],
}


def changed(facts, changes):
    """Return a copy of `facts` with `changes` merged at every level.

    Lists and timed-out parts are replaced, not merged.
    """
    result = dict(facts)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict) and value != {"error": "timed out"}
        result[name] = changed(result[name], value) if both else value
    return result


GONE = {
    "process": {"state": "gone", "processes": []},
    "ports": [],
    "answer": {"https": {"listening": False, "answered": None}, "http": {"listening": False, "answered": None}},
    "database": {"holders": [], "wal": {"pages_pending": 0}},
    "unit": {
        "active_state": "failed",
        "sub_state": "failed",
        "main_pid": 0,
        "result": "exit-code",
        "exit_code": "exited",
    },
}
ELSEWHERE = {
    "ports": [
        {"port": 26443, "address": "::", "owners": [{"pid": 100, "command": "node", "user": "itsm", "ours": True}]}
    ],
    "answer": {"https": {"listening": False, "answered": None}, "http": {"listening": False, "answered": None}},
}
# HTTP responds on its configured port, but HTTPS does not. Another port of the service (26443) uses TLS.
HTTPS_ELSEWHERE = {
    "ports": [{"port": port, "address": "::", "owners": [NODE]} for port in (8080, 9229, 26443)],
    "answer": {"https": {"listening": False, "answered": None}, "tls_elsewhere": [26443]},
}


def refused(status, path="/health"):
    """Return the facts about a service whose health check at `path` returns the status code `status`."""
    said = {"ok": False, "status": status, "error": f"answered {status} instead of 200"}
    return {
        "service": {"health_path": path},
        "health": [{**item, **said, "url": f"{item['name']}://localhost{path}"} for item in HEALTHY["health"]],
    }


def shown(body):
    """Return the facts about a service whose health check returns status 200 and this body, in bytes."""
    facts = refused(200)
    return {
        **facts,
        "health": [
            {**item, "messages": service_messages.plain(error=http_probe._judge_body(body, ["ok"]))}
            for item in facts["health"]
        ],
    }


PROCESS_OPEN = {"pid": 100, "state": "S", "started_at": "2026-02-01T00:00:00.000Z", "open_files_max": 1024}
SILENT = {
    "answer": {"https": {"answered": False, "error": "timed out"}, "http": {"answered": False, "error": "timed out"}}
}
PROCESS = {"service": {"manager": "process", "pid_file_exists": True}, "unit": None, "journal": None}


def signature(name, text):
    return {"log": {"signatures": {name: {"count": 1, "text": text, "at": None}}}}


def exception(**values):
    item = {
        "message": "Error: boom",
        "stack": ["at main (server.js:1)"],
        "fatal": True,
        "last": True,
        "at": None,
        **values,
    }
    return {"log": {"exceptions": [item]}}


def syntax_error(**values):
    return exception(
        **{
            "message": "SyntaxError: Unexpected token ';'",
            "stack": ["at wrapSafe (node:internal/modules/cjs/loader:1464:18)"],
            "place": {"file": "/srv/itsm/backend/routes.js", "line": 17},
            "compiling": True,
            "times": 1,
            "changed_at": "2026-03-01T00:00:00.000Z",
            "parses": False,
            **values,
        }
    )


def failed_starts(*ends, seconds=2, text="Main process exited, code=exited, status=1/FAILURE"):
    """Return the facts about failed starts, one start per minute.

    The service was started once for each element of `ends`, or twice if `ends` is empty.

    seconds: the time from each start to the exit.
    """
    at = [f"2026-03-02T00:{55 + number:02d}:{{}}.000Z" for number in range(len(ends) or 2)]
    return {
        "journal": {
            "starts": [{"at": each.format("00"), "text": "Started itsm-system.service"} for each in at],
            "exits": [{"at": each.format(f"{seconds:02d}"), "text": text} for each in at],
        }
    }


def exits(count, **changes):
    ended = {"at": "2026-03-02T01:00:00.000Z", "text": "Main process exited", **changes}
    return {"journal": {"exits": [ended] * count}}


def problem(code, level="error", lost=False):
    return {
        "database": {
            "problems": [{"code": code, "message": f"It is {code}.", "level": level}],
            "data_loss_suspected": lost,
        }
    }


def away(code):
    """Return the facts about a database that was not found because its folder or file system is missing."""
    told = {"id": f"reason.sqlite.{code}", "values": {"path": "/srv/itsm.db", "mount": "/srv"}}
    facts = problem(code)
    facts["database"]["problems"][0]["messages"] = {"message": told}
    return changed(facts, {"database": {"conclusive": False}})


def log(*lines, written_at="2026-03-02T01:00:00.000Z"):
    return {"log": {"lines": lines, "written_at": written_at}}


def holders(*found):
    return {"database": {"holders": list(found)}}


NOW = "2026-03-02T01:00:00.000Z"
BLIND = {"journal": {"lines": []}}
NO_ENVIRONMENT = {"start": {"environment_files": [{"path": "/etc/itsm/itsm.env", "exists": False}]}}
MASKED = {"unit": {"load_state": "masked"}}
NO_PROGRAM = {"start": {"program": "/usr/bin/nodex", "program_fault": "/usr/bin/nodex does not exist"}}
EXIT_203 = {"unit": {"exit_status": 203, "exited_at": "2026-03-02T01:00:00.000Z"}}
OWNED_BY_ROOT = {
    "ownership": {
        "denied": [{"path": "/srv/itsm/backend/itsm.db", "owner": "root", "group": "root", "mode": "0644"}],
        "foreign": ["/srv/itsm/backend/itsm.db"],
    }
}
UNASKED = {"dependencies": {"error": "timed out"}}
EXIT_1 = {"unit": {"exit_status": 1}}
BY_KILL = {"unit": {"result": "signal", "exit_code": "killed", "exit_status": 9, "exited_at": NOW}}
IN_ORDER = {"unit": {"active_state": "inactive", "result": "success", "exit_status": 0}}
BY_TERM = {"unit": {"exit_code": "killed", "exit_status": 15}}
STOPPING = {
    "journal": {"stops": [{"at": "2026-03-02T00:59:59.000Z", "text": "Stopping itsm-system.service - ITSM..."}]}
}
NO_PID_FILE = {"service": {"pid_file_exists": False}}
ROOM = HEALTHY["disk"][0]
DATABASE_FULL = {"disk": [{**ROOM, "use": "database", "mount": "/srv", "size": 2**26, "available": 4096}]}
FULL_TMP = {"disk": [{**ROOM, "use": "temporary files", "mount": "/tmp", "available": 0}]}
MISSING_SECRET = {"environment": {"required_missing": ["JWT_SECRET", "MAIL_PASSWORD"]}}
MISSING_EXPRESS = signature("module_missing", "Error: Cannot find module 'express'")
NATIVE = signature(
    "module_missing",
    "Error: The module '/srv/itsm/node_modules/better-sqlite3/build/Release/better_sqlite3.node' was compiled against "
    "a different Node.js version using NODE_MODULE_VERSION 108.",
)
OLD_NODE = {"node": {"version": "v18.1.0", "engines_ok": False}}
LOCKED = signature("migration_locked", "MigrationLocked: Migration table is already locked")
NO_TABLE = signature("migration_missing", "SQLITE_ERROR: no such table: changes")
HELD = {"migrations": {"lock_held": True, "lock_stale": True}}
PENDING = {"migrations": {"pending": ["20260302_changes.js"]}}
OTHER_DATABASE = {
    "paths": [
        {
            "what": "database",
            "configured": "/srv/itsm/backend/itsm.db",
            "effective": "/srv/other.db",
            "source": "DATABASE_PATH",
            "same": False,
        }
    ]
}
UNHEARD = {"ports": [], "answer": {"https": {"listening": False}, "http": {"listening": False}}}
FALLEN_BACK = {"answer": {"https": {"listening": False, "answered": None}}}
EXPIRED = {
    "expired": True,
    "subject": "CN=itsm",
    "not_before": "2025-03-01T00:00:00.000Z",
    "not_after": "2026-03-01T00:00:00.000Z",
}
WRONG_KEY = {"key": {"matches": False}}
WRITER = {"pid": 7, "start_ticks": 70, "command": "sqlite3", "user": "root", "role": "writer", "ours": False}
STALE_WRITER = {
    "process": {
        "processes": [{"pid": pid, "state": "S", "started_at": "2026-02-01T00:00:00.000Z"} for pid in (90, 100)]
    },
    "database": {"holders": [{**NODE, "pid": 90, "role": "writer"}]},
}
FULL = {"disk": [{"use": "log", "mount": "/var", "size": 10**9, "available": 0, "inodes": 100, "inodes_available": 50}]}
NO_INODES = {
    "disk": [{"use": "log", "mount": "/var", "size": 10**9, "available": 10**8, "inodes": 10**6, "inodes_available": 0}]
}
OOM_LINE = {"at": None, "text": "Out of memory: Killed process 100 (node)", "pid": 100, "name": "node"}
MEMCG_LINE = {
    "at": None,
    "text": "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice,"
    "task_memcg=/system.slice/itsm-system.service,task=MainThread,pid=41,uid=998",
    "pid": None,
    "name": None,
}
LIMIT_LINE = {
    "at": None,
    "text": "Memory cgroup out of memory: Killed process 41 (MainThread) total-vm:9kB, anon-rss:262144kB, file-rss:0kB",
    "pid": 41,
    "name": "MainThread",
}
OTHER_OOM = {"at": None, "text": "Out of memory: Killed process 7 (java)", "pid": 7, "name": "java"}


def reported(cause, told):
    """Return the facts about a service that answers, although the health probe reported a problem with it."""
    text, told_plain = messages.english(told), plain(summary=told)
    return {"readiness": [{"cause": cause, "summary": text, "source": "the probe", "messages": told_plain}]}


CASES = [
    (
        "disk_filling",
        [reported("disk_filling", message("finding.disk_filling.space", mount="/srv", percent="96", minutes=120))],
        "96 % full",
    ),
    (
        "tls_expiring",
        [reported("tls_expiring", message("finding.tls_expiring", at="2026-03-09", days="6.5"))],
        "6.5 days",
    ),
    ("wal_growing", [reported("wal_growing", message("finding.wal_growing", path="/db", mib=80))], "80 MiB"),
    ("memory_pressure", [reported("memory_pressure", message("finding.memory_pressure", percent="40"))], "40 %"),
    ("frequent_restarts", [reported("frequent_restarts", message("finding.frequent_restarts", times=4))], "4 times"),
    ("clock_jump", [reported("clock_jump", message("finding.clock_jump", seconds="-3600"))], "-3600 s"),
    ("login_refused", [reported("login_refused", message("finding.login_refused", why=quoted("answered 401")))], "401"),
    ("slow", [reported("slow", message("finding.slow.slow", seconds="4.0"))], "4.0 s"),
    ("not_ready", [reported("not_ready", message("finding.not_ready.checks", path="/ready", checks=["disk"]))], "disk"),
    (
        "start_held",
        [
            GONE,
            {
                "hold": {
                    "held": {"incident": "INC-20260302T010203Z-1f3a", "cause": "db_corrupt"},
                    "kept_by": "rows are missing: users 0 of 4",
                }
            },
        ],
        "rows are missing",
    ),
    ("killed", [GONE, {"unit": {"result": "signal", "exit_code": "killed", "exit_status": 9}}], "signal KILL"),
    ("killed", [GONE, {"unit": {"result": "watchdog", "exit_code": "killed", "exit_status": 6}}], "signal ABRT"),
    # systemd received no stop request, so a person or another program sent the SIGTERM.
    ("killed", [GONE, IN_ORDER, BY_TERM, exits(1)], "signal TERM"),
    ("killed", [GONE, PROCESS], "without an error: it was probably killed"),
    # An old error in the log is not the reason for this exit.
    (
        "killed",
        [GONE, PROCESS, log("ERROR out of luck", written_at="2026-02-01T00:00:00.000Z")],
        "ends without an error",
    ),
    ("killed", [GONE, PROCESS, NO_PID_FILE, log("INFO GET / 200")], "killed, or stopped manually"),
    ("stopped", [GONE, IN_ORDER], "nobody stopped it"),
    ("stopped", [GONE, IN_ORDER, BLIND], "does not show"),
    ("stopped", [GONE, IN_ORDER, {"unit": {"started_at": None}}], "since the host booted"),
    # A stop request before the last start was the reason for an earlier exit.
    (
        "stopped",
        [GONE, IN_ORDER, STOPPING, {"unit": {"started_at": "2026-03-02T01:01:00.000Z"}}],
        "nobody stopped it",
    ),
    ("stopped", [GONE, IN_ORDER, BY_TERM, STOPPING, exits(1)], "stopped on request"),
    ("stopped", [GONE, {"unit": {"result": "timeout", "exit_code": "killed", "exit_status": 9}}, STOPPING], "in time"),
    ("stopped", [GONE, PROCESS, NO_PID_FILE], "no pid file"),
    (
        "hung",
        [{"process": {"processes": [{"pid": 100, "state": "T", "started_at": "2026-02-01T00:00:00.000Z"}]}}, SILENT],
        "SIGSTOP",
    ),
    ("hung", [SILENT], "does not answer"),
    ("unhandled_exception", [GONE, exception(), {"unit": {"exit_status": 1}}], "Error: boom"),
    ("unhandled_exception", [GONE, exception(fatal=False), {"unit": {"exit_status": 1}}], "Error: boom"),
    ("unhandled_exception", [GONE, PROCESS, exception()], "Error: boom"),
    # A process can exit after an error that is not an exception.
    (
        "unhandled_exception",
        [GONE, PROCESS, log("ERROR Cannot serve HTTPS on port 6443: EACCES")],
        "Cannot serve HTTPS",
    ),
    ("unhandled_exception", [GONE, PROCESS, NO_PID_FILE, log('{"level":60,"msg":"bye"}')], "bye"),
    ("unhandled_exception", [GONE, EXIT_1, log("2026-03-02T01:00:00.000Z FATAL no licence")], "no licence"),
    (
        "unhandled_exception",
        [GONE, EXIT_1, {"journal": {"lines": [f"{NOW} node: fatal: no licence", f"{NOW} systemd: Failed."]}}],
        "no licence",
    ),
    (
        "unhandled_exception",
        [
            GONE,
            PROCESS,
            log("ERROR NoLicence: none left", "    at check (licence.js:1:2)", "    at async main (a.js:1:2)"),
        ],
        "none left",
    ),
    # A variable is missing, but the exception is not about it.
    ("unhandled_exception", [GONE, EXIT_1, MISSING_SECRET, exception()], "Error: boom"),
    # A missing application file is not a missing dependency.
    (
        "unhandled_exception",
        [GONE, EXIT_1, signature("module_missing", "Error: Cannot find module './routes'"), exception()],
        "Error: boom",
    ),
    (
        "unhandled_exception",
        [
            GONE,
            exception(at="2026-03-02T01:00:00.000Z", message="first"),
            {"journal": exception(at="2026-03-02T01:01:00.000Z")["log"]},
        ],
        "Error: boom",
    ),
    ("crash_loop", [GONE, {"unit": {"result": "start-limit-hit", "restarts": 5, "exit_status": 1}}], "given up"),
    ("crash_loop", [GONE, BLIND, {"unit": {"sub_state": "auto-restart", "restarts": 4}}], "4 times"),
    ("crash_loop", [GONE, exits(3)], "3 times"),
    ("crash_loop", [GONE, exits(3, ours=True)], "(3 times, 3 of them after a start by this playbook)"),
    (
        "crash_loop",
        [GONE, {"journal": {"start_limit": [{"at": "2026-03-02T01:00:00.000Z", "text": "too quickly"}]}}],
        "given up",
    ),
    (
        "too_many_files",
        [SILENT, {"process": {"processes": [{**PROCESS_OPEN, "open_files": 1000}]}}],
        "Process 100 has 1000 files and connections open (limit: 1024)",
    ),
    ("too_many_files", [GONE, EXIT_1, signature("too_many_files", "EMFILE"), exception()], "could not open more"),
    ("disk_full", [FULL], "/var"),
    ("disk_full", [NO_INODES], "Almost no inodes are left on /var"),
    (
        "disk_full",
        [{"disk": [*FULL["disk"], {**NO_INODES["disk"][0], "mount": "/srv"}]}],
        "no space or inodes are left",
    ),
    ("disk_full", [FULL_TMP], "/tmp"),
    ("disk_full", [GONE, signature("disk_full", "SQLITE_FULL: database or disk is full")], "there is free space again"),
    (
        "port_conflict",
        [GONE, {"ports": [{"port": 6443, "address": "::", "owners": [STRANGER]}]}],
        "process 666 of user www-data",
    ),
    (
        "port_conflict",
        [GONE, {"ports": [{"port": 6443, "address": "::", "owners": []}]}],
        "another process, which this user cannot see",
    ),
    (
        "port_conflict",
        [{"unit": {"active_state": "activating", "sub_state": "auto-restart", "main_pid": 0}}],
        "older process of the service (pid 100)",
    ),
    (
        "port_conflict",
        [
            SILENT,
            {"process": {"processes": [{"pid": 90, "state": "T", "started_at": "2026-02-01T00:00:00.000Z"}]}},
            {"ports": [{"port": 6443, "address": "::", "owners": [{**NODE, "pid": 90}]}]},
            {"unit": {"active_state": "failed", "main_pid": 0, "result": "start-limit-hit"}},
        ],
        "older process of the service (pid 90)",
    ),
    ("port_conflict", [GONE, signature("port_taken", "listen EADDRINUSE :::6443"), EXIT_1], "free now"),
    (
        "tls_expired",
        [{"certificate": {"expired": True, "subject": "CN=a", "not_before": "2025", "not_after": "2026-03-01"}}],
        "expired on 2026-03-01",
    ),
    (
        "tls_expired",
        [
            {"answer": {"https": {"listening": False, "answered": None}}},
            {"certificate": {"readable_by_service": False}},
        ],
        "cannot read its certificate",
    ),
    *(
        ("tls_expired", [FALLEN_BACK, {"certificate": changes}], words)
        for changes, words in (
            ({"exists": False, "error": "No such file or directory"}, "the certificate does not exist"),
            ({"error": "no PEM block in it"}, "cannot read its certificate"),
            ({"key": {"exists": False}}, "the private key does not exist"),
            ({"key": {"readable": False}}, "cannot read its private key"),
            ({"key": {"matches": None, "error": "Cannot use server.key: BAD_DECRYPT"}}, "cannot read its private key"),
            ({"key": {"matches": None, "error": "server.key needs a passphrase"}}, "could not use"),
            ({"key": {"matches": False}}, "does not match"),
            ({}, "has not loaded its certificate and private key"),
            ({"readable_by_service": None, "key": None}, "could not use"),
        )
    ),
    (
        "tls_expired",
        [{"answer": {"https": {"certificate": {**EXPIRED, "not_after": "2026-03-01"}}}}],
        "expired on 2026-03-01; the service has not loaded the newer certificate",
    ),
    (
        "tls_expired",
        [GONE, EXIT_1, signature("tls", "Error: key values mismatch"), exception(), {"certificate": WRONG_KEY}],
        "would not offer HTTPS",
    ),
    ("db_corrupt", [GONE, problem("corrupt", lost=True)], "not sound"),
    ("tls_expired", [GONE, {"certificate": None}, signature("tls", "key values mismatch")], "could not use"),
    ("db_corrupt", [problem("missing", lost=True)], "the file does not exist"),
    ("db_corrupt", [GONE, problem("unreadable")], "it cannot be read"),
    (
        "db_corrupt",
        [{"database": {"data_loss_suspected": True, "data_loss_reasons": ["users has 2 rows fewer"]}}],
        "may be lost",
    ),
    ("db_corrupt", [GONE, signature("db_corrupt", "SQLITE_CORRUPT")], "no damage was found"),
    (
        "db_corrupt",
        [GONE, {"hold": {"rows_collapsed": True, "rows_missing": {"incidents": [18, 3]}}}],
        "fewer rows than at the last good count: incidents 3 of 18",
    ),
    (
        "db_locked",
        [SILENT, problem("locked"), holders(WRITER)],
        "process 7",
    ),
    ("db_locked", [SILENT, holders({**WRITER, "role": "checkpointer"})], "process 7"),
    ("db_locked", [GONE, exception(), signature("db_locked", "SQLITE_BUSY"), holders(WRITER)], "process 7"),
    # The service itself holds the lock.
    ("hung", [SILENT, signature("db_locked", "SQLITE_BUSY"), holders({**NODE, "role": "writer"})], "does not answer"),
    ("db_locked", [SILENT, STALE_WRITER], "process 90"),
    ("db_locked", [holders({**WRITER, "blocks_for": 0.5})], "Writes are blocked: process 7"),
    ("db_locked", [GONE, problem("locked")], "is locked"),
    ("db_locked", [GONE, signature("db_locked", "SQLITE_BUSY")], "no other process holds"),
    ("oom_kill", [GONE, {"unit": {"result": "oom-kill", "exit_code": "killed", "exit_status": 9}}], "memory ran out"),
    ("oom_kill", [GONE, {"kernel": {"out_of_memory": [MEMCG_LINE, LIMIT_LINE]}}], "its memory limit"),
    ("oom_kill", [GONE, PROCESS, {"kernel": {"out_of_memory": [OOM_LINE]}}], "memory ran out"),
    (
        "heap_oom",
        [
            GONE,
            {"unit": {"result": "core-dump", "exit_code": "dumped", "exit_status": 6}},
            signature("heap_oom", "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
        ],
        "its heap limit",
    ),
    ("modules_broken", [GONE, UNASKED, signature("module_missing", "Error: Cannot find module 'express'")], "express"),
    ("modules_broken", [GONE, {"node": {"modules_exist": False}}, EXIT_1], "node_modules does not exist"),
    ("modules_broken", [GONE, EXIT_1, {"dependencies": {"ok": False, "missing": ["express"]}}], "missing: express"),
    (
        "modules_broken",
        [GONE, NATIVE, EXIT_1, {"dependencies": {"ok": False, "unloadable": ["better-sqlite3"]}}],
        "cannot be loaded: better-sqlite3",
    ),
    ("modules_broken", [GONE, NATIVE, exception(), {"dependencies": None}], "better-sqlite3"),
    (
        "modules_broken",
        [GONE, MISSING_EXPRESS, exception(message="Error: Cannot find module 'express'")],
        "all dependencies can be loaded now",
    ),
    ("migration_pending", [GONE, LOCKED, exception(), {"migrations": None}], "lock is still set"),
    ("migration_pending", [GONE, LOCKED, exception(), HELD], "lock is still set"),
    ("migration_pending", [GONE, LOCKED, exception(message="MigrationLocked: locked")], "the lock is free now"),
    ("migration_pending", [GONE, HELD], "lock is still set"),
    (
        "migration_pending",
        [GONE, HELD, {"migrations": {"migrators": [{"pid": 9, "command": "knex migrate:latest"}]}}],
        "is running: pid 9",
    ),
    ("migration_pending", [UNHEARD, HELD, {"migrations": {"lock_stale": False}}], "is running: pid 100"),
    ("migration_pending", [GONE, NO_TABLE, exception(), PENDING], "1 pending"),
    ("migration_pending", [GONE, NO_TABLE, {"migrations": None}], "does not have"),
    (
        "migration_pending",
        [GONE, EXIT_1, exception(message="Error: The migration directory is corrupt, these files are missing: 7.js")],
        "older than its database",
    ),
    ("config_mismatch", [GONE, {"node": {"script_exists": False}}], "server.js does not exist"),
    (
        "config_mismatch",
        [
            GONE,
            EXIT_1,
            {"node": {"script_exists": False}},
            signature("module_missing", "Error: Cannot find module '/srv/itsm/backend/server.js'"),
            exception(message="Error: Cannot find module '/srv/itsm/backend/server.js'"),
        ],
        "server.js does not exist",
    ),
    (
        "config_mismatch",
        [GONE, {"service": {"app_dir_exists": False}}, problem("missing", lost=True)],
        "check that its disk is mounted",
    ),
    ("config_mismatch", [GONE, away("folder_missing")], "The folder of the database /srv/itsm.db does not exist"),
    ("config_mismatch", [GONE, away("not_mounted")], "is not mounted at /srv, although /etc/fstab lists it"),
    ("config_mismatch", [OTHER_DATABASE], "/srv/other.db"),
    ("config_mismatch", [GONE, OTHER_DATABASE, problem("missing", lost=True), exception()], "/srv/other.db"),
    ("config_mismatch", [GONE, PROCESS, {"environment": {"problems": ["no /srv/itsm/.env"]}}], "no /srv/itsm/.env"),
    (
        "config_mismatch",
        [GONE, {"unit": {"result": "resources"}, "environment": {"problems": ["no /srv/itsm/.env"]}}],
        "no /srv/itsm/.env",
    ),
    (
        "config_mismatch",
        [GONE, EXIT_1, MISSING_SECRET, exception(message="Error: JWT_SECRET is not set: refusing to start")],
        "not set: JWT_SECRET",
    ),
    (
        "config_mismatch",
        [GONE, EXIT_1, MISSING_SECRET, exception(message="Error: A JWT secret is required in production")],
        "not set: JWT_SECRET",
    ),
    ("config_mismatch", [GONE, EXIT_1, MISSING_SECRET], "not set: JWT_SECRET and MAIL_PASSWORD"),
    ("environment_missing", [GONE, NO_ENVIRONMENT], "/etc/itsm/itsm.env does not exist"),
    ("environment_missing", [GONE, NO_ENVIRONMENT, {"unit": {"result": "resources"}}], "cannot start without it"),
    ("environment_missing", [GONE, PROCESS, NO_ENVIRONMENT], "/etc/itsm/itsm.env does not exist"),
    ("environment_missing", [NO_ENVIRONMENT, refused(503)], "/etc/itsm/itsm.env does not exist"),
    ("unit_masked", [GONE, MASKED], "itsm-system is masked"),
    ("unit_masked", [GONE, IN_ORDER, STOPPING, MASKED], "itsm-system is masked"),
    (
        "unit_invalid",
        [GONE, {"unit": {"load_state": "bad-setting", "load_error": "it has no ExecStart"}}],
        "cannot load",
    ),
    ("unit_invalid", [GONE, {"unit": {"load_state": "error"}}], "(error)"),
    ("exec_failed", [GONE, NO_PROGRAM], "(203/EXEC): /usr/bin/nodex does not exist"),
    ("exec_failed", [GONE, NO_PROGRAM, EXIT_203], "(203/EXEC): /usr/bin/nodex does not exist"),
    ("exec_failed", [GONE, EXIT_203, {"node": {"path": None}}], "(203/EXEC): its program cannot be run"),
    (
        "exec_failed",
        [GONE, {"start": {"folder_fault": "/srv/itsm is not a folder"}}],
        "(200/CHDIR): /srv/itsm is not a folder",
    ),
    ("exec_failed", [GONE, {"start": {"user_fault": "there is no user itsm"}}], "(217/USER): there is no user itsm"),
    ("exec_failed", [GONE, {"start": {"group_fault": "there is no group itsm"}}], "(216/GROUP): there is no group"),
    ("exec_failed", [GONE, {"unit": {"exit_status": 200}}], "working directory cannot be entered"),
    # If a person stops the unit, systemd forgets the exit code, but the journal still has it.
    (
        "exec_failed",
        [GONE, {"unit": {"exit_code": None}}, failed_starts(text="code=exited, status=203/EXEC")],
        "(203/EXEC)",
    ),
    # The program in ExecStartPre= fails before the service itself can start.
    (
        "exec_failed",
        [
            GONE,
            {"unit": {"exit_code": None}},
            {
                "journal": {
                    "control_exits": [{"at": NOW, "text": "Control process exited, code=exited, status=226/NAMESPACE"}]
                }
            },
        ],
        "(226/NAMESPACE)",
    ),
    (
        "exec_failed",
        [GONE, EXIT_203, {"start": {"changed_at": "2026-03-02T01:01:00.000Z"}}],
        "has changed since then",
    ),
    ("syntax_error", [GONE, EXIT_1, syntax_error()], "Node cannot parse /srv/itsm/backend/routes.js:17: SyntaxError"),
    (
        "syntax_error",
        [GONE, EXIT_1, {"unit": {"exited_at": NOW}}, syntax_error(parses=True, changed_at="2026-03-02T01:01:00.000Z")],
        "the file has changed since then",
    ),
    # The file was restored together with its old modification time.
    (
        "syntax_error",
        [GONE, EXIT_1, {"unit": {"exited_at": NOW}}, syntax_error(parses=True, changed_at="2026-01-01T00:00:00.000Z")],
        "the file has changed since then",
    ),
    (
        "database_owner",
        [GONE, OWNED_BY_ROOT],
        "User itsm cannot write to /srv/itsm/backend/itsm.db (owner root",
    ),
    ("database_owner", [GONE, BY_KILL, OWNED_BY_ROOT], "(owner root, mode 0644)"),
    (
        "database_owner",
        [GONE, EXIT_1, exception(message="SqliteError: SQLITE_READONLY: attempt to write"), OWNED_BY_ROOT],
        "(owner root",
    ),
    (
        "unhandled_exception",
        [GONE, EXIT_1, exception(place={"file": "/srv/itsm/a.js", "line": 3})],
        "crashed with an unhandled exception at /srv/itsm/a.js:3: Error: boom",
    ),
    *(
        (
            "config_mismatch",
            [GONE, {"settings": [{"variable": name, "value": "x", "message": f"{name} is 'x': must be"}]}],
            f"({name}): is 'x'",
        )
        for name in ("nexus_db_path", "nexus_user", "nexus_log_file", "nexus_https_port", "nexus_command")
    ),
    ("config_mismatch", [GONE, PROCESS, {"node": {"path": None}}], "not found"),
    ("config_mismatch", [GONE, EXIT_1, NATIVE, OLD_NODE, exception()], "Node v18.1.0"),
    ("config_mismatch", [ELSEWHERE], "6443 and 8080, but the service listens on 26443"),
    ("config_mismatch", [HTTPS_ELSEWHERE], " 6443, but the service listens on 26443"),
    *(
        ("config_mismatch", [refused(status)], f"nexus_health_path is /health, which answers with status {status}")
        for status in (301, 302, 401, 403, 404)
    ),
    *(
        (
            "config_mismatch",
            [shown(body)],
            "nexus_health_path is /health, which answers with status 200 but does not report health",
        )
        for body in (b"<!doctype html>", b'{"name": "itsm"}')
    ),
    (
        "db_unchecked",
        [GONE, {"database": {"conclusive": False, "checks": {"quick": "skipped: time budget"}}}],
        "in time",
    ),
    ("db_unchecked", [GONE, {"database": {"conclusive": None, "error": "timed out"}}], "in time"),
    ("db_unchecked", [GONE, problem("changing")], "it cannot be opened"),
    (
        "db_unchecked",
        [GONE, {"database": {"problems": [{"code": "unreadable", "message": "Cannot read x: Permission denied"}]}}],
        "it cannot be opened",
    ),
    # The running process may still have the deleted file open.
    ("db_unchecked", [SILENT, away("folder_missing")], "because it was not found: The folder"),
    ("db_unchecked", [refused(503), away("not_mounted")], "because it was not found: The file system"),
    ("db_unchecked", [away("not_mounted")], "because it was not found: The file system"),
    (
        "config_mismatch",
        [GONE, {"unit": {"load_state": "not-found", "result": "success", "exit_code": None}}],
        "has no unit",
    ),
    ("disk_read_only", [GONE, {"disk": [{**ROOM, "use": "database", "read_only": True}]}], "/srv is read-only"),
    ("unknown", [GONE], "No process of the service is running"),
    ("unknown", [GONE, EXIT_1], "exited with code 1"),
    # Under systemd, the service has no PID file, so a leftover PID file does not point to a cause.
    ("unknown", [GONE, {"service": {"pid_file_exists": True}}], "No process of the service is running"),
    # These facts are recorded but are not the cause.
    ("unknown", [GONE, {"certificate": {"key": {"readable": False}}}], "No process of the service is running"),
    (
        "unknown",
        [GONE, OTHER_DATABASE, MISSING_SECRET, {"unit": {"exit_code": "killed"}}, FULL_TMP],
        "No process of the service",
    ),
    ("unknown", [GONE, {"kernel": {"out_of_memory": [OTHER_OOM]}}], "No process of the service is running"),
]


def facts_of(*changes):
    facts = HEALTHY
    for change in changes:
        facts = changed(facts, change)
    return facts


def evaluate(*changes):
    return table.evaluate(facts_of(*changes))


@pytest.mark.parametrize(("cause", "changes", "words"), CASES)
def test_the_right_cause_comes_first(cause, changes, words):
    found = evaluate(*changes)
    assert found and found[0].cause == cause, [(item.cause, item.summary) for item in found]
    assert words in messages.english(found[0].summary)
    assert 0 < found[0].confidence <= 1
    told = found[0].as_dict()
    assert all(told[name].endswith(".") for name in ("summary", "remedy", "prevention"))
    assert {name: each["id"].split(".")[1] for name, each in told["messages"].items()}["summary"] == cause
    # If the first change of a case sets `health`, the case is about a service that must not be restarted.
    serves = ELSEWHERE in changes or HTTPS_ELSEWHERE in changes or changes[0].get("health") is not None
    blocks = cause in ("db_corrupt", "db_unchecked", "start_held") or serves
    assert found[0].blocks_start == blocks, "if the first change sets health, the cause must block a start"
    assert found[0].explained_by is None
    assert cause == "unknown" or all(item["source"] and item["text"] for item in found[0].evidence)
    assert cause == "unknown" or found[0].evidence


def test_every_cause_has_a_case():
    with_case = {cause for cause, _changes, _words in CASES}
    lacks = [
        f"test_causes.py lacks a case of {cause} in CASES"
        for cause in table.CAUSES
        if cause not in with_case and cause not in ("wal_pending", "wal_reset_bug")
    ]
    assert lacks == [], "\n".join(lacks)
    assert with_case <= set(table.CAUSES)


# Errors that CAUSES does not need to contain, because a finding about such an error never counts as past.
NEVER_PAST = {"heap_oom", "db_corrupt", "tls"}


def test_every_known_error_belongs_to_a_cause():
    named = {error for row in table.CAUSES.values() for error in row.errors}
    lacks = [
        f"causes/table.py lacks {error} in `errors` of a row in CAUSES"
        for error in log_patterns.SIGNATURES
        if error not in named | NEVER_PAST
    ]
    assert lacks == [], "\n".join(lacks)


def test_the_documentation_names_every_cause():
    (cause,) = [
        item for item in yaml.safe_load(triage_info.RETURN)["findings"]["contains"].items() if item[0] == "cause"
    ]
    documented = set(re.findall(r"V\((\w+)\)", cause[1]["description"]))
    place = "plugins/modules/triage_info.py"
    differences = [
        f"{place} lacks V({name}) in the description of cause" for name in sorted({*table.CAUSES} - documented)
    ]
    differences += [f"{place} has V({name}), which is not in CAUSES" for name in sorted(documented - {*table.CAUSES})]
    assert differences == [], "\n".join(differences)


class Watched(dict):
    """A dict of facts. When a fact is read, (part, name) is added to `seen`."""

    def __init__(self, facts, *, part, seen):
        super().__init__(
            {name: self.watched(value, part=part or name, seen=seen) for name, value in facts.items()},
        )
        self.part, self.seen = part, seen

    @classmethod
    def watched(cls, value, *, part, seen):
        if isinstance(value, dict):
            return cls(value, part=part, seen=seen)
        return [cls.watched(item, part=part, seen=seen) for item in value] if isinstance(value, list) else value

    def get(self, name, default=None):
        self.seen.add((self.part or name, name))
        return super().get(name, default)

    def __getitem__(self, name):
        self.seen.add((self.part or name, name))
        return super().__getitem__(name)

    def __contains__(self, name):
        self.seen.add((self.part or name, name))
        return super().__contains__(name)


@pytest.fixture(scope="module")
def read_by_rules():
    """Return the facts that the rules read across all CASES, as (part, name), or as (part, part) for a whole part."""
    seen = set()
    for _cause, changes, _words in CASES:
        table.evaluate(Watched(facts_of(*changes), part=None, seen=seen))
    assert len(seen) > 150
    return seen


def names_in(documented):
    """Return the facts in a part's RETURN documentation: its field names, and the names in C() in its description."""
    if isinstance(documented, list):
        return set().union(*map(names_in, documented))
    if isinstance(documented, dict):
        return set(documented).union(*map(names_in, documented.values()))
    return set(re.findall(r"C\((\w+)\)", str(documented)))


@functools.cache
def errors_read():
    """Return the known errors that the rules search for in the log and the journal, by name."""
    rules = pathlib.Path(table.__file__).parents[1].rglob("*.py")
    return {name for path in rules for name in re.findall(r'\.signature\(\s*"(\w+)"', path.read_text(encoding="utf-8"))}


def test_every_known_error_that_a_rule_reads_has_a_pattern():
    named = {*errors_read(), *NEVER_PAST, *(error for row in table.CAUSES.values() for error in row.errors)}
    lacks = [
        f"plugins/module_utils/_service/log_patterns.py lacks {name} in SIGNATURES"
        for name in sorted(named - {*log_patterns.SIGNATURES})
    ]
    assert lacks == [], "\n".join(lacks)
    assert {"disk_full", "module_missing"} <= errors_read()


def test_every_fact_that_a_rule_reads_is_documented(read_by_rules):
    documented = yaml.safe_load(triage_info.RETURN)["facts"]["contains"]
    # If a part of the triage facts could not be collected, this part contains only the error.
    known = {part: names_in(told) | {part, "error"} for part, told in documented.items()}
    # The test above checks the names of the known errors.
    known["log"] |= {*log_patterns.SIGNATURES, *errors_read()}
    known["journal"] |= known["log"]
    known["answer"] |= known["certificate"]
    known["database"] |= names_in(yaml.safe_load(sqlite_info.RETURN))
    lacks = [
        f"plugins/modules/triage_info.py lacks C({name}) in the description of the fact {part}"
        for part, name in sorted(read_by_rules)
        if name not in known.get(part, ())
    ]
    assert lacks == [], "\n".join(lacks)


def test_every_fact_that_a_rule_reads_is_collected(read_by_rules):
    # The code that collects a fact contains the fact's name. The rules contain these names too, so the files of the
    # rules are not searched.
    packages = pathlib.Path(table.__file__).parents[2]
    gathering = {
        *(packages / "_triage").glob("collect_*.py"),
        *(
            packages / "_triage" / f"{name}.py"
            for name in ("run", "triage_pass", "assembled_facts", "context", "evidence")
        ),
        *(packages / "_sqlite").glob("*.py"),
        *(packages / f"{name}.py" for name in GATHERING),
    }
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in gathering]
    written = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    lacks = [
        f"plugins/module_utils/_triage/collect_*.py lack the string {name!r} for the fact {part}. "
        "If the collector takes the names of its facts from a file, write them in the code"
        for part, name in sorted(read_by_rules)
        if name not in written and not (part in ("log", "journal") and name in errors_read())
    ]
    assert lacks == [], "\n".join(lacks)
    # The code that collects a part of the triage facts contains the name of the part as a string, either alone or with
    # a suffix like ":log".
    places = (packages / "_triage" / f"{name}.py" for name in ("run", "triage_pass", "assembled_facts"))
    source = "".join(path.read_text(encoding="utf-8") for path in places)
    assert not {part for part, name in read_by_rules if part == name and not re.search(rf'"{part}["\]:]', source)}


@pytest.mark.parametrize(
    "changes",
    [
        [],
        # Old events, and events that are normal on a busy host.
        [exception(last=False, fatal=False)],
        [exception()],
        [signature("db_locked", "SQLITE_BUSY")],
        [signature("module_missing", "Cannot find module 'optional'")],
        [signature("tls", "ERR_SSL_WRONG_VERSION_NUMBER")],
        [{"kernel": {"out_of_memory": [OOM_LINE]}}],
        [exits(5)],
        [{"unit": {"restarts": 7}}],
        [problem("wal_torn", level="warning")],
        [problem("changing")],
        [problem("locked"), holders({**NODE, "role": "writer"})],
        [problem("ownership", level="warning")],
        [OWNED_BY_ROOT],
        [NO_ENVIRONMENT],
        [NO_PROGRAM],
        [MASKED],
        [syntax_error()],
        [failed_starts()],
        [holders(WRITER)],
        [{"disk": [{**ROOM, "use": "application", "mount": "/image", "available": 0, "read_only": True}]}],
        [{"database": {"problems": [{"code": "unreadable", "message": "Cannot read x: Permission denied"}]}}],
        [PENDING],
        [HELD],
        [{"migrations": {"lock_held": True, "migrators": [{"pid": 9, "command": "knex migrate:latest"}]}}],
        [{"dependencies": {"ok": False, "missing": ["optional"], "invalid": ["semver"]}}],
        [{"node": {"modules_exist": False, "script_exists": False, "path": None, "version": None}}],
        [OLD_NODE],
        [MISSING_SECRET],
        [{"disk": [{**ROOM, "use": "database", "read_only": True}]}],
        [signature("heap_oom", "JavaScript heap out of memory")],
        [{"unit": {"exit_code": "exited", "exit_status": 203}}],
        [{"environment": {"problems": ["Cannot read the environment file /etc/default/itsm: Permission denied"]}}],
        [{"certificate": WRONG_KEY}],
        [{"certificate": {"readable_by_service": None, "error": "Permission denied", "key": None}}],
        [{"memory": {"available": 10**7, "pressure": {"memory": {"full": {"avg10": 60.0}}}}}],
        [{"journal": {"stops": STOPPING["journal"]["stops"], "exits": exits(1)["journal"]["exits"]}}],
        [log("ERROR GET /api/v1/reports: out of luck")],
        # systemd has opened the socket and has passed it to the service (socket activation).
        [{"ports": [{"port": 6443, "address": "::", "owners": [{**STRANGER, "pid": 1}, NODE]}]}],
        [{"database": {"error": "timed out", "problems": None, "holders": None, "wal": None}}],
        [{"database": {"holders": [{"pid": 9, "command": "backup", "role": "reader"}]}}],
        [{name: {"error": "timed out"} for name in ("unit", "answer", "memory", "kernel", "log", "journal", "node")}],
        [{"ports": {"error": "timed out"}}],
        # A port that returns an error status is responding.
        [{"answer": {"https": {"status": 429}}}],
        # HTTP is not configured, so no HTTP response is required.
        [{"answer": {"https": {"port": 6443, "listening": True, "answered": True}}}],
    ],
)
def test_no_false_alarm_on_a_healthy_host(changes):
    assert evaluate(*changes) == []


def test_the_certificate_of_a_service_that_has_just_started_is_not_blamed():
    young = {"process": {"processes": [{"pid": 100, "state": "S", "started_at": "2026-03-02T01:02:00.000Z"}]}}
    found = evaluate(young, {"answer": {"https": {"listening": False, "answered": None}}})
    assert [item.cause for item in found] == ["unknown"]
    # If the private key is unreadable, the service cannot recover without a change.
    found = evaluate(young, FALLEN_BACK, {"certificate": {"key": {"readable": False}}})
    assert [(item.cause, item.rungs_help) for item in found] == [("tls_expired", False)]


def test_a_cause_comes_before_its_consequences():
    found = evaluate(
        GONE,
        FULL,
        signature("disk_full", "SQLITE_FULL"),
        exception(message="Error: SQLITE_FULL"),
        {"unit": {"result": "start-limit-hit", "restarts": 5}},
        {"database": {"wal": {"pages_pending": 12, "frames_committed": 20}}},
    )
    assert [item.cause for item in found] == ["disk_full", "unhandled_exception", "crash_loop", "wal_pending"]
    assert [item.explained_by for item in found] == [None, "disk_full", "disk_full", "disk_full"]


def test_a_consequence_with_more_confidence_does_not_come_before_its_cause():
    # The crash loop is certain. Its cause is less certain, because only the log shows it.
    busy = exception(message="SqliteError: SQLITE_BUSY: database is locked")
    found = evaluate(GONE, exits(5), signature("db_locked", "SQLITE_BUSY"), busy)
    assert [item.cause for item in found] == ["db_locked", "unhandled_exception", "crash_loop"]
    assert found[0].confidence < found[2].confidence


# The service's exit is a fact, but log lines are only text, which the service's clients can influence.
BY_OPERATOR = [GONE, IN_ORDER, BY_TERM, STOPPING, exits(1)]
RESTARTED_BY_KILL = [
    {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
    {
        "journal": {
            "exits": [{"at": NOW, "text": "itsm-system.service: Main process exited, code=killed, status=9/KILL"}]
        }
    },
]
FROZEN = [
    {"process": {"processes": [{"pid": 100, "state": "T", "started_at": "2026-02-01T00:00:00.000Z"}]}},
    SILENT,
]
HEAP_WORDS = signature("heap_oom", "title=JavaScript heap out of memory")
OTHER_NODE = {
    "at": "2026-03-02T00:55:00.000Z",
    "text": "Out of memory: Killed process 9 (node)",
    "pid": 9,
    "name": "node",
}


@pytest.mark.parametrize(
    "words",
    [
        signature("db_locked", "SQLITE_BUSY"),
        signature("disk_full", "ENOSPC"),
        HEAP_WORDS,
        signature("port_taken", "EADDRINUSE"),
        MISSING_EXPRESS,
        signature("tls", "CERT_HAS_EXPIRED"),
        NO_TABLE,
        exception(fatal=False),
        {"kernel": {"out_of_memory": [OTHER_NODE]}},
    ],
)
@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        ([GONE, BY_KILL], "killed"),
        ([GONE, IN_ORDER, BY_TERM, exits(1)], "killed"),
        (RESTARTED_BY_KILL, "killed"),
        (BY_OPERATOR, "stopped"),
        (FROZEN, "hung"),
    ],
)
def test_log_text_does_not_explain_an_external_stop(ending, cause, words):
    found = evaluate(*ending, words)
    assert (found[0].cause, found[0].explained_by) == (cause, None), [(item.cause, item.confidence) for item in found]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        # The kernel sends SIGKILL, V8 and native code abort their own process, and systemd kills a process after a
        # timeout.
        ([BY_KILL, {"kernel": {"out_of_memory": [{**OTHER_NODE, "at": NOW}]}}], "oom_kill"),
        ([{"unit": {"result": "core-dump", "exit_code": "dumped", "exit_status": 6}}, HEAP_WORDS], "heap_oom"),
        (
            [
                {"unit": {"result": "core-dump", "exit_code": "dumped", "exit_status": 11}},
                NATIVE,
                {"dependencies": {"ok": False, "unloadable": ["better-sqlite3"]}},
            ],
            "modules_broken",
        ),
        (
            [
                {"unit": {"result": "timeout", "exit_code": "killed", "exit_status": 9}},
                signature("db_locked", "SQLITE_BUSY"),
            ],
            "db_locked",
        ),
    ],
)
def test_a_cause_that_fits_the_exit_still_explains_it(changes, cause):
    found = evaluate(GONE, *changes)
    assert [(item.cause, item.explained_by) for item in found[:2]] == [(cause, None), ("killed", cause)]


def test_an_abort_before_a_stop_counts_as_an_abort():
    fell = {"journal": {"exits": [{"at": "2026-03-02T00:55:00.000Z", "text": "code=dumped, status=6/ABRT"}]}}
    assert evaluate(*BY_OPERATOR, HEAP_WORDS, fell)[0].cause == "heap_oom"


@pytest.mark.parametrize(
    ("certificate", "cause"),
    [({}, "unhandled_exception"), (WRONG_KEY, "tls_expired"), (None, "tls_expired")],
)
def test_a_certificate_error_of_another_site_is_not_ours(certificate, cause):
    found = evaluate(GONE, EXIT_1, exception(), signature("tls", "CERT_HAS_EXPIRED"), {"certificate": certificate})
    assert found[0].cause == cause


def test_cause_of_a_killed_process_has_more_confidence_if_others_are_ruled_out():
    up = {"window": {"booted_at": "2026-01-01T00:00:00.000Z"}}
    alive = log("INFO GET / 200")
    found = evaluate(GONE, PROCESS, alive, up)[0]
    assert (found.cause, found.confidence, found.summary.id) == ("killed", 0.85, "finding.killed.silent")
    assert [item["source"] for item in found.evidence] == ["pid file", "process 1", "journalctl -k"]
    assert "neither the host nor its container restarted" in found.evidence[1]["text"]
    unread = {"kernel": {"source": None, "errors": ["dmesg: Operation not permitted"]}}
    for changes in (
        [alive],
        [up],
        [alive, up, unread],
        [alive, {"window": {"booted_at": "2026-03-02T01:01:00.000Z"}}],
        [alive, up, {"kernel": {"out_of_memory": [OTHER_OOM]}}],
    ):
        found = evaluate(GONE, PROCESS, *changes)[0]
        assert (found.cause, found.confidence) == ("killed", 0.7), changes
        assert (found.summary.id, found.prevention.id) == ("finding.killed.silent_or_host", "prevention.killed.unit")


def test_two_independent_faults_are_both_found():
    found = evaluate(
        FULL, {"certificate": {"expired": True, "subject": "a", "not_before": "b", "not_after": "c"}}, GONE
    )
    assert {item.cause for item in found} >= {"disk_full", "tls_expired"}


def test_a_crash_already_restarted_by_systemd_is_reported():
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"kernel": {"out_of_memory": [OOM_LINE]}},
    )
    assert [item.cause for item in found] == ["oom_kill"]


def test_a_signal_already_handled_by_systemd_is_reported():
    text = "itsm-system.service: Main process exited, code=killed, status=9/KILL"
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"journal": {"exits": [{"at": "2026-03-02T01:01:50.000Z", "text": text}]}},
    )
    assert [(item.cause, item.summary.id == "finding.killed.restarted") for item in found] == [("killed", True)]


def test_a_signal_soon_after_a_planned_restart_is_not_a_manual_stop():
    text = "itsm-system.service: Main process exited, code=killed, status=9/KILL"
    journal = {
        "stops": [{"at": "2026-03-02T01:01:30.000Z", "text": "Stopping itsm-system.service"}],
        "starts": [{"at": at} for at in ("2026-03-02T01:01:33.000Z", "2026-03-02T01:02:00.000Z")],
        "exits": [{"at": "2026-03-02T01:01:50.000Z", "text": text}],
    }
    found = evaluate({"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}}, {"journal": journal})
    assert [item.cause for item in found] == ["killed"]


def test_the_exception_of_a_service_that_is_being_restarted():
    starting = {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}}
    assert [item.cause for item in evaluate(starting, exception(fatal=False))] == ["unhandled_exception"]


def test_another_exit_already_handled_by_systemd_is_not_an_oom_kill():
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"journal": {"results": [{"at": "2026-03-02T01:01:50.000Z", "text": "Failed with result 'exit-code'."}]}},
    )
    assert found == []


def test_an_exception_with_a_time_is_preferred_to_one_without():
    undated = exception(at=None)["log"]["exceptions"] + exception(at=NOW, message="Error: dated")["log"]["exceptions"]
    assert evaluate(GONE, EXIT_1, {"log": {"exceptions": undated}})[0].details["exception"] == "Error: dated"


def test_an_oom_kill_already_handled_by_systemd_is_reported():
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"journal": {"results": [{"at": "2026-03-02T01:01:50.000Z", "text": "Failed with result 'oom-kill'."}]}},
    )
    assert [item.cause for item in found] == ["oom_kill"]


@pytest.mark.parametrize("last_success_at", ["2026-03-02T01:01:00.000Z", None])
def test_recovered_crashes_are_not_a_loop(last_success_at):
    limit = {"journal": {"start_limit": [{"at": "2026-03-02T01:00:00.000Z", "text": "too quickly"}]}}
    found = evaluate(GONE, exits(5), limit, {"log": {"last_success_at": last_success_at}})
    assert ("crash_loop" in [item.cause for item in found]) == (last_success_at is None)


def test_restarts_over_three_weeks_are_not_a_loop():
    seen = {"journal": {"lines": ["x"]}}
    found = evaluate(GONE, {"unit": {"restarts": 7}}, exits(1), seen)
    assert [item.cause for item in found] == ["unknown"]
    assert evaluate(GONE, {"unit": {"restarts": 7}}, exits(3), seen)[0].cause == "crash_loop"


def test_rows_only_in_the_wal_are_reported_but_are_not_the_cause():
    pending = {"database": {"wal": {"pages_pending": 12, "frames_committed": 20}}}
    _unknown, found = evaluate(GONE, pending)
    assert found.cause == "wal_pending"
    # The person on call must be informed that no action is needed and that the file must not be removed.
    told = messages.english(found.summary)
    assert told.endswith("only in the -wal file of the database: no action is needed, but do not delete this file")
    # The WAL contains a page once for each change. Therefore, the two numbers differ.
    assert "12" in told
    assert found.evidence[0]["text"] == "20 committed frames; each frame is one version of a page"


def test_a_host_on_which_nothing_could_be_collected():
    assert table.evaluate({}) == []
    assert table.evaluate({"process": {"error": "timed out"}, "database": {"path": "x", "configured": "x"}}) == []


@pytest.mark.parametrize("part", [*HEALTHY, "everything"])
@pytest.mark.parametrize("lost", [{"error": "timed out"}, None])
def test_a_missing_part_does_not_break_a_rule(part, lost):
    for _cause, changes, _words in CASES[:: step(3)]:
        evaluate(*changes, {name: lost for name in HEALTHY if part in (name, "everything")})


@pytest.mark.parametrize(
    "name",
    [name for name, row in table.CAUSES.items() if {"unhandled_exception", "crash_loop", "killed"} & {*row.explains}],
)
def test_any_cause_may_have_ended(name, monkeypatch):
    """A past cause explains an exception only if the exception mentions this cause.

    The table of causes does not need a separate condition for this rule.
    """
    ended = [GONE, EXIT_1, exception(), exits(3)]
    by_rule = [changes for cause, changes, _words in CASES if cause == name]
    assert by_rule, f"test_causes.py lacks a case for {name} in CASES"
    finding = next(item for item in evaluate(*by_rule[0]) if item.cause == name)
    past = finding._replace(past=True, confidence=0.9, explains=None)
    monkeypatch.setitem(table.CAUSES, name, table.CAUSES[name]._replace(rule=lambda _facts: past))
    explained_by = {item.cause: item.explained_by for item in evaluate(*ended)}
    assert {name, "unhandled_exception", "crash_loop"} <= set(explained_by)
    assert explained_by["unhandled_exception"] is None


def test_no_two_causes_explain_each_other():
    def reached(name, seen=()):
        assert name not in seen, f"{name} explains itself"
        for other in table.CAUSES[name].explains:
            assert other in table.CAUSES
            reached(other, (*seen, name))

    for name in table.CAUSES:
        reached(name)


@pytest.mark.parametrize("facts", [ELSEWHERE, HTTPS_ELSEWHERE])
def test_a_service_that_listens_elsewhere_is_not_restarted(facts):
    first = evaluate(facts)[0]
    assert (first.cause, first.blocks_start, first.rungs_help) == ("config_mismatch", True, False)


@pytest.mark.parametrize(
    "facts",
    [
        # If the service's other port does not use TLS, that port cannot be the HTTPS port. Therefore, the configured
        # HTTPS port is not wrong.
        {"answer": {"tls_elsewhere": []}},
        # The configured port hangs. Users need this port, so the service is restarted even if another port of the
        # service responds.
        {
            "ports": [{"port": port, "address": "::", "owners": [NODE]} for port in (6443, 18080)],
            "answer": {
                "https": {"listening": True, "answered": False, "error": "timed out"},
                "http": {"listening": False},
            },
        },
    ],
)
def test_an_unconfigured_port_of_the_service_does_not_block_a_recovery(facts):
    assert all(item.rungs_help and not item.blocks_start for item in evaluate(HTTPS_ELSEWHERE, facts))


def test_a_wrong_health_check_names_the_setting_to_correct():
    found = evaluate(refused(404))
    assert [(item.cause, item.blocks_start, item.rungs_help) for item in found] == [("config_mismatch", True, False)]
    assert found[0].details["items"] == [{"what": "health_path", "configured": "/health", "effective": "answered 404"}]


@pytest.mark.parametrize(
    "changes",
    [
        # These status codes do not mean that the path is wrong.
        [refused(408)],
        [refused(429)],
        [refused(500)],
        [refused(503)],
        [refused(None)],
        [refused(204)],
        # The service reports that it is not healthy.
        [shown(b'{"status": "degraded"}')],
        # Another program may be responding instead of the service.
        [refused(404), {"ports": [{"port": 6443, "address": "::", "owners": []}]}],
        [refused(404), {"ports": [{"port": 6443, "address": "::", "owners": [STRANGER]}]}],
        [
            refused(404),
            {
                "ports": [
                    {"port": 6443, "address": "127.0.0.1", "owners": [STRANGER]},
                    {"port": 6443, "address": "::", "owners": [NODE]},
                ]
            },
        ],
        [refused(404), {"ports": {"error": "timed out"}}],
        # The service has returned a healthy response at this path before.
        [refused(404), log(f"{NOW} INFO GET /health 200 3 ms")],
        [refused(404), log('::1 - - [02/Mar/2026:01:00:00 +0000] "GET /health?deep=1 HTTP/1.1" 200 15')],
        # The service may have failed to load its routes.
        [refused(404), exception(fatal=False, last=False)],
        [refused(404), signature("module_missing", "Error: Cannot find module './routes'")],
        [refused(404), NO_TABLE],
        [refused(404), {"dependencies": {"ok": False, "missing": ["express"]}}],
        [refused(404), UNASKED],
        [refused(404), PENDING],
        [refused(404), HELD],
        [refused(404), {"log": {"error": "timed out"}, "journal": {"error": "timed out"}}],
        # The service is down, or has just been started.
        [refused(404), GONE],
        [refused(404), {"answer": {"http": {"answered": False, "error": "timed out"}}}],
        [refused(404), {"unit": {"active_state": "failed"}}],
        [refused(404), {"unit": {"restarts": 1, "started_at": NOW}}],
        # A required resource is missing.
        [refused(404), problem("corrupt", lost=True)],
        [refused(404), {"database": {"conclusive": False}}],
        [refused(404), DATABASE_FULL],
        [refused(404), {"disk": [{**ROOM, "use": "log", "read_only": True}]}],
    ],
)
def test_the_health_check_is_wrong_only_if_all_else_is_healthy(changes):
    assert "health_path" not in str([item.details for item in evaluate(*changes)])


def test_the_health_check_is_wrong_if_another_path_answered():
    busy = log(f"{NOW} INFO GET /api/v1/health 200 3 ms", f"{NOW} INFO GET /healthy 200 3 ms", f"{NOW} GET /health 404")
    assert evaluate(refused(404), busy)[0].details["items"][0]["what"] == "health_path"
    # The log also shows status 200 for the configured path, but the response is a web page, not a health status.
    found = evaluate(shown(b"<!doctype html>"), log(f"{NOW} INFO GET /health 200 3 ms"))
    assert found[0].details["items"][0]["what"] == "health_path"
    assert (found[0].blocks_start, found[0].rungs_help) == (True, False)


def test_no_rung_is_tried_with_a_foreign_process_on_the_port():
    owner = {"pid": 7, "command": "nginx", "user": "www-data", "ours": False}
    found = evaluate(GONE, {"ports": [{"port": 6443, "address": "::", "owners": [owner]}]})
    assert (found[0].cause, found[0].rungs_help) == ("port_conflict", False)


ALL, ABOVE, START = list(ladder.RUNGS), list(ladder.ABOVE_THE_FIRST), list(ladder.ONLY_START)
NOT_REPAIRING = list(ladder.NO_REPAIR)
KEEPING_MODULES, KEEPING_SCHEMA = list(ladder.KEEP_MODULES), list(ladder.KEEP_SCHEMA)
MIGRATING = list(ladder.MIGRATE)
FOREIGN_PORT = {"ports": [{"port": 6443, "address": "::", "owners": [STRANGER]}]}
OWN_PORT = {
    "unit": {"active_state": "failed", "sub_state": "failed", "main_pid": 0},
    "ports": [{"port": 6443, "address": "::", "owners": [NODE]}],
}


def place_of_rule(cause):
    """Return the file that contains the rule for a cause."""
    return f"plugins/{table.CAUSES[cause].rule.__module__.partition('.plugins.')[2].replace('.', '/')}.py"


@pytest.mark.parametrize(
    ("changes", "useless"),
    [
        # If there is no free space, every start fails.
        ([GONE, DATABASE_FULL], ALL),
        ([FULL], ALL),
        ([GONE, FULL_TMP], []),
        ([GONE, FULL_TMP, signature("disk_full", "ENOSPC")], ALL),
        # If there are no free inodes, the service may still be able to start. If a write error is reported, the service
        # cannot start.
        ([GONE, NO_INODES], []),
        ([GONE, NO_INODES, signature("disk_full", "ENOSPC")], ALL),
        ([GONE, signature("disk_full", "ENOSPC")], []),
        ([GONE, {"disk": [{**ROOM, "use": "database", "read_only": True}]}], ALL),
        ([GONE, {"disk": [{**ROOM, "use": "log", "read_only": True}]}], []),
        ([GONE, {"unit": {"result": "oom-kill", "exit_code": "killed"}}], []),
        ([GONE, signature("heap_oom", "JavaScript heap out of memory")], []),
        ([GONE, problem("corrupt", lost=True)], ALL),
        ([GONE, {"database": {"conclusive": False}}], ALL),
        ([GONE, FOREIGN_PORT], ALL),
        ([OWN_PORT], []),
        ([GONE, signature("port_taken", "EADDRINUSE")], []),
        # If the certificate file is also invalid, a restart does not help.
        ([{"certificate": EXPIRED, "answer": {"https": {"certificate": EXPIRED}}}], ALL),
        ([{"answer": {"https": {"certificate": EXPIRED}}}], ABOVE),
        ([{"answer": {"https": {"certificate": EXPIRED}}}, {"certificate": {"error": "timed out"}}], ALL),
        ([FALLEN_BACK, {"certificate": WRONG_KEY}], ALL),
        ([FALLEN_BACK, {"certificate": {"key": None}}], ALL),
        ([FALLEN_BACK], ABOVE),
        ([GONE, {"certificate": EXPIRED}], []),
        ([GONE, {"certificate": EXPIRED}, {"answer": {"error": "timed out"}}], []),
        ([SILENT, {"certificate": EXPIRED}], []),
        ([GONE, signature("tls", "key values mismatch"), {"certificate": WRONG_KEY}], ALL),
        ([GONE, signature("tls", "key values mismatch")], []),
        ([SILENT, holders(WRITER)], ALL),
        ([SILENT, STALE_WRITER], []),
        ([GONE, holders(WRITER)], []),
        ([GONE, signature("db_locked", "SQLITE_BUSY"), holders(WRITER)], ALL),
        ([GONE, signature("db_locked", "SQLITE_BUSY")], []),
        ([GONE, {"dependencies": {"ok": False, "missing": ["express"]}}], NOT_REPAIRING),
        ([GONE, {"dependencies": {"ok": False, "unloadable": ["better-sqlite3"]}}], NOT_REPAIRING),
        ([GONE, MISSING_EXPRESS, UNASKED], NOT_REPAIRING),
        ([GONE, MISSING_EXPRESS], []),
        ([GONE, {"dependencies": {"ok": False, "invalid": ["semver"]}}], []),
        # Only the clean start applies migrations, and only if the migration lock is free.
        ([GONE, NO_TABLE, PENDING], KEEPING_SCHEMA),
        ([GONE, NO_TABLE], []),
        ([GONE, PENDING], []),
        ([GONE, LOCKED, HELD], ALL),
        ([GONE, LOCKED, {"migrations": None}], ALL),
        ([GONE, LOCKED], []),
        ([GONE, HELD], MIGRATING),
        ([SILENT, HELD, {"migrations": {"lock_stale": False}}], []),
        ([UNHEARD, HELD, {"migrations": {"lock_stale": False}}], ALL),
        ([UNHEARD, HELD], []),
        ([SILENT, HELD, {"migrations": {"migrators": [{"pid": 9, "command": "knex migrate:latest"}]}}], ALL),
        ([GONE, exception(message="Error: The migration directory is corrupt")], ALL),
        ([ELSEWHERE], ALL),
        ([HTTPS_ELSEWHERE], ALL),
        ([refused(404)], ALL),
        ([GONE, {"service": {"app_dir_exists": False}}], ALL),
        ([GONE, {"unit": {"load_state": "not-found"}}], ALL),
        # The exit code is from the last start. One more start is useful, because it shows whether the cause still
        # exists. Further starts are not useful.
        ([GONE, {"unit": {"exit_status": 200}}], ABOVE),
        ([GONE, EXIT_203], ABOVE),
        ([GONE, failed_starts(text="code=exited, status=203/EXEC")], ALL),
        ([GONE, failed_starts(1, text="code=exited, status=203/EXEC")], ABOVE),
        ([GONE, EXIT_203, {"start": {"changed_at": "2026-03-02T01:01:00.000Z"}}], []),
        ([GONE, NO_PROGRAM], ALL),
        ([SILENT, NO_PROGRAM], ALL),
        ([GONE, NO_ENVIRONMENT], ALL),
        ([GONE, {"start": {"environment_files": [{"path": "/etc/itsm/itsm.env", "exists": None}]}}], []),
        ([GONE, MASKED], ALL),
        ([refused(503), MASKED], ALL),
        ([GONE, {"unit": {"load_state": "bad-setting"}}], ALL),
        ([GONE, OWNED_BY_ROOT], ALL),
        ([GONE, OWNED_BY_ROOT, {"ownership": {"read_only": True}}], []),
        # As long as Node cannot parse the file, every start fails. If it is unknown whether Node can parse the file,
        # the service may be able to start.
        ([GONE, EXIT_1, syntax_error()], ALL),
        ([GONE, EXIT_1, syntax_error(parses=None)], []),
        ([GONE, EXIT_1, syntax_error(parses=None, times=2), failed_starts()], ALL),
        ([GONE, EXIT_1, syntax_error(parses=None, times=2), failed_starts(seconds=40)], []),
        ([GONE, EXIT_1, syntax_error(parses=None, times=2, changed_at=NOW), failed_starts()], []),
        ([GONE, EXIT_1, syntax_error(place={"file": "/srv/itsm/node_modules/a/b.js", "line": 1})], KEEPING_MODULES),
        # Starting the service again does not help if each start fails with the same exception.
        ([GONE, EXIT_1, exception(times=2), failed_starts()], ALL),
        ([GONE, EXIT_1, exception(times=1), failed_starts()], []),
        ([GONE, EXIT_1, exception(times=2), failed_starts(1)], []),
        ([GONE, EXIT_1, exception(times=2), failed_starts(seconds=40)], []),
        ([GONE, EXIT_1, exception(times=2, changed_at="2026-03-02T00:59:00.000Z"), failed_starts()], []),
        ([GONE, EXIT_1, exception(times=2), failed_starts(), {"start": {"changed_at": NOW}}], []),
        ([GONE, EXIT_1, exception(times=2), failed_starts(), {"log": {"last_success_at": NOW}}], []),
        ([GONE, EXIT_1, exception(times=2), failed_starts(), UNASKED], KEEPING_MODULES),
        ([GONE, EXIT_1, exception(times=2), failed_starts(), PENDING], KEEPING_MODULES),
        ([GONE, EXIT_1, exception(times=2, message="Error: connect ECONNREFUSED 10.0.0.1:389"), failed_starts()], []),
        # An invalid setting disables only the rungs that need it.
        *(
            (
                [GONE, *more, {"settings": [{"variable": name, "value": "x", "message": f"{name} is 'x': must be"}]}],
                useless,
            )
            for name, useless, more in (
                ("nexus_db_path", ALL, []),
                ("nexus_app_dir", ALL, []),
                ("nexus_log_file", [], []),
                ("nexus_log_file", ALL, [PROCESS]),
                ("nexus_user", ABOVE, []),
                ("nexus_user", ALL, [{"start": {"user_fault": "there is no user x"}}]),
                ("nexus_user", ALL, [PROCESS]),
                ("nexus_environment_file", ABOVE, []),
                ("nexus_db_path_variable", [], []),
                ("nexus_https_port", [], []),
                ("nexus_https_port", ALL, [{"service": {"https_port": 0, "http_port": 0}}]),
            )
        ),
        ([GONE, {"node": {"path": None}}], []),
        ([GONE, PROCESS, {"node": {"path": None}}], ALL),
        ([GONE, OTHER_DATABASE], []),
        ([GONE, EXIT_1, MISSING_SECRET], []),
        ([GONE, MISSING_SECRET, exception(message="Error: JWT_SECRET is not set")], ALL),
        ([GONE, EXIT_1, OLD_NODE, exception()], []),
        # systemd has already restarted the service several times.
        ([GONE, EXIT_1, exception(), exits(3)], START),
        ([GONE, EXIT_1, exception(), exits(2)], []),
        # A person has changed the settings or the file since the last exit.
        ([GONE, EXIT_1, exception(), exits(3), {"start": {"changed_at": "2026-03-02T01:01:00.000Z"}}], []),
        ([GONE, EXIT_1, exception(changed_at="2026-03-02T01:01:00.000Z"), exits(3)], []),
        ([GONE, EXIT_1, exits(3), {"start": {"changed_at": "2026-03-02T01:01:00.000Z"}}], []),
        ([GONE, EXIT_1, exception(), exits(3), {"start": {"changed_at": "2026-01-31T00:00:00.000Z"}}], START),
        # The settings were changed before the last exit, but the last start still used the earlier settings.
        ([GONE, EXIT_1, exception(), exits(3), {"start": {"changed_at": "2026-03-02T00:59:00.000Z"}}], []),
        ([GONE, EXIT_1, exits(3)], START),
        # systemd has not restarted the service since the cause disappeared.
        (
            [
                GONE,
                EXIT_1,
                exception(message="Error: listen EADDRINUSE"),
                exits(3),
                signature("port_taken", "EADDRINUSE"),
            ],
            [],
        ),
        ([SILENT], []),
        ([GONE, IN_ORDER], []),
        ([GONE, {"unit": {"result": "signal", "exit_code": "killed", "exit_status": 9}}], []),
        ([GONE], []),
    ],
)
def test_a_rung_is_useless_only_if_it_cannot_help(changes, useless):
    found = [item.as_dict() for item in evaluate(*changes)]
    assert found
    of_rules = [f"{item['cause']} in {place_of_rule(item['cause'])}: {item['useless_rungs']}" for item in found]
    assert [rung for rung in ALL if any(rung in item["useless_rungs"] for item in found)] == useless, (
        f"The useless rungs must be {useless}. The rules return: {'; '.join(of_rules)}. The groups of rungs are in "
        "plugins/module_utils/_incident/ladder.py. If a rule must use another group, also change the case in this test"
    )
    assert all(item["rungs_help"] == (item["useless_rungs"] != ALL) for item in found)


def test_a_note_does_not_block_a_recovery():
    for _cause, changes, _words in CASES:
        for item in evaluate(*changes):
            assert item.confidence >= 0.5 or (item.rungs_help and not item.blocks_start), item


def test_a_deleted_file_frees_its_space_when_the_service_ends():
    held = {"process": {"processes": [{**HEALTHY["process"]["processes"][0], "deleted_files": []}]}}
    removed = held["process"]["processes"][0]["deleted_files"]
    removed += [{"path": "/srv/itsm/server.log.1", "size": 10**7}, {"path": "/srv/dead", "size": None}]
    found = evaluate(held, DATABASE_FULL)[0]
    assert (found.cause, found.useless_rungs) == ("disk_full", ())
    assert found.remedy.id == "remedy.disk_full.restart"
    # If the deleted file is too small or on another file system, a restart does not free enough space.
    for item in ({"path": "/var/log/server.log.1", "size": 10**7}, {"path": "/srv/itsm/server.log.1", "size": 10**3}):
        removed[:] = [item]
        assert not evaluate(held, DATABASE_FULL)[0].rungs_help


# Independent causes, each with facts from which triage identifies it.
INDEPENDENT = {
    "disk_full": DATABASE_FULL,
    "port_conflict": FOREIGN_PORT,
    "oom_kill": {"unit": {"result": "oom-kill", "exit_code": "killed"}},
    "tls_expired": {"certificate": EXPIRED},
    "db_corrupt": problem("corrupt", lost=True),
    "modules_broken": {"dependencies": {"ok": False, "missing": ["express"]}},
    "migration_pending": HELD,
    "config_mismatch": {"service": {"app_dir_exists": False}},
}


@pytest.mark.parametrize("one", INDEPENDENT)
@pytest.mark.parametrize("other", INDEPENDENT)
def test_both_of_two_faults_are_found(one, other):
    found = {item.cause for item in evaluate(GONE, INDEPENDENT[one], INDEPENDENT[other])}
    assert {one, other} <= found


def test_a_note_does_not_explain_a_kill():
    by_signal = {"unit": {"result": "signal", "exit_code": "killed", "exit_status": 9}}
    for note in ({"certificate": EXPIRED}, FULL_TMP, OTHER_DATABASE, HELD, holders(WRITER), MISSING_SECRET, OLD_NODE):
        found = evaluate(GONE, by_signal, note)
        assert (found[0].cause, found[0].explained_by) == ("killed", None), note
        assert len(found) == 2


def test_another_node_that_the_kernel_killed_is_not_the_service():
    text = "oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/system.slice/other.service,task=node,pid=41,uid=0"
    other = {**MEMCG_LINE, "text": text}
    found = evaluate(GONE, {"kernel": {"out_of_memory": [other, LIMIT_LINE]}})
    assert [item.cause for item in found] == ["unknown"]


def test_an_end_has_one_cause():
    assert [item.cause for item in evaluate(GONE, IN_ORDER, BY_TERM, exits(1))] == ["killed"]
    assert [item.cause for item in evaluate(GONE, IN_ORDER, BY_TERM, exits(1), STOPPING)] == ["stopped"]
    served = log("INFO GET / 200")
    assert [item.cause for item in evaluate(GONE, PROCESS, NO_PID_FILE, served)] == ["killed"]


def test_a_foreign_process_on_one_port_does_not_explain_a_hang_of_the_other():
    other = {"ports": [HEALTHY["ports"][0], {"port": 8080, "address": "::", "owners": [STRANGER]}]}
    found = {item.cause: item.explained_by for item in evaluate(SILENT, other)}
    assert found == {"port_conflict": None, "hung": None}


def test_requested_stops_are_not_crashes():
    stops = [{"at": f"2026-03-02T01:00:0{n}.000Z", "text": "Stopping itsm-system.service..."} for n in (0, 2, 4)]
    ends = [{"at": f"2026-03-02T01:00:0{n}.000Z", "text": "Main process exited, code=killed"} for n in (1, 3, 5)]
    assert [item.cause for item in evaluate(GONE, {"journal": {"stops": stops, "exits": ends}})] == ["unknown"]
    # An exit without a stop request is a crash.
    assert [item.cause for item in evaluate(GONE, {"journal": {"stops": stops[:1], "exits": [ends[0], *ends]}})] == [
        "crash_loop"
    ]


def test_a_port_that_answers_with_another_protocol_does_not_hang():
    alert = "[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error (_ssl.c:1000)"
    assert evaluate({"answer": {"https": {"answered": False, "error": alert}}}) == []
    late = "_ssl.c:1000: The handshake operation timed out"
    assert [item.cause for item in evaluate({"answer": {"https": {"answered": False, "error": late}}})] == ["hung"]


def test_a_module_missing_from_a_package_belongs_to_the_package():
    lines = [
        "Error: Cannot find module 'long-gone'",
        "GET / 200",
        "Error: Cannot find module './lib/router'",
        "Require stack:",
        "- /srv/itsm/node_modules/@scope/express/index.js",
    ]
    said = changed(signature("module_missing", lines[2]), {"log": {"lines": lines}})
    found = evaluate(GONE, UNASKED, said)[0]
    assert (found.cause, found.details["packages"]) == ("modules_broken", ["@scope/express"])


def details(cause, *changes):
    (found,) = [item for item in evaluate(*changes) if item.cause == cause]
    return found.as_dict()["details"]


def test_details_of_a_full_disk():
    entry = {**ROOM, "use": "database", "path": "/srv/itsm/backend", "size": 10**9, "available": 0}
    assert details("disk_full", {"disk": [entry, {**entry, "use": "log", "path": "/srv/log"}]}) == {
        "mounts": [
            {
                "mount": "/srv",
                "path": "/srv/itsm/backend",
                "what": "bytes",
                "available": 0,
                "size": 10**9,
                "inodes": 10**6,
                "inodes_available": 10**5,
                "wanted": 10**8,
            }
        ]
    }
    (mount,) = details("disk_full", NO_INODES)["mounts"]
    assert (mount["what"], mount["wanted"]) == ("inodes", 10000)
    # On a large disk, a smaller fraction of the disk size has to be freed.
    (mount,) = details("disk_full", {"disk": [{**entry, "size": 10**12, "available": 2**20}]})["mounts"]
    assert mount["wanted"] == 2**30 - 2**20


def test_details_of_a_taken_port():
    own = {**NODE, "port": 6443}
    assert details("port_conflict", GONE, FOREIGN_PORT) == {"processes": [{**STRANGER, "port": 6443}]}
    assert details("port_conflict", OWN_PORT) == {"processes": [own]}
    (unseen,) = details("port_conflict", GONE, {"ports": [{"port": 6443, "address": "::", "owners": []}]})["processes"]
    assert unseen == {**dict.fromkeys(STRANGER), "port": 6443, "ours": False}


def test_a_foreign_process_is_named_by_its_program_and_the_rest_is_evidence():
    for exe, command, name in (
        ("/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx -g daemon off;", "nginx"),
        (None, "/usr/bin/python3 -m http.server 6443", "python3"),
        (None, "", "unknown program"),
    ):
        owner = {**STRANGER, "exe": exe, "command": command}
        found = evaluate(GONE, {"ports": [{"port": 6443, "address": "::", "owners": [owner]}]})[0]
        assert (
            messages.english(found.summary)
            == f"Port 6443 is taken by process 666 of user www-data ({name}), which is not the service"
        )
        assert command in found.evidence[0]["text"]


AGE = message("reason.age.hours", number="3")
LOCKED_BY = {"pid": 7, "command": "/opt/a+b/report x.py", "user": "alice"}


@pytest.mark.parametrize(
    "facts",
    [
        holders({**WRITER, **LOCKED_BY, "age": 10800.0, "blocks_for": 0.5}),
        reported(
            "db_locked",
            message("finding.db_locked.blocks_all", seconds="2.1", age=AGE, **LOCKED_BY),
        ),
    ],
)
def test_a_lock_is_reported_with_the_process_and_the_way_to_end_it(facts):
    found = next(item for item in evaluate(facts) if item.cause == "db_locked")
    summary, remedy = messages.english(found.summary), messages.english(found.remedy)
    assert "process 7 (/opt/a+b/report x.py, user alice, age 3 hours)" in summary.lower() and "for at least" in summary
    assert "as root: kill 7." in remedy
    (policy,) = json.loads(re.search(r"remediation_stop_policy, for example to (.*)$", remedy).group(1))
    # The policy must match the complete command line, as process_stop does.
    assert policy["user"] == "alice" and re.fullmatch(policy["command"], "/opt/a+b/report x.py --all")
    assert not re.fullmatch(policy["command"], "/opt/aab/report x.py --all")


def test_the_policy_for_a_lock_matches_a_command_line_with_a_masked_secret():
    masked = "psql --password=[redacted] itsm"
    facts = holders({**WRITER, **LOCKED_BY, "command": masked, "age": 10800.0, "blocks_for": 0.5})
    found = next(item for item in evaluate(facts) if item.cause == "db_locked")
    (policy,) = json.loads(re.search(r"for example to (.*)$", messages.english(found.remedy)).group(1))
    assert re.fullmatch(policy["command"], "psql --password=geheim itsm --all")


def test_the_way_to_end_a_lock_names_no_process_that_must_not_be_ended():
    hidden = {**WRITER, "pid": 0, "command": "hidden", "user": None, "blocks_for": 0.5}
    service = reported("db_locked", message("finding.db_locked.by_service", pid=100, seconds="2.1"))
    unseen = reported("db_locked", message("finding.db_locked.unseen", seconds="2.1"))
    for facts in (holders(hidden), service, unseen):
        found = next(item for item in evaluate(facts) if item.cause == "db_locked")
        assert "kill" not in messages.english(found.remedy)


def test_details_of_a_locked_database():
    reader = {**WRITER, "pid": 8, "role": "reader"}
    (holder,) = details("db_locked", SILENT, holders(WRITER, reader))["holders"]
    assert holder == {**WRITER, "exe": None}
    (stale,) = details("db_locked", SILENT, STALE_WRITER)["holders"]
    assert (stale["pid"], stale["start_ticks"], stale["ours"]) == (90, 5000, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([{"certificate": EXPIRED}], "expired"),
        ([{"certificate": {"not_yet_valid": True}}], "not_yet_valid"),
        ([{"answer": {"https": {"certificate": EXPIRED}}}], "served_expired"),
        # The certificate file could not be read, so it is unknown whether the file is newer than the served
        # certificate.
        ([{"answer": {"https": {"certificate": EXPIRED}}}, {"certificate": {"error": "timed out"}}], "expired"),
        ([FALLEN_BACK, {"certificate": {"exists": False}}], "missing"),
        ([FALLEN_BACK, {"certificate": {"readable_by_service": False}}], "unreadable"),
        ([FALLEN_BACK, {"certificate": {"key": {"exists": False}}}], "key_missing"),
        ([FALLEN_BACK, {"certificate": {"key": {"readable": False}}}], "key_unreadable"),
        ([FALLEN_BACK, {"certificate": {**EXPIRED, **WRONG_KEY}}], "key_mismatch"),
        ([FALLEN_BACK], "not_served"),
    ],
)
def test_details_of_a_certificate(changes, reason):
    told = details("tls_expired", *changes)
    assert told["reason"] == reason
    assert (told["path"], told["key_path"]) in (("/srv/itsm/server.crt", "/srv/itsm/server.key"), (None, None))
    assert told["not_after"] == (EXPIRED if "expired" in reason else HEALTHY["certificate"])["not_after"] or (
        reason == "key_mismatch"
    )


def test_details_of_memory_that_ran_out():
    killed = {"kernel": {"out_of_memory": [{**OOM_LINE, "text": OOM_LINE["text"] + ", anon-rss:4194304kB"}]}}
    told = details("oom_kill", GONE, killed)
    assert told["measured"]["peak"] == 2**32
    # The proposed limit is only a share of the available memory, because other processes need memory too. Most of this
    # share is assigned to the heap.
    assert told["proposal"] == {"memory_max": 72 * 10**8, "max_old_space_size": int(72 * 10**8 * 0.75) >> 20}
    assert details("oom_kill", GONE, killed, {"memory": {"available": 10**8}})["proposal"]["memory_max"] is None
    # A limit is raised only if it was reached.
    told = details("oom_kill", GONE, killed, {"unit": {"memory_max": 2**32}})
    assert told["proposal"] == {"memory_max": 2**32, "max_old_space_size": 3072}
    limited = {"kernel": {"out_of_memory": [MEMCG_LINE, LIMIT_LINE]}}
    told = details("oom_kill", GONE, limited, {"unit": {"memory_max": 2**28}})
    assert told["measured"] == {
        "total": 10**10,
        "available": 8 * 10**9,
        "swap_free": None,
        "memory_max": 2**28,
        "peak": 3 * 10**8,
        "heap": None,
        "max_old_space_size": None,
    }
    assert told["proposal"] == {"memory_max": 3 * 2**27, "max_old_space_size": 288}
    # If the host has no spare memory, the heap limit remains below the available memory.
    small = {"memory": {"total": 2**28, "available": 2**27}}
    told = details("oom_kill", GONE, limited, {"unit": {"memory_max": 2**28}}, small)
    assert told["proposal"] == {"memory_max": None, "max_old_space_size": 192}


def test_details_of_a_full_heap():
    said = changed(
        signature("heap_oom", "FATAL ERROR: Reached heap limit"),
        log("[7:0x1]  9 ms: Mark-Compact 1024.3 (1083.1) -> 1023.4 (1083.1) MB, pooled: 0 MB"),
    )
    told = details("heap_oom", GONE, said)
    assert (told["measured"]["heap"], told["proposal"]) == (2**30, {"memory_max": None, "max_old_space_size": 1536})
    told = details("heap_oom", GONE, said, {"unit": {"memory_max": 2**30}})
    assert told["proposal"]["max_old_space_size"] is None


def test_details_of_the_rest():
    # The log line about the missing package may be from an earlier start. Therefore, the result of the current check is
    # used.
    unloadable = {"dependencies": {"ok": False, "unloadable": ["better-sqlite3"]}}
    assert details("modules_broken", GONE, MISSING_EXPRESS, unloadable) == {
        "packages": ["better-sqlite3"],
        "reason": "unloadable",
    }
    nothing = {"node": {"modules_exist": False}, "dependencies": {"ok": False, "missing": ["express", "node_modules"]}}
    assert details("modules_broken", GONE, nothing) == {"packages": ["express"], "reason": "missing"}
    assert details("migration_pending", GONE, NO_TABLE, PENDING) == {
        "pending": ["20260302_changes.js"],
        "lock_held": False,
    }
    assert details("migration_pending", GONE, HELD)["lock_held"] is True
    # A running migration is not stopped.
    running = {"migrations": {"migrators": [{"pid": 9, "command": "knex"}]}}
    assert details("migration_pending", GONE, HELD, PENDING, running) == {"pending": [], "lock_held": False}
    assert details("unhandled_exception", GONE, exception(), exits(2)) == {
        "falls": 2,
        "exception": "Error: boom",
        "file": None,
        "line": None,
    }
    assert details("crash_loop", GONE, exception(), exits(3)) == {"falls": 3, "exception": "Error: boom"}
    assert details("config_mismatch", OTHER_DATABASE) == {
        "items": [{"what": "database", "configured": "/srv/itsm/backend/itsm.db", "effective": "/srv/other.db"}]
    }
    assert details("stopped", GONE, IN_ORDER, STOPPING) == {"by_operator": True, "at": "2026-03-02T00:59:59.000Z"}
    assert details("stopped", GONE, IN_ORDER)["by_operator"] is False
    assert details("stopped", GONE, IN_ORDER, BLIND)["by_operator"] is None


def test_an_already_renewed_certificate_only_needs_a_restart():
    assert evaluate({"answer": {"https": {"certificate": EXPIRED}}})[0].remedy.id == "remedy.tls_expired.restart"
    assert evaluate(FALLEN_BACK)[0].remedy.id == "remedy.tls_expired.restart"
    assert evaluate({"certificate": EXPIRED})[0].remedy.id == "remedy.tls_expired.renew"


def test_damage_is_reported_once():
    found = evaluate(GONE, problem("corrupt", lost=True))[0]
    assert found.summary == message(
        "finding.db_corrupt.unsound",
        path="/srv/itsm/backend/itsm.db",
        reasons=[message("reason.database.corrupt")],
    )
    assert [item["text"] for item in found.evidence] == ["corrupt: It is corrupt."]


def test_pressure_explains_a_hang():
    pressure = {"io": {"some": {"avg10": 99.0}, "full": {"avg10": 80.5}}, "cpu": None, "memory": {"full": {"avg10": 1}}}
    said = [item["text"] for item in evaluate(SILENT, {"memory": {"pressure": pressure}})[0].evidence]
    assert [text for text in said if "waited for" in text] == ["all processes waited for io 80.5 % of the time"]


# The facts for each cause. In PAST, the cause is gone. In PRESENT, the cause still exists.
PAST = {
    "disk_full": [signature("disk_full", "ENOSPC: no space left on device")],
    "port_conflict": [signature("port_taken", "listen EADDRINUSE :::6443")],
    "db_locked": [signature("db_locked", "SQLITE_BUSY: database is locked")],
    "modules_broken": [MISSING_EXPRESS],
    "migration_pending": [LOCKED],
    "exec_failed": [EXIT_203, {"start": {"changed_at": "2026-03-02T01:01:00.000Z"}}],
    "syntax_error": [
        {"unit": {"exited_at": NOW}},
        {"journal": syntax_error(parses=True, changed_at="2026-03-02T01:01:00.000Z")["log"]},
    ],
}
PRESENT = {
    "killed": [BY_KILL],
    "unhandled_exception": [EXIT_1, exception()],
    "database_owner": [OWNED_BY_ROOT],
    "environment_missing": [NO_ENVIRONMENT],
    "unit_masked": [MASKED],
    "tls_expired": [{"certificate": WRONG_KEY}, {"journal": signature("tls", "key values mismatch")["log"]}],
    "config_mismatch": [{"service": {"app_dir_exists": False}}],
}


@pytest.mark.parametrize("past", PAST)
@pytest.mark.parametrize("present", PRESENT)
def test_an_ended_cause_ranks_below_a_present_one(past, present):
    found = evaluate(GONE, *PAST[past], *PRESENT[present])
    order = [item.cause for item in found if item.confidence >= 0.5]
    assert order[0] == present
    # The past cause may be missing from the findings, because other facts can contradict its log line.
    assert past not in order or {item.cause: item.past for item in found}[past]
    assert {item.cause: item.past for item in found}[present] is False


@pytest.mark.parametrize("past", PAST)
def test_an_ended_cause_is_reported_as_ended(past):
    assert [item.past for item in evaluate(GONE, *PAST[past]) if item.cause == past] == [True]


def test_a_past_cause_explains_only_an_error_that_names_it():
    for text, explained in (("Error: listen EADDRINUSE :::6443", "port_conflict"), ("Error: boom", None)):
        found = evaluate(GONE, EXIT_1, exits(3), *PAST["port_conflict"], exception(message=text))
        assert {item.cause: item.explained_by for item in found}["unhandled_exception"] == explained
        assert (found[0].cause == "port_conflict") == bool(explained)


def test_a_missing_environment_file_is_not_a_separate_mismatch():
    told = [
        {"variable": "nexus_environment_file", "value": "/etc/itsm/itsm.env", "message": "nexus_environment_file is"}
    ]
    problems = ["Cannot read the environment file /etc/itsm/itsm.env: No such file or directory"]
    found = evaluate(GONE, NO_ENVIRONMENT, {"settings": told, "environment": {"problems": problems}})
    assert found[0].cause == "environment_missing"
    assert "nexus_environment_file" in [item["source"] for item in found[0].evidence]
    assert [item.explained_by for item in found if item.cause == "config_mismatch"] in ([], ["environment_missing"])


def test_an_invalid_setting_keeps_its_message_in_the_finding():
    why = message("reason.setting.no_folder")
    told = message("reason.setting.is", variable="nexus_app_dir", value="'x'", why=why)
    item = {"variable": "nexus_app_dir", "value": "x", "message": service_messages.english(told)}
    plain, with_message = (
        next(found for found in evaluate(GONE, {"settings": [each]}) if found.cause == "config_mismatch").summary
        for each in (item, {**item, "messages": {"message": told.to_dict()}})
    )
    for summary in (plain, with_message):
        assert messages.english(summary).endswith(f": {messages.english(why)}")
    assert with_message.values["mismatch"] == message("reason.mismatch.setting", value="'x'", why=why)


@pytest.mark.parametrize(("bug", "found"), [(True, ["db_corrupt", "wal_reset_bug"]), (False, ["db_corrupt"])])
def test_a_known_bug_of_sqlite_is_noted_if_the_database_is_damaged(bug, found):
    library = {"wal_reset_bug": bug, "sqlite_version": "3.44.2"}
    damage = [{"code": "corrupt", "message": "page 3 is damaged", "level": "error"}]
    assert [each.cause for each in evaluate({"database": {"problems": damage, "database": library}})] == found
    assert evaluate({"database": {"database": library}}) == []


@pytest.mark.parametrize(
    ("state", "last_at", "found"),
    [
        (FALLEN_BACK, "2026-01-31T23:59:59.000Z", False),  # Before the start of the running process.
        (FALLEN_BACK, "2026-02-01T00:00:01.000Z", True),
        (FALLEN_BACK, None, True),
        (GONE, "2026-01-31T23:59:59.000Z", True),
    ],
)
def test_old_log_lines_about_damage_do_not_count_if_a_later_process_uses_a_sound_database(state, last_at, found):
    said = {"log": {"signatures": {"db_corrupt": {"count": 2, "text": "SQLITE_CORRUPT", "last_at": last_at}}}}
    causes = [each.cause for each in evaluate(state, said)]
    assert ("db_corrupt" in causes) is found
    damaged = [each.cause for each in evaluate(state, said, problem("corrupt"))]
    assert "db_corrupt" in damaged


RECOVERED = {
    "database": {
        "recovered_at": "2026-02-01T00:00:00.000Z",
        "checks": {"quick": "ok", "integrity": "ok", "row_counts": "ok"},
    },
}
OLDER, NEWER = "2026-01-31T23:59:59.000Z", "2026-02-01T00:00:00.000Z"


def logged(place, none_after):
    text = {"count": 2, "text": "SQLITE_CORRUPT", "at": OLDER, "last_at": OLDER, "none_after": none_after}
    return {place: {"signatures": {"db_corrupt": text}}}


@pytest.mark.parametrize(
    ("changes", "blocks", "full"),
    [
        # The errors are older than the file, and the whole file is intact.
        ([logged("log", OLDER)], False, False),
        ([logged("journal", OLDER)], False, False),
        ([logged("log", OLDER), logged("journal", OLDER)], False, False),
        ([], False, False),
        # An error may be about this file.
        ([logged("log", NEWER)], True, False),
        ([logged("log", None)], True, False),
        ([logged("log", OLDER), logged("journal", NEWER)], True, False),
        ([logged("log", NEWER), logged("journal", OLDER)], True, False),
        # It is unknown when the current file replaced the earlier one.
        ([logged("log", OLDER), {"database": {"recovered_at": ""}}], True, False),
        # The file is damaged, or was not checked completely.
        ([logged("log", OLDER), {"database": {"checks": {"integrity": "skipped: time budget"}}}], True, True),
        ([logged("log", OLDER), {"database": {"checks": {"integrity": None}}}], True, True),
        ([logged("log", NEWER), {"database": {"checks": {"integrity": None}}}], True, False),
        (
            [logged("log", OLDER), {"database": {"checks": {"integrity": "3 problems"}}}, problem("corrupt")],
            True,
            False,
        ),
        ([logged("log", OLDER), {"database": {"checks": {"row_counts": None}}}], True, True),
        ([logged("log", OLDER), {"database": {"conclusive": False}}], True, False),
        # There is another reason not to start the service.
        ([logged("log", OLDER), {"database": {"data_loss_suspected": True}}], True, False),
        (
            [logged("log", OLDER), {"database": {"checks": {"integrity": None}, "data_loss_suspected": True}}],
            True,
            False,
        ),
        ([logged("log", OLDER), {"hold": {"replaced": True}}], True, False),
        ([logged("log", OLDER), {"hold": {"rows_collapsed": True, "rows_missing": {"users": [9, 1]}}}], True, False),
    ],
)
def test_errors_about_damage_that_are_older_than_a_recovered_sound_file_do_not_count(changes, blocks, full):
    facts = facts_of(GONE, RECOVERED, *changes)
    found = table.evaluate(facts)
    assert ("db_corrupt" in [each.cause for each in found]) is blocks
    assert any(each.blocks_start for each in found) is blocks
    assert database_causes.needs_full_check(Facts.of(facts)) is full


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([RECOVERED, logged("log", NEWER)], True),
        ([RECOVERED, logged("log", None), problem("corrupt")], True),
        ([logged("log", OLDER)], False),
        ([RECOVERED, problem("corrupt")], False),
    ],
)
def test_the_evidence_names_the_time_of_the_recovery_next_to_errors_about_damage(changes, named):
    (finding,) = [each for each in evaluate(GONE, *changes) if each.cause == "db_corrupt"]
    texts = [item["text"] for item in finding.as_dict()["evidence"]]
    assert ("a database recovery put this file in place after 2026-02-01T00:00:00.000Z" in texts) is named
