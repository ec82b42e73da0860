# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the service on a systemd host in a container, as the drills do. Connect with OpenSSH and sudo, or with podman."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import model
import stand

DRILLS = harness.ROOT / "molecule"
NAME = "itsm-nexus-bench"
# The names of the service's unit, database and other parts on the host.
PROFILE = DRILLS / "profiles" / "runbook"
NAMES = dict(
    line.split("=", 1) for line in PROFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
)
UNIT, DATABASE = NAMES["unit"], NAMES["database"]
PORT = 6443
STATE = "/var/lib/itsm-runbook"


def run(*argv: str | Path, **options: Any) -> str:
    """Run a command and return its output. Raises BenchError."""
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        what = " ".join(str(each) for each in argv[:2])
        raise model.BenchError(f"{what} ended with code {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout.strip()


@functools.cache
def service() -> Path:
    """Create the SSH keys and the files that hosts need. Return the folder, which is removed after the benchmark."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-nexus-bench-hosts-"))
    atexit.register(shutil.rmtree, folder)
    laid, login = folder / "service", folder / "login"
    for made in (laid, login, folder / "output"):
        made.mkdir()
    run(harness.ROOT / "demo" / "install-service", laid / "app", laid / "itsm.env")
    cache = Path(run(harness.ROOT / "demo" / "build"))
    shutil.copytree(cache / "npm-cache", laid / "npm-cache")
    for name in ("itsm-system.service", "certificate"):
        shutil.copy(harness.ROOT / "demo" / name, laid / name)
    # The sudo rule for the recovery's account on the host.
    shutil.copy(harness.ROOT / "docs" / "sudoers", laid / "sudoers")
    for key in (laid / "ssh_host_ed25519_key", login / "id_ed25519"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
    shutil.copy(login / "id_ed25519.pub", laid / "authorized_keys")
    known = (laid / "ssh_host_ed25519_key.pub").read_text(encoding="utf-8")
    (login / "known_hosts").write_text(f"* {known}", encoding="utf-8")
    return folder


@dataclass
class Host(stand.Stand):
    """A host that runs the service as a unit."""

    name: str

    @classmethod
    def new(cls, connection: str, *, name: str = NAME, restart_after: str = "1h") -> Host:
        """Start a host that is removed at the end of the benchmark.

        connection: ssh or podman. restart_after: the unit's RestartSec.
        """
        folder = service()
        remove(name)
        atexit.register(remove, name)
        options = ["--systemd=always", "--pids-limit=0", "--cap-add=AUDIT_WRITE,SYS_ADMIN,SYS_PTRACE"]
        for source, place in (
            (DRILLS / "shared" / "host", "/opt/drill/bin:ro"),
            (PROFILE, "/opt/drill/profile:ro"),
            (folder / "service", "/opt/drill/service:ro"),
            (folder / "output", "/opt/drill/output"),
        ):
            options.append(f"--volume={source}:{place}")
        image = os.environ.get("DRILL_IMAGE") or run(DRILLS / "hosts" / "build-image").splitlines()[-1]
        run("podman", "run", "--detach", "--name", name, "--hostname", name, *options, image)
        run("podman", "exec", name, "/opt/drill/bin/prepare", "systemd")
        address = (folder / "output" / "address").read_text(encoding="utf-8")
        # Remove the unit's start limit, and its delay before a start, so that only the recovery is measured.
        drop_in = f"/etc/systemd/system/{UNIT}.service.d"
        settings = f"[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nExecStartPre=\\nRestartSec={restart_after}\\n"
        run(
            *("podman", "exec", name, "sh", "-c"),
            f"mkdir -p {drop_in} && printf '{settings}' >{drop_in}/bench.conf && systemctl daemon-reload",
        )
        ways: dict[str, dict[str, Any]] = {
            "ssh": {
                "ansible_connection": "ansible.builtin.ssh",
                "ansible_host": address,
                "ansible_user": "itsm-runbook",
                "ansible_pipelining": True,
                "ansible_become": True,
                "ansible_ssh_private_key_file": str(folder / "login" / "id_ed25519"),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/login/known_hosts -o IdentitiesOnly=yes",
            },
            "podman": {"ansible_connection": "containers.podman.podman", "ansible_host": name, "ansible_user": "root"},
        }
        return cls(
            observer=stand.Observer(address, PORT),
            inventory=["-i", f"{name},"],
            variables={
                **ways[connection],
                "outage_recover_hosts": name,
                "ansible_python_interpreter": "/usr/bin/python3",
                "nexus_environment_file": NAMES["environment"],
                "nexus_tls_cert_path": f"{NAMES['app']}/backend/ssl/server.crt",
                "nexus_npm_offline": True,
                "nexus_npm_cache": "/var/cache/itsm-npm",
                "detection_timeout": 1.0,
                "verification_stability_count": 2,
                "verification_stability_interval": 0.5,
            },
            name=name,
        )

    def shell(self, script: str) -> str:
        """Run a shell command on the host, as root. Raises BenchError."""
        return run("podman", "exec", self.name, "sh", "-c", script)

    def begin(self) -> None:
        self.shell(f"rm -rf {STATE}")
        if not self.observer.healthy():
            self.shell(
                f"systemctl kill --kill-whom=all -s CONT {UNIT}; systemctl kill -s KILL {UNIT};"
                f"systemctl reset-failed {UNIT}; systemctl restart {UNIT}"
            )
            self.observer.wait()

    def crash(self) -> None:
        self.shell(f"systemctl kill --kill-whom=all -s KILL {UNIT}")
        self.observer.wait(until=False)

    def hang(self) -> None:
        self.shell(f"systemctl kill --kill-whom=all -s STOP {UNIT}")

    def start(self) -> None:
        self.shell(f"systemctl restart {UNIT}")


def remove(name: str) -> None:
    """Remove a container. Try twice, because podman removes the remains of a killed run only at the second attempt."""
    for _time in range(2):
        removed = subprocess.run(
            ["podman", "rm", "--force", "--ignore", "--time", "0", name], capture_output=True, check=False
        )
        if removed.returncode == 0:
            return


def enter(argv: Sequence[str]) -> None:
    """Restart this program in an environment in which podman and systemd work. See molecule/hosts/with-cgroup-v2."""
    if os.environ.get("BENCH_ENTERED") != "1":
        os.environ["BENCH_ENTERED"] = "1"
        wrapper = str(DRILLS / "hosts" / "with-cgroup-v2")
        os.execv(wrapper, [wrapper, *argv])  # noqa: S606 - the same command, in another mount namespace
