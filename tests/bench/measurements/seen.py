# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure which outages are detected by the playbook, by systemd's restart, and by monit with an HTTP check."""

from __future__ import annotations

import atexit
import functools
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hosts
import model
import stand
from measurements import outage
from model import Goal, Measurement

OURS = "outage_recover.yml"
TRIAGE = "outage_triage.yml"
SERVED = "service works again, or cause reported"
NOTICED = "outage detected"
SYSTEMD = "systemd Restart=always"
MONIT = "monit"
COLD = "cold"
ARMED = "armed"
LONGEST = 60.0  # seconds after which an outage counts as not detected
SETTLED = 35.0  # seconds; monit ignores a process for the first thirty seconds after its start
# The runbook's own rule: five consecutive failures, one second apart, count as an outage.
MONITRC = """set daemon 1
set log /var/log/monit.log
set pidfile /run/monit.pid
set statefile /run/monit.state
set idfile /run/monit.id
check process itsm matching "node backend/server.js"
  start program = "/usr/bin/systemctl start itsm-system"
  stop program = "/usr/bin/systemctl stop itsm-system"
  if failed host 127.0.0.1 port 6443 protocol https request "/api/v1/health" with timeout 1 seconds
    with ssl options {verify: disable} for 5 cycles then restart
"""


@functools.cache
def package() -> Path:
    """Download monit's Debian package, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-nexus-bench-monit-"))
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    hosts.run("apt-get", "download", "-qq", "monit", cwd=folder)
    return next(folder.glob("monit_*.deb"))


@functools.cache
def host() -> hosts.Host:
    """Return a host with the production unit's RestartSec. monit is installed there but is not running."""
    place = hosts.Host.new("ssh", name="itsm-nexus-bench-seen", restart_after="10")
    hosts.run("podman", "cp", package(), f"{place.name}:/tmp/monit.deb")
    place.shell("dpkg --install --force-depends /tmp/monit.deb >/dev/null 2>&1; systemctl disable --now -q monit")
    monitrc = package().parent / "monitrc"
    monitrc.write_text(MONITRC, encoding="utf-8")
    monitrc.chmod(0o600)
    hosts.run("podman", "cp", monitrc, f"{place.name}:/etc/monit/monitrc")
    place.shell("chown root: /etc/monit/monitrc && chmod 600 /etc/monit/monitrc && monit -t")
    return place


# The outages


def crash(place: hosts.Host) -> None:
    """Kill the process."""
    place.shell(f"systemctl kill --kill-whom=all -s KILL {hosts.UNIT}")


def hang(place: hosts.Host) -> None:
    """Make the process hang, so that it runs but does not answer."""
    place.hang()


def locked(place: hosts.Host) -> None:
    """Let another process hold the database's write lock, so that writes wait but the health check succeeds."""
    place.shell(
        f"systemd-run -q --unit=bench-lock --uid=itsm /usr/bin/python3 /opt/drill/bin/hold-lock {hosts.DATABASE}"
    )


def fallen_back(place: hosts.Host) -> None:
    """Remove the private key and restart the service, so that it serves only plain HTTP."""
    place.shell(f"mv {KEY} {KEY}.away && systemctl restart {hosts.UNIT}")


KEY = "/mnt/LinuxHDD/ITSM-System/backend/ssl/server.key"


def cleared(place: hosts.Host) -> None:
    """Clean up after an outage."""
    place.shell(
        f"systemctl stop -q monit bench-lock 2>/dev/null; pkill -x monit; [ ! -e {KEY}.away ] || mv {KEY}.away {KEY};"
        f"rm -f /run/monit.*; systemctl kill --kill-whom=all -s CONT {hosts.UNIT}; systemctl reset-failed {hosts.UNIT};"
        f"systemctl restart {hosts.UNIT}"
    )
    place.begin()


# The contenders

Works = Callable[[hosts.Host], bool]


def serves(place: hosts.Host) -> bool:
    """Return True if the service answers over HTTPS and accepts a write."""
    if not place.observer.healthy():
        return False
    asked = subprocess.run(
        [
            *("curl", "-skf", "--max-time", "1", "--json", '{"title": "written by the benchmark"}'),
            f"https://{place.observer.host}:{place.observer.port}/api/v1/incidents",
        ],
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0


def until_served(place: hosts.Host) -> float | None:
    """Return the time in seconds until the service works again, or None if this takes longer than LONGEST seconds."""
    begun = time.time()
    while time.time() - begun < LONGEST:
        if serves(place):
            return time.time() - begun
        time.sleep(0.1)
    return None


def by_systemd(outage: Callable[[hosts.Host], None]) -> model.Contender:
    """Return a contender that waits for systemd to restart the service."""

    def measure(place: hosts.Host, _folder: Path) -> dict[str, float | None]:
        cleared(place)
        outage(place)
        return {SERVED: until_served(place)}

    return measure


def by_monit(outage: Callable[[hosts.Host], None]) -> model.Contender:
    """Return a contender that waits for monit or systemd to restart the service."""

    def measure(place: hosts.Host, _folder: Path) -> dict[str, float | None]:
        cleared(place)
        place.shell("monit -c /etc/monit/monitrc")
        time.sleep(SETTLED)
        place.shell(": >/var/log/monit.log")
        outage(place)
        served = until_served(place)
        noticed = "trying to restart" in place.shell("cat /var/log/monit.log")
        return {SERVED: served, NOTICED: served if served is not None else LONGEST if noticed else None}

    return measure


def by_playbook(outage: Callable[[hosts.Host], None], cause: str = "") -> model.Contender:
    """Return a contender that runs the playbook after the outage has begun.

    cause: the cause that the playbook must report if no restart can end the outage.
    """

    def measure(place: hosts.Host, folder: Path) -> dict[str, float | None]:
        cleared(place)
        outage(place)
        run = place.play("playbooks/outage_recover.yml", folder, verification_deadline=5.0)
        if cause:
            named = f"cause       {cause}" in run.screen or f"({cause}" in run.screen
            return {SERVED: run.ended - run.started if run.code != 0 and named else None}
        if run.code != 0 or not serves(place):
            return {SERVED: None}
        return {SERVED: run.moment(stand.CONFIRMED) - run.started}

    return measure


def by_triage(outage: Callable[[hosts.Host], None], cause: str) -> model.Contender:
    """Return a contender that runs only the triage, which must report the cause."""

    def measure(place: hosts.Host, folder: Path) -> dict[str, float | None]:
        cleared(place)
        outage(place)
        run = place.play("playbooks/outage_triage.yml", folder)
        if run.code != 0:
            raise model.BenchError(f"it ended with code {run.code}: {run.screen.strip()[-300:]}")
        return {SERVED: run.ended - run.started if cause in run.screen else None}

    return measure


def seen(
    name: str, what: str, outage: Callable[[hosts.Host], None], how: str, *, cause: str, recoverable: bool = True
) -> Measurement:
    """Return the measurement for one outage. recoverable: True if the playbook can recover the service."""
    return Measurement(
        name=f"seen-{name}",
        what=what,
        how=f"{how}. The playbook starts at the moment of the outage, as if a monitoring system or a person had "
        "started it. monit queries the service every second with a timeout of one second, and acts after five "
        f"failures. The unit has RestartSec=10. *Not detected* means not detected within {LONGEST:.0f} s. There is "
        "only one round, because the only question is whether the contender detects the outage",
        prepare=host,
        ours=(OURS, by_playbook(outage, "" if recoverable else cause)),
        rivals={TRIAGE: by_triage(outage, cause), SYSTEMD: by_systemd(outage), MONIT: by_monit(outage)},
        goals=[],
        rounds=1,
        needs_hosts=True,
    )


# Crashes, again and again


def cold_and_armed(place: hosts.Host, folder: Path) -> dict[str, float | None]:
    """Crash the service twice.

    In the first recovery, the playbook starts at the crash. In the second recovery, the playbook is already waiting.
    """
    figures = {}
    for name, recovery in ((COLD, outage.crash()), (ARMED, outage.armed)):
        cleared(place)
        (folder / name).mkdir()
        measured = recovery(place, folder / name)
        figures[name] = (measured.figures if isinstance(measured, model.Measured) else measured)[outage.FIRST]
    return figures


def polled(place: hosts.Host, _folder: Path) -> dict[str, float | None]:
    """Crash the service at a random moment between two polls of monit, and wait until the service answers again."""
    cleared(place)
    place.shell("monit -c /etc/monit/monitrc")
    time.sleep(SETTLED + random.random())  # noqa: S311 - not for cryptography
    place.crash()
    with place.observer.watching() as first:
        fell = time.time()
        place.observer.wait(longest=LONGEST)
    return {outage.FIRST: first() - fell}


MEASUREMENTS = [
    Measurement(
        name="crash-monit",
        what="Crash, compared with monit",
        how="the benchmark kills the process on the host of seen-crash ten times, each time at a different moment "
        "between two polls of monit. monit polls every second. *cold*: the playbook starts at the moment of the crash. "
        "*armed*: outage_armed.yml starts before the crash. The observer queries the service every 20 ms",
        prepare=host,
        ours=(OURS, cold_and_armed),
        rivals={MONIT: polled},
        goals=[
            Goal(2.0, against=MONIT, figure=COLD, rivals_figure=outage.FIRST),
            Goal(1.0, against=MONIT, figure=ARMED, rivals_figure=outage.FIRST),
        ],
        rounds=10,
        needs_hosts=True,
    ),
    seen("crash", "Crash", crash, "the benchmark kills the process", cause="killed"),
    seen("hang", "Hang", hang, "the benchmark stops the process with SIGSTOP", cause="hung"),
    seen("lock", "Hung database", locked, "another process holds the write lock", cause="db_locked", recoverable=False),
    seen(
        *("http", "Silent fallback to HTTP", fallen_back, "the service cannot read the key, so HTTPS does not answer"),
        cause="tls_expired",
        recoverable=False,
    ),
]
