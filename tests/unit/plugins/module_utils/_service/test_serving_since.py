# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log line in which a process reports that it has started to serve requests."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import serving_since

START = timestamps.epoch("2026-03-02T01:02:03.000Z")


def at(seconds):
    return timestamps.iso(START + seconds)


def asked(tmp_path, *, log=(), journal=None, ports=(6443, 5000)):
    path = tmp_path / "server.log"
    path.write_text("\n".join(log) + "\n")

    def run(argv, **how):
        assert argv[0] == "journalctl" and argv[argv.index("-u") + 1] == "itsm"
        if journal is None:
            raise commands.CommandError("no journalctl here")
        return commands.Completed(argv, rc=0, stdout="\n".join(journal), stderr="", duration=0.1)

    return serving_since.since_start(at(0), ports=ports, unit="itsm", log_file=str(path), run=run)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([f"{at(1.2)} INFO Serving HTTPS on port 6443"], 1.2, id="serves"),
        pytest.param([f"[{at(1.2)}] info: Server running on https://localhost:6443"], 1.2, id="in brackets"),
        pytest.param([f"{at(1.2)} Listening on 6443", f"{at(1.4)} Listening on 5000"], 1.4, id="the last of its ports"),
        pytest.param(
            [f"{at(1.2)} Listening on 6443", f"{at(9)} still listening on 6443"], 1.2, id="the first word of each"
        ),
        pytest.param([f"{at(-60)} Listening on 6443", f"{at(2)} Listening on 6443"], 2, id="another process before"),
        pytest.param([f"{at(-60)} Listening on 6443"], None, id="only another process"),
        pytest.param([f"{at(300)} Server restarted, port 6443"], None, id="long after the start"),
        pytest.param([f"{at(1)} Listening on 16443"], None, id="another port"),
        pytest.param([f"{at(1)} EADDRINUSE 6443"], None, id="other words of the port"),
        pytest.param(["Listening on 6443", "9999-99-99T99:99:99Z Listening on 6443"], None, id="no time"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_the_log_contains_the_time(tmp_path, lines, expected):
    assert asked(tmp_path, log=lines) == (None if expected is None else at(expected))


def test_the_journal_has_its_own_times(tmp_path):
    lines = [
        f"{START + 1.25:.6f} host systemd[1]: Started itsm.service - ITSM.",
        f"{START + 2.25:.6f} host node[77]: Server started on port 6443",
        "-- cursor",
    ]
    assert asked(tmp_path, journal=lines) == at(2.25)


def test_without_a_log_the_time_is_unknown(tmp_path):
    assert serving_since.since_start(at(0), ports=[1], unit="", log_file=str(tmp_path / "none")) is None
    assert serving_since.since_start(at(0), ports=[1], unit="", log_file="") is None
