# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The statements in a notification exist in both languages and match those in the documents."""

from __future__ import annotations

import ast
import functools
import pathlib
import socket
from typing import Any

import jinja2
import jinja2.nativetypes
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import notice
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, kinds, statements

PROJECT = pathlib.Path(__file__).resolve().parents[5]
FACTS: dict[str, Any] = {
    "event": "raised",
    "rule": "data_loss",
    "reason": "Data loss is suspected.",
    "severity": "critical",
    "outage_seconds": 185.2,
    "outage_started_at": "2026-03-02T01:00:00.000Z",
    "mitigated_at": "",
    "cause": "disk_full",
    "cause_summary": "No space is left on /srv.",
    "remedies": [],
    "rungs_tried": [],
    "nothing_changed": "no",
    "nothing_started": "no",
    "data_loss": "unknown",
    "data_loss_why": "not_after",
    "next_step": "",
    "messages": {"cause_summary": [message("finding.disk_full.now", mounts="/srv").to_dict()]},
}


def texts(language: str, **changes: Any) -> dict[str, Any]:
    return notice.texts({**FACTS, **changes}, language)


def test_the_cause_is_worded_as_in_the_documents() -> None:
    assert texts("en")["cause"] == "disk_full: Almost no space is left on /srv"
    assert texts("ja")["cause"] == "ディスク容量不足：/srv の空き容量がほとんどない"
    # If there is no message, the English text is quoted.
    assert texts("ja", messages={})["cause"] == "ディスク容量不足：「No space is left on /srv」"
    assert texts("en", cause_summary="", messages={})["cause"] == "disk_full"


def test_the_change_that_explains_the_cause_is_worded_as_in_the_documents() -> None:
    change = {"kind": "packages", "name": "vim", "what": "added", "relation": "explains", "seconds_before": 60.0}
    assert texts("en", changes=[change])["change"] == "1 min before the failure: vim (package) added"
    assert texts("ja", changes=[change])["change"] == "停止の1分前：vim（パッケージ）の追加"
    assert texts("en", changes=[{**change, "relation": "unlikely"}])["change"] == ""
    assert texts("en")["change"] == texts("en", changes=[])["change"] == ""


def test_the_time_of_the_outage_is_worded_as_in_the_documents() -> None:
    english, japanese = (texts(each, mitigated_at="2026-03-02T01:03:05.200Z") for each in ("en", "ja"))
    times = ("began", "ended", "lasted")
    assert [english[each] for each in times] == ["2026-03-02 01:00:00 UTC", "2026-03-02 01:03:05 UTC", "3 min 5 s"]
    assert [japanese[each] for each in times] == [
        "2026年03月02日 01:00:00 UTC",
        "2026年03月02日 01:03:05 UTC",
        "3分5秒",
    ]
    unknown = texts("en", outage_seconds=0.0, outage_started_at="")
    assert [unknown[each] for each in times] == ["", "", ""]


def test_times_are_also_in_the_time_zone() -> None:
    expected = "2026年03月02日 10:00:00 JST（2026年03月02日 01:00:00 UTC）"
    assert notice.texts(FACTS, "ja", "Asia/Tokyo")["began"] == expected


def test_a_rule_of_the_inventory_has_its_own_reason() -> None:
    assert texts("ja", rule="our_own", reason="Our reason.")["reason"] == "Our reason."
    assert texts("ja")["reason"] == "データ損失の疑いがあるため"


@pytest.mark.parametrize(
    ("rung", "english", "japanese"),
    [
        ({"held": True}, "restart succeeded", "再起動（成功）"),
        ({"held": False}, "restart failed", "再起動（失敗）"),
        ({"held": None}, "restart not verified", "再起動（未確認）"),
        (
            {"serves": True},
            "restart made the service answer, but the login failed",
            "再起動（サービスは応答したが、ログインに失敗）",
        ),
        (
            {"held": False, "reason": "no answer"},
            "restart failed: no answer",
            "再起動（失敗）：「no answer」",
        ),
        (
            {
                "held": False,
                "reason": "the process is gone",
                "messages": {"reason": [message("reason.probe.gone").to_dict()]},
            },
            "restart failed: the process is gone",
            "再起動（失敗）：プロセス消失",
        ),
        (
            {"rung": "database_recovery by backup", "held": True},
            "database_recovery by backup succeeded",
            "データベース復旧（backup）（成功）",
        ),
    ],
)
def test_each_rung_is_a_line(rung: dict[str, Any], english: str, japanese: str) -> None:
    tried = [{"rung": "restart", **rung}]
    assert (texts("en", rungs_tried=tried)["done"], texts("ja", rungs_tried=tried)["done"]) == ([english], [japanese])


def test_each_remedy_is_a_line() -> None:
    told = {"action": message("deed.stop", processes=["pid 7 tar"]).to_dict()}
    tried = [{"cause": "db_locked", "action": "stop it", "failed": True, "messages": told}, {"cause": "oom_kill"}]
    assert texts("ja", remedies=tried)["done"] == [
        "このアプリケーションのプロセス、または方針で許可されたプロセスであれば停止する：pid 7 tar（失敗）",
        "OOMKill（メモリ不足）",
    ]
    assert texts("en", remedies=tried)["done"][0].endswith("policy lists them: pid 7 tar (failed)")


def test_without_a_step_the_line_states_whether_anything_was_changed() -> None:
    assert texts("en")["done"] == ["no recovery step was tried and no remedy applied"]
    assert texts("en", nothing_changed="yes")["done"] == ["nothing was changed"]
    held = {"messages": {"next_step": [message("next_step.held", incident="INC-1").to_dict()]}}
    assert texts("en", **held)["done"] == ["no recovery step was tried and no remedy applied; the service is held"]
    assert texts("ja", **held)["done"] == ["復旧段階・対処ともに未実施。サービスの起動は保留中"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "unknown (the rows were not counted at the end of the run)"),
        ({"data_loss_why": "of_a_later_version"}, "unknown"),
        (
            {"data_loss_why": "not_compared"},
            "unknown (this run did not compare the rows; for the result of earlier runs, see the postmortem)",
        ),
        ({"data_loss": "none"}, "none (no table has fewer rows than before)"),
        ({"data_loss": "suspected"}, "SUSPECTED. Change nothing until the DBA has decided what to do"),
        ({"data_loss": "known", "data_loss_why": ""}, "YES. The database recovery lost rows"),
        (
            {"data_loss": "known", "data_loss_why": "", "rows_lost": {"rows": 3, "exact": False}},
            "YES. The database recovery lost at least 3 rows",
        ),
        (
            {"data_loss": "known", "data_loss_why": "", "rows_lost": {"rows": 1, "exact": True}},
            "YES. The database recovery lost 1 row",
        ),
        (
            {"data_loss": "suspected", "data_loss_why": "already_lost"},
            "SUSPECTED. Change nothing until the DBA has decided what to do. The database recovery has already lost "
            "rows",
        ),
        (
            {"data_loss": "suspected", "nothing_started": "yes"},
            "SUSPECTED. Change nothing until the DBA has decided what to do. No run started the service",
        ),
        ({"data_loss": "suspected", "data_loss_why": "accepted"}, "SUSPECTED. A person has accepted this damage"),
    ],
)
def test_the_data_loss_is_worded_as_in_the_documents(changes: dict[str, Any], expected: str) -> None:
    """Exception: a message about suspected data loss does not request a call to the DBA, who may receive it."""
    assert texts("en", **changes)["data_loss"] == expected


@pytest.mark.parametrize(
    ("changes", "english", "japanese"),
    [
        ({"event": "acknowledged"}, "", ""),
        (
            {"event": "resolved"},
            "No urgent action is needed; the postmortem lists the follow-up actions.",
            "緊急の対応は不要。今後の対応はポストモーテムを参照する。",
        ),
        (
            {
                "event": "resolved",
                "messages": {
                    "next_step": [message("next_step.database.loss_in_evidence", statement="7 rows").to_dict()]
                },
            },
            "Inform the data owners about the loss (7 rows). The damaged files are in the evidence.",
            "失われたデータを関係者に報告する：7 rows。破損したファイルは証拠として保存されている。",
        ),
        (
            {
                "event": "resolved",
                "messages": {
                    "next_step": [
                        message("next_step.accepted.planned", at="10:00", reason="CHG-1", command="x").to_dict()
                    ]
                },
            },
            "On 10:00, a person accepted the damage to the database (CHG-1). Agree with the DBA on a time for the "
            "repair or the restore. The check below shows which data each method would lose and which command to run "
            "at that time:\nx --check",
            "データベースの破損は、担当者が 10:00 に了承済み（CHG-1）。修復または復元する時刻を決める。"
            "次のコマンドで復旧方法ごとに失われるデータを確認し、「次の対応」に表示されるコマンドを実行する：\n"
            "x --check",
        ),
        (
            {"event": "resolved", "rule": "repeated_restarts"},
            "Find out why the service had to be started so often. The cause of each outage is in the postmortem of its "
            "incident.",
            "サービスの起動が繰り返された理由を調べる。各停止の原因は、そのインシデントのポストモーテムに記載。",
        ),
        (
            {"rule": "repeated_restarts", "next_step": "Call Ms Sato."},
            "Find out why the service had to be started so often. The cause of each outage is in the postmortem of its "
            "incident.\nCall Ms Sato.",
            "サービスの起動が繰り返された理由を調べる。各停止の原因は、そのインシデントのポストモーテムに記載。\n"
            "「Call Ms Sato」。",
        ),
        *(
            (
                {
                    "event": event,
                    "rule": "repeated_restarts",
                    "messages": {"next_step": [message("next_step.recovered").to_dict()]},
                },
                "Find out why the service had to be started so often. The cause of each outage is in the postmortem of "
                "its incident.\nComplete the open prevention items in section 6 of the postmortem.",
                "サービスの起動が繰り返された理由を調べる。各停止の原因は、そのインシデントのポストモーテムに記載。\n"
                "ポストモーテムの第6節で、未完了の再発防止策に対応する。",
            )
            for event in ("raised", "resolved")
        ),
        ({"rule": "our_own"}, "Find out what happened.", "状況を確認する。"),
        ({"next_step": "Call Ms Sato."}, "Call Ms Sato.", "「Call Ms Sato」。"),
        (
            {
                "next_step": "x",
                "messages": {
                    "next_step": [
                        message("next_step.recovered").to_dict(),
                        message("next_step.held", incident="INC-1").to_dict(),
                    ]
                },
            },
            "Complete the open prevention items in section 6 of the postmortem.\n"
            "The service is held by incident INC-1: until the hold is released, "
            "neither this collection nor systemd starts it.",
            "ポストモーテムの第6節で、未完了の再発防止策に対応する。\n"
            "サービスの起動はインシデント INC-1 により保留されており、解除されるまで、"
            "本コレクションも systemd もサービスを起動しない。",
        ),
    ],
)
def test_the_reader_is_asked_for_the_next_step(changes: dict[str, Any], english: str, japanese: str) -> None:
    assert (texts("en", **changes)["asked"], texts("ja", **changes)["asked"]) == (english, japanese)


# The contact of the rule has a channel.
LEAD: dict[str, Any] = {"to": ["Ms Lead"], "contacts": ["lead"], "names": {"lead": "Ms Lead"}, "without_channel": []}


@pytest.mark.parametrize(
    ("deliveries", "dry", "reason", "also"),
    [
        ([("not_recovered", "Ms Lead")], False, "It failed.", ""),
        ([("data_loss", "Ms Lead"), ("resolved", "the DBA")], True, "A backup.", " Would also notify the DBA {over}."),
        ([("resolved", "the DBA"), ("resolved", "the DBA")], False, "A backup.", " Also notifying the DBA {over}."),
        # A rule in an inventory may have a reason without a full stop.
        ([("resolved", "the DBA"), ("resolved", "all")], False, "A backup", ". Also notifying the DBA, all {over}."),
        # A contact of the rule is not listed twice.
        ([("data_loss", "Ms Lead"), ("resolved", "Ms Lead")], False, "A backup.", ""),
        ([("acknowledged", "PagerDuty")], False, "It.", " Also notifying PagerDuty that somebody is working on it."),
        # The channel of an earlier message was removed, so nothing is sent.
        ([("resolved", "the DBA", "it is no longer set in escalation_contacts")], False, "It.", ""),
        (
            [("acknowledged", "the DBA", "it is no longer set"), ("resolved", "Mr Abe")],
            *(False, "It.", " Also notifying Mr Abe {over}."),
        ),
        # A rule in an inventory may have no reason.
        ([("resolved", "the DBA")], False, None, " Also notifying the DBA {over}."),
    ],
)
def test_the_task_also_names_the_contacts_outside_the_rule(
    deliveries: list[tuple[str, ...]], dry: bool, reason: str | None, also: str
) -> None:
    known = [{"level": level, "name": name, "error": "".join(error)} for level, name, *error in deliveries]
    plan = {**LEAD, "reason": reason, "deliveries": known}
    told = notice.announcement(plan, deferred=False, dry=dry)
    assert told == f"{'Would notify' if dry else 'Notifying'} Ms Lead: {reason or ''}{also}".format(
        over="that the outage is over"
    )


def test_the_task_says_that_a_later_run_notifies() -> None:
    over = {"level": "resolved", "name": "the DBA", "error": ""}
    told = notice.announcement({**LEAD, "reason": "It failed.", "deliveries": [over]}, deferred=True, dry=True)
    start = "The run that continues the recovery will notify Ms Lead: It failed."
    assert told == f"{start} That run will also notify the DBA that the outage is over."


@pytest.mark.parametrize("step", ["next_step.recovered", "next_step.recovered_by_systemd"])
@pytest.mark.parametrize("language", ["en", "ja"])
def test_all_messages_about_the_end_contain_the_same_next_step(language: str, step: str) -> None:
    told = {"messages": {"next_step": [message(step).to_dict()]}, "outcome": "recovered", "recovered": True}
    first, last = (texts(language, event=event, data_loss="none", **told)["asked"] for event in ("raised", "resolved"))
    assert first == last
    assert texts(language, event="resolved", data_loss="none")["asked"] != last


CORRUPT = message("finding.db_corrupt.unsound", path="/srv/itsm.db", reasons=["a page is damaged"]).to_dict()
FEWER = message("reason.fewer_rows", tables=["users 3 -> 2"]).to_dict()


@pytest.mark.parametrize(
    ("why", "changes", "english"),
    [
        (
            [CORRUPT],
            {},
            "SUSPECTED. Change nothing until the DBA has decided what to do. Reason for the suspicion: see the cause",
        ),
        (
            [FEWER],
            {},
            "SUSPECTED. Change nothing until the DBA has decided what to do. Reason for the suspicion: there are "
            "fewer rows than before: users 3 -> 2",
        ),
        ([], {}, "SUSPECTED. Change nothing until the DBA has decided what to do"),
        ([{"id": "of.a.later.version"}], {}, "SUSPECTED. Change nothing until the DBA has decided what to do"),
        ([CORRUPT], {"data_loss_why": "accepted"}, "SUSPECTED. A person has accepted this damage"),
        ([CORRUPT], {"data_loss": "none"}, "none (no table has fewer rows than before)"),
    ],
)
def test_a_message_says_why_data_loss_is_suspected(
    why: list[dict[str, Any]], changes: dict[str, str], english: str
) -> None:
    messages = {"cause_summary": [CORRUPT], "data_loss": why}
    facts = {"data_loss": "suspected", "data_loss_why": "", "messages": messages, **changes}
    assert texts("en", **facts)["data_loss"] == english


@pytest.mark.parametrize(
    ("changes", "confirmed"),
    [
        ({"event": "resolved"}, False),
        ({"event": "raised", "recovered": True, "outcome": "recovered"}, False),
        ({"event": "raised", "recovered": False, "outcome": "not_recovered"}, True),
        ({"event": "resolved", "suspected_before": False}, True),
    ],
)
def test_a_message_about_the_end_says_that_a_suspected_loss_was_not_confirmed(
    changes: dict[str, Any], confirmed: bool
) -> None:
    told = texts("en", **{"data_loss": "none", "suspected_before": True, **changes})["data_loss"]
    more = "" if confirmed else ". The data loss that was suspected in an earlier message was not confirmed"
    assert told == f"none (no table has fewer rows than before){more}"


def test_after_a_manual_fix_the_reader_is_asked_to_count_the_rows() -> None:
    fixed = {"event": "resolved", "outcome": "resolved_manually", "rule": "record_only", "data_loss": "unknown"}
    assert texts("en", **fixed)["asked"].startswith("Run outage_verify.yml")
    assert texts("en", **{**fixed, "data_loss": "none"})["asked"].startswith("No urgent action is needed")


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("", "Decide whether the service may keep running. "),
        ("already_lost", "Decide whether the service may keep running. "),
        ("accepted", "No urgent action is needed; "),
    ],
)
def test_a_suspected_data_loss_needs_a_decision_after_the_outage(why: str, told: str) -> None:
    back = {"event": "resolved", "outcome": "recovered", "rule": "record_only", "data_loss": "suspected"}
    assert texts("en", **back, data_loss_why=why)["asked"].startswith(told)


@pytest.mark.parametrize("outcome", ["recovered", "recovered_by_systemd", "resolved_manually"])
def test_after_a_restart_the_reader_is_asked_to_count_the_rows_again(outcome: str) -> None:
    back = {"event": "resolved", "outcome": outcome, "rule": "record_only", "data_loss": "unknown"}
    told = "Run outage_verify.yml, because no run has counted the rows since the last start of the service"
    assert texts("en", **back, data_loss_why="restarted_since")["asked"].startswith(told)
    assert "サービスの最後の起動より後" in texts("ja", **back, data_loss_why="restarted_since")["asked"]


def test_every_rule_of_the_role_asks_for_something() -> None:
    rules = yaml.safe_load((PROJECT / "roles" / "escalation" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    without = {"record_only", "unreachable"}
    named = {rule["name"] for rule in rules["escalation_rules"]} - without
    assert not {name for name in named if f"asked.{name}" not in catalogue.of("en").sentences}


def test_the_templates_contain_no_sentences() -> None:
    for path in (PROJECT / "roles" / "escalation" / "templates").glob("*.j2"):
        template = path.read_text(encoding="utf-8")
        assert f"escalation_texts('{path.stem}', escalation_timezone)" in template
        assert "data_loss_why" not in template and "cause_summary" not in template and "next_step" not in template


def test_a_long_text_from_a_host_is_also_shortened_in_its_message() -> None:
    told = {"messages": {"why": message("quoted", text="x" * 5000).to_dict()}}
    kept = allowlist.of_result("itsm_nexus.runbook.npm_ci", told)
    assert len(kept["messages"]["why"]["values"]["text"]) <= kinds.TEXT_LIMIT


def test_a_contact_without_a_channel_is_told_how_to_add_one() -> None:
    plan = {"names": {"everyone": "the whole team"}, "without_channel": ["everyone"]}
    assert notice.no_channel(plan, "en") == [
        "No channel is set for the whole team, so this contact was not notified. Add a channel to "
        "escalation_contacts.everyone.channels, for example {type: mail, to: name@example.com}."
    ]
    assert notice.no_channel(plan, "ja") == [
        "全チームには通知経路がないため、通知していない。escalation_contacts.everyone.channels に通知経路を追加する"
        "（例：{type: mail, to: name@example.com}）。"
    ]


def test_the_name_of_a_contact_is_never_capitalized() -> None:
    plan = {"names": {"dba": "the DBA"}, "without_channel": ["dba"]}
    assert notice.no_channel(plan, "en")[0].startswith("No channel is set for the DBA, ")
    assert notice.no_channel(plan, "ja")[0].startswith("the DBAには")


def test_the_result_of_each_channel_and_the_contacts_without_one_are_listed() -> None:
    sent = [
        {"contact": "project_leader", "channel": "command page", "ok": True, "error": ""},
        {"contact": "project_leader", "channel": "slack", "ok": False, "error": "answered 500"},
    ]
    plan = {"without_channel": ["dba"], "names": {"project_leader": "Ms Sato", "dba": "the DBA"}}
    assert notice.results(plan, sent) == [
        "Ms Sato by command page: notified",
        "Ms Sato by slack: NOT SENT, answered 500",
        "the DBA: NOT NOTIFIED, no channel is set",
    ]


def lines_of(language: str, *, preview: bool = False, documents: str = "", **changes: Any) -> list[str]:
    """Return the lines of a message, as the escalation role renders it. preview: True in check mode."""
    known = {"test": False, "service": "itsm", "host": "node1", "recovered": False, "outcome": "not_recovered"}
    known |= {"still_down": "yes", "mitigated_estimated": False, "incident": "INC-1", "evidence": "", "to": "Ms Sato"}
    known |= {"acknowledged_by": "", "job": ""}
    folder = PROJECT / "roles" / "escalation" / "templates"
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(trim_blocks=True, loader=loader)  # noqa: S701 - plain text
    texts_of = functools.partial(notice.texts, documents=documents)
    environment.filters["itsm_nexus.runbook.escalation_texts"] = texts_of
    template = environment.get_template(f"{language}.j2")
    told = template.render(_escalation_facts={**FACTS, **known, **changes}, _escalation_dry=preview)
    return str(told).strip().splitlines()


def subject(language: str, **changes: Any) -> str:
    return lines_of(language, **changes)[0]


def test_a_failed_readiness_check_does_not_predict_a_failed_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several channels does not work, the host is not ready."""
    monkeypatch.setattr(notice, "_IN_CONTAINER", ())
    told = {"outcome": "not_ready", "severity": "warning", "messages": {"notice": ["contacts: no answer"]}}
    place = f"/srv/readiness.html on the controller {socket.gethostname()}"
    assert f"Report: {place}" in lines_of("en", evidence="/srv/readiness.html", **told)
    assert subject("en", **told) == "NOT READY for a recovery: itsm on node1"
    assert subject("ja", **told) == "【準備未完了】node1 の itsm は、復旧の準備ができていません"


def test_a_closed_incident_passes_the_number_of_lost_rows_as_a_number() -> None:
    """In ansible-core 2.18, a number stays a number only if one expression returns the whole dictionary."""
    tasks = yaml.safe_load((PROJECT / "playbooks/tasks/close_resolved_incident.yml").read_text(encoding="utf-8"))
    (given,) = [
        each["vars"]["escalation_rows_lost"] for each in tasks if "escalation_rows_lost" in each.get("vars", {})
    ]
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - plain text
    for data, rows in (({"rows_lost": 9}, 9), ({}, 0)):
        told = environment.from_string(given).render(resolved_data=data)
        assert ast.literal_eval(told) == {"rows": rows, "exact": False}


@pytest.mark.parametrize(
    ("outcome", "data", "before", "expected"),
    [
        ("login_failed", None, ("none", ""), ("none", "")),
        ("login_failed", {}, (), ("unknown", "not_compared")),
        ("not_recovered", {}, (), ("unknown", "")),
        ("login_failed", {"loss": "unknown"}, ("none", ""), ("unknown", "uncounted")),
    ],
)
def test_a_closed_incident_keeps_the_statement_of_earlier_runs_about_the_data(
    outcome: str, data: dict[str, Any] | None, before: tuple[str, ...], expected: tuple[str, str]
) -> None:
    tasks = yaml.safe_load((PROJECT / "playbooks/tasks/close_resolved_incident.yml").read_text(encoding="utf-8"))
    (given,) = [each["vars"] for each in tasks if "escalation_statements" in each.get("vars", {})]
    (read,) = [each for each in tasks if "resolved_said" in each.get("ansible.builtin.set_fact", {})]
    environment = jinja2.nativetypes.NativeEnvironment()
    environment.filters["itsm_nexus.runbook.recovery_data_loss_before"] = lambda *_given, **_options: dict(
        zip(("value", "why"), before)
    )
    environment.filters["itsm_nexus.runbook.recovery_ended_statements"] = statements.of_ended_outage
    known: dict[str, Any] = {
        "resolved_open": {"outcome": outcome},
        "resolved_incident": {"id": "INC-1", "opened_at": "2026-03-02T01:00:00.000Z", "data": data},
        "detection_result": {"process": {"pids": [7], "started_at": "2026-03-02T00:59:00.000Z"}},
        "inventory_hostname": "node1",
    }

    def rendered(text: str) -> Any:
        value = environment.from_string(text.strip()).render(known)
        return value.strip() if isinstance(value, str) else value

    for name, text in read["ansible.builtin.set_fact"].items():
        known[name] = rendered(text)
    for name in ("resolved_data", "resolved_statements"):
        known[name] = rendered(given[name])
    said = rendered(given["escalation_statements"])["data_loss"]
    assert (rendered(given["escalation_data_loss_verdict"]), said["why"]) == expected


@pytest.mark.parametrize(
    ("rows", "number"), [(9, "at least 9 rows"), ("9", "at least 9 rows"), ("", ""), ("nine", ""), (None, "")]
)
def test_a_number_of_rows_may_be_text(rows: Any, number: str) -> None:
    told = texts("en", data_loss="known", data_loss_why="", rows_lost={"rows": rows}, rows_seeded={"a": rows, "b": 1})
    assert told["data_loss"] == f"YES. The database recovery lost {number or 'rows'}"
    assert told["lost"] == f"{number or 'unknown number of rows'} lost"
    assert told["seeded"].startswith("a 9 and b 1; not" if number else "b 1; not")


def test_a_message_names_the_rows_that_the_service_created() -> None:
    """The DBA imports lost rows and may read only the message."""
    english, japanese = (lines_of(each, rows_seeded={"audit_logs": 1, "users": 2}) for each in ("en", "ja"))
    (line,) = [each for each in english if each.startswith("Created rows: ")]
    assert line.startswith("Created rows: audit_logs 1 and users 2; not part of the recovered data. ")
    assert "Before you import lost rows into these tables, read the postmortem" in line
    assert len([each for each in japanese if each.startswith("自動作成された行：audit_logs 1")]) == 1
    assert not [each for each in lines_of("en", rows_seeded={}) if "Created rows" in each]


def test_a_resolved_message_does_not_repeat_a_failed_login() -> None:
    """An incident with a failed login is resolved only after a successful login."""
    tried = [{"rung": "restart", "held": False, "serves": True, "reason": "login: answered 401"}]
    assert texts("en", rungs_tried=tried)["done"] == [
        "restart made the service answer, but the login failed: login: answered 401"
    ]
    # The outcome does not show whether the login was checked again.
    unchecked = texts("en", rungs_tried=tried, event="resolved", outcome="recovered")["done"]
    assert unchecked == ["restart made the service answer, but the login failed: login: answered 401"]
    again = texts("en", rungs_tried=tried, event="resolved", outcome="recovered", login_checked="yes")["done"]
    assert again == ["restart succeeded", "the login was checked again and works"]
    # A person ended the outage, and no run has checked the login since.
    by_hand = texts("en", rungs_tried=tried, event="resolved", outcome="resolved_manually")["done"]
    assert by_hand == texts("en", rungs_tried=tried)["done"]


def test_a_preview_does_not_say_that_the_start_is_unknown() -> None:
    unknown = {"outage_started_at": "", "mitigated_at": "", "outage_seconds": 0.0}
    assert "Since: unknown" in lines_of("en", **unknown)
    assert not [line for line in lines_of("en", preview=True, **unknown) if line.startswith("Since")]
    assert not [line for line in lines_of("ja", preview=True, **unknown) if line.startswith("停止期間")]


def test_a_message_says_where_the_postmortem_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "_IN_CONTAINER", ())
    host = socket.gethostname()
    folder = {"documents": "/srv/postmortems"}
    for event in ("raised", "resolved"):
        place = f"/srv/postmortems on the controller {host}"
        assert f"Postmortems are in: {place} (named after their incidents)" in lines_of("en", event=event, **folder)
    place = f"/srv/postmortems（コントローラー {host}）"
    assert f"ポストモーテムの保存先：{place}（ファイル名はインシデントの ID）" in lines_of("ja", **folder)
    without: list[dict[str, Any]] = [{"preview": True}, {"incident": ""}, {"job": "https://awx.example.com/#/jobs/7"}]
    for changes in ({"documents": ""}, *({**folder, **each} for each in without)):
        assert not [line for line in lines_of("en", **changes) if line.startswith("Postmortem")]
    # The files of a container or of a pod are removed after the run.
    for name in ("AWX_HOST", "KUBERNETES_SERVICE_HOST"):
        with monkeypatch.context() as changed:
            changed.setenv(name, "10.0.0.1")
            assert not [line for line in lines_of("en", **folder) if line.startswith("Postmortem")]
    monkeypatch.setattr(notice, "_IN_CONTAINER", ("/proc",))
    assert not [line for line in lines_of("en", **folder) if line.startswith("Postmortem")]


def test_a_message_says_that_the_database_files_were_not_copied() -> None:
    missing = {"evidence": "/var/evidence/INC-1", "not_copied": "no space left"}
    lines = lines_of("en", **missing)
    assert lines[lines.index("Evidence: node1:/var/evidence/INC-1") + 1] == (
        "The database files were NOT COPIED: no space left"
    )
    assert "データベースのファイルは証拠に未保存：「no space left」" in lines_of("ja", **missing)
    assert not [line for line in lines_of("en", **{**missing, "not_copied": ""}) if "NOT COPIED" in line]


@pytest.mark.parametrize(
    ("outcome", "reason", "later"),
    [
        ("degraded", message("reason.sqlite.files_in_use", path="/a", holders="pid 7 (node)"), True),
        ("not_recovered", message("reason.sqlite.files_in_use", path="/a", holders="pid 7 (node)"), False),
        # database_recover.yml could not copy these files either.
        ("degraded", message("reason.sqlite.no_files", path="/a"), False),
    ],
)
def test_a_message_says_when_the_files_of_a_running_service_are_copied(
    outcome: str, reason: Message, later: bool
) -> None:
    told = {"outcome": outcome, "not_copied": catalogue.english(reason), "messages": {"not_copied": reason.to_dict()}}
    for language, yet, when in (
        ("en", "NOT COPIED yet: ", ". database_recover.yml copies them before it changes them"),
        ("ja", "まだ証拠に未保存：", "。database_recover.yml は、ファイルを変更する前に複製する"),
    ):
        (line,) = [
            each for each in lines_of(language, **told) if catalogue.of(language).message(reason.to_dict()) in each
        ]
        assert (yet in line and line.endswith(when)) is later
        assert ("database_recover.yml" in line) is later


def test_a_message_names_the_folder_for_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of an email cannot see the shell in which the playbook was started."""
    monkeypatch.setattr(notice, "_IN_CONTAINER", ())
    monkeypatch.setattr(notice.tempfile, "gettempdir", lambda: "/nowhere")
    command = {"next_step": "See how many rows each method would lose:\nansible-playbook -l node1 x.yml --check"}
    host, folder = socket.gethostname(), pathlib.Path.cwd()
    assert f"Run it in: {folder} on the controller {host}" in lines_of("en", **command)
    assert f"実行場所：{folder}（コントローラー {host}）" in lines_of("ja", **command)
    url = "https://awx.example.com/#/jobs/playbook/7/output"
    for changes in ({"next_step": "Fix the cause"}, {**command, "job": url}):
        assert not [line for line in lines_of("en", **changes) if line.startswith("Run it in")]
    # An event rule runs the playbook in a temporary folder.
    monkeypatch.setattr(notice.tempfile, "gettempdir", lambda: str(pathlib.Path.cwd().parent))
    assert not [line for line in lines_of("en", **command) if line.startswith("Run it in")]
    monkeypatch.setattr(notice.tempfile, "gettempdir", lambda: "/nowhere")
    monkeypatch.setattr(notice, "_IN_CONTAINER", (__file__,))
    assert not [line for line in lines_of("en", **command) if line.startswith("Run it in")]


def test_a_message_names_the_job() -> None:
    url = "https://awx.example.com/#/jobs/playbook/7/output"
    assert f"Job: {url}" in lines_of("en", job=url)
    assert f"ジョブ：{url}" in lines_of("ja", job=url)
    assert not [line for line in lines_of("en") if line.startswith("Job:")]


def test_a_message_names_the_contacts_without_a_channel() -> None:
    missing = ["Ms Sato", "the DBA"]
    assert "Not notified, call them: Ms Sato, the DBA" in lines_of("en", not_notified=missing)
    assert "未通知（電話で連絡）：Ms Sato、the DBA" in lines_of("ja", not_notified=missing)
    assert not [line for line in lines_of("en", not_notified=[]) if line.startswith("Not notified")]


def test_a_host_that_can_be_reached_again_may_still_be_down() -> None:
    back = {"event": "resolved", "severity": "unreachable"}
    assert texts("en", **back, still_down="no")["asked"].startswith("No urgent action is needed")
    told = "Wait for the result of this run, because only the connection to the host has been restored."
    assert texts("en", **back, still_down="yes")["asked"] == told


BACK = {"recovered": True, "outcome": "recovered", "still_down": "no", "data_loss": "known", "data_loss_why": ""}


RESTARTED = {**BACK, "data_loss": "none", "rule": "repeated_restarts", "reason": "It was started 3 times."}


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"event": "raised"}, "It was started 3 times."),
        ({"event": "resolved"}, "The service is healthy again. It was started 3 times."),
        ({"event": "resolved", "still_down": "unknown"}, "It was started 3 times."),
        ({"event": "resolved", "data_loss": "suspected"}, "It was started 3 times."),
        ({"event": "resolved", "rule": "record_only"}, "What: itsm on node1, critical"),
    ],
)
def test_a_resolved_message_does_not_begin_with_a_problem(changes: dict[str, Any], first: str) -> None:
    assert lines_of("en", **{**RESTARTED, **changes})[2:3] == [first]
    healthy = "サービスは正常に戻りました。また、次の理由も記載します：復旧の実行による" in "".join(
        lines_of("ja", **{**RESTARTED, **changes})
    )
    assert healthy == first.startswith("The service is healthy")


@pytest.mark.parametrize(
    ("changes", "english", "japanese"),
    [
        ({}, "DOWN: itsm on node1 for 3 min 5 s", "【停止】node1 の itsm（3分5秒経過）"),
        ({"test": True}, "TEST: notification about itsm on node1", "【テスト】node1 の itsm の通知"),
        (
            {**BACK, "event": "resolved", "rows_lost": {"rows": 12, "exact": True}},
            "RESOLVED, 12 rows lost: itsm on node1 is back after 3 min 5 s",
            "【復旧、12行を損失】node1 の itsm（停止時間 3分5秒）",
        ),
        (
            {**BACK, "rows_lost": {"rows": 1, "exact": False}},
            "RESOLVED, at least 1 row lost: itsm on node1 is back after 3 min 5 s",
            "【復旧、1行以上を損失】node1 の itsm（停止時間 3分5秒）",
        ),
        (
            {**BACK, "severity": "degraded", "data_loss": "none"},
            "RESOLVED: itsm on node1 is no longer degraded",
            "【解決】node1 の itsm の問題は解消しました",
        ),
        *(
            (
                {**BACK, "event": event, "data_loss": "suspected"},
                "ATTENTION: itsm on node1 is back, data loss suspected",
                "【要対応】node1 の itsm は復旧済み、データ損失の疑い",
            )
            for event in ("raised", "resolved")
        ),
        (
            {**BACK, "severity": "degraded", "data_loss": "suspected"},
            "ATTENTION: itsm on node1 is no longer degraded, data loss suspected",
            "【要対応】node1 の itsm の問題は解消しました、データ損失の疑い",
        ),
        (
            {**BACK, "data_loss": "none", "rule": "repeated_restarts", "starts": 6},
            "ATTENTION, started 6 times: itsm on node1 is back after 3 min 5 s",
            "【要対応、起動6回】node1 の itsm は復旧済み（停止時間 3分5秒）",
        ),
        *(
            (
                {
                    **BACK,
                    **{"data_loss": "none", "rule": "repeated_restarts", "starts": 6, "cause": "stopped"},
                    "messages": {"cause_summary": [message(f"finding.stopped.{how}").to_dict()]},
                },
                f"ATTENTION{english}, started 6 times: itsm on node1 is back after 3 min 5 s",
                f"【要対応{japanese}、起動6回】node1 の itsm は復旧済み（停止時間 3分5秒）",
            )
            for how, english, japanese in (
                ("normally", ", stopped on request", "、停止要求による停止"),
                ("late", ", stopped on request", "、停止要求による停止"),
                ("unseen", "", ""),
            )
        ),
        (
            {**BACK, "data_loss": "none", "rule": "repeated_restarts", "starts": 6, "event": "resolved"},
            "RESOLVED: itsm on node1 is back after 3 min 5 s",
            "【復旧】node1 の itsm（停止時間 3分5秒）",
        ),
        (
            {**BACK, "data_loss": "none", "rule": "repeated_restarts", "starts": 6, "severity": "degraded"},
            "ATTENTION, started 6 times: itsm on node1 is no longer degraded",
            "【要対応、起動6回】node1 の itsm の問題は解消しました",
        ),
        (
            {**BACK, "outcome": "warning", "data_loss": "none"},
            "ATTENTION: itsm on node1 is back",
            "【要対応】node1 の itsm は復旧済み",
        ),
        (
            {**BACK, "event": "resolved", "data_loss": "unknown", "data_loss_why": "uncounted"},
            "RESOLVED, unknown number of rows lost: itsm on node1 is back after 3 min 5 s",
            "【復旧、損失行数は不明】node1 の itsm（停止時間 3分5秒）",
        ),
        (
            {"data_loss": "suspected", "data_loss_why": "already_lost", "rows_lost": {"rows": 3}},
            "DOWN, at least 3 rows lost: itsm on node1 for 3 min 5 s, data loss suspected",
            "【停止、3行以上を損失】node1 の itsm（3分5秒経過）、データ損失の疑い",
        ),
        (
            {"event": "resolved", "severity": "unreachable", "still_down": "no"},
            "RESOLVED: node1 can be reached again after 3 min 5 s, itsm is healthy",
            "【接続回復】node1 に再び接続できました（接続不能 3分5秒）、itsm は正常です",
        ),
        *(
            (
                {"event": event, "severity": "unreachable", "recovered": True},
                "RESOLVED: node1 can be reached again after 3 min 5 s, but itsm is down",
                "【接続回復】node1 に再び接続できました（接続不能 3分5秒）、itsm は停止しています",
            )
            for event in ("raised", "resolved")
        ),
        (
            {"event": "resolved", "severity": "unreachable", "still_down": "unknown"},
            "RESOLVED: node1 can be reached again after 3 min 5 s",
            "【接続回復】node1 に再び接続できました（接続不能 3分5秒）",
        ),
        (
            {"event": "acknowledged", "acknowledged_by": "Ms Sato", "data_loss": "known"},
            "ACKNOWLEDGED: Ms Sato is working on itsm on node1",
            "【対応中】node1 の itsm（担当：Ms Sato）",
        ),
    ],
)
def test_the_subject_names_a_test_and_the_lost_rows(changes: dict[str, Any], english: str, japanese: str) -> None:
    assert (subject("en", **changes), subject("ja", **changes)) == (english, japanese)
