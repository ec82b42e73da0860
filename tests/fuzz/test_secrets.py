# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets are masked at any position in a text. Hostile input does not slow down the code that reads it."""

from __future__ import annotations

import json
import time
import urllib.parse

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rounds import rounds

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds

SAFE = st.characters(codec="ascii", min_codepoint=48, max_codepoint=122, categories=("Lu", "Ll", "Nd"))
SECRET = st.text(SAFE, min_size=12, max_size=30).map(lambda text: f"q7Z{text}")
NOISE = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
FORMS = [
    "password={0}",
    "DB_PASSWORD={0}",
    "export JWT_SECRET={0}",
    '"password": "{0}"',
    '{{"apiKey":"{0}"}}',
    '{{\\"token\\":\\"{0}\\"}}',
    "Authorization: Bearer {0}",
    "authorization: Basic {0}",
    "Cookie: connect.sid={0}; other={0}",
    "x-api-key: {0}",
    "--password {0}",
    "--db-password={0}",
    "postgres://user:{0}@db.example/x",
    "redis://{0}@cache.example/0",
    "insert into users (name, password) values ('x', '{0}')",
    "\x1b[33mpassword\x1b[39m=\x1b[36m{0}\x1b[39m",
    "clientSecret: '{0}'",
    "session_id => {0}",
]


@given(SECRET, st.sampled_from(FORMS), NOISE, NOISE)
def test_a_value_with_a_secret_name_is_masked(secret, form, before, after):
    # `before` must not contain an opening quote or characters that can be part of a name.
    assume(not set(before) & set("\\\"'=:-\x1b"))
    text = f"{before}\n{form.format(secret)}\n{after}"
    for clean in (redact.Redactor().text(text), kinds.text(text, limit=10_000)):
        assert secret not in clean


PRINTABLE = st.characters(exclude_categories=("C", "Z"))


@given(st.text(PRINTABLE, min_size=6, max_size=40), NOISE, NOISE)
def test_a_known_value_is_masked_in_any_encoding(secret, before, after):
    assume(secret not in redact.MASK)
    redactor = redact.Redactor([secret])
    for spelling in (secret, json.dumps(secret)[1:-1], urllib.parse.quote(secret, safe="")):
        assert spelling not in redactor.text(f"{before} {spelling} {after}").replace(redact.MASK, "")
        assert spelling not in json.dumps(redactor.value({"a": [spelling]}))


@given(NOISE)
def test_redacting_text_twice_changes_nothing(text):
    redactor = redact.Redactor()
    once = redactor.text(text)
    assert redactor.text(once) == once


@given(st.integers(0, 3000), SECRET)
def test_a_masked_secret_stays_masked_after_a_cut(length, secret):
    line = "x" * length + f" password={secret}\n"
    kept = triage_evidence._shorten(redact.Redactor().text(line * 3).encode(), limit=max(length, 1))
    assert secret not in kept.decode()


# Strings that match the beginning of a pattern. A slow pattern backtracks if such a string is repeated many times.
SLOW = ["a:", "-", "password", "password=", "--password ", "://", "://a:", "eyJ", ".", "\\", '"', "'", "$2b$10$", "key"]
SLOW += ["GET ", "Error", "-----BEGIN PRIVATE KEY-----", "insert into a (", "cookie: ", "\x1b[", "\x1b]", "{{", " "]
SLOW += ["2026-03-02T"]


@pytest.mark.parametrize("piece", SLOW)
def test_hostile_input_is_not_slower(piece):
    length = rounds(50_000, thorough=200_000)
    text = piece * (length // len(piece))
    begun = time.process_time()
    redact.Redactor(["a-known-secret"]).text(text)
    sanitize.text(text)
    kinds.text(text)
    log_patterns.analyse(log_patterns.dated([text, *[text[:2000]] * 100]), since=0.0)
    # Normally, the calls take only a tenth of this time.
    assert time.process_time() - begun < length / 40_000
