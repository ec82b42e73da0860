# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service answers on its health endpoint, but has a problem that this endpoint does not report.

No run restarts anything.

With DRILL_THOROUGH (make nightly), the drill tests more problems, and checks the busy but healthy host 50 times.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

import outside
import pytest
import runs
from drills import RUNBOOK, Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
BUSY_RUNS = 50 if THOROUGH else 3
APP = RUNBOOK.app
DATABASE = RUNBOOK.database
CERTIFICATE = f"/opt/drill/service/certificate {APP}/backend/ssl"
HOOK = "/opt/hook.js"
NOT_READY = "require('os').freemem = () => 0;"
SLOW = """for (const {Server} of [require('http'), require('https')]) {
  const emit = Server.prototype.emit;
  Server.prototype.emit = function (name, ...rest) {
    if (name !== 'request') return emit.call(this, name, ...rest);
    setTimeout(() => emit.call(this, name, ...rest), 1500);
    return true;
  };
}"""


@pytest.fixture(scope="module", autouse=True)
def room(drill: Drill) -> None:
    """Give the application its own small file system."""
    drill.host.check_output("/opt/drill/bin/fill-disk --room 100")
    start(drill)


def start(drill: Drill) -> None:
    """Start the service as a person would, and wait until it answers."""
    drill.host.check_output(f"systemctl reset-failed {RUNBOOK.unit}; systemctl restart {RUNBOOK.unit}")
    runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")


def process(drill: Drill) -> dict[str, Any]:
    return outside.show(drill, "MainPID", "NRestarts", "ActiveState", "ActiveEnterTimestampMonotonic")


def notifications(drill: Drill) -> str:
    path = drill.output / "sent-to-project_leader"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_a_busy_healthy_host_is_never_degraded(drill: Drill) -> None:
    drill.host.check_output("/opt/drill/bin/make-busy start")
    try:
        for number in range(BUSY_RUNS):
            name = f"busy-{number}"
            run = runs.Run(drill, name, playbook="outage_detect")
            # The log is rotated while the check runs.
            drill.host.check_output(f"mv {RUNBOOK.log} {RUNBOOK.log}.1 && touch {RUNBOOK.log}")
            assert run.wait() == 0, drill.screen(name)
    finally:
        drill.host.check_output("/opt/drill/bin/make-busy stop")
    assert runs.open_incident(drill) is None


def with_hook(program: str) -> tuple[Callable[[Drill], None], Callable[[Drill], None]]:
    def install(drill: Drill) -> None:
        drill.host.check_output(f"cat > {HOOK} << 'END'\n{program}\nEND")
        drill.host.check_output(f"echo NODE_OPTIONS=--require={HOOK} >> {RUNBOOK.environment}")
        start(drill)

    def remove(drill: Drill) -> None:
        drill.host.check_output(f"sed -i /NODE_OPTIONS/d {RUNBOOK.environment}")
        start(drill)

    return install, remove


def command(line: str, *, restart: bool = False) -> Callable[[Drill], None]:
    def act(drill: Drill) -> None:
        drill.host.check_output(line)
        if restart:
            start(drill)

    return act


DROPIN = f"/run/systemd/system/{RUNBOOK.unit}.service.d/limit.conf"
# This program sends no data. It opens connections until the service can open only three more files.
CONNECTIONS = """
import os, socket, sys, time
open_files = len(os.listdir(f'/proc/{sys.argv[1]}/fd'))
held = [socket.create_connection(('localhost', int(sys.argv[2]))) for number in range(61 - open_files)]
time.sleep(600)
"""


def use_files(drill: Drill) -> None:
    drill.host.check_output(
        f"mkdir -p $(dirname {DROPIN}) && printf '[Service]\nLimitNOFILE=64\n' > {DROPIN} && systemctl daemon-reload"
    )
    start(drill)
    pid = process(drill)["MainPID"]
    program = f'/usr/bin/python3 -c "{CONNECTIONS}" {pid} {RUNBOOK.http_port}'
    drill.host.check_output(f"systemd-run --quiet --unit=connections {program}")
    runs.wait_for(
        lambda: int(drill.host.check_output(f"ls /proc/{pid}/fd | wc -l")) >= 60, "the service has many files open"
    )


def free_files(drill: Drill) -> None:
    drill.host.check_output(f"systemctl stop connections; rm {DROPIN}; systemctl daemon-reload")
    start(drill)


CASES: dict[str, tuple[str, tuple[Callable[[Drill], None], Callable[[Drill], None]]]] = {
    "write lock": (
        "db_locked",
        (
            command(
                f"systemd-run --quiet --unit=report --uid={RUNBOOK.user}"
                f" /usr/bin/python3 /opt/drill/bin/hold-lock {DATABASE}"
            ),
            command("systemctl stop report"),
        ),
    ),
    "expired certificate": (
        "tls_expired",
        (
            command(f"{CERTIFICATE} '32 days ago' '2 days ago'", restart=True),
            command(f"{CERTIFICATE}", restart=True),
        ),
    ),
    "failing ready endpoint": ("not_ready", with_hook(NOT_READY)),
    "slow answers": ("slow", with_hook(SLOW)),
    "descriptors near the limit": ("too_many_files", (use_files, free_files)),
    "no inodes": (
        "disk_full",
        (
            command(f"mount -o remount,nr_inodes=$(($(df --output=iused {APP} | tail -1))) {APP}"),
            command(f"mount -o remount,nr_inodes=1000000 {APP}"),
        ),
    ),
    "disk at 96 % and growing": (
        "disk_filling",
        (
            command(f"head -c $(($(df --output=avail -B1 {APP} | tail -1) * 96 / 100)) /dev/zero > {APP}/uploads.bin"),
            command(f"rm {APP}/uploads.bin"),
        ),
    ),
}


# Each of these cases reports a problem in the same way as another case.
LONG_CASES = ("slow answers", "no inodes")


@pytest.mark.parametrize("case", [case for case in CASES if THOROUGH or case not in LONG_CASES])
def test_the_problem_is_reported_and_nothing_is_restarted(drill: Drill, case: str) -> None:
    cause, (break_it, repair) = CASES[case]
    name = re.sub(r"\W+", "-", case)
    outside.forget_restarts(drill)
    break_it(drill)
    try:
        assert_degraded(drill, name, cause)
    finally:
        repair(drill)
    resolved = notifications(drill).count("RESOLVED:")
    assert runs.run(drill, f"{name}-gone") == 0, drill.screen(f"{name}-gone")
    assert runs.open_incident(drill) is None
    assert notifications(drill).count("RESOLVED:") == resolved + 1


def assert_degraded(drill: Drill, name: str, cause: str) -> None:
    before, told_before = process(drill), notifications(drill).count("DEGRADED:")
    began = time.monotonic()
    assert runs.run(drill, name) == 2, drill.screen(name)
    print(f"run: {name} {time.monotonic() - began:.1f} s")
    told = drill.postmortem(name)
    assert (told["outcome"], told["severity"], told["cause"]) == ("degraded", "degraded", cause), told["findings"]
    assert told["rungs_tried"] == []
    assert "DEGRADED, the service answers" in drill.screen(name)
    assert process(drill) == before
    # The run reports the same problem again, but does not notify the contacts again.
    assert runs.run(drill, f"{name}-again") == 2
    assert drill.postmortem(f"{name}-again")["incident"] == told["incident"]
    assert notifications(drill).count("DEGRADED:") == told_before + 1
    assert process(drill) == before


def test_a_damaged_page_is_reported_and_the_service_keeps_running(drill: Drill) -> None:
    drill.host.check_output("/opt/drill/bin/damage-database --rows 300 incidents 3")
    assert_degraded(drill, "damaged", "db_corrupt")
    # The service has the database open, so a copy would be inconsistent. The notification must mention this problem.
    assert "The database files are NOT COPIED yet: Refusing to copy the files of " in notifications(drill)
    drill.assert_serves()
