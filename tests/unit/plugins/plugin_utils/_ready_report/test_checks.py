# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check finds the problem that it looks for, and finds no problem on a good host.

If a check could not be carried out, its result is never READY.
"""

from __future__ import annotations

import copy
import datetime
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import (
    checks,
    document,
    end_of_life,
    notified,
    screen,
    seen,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    NOT_CHECKED,
    NOT_READY,
    READY,
    WARNING,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen_layout

NOW = timestamps.epoch("2026-11-29T12:00:00.000Z")
DAY, MIB = 86400.0, 1 << 20
LATE = {"id": "ready.part.late", "values": {"seconds": "20"}}


ROOT = Path(__file__).resolve().parents[5]


def ago(seconds: float) -> str:
    return timestamps.iso(NOW - seconds)


GOOD: dict[str, Any] = {
    "settings": {"problems": [], "mismatches": [], "resolved": {"state_dir_writable": True}},
    "privileges": {"user": "root", "enough": True},
    "clock": {"synchronized": True, "at": ago(1)},
    "drill": {"at": ago(5 * DAY), "ok": True, "rto_seconds": 12.0, "rpo_seconds": 3600, "problems": []},
    "incident": {"hold": None, "open": None},
    "unit": {
        "name": "itsm-system",
        "restart": "always",
        "at_boot": "enabled",
        "needs_reload": False,
        "start_limit_burst": 3,
        "start_limit_interval_seconds": 600.0,
        "restart_delay_seconds": 10.0,
        "memory_max": None,
        "open_files_max": 65536,
    },
    "guard": {"dropin": "/etc/x.conf", "installed": True, "guard": True, "recorder": True},
    "versions": {"python": "3.13.5", "node": "22.21.0"},
    "process": {"processes": [{"rss": 100 * MIB, "open_files": 40, "open_files_max": 65536}]},
    "log": {
        "path": "/var/log/itsm/server.log",
        "exists": True,
        "size": 5 * MIB,
        "bytes": 5 * MIB,
        "files": 1,
        "rotated_by": "/etc/logrotate.d/itsm",
        "rotated_files": 0,
        "scheduled": True,
    },
    "room": [
        {
            "mount": "/",
            "available": 5000 * MIB,
            "needed": 700 * MIB,
            "inodes": 1000000,
            "inodes_available": 900000,
            "inodes_needed": 20000,
            "read_only": False,
        }
    ],
    "certificate": {
        "path": "/etc/x.crt",
        "error": None,
        "not_after": timestamps.iso(NOW + 60 * DAY),
        "readable_by_service": True,
        "key": {"path": "/etc/x.key", "error": None, "matches": True, "readable": True},
    },
    "secrets": {"missing": [], "weak": [], "exposed": [], "hard_links_protected": True},
    "database": {"path": "/srv/itsm.db", "healthy": True, "conclusive": True, "problems": [], "rows": 200},
    "backups": {
        "found": [{"path": "/b/new.db", "at": ago(3600), "kind": "sound", "written_at": ago(3600), "why": None}],
        "number": 1,
        "unread": [],
    },
    "modules": {"ok": True, "why": None, "packages": 120, "seconds": 9.4},
}
CONTACTS = {
    "contacts": ["project_leader", "dba"],
    "channels": [
        {"contact": "project_leader", "name": "project leader", "channel": "mail a@b.c", "error": ""},
        {"contact": "dba", "name": "DBA", "channel": "slack hooks", "error": ""},
    ],
    "without_channel": [],
}


UNHEALTHY_PROBE = {"login": None, "summary": "https: answered 503", "messages": {}}
FAILED_PROBE = {"failed": True, "msg": "login is 'x': wrong"}


def login(*, ok: bool = True, checked: bool = True, error: str | None = None) -> dict[str, Any]:
    """Return the login in the facts about a host."""
    return {
        "configured": True,
        "declined": False,
        "result": {"login": {"ok": ok, "checked": checked, "error": error, "messages": {}}},
    }


def looked(changes: dict[str, Any] | None = None, *, missing: str = "", **more: Any) -> dict[str, Any]:
    """Return the facts about a good host, with changes such as {"unit.restart": "no"}."""
    known = copy.deepcopy(GOOD)
    for path, value in (changes or {}).items():
        *above, last = path.split(".")
        place: Any = known
        for name in above:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value
    parts = {}
    if missing:
        del known[missing]
        parts[missing] = LATE
    result = {"facts": known, "parts": parts, "duration": 10.0, "elapsed": 11.0, "answered_at": ago(0)}
    return {
        "host": "web",
        "service": "itsm-system",
        "result": result,
        "contacts": CONTACTS,
        "https": True,
        "login": login(ok=True),
        **more,
    }


def host(told: dict[str, Any]) -> document.Host:
    return seen.host("web", told, now=NOW)


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    """Return the verdicts other than READY, by check ID."""
    return {check.id: check.verdict for check in host(told).checks if check.verdict != READY}


def backup(kind: str, hours: float, why: str = "reason.restore.not_checked", **values: Any) -> dict[str, Any]:
    told = {"id": why, "values": values} if kind != "sound" else None
    written = ago(hours * 3600) if kind in ("sound", "older_schema", "without_wal") else None
    return {"path": f"/b/{kind}.db", "at": ago(hours * 3600), "kind": kind, "written_at": written, "why": told}


BAD_BACKUP = backup("damaged", 1, "reason.sqlite.no_tables", path="/b/damaged.db")
NO_GUARD = {"guard.installed": False, "guard.guard": False, "guard.recorder": False}
REFUSED = {"contact": "dba", "channel": "slack hooks", "ok": False, "error": "answered 404 Not Found"}
TAKEN = [
    {"contact": each["contact"], "channel": each["channel"], "ok": True, "error": ""} for each in CONTACTS["channels"]
]
# The second channel has a type that the module does not know.
CUSTOM = {**CONTACTS, "channels": [CONTACTS["channels"][0], {**CONTACTS["channels"][1], "checked": False}]}

# A change to the good host, the check that finds this change, the check's verdict, and a part of the check's text.
LACKS: list[tuple[Any, str, str, str]] = [
    ({"privileges.enough": False, "privileges.user": "deploy"}, "privileges", NOT_READY, "as deploy"),
    (
        {"settings.problems": [{"variable": "nexus_user", "message": "nexus_user is 'x': wrong"}]},
        "settings",
        NOT_READY,
        "nexus_user is 'x'",
    ),
    ({"settings.resolved": {"state_dir_writable": False}}, "settings", NOT_READY, "state folder"),
    ({"settings.mismatches": [{"variable": "nexus_db_path"}]}, "settings", WARNING, "nexus_db_path"),
    ({"incident.hold": {"incident": "INC-1"}}, "incident", NOT_READY, "held by incident INC-1"),
    ({"incident.open": "INC-2"}, "incident", WARNING, "INC-2"),
    ({"modules.ok": False, "modules.why": message("ready.unknown_fact").to_dict()}, "modules", NOT_READY, "offline"),
    ({"room.0.available": 100 * MIB}, "room", NOT_READY, "100 MiB of free space, but a recovery needs 700 MiB"),
    ({"room.0.inodes_available": 5}, "room", NOT_READY, "5 free inodes"),
    ({"room.0.read_only": True}, "room", NOT_READY, "read-only"),
    ({"room": []}, "room", NOT_CHECKED, "unknown"),
    (
        {"database.healthy": False, "database.problems": [{"message": "page 7 is damaged"}]},
        "database",
        NOT_READY,
        "page 7",
    ),
    ({"database.conclusive": False}, "database", NOT_CHECKED, "did not finish"),
    ({"backups.found": [], "backups.number": 0}, "backup", NOT_READY, "there is no backup"),
    ({"backups.found": [BAD_BACKUP]}, "backup", NOT_READY, "none of the 1 examined backups"),
    ({"backups.found": [backup("not_checked", 1)]}, "backup", NOT_CHECKED, "no backup could be checked"),
    ({"backups.found": [backup("sound", 90)]}, "backup", NOT_READY, "4 days old"),
    ({"backups.found": [BAD_BACKUP, backup("sound", 90)]}, "backup", NOT_READY, "Newer backups have problems"),
    ({"backups.found": [BAD_BACKUP, backup("sound", 5)]}, "backup", WARNING, "newer backups have problems"),
    (
        {"backups.found": [backup("older_schema", 5, "ready.backup.older_schema", number=2, first="003.js")]},
        "backup",
        WARNING,
        "lacks 2 migrations",
    ),
    (
        {"backups.found": [backup("without_wal", 90, "ready.backup.without_wal", last=ago(9e5), newest=ago(9e4))]},
        "backup",
        NOT_READY,
        "without its -wal file",
    ),
    ({"drill": {"missing": True}}, "drill", WARNING, "no restore drill has been run"),
    ({"drill.at": ago(40 * DAY)}, "drill", WARNING, "40 days ago"),
    ({"drill.ok": False, "drill.problems": ["no answer"]}, "drill", NOT_READY, "no answer"),
    ({"certificate.not_after": ago(1)}, "certificate", NOT_READY, "expired"),
    ({"certificate.not_after": timestamps.iso(NOW + 3600)}, "certificate", NOT_READY, "expires on"),
    ({"certificate.not_after": timestamps.iso(NOW + 3 * DAY)}, "certificate", WARNING, "in 3 days"),
    ({"certificate.key.matches": False, "certificate.key.error": "x"}, "certificate", NOT_READY, "not the key"),
    ({"certificate.error": "Cannot read /etc/x.crt: gone"}, "certificate", NOT_READY, "gone"),
    ({"certificate.key.readable": False}, "certificate", NOT_READY, "cannot read"),
    ({"certificate.path": None}, "certificate", NOT_CHECKED, "nexus_tls_cert_path"),
    ({"unit.at_boot": "disabled"}, "restart_policy", NOT_READY, "at boot (the unit is disabled)"),
    ({"unit.restart": "no"}, "restart_policy", NOT_READY, "Restart=no"),
    ({"unit.needs_reload": True}, "restart_policy", WARNING, "has not read it"),
    ({"unit.start_limit_interval_seconds": 10.0}, "start_limit", WARNING, "never reached"),
    ({"unit.start_limit_burst": 0}, "start_limit", WARNING, "never ends"),
    ({"log.rotated_by": None}, "logs", WARNING, "not rotated"),
    ({"log.rotated_by": None, "log.size": 2 << 30}, "logs", NOT_READY, "not rotated"),
    ({"log.scheduled": False}, "logs", WARNING, "nothing starts logrotate"),
    ({"log.bytes": 6 << 30, "log.files": 70}, "logs", WARNING, "70 log files"),
    ({"process.processes": [{"open_files": 10, "open_files_max": 256}]}, "limits", NOT_READY, "only 256 files"),
    ({"unit.open_files_max": 256}, "limits", NOT_READY, "only 256 files"),
    ({"process.processes": [{"open_files": 990, "open_files_max": 1024}]}, "limits", NOT_READY, "open (limit: 1024)"),
    ({"unit.memory_max": 105 * MIB}, "limits", WARNING, "100 MiB of memory (limit: 105 MiB)"),
    ({"process.processes": [], "unit.open_files_max": None}, "limits", NOT_CHECKED, "not running"),
    ({"secrets.missing": ["JWT_SECRET"]}, "secrets", NOT_READY, "JWT_SECRET"),
    ({"secrets.exposed": [{"path": "/e", "mode": "0644"}]}, "secrets", NOT_READY, "/e (mode 0644)"),
    ({"secrets.weak": ["JWT_SECRET"]}, "secrets", WARNING, "placeholders"),
    ({"secrets.hard_links_protected": False}, "secrets", WARNING, "fs.protected_hardlinks is 0"),
    ({"secrets.missing": None}, "secrets", NOT_CHECKED, "unknown"),
    ({"clock.at": ago(600)}, "clock", NOT_READY, "600 s"),
    ({"clock.at": ago(-20)}, "clock", WARNING, "20 s"),
    ({"clock.synchronized": False}, "clock", WARNING, "not synchronized"),
    ({"versions.node": "18.20.4"}, "versions", WARNING, "support has ended: Node.js 18.20.4 (end of support: 2025"),
    ({"versions.python": "3.8.20"}, "versions", WARNING, "Python 3.8.20"),
    ({"versions.node": "99.1.0"}, "versions", NOT_CHECKED, "99.1.0 is unknown"),
    ({"versions.node": None}, "versions", NOT_CHECKED, "the version of Node.js is unknown"),
    (NO_GUARD, "guard", WARNING, "not installed"),
    ({"guard.recorder": False}, "guard", NOT_READY, "only partly"),
    ({"login": {"configured": False, "declined": False}}, "login", WARNING, "nexus_login_password is not set"),
    ({"login": {"configured": True}}, "login", NOT_CHECKED, "unknown"),
    ({"login": login(ok=False, error="answered 401")}, "login", NOT_READY, "answered 401"),
    ({"login": login(checked=False)}, "login", NOT_CHECKED, "rate limit"),
    ({"login": {"configured": True, "result": UNHEALTHY_PROBE}}, "login", NOT_CHECKED, "not healthy, so no login"),
    ({"login": {"configured": True, "result": UNHEALTHY_PROBE}}, "login", NOT_CHECKED, "answered 503"),
    ({"login": {"configured": True, "check_mode": True}}, "login", NOT_CHECKED, "no login was tried in check mode"),
    ({"login": {"configured": True, "result": FAILED_PROBE}}, "login", NOT_CHECKED, "login is 'x'"),
    ({"contacts": {}}, "contacts", NOT_CHECKED, "not checked"),
    ({"contact_problems": ["escalation_timeout is 0: must be more"]}, "contacts", NOT_READY, "escalation_timeout"),
    ({"contacts": {"channels": [], "without_channel": ["DBA"]}}, "contacts", NOT_READY, "nobody"),
    ({"contacts": {**CONTACTS, "without_channel": ["DBA"]}}, "contacts", WARNING, "(no message was sent), but these"),
    (
        {"contacts": {**CONTACTS, "without_channel": ["DBA"]}, "tested": TAKEN},
        "contacts",
        WARNING,
        "accepted a test message, but these contacts have no channel: DBA",
    ),
    (
        {"contacts": {**CONTACTS, "channels": [{**CONTACTS["channels"][0], "error": "no answer in time"}]}},
        "contacts",
        NOT_READY,
        "channels do not work: project leader by mail a@b.c",
    ),
    ({"tested": [REFUSED]}, "contacts", NOT_READY, "404"),
    ({"contacts": CUSTOM}, "contacts", WARNING, "1 of 2 channels can be reached"),
    ({"contacts": CUSTOM}, "contacts", WARNING, "were not checked because their type is custom: DBA (slack hooks)"),
    (
        {"contacts": {**CUSTOM, "without_channel": ["CTO"]}},
        "contacts",
        WARNING,
        "but these contacts have no channel: CTO",
    ),
    ({"contacts": {**CUSTOM, "without_channel": ["CTO"]}}, "contacts", WARNING, "type is custom: DBA (slack hooks)"),
    ({"notify": ["manager"]}, "contacts", NOT_READY, "not in escalation_contacts: manager"),
]
_OF_CONTROLLER = ("notify", "login", "contacts", "contact_problems", "tested", "https")


def test_a_good_host_is_ready() -> None:
    found = host(looked())
    assert verdicts(looked()) == {}
    assert found.ready
    assert [check.id for check in found.checks] == list(checks.CHECKS)


@pytest.mark.parametrize(("changes", "name", "verdict", "words"), LACKS)
def test_a_lack_is_found_by_its_check_alone(changes: Any, name: str, verdict: str, words: str) -> None:
    told = looked(**changes) if set(changes) <= set(_OF_CONTROLLER) else looked(changes)
    assert verdicts(told) == {name: verdict}
    line = next(each for each in document.lines(catalogue.of("en"), host(told)) if each.id == name)
    assert words.lower() in line.told.lower()
    assert bool(line.remedy) == (verdict in (WARNING, NOT_READY))
    essential = checks.CHECKS[name].essential
    assert host(told).ready == (verdict == WARNING or (verdict == NOT_CHECKED and not essential))


def test_every_check_has_a_lack() -> None:
    assert {name for _changes, name, _verdict, _words in LACKS} | {"connection"} == set(checks.CHECKS)


def test_an_empty_password_in_the_inventory_means_no_login_check() -> None:
    told = looked(login={"configured": False, "declined": True})
    assert verdicts(told) == {"login": NOT_CHECKED} and host(told).ready
    line = next(each for each in document.lines(catalogue.of("en"), host(told)) if each.id == "login")
    assert "does not check the login" in line.told


@pytest.mark.parametrize("part", sorted(GOOD))
def test_a_missing_fact_is_never_ready(part: str) -> None:
    found = {check.id: check for check in host(looked(missing=part)).checks}
    changed = {name for name, check in found.items() if check.verdict != READY}
    assert changed
    for name in changed:
        assert found[name].verdict == NOT_CHECKED
        assert found[name].told.id == "ready.part.late"


@pytest.mark.parametrize("value", [None, "x", 7, [], ["x"], {"x": 1}, {"hold": 3}, [{"mount": 3}]])
@pytest.mark.parametrize("part", sorted(GOOD))
def test_unexpected_values_from_a_host_are_never_ready(part: str, value: Any) -> None:
    ready_before = {check.id for check in host(looked()).checks if check.verdict == READY}
    told = looked({part: value})
    for language in ("en", "ja"):
        document.as_html(catalogue.of(language), [host(told)], at=ago(0))
    lost = ready_before - {check.id for check in host(told).checks if check.verdict == READY}
    assert lost or part in ("incident", "drill"), part


def test_an_unreachable_host_is_not_ready_and_nothing_else_is_claimed() -> None:
    why = message("reason.unreached", why="timed out")
    result = {"failed": True, "unreachable_host": True, "msg": "x", "messages": {"why": why.to_dict()}}
    found = host(looked(result=result, login={"configured": True}))
    assert not found.ready
    known = {check.id: check.verdict for check in found.checks}
    assert known.pop("connection") == NOT_READY
    assert known.pop("contacts") == READY
    assert set(known.values()) == {NOT_CHECKED}
    assert "timed out" in document.as_markdown(catalogue.of("en"), [found], at=ago(0))


def test_a_host_without_any_result_is_not_ready() -> None:
    found = seen.host("web", {}, now=NOW)
    assert found.checks[0].verdict == NOT_READY
    assert not found.ready


def test_an_accepted_test_message_is_told() -> None:
    lines = document.lines(catalogue.of("en"), host(looked(tested=TAKEN)))
    line = next(each for each in lines if each.id == "contacts")
    assert "accepted a test message" in line.told


def test_a_test_message_checks_a_custom_channel() -> None:
    lines = document.lines(catalogue.of("en"), host(looked(contacts=CUSTOM, tested=TAKEN)))
    line = next(each for each in lines if each.id == "contacts")
    assert line.verdict == READY and "All 2 channels accepted a test message" in line.told


def test_only_channels_that_got_a_test_message_accepted_it() -> None:
    lines = document.lines(catalogue.of("en"), host(looked(tested=TAKEN[:1])))
    line = next(each for each in lines if each.id == "contacts")
    assert line.told == "1 of 2 channels accepted a test message, and the others can be reached."


def searched(node: Any) -> Iterator[str]:
    """Yield the values of the option backup_dirs in a YAML file."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "backup_dirs")
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from searched(each)


def test_the_report_and_the_drill_look_for_backups_where_the_recovery_finds_them() -> None:
    def load(path: str) -> Any:
        return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))

    recovery = list(searched(load("roles/database_recovery/tasks/database.yml")))
    assert len(recovery) == 2
    assert {*recovery, *searched(load("playbooks/outage_ready.yml"))} == {"{{ nexus_all_backup_dirs }}"}
    assert load("roles/restore_drill/defaults/main.yml")["restore_drill_backup_dirs"] == "{{ nexus_all_backup_dirs }}"


def test_each_table_of_versions_is_sorted_by_release_and_has_valid_days() -> None:
    assert end_of_life.end_of_life("python", "3.12.1") == datetime.date(2028, 10, 31)
    assert end_of_life.end_of_life("node", "v24.1.0") == datetime.date(2028, 4, 30)
    assert end_of_life.end_of_life("node", "") is None
    compared = datetime.date.fromisoformat(end_of_life.COMPARED)
    for table, _pattern in end_of_life._RELEASES.values():
        releases = [tuple(map(int, release.split("."))) for release in table]
        assert releases == sorted(set(releases))
        assert max(map(datetime.date.fromisoformat, table.values())) > compared


ALL_LACKING = {
    path: value
    for changes, _name, verdict, _words in LACKS
    if verdict == NOT_READY and not set(changes) <= set(_OF_CONTROLLER)
    for path, value in changes.items()
    if path.count(".") == 1
}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("told", [looked(), looked({"unit.restart": "no"}), looked(ALL_LACKING, contacts={})])
def test_the_screen_has_the_verdict_first_and_fits(language: str, told: dict[str, Any]) -> None:
    words = catalogue.of(language)
    found = host(told)
    lines = screen.lines(words, found, last=["report: /x/readiness.html"])
    assert len(lines) <= screen_layout.LINES
    assert max(map(screen_layout.columns, lines)) <= screen_layout.WIDTH
    assert lines[0].startswith(words.say("ready.yes" if found.ready else "ready.no"))
    assert "readiness.html" in lines[-1]
    if not found.ready:
        first = document.lines(words, found)[0]
        assert first.blocks
        assert lines[2].strip().startswith(first.name)


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("told", [looked(ALL_LACKING, contacts={}), looked(ALL_LACKING)])
def test_the_screen_lists_each_check_that_is_not_ready(language: str, told: dict[str, Any]) -> None:
    words = catalogue.of(language)
    found = host(told)
    problems = [each for each in document.lines(words, found) if each.verdict != words.say("ready.verdict.ready")]
    text = "".join("".join(screen.lines(words, found, last=[])).split())
    assert len(problems) > 10
    assert [each.name for each in problems if each.name.replace(" ", "") not in text] == []


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_documents_contain_each_check_once(language: str) -> None:
    words = catalogue.of(language, "Asia/Tokyo")
    hosts = [host(looked({"unit.restart": "no"})), seen.host("other", looked(), now=NOW)]
    page, text = (write(words, hosts, at=ago(0)) for write in (document.as_html, document.as_markdown))
    told = json.loads(document.as_json(words, hosts, at=ago(0)))
    assert told["schema"] == 1
    assert not told["ready"]
    assert [each["not_ready"] for each in told["hosts"]] == [["restart_policy"], []]
    assert len(re.findall(r"<tr class=", page)) == 2 * len(checks.CHECKS)
    assert text.count("\n| ") == 2 * (len(checks.CHECKS) + 2)
    for check in told["hosts"][0]["checks"]:
        assert check["text"] in html.unescape(page)


def test_a_channel_that_does_not_work_is_not_reported_as_a_failing_recovery() -> None:
    found = host(looked(tested=[REFUSED]))
    told = document.as_markdown(catalogue.of("en"), [found], at=ago(0))
    assert found.blocking == ["contacts"]
    assert "This host is not ready for a recovery." in told
    assert "may fail" not in told


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("changes", [NO_GUARD, {"guard.recorder": False}])
def test_the_remedy_for_the_start_guard_installs_it(language: str, changes: dict[str, Any]) -> None:
    """If this variable is not set, outage_guard.yml only shows the state."""
    lines = document.lines(catalogue.of(language), host(looked(changes)))
    assert "-e outage_guard_state=present" in next(each.remedy for each in lines if each.id == "guard")


def test_the_error_of_the_playbook_points_to_the_report() -> None:
    """Ansible prints the error below the report. A reader could mistake it for a fault in the playbook."""
    plays = yaml.safe_load((ROOT / "playbooks/outage_ready.yml").read_text(encoding="utf-8"))
    shown, *_published, last = plays[-1]["tasks"][-3:]
    assert "outage_ready_shown.screen" in shown["ansible.builtin.debug"]["msg"]
    (problem,) = last["itsm_nexus.runbook.fail_settings"]["problems"]
    assert problem.startswith("NOT READY: ")
    assert problem.endswith("(the result of the check, see the report above)")


def test_text_from_a_host_has_no_effect_in_the_documents() -> None:
    hostile = "<script>alert(1)</script>|[x](javascript:y)\u2028"
    told = looked({"database.path": hostile, "unit.restart": hostile})
    page = document.as_html(catalogue.of("en"), [host(told)], at=ago(0))
    assert "<script" not in page
    text = document.as_markdown(catalogue.of("en"), [host(told)], at=ago(0))
    assert "<script" not in text
    assert "](" not in text.replace("\\](", "")


def test_one_notification_a_day_while_the_same_is_not_ready(tmp_path: Any) -> None:
    folder = str(tmp_path / "documents")
    assert notified.before(notified.read(folder), "web", ["backup"], now=NOW) is None
    notified.write(folder, {"web": ["backup", "room"]}, ready=[], now=NOW)
    known = notified.read(folder)
    assert notified.before(known, "web", ["backup"], now=NOW + 3600) == ago(0)
    assert notified.before(known, "web", ["backup", "clock"], now=NOW + 3600) is None
    assert notified.before(known, "web", ["backup"], now=NOW + DAY) is None
    assert notified.before(known, "web", ["backup"], now=NOW - 3600) is None
    assert notified.before(known, "db", ["backup"], now=NOW + 3600) is None
    notified.write(folder, {}, ready=["web"], now=NOW + 3600)
    assert notified.read(folder) == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"hosts": 3}', '{"hosts": {"web": 3}}', "\x00"])
def test_a_damaged_memory_of_notifications_is_ignored(tmp_path: Any, content: str) -> None:
    (tmp_path / notified.NAME).write_text(content, encoding="utf-8")
    assert notified.before(notified.read(str(tmp_path)), "web", ["backup"], now=NOW) is None
    notified.write(str(tmp_path), {"web": ["backup"]}, ready=[], now=NOW)
    assert notified.before(notified.read(str(tmp_path)), "web", ["backup"], now=NOW + 1) == ago(0)


def test_each_host_is_judged_by_its_own_limits() -> None:
    changes = {"certificate.not_after": timestamps.iso(NOW + 20 * DAY), "process.processes.0.open_files": 40000}
    assert verdicts(looked(changes)) == {}
    own = {"certificate_days": "30", "open_files_percent": 50, "rpo_hours": 0.5, "drill_days": 1}
    expected = {"certificate": WARNING, "limits": NOT_READY, "backup": NOT_READY, "drill": WARNING}
    assert verdicts(looked(changes, limits=own)) == expected
    assert verdicts(looked(changes, limits={"open_files_percent": 0, "certificate_days": 0})) == {}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("rpo_hours", 0, "a number above 0"),
        ("drill_days", "soon", "a number above 0"),
        ("certificate_days", -1, "0 or a number above 0"),
        ("open_files_percent", float("nan"), "0 or a number above 0"),
        ("rpo", 1, "one of rpo_hours"),
    ],
)
def test_an_invalid_limit_is_named(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"limits\.{name} of web is .*must be {allowed}"):
        host(looked(limits={name: value}))


@pytest.mark.parametrize(
    ("contacts", "leader", "dba"),
    [
        (CONTACTS, "project leader", "DBA"),
        # The channels could not be checked.
        (None, "project_leader", "dba"),
    ],
)
def test_the_screen_names_the_notified_contacts(contacts: Any, leader: str, dba: str) -> None:
    by_mail = {"contact": "project_leader", "channel": "mail a@b.c", "ok": True}
    sent = [by_mail, {**by_mail, "channel": "webhook x"}, REFUSED]
    names = seen.names({"contacts": contacts})
    assert screen.notifications(catalogue.of("en"), sent, names=names) == [
        f"notified: {leader} by mail a@b.c and webhook x",
        f"NOT notified: {dba} by slack hooks",
    ]
    (notified_contacts, _others) = screen.notifications(catalogue.of("ja"), sent, names=names)
    assert ("プロジェクトリーダー" in notified_contacts) is (contacts is not None)
    assert screen.notifications(catalogue.of("en"), [], names=names) == []
