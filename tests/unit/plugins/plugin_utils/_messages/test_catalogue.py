# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The catalogues are complete and consistent, and every message is used. Number and time formats are tested too."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import string

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.filter import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import table
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    phrases,
    prose_causes,
    prose_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

ROOT = pathlib.Path(__file__).resolve().parents[5]
PLUGINS = ROOT / "plugins"
SPEAKING = [
    *(
        path
        for name in ("_inventory", "_ready_report", "_report")
        for path in (PLUGINS / "plugin_utils" / name).glob("*.py")
    ),
    *(
        PLUGINS / "plugin_utils" / "_messages" / f"{name}.py"
        for name in ("catalogue", "change_text", "data_verdict", "restarts")
    ),
    PLUGINS / "plugin_utils" / "_notify" / "notice.py",
    *(PLUGINS / "callback").glob("*.py"),
    *(PLUGINS / "module_utils" / "_preparedness").glob("*.py"),
    PLUGINS / "action" / "preparedness_report.py",
]
EN, JA = catalogue.of("en"), catalogue.of("ja", "Asia/Tokyo")


def optional(key):
    return key.split(".")[0] in catalogue.OPEN or key.endswith(".one")


# ID prefixes of the messages that modules and decisions contribute to the documents.
MESSAGES = ("discovery", "finding", "remedy", "prevention", "reason", "next_step", "deed", "evidence")
CATALOGUES = PLUGINS / "plugin_utils" / "_messages"
ON_HOST = PLUGINS / "module_utils"


@functools.cache
def files(language):
    """Return the catalogue files for a language, by message ID."""
    paths = [*CATALOGUES.glob(f"{language}*.py"), *(ON_HOST.glob("*/messages.py") if language == "en" else ())]
    return {
        key: path for path in paths for key in re.findall(r'^    "([^"]+)":', path.read_text("utf-8"), re.MULTILINE)
    }


def other_file(key, language):
    """Return the file that should contain the message `key` in `language`. The message exists in the other language."""
    names = {"_backups": "ja_backups", "_triage": "ja_findings", "_sqlite": "ja_sqlite"}
    if language == "en":
        path = files("ja")[key]
        packages = {**{name: package for package, name in names.items()}, "ja_service": "_service"}
        package = packages.get(path.stem)
        return ON_HOST / package / "messages.py" if package else path.with_name(path.name.replace("ja", "en", 1))
    path = files("en").get(key, ON_HOST / "_common" / "message.py")
    if ON_HOST in path.parents:
        known = {**names, "_discovery": "ja_discovery"}
        return CATALOGUES / f"{known.get(path.parent.name, 'ja_service')}.py"
    return path.with_name(path.name.replace("en", "ja", 1))


def file_for(code):
    """Return the catalogue file that should contain the English text of a message created in the file `code`."""
    package = next((each for each in code.parents if each.parent == ON_HOST), None)
    if package:
        return (package if (package / "messages.py").is_file() else ON_HOST / "_common") / "messages.py"
    return CATALOGUES / ("en_decisions.py" if code.suffix == ".py" else "en_remedies.py")


def lines(differences, verb="lacks", *, after=""):
    """Return one line of text per file, which lists the keys of the file. differences: pairs of a file and a key."""
    keys = {}
    for path, key in sorted(set(differences)):
        keys.setdefault(path.relative_to(ROOT), []).append(key)
    return "\n".join(f"{path} {verb} {', '.join(found)}{after}" for path, found in keys.items())


def places(template):
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(template) if name}


def test_the_catalogues_have_the_same_keys():
    english = {key for key in EN.sentences if not optional(key)}
    japanese = {key for key in JA.sentences if not optional(key)}
    lacks = [(other_file(key, "ja"), key) for key in english - japanese]
    lacks += [(other_file(key, "en"), key) for key in japanese - english]
    assert lacks == [], lines(lacks)
    for key in set(EN.sentences) & set(JA.sentences):
        assert places(EN.sentences[key]) == places(JA.sentences[key]), key


def test_every_message_is_used():
    source = "\n".join(path.read_text(encoding="utf-8") for path in SPEAKING)
    # Modules use these keys, or the code builds them from variables.
    families = {"and", "quoted", "module", *MESSAGES}
    families |= set(re.findall(r'words\.name\(\s*"(\w+)"', source)) | set(
        re.findall(r'words\.knows\(\s*"(\w+)"', source)
    )
    said = set(re.findall(r"[\"']([a-z_]+(?:\.[a-z_]+)*)[\"']", source))
    # A key that begins with a variable would match every key, so its family must be in `families`.
    patterns = [
        re.compile(re.sub(r"\\\{.*?\\\}", r"\\w+", re.escape(each)) + r"\Z")
        for each in re.findall(r'f"([a-z_]+\.[a-z_.]*\{[^"]*)"', source)
    ]
    unused = []
    for key in {*EN.sentences, *JA.sentences}:
        # The key for a singular form or for a remedy is the key of the text plus a suffix.
        names = {key, re.sub(r"\.(?:one|do)\Z", "", key)}
        matched = any(each.match(name) for each in patterns for name in names)
        if not (names & said or key.split(".")[0] in families or matched):
            unused.append((files("en").get(key) or files("ja")[key], key))
    assert unused == [], lines(unused, "has", after=", but nothing uses it")


def test_english_takes_each_catalogue_once():
    """If a catalogue is merged twice, its messages can override those of another catalogue."""
    merged = re.findall(r"^    \*\*(\w+\.\w+),$", (CATALOGUES / "en.py").read_text("utf-8"), re.MULTILINE)
    assert len(merged) > 10
    assert sorted(merged) == sorted(set(merged))


def test_japanese_has_words_for_every_cause():
    # Another test checks the text of findings, which has separate translations.
    keys = [f"{family}.{cause}" for cause in table.CAUSES for family in ("cause", "summary")]
    lacks = [(CATALOGUES / "ja.py", key) for key in keys if key not in JA.sentences]
    assert lacks == [], lines(lacks)


def test_japanese_has_words_for_every_rule_and_outcome():
    paths = ("roles/escalation/defaults/main.yml", "playbooks/vars/database_recover.yml")
    rules = [rule for path in paths for rule in yaml.safe_load((ROOT / path).read_text("utf-8"))["escalation_rules"]]
    # These outcomes need no next step, because the service is healthy.
    without = ("healthy", "resolved_manually")
    keys = {
        "ja.py": [f"escalation.{rule['name']}" for rule in rules]
        + [f"next.{each}" for each in incident_model.OUTCOMES if each not in without],
        "ja_screen.py": [f"ended.{each}" for each in allowlist.SUMMARY],
    }
    lacks = [(CATALOGUES / name, key) for name, each in keys.items() for key in each if key not in JA.sentences]
    assert lacks == [], lines(lacks)


def test_a_next_step_does_not_refer_to_its_own_document():
    steps = {key: told for key, told in EN.sentences.items() if key.startswith("next_step.")}
    assert len(steps) > 10
    assert not {key for key, told in steps.items() if "postmortem" in told}


def written(node):
    """Yield the possible values of an expression as text, with X for each inserted value.

    If the expression is a variable, yield nothing.
    """
    if isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else []
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (*written(node.body), *written(node.orelse))


def identities():
    """Yield the messages that the code creates, as (file, id)."""
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("message", "Message"):
                yield from ((path, each) for each in written(node.args[0]))
    for folder in ("roles", "playbooks"):
        for path in (ROOT / folder).rglob("*.yml"):
            named = re.findall(rf"\b(?:{'|'.join(MESSAGES)})\.[a-z_]+(?:\.[a-z_]+)*", told_in(path))
            yield from ((path, each) for each in named)


def told_in(path):
    """Return the possible message IDs in a YAML file: quoted words and plain values. Comments are excluded."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found = re.findall(r"'[a-z_.]+'|: [a-z_.]+$", "\n".join(lines), re.MULTILINE)
    return "\n".join(each for each in found if ".yml" not in each)


def test_the_code_and_the_catalogue_have_the_same_messages():
    inserted = r"\w+(?:\.\w+)?"
    made = {
        (path, each): re.compile(re.escape(each).replace("X", inserted) + r"\Z") for path, each in set(identities())
    }
    assert len(set(made.values())) > 150
    known = {key for key in EN.sentences if key.split(".")[0] in MESSAGES}
    lacks = [
        (file_for(path), each.replace("X", "*"))
        for (path, each), pattern in made.items()
        if not any(map(pattern.match, EN.sentences))
    ]
    assert lacks == [], lines(lacks)
    unused = [(files("en")[key], key) for key in known if not any(each.match(key) for each in made.values())]
    assert unused == [], lines(unused, "has", after=", which no code creates")


def values_in_yaml(path):
    """Yield (id, names of the values) for each message that a YAML file creates with the filter `message`."""
    content = path.read_text(encoding="utf-8")
    for found in re.finditer(r"'([a-z_.]+)'\s*\|\s*itsm_nexus\.runbook\.message\(", content):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(content[at], 0)
            at += 1
        # Omit the arguments of filters in the values.
        own = content[found.end() : at - 1]
        while own != (own := re.sub(r"\([^()]*\)|\[[^\[\]]*\]", "", own)):
            pass
        yield found[1], set(re.findall(r"(?:^|,)\s*(\w+)=(?!=)", own))


def values_in_python(path):
    """Yield (id, names of the values) for each call to message() that does not use `**`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and all(each.arg for each in node.keywords):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "message":
                yield from ((each, {one.arg for one in node.keywords}) for each in written(node.args[0]))


def test_every_message_gets_all_its_values():
    created = [(path, *each) for path in PLUGINS.rglob("*.py") for each in values_in_python(path)]
    files_in_yaml = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    created += [(path, *each) for path in files_in_yaml for each in values_in_yaml(path)]
    assert len(created) > 500
    lacking = [
        (path, f"{key} without {', '.join(sorted(places(EN.sentences[key]) - names))}")
        for path, key, names in created
        if key in EN.sentences and not places(EN.sentences[key]) <= names
    ]
    assert lacking == [], lines(lacking, "creates")


# English words that a Japanese sentence may contain: names of programs, commands, settings and headings.
NAMES = re.compile(
    "|".join(
        re.escape(name)
        for name in (
            *("Node.js", "busy timeout", "npm ci", "node --check", "systemctl daemon-reload", "systemctl unmask 7"),
            *("systemctl enable --now logrotate.timer", "systemctl enable 7", "openssl rand"),
            *("systemd-analyze verify", "lock ファイル", "GitHub Issue", "ansible-playbook", "knex migrate:unlock"),
            "{type: mail, to: name@example.com}",
        )
    )
)
LATIN_WORDS = re.compile(r"[A-Za-z][a-z]+(?:[ ,;]+[A-Za-z][a-z]+)+")


def test_japanese_sentences_hold_no_english_and_no_half_width_brackets():
    number = message.Listed(["7"])
    said = {key: JA.say(key, **dict.fromkeys(places(text), number)) for key, text in JA.sentences.items()}
    assert len(said) > 1000
    assert {key: told for key, told in said.items() if LATIN_WORDS.search(NAMES.sub("", told))} == {}
    assert {key: told for key, told in said.items() if re.search(r"[()]|[^ -~]:|: ?[^ -~]", told)} == {}


def test_every_message_has_a_text_in_each_language_with_all_its_values():
    keys = [key for key in EN.sentences if key.split(".")[0] in MESSAGES]
    assert len(keys) > 500
    for words in (EN, JA):
        missing = [(other_file(key, words.language), key) for key in keys if key not in words.sentences]
        assert not missing, lines(missing)
    for key in keys:
        values = {name: f"VALUE-{number}" for number, name in enumerate(sorted(set(places(EN.sentences[key]))))}
        told = message.message(key, **values).to_dict()
        for words in (EN, JA):
            text = words.message(told, "no text")
            assert all(value in text for value in values.values()), (key, text)
            assert "no text" not in text, key
        assert catalogue.english(message.message(key, **values)) == EN.message(told), key


def test_no_text_from_a_module_is_matched_with_a_pattern():
    """Messages are identified by ID, because a pattern for English text would break whenever the wording changes."""
    source = (PLUGINS / "plugin_utils" / "_messages" / "catalogue.py").read_text(encoding="utf-8")
    assert "import re\n" not in source
    assert not {key for key in JA.sentences if not re.fullmatch(r"[a-z_]+(?:\.[\w -]+)*", key)}


def test_a_message_is_translated_with_all_its_values_and_nested_messages():
    told = message.message(
        "finding.db_corrupt.unsound",
        path="/srv/a.db",
        reasons=[message.message("reason.database.corrupt"), message.message("reason.database.row_loss")],
    ).to_dict()
    assert EN.message(told) == "The database /srv/a.db is not sound: pages are damaged, rows are missing"
    assert JA.message(told) == "データベース /srv/a.db に問題がある：ページの破損、行の欠落"


@pytest.mark.parametrize(
    "told",
    [
        None,
        "no message",
        {"id": "finding.of_a_later_version", "values": {}},
        {"id": "finding.db_corrupt.rows", "values": {}},
        {"id": "finding.db_corrupt.rows", "values": ["path"]},
    ],
)
def test_without_a_usable_message_the_english_text_is_quoted(told):
    assert EN.message(told, "Rows may be lost.") == "Rows may be lost"
    assert JA.message(told, "Rows may be lost.") == "「Rows may be lost」"


def test_an_instant_in_a_message_is_written_in_the_language_of_the_reader():
    told = message.message(
        "next_step.accepted.planned", at="2026-03-02T01:00:00.123Z", reason="CHG-1", command="x"
    ).to_dict()
    assert "On 2026-03-02 01:00:00 UTC, a person" in EN.message(told)
    assert "2026年03月02日 10:00:00 JST" in JA.message(told)


def test_a_value_in_a_message_is_not_a_template_and_nesting_is_limited():
    deep = {"id": "quoted", "values": {"text": "{secret.__class__}"}}
    assert EN.message(deep) == "{secret.__class__}"
    for _level in range(9):
        deep = {"id": "quoted", "values": {"text": deep}}
    assert EN.message(deep) == "unknown"


def test_a_summary_of_an_old_timeline_is_worded_by_its_cause_and_quoted():
    old = {"cause": "unhandled_exception", "summary": "An exception that nobody caught ended the service: Error: x."}
    assert phrases.summed_up(JA, old["cause"], old["summary"], None) == "未処理の例外によりサービスが異常終了した"
    assert prose_causes.original(JA, old) == "「An exception that nobody caught ended the service: Error: x」"
    assert (phrases.summed_up(EN, old["cause"], old["summary"], None), prose_causes.original(EN, old)) == (
        "An exception that nobody caught ended the service: Error: x",
        "",
    )


def actions(told):
    """Yield the modules whose tasks can appear in a postmortem: our modules, ansible.builtin.fail and assert."""
    for task in (each for each in told or [] if isinstance(each, dict)):
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from actions(task.get(part))
        for key in task:
            if key.startswith("itsm_nexus.runbook.") or key in ("ansible.builtin.fail", "ansible.builtin.assert"):
                yield key


def test_japanese_has_a_label_for_every_module_that_a_document_can_show():
    files = [*(ROOT / "roles").glob("*/tasks/**/*.yml"), *(ROOT / "playbooks" / "tasks").glob("*.yml")]
    used = {name for file in files for name in actions(yaml.safe_load(file.read_text(encoding="utf-8")))}
    of_us = {f"itsm_nexus.runbook.{path.stem}" for path in (PLUGINS / "modules").glob("*.py")}
    assert len(used) > 20
    names = {name.rsplit(".", 1)[-1] for name in used | of_us} | {"validate_argument_spec"}
    place = CATALOGUES / "ja.py"
    lacks = [(place, f"module.{name}") for name in names if not JA.knows("module", name)]
    assert lacks == [], lines(lacks)
    gone = [(place, key) for key in JA.sentences if key.startswith("module.") and key.split(".")[1] not in names]
    assert gone == [], lines(gone, "has", after=", which is not a module")


@pytest.mark.parametrize(
    ("action", "task", "english", "japanese"),
    [
        ("itsm_nexus.runbook.sqlite_wal", "Any name at all", "Any name at all", "WAL をデータベースに反映"),
        ("itsm_nexus.runbook.sqlite_check", "Of an old name", "Of an old name", "データベースを検査"),
        ("ansible.builtin.fail", "Stop", "Stop", "結果を判定"),
        ("community.general.nmcli", "Set the route", "Set the route", "「Set the route」"),
        (None, None, "task", "「task」"),
    ],
)
def test_a_task_is_labelled_by_its_module_and_never_by_its_name(action, task, english, japanese):
    assert (prose_steps.label(EN, action, task), prose_steps.label(JA, action, task)) == (english, japanese)


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


def test_a_sentence_keeps_the_space_after_its_first_character():
    assert EN.sentence("1 row  is missing;") == "1 row is missing."
    assert EN.sentence(" a row is missing") == "A row is missing."


def test_lists_and_counts():
    names = ["a", "b", "c"]
    assert (EN.listed(names), JA.listed(names)) == ("a, b and c", "a、b、c")
    assert (EN.listed(names, limit=2), JA.listed(names, limit=2)) == ("a, b and 1 more", "a、b、ほか1件")
    assert [EN.count("tables", number) for number in (1, 2)] == ["1 table", "2 tables"]
    assert [JA.count("tables", number) for number in (1, 2)] == ["1テーブル", "2テーブル"]


def test_times_are_shown_in_the_zone_of_the_service_and_in_utc():
    at = "2026-03-02T15:30:00.500Z"
    assert JA.when(at) == "2026年03月03日 00:30:00 JST（2026年03月02日 15:30:00 UTC）"
    assert EN.when(at) == "2026-03-02 15:30:00 UTC"
    assert (EN.local(at), JA.local("no instant"), JA.when(None)) == ("", "", "")
    assert (EN.short(at), JA.short(at)) == ("2026-03-02 15:30:00 UTC", "2026年03月03日 00:30:00 JST")


@pytest.mark.parametrize("zone", ["", None, "UTC", "No/Such", "../../etc/passwd"])
def test_with_an_unknown_zone_only_utc_is_shown(zone):
    assert catalogue.of("ja", zone).zone is None


@pytest.mark.parametrize("language", ["", None, "fr"])
def test_an_unknown_language_is_english(language):
    assert catalogue.of(language).language == "en"


def test_values_are_not_templates():
    assert EN.say("label", name="{0}", text="{secret.__class__}") == "{0}: {secret.__class__}"


def test_an_item_with_a_message_is_inserted_as_that_message():
    each = messages.FilterModule().filters()["message_each"]
    why = {"id": "reason.probe.gone", "values": {}}
    items = [{"pid": 7, "reason": "it is gone", "messages": told} for told in ({"reason": why}, {}, None, "reason")]
    found = each(items, "deed.left")
    assert [JA.message(told) for told in found] == ["PID 7：プロセス消失", *(["PID 7：it is gone"] * 3)]


def test_a_missing_value_is_shown_as_unknown():
    told = message.message("reason.probe.tls", why=None)
    assert catalogue.english(told) == EN.message(told.to_dict()) == "TLS error: unknown"
    assert JA.message(told.to_dict()).endswith("：不明")
    assert message.from_dict(told.to_dict()) == told
    assert message.from_dict({"id": "reason.probe.tls", "values": {"why": None}}) == told
