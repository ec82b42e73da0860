#!/usr/bin/python3
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Usage: observe.py [DATABASE]. Prints the state of a drill service, or the row counts in DATABASE, as JSON.

The drills compare the recovery reports with this output, so this program shares no code with the collection. The
sqlite3 shell counts the rows in a copy, systemctl shows the unit state, and /proc shows the processes.
"""

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import tempfile

from profile_names import NAMES

# If the service has release folders, the database is outside these folders.
SHARED_DATABASE = os.path.join(os.path.dirname(NAMES["app"]), "shared", os.path.basename(NAMES["database"]))
DATABASE = SHARED_DATABASE if os.path.exists(SHARED_DATABASE) else NAMES["database"]
# The environment file and the log may be in the application folder. If the output goes to the journal, there is no log
# file.
FOLDERS = [os.path.dirname(NAMES[name]) for name in ("environment", "log") if NAMES[name]]
OUTSIDE = [folder for folder in FOLDERS if not folder.startswith(NAMES["app"])]
WATCHED = (NAMES["app"], *OUTSIDE, "/etc/systemd/system", "/var/lib")
# The journal, logins and timers change these files, but the recovery does not.
UNWATCHED = ("/var/lib/systemd", "/var/lib/sudo", "/var/lib/dpkg", "/var/lib/apt")


def output(*command):
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def rows(database, *, with_wal):
    """Copy `database` and return the row counts by table, or None if the sqlite3 shell rejects the copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy.db")
        try:
            shutil.copy(database, copy)
        except FileNotFoundError:
            return None
        if with_wal:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{database}-wal", f"{copy}-wal")
        if output("sqlite3", copy, "PRAGMA integrity_check") != "ok":
            return None
        tables = output(
            "sqlite3", copy, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        count = 'SELECT count(*) FROM "{}"'
        return {table: int(output("sqlite3", copy, count.format(table))) for table in tables.split()}


def node_options(pid):
    with open(f"/proc/{pid}/environ", "rb") as stream:
        variables = dict(item.split("=", 1) for item in stream.read().decode().split("\0") if "=" in item)
    return variables.get("NODE_OPTIONS", "")


def processes():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                argv = stream.read().decode().split("\0")[:-1]
            if not argv or os.path.basename(argv[0]) != "node" or argv[1:] != ["backend/server.js"]:
                continue
            with open(f"/proc/{pid}/stat") as stream:
                fields = stream.read().rpartition(")")[2].split()
            found.append(
                {
                    "pid": int(pid),
                    "state": fields[0],
                    "start_ticks": int(fields[19]),
                    "user": pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name,
                    "cwd": os.readlink(f"/proc/{pid}/cwd"),
                    "node_options": node_options(pid),
                }
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sorted(found, key=lambda process: process["pid"])


def entry_of(path):
    status = os.lstat(path)
    entry = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            entry += [status.st_size, hashlib.sha256(stream.read()).hexdigest()]
    return entry


def files():
    found = {}
    for top in WATCHED:
        for folder, names, leaves in os.walk(top):
            names[:] = [name for name in names if os.path.join(folder, name) not in UNWATCHED]
            for name in leaves + names:
                path = os.path.join(folder, name)
                with contextlib.suppress(FileNotFoundError):  # The file was removed in the meantime.
                    found[path] = entry_of(path)
    return found


def unit():
    names = "ActiveState,SubState,MainPID,NRestarts,ActiveEnterTimestampMonotonic,UnitFileState"
    return dict(line.split("=", 1) for line in output("systemctl", "show", "-p", names, NAMES["unit"]).splitlines())


def unit_with_processes():
    """Return a consistent snapshot of the unit and the service processes, even while systemd restarts the unit."""
    while True:
        before, found = unit(), processes()
        if unit() == before:
            return {"processes": found, "unit": before}


def ports():
    """Return the service ports that accept connections."""
    found = []
    for port in (6443, int(NAMES["http_port"])):
        with socket.socket() as client:
            client.settimeout(2)
            if client.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


def everything():
    return {
        "rows": rows(DATABASE, with_wal=True),
        "rows_without_wal": rows(DATABASE, with_wal=False),
        **unit_with_processes(),
        "ports": ports(),
        "files": files(),
    }


print(json.dumps(rows(sys.argv[1], with_wal=False) if sys.argv[1:] else everything()))
