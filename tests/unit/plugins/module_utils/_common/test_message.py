# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A message: plain data and back, and its English text."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message

TEMPLATES = {**message.ENGLISH, "outer": "It failed {times} times: {reasons}", "inner": "{path} is gone"}
TOLD = message.message("outer", times=3, reasons=[message.message("inner", path="/a"), message.quoted(" EIO\n/b ")])


def test_english_puts_messages_into_messages():
    assert message.english(TOLD, TEMPLATES) == "It failed 3 times: /a is gone, EIO /b"


def test_a_message_survives_the_way_through_json():
    plain = TOLD.to_dict()
    assert plain["values"]["reasons"][0] == {"id": "inner", "values": {"path": "/a"}}
    assert message.from_dict(json.loads(json.dumps(plain))) == TOLD


def test_an_id_without_a_template_is_an_error():
    with pytest.raises(KeyError):
        message.english(message.message("unheard"), TEMPLATES)


@pytest.mark.parametrize("text", ["Stop.", "Stop", "Why?", "a: b"])
def test_a_sentence_has_one_stop(text):
    assert message.with_stop(text) == (f"{text}." if text[-1].isalpha() else text)
