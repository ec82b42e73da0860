# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret leaves the host, and other text remains readable."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, redact_known, redact_shapes

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
        f"Cookie: theme=dark; sid={CANARY}",
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
        f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{CANARY}\\n-----END OPENSSH PRIVATE KEY-----\\n",
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{CANARY}\n-----END PGP PRIVATE KEY BLOCK-----",
        # Node prints long values on a separate line.
        f"  authorization:\n   'Bearer {CANARY}',",
        f"password=\n{CANARY}",
        f"rawHeaders: [ 'Cookie', 'sid={CANARY}', 'Host', 'a' ]",
        f"['Authorization', 'Bearer {CANARY}']",
        f'["X-API-Key","{CANARY}"]',
        f"Authorization: ApiKey {CANARY}",
        # Lines from an environment file, where a value can have any format.
        f"JWT_SECRET=a,b;c&d'e{CANARY}",
        f"export SMTP_PASSWORD=a;{CANARY}",
        # Unclosed quotes, and a backslash at the end of a line.
        f'password="{CANARY}',
        f'token="{CANARY} and {CANARY}\\\nnext',
        f'\\"password\\":\\"{CANARY}\\nand {CANARY}\\",',
        f'\\"password\\":\\"{CANARY}',
        f'\\"password\\":\\"{CANARY} and {CANARY}\n',
        # Connection strings.
        f"Server=db;Uid=itsm;Pwd={CANARY};Database=x",
        f"redis://:{CANARY}@cache:6379/0",
        f"https://{CANARY}@git.example/x.git",
        f"_auth={CANARY}",
        f"//registry.example/:_authToken={CANARY}",
        # The message from knex about a failed statement.
        "insert into `users` (`id`, `password_hash`) values (1, 'CANARY') - SQLITE_CONSTRAINT",
        "INSERT INTO sessions(id, token) VALUES (1, 'x'), (2, 'CANARY')",
        "update users set api_key = 'CANARY' where id = 1",
        f"connect.sid={CANARY}",
        # Short names, names in capital letters, and names made up of several words.
        f"PASS={CANARY}",
        f"DB_PASS={CANARY}",
        f"SMTP_PASS: {CANARY}",
        f"dbPass: '{CANARY}'",
        f"dbpass={CANARY}",
        f"ADMIN_PW={CANARY}",
        f"adminPw: {CANARY}",
        f"pw: {CANARY}",
        f"rootpw={CANARY}",
        f"passcode={CANARY}",
        f"sid = {CANARY}",
        f"PHPSESSID={CANARY}",
        f"creds={CANARY}",
        f"bearer={CANARY}",
        f"PRIVATEKEY={CANARY}",
        f"accesskey={CANARY}",
        # Full-width colons, as in Japanese logs.
        f"パスワード: {CANARY}",
        f"パスワード\uff1a{CANARY}",
        f"新しいパスワード\uff1d{CANARY}",
        f"秘密鍵={CANARY}",
        f"認証トークン\uff1a{CANARY}",
        # SQL-quoted names, and quotes that are escaped for HTML, URLs and JSON.
        "update `users` set `password_hash` = 'CANARY' where `id` = 1",
        "select * from `sessions` where `token` = 'CANARY'",
        f"password&quot;:&quot;{CANARY}&quot;",
        f"%22password%22%3A%22{CANARY}%22",
        f"password%3D{CANARY}",
        f"password\\u0022:\\u0022{CANARY}\\u0022",
        f"<password>{CANARY}</password>",
        f"<wsse:Password>{CANARY}</wsse:Password>",
        f"password:          {CANARY}",
        # Secrets that do not follow a colon or an equals sign.
        f'Invalid password "{CANARY}" for admin',
        f"ALTER USER itsm WITH PASSWORD '{CANARY}'",
        f"CREATE USER itsm IDENTIFIED BY '{CANARY}'",
        f"bindings: [ 'admin', '{CANARY}' ]",
        f"cookies: {{ sid: '{CANARY}', theme: 'dark' }}",
        f'Authorization: Digest username="admin", response="{CANARY}"',
        # Passwords that contain characters at which other values end.
        f"mysql://itsm:p@ss{CANARY}@db/itsm",
        f"postgres://itsm:a/{CANARY}@db/itsm",
        # URL query strings.
        f"GET /x?key={CANARY}&page=2 200",
        f"https://x.example/blob?sv=1&sig={CANARY}",
        # Programs that take the password as a short option.
        f"curl -u admin:{CANARY} https://x.example/",
        f"curl --user=admin:{CANARY} https://x.example/",
        f"sshpass -p {CANARY} ssh db",
        f"mysql -h db -p{CANARY} itsm",
        f"redis-cli -h cache -a {CANARY} ping",
        f"X-Signature: {CANARY}",
    ],
)
def test_secrets_are_masked(text):
    clean = redact.Redactor().text(text.replace("CANARY", CANARY))
    assert CANARY not in clean
    assert CANARY[:-2] not in clean
    assert redact.MASK in clean


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"token {JWT} rejected",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "xoxb-123456789012-abcdefghij",
        "ASIAIOSFODNN7EXAMPLE",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "sk-proj-abcdefghijklmnopqrstuvwxyz123456",
        "SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789",
        "hvs.CAESIJabcdefghijklmnopqrstuvwxyz",
        "pypi-AgEIcHlwaS5vcmcCJabcdefghijklmnop",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "posted to https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "hash $6$saltsalt$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ stored",
        "hash pbkdf2_sha256$260000$abcdefghij$abcdefghijklmnopqrstuvwxyz0123456789= stored",
        "hash $2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy stored",
        "hash $argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaQQ stored",
        # In escaped text, the token directly follows the "n" of an escaped line break (\n).
        rf"{{\"log\":\"line\n{JWT}\"}}"[-len(JWT) - 4 : -2],
    ],
)
def test_secrets_of_a_known_form_are_masked(text):
    secret = max(text.split(), key=len)
    assert secret not in redact.Redactor().text(text)


def test_a_key_without_its_first_line_is_masked():
    text = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\nnext"
    clean = redact.Redactor().text(text)
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
        "insert into `users` (`id`, `name`) values (1, 'x') - SQLITE_FULL: database or disk is full",
        "git@git.example:itsm/runbook.git",
        "mail to ops@example.com failed",
        "GET /api/v1/incidents?page=2&sort=key:asc 200",
        "some.module.name.that.is.long-and-dotted.js:10:5",
        "Monkey patching keyboard, passing 5 of 7, compass: north",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "PWD=/srv/itsm",
        "bypass: true, compass=north, side: left, spider=1, pid: 12",
        "GET http://localhost:6443/a/mail@example.com 200",
        "https://[::1]:6443/a@b",
        "docker run -u 1000 -p 8080:80 x, mysql -h db -P 3306 itsm, sort -u",
        "トークンの有効期限: 3600 秒, パスワードが違います",
        "ask-me-later-about-everything-please, the task-runner-of-this-application",
        "the password was wrong, token expired",
        "npm_config_cache=/tmp/x",
    ],
)
def test_other_text_is_unchanged(text):
    assert redact.Redactor().text(text) == text


def test_known_values_are_masked_in_any_place():
    environment = {
        "JWT_SECRET": CANARY,
        "ADMIN_PASSWORD": "admin",
        "NODE_ENV": "production",
        "PWD": "/srv/itsm",
        "TOKEN_FILE": "/srv/itsm/token",
        "JWT_TOKEN_EXPIRES_IN": "3600000",
        "DATABASE_URL": "postgres://itsm:s3cr3t-value@db/itsm",
    }
    redactor = redact.Redactor(redact.secret_values(environment))
    assert (
        redactor.text(f"debug {CANARY} production s3cr3t-value admin") == "debug [redacted] production [redacted] admin"
    )


def test_nested_data_is_redacted_and_keeps_its_structure():
    data = {
        "argv": ["node", "server.js", "--admin-password", CANARY, "--port", "1"],
        "password": CANARY,
        "tokens": 5,
        "cookies": [CANARY, CANARY],
        "headers": [{"name": "Authorization", "value": CANARY}, {"key": "X-Api-Key", "value": CANARY}],
        "lines": [f"JWT_SECRET={CANARY}", {"deep": f"Bearer {CANARY}"}],
        "row_counts": {"password_resets": 3},
        "ok": True,
        "none": None,
    }
    clean = redact.Redactor().value(data)
    assert CANARY not in json.dumps(clean)
    assert clean["argv"] == ["node", "server.js", "--admin-password", redact.MASK, "--port", "1"]
    assert (clean["tokens"], clean["row_counts"], clean["ok"], clean["none"]) == (5, {"password_resets": 3}, True, None)


def test_secrets_after_a_single_letter_option_are_masked():
    redactor = redact.Redactor()
    for arguments, number, left in (
        (["/usr/bin/curl", "-u", f"admin:{CANARY}", "https://x"], 2, "admin:[redacted]"),
        (["sshpass", "-p", CANARY, "ssh", "db"], 2, "[redacted]"),
        (["mysqldump", "-h", "db", f"-p{CANARY}", "itsm"], 3, "-p[redacted]"),
        (["redis-cli", "-a", CANARY], 2, "[redacted]"),
    ):
        clean = redactor.argv(arguments)
        assert clean[number] == left and len(clean) == len(arguments)
        assert clean[:number] == arguments[:number]
        assert CANARY in redact.secret_arguments(arguments)
    assert redactor.argv(["docker", "-u", "1000", "-p", "80"]) == ["docker", "-u", "1000", "-p", "80"]


def test_redacting_twice_changes_nothing_more():
    redactor = redact.Redactor()
    once = redactor.text(f"password={CANARY} Authorization: Bearer {CANARY} postgres://a:{CANARY}@b")
    assert redactor.text(once) == once


def test_known_values_are_masked_in_every_encoding():
    value = 'pa"ss/wörd\\1'
    redactor = redact.Redactor([value])
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        urllib.parse.quote(value, safe=""),
        base64.b64encode(value.encode()).decode(),
        f"Basic {base64.b64encode(value.encode()).decode()}",
    ):
        assert redactor.text(f"x {text} y").startswith(("x [redacted]", 'x "[redacted]', "x Basic [redacted]")), text


def test_each_line_of_a_known_key_is_masked():
    key = "-----BEGIN X-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEA\n-----END X-----"
    redactor = redact.Redactor([key])
    assert redactor.text("MIIEvQIBADANBgkqhkiG9w0B alone") == "[redacted] alone"
    assert redactor.text(json.dumps({"x": key})) == '{"x": "[redacted]"}'


def test_words_about_secrets_are_unchanged():
    environment = {
        "SESSION_COOKIE_SAMESITE": "strict-mode",
        "TOKEN_TYPE": "Bearer-like",
        "SSL_KEY": "/etc/itsm/server.key",
        "JWT_SECRET_FILE": "/run/secrets/jwt",
    }
    assert redact.secret_values(environment) == []


def test_passwords_in_urls_are_known_in_plain_text():
    environment = {"DATABASE_URL": "postgres://itsm:p%40ss-word@db/itsm"}
    assert redact.Redactor(redact.secret_values(environment)).text("bare p@ss-word") == "bare [redacted]"


def test_only_the_token_is_masked():
    assert redact.Redactor().text(f"session-{JWT} ended") == "session-[redacted] ended"
    assert redact.Redactor().text(f"a.long.name-of.something {JWT}") == "a.long.name-of.something [redacted]"


def test_secrets_of_a_command_line_are_masked():
    arguments = ["node", "x.js", "--password", "geheim-1", "--token=geheim-2", "--secret", "--port", "geheim-3", "a=b"]
    assert redact.secret_arguments(arguments) == ["geheim-1", "geheim-2"]


ATOMS = (
    *("a", "Z", "_", "-", "--", ".", "=", ":", " ", "\\", '"', "'", '\\"', "://", "@", "x:", "/", "(", ")", ";", "1"),
    *("token", "key", "pass", "Pwd", "eyJ", "eyJ-", "authorization", "authorization:", "cookie:", "bearer ", "basic"),
    *("$2b", "sk_live_", "npm_", "ghp_", 'password="', 'password=\\"', "password: ", "'authorization', "),
    *("insert into t", "insert into t (password) values (", "\n", "\n\\", ":\n", "=\n"),
    *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
    *("<", "<password>", "&quot;", "%22", "\\u0022", "\uff1a", "パスワード", "cookies: {", "bindings: [", "?key="),
    *(
        "-u ",
        "-u a:",
        "mysql ",
        "mysql -p",
        "redis-cli ",
        "sshpass -p ",
        "identified by ",
        "password '",
        "pbkdf2",
        "$6$",
    ),
)


@pytest.mark.parametrize("first", ATOMS)
def test_the_time_is_at_most_proportional_to_the_length(first):
    # Slow patterns would delay the diagnosis of an outage. If a pattern takes quadratic time, this test times out.
    redactor = redact.Redactor(["known-value"])
    begin = "key token eyJ bearer :// insert into "
    redactor.text(begin + first * (60_000 // len(first)))
    for second in ATOMS:
        text = first + second
        redactor.text(begin + text * (600 // len(text)))


def test_a_text_without_pairs_of_quotes_is_decoded_by_the_faster_pattern_in_the_same_way():
    texts = map("".join, itertools.product("%\\&'\"u4;", repeat=5))
    simple = [text for text in texts if not any(each in text for each in redact_known._QUOTES)]
    assert len(simple) > 1000
    for text in simple:
        slow, fast = (
            [(match.span(), match.lastgroup) for match in pattern.finditer(text)]
            for pattern in (redact_known._ESCAPES, redact_known._WITHOUT_QUOTES)
        )
        assert slow == fast


def test_words_are_found_by_their_common_beginning():
    words = redact_shapes.Words(["ghp_", "gho_", "gl", "k_"])
    assert words.found_in("glow ghp_ in gh") == {"gl", "ghp_"}
    assert words.found_in("GHP_ k") == set()
