# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: its output, its client, and the installation of Debian packages."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import runpy
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "run"
APT_INSTALL = DEMO.parent / "apt-install"


def test_each_time_has_its_own_line_that_states_what_it_measures() -> None:
    durations = runpy.run_path(str(DEMO))["durations"]
    outage, playbook = durations({"durations": {"outage": 3.42}}, 13.26)
    assert outage.startswith("    Outage:   3.4 s, from the first sign of the outage")
    assert playbook.startswith("    Playbook: 13.3 s, from its start to its end")


class Listing:
    """A service that loses requests and responses. `losses` contains one word for each POST request.

    "request": the request is lost. "answer": the response is lost. "refused": the response has status 503. "": nothing
    is lost.
    """

    def __init__(self, *losses: str) -> None:
        rows: list[str] = []
        plan = list(losses)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"total": len(rows), "incidents": [{"title": title} for title in rows]})

            def do_POST(self) -> None:
                title = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["title"]
                loss = plan.pop(0) if plan else ""
                if loss == "refused":
                    self.answer(503, {})
                    return
                if loss != "request":
                    rows.append(title)
                if not loss:
                    self.answer(201, {"title": title})

            def answer(self, status: int, body: dict[str, Any]) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_arguments: object) -> None:
                pass

        self.rows = rows
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextlib.contextmanager
def demo_with(listing: Listing) -> Iterator[Any]:
    threading.Thread(target=listing.server.serve_forever, args=(0.01,), daemon=True).start()
    names = runpy.run_path(str(DEMO))
    demo = names["Demo"]()
    demo.https = f"http://127.0.0.1:{listing.server.server_address[1]}"
    demo.write_row.__func__.__globals__["PAUSE"] = 0.01
    try:
        yield demo
    finally:
        listing.server.shutdown()
        listing.server.server_close()


def test_a_lost_answer_does_not_end_the_demo_and_each_row_is_written_once() -> None:
    listing = Listing("", "request", "request", "answer", "request", "")
    with demo_with(listing) as demo:
        demo.write_rows()
        assert demo.rows() == len(listing.rows) == len(set(listing.rows)) == 25
    # The service wrote the second row, but never acknowledged it.
    assert demo.titles == [listing.rows[0], *listing.rows[2:]]


@pytest.mark.parametrize("losses", [["request"] * 9, ["refused"]])
def test_a_row_that_is_not_written_ends_the_demo(losses: list[str]) -> None:
    listing = Listing(*losses)
    with demo_with(listing) as demo, pytest.raises(Exception, match="does not accept row 1 of 25"):
        demo.write_rows()
    assert listing.rows == demo.titles == []


def stand_in(folder: Path, *answers: str) -> dict[str, str]:
    """Return an environment with an apt-get that records its arguments.

    Each call prints the next item of `answers` and fails. If the item is empty, the call succeeds.
    """
    for number, answer in enumerate(answers, 1):
        (folder / f"answer{number}").write_text(answer, encoding="utf-8")
    program = folder / "apt-get"
    program.write_text(
        f"""#!/bin/sh
echo "$*" >>{folder}/calls
answer={folder}/answer$(wc -l <{folder}/calls)
[ ! -s "$answer" ] || {{ cat "$answer"; exit 100; }}
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    (folder / "sleep").symlink_to("/bin/true")
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def install(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [APT_INSTALL, *arguments, "hello"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_failed_download_is_retried(tmp_path: Path) -> None:
    lock = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"
    fetch = "E: Failed to fetch http://deb.example.com/hello.deb  404  Not Found"
    environment = stand_in(tmp_path, lock, fetch, "", fetch, "", "")
    done = install(environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    calls = (tmp_path / "calls").read_text("utf-8").splitlines()
    # After a failed download, the package lists are read again, because they may refer to a file that no longer exists.
    assert [call.split()[-1] for call in calls] == ["update", "update", "update", "hello", "update", "hello"]
    for call in calls:
        assert 500 < int(call.partition("DPkg::Lock::Timeout=")[2].split()[0]) <= 600
        assert "Acquire::Retries=3" in call


@pytest.mark.parametrize(("answer", "calls"), [("E: Unable to locate package hello", 2), ("E: Failed to fetch x", 6)])
def test_an_error_that_stays_ends_the_installation(tmp_path: Path, answer: str, calls: int) -> None:
    environment = stand_in(tmp_path, *["", answer] * 5)
    done = install(environment)
    assert done.returncode != 0
    assert answer in done.stderr
    assert len((tmp_path / "calls").read_text("utf-8").splitlines()) == calls


def test_a_download_installs_nothing(tmp_path: Path) -> None:
    assert install(stand_in(tmp_path), "--download").returncode == 0
    words = [call.split() for call in (tmp_path / "calls").read_text("utf-8").splitlines()]
    assert [call[4:] for call in words] == [["update"], ["download", "hello"]]


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt-get")
def test_the_installation_waits_for_the_locks_of_apt_and_dpkg(tmp_path: Path) -> None:
    """The real apt-get with separate folders, so that the test requires no network and does not change this machine."""
    for folder in ("lists/partial", "cache/archives/partial", "dpkg"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dpkg/status").write_text(
        "Package: hello\nStatus: install ok installed\nMaintainer: nobody\nArchitecture: all\nVersion: 1\n"
        "Description: of a test\n\n",
        encoding="utf-8",
    )
    settings = tmp_path / "apt.conf"
    settings.write_text(
        f"""Dir::State "{tmp_path}";
Dir::State::status "{tmp_path}/dpkg/status";
Dir::Cache "{tmp_path}/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Dir::Log "{tmp_path}";
""",
        encoding="utf-8",
    )
    with (tmp_path / "lists/lock").open("w") as lists, (tmp_path / "dpkg/lock-frontend").open("w") as dpkg:
        fcntl.lockf(lists, fcntl.LOCK_EX)
        fcntl.lockf(dpkg, fcntl.LOCK_EX)
        installation = subprocess.Popen(
            [APT_INSTALL, "hello"],
            env={**os.environ, "APT_CONFIG": str(settings)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for lock in (lists, dpkg):
                time.sleep(2.5)
                assert installation.poll() is None, installation.stdout.read()  # type: ignore[union-attr]
                fcntl.lockf(lock, fcntl.LOCK_UN)
            output, _ = installation.communicate(timeout=30)
        finally:
            installation.kill()
    assert (installation.returncode, output) == (0, "")
