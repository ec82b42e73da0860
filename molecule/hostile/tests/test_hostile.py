# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service user is hostile: the recovery still succeeds in time, no attack succeeds, and no secret leaks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from drills import STATE_DIR, Drill

ATTACKS = ("schema", "modules", "folder", "names", "backup", "knex")
RUNS = ("recover", "login", "schema-check", "names-discover", *ATTACKS, "after")
# Characters that control a terminal or the text direction, except line breaks and tabs.
ACTIVE = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def written(drill: Drill) -> list[Path]:
    """Return all files that the runs wrote on this machine: output at -vvv, timelines and documents."""
    screens = [drill.output / f"{run}.log" for run in RUNS]
    return [*screens, *(path for run in RUNS for path in (drill.output / run).glob("*"))]


def test_the_service_is_recovered_with_every_row(drill: Drill) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
    told = drill.postmortem()
    assert (told["outcome"], told["data_loss"]) == ("recovered", "none")


@pytest.mark.parametrize("attack", ATTACKS)
def test_root_does_not_act_for_the_user(drill: Drill, attack: str) -> None:
    """Assert that the attacks did not create, change or remove files in root's folders, or change any owner."""
    before, after = (
        json.loads((drill.output / name).read_text(encoding="utf-8")) for name in ("roots.json", f"roots-{attack}.json")
    )
    names = {Path(path).name for path in before}
    assert names >= {"private", "customers.db.backup_20260301_030000", "private.key", "package.json"}
    assert after == before


def test_the_shell_salvages_as_the_user(drill: Drill) -> None:
    uid = drill.host.check_output("id --user itsm")
    assert set(drill.host.check_output("cat /mnt/LinuxHDD/evil/shell-as").split()) == {uid}


def test_each_attack_reached_its_target(drill: Drill) -> None:
    """Assert that each attack happened. An attack that did not happen would look like a successful defence."""
    for run in ("schema-check", "schema"):
        assert "database_recovery by salvage" in drill.screen(run)
    # The run refused to build as root in a folder that the service user cannot write to.
    assert "Cannot create a build folder in" in drill.screen("modules")
    exchanged = (drill.output / "exchanged").read_text(encoding="utf-8")
    assert "/backend" in exchanged
    assert "/tmp/itsm-nexus-" in exchanged, "knex did not replace its temporary folder"
    # The disk was full, and the database path contained a wildcard.
    assert "disk_full" in drill.screen("names")
    assert f"{drill.service.app}/[*]/customers.db.backup_*" in drill.screen("names")
    assert "/root/backups/customers.db.backup_20260301_030000" in drill.screen("backup")


def test_discovery_asks_about_paths_of_root(drill: Drill) -> None:
    """Assert that the inventory sets no variable to one of root's files that the user chose."""
    text = (drill.output / "names-discover.yml").read_text(encoding="utf-8")
    assert "/root/backups" in text
    assert "/root/backups" not in json.dumps(yaml.safe_load(text))


def test_recovery_is_in_time(drill: Drill) -> None:
    told = drill.postmortem("recover")
    looks = [step for step in told["steps"] if str(step["action"]).endswith(".triage_info")]
    # Triage finishes in time, although the log is 2 GiB in size and the journal has a million entries.
    assert looks and all(look["seconds"] < 40 for look in looks)
    assert [look for look in looks if look["status"] == "failed"] == []


def test_no_secret_leaves_the_host(drill: Drill) -> None:
    for path in written(drill):
        text = path.read_text(encoding="utf-8", errors="replace")
        # The output may contain the names of planted files, but not the content.
        assert re.findall(r"canary-of-[\w-]+", text) == [], path


def test_no_secret_stays_on_the_host(drill: Drill) -> None:
    # Exclude copies of the database, because file permissions protect these copies.
    places = f"{STATE_DIR} /run/itsm-runbook /tmp /var/tmp /root/.ansible /home/itsm-runbook /etc/systemd/system"
    found = drill.host.run(f"grep --recursive --files-with-matches --text canary-of- {places}")
    assert found.stdout == ""


def test_no_new_file_is_readable_or_guessable_for_others(drill: Drill) -> None:
    for place in (STATE_DIR, "/run/itsm-runbook"):
        others = drill.host.check_output(f"find {place} ! -user root -o -perm /077 ! -type l")
        assert others == ""
    assert drill.host.check_output("find /tmp /var/tmp -name 'itsm*' -o -name 'ansible*'") == ""


def test_no_planted_program_runs_on_the_controller_or_as_root(drill: Drill) -> None:
    assert not Path("/tmp/hostile-owned").exists()
    assert not drill.host.file("/tmp/hostile-owned").exists
    # Triage ran the planted program to determine its version, but only as the service user.
    uid = drill.host.check_output("id --user itsm")
    assert set(drill.host.check_output("cat /mnt/LinuxHDD/evil/ran-as").split()) == {uid}


def test_files_of_root_are_unchanged(drill: Drill) -> None:
    assert drill.host.run("sha256sum --check --quiet /opt/drill/output/precious.sha256").rc == 0
    assert drill.host.check_output("ls -A /root/canary.d") == ""
    for name in ("/root/canary.env", "/root/canary.log", "/etc/shadow"):
        file = drill.host.file(name)
        assert (file.user, file.mode & 0o007) == ("root", 0)


def test_no_terminal_control_is_shown(drill: Drill) -> None:
    for path in written(drill):
        text = path.read_text(encoding="utf-8", errors="replace")
        assert ACTIVE.findall(text) == [], path
    evidence = drill.host.check_output(f"find {STATE_DIR}/evidence -type f ! -path '*.evidence_*'").split("\n")
    assert evidence
    for name in evidence:
        content = drill.host.file(name).content.decode("utf-8", "replace")
        assert ACTIVE.findall(content) == [], name


def test_documents_contain_no_active_content(drill: Drill) -> None:
    (page,) = (drill.output / "recover").glob("INC-*.html")
    text = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text and "default-src" in text
    assert "alert(1)" in text, "the content of the log is missing"
    assert not re.search(r"<(?:script|img|iframe|object|embed|form|base)\b", text)
    (document,) = (drill.output / "recover").glob("INC-*.md")
    text = document.read_text(encoding="utf-8")
    # Remove code spans, because Markdown inside them has no effect.
    prose = re.sub(r"(?<![\\`])(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text)
    assert not re.search(r"<(?:script|img)\b", prose)
    assert not re.search(r"(?<!\\)\]\(javascript:", prose)
    assert "@everyone" not in prose
    assert len(re.findall("(?m)^```mermaid", text)) <= 1


def test_account_had_only_the_documented_sudo_rules(drill: Drill) -> None:
    documented = (drill.output.parents[1] / "docs" / "sudoers").read_text(encoding="utf-8")
    rules = [line for line in documented.splitlines() if line and not line.startswith("#")]
    assert len(rules) == 1
    allowed = drill.host.check_output("sudo --list --other-user=itsm-runbook")
    assert [line.strip() for line in allowed.splitlines() if "NOPASSWD" in line] == [rules[0].partition("=")[2]]
    for command in ("/bin/sh", "/bin/sh -c id", "/usr/bin/python3", "/bin/sh -c 'echo BECOME-SUCCESS-x ; /usr/bin/id'"):
        refused = drill.host.run(f"runuser -u itsm-runbook -- sudo -n {command}")
        assert refused.rc == 1 and not refused.stdout, command
    as_others = "runuser -u itsm-runbook -- sudo -n -u itsm /bin/sh -c 'echo BECOME-SUCCESS-x ; /usr/bin/python3'"
    assert drill.host.run(as_others).rc == 1
