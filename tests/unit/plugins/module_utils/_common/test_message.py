# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages: their conversion to plain data and back, and their English text."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message

TEMPLATES = {**message.ENGLISH, "outer": "It failed {times} times: {reasons}", "inner": "{path} is gone"}
TOLD = message.message("outer", times=3, reasons=[message.message("inner", path="/a"), message.quoted(" EIO\n/b ")])


def test_the_english_text_includes_nested_messages():
    assert message.english(TOLD, TEMPLATES) == "It failed 3 times: /a is gone, EIO /b"


def test_a_message_survives_conversion_to_json():
    plain = TOLD.to_dict()
    assert plain["values"]["reasons"][0] == {"id": "inner", "values": {"path": "/a"}}
    assert message.from_dict(json.loads(json.dumps(plain))) == TOLD


def test_an_id_without_a_template_is_an_error():
    with pytest.raises(KeyError):
        message.english(message.message("unheard"), TEMPLATES)


@pytest.mark.parametrize("text", ["Stop.", "Stop", "Why?", "a: b"])
def test_a_sentence_ends_with_one_full_stop(text):
    assert message.with_stop(text) == (f"{text}." if text[-1].isalpha() else text)


def test_a_list_of_clauses_has_semicolons():
    templates = {"all": "{names} of {names:;}"}
    assert message.english(message.message("all", names=["a", "b"]), templates) == "a, b of a; b"
    assert message.english(message.message("all", names="a"), templates) == "a of a"


class Failed(message.MessageError):
    templates = TEMPLATES


@pytest.mark.parametrize(("rows", "text"), [(0, "0 rows"), (1, "1 row"), ("1", "1 row"), (21, "21 rows")])
def test_a_noun_after_a_number_has_the_right_form(rows, text):
    told = message.message("x.lost", rows=rows)
    assert message.english(told, {"x.lost": "{rows:row|rows}"}) == text


def test_an_error_has_the_text_of_its_message():
    error = Failed(TOLD)
    assert str(error) == message.english(TOLD, TEMPLATES)
    assert (str(Failed(error)), Failed(error).told) == (str(error), TOLD)
    assert Failed("a plain  text").told == message.quoted("a plain text")
    assert str(Failed("a plain  text")) == "a plain  text"


def test_a_failure_is_plain_text_in_both_forms():
    told = message.failure(Failed(message.message("inner", path="/\x1b[31ma\x07")))
    assert told == {"msg": "/a\\x07 is gone", "messages": {"msg": {"id": "inner", "values": {"path": "/a\\x07"}}}}
    assert message.failure(ValueError("no")) == {"msg": "no"}


def test_a_text_in_a_result_has_its_message():
    told = message.message("inner", path="/a")
    assert message.of({"message": "/a is gone", "messages": message.plain(message=told)}, "message") == told
    assert message.of({"message": "/a is gone"}, "message") == message.quoted("/a is gone")


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [("It failed.", "It failed; last"), ("Wait...", "Wait...; last"), ("失敗した。", "失敗した; last")],
)
def test_a_full_stop_before_a_semicolon_is_removed(quoted, shown):
    told = message.message("all", names=[message.quoted(quoted), message.quoted("last.")])
    assert message.english(told, {**message.ENGLISH, "all": "{names:;}"}) == shown
