# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service has no unit and its process is killed: the run starts the process again."""

from __future__ import annotations

from drills import RUNBOOK, Drill

APP = RUNBOOK.app
LOG = RUNBOOK.log


def test_restart_recovers_the_service(drill: Drill) -> None:
    drill.assert_recovered(severity="emergency", cause="killed", rung="restart")


def test_process_is_the_same_as_before(drill: Drill) -> None:
    before, after = drill.observation("sound"), drill.now()
    assert after["unit"]["ActiveState"] == "inactive"
    assert [(process["user"], process["cwd"]) for process in after["processes"]] == [(RUNBOOK.user, APP)]
    assert after["processes"][0]["start_ticks"] > before["processes"][0]["start_ticks"]


def test_pid_file_names_it(drill: Drill) -> None:
    (process,) = drill.now()["processes"]
    assert str(process["pid"]) in drill.host.file(f"/var/lib/itsm-runbook/{RUNBOOK.unit}.pid").content_string.split()


def test_process_does_not_belong_to_the_login_session(drill: Drill) -> None:
    (process,) = drill.now()["processes"]
    assert drill.host.check_output(f"ps -o ppid=,tty= -p {process['pid']}").split() == ["1", "?"]


def test_log_is_continued(drill: Drill) -> None:
    # The log contains lines from both starts, so the recovery did not overwrite it.
    assert drill.host.check_output(f"grep -c 'Serving HTTPS' {LOG}") == "2"


def test_no_secret_on_the_command_line_or_screen(drill: Drill) -> None:
    secrets = drill.host.check_output(f"grep -E '^(JWT_SECRET|ADMIN_PASSWORD)=' {RUNBOOK.environment} | cut -d= -f2")
    told = drill.screen() + "".join(path.read_text(encoding="utf-8") for path in drill.documents())
    for secret in secrets.split():
        assert secret not in told
