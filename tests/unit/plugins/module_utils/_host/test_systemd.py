# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd


def answer(*, rc=0, stdout="", stderr=""):
    def run(argv, *, timeout, **_more):
        run.argv = argv
        return commands.Completed(argv=argv, rc=rc, stdout=stdout, stderr=stderr, duration=0.0)

    return run


def test_unit_properties():
    run = answer(
        stdout="MainPID=7\nExecStart={ path=/a ; argv[]=/a b=c }\nEnvironmentFiles=/a\nEnvironmentFiles=/b\n\n"
    )
    assert systemd.unit_properties("x", ["MainPID", "ExecStart"], run=run) == {
        "MainPID": "7",
        "ExecStart": "{ path=/a ; argv[]=/a b=c }",
        "EnvironmentFiles": "/a\n/b",
    }
    assert run.argv == ["systemctl", "show", "--property=MainPID,ExecStart", "--", "x"]


def test_properties_of_several_units():
    run = answer(stdout="Id=a.service\nMainPID=7\n\nId=b.service\nMainPID=0\n")
    assert systemd.units_properties(["a", "b"], ["Id", "MainPID"], run=run) == [
        {"Id": "a.service", "MainPID": "7"},
        {"Id": "b.service", "MainPID": "0"},
    ]
    assert run.argv[-2:] == ["a", "b"]


def test_service_units():
    run = answer(stdout="b.service enabled enabled\na.service loaded active running A\nx@.service static -\n\n")
    assert systemd.service_units(run=run) == ["a.service", "b.service"]
    with pytest.raises(procfs.HostError, match=r"about unit \*\.service: exit code 1$"):
        systemd.service_units(run=answer(rc=1))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (answer(rc=1, stderr="Failed to connect to bus\nmore\n"), "Failed to connect to bus$"),
        (answer(rc=4), "exit code 4$"),
        (answer(rc=None), "no response in time$"),
    ],
)
def test_systemd_that_does_not_answer_is_an_error(run, said):
    with pytest.raises(procfs.HostError, match=f"Cannot query systemd about unit 'x': {said}"):
        systemd.unit_properties("x", ["MainPID"], run=run)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1min 30s", 90),
        ("1h 2min", 3720),
        ("100ms", 0.1),
        ("1.5s", 1.5),
        ("500us", 0.0005),
        ("1w 1d", 691200),
        ("0", 0),
        ("infinity", None),
        ("", None),
    ],
)
def test_timespan(text, seconds):
    assert systemd.timespan(text) == (pytest.approx(seconds) if seconds is not None else None)
