# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drop-ins of a systemd unit. A fake systemd merges the drop-ins as systemd.unit(5) describes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import unit_dropin
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.unit_dropin import Dropin, UnitDropinError

SOON = timestamps.iso(time.time() + 3600)


class Systemd:
    """A fake systemctl. It shows the settings that the files contained at the last daemon-reload."""

    def __init__(self, folder: Path, environment_file: Path) -> None:
        self.folder = folder
        self.calls: list[list[str]] = []
        self.unit = (
            "[Service]\nExecStart=/usr/bin/node server.js\nEnvironment=NODE_OPTIONS=--from-unit A=1\n"
            f"EnvironmentFile={environment_file}\n"
        )
        self.known: dict[str, str] = {}
        self.fails = ""
        self.read()

    def read(self) -> None:
        known = {"LoadState": "loaded", "MemoryMax": "infinity", "EnvironmentFiles": "", "Environment": ""}
        texts = [self.unit]
        texts += [path.read_text() for path in sorted((self.folder / "itsm.service.d").glob("*.conf"))]
        for line in "".join(texts).splitlines():
            name, equals, value = line.partition("=")
            if name == "EnvironmentFile":
                known["EnvironmentFiles"] += f"EnvironmentFiles={value} (ignore_errors=no)\n"
            elif name == "Environment":
                known["Environment"] = f"{known['Environment']} {value}".strip()
            elif equals and not line.startswith("#"):
                known[name] = value
        self.known = known

    def __call__(self, argv, **_more) -> commands.Completed:
        words = [word for word in argv[1:] if word not in ("--no-ask-password", "--")]
        self.calls.append(words)
        said = ""
        if words[0] == "daemon-reload":
            self.read()
        elif words[0] == "show":
            assert argv[-1] == "itsm.service"
            lines = (
                value.rstrip("\n") if name == "EnvironmentFiles" else f"{name}={value}"
                for name, value in self.known.items()
            )
            said = "\n".join(lines) + "\n"
        if words[0] == self.fails:
            return commands.Completed(argv=argv, rc=1, stdout="", stderr="Failed: no\n", duration=0)
        return commands.Completed(argv=argv, rc=0, stdout=said, stderr="", duration=0)

    @property
    def told(self) -> list[str]:
        return [" ".join(words) for words in self.calls if words[0] != "show"]


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    (tmp_path / "itsm.env").write_text("ENABLE_HTTPS=true\n")
    (tmp_path / "system").mkdir()
    return Systemd(tmp_path / "system", tmp_path / "itsm.env")


def ensure(systemd: Systemd, *, state: str = "present", check_mode: bool = False, **fields) -> dict:
    dropin = Dropin(**{"unit": "itsm", "name": "test", **fields})
    return unit_dropin.ensure(dropin, state=state, check_mode=check_mode, run=systemd, folder=str(systemd.folder))


def files(systemd: Systemd) -> list[str]:
    return sorted(str(path.relative_to(systemd.folder)) for path in systemd.folder.rglob("*") if path.is_file())


OWN = "itsm.service.d/90-itsm-nexus-test"


def test_a_limit_is_set_once_and_removed(systemd):
    told = ensure(systemd, memory_max=1 << 30, check_mode=True)
    assert (told["changed"], told["memory_max"], files(systemd), systemd.told) == (True, None, [], [])
    first = ensure(systemd, memory_max=1 << 30)
    assert (first["changed"], first["memory_max"], first["diff"]) == (True, 1 << 30, told["diff"])
    assert files(systemd) == [f"{OWN}.conf"]
    assert (systemd.folder / f"{OWN}.conf").stat().st_mode & 0o777 == 0o644
    for secret in systemd.folder.rglob("*.env"):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert first["files"] == [str(systemd.folder / f"{OWN}.conf")]
    second = ensure(systemd, memory_max=1 << 30)
    assert (second["changed"], second["memory_max"]) == (False, 1 << 30)
    assert systemd.told == ["daemon-reload"]
    third = ensure(systemd, state="absent")
    assert (third["changed"], third["memory_max"], third["files"], files(systemd)) == (True, None, [], [])
    assert ensure(systemd, state="absent")["changed"] is False


def test_removing_one_size_keeps_the_other(systemd):
    ensure(systemd, memory_max=1 << 30)
    both = ensure(systemd, max_old_space_size=512)
    assert (both["memory_max"], both["variables"]["NODE_OPTIONS"]) == (1 << 30, "--from-unit --max-old-space-size=512")
    more = ensure(systemd, memory_max=1 << 31)
    assert (more["memory_max"], more["variables"]) == (1 << 31, both["variables"])
    assert files(systemd) == [f"{OWN}.conf", f"{OWN}.env"]


def test_presence_can_be_queried(systemd):
    folder = str(systemd.folder)
    assert not unit_dropin.is_there("itsm", "test", folder=folder)
    ensure(systemd, memory_max=4096)
    assert unit_dropin.is_there("itsm.service", "test", folder=folder)
    assert not unit_dropin.is_there("itsm", "other", folder=folder)


def test_the_heap_size_joins_the_options_that_the_unit_sets(systemd, tmp_path):
    result = ensure(systemd, max_old_space_size=512, unit="itsm.service")
    assert result["variables"] == {"NODE_OPTIONS": "--from-unit --max-old-space-size=512"}
    # The unit's environment file takes precedence over its Environment=. Our drop-in takes precedence over both of
    # these.
    (tmp_path / "itsm.env").write_text('NODE_OPTIONS="--max_old_space_size 100 --from-file"\n')
    result = ensure(systemd, max_old_space_size=768)
    assert result["variables"] == {"NODE_OPTIONS": "--from-file --max-old-space-size=768"}
    assert ensure(systemd, max_old_space_size=768)["changed"] is False
    assert (systemd.folder / f"{OWN}.env").read_text().splitlines()[1:] == [
        'NODE_OPTIONS="--from-file --max-old-space-size=768"'
    ]


def test_variables_take_precedence_over_the_environment_file_of_the_unit(systemd):
    ensure(systemd, environment={"ENABLE_HTTPS": "false"})
    named = systemd.known["EnvironmentFiles"].splitlines()
    assert named[-1] == f"EnvironmentFiles={systemd.folder / OWN}.env (ignore_errors=no)"
    assert (systemd.folder / f"{OWN}.env").read_text().splitlines()[1:] == ['ENABLE_HTTPS="false"']


def test_an_override_by_another_dropin_is_reported(systemd):
    later = systemd.folder / "itsm.service.d" / "99-local.conf"
    later.parent.mkdir()
    later.write_text("[Service]\nMemoryMax=5\n")
    with pytest.raises(
        UnitDropinError, match=r"has no effect, because another one overrides it: MemoryMax is 5, not 4096"
    ):
        ensure(systemd, memory_max=4096)
    (systemd.folder / "later.env").write_text("ENABLE_HTTPS=true\n")
    later.write_text(f"[Service]\nEnvironmentFile={systemd.folder}/later.env\n")
    with pytest.raises(UnitDropinError, match=r"ENABLE_HTTPS is 'true', not 'false'"):
        ensure(systemd, environment={"ENABLE_HTTPS": "false"})
    assert files(systemd) == ["itsm.service.d/99-local.conf", "later.env"], "a drop-in without effect was left behind"


def test_memory_is_counted_in_pages(systemd, monkeypatch):
    read = systemd.read

    def rounded():
        read()
        systemd.known["MemoryMax"] = "8192"

    monkeypatch.setattr(systemd, "read", rounded)
    assert ensure(systemd, memory_max=8200)["memory_max"] == 8192


@pytest.mark.parametrize("value", ["--max-old-space-size=100", "--max_old_space_size 100"])
def test_a_heap_size_in_the_command_itself_is_reported(systemd, value):
    systemd.unit = systemd.unit.replace("node server", f"node {value} server")
    systemd.read()
    with pytest.raises(UnitDropinError, match="sets --max-old-space-size itself, which overrides NODE_OPTIONS"):
        ensure(systemd, max_old_space_size=512)
    assert files(systemd) == []


# Drop-ins with an end time


def test_a_timer_removes_it_at_its_end(systemd):
    result = ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)
    timer = "itsm-nexus-expiry-itsm-test"
    assert files(systemd) == [f"{timer}.service", f"{timer}.timer", f"{OWN}.conf", f"{OWN}.env"]
    assert systemd.told == ["daemon-reload", f"enable {timer}.timer", f"restart {timer}.timer", "daemon-reload"]
    assert result["until"][:19] == SOON[:19]
    text = (systemd.folder / f"{timer}.timer").read_text()
    assert f"OnCalendar={SOON[:10]} {SOON[11:19]} UTC\n" in text
    assert "Persistent=true" in text
    assert ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)["changed"] is False
    assert len(systemd.told) == 4


def test_command_of_the_timer_removes_everything_and_restarts_the_service(systemd, tmp_path):
    ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)
    text = (systemd.folder / "itsm-nexus-expiry-itsm-test.service").read_text()
    (command,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    stand_in = tmp_path / "systemctl"
    stand_in.write_text(
        f'#!/bin/sh\nls -R {systemd.folder} | grep -c nexus >>{tmp_path}/log\necho "$*" >>{tmp_path}/log\n'
    )
    stand_in.chmod(0o755)
    shell, option, script = command[len("ExecStart=") :].split(" ", 2)
    script = script.strip("'").replace(unit_dropin.shutil.which("systemctl") or "/usr/bin/systemctl", str(stand_in))
    subprocess.run([shell, option, script], check=True)
    assert files(systemd) == []
    assert (tmp_path / "log").read_text().splitlines() == [
        "4",
        "disable --now itsm-nexus-expiry-itsm-test.timer",
        "0",
        "daemon-reload",
        "0",
        "try-restart --no-block itsm.service",
    ]


@pytest.mark.parametrize("word", ["daemon-reload", "enable", "restart"])
def test_no_setting_is_active_before_its_end_is_set(systemd, word):
    told = systemd.__call__

    def killed(argv, **more):
        if word in argv:
            raise KeyboardInterrupt
        return told(argv, **more)

    with pytest.raises(KeyboardInterrupt):
        unit_dropin.ensure(
            Dropin(unit="itsm", name="test", environment={"ENABLE_HTTPS": "false"}, until=SOON),
            state="present",
            run=killed,
            folder=str(systemd.folder),
        )
    assert f"{OWN}.conf" not in files(systemd)
    ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)
    assert f"{OWN}.conf" in files(systemd)


@pytest.mark.parametrize("word", ["enable", "restart"])
def test_if_the_end_cannot_be_set_no_file_remains(systemd, word):
    systemd.fails = word
    with pytest.raises(UnitDropinError, match=f"systemctl {word}"):
        ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)
    assert files(systemd) == []
    assert systemd.told[-2:] == ["disable --now itsm-nexus-expiry-itsm-test.timer", "daemon-reload"]


def test_removing_the_end_removes_the_timer_first(systemd):
    ensure(systemd, environment={"ENABLE_HTTPS": "false"}, until=SOON)
    ensure(systemd, state="absent")
    assert files(systemd) == []
    assert systemd.told[4:] == ["disable --now itsm-nexus-expiry-itsm-test.timer", "daemon-reload"]


# Parameters that are rejected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit": "a b"}, "unit is 'a b': must be the name of a service unit"),
        ({"unit": "../x", "memory_max": 1}, "unit is '../x'"),
        ({"name": "../x", "memory_max": 1}, "name is '../x': must consist of"),
        ({}, "one of them must be given"),
        ({"memory_max": -1}, "memory_max is -1: must be more than 0"),
        ({"max_old_space_size": -1}, "max_old_space_size is -1: must be more than 0"),
        ({"environment": {"A B": "x"}}, "environment: A B='x' must be a variable"),
        ({"environment": {"A": "x\ny"}}, "one line of plain text"),
        ({"environment": {"NODE_OPTIONS": "x"}}, "other than NODE_OPTIONS"),
        ({"memory_max": 1, "until": "tomorrow"}, "until is 'tomorrow': must be a time in UTC"),
        ({"memory_max": 1, "until": "2026-02-31T00:00:00Z"}, "until is '2026-02-31T00:00:00Z': day is out of range"),
        ({"memory_max": 1, "until": "2020-01-01T00:00:00Z"}, "until is '2020-01-01T00:00:00Z': must be in the future"),
    ],
)
def test_invalid_parameters(systemd, fields, message):
    with pytest.raises(UnitDropinError) as caught:
        ensure(systemd, **fields)
    assert message in str(caught.value)
    assert systemd.calls == []


def test_a_missing_unit(systemd):
    systemd.known["LoadState"] = "not-found"
    with pytest.raises(UnitDropinError, match="must be a loaded unit; it is not-found"):
        ensure(systemd, memory_max=4096)
    assert files(systemd) == []


def test_an_error_of_systemd_is_reported(systemd):
    systemd.fails = "daemon-reload"
    with pytest.raises(UnitDropinError, match="systemctl daemon-reload failed: Failed: no"):
        ensure(systemd, memory_max=4096)
