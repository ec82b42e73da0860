# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - full-width punctuation is how Japanese is written.

"""The catalogues: complete, consistent, used, and their formats of numbers and times."""

from __future__ import annotations

import ast
import pathlib
import re
import string

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import config, database, network, table
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import database_verdict, unreachable, verdict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

ROOT = pathlib.Path(__file__).resolve().parents[5]
PLUGINS = ROOT / "plugins"
SPEAKING = [
    *(PLUGINS / "plugin_utils" / "_report").glob("*.py"),
    PLUGINS / "plugin_utils" / "_messages" / "catalogue.py",
    *(PLUGINS / "callback").glob("*.py"),
]
EN, JA = catalogue.of("en"), catalogue.of("ja", "Asia/Tokyo")


def optional(key):
    return key.split(".")[0] in catalogue.OPEN or key.endswith(".one")


def places(template):
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(template) if name}


def test_the_catalogues_have_the_same_keys():
    assert {key for key in EN.sentences if not optional(key)} == {key for key in JA.sentences if not optional(key)}
    for key in set(EN.sentences) & set(JA.sentences):
        assert places(EN.sentences[key]) == places(JA.sentences[key]), key


def test_every_message_is_used():
    source = "\n".join(path.read_text(encoding="utf-8") for path in SPEAKING)
    families = {"said"}  # through a variable
    families |= set(re.findall(r'words\.name\(\s*"(\w+)"', source)) | set(
        re.findall(r'words\.knows\(\s*"(\w+)"', source)
    )
    said = set(re.findall(r'"([a-z_]+(?:\.[a-z_]+)*)"', source))
    patterns = [
        re.compile(re.sub(r"\\\{.*?\\\}", r"\\w+", re.escape(each)) + r"\Z")
        for each in re.findall(r'f"([a-z_.]*\{[^"]*)"', source)
    ]
    for key in {*EN.sentences, *JA.sentences}:
        plain = key[: -len(".one")] if key.endswith(".one") else key
        used = plain in said or key.split(".")[0] in families or any(each.match(plain) for each in patterns)
        assert used, f"{key} is in a catalogue, but nothing uses it"


def test_japanese_has_words_for_every_cause():
    # The text of a finding has its own translations, see below.
    keys = [(family, cause) for cause in table.CAUSES for family in ("cause", "summary")]
    assert not [f"{family}.{cause}" for family, cause in keys if not JA.knows(family, cause)]


def test_japanese_has_words_for_every_rule_and_outcome():
    rules = yaml.safe_load((ROOT / "roles" / "escalation" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    assert not {rule["name"] for rule in rules["escalation_rules"] if not JA.knows("escalation", rule["name"])}
    # A healthy service has no next step.
    without = ("healthy", "mended_by_hand")
    assert not {each for each in incident_model.OUTCOMES if each not in without and not JA.knows("next", each)}
    assert not {each for each in allowlist.SUMMARY if not JA.knows("ended", each)}


@pytest.mark.parametrize(
    "why",
    [
        "no route to host",
        "Host key verification failed.",
        "Missing sudo password",
        "me@host: Permission denied (publickey).",
    ],
)
def test_japanese_has_words_for_the_next_step_of_a_lost_host(why):
    step = unreachable.next_step(f"it can not be reached: {why}")
    assert JA.translated(step) and why not in step


def test_a_next_step_does_not_refer_to_its_own_document():
    for steps in (verdict.NEXT_STEPS, database_verdict.NEXT_STEPS):
        assert len(steps) > 3
        assert not [step for step in steps.values() if "postmortem" in step]


def written(node):
    """Yield the possible values of an expression, with X for each inserted value; a variable yields nothing."""
    if isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else []
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (*written(node.body), *written(node.orelse))
    elif isinstance(node, ast.BinOp):
        yield from (one + other for one in written(node.left) for other in written(node.right))


def findings():
    """Yield every summary, remedy and prevention in the rules of the causes."""
    names = {"summary", "remedy", "prevention"}
    sources = [path.read_text(encoding="utf-8") for path in pathlib.Path(table.__file__).parent.glob("*.py")]
    assert len(sources) > 5
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.keyword) and node.arg in names:
            yield from written(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                if isinstance(key, ast.Constant) and key.value in names:
                    yield from written(value)
        elif isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            pairs = zip(target.elts, value.elts) if several else [(target, value)]
            for name, told in pairs:
                if isinstance(name, ast.Name) and name.id in names:
                    yield from written(told)


# Some inserted values are more than a name or a number.
COMPOSED = {
    **{
        f"X{more}.": [f"The TLS certificate {how} 2026-03-02{more}." for how in ("expired on", "is not valid before")]
        for more in ("", "; a newer one is there, which the service has not read")
    },
    "The service X offer HTTPS: X.": [f"The service {how} offer HTTPS: X." for how in ("would not", "does not")],
    "The service's dependencies are X: X.": [
        f"The service's dependencies are {how}: see the log."
        for how in (
            "missing",
            "there but cannot be loaded",
            "not those of the lock file",
            "missing or cannot be loaded",
        )
    ],
    "The service X, and nothing that was looked at says why.": [
        f"The service {how}, and nothing that was looked at says why."
        for how in ("ended with exit code 3", "has no process", "does not serve https and http")
    ],
}


def test_japanese_has_words_for_every_text_of_a_finding():
    told = set(findings())
    assert len(told) > 100 and not set(COMPOSED) - told
    told |= {*database._UNSOUND.values(), *network._TLS_REASONS.values()}
    told |= {reason for _step, reason in config._STEPS.values()}
    every = {text for each in told for text in COMPOSED.get(each, [each])}
    assert not {text for text in every if JA.translated(text) is None}


def test_a_partly_untranslated_summary_is_replaced_by_its_cause():
    told = "An exception that nobody caught ended the service: Error: no licence; ask your dealer"
    assert JA.translated(told) is None
    assert prose.summed_up(JA, "unhandled_exception", told) == "未処理の例外によりサービスが終了しました"
    assert prose.original(JA, "unhandled_exception", told) == told


def tasks(told):
    """Yield the names of tasks that a postmortem may show: those of our modules, and those that fail on purpose."""
    for task in told or []:
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(task.get(part))
        actions = {key.removeprefix("itsm_nexus.runbook.") for key in task}
        # Tasks that write the record are not shown: the document is the record.
        if (actions != set(task) and "incident" not in actions) or "ansible.builtin.fail" in actions:
            yield allowlist.static(task["name"])


def test_japanese_has_words_for_every_task():
    files = [*(ROOT / "roles").glob("*/tasks/**/*.yml"), *(ROOT / "playbooks" / "tasks").glob("*.yml")]
    names = {name for file in files for name in tasks(yaml.safe_load(file.read_text(encoding="utf-8")))}
    assert len(names) > 50
    assert not {name for name in names if not JA.knows("task", name)}


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        (
            "https: connection refused: nothing listens there; the process is gone",
            "https：接続拒否（待ち受けなし）。プロセス消失",
        ),
        ("http: no answer within 0.5 s", "http：0.5秒以内に応答なし"),
        (
            "The process was ended by signal KILL. It was started 3 times within 60 minutes and fell again: "
            "once more is no remedy.",
            "プロセスがシグナル KILL により終了しました。60分以内に3回起動しても再び停止しており、"
            "再起動では復旧しません",
        ),
        (
            "The database /srv/a.db is not sound: its pages are damaged, rows are missing.",
            "データベース /srv/a.db に問題があります：ページの破損、行の欠落",
        ),
        (
            "The process was ended by signal KILL; systemd has started it again.",
            "プロセスがシグナル KILL により終了し、systemd が再起動しました",
        ),
        ("/var/log/a.log has no requests in it", "/var/log/a.log にリクエストの記録がない"),
        (
            "the database is not asked: /a.db does not begin as a SQLite database does: it is damaged, encrypted, or "
            "another kind of file",
            "データベースを照会できない：/a.db が SQLite の形式ではない（破損、暗号化、または別の種類のファイル）",
        ),
        ("The process 7 was stopped (SIGSTOP) and does nothing.", "プロセス 7 が SIGSTOP により一時停止しています"),
        (
            "The configuration does not fit the host: health_path: nexus_health_path is /health, which it answers with "
            "404 while its process, ports, log, database and dependencies are well.",
            "設定とホストの状態が一致しません：nexus_health_path が /health ですが、応答は 404 です"
            "（プロセス、ポート、ログ、データベース、依存関係は正常）",
        ),
        ("the process is gone; {0.__class__}", "the process is gone; {0.__class__}"),
        ("TLS error: {0.__class__}", "TLS エラー：{0.__class__}"),
        (None, ""),
    ],
)
def test_messages_of_modules_are_translated_if_all_parts_are_known(english, japanese):
    assert JA.said(english) == japanese
    assert EN.said(english) == (english or "").rstrip(".")


@pytest.mark.parametrize(
    ("seconds", "english", "japanese"),
    [
        (None, "unknown", "不明"),
        (0.44, "0.4 s", "0.4秒"),
        (185, "3 min 5 s", "3分5秒"),
        (7265, "2 h 1 min", "2時間1分"),
    ],
)
def test_durations(seconds, english, japanese):
    assert (EN.duration(seconds), JA.duration(seconds)) == (english, japanese)


def test_lists_and_counts():
    names = ["a", "b", "c"]
    assert (EN.listed(names), JA.listed(names)) == ("a, b and c", "a、b、c")
    assert (EN.listed(names, limit=2), JA.listed(names, limit=2)) == ("a, b and 1 more", "a、b、ほか1件")
    assert [EN.count("tables", number) for number in (1, 2)] == ["1 table", "2 tables"]
    assert [JA.count("tables", number) for number in (1, 2)] == ["1テーブル", "2テーブル"]


def test_times_are_given_in_the_zone_of_the_service_and_in_utc():
    at = "2026-03-02T15:30:00.500Z"
    assert JA.when(at) == "2026-03-03 00:30:00 JST (2026-03-02 15:30:00 UTC)"
    assert EN.when(at) == "2026-03-02 15:30:00 UTC"
    assert (EN.local(at), JA.local("no instant"), JA.when(None)) == ("", "", "")
    assert (EN.short(at), JA.short(at)) == ("2026-03-02 15:30:00 UTC", "2026-03-03 00:30:00 JST")


@pytest.mark.parametrize("zone", ["", None, "UTC", "No/Such", "../../etc/passwd"])
def test_an_unknown_zone_leaves_utc(zone):
    assert catalogue.of("ja", zone).zone is None


@pytest.mark.parametrize("language", ["", None, "fr"])
def test_an_unknown_language_is_english(language):
    assert catalogue.of(language).language == "en"


def test_values_are_no_templates():
    assert EN.say("label", name="{0}", text="{secret.__class__}") == "{0}: {secret.__class__}"
