# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection is cut at a random moment during a run: the run reconnects, receives the step result and continues.

The drill runs outage_recover.yml three times and outage_clean_start.yml twice. In one round, the host has no network
for 15 s. With DRILL_THOROUGH (make nightly), the drill runs outage_recover.yml 20 times and outage_clean_start.yml 10
times. To cut the connection at the same moments as in an earlier drill, set DRILL_SEED to the seed in the rounds.log
file of that drill.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest
import runs
from drills import STATE_DIR, Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
SEED = os.environ.get("DRILL_SEED") or str(secrets.randbelow(10**6))
ROUNDS = [
    *(("outage_recover", number) for number in range(20 if THOROUGH else 3)),
    *(("outage_clean_start", number) for number in range(10 if THOROUGH else 2)),
]
# The round in which the host loses its network, and the number of seconds during which the network is down.
AWAY_ROUND, AWAY = ("outage_recover", 0), 15.0
# In each session of the account, kill both sshd processes. The pattern begins with ^, so that it does not match the
# shell that runs this command.
CUT = "pkill --signal KILL --full '^sshd[a-z-]*: itsm-runbook'"
# Print the process that listens on the service port, ten times a second. The script runs on the host, because the
# network may be down.
WATCH = """
touch /run/drill-watch
while [ -e /run/drill-watch ]; do
    ss --listening --tcp --numeric --processes --no-header 'sport = :6443'
    sleep 0.1
done
"""
HEALTH = "https://host:6443/api/v1/health"


@contextlib.contextmanager
def watched(drill: Drill) -> Iterator[list[int]]:
    """Yield an empty list.

    When the block ends, the list contains the PIDs of all processes that listened on the port.
    """
    served: list[int] = []
    argv = ["podman", "exec", drill.container, "sh", "-c", WATCH]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
        try:
            yield served
        finally:
            drill.host.run("rm /run/drill-watch")
            seen, _ = watching.communicate(timeout=runs.PATIENCE)
            served += dict.fromkeys(int(pid) for pid in re.findall(r"pid=(\d+)", seen))


def set_network(drill: Drill, state: str) -> None:
    """Set the network interface of the host to `down` or `up`."""
    pid = subprocess.check_output(["podman", "inspect", "--format", "{{.State.Pid}}", drill.container], text=True)
    subprocess.check_call(["nsenter", "--target", pid.strip(), "--net", "ip", "link", "set", "eth0", state])


def fail(drill: Drill) -> None:
    """Kill the service. First remove the records of earlier rounds, because runs would otherwise skip rungs."""
    drill.host.check_output(f"rm -rf {STATE_DIR}")
    runs.kill_service(drill)


@pytest.fixture(scope="module")
def lengths(drill: Drill) -> dict[str, float]:
    """Return the duration in seconds of an uninterrupted run of each playbook."""
    lengths = {}
    for playbook in dict(ROUNDS):
        fail(drill)
        begun = time.monotonic()
        assert runs.run(drill, f"{playbook}-whole", playbook=playbook) == 0
        lengths[playbook] = time.monotonic() - begun
    return lengths


def cut_run(drill: Drill, name: str, playbook: str, *, moment: float, away: float) -> tuple[int, float | None]:
    """Run a playbook and cut its connection after `moment` seconds.

    After the cut, the host has no network for `away` seconds.

    Returns the run's exit code and its duration in seconds. If the run did not end before the cut, the duration is
    None.
    """
    begun = time.monotonic()
    run = runs.Run(drill, name, playbook=playbook)
    time.sleep(moment)
    # Retry until there is a connection to cut. Connections stay open for a minute after a run, so this connection may
    # be from an earlier run.
    while not has_ended(run) and drill.host.run(CUT).rc != 0:
        pass
    ended_after = time.monotonic() - begun if has_ended(run) else None
    if ended_after is None and away:
        set_network(drill, "down")
        try:
            time.sleep(away)
        finally:
            set_network(drill, "up")
    return run.wait(), ended_after


def has_ended(run: runs.Run) -> bool:
    return not run.running or "PLAY RECAP" in run.screen()


def share(playbook: str, number: int) -> float:
    """Return a number from 0 to 1 that depends only on the seed and the round."""
    digest = hashlib.sha256(f"{SEED} {playbook} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


@pytest.mark.parametrize(("playbook", "number"), ROUNDS)
def test_run_survives_a_cut_connection(drill: Drill, lengths: dict[str, float], playbook: str, number: int) -> None:
    away = AWAY if (playbook, number) == AWAY_ROUND else 0.0
    # A run that is faster than the measured run may end before the connection is cut. In this case, the next attempt
    # uses the duration of the faster run.
    for attempt in range(4):
        moment = (0.1 + 0.8 * share(playbook, number)) * lengths[playbook]
        name = f"{playbook}-{number}-{attempt}"
        with (drill.output / "rounds.log").open("a", encoding="utf-8") as log:
            log.write(f"{name}: DRILL_SEED={SEED}, cut after {moment:.2f} s, without network for {away:.0f} s\n")
        fail(drill)
        with watched(drill) as served:
            code, ended_after = cut_run(drill, name, playbook, moment=moment, away=away)
            assert_every_statement_is_true(drill, name, code)
            if code != 0:
                assert runs.run(drill, f"{name}-next", "--extra-vars=outage_recover_wait=120") == 0
            drill.assert_serves()
        # Each process that listened on the port is still running.
        assert served == [process["pid"] for process in drill.now()["processes"]]
        drill.assert_every_row_is_there()
        if ended_after is None:
            break
        lengths[playbook] = min(ended_after, lengths[playbook])
    assert ended_after is None, "no run was cut"


def assert_every_statement_is_true(drill: Drill, name: str, code: int) -> None:
    """Assert that the run summary is consistent with the responses that a client receives from the service."""
    serves = drill.ask(HEALTH)[0] == 200
    screen = drill.screen(name)
    closing = screen[screen.index("PLAY RECAP") :]
    good = re.search(r"^(RECOVERED|HEALTHY)\b.*: ", closing, re.MULTILINE)
    assert (code == 0) == bool(good), closing
    # If the connection to the host was lost, the run must not make a statement about the service.
    assert serves if code == 0 else "\nUNREACHABLE" in closing or not serves, closing
    for document in drill.documents(name):
        if document.suffix == ".json":
            told = drill.postmortem(name)
            succeeded = [each["rung"] for each in told["rungs_tried"] if each["held"]]
            assert told["outcome"].startswith("recovered") == (code == 0)
            assert bool(succeeded) == (told["outcome"] == "recovered")


def test_no_call_is_still_running(drill: Drill, lengths: dict[str, float]) -> None:
    assert runs.lease(drill)["worker"] is None
    assert runs.open_incident(drill) is None
    # The saved results of module calls are stored in memory, and only root can read these results.
    kept = drill.host.check_output("find /run/itsm-runbook -path '*/calls/*' -printf '%m %u %s\\n'").splitlines()
    assert kept and all(re.fullmatch(r"600 root \d{1,7}", each) for each in kept), kept
