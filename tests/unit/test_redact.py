# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets do not leave the host, and what is no secret stays readable."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLXdpdGgtXw"
CANARY = "Kanarienvogel-42!x"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"authorization: Basic {CANARY}",
        f'{{"headers":{{"authorization":"Bearer {CANARY}","host":"a"}}}}',
        f'"{{\\"authorization\\":\\"Bearer {CANARY}\\"}}"',
        f"Cookie: sid={CANARY}; theme=dark",
        f"set-cookie: connect.sid={CANARY}; Path=/",
        f"ADMIN_PASSWORD={CANARY}",
        f"export JWT_SECRET='{CANARY} and more {CANARY}'",
        f'DB_PASSWORD="with \\"quotes\\" {CANARY}"',
        f"password: {CANARY}",
        f"{{ username: 'admin', password: '{CANARY}' }}",
        f'{{"username":"admin","password":"{CANARY}","remember":true}}',
        f'message="{{\\"password\\":\\"{CANARY}\\"}}"',
        f"clientSecret: {CANARY}",
        f"x-api-key: {CANARY}",
        f"apiKey={CANARY}&page=2",
        f"SESSION_KEY={CANARY}",
        f"encryptionKey: {CANARY}",
        f"GET /reset?token={CANARY} 200",
        f"postgres://itsm:{CANARY}@db.example/itsm",
        f"smtp://mailer:{CANARY}@mail.example:587",
        f"node server.js --admin-password {CANARY}",
        f"mysql --password={CANARY} itsm",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\nabc=\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\nMIIE",
    ],
)
def test_secrets_go(text):
    clean = _redact.Redactor().text(text)
    assert CANARY not in clean
    assert CANARY[:-2] not in clean
    assert _redact.MASK in clean


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"token {JWT} rejected",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "xoxb-123456789012-abcdefghij",
        "hash $2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy stored",
    ],
)
def test_what_gives_itself_away_goes(text):
    secret = max(text.split(), key=len)
    assert secret not in _redact.Redactor().text(text)


def test_a_key_whose_beginning_was_cut_off_goes():
    text = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\nnext"
    clean = _redact.Redactor().text(text)
    assert "MIIE" not in clean and "VJTUt9" not in clean and clean.endswith("next")


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02T01:02:03.456Z INFO GET /api/v1/health 200 3 ms",
        "SyntaxError: Unexpected token } in JSON at position 5",
        "Error: listen EADDRINUSE: address already in use :::6443",
        "    at Server.setupListenHandle [as _listen2] (node:net:1817:16)",
        "https://localhost:6443/api/v1/health",
        "Killed process 1234 (node) total-vm:1048576kB, anon-rss:524288kB",
        "INSERT INTO users (id, name) VALUES (1, 'x')",
        "UNIQUE constraint failed: users.email",
        "itsm-system.service: Main process exited, code=killed, status=9/KILL",
    ],
)
def test_what_is_no_secret_stays(text):
    assert _redact.Redactor().text(text) == text


def test_known_values_go_wherever_they_stand():
    environment = {
        "JWT_SECRET": CANARY,
        "ADMIN_PASSWORD": "admin",
        "NODE_ENV": "production",
        "PWD": "/srv/itsm",
        "TOKEN_FILE": "/srv/itsm/token",
        "JWT_TOKEN_EXPIRES_IN": "3600000",
        "DATABASE_URL": "postgres://itsm:s3cr3t-value@db/itsm",
    }
    redactor = _redact.Redactor(_redact.secret_values(environment))
    assert (
        redactor.text(f"debug {CANARY} production s3cr3t-value admin") == "debug [redacted] production [redacted] admin"
    )


def test_data_is_redacted_in_depth_and_stays_data():
    data = {
        "argv": ["node", "server.js", "--admin-password", CANARY, "--port", "1"],
        "password": CANARY,
        "tokens": 5,
        "lines": [f"JWT_SECRET={CANARY}", {"deep": f"Bearer {CANARY}"}],
        "row_counts": {"password_resets": 3},
        "ok": True,
        "none": None,
    }
    clean = _redact.Redactor().value(data)
    assert CANARY not in json.dumps(clean)
    assert clean["argv"] == ["node", "server.js", "--admin-password", _redact.MASK, "--port", "1"]
    assert (clean["tokens"], clean["row_counts"], clean["ok"], clean["none"]) == (5, {"password_resets": 3}, True, None)


def test_redacting_twice_changes_nothing_more():
    redactor = _redact.Redactor()
    once = redactor.text(f"password={CANARY} Authorization: Bearer {CANARY} postgres://a:{CANARY}@b")
    assert redactor.text(once) == once


def test_it_is_quick_on_long_lines():
    # A pattern that backtracks without end would make the evidence of an outage the next outage.
    for text in (
        "a" * 200_000,
        "a." * 100_000,
        "eyJ-" * 50_000,
        "-" * 200_000,
        "--key " * 30_000,
        "token=" * 30_000,
        "key" * 60_000,
        '"' * 100_000,
        "\\" * 100_000,
        "-----BEGIN PRIVATE KEY-----" * 2000,
    ):
        _redact.Redactor().text(text)
