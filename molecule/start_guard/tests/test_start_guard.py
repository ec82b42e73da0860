# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start guard and the restart recorder work on a host with the settings of the real unit.

No playbook runs during the rounds: only systemd restarts the service. With DRILL_THOROUGH (make nightly), the drill
uses the delays of the real unit, runs 100 rounds with the guard and 100 without, and records 100 process exits.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import runs
from drills import STATE_DIR, Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
ROUNDS = 100 if THOROUGH else 6
ENDS = 100 if THOROUGH else 14
PAIRS = 15 if THOROUGH else 5
# With the real delays, each round takes 13 seconds.
SHORTER = "" if THOROUGH else "[Service]\nRestartSec=1\nExecStartPre=\n"
TEST_UNIT = """[Service]
User={user}
ExecStart=/bin/sh /run/ends-test
StandardOutput=append:{log}
"""
CRASH_LOOP = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=4\n[Service]\nRestart=always\nRestartSec=100ms\n"
# A file that only root can read.
CANARY = "/etc/drill-canary"
BOUND_MEMORY = Path(__file__).resolve().parents[2] / "shared" / "bound-memory"


def guard(drill: Drill, state: str, name: str, *arguments: str) -> int:
    return runs.run(drill, name, "-e", f"outage_guard_state={state}", *arguments, playbook="outage_guard")


def output(drill: Drill, command: str) -> Any:
    return json.loads(drill.host.check_output(command))


def measured(drill: Drill, name: str, command: str) -> Any:
    """Run a command that prints measurements.

    Save the figures as NAME.json in the drill folder, and return the figures.
    """
    figures = output(drill, command)
    (drill.output / f"{name}.json").write_text(json.dumps(figures), encoding="utf-8")
    return figures


def ends(drill: Drill, unit: str) -> list[dict[str, Any]]:
    folder = f"{STATE_DIR}/ends/{unit}"
    names = drill.host.check_output(f"ls {folder}").split()
    found = [f"{folder}/{name}" for name in names if name.startswith("end-")]
    return [json.loads(drill.host.check_output(f"cat {path}")) for path in found]


def refused(drill: Drill) -> int:
    """Return the number of starts that the guard has refused since the last run."""
    found = drill.host.run(f"cat {STATE_DIR}/refusal-{drill.service.unit}.json")
    return json.loads(found.stdout)["times"] if found.rc == 0 else 0


def everything(drill: Drill) -> str:
    """Return all files that the role could have changed, with their modes and owners."""
    folders = "/etc /usr/local /var/lib /run/itsm-nexus-guard /run/systemd/transient"
    ignored = "-path /var/lib/itsm-runbook/ends -prune -o -path /var/lib/systemd -prune"
    return drill.host.check_output(
        f"find {folders} {ignored} -o -not -name last_healthy -printf '%p %M %u\\n' 2>/dev/null | sort"
    )


def wait_until_it_answers(drill: Drill) -> None:
    """Wait for the service.

    If the service does not answer, the error message includes the unit status, the last log lines and the guard's
    refusal.
    """
    unit = drill.service.unit
    try:
        runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")
    except AssertionError as error:
        shown = drill.host.run(
            f"systemctl status --no-pager --lines=30 {unit}; cat {STATE_DIR}/refusal-{unit}.json; "
            f"cut --delimiter== --fields=1 {drill.service.environment}"
        )
        raise AssertionError(f"{error}\n{shown.stdout}{shown.stderr}") from None


@pytest.fixture(scope="module")
def before(drill: Drill) -> str:
    assert runs.run(drill, "first", playbook="outage_detect") == 0
    return everything(drill)


@pytest.fixture(scope="module")
def installed(drill: Drill, before: str) -> str:
    assert guard(drill, "present", "install") == 0, drill.screen("install")
    drill.host.check_output(
        f"mkdir -p /run/systemd/system/{drill.service.unit}.service.d && "
        f"printf '{SHORTER}' > /run/systemd/system/{drill.service.unit}.service.d/shorter.conf && "
        f"systemctl daemon-reload && systemctl restart {drill.service.unit}"
    )
    return before


def test_a_second_installation_changes_nothing(drill: Drill, installed: str) -> None:
    assert guard(drill, "present", "again") == 0
    assert drill.recap("again")["changed"] == 0
    assert guard(drill, "shown", "shown") == 0
    assert "is installed and would allow a start" in drill.screen("shown")


def test_no_row_is_lost_and_no_sound_database_is_refused(drill: Drill, installed: str) -> None:
    counts = measured(drill, "rounds-with-guard", f"/opt/drill/bin/guard-rounds {ROUNDS} 1")
    assert counts["wrong"] == []
    assert [counts[name] for name in ("lost", "started_doubtful", "refused_sound", "changed_files")] == [0, 0, 0, 0]
    assert counts["rounds"] == ROUNDS
    dropin = f"/etc/systemd/system/{drill.service.unit}.service.d/50-itsm-nexus-start-guard.conf"
    drill.host.check_output(f"mv {dropin} /root/ && systemctl daemon-reload")
    without = measured(drill, "rounds-without-guard", f"/opt/drill/bin/guard-rounds {ROUNDS} 1")
    drill.host.check_output(f"mv /root/{dropin.rpartition('/')[2]} {dropin} && systemctl daemon-reload")
    assert without["refused"] == 0
    assert without["doubtful"] == 0 or without["started_doubtful"] > 0


def test_a_wal_deleted_just_after_a_stop_is_refused(drill: Drill, installed: str) -> None:
    unit, database = drill.service.unit, drill.service.database
    wait_until_it_answers(drill)
    # A checkpoint changes the database. The state recorded when the service stopped is then no longer valid. Only the
    # WAL contains the new row, because the service does not checkpoint the WAL when it stops.
    checkpoint = (
        f"import sqlite3; print(sqlite3.connect('{database}').execute('PRAGMA wal_checkpoint(FULL)').fetchone())"
    )
    assert drill.host.check_output(f'python3 -c "{checkpoint}"').startswith("(0, ")
    drill.host.check_output(
        'curl --silent --fail --insecure --json \'{"title": "after the checkpoint"}\' '
        "https://localhost:6443/api/v1/incidents"
    )
    drill.host.check_output(
        f"rm -f {STATE_DIR}/refusal-*; systemctl stop {unit}; mv {database}-wal /root/; systemctl start {unit}; "
        "test -s /root/*-wal"
    )
    assert refused(drill) == 1
    assert output(drill, f"cat {STATE_DIR}/refusal-{unit}.json")["code"] == "wal_missing"
    drill.host.check_output(f"mv /root/*-wal {database}-wal && systemctl start {unit}")
    wait_until_it_answers(drill)


def test_a_refusal_is_no_restart_loop_and_the_next_run_finds_its_incident(drill: Drill, installed: str) -> None:
    unit, database = drill.service.unit, drill.service.database
    drill.host.check_output(f"rm -f {STATE_DIR}/refusal-*; systemctl restart {unit}")
    wait_until_it_answers(drill)
    drill.host.check_output(f"mkdir /root/kept-files && cp -a {database} {database}-wal /root/kept-files/")
    drill.host.check_output(f"systemctl kill --kill-whom=main --signal=SIGKILL {unit}; rm {database}-wal")
    runs.wait_for(lambda: refused(drill) >= 1, "the guard refuses the start")
    # Refused starts do not count towards the start limit of 3.
    for number in range(2, 6):
        time.sleep(1)
        drill.host.run(f"systemctl start {unit}")
        runs.wait_for(lambda number=number: refused(drill) >= number, "the guard refuses the start")
    time.sleep(3)
    assert refused(drill) == 5
    state = drill.host.check_output(f"systemctl show --property=ActiveState,SubState {unit}")
    assert state.split() == ["ActiveState=inactive", "SubState=dead"]
    assert "NOT STARTED" in drill.host.check_output(f"systemctl status {unit} || true")
    refusal = output(drill, f"cat {STATE_DIR}/refusal-{unit}.json")
    assert refusal["code"] in ("wal_missing", "wal_short"), refusal
    assert runs.run(drill, "refused") == 2, drill.screen("refused")
    told = drill.postmortem("refused")
    assert told["incident"] == refusal["incident"]
    assert told["outcome"] in ("data_in_doubt", "not_recovered")
    assert told["rungs_tried"] == []
    record = runs.open_incident(drill)
    assert record and record["detected_by"] == "start guard"
    assert "The start guard refused the start" in record["data"]["reasons"][0]
    # A person accepts the database state. The guard must no longer refuse the start.
    release = ["-e", "outage_release_reason=CHG-4711"]
    assert runs.run(drill, "release", *release, playbook="outage_release") == 0, drill.screen("release")
    # The service answers, and the run still reports the accepted damage.
    assert runs.run(drill, "recovered") in (0, 2)
    drill.assert_serves()
    # Later, the person restores the files. The copy may have the inode number of the deleted file. Because of `touch`,
    # the guard still detects that the database was replaced.
    drill.host.check_output(
        f"systemctl stop {unit}; rm -f {database}*; cp -a /root/kept-files/* $(dirname {database})/; "
        f"touch {database}; systemctl reset-failed {unit}; systemctl start {unit}"
    )
    wait_until_it_answers(drill)
    assert runs.run(drill, "restored") == 0, drill.screen("restored")
    assert runs.open_incident(drill) is None


@pytest.fixture(scope="module")
def test_unit(drill: Drill, installed: str) -> str:
    log = "/tmp/ends-test.log"
    text = TEST_UNIT.format(user=drill.service.user, log=log)
    drill.host.check_output(f"printf '{text}' > /etc/systemd/system/ends-test.service && systemctl daemon-reload")
    # This unit has a different database path, and no file exists at this path.
    own = {"nexus_unit": "ends-test", "nexus_log_file": log, "nexus_database": "/run/ends-test.db"}
    variables = ["-e", json.dumps(own)]
    assert guard(drill, "present", "install-test", *variables) == 0, drill.screen("install-test")
    return "ends-test"


def test_each_end_is_recorded_once(drill: Drill, test_unit: str) -> None:
    expected = output(drill, f"/opt/drill/bin/end-kinds record {ENDS}")
    runs.wait_for(lambda: len(ends(drill, test_unit)) == ENDS, "every end is saved")
    found = {each["invocation"]: each for each in ends(drill, test_unit)}
    assert len(found) == ENDS
    for each in expected:
        told = found[each["invocation"]]
        how = told["signal"] or (f"exit {told['status']}" if told["status"] is not None else told["result"])
        if told["stopped_by"]:
            how = "stopped"
            assert (told["stopped_by"]["uid"], "systemctl" in told["stopped_by"]["command"]) == (0, True)
        assert how == each["how"], (each, told)
        assert told["log"]["lines"][-1].startswith("ends with"), told["log"]
    shown = drill.host.check_output(f"stat -c '%a %U' {STATE_DIR}/ends/{test_unit}")
    assert shown == "700 root"


def test_each_end_until_the_start_limit_is_recorded(drill: Drill, test_unit: str) -> None:
    known = {each["invocation"] for each in ends(drill, test_unit)}
    folder = f"/run/systemd/system/{test_unit}.service.d"
    drill.host.check_output(f"mkdir -p {folder} && printf '{CRASH_LOOP}' > {folder}/loop.conf")
    drill.host.check_output("echo 'exit 7' > /run/ends-test && systemctl daemon-reload")
    try:
        drill.host.check_output(f"systemctl reset-failed {test_unit}; systemctl start {test_unit}")
        # systemd keeps the result of the last unit process. Before each restart, the unit state is "activating".
        shown = f"systemctl show --property=ActiveState --value {test_unit}"
        runs.wait_for(lambda: drill.host.check_output(shown) == "failed", "systemd gives up")
        new = [each for each in ends(drill, test_unit) if each["invocation"] not in known]
        assert sorted((each["result"], each["status"]) for each in new) == [("exit-code", 7)] * 4
    finally:
        drill.host.check_output(f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed {test_unit}")


def test_a_kill_by_the_kernel_is_recorded(drill: Drill, installed: str) -> None:
    service = drill.service
    drill.host.check_output(f"echo NEXUS_DEMO_FAULTS=on >> {service.environment}")
    try:
        drill.host.check_output(f"systemctl reset-failed {service.unit}; systemctl restart {service.unit}")
        wait_until_it_answers(drill)
        running = drill.host.check_output(f"systemctl show --property=InvocationID --value {service.unit}")
        leak = ["podman", "exec", drill.container, "/opt/drill/bin/leak"]
        subprocess.run([BOUND_MEMORY, drill.container, *leak], check=True)
        runs.wait_for(lambda: running in {each["invocation"] for each in ends(drill, service.unit)}, "the end is saved")
        (told,) = [each for each in ends(drill, service.unit) if each["invocation"] == running]
        # systemd reports the result "oom-kill" only if systemd itself has limited the memory.
        assert told["signal"] == "SIGKILL" and told["result"] in ("oom-kill", "signal"), told
    finally:
        drill.host.check_output(f"sed -i /^NEXUS_DEMO_FAULTS/d {service.environment}")
        drill.host.check_output(f"systemctl reset-failed {service.unit}; systemctl restart {service.unit}")


def test_a_restart_takes_hardly_longer(drill: Drill, test_unit: str) -> None:
    cost = measured(drill, "cpu-milliseconds", f"/opt/drill/bin/end-kinds cost {PAIRS * 3}")
    assert cost["recorder"] <= 50 and cost["guard"] <= 60, cost
    pairs = measured(drill, "restart-milliseconds", f"/opt/drill/bin/end-kinds pairs {PAIRS}")
    added = {name: statistics.median(pair[name] - pair["without"] for pair in pairs) for name in ("recorder", "guard")}
    # If other drills use the machine, everything takes longer, so compare only the CPU time.
    if os.getloadavg()[0] < len(os.sched_getaffinity(0)) * 0.75:
        assert added["recorder"] <= 50 and added["guard"] <= 60, pairs


@pytest.mark.parametrize("how", ["shutdown", "power failure"])
def test_a_reboot_is_recorded(drill: Drill, installed: str, how: str) -> None:
    unit = drill.service.unit
    running = drill.host.check_output(f"systemctl show --property=InvocationID --value {unit}")
    assert running and running not in {each["invocation"] for each in ends(drill, unit)}
    # A restarted container still has the boot ID of its machine. Therefore, record an earlier boot ID for the last
    # start.
    known = f"/var/lib/itsm-nexus-guard/{unit}.json"
    drill.host.check_output(f"""sed -i 's/"boot": "[^"]*"/"boot": "earlier"/' {known}""")
    if how == "shutdown":
        runs.podman("stop", "--time", "20", drill.container)
    else:
        runs.podman("kill", "--signal=KILL", drill.container)
    runs.podman("start", drill.container)
    runs.wait_for(
        lambda: drill.host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"), "boot"
    )
    drill.host.check_output(
        "systemctl start ssh.service && hostname --all-ip-addresses | tr -d ' \\n' >/opt/drill/output/address"
    )
    runs.wait_for(lambda: drill.host.run(f"systemctl is-active {unit}").stdout.strip() == "active", "it is up again")
    runs.wait_for(lambda: running in {each["invocation"] for each in ends(drill, unit)}, "the end is recorded")
    (told,) = [each for each in ends(drill, unit) if each["invocation"] == running]
    # During a shutdown, systemd does not always start the keeper.
    assert told["result"] in (("success", "host-down") if how == "shutdown" else ("host-down",))


def test_the_environment_file_of_the_user_gives_no_rights(drill: Drill, installed: str) -> None:
    """The service user owns the environment file, so variables in this file must not reach a process that runs as root.

    With LD_DEBUG_OUTPUT, the dynamic linker of every process writes a file with the privileges of that process.
    LD_PRELOAD would run code with the privileges of that process.
    """
    service = drill.service
    trace = f"{service.app}/trace"
    drill.host.check_output(f"printf 'LD_DEBUG=files\\nLD_DEBUG_OUTPUT={trace}\\n' >> {service.environment}")
    try:
        # A person restarts the service, the service is killed, and systemd restarts it.
        drill.host.check_output(f"systemctl restart {service.unit}; sleep 1")
        drill.host.check_output(f"systemctl kill --kill-whom=main --signal=SIGKILL {service.unit}; sleep 4")
        drill.host.check_output(f"systemctl reset-failed {service.unit}; systemctl restart {service.unit}")
        files = drill.host.check_output(f"grep -l -e start_guard -e python3 {trace}.*; true").split()
        assert files, "the variables have reached the programs"
        owners = set(drill.host.check_output(f"stat -c %U {trace}.*").split())
        assert owners == {service.user}
    finally:
        drill.host.check_output(f"sed -i /^LD_DEBUG/d {service.environment}; rm -f {trace}.*")
        drill.host.check_output(f"systemctl reset-failed {service.unit}; systemctl restart {service.unit}")


@pytest.mark.parametrize(
    "attack",
    [
        "rm {db} {db}-wal {db}-shm; mkfifo {db}",
        "rm {db} {db}-wal {db}-shm; ln -s {canary} {db}",
        "rm {db}-wal; ln -s {canary} {db}-wal",
        "truncate --size=200G {db}-wal",
        "rm -rf {app}/backend/logs; mkfifo {app}/backend/logs; true",
        "mkdir -p {app}/backend/logs; ln -sf {canary} {app}/backend/logs/zz.log",
    ],
)
def test_a_hostile_user_gains_nothing(drill: Drill, installed: str, attack: str) -> None:
    service = drill.service
    drill.host.check_output(f"systemctl stop {service.unit}; cp -a {service.app}/backend /root/kept")
    secret = secrets.token_hex(8)
    drill.host.check_output(f"echo canary {secret} > {CANARY} && chmod 600 {CANARY}")
    before = drill.host.check_output(f"sha256sum {CANARY}; stat -c '%a %U %Y' {CANARY}")
    command = attack.format(db=service.database, app=service.app, canary=CANARY)
    drill.host.check_output(f"runuser -u {service.user} -- sh -c '{command}'")
    try:
        began = time.monotonic()
        drill.host.run(f"timeout 60 systemctl start {service.unit}")
        assert time.monotonic() - began < 20
        drill.host.run(f"systemctl stop {service.unit}")
        assert drill.host.check_output(f"sha256sum {CANARY}; stat -c '%a %U %Y' {CANARY}") == before
        # The search finds the secret in the canary file. Therefore, it would also find a copy in another file.
        assert drill.host.check_output(f"grep -rFl {secret} {CANARY} {STATE_DIR} /var/lib/itsm-nexus-guard") == CANARY
    finally:
        drill.host.check_output(
            f"systemctl stop {service.unit}; rm -rf {CANARY} {service.app}/backend"
            f" && mv /root/kept {service.app}/backend"
            f" && systemctl reset-failed {service.unit}; systemctl start {service.unit}"
        )


def test_everything_can_be_removed(drill: Drill, test_unit: str, installed: str) -> None:
    assert guard(drill, "absent", "remove-test", "-e", f"nexus_unit={test_unit}") == 0, drill.screen("remove-test")
    assert guard(drill, "absent", "remove") == 0, drill.screen("remove")
    assert guard(drill, "absent", "remove-again") == 0
    assert drill.recap("remove-again")["changed"] == 0
    drill.host.check_output("rm /etc/systemd/system/ends-test.service && systemctl daemon-reload")
    after = everything(drill)
    kept = ("/var/lib/itsm-runbook",)
    lines = [[line for line in text.splitlines() if not line.startswith(kept)] for text in (installed, after)]
    assert lines[0] == lines[1]
    assert drill.host.check_output("systemctl list-units --all --plain --no-legend 'itsm-nexus-guard*'") == ""
    assert drill.host.run(f"ls {STATE_DIR}/ends").rc != 0
    assert runs.run(drill, "without", playbook="outage_detect") == 0
