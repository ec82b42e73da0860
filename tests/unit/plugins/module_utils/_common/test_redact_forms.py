# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets in a log are masked: unknown secrets in many forms, and known secrets in many encodings."""

from __future__ import annotations

import base64
import html
import json
import shlex
import time
import urllib.parse

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact

# A word that a person has chosen, several words, and a value that a program has generated.
WORD = "Kanarienvogel-42!x"
PHRASE = "correct horse battery staple"
TOKEN = "q7ZkT0pXv9LmB2nRw4sYc6dHf8gJ1aEu3iOxPzVt"
HALVES = (TOKEN[:20], TOKEN[20:])
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
BASE64 = "cTdaa1QwcFh2OUxtQjJuUnc0c1ljNmRIZjhnSjE="
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlLXdpdGgtXw"
KEY_LINES = ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj")
SECRETS = {
    **{"WORD": WORD, "PHRASE": PHRASE, "TOKEN": TOKEN, "FIRST": HALVES[0], "SECOND": HALVES[1]},
    **{"HEX": HEX, "BASE64": BASE64, "JWT": JWT, "KEY1": KEY_LINES[0], "KEY2": KEY_LINES[1]},
}
# No part of a phrase with this length may be left in the text. For an attacker, "hors" is as good as "horse".
SHORTEST = 4

UNKNOWN = [
    # Several words without quotes. The value ends at the end of the line or at the next name.
    "password: <PHRASE>",
    "DB_PASSWORD=<PHRASE>",
    "export DB_PASSPHRASE=<PHRASE>",
    "2026-03-02T01:02:03.456Z INFO password: <PHRASE>",
    "2026-03-02T01:02:03.456Z INFO login passphrase=<PHRASE>",
    "Mar  2 01:02:03 web1 node[812]: admin password: <PHRASE>",
    "level=info password=<PHRASE> user=admin",
    "Server=db;Uid=itsm;Pwd=<PHRASE>;Database=x",
    "user: admin, password: <PHRASE>, remember: true",
    "{ username: 'admin', password: <PHRASE> }",
    "passphrase := <PHRASE>",
    "secret => <PHRASE>",
    "パスワード: <PHRASE>",
    '{"level":"info","msg":"password: <PHRASE>","time":1772413323456}',
    'level=info msg="password: <PHRASE>" pid=812',
    "# password is: <PHRASE>",
    "password:\t<PHRASE>",
    # Quotes of all kinds.
    '{"password":"<PHRASE>"}',
    '{"password" : "<WORD>", "user": "x"}',
    "{'password': b'<PHRASE>'}",
    "{'password': b\"<PHRASE>\"}",
    "{'api_key': u'<WORD>'}",
    "{'token': rb'<PHRASE>', 'n': 1}",
    "Settings(password='<PHRASE>', port=1)",
    "SecretStr(secret=b'<PHRASE>')",
    "password='<PHRASE>'",
    'password="<PHRASE>" --port 1',
    "password=`<PHRASE>`",
    "{ password: `<PHRASE>` }",
    "password=$'<PHRASE>\\n'",
    "password='it'\\''s <PHRASE>'",
    "password: 'it''s <PHRASE>'",
    'password = """<PHRASE>"""',
    "password: 'abc' + '<PHRASE>'",
    'password: "abc" "<PHRASE>"',
    'message="{\\"password\\":\\"<PHRASE>\\"}"',
    '"{\\\\\\"password\\\\\\":\\\\\\"<PHRASE>\\\\\\"}"',
    "password&quot;:&quot;<PHRASE>&quot;",
    "%22password%22%3A%22<WORD>%22",
    # Lists and objects.
    '{"passwords": ["<WORD>", "<PHRASE>"]}',
    '{"credentials": {"user": "admin", "pass": "<PHRASE>"}}',
    "cookies: { sid: '<PHRASE>', theme: 'dark' }",
    '{"name":"Authorization","value":"Token <WORD>"}',
    '{"key":"password","value":"<PHRASE>"}',
    '["X-Api-Key","<WORD>"]',
    "password: <Buffer 71 37 5a 6b 54 30 70 58>".replace("71 37 5a 6b 54 30 70 58", "<WORD>"),
    'password: String("<PHRASE>")',
    "password: Buffer.from('<PHRASE>')",
    'setPassword("<PHRASE>")',
    'secret.assign("<PHRASE>",17);',
    'private_key "<PHRASE>";',
    "if (password == '<PHRASE>') {",
    "if ('<PHRASE>' === password) {",
    'password != "<WORD>"',
    "OrderedDict([('password', '<PHRASE>')])",
    "API key: <PHRASE>",
    "pass phrase = <PHRASE>",
    # YAML.
    "passwords:\n  - <WORD>\n  - <PHRASE>\nuser: admin",
    "password: |\n  <PHRASE>\n  <TOKEN>\nuser: admin",
    "password: >-\n    <PHRASE>\nuser: admin",
    "password:\n  <PHRASE>\nuser: admin",
    "password: correct horse\n  battery staple\nuser: admin",
    "- name: SMTP_PASSWORD\n  value: <PHRASE>",
    "api_key: !!str <PHRASE>",
    "password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6231<HEX>",
    # XML and HTML.
    "<password><PHRASE></password>",
    '<add key="SmtpPassword" value="<PHRASE>"/>',
    '<input type="password" name="password" value="<PHRASE>">',
    "<password>\n  <PHRASE>\n</password>",
    "<password><![CDATA[<PHRASE>]]></password>",
    # URLs.
    "postgres://itsm:<WORD>@db.example/itsm",
    "redis://:<WORD>@cache:6379/0",
    "https://<TOKEN>@git.example/x.git",
    "amqp://itsm:p@ss/<WORD>@mq:5672/",
    "GET /reset?token=<WORD> HTTP/1.1",
    "GET /x?user=1&api_key=<WORD>&page=2 200",
    "https://x.example/blob?sv=1&sig=<TOKEN>",
    "/callback?code=1#access_token=<TOKEN>&state=x",
    "GET /x?password=<WORD>,<WORD>;<WORD> 200",
    "posted to https://hooks.slack.com/services/T00000000/B00000000/<TOKEN>",
    "POST https://discord.com/api/webhooks/123456789012345678/<TOKEN>",
    "GET https://api.telegram.org/bot123456789:AAF<FIRST>abcdefghijkl/getMe",
    "mongodb+srv://itsm:<WORD>@c0.example/?w=1",
    "jdbc:sqlserver://db;user=sa;password=<PHRASE>;encrypt=true",
    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=<TOKEN>/+==;EndpointSuffix=y",
    # HTTP.
    "Authorization: Bearer <TOKEN>",
    "Authorization: Bearer\n  <TOKEN>",
    "Authorization:\n  Bearer\n  <TOKEN>",
    "2026-03-02T01:02:03Z INFO Authorization: Bearer\n2026-03-02T01:02:03Z INFO <TOKEN>",
    "Mar  2 01:02:03 web1 node[812]: authorization: Bearer\nMar  2 01:02:03 web1 node[812]: <TOKEN>",
    "proxy-authorization: Basic <BASE64>",
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/x, Signature=<HEX>",
    'Authorization: Digest username="admin", response="<WORD>"',
    "Authorization: Token token=<WORD>, nonce=<WORD>",
    "Cookie: theme=dark; sid=<WORD>; other=<TOKEN>",
    "set-cookie: connect.sid=s%3A<TOKEN>.<WORD>; Path=/",
    "X-Auth-Token: <PHRASE>",
    "X-Vault-Token: <WORD>",
    "rawHeaders: [ 'Cookie', 'sid=<WORD>', 'Host', 'a' ]",
    "curl -H 'Authorization: Bearer <WORD>' https://x.example/",
    "curl -u 'admin:<PHRASE>' https://x.example/",
    # Command lines.
    "node server.js --admin-password <WORD>",
    "node server.js --admin-password '<PHRASE>' --port 1",
    "node server.js --admin-password=<WORD> --port 1",
    "mysql -h db -p<WORD> itsm",
    "sshpass -p '<PHRASE>' ssh db",
    "redis-cli -h cache -a <WORD> ping",
    "DB_PASSWORD='<PHRASE>' node server.js",
    "docker login -u x -p <WORD> registry.example",
    "openssl rsa -passin pass:<WORD> -in x.key",
    # SQL.
    "insert into `users` (`id`, `password_hash`) values (1, '<PHRASE>') - SQLITE_CONSTRAINT",
    "update `users` set `password_hash` = '<PHRASE>' where `id` = 1",
    "bindings: [ 'admin', '<PHRASE>' ]",
    "ALTER USER itsm WITH PASSWORD '<PHRASE>'",
    "IDENTIFIED BY <WORD>",
    "PRAGMA key = '<PHRASE>'",
    # Keys.
    "-----BEGIN RSA PRIVATE KEY-----\n<KEY1>\n<KEY2>\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n<KEY1>\n<KEY2>",
    "<KEY1>\n<KEY2>\n-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\\n<KEY1>\\n<KEY2>\\n-----END OPENSSH PRIVATE KEY-----\\n",
    "INFO -----BEGIN EC PRIVATE KEY-----\nINFO <KEY1>\nINFO <KEY2>\nINFO -----END EC PRIVATE KEY-----",
    "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 2\n<KEY1>\n<KEY2>\nPrivate-MAC: <HEX>",
    # Secrets that are split over two log lines.
    "token=<FIRST>\n<SECOND>",
    "password: <FIRST>\n<SECOND> next",
    "2026-03-02T01:02:03Z INFO token=<FIRST>\n2026-03-02T01:02:03Z INFO <SECOND>",
    "1772413323.456789 web1 node[812]: api_key: <FIRST>\n1772413323.456790 web1 node[812]: <SECOND>",
    'token="<FIRST>\n<SECOND>"',
    "Authorization: Bearer <FIRST>\n<SECOND>",
    "token=<FIRST>\\\n<SECOND>",
    "2026-03-02T01:02:03Z INFO secret:\n2026-03-02T01:02:03Z INFO <PHRASE>",
    "password=\n<PHRASE>",
    '{"level":30,"msg":"token=<FIRST>"}\n{"level":30,"msg":"<SECOND>"}',
    "  authorization:\n   'Bearer <TOKEN>',",
    "AWS_SECRET_ACCESS_KEY:\r\n<TOKEN>\r\nnext",
    # Secrets without a name, which are recognized by their form.
    "<JWT>",
    "token <JWT> rejected",
    "signed with <TOKEN> at once",
    "using key <TOKEN>",
    "secret is <HEX>",
    "the password is <WORD>",
    "bind as admin with password <WORD>",
    "body <BASE64> end",
    '{"data":"<TOKEN>"}',
    "AKIAIOSFODNN7EXAMPLE".replace("IOSFODNN7EXAMPLE", "Q7ZKT0PXV9LMB2NR"),
    "ghp_<TOKEN>",
    "github_pat_11ABCDEFG0<TOKEN>_<TOKEN>",
    "glpat-<FIRST>",
    "xoxb-123456789012-123456789012-<FIRST>",
    "sk_live_<FIRST>",
    "npm_<TOKEN>",
    "AIzaSy<TOKEN>",
    "SG.<FIRST>.<TOKEN>",
    "sk-proj-<TOKEN>",
    "hvs.<TOKEN>",
    "pypi-AgEIcHlwaS5vcmc<TOKEN>",
    "dop_v1_<HEX>0123456789abcdef01234567",
    "sq0csp-<TOKEN>abc",
    "SK<HEX>"[:34].replace("<HEX>", "<HEX>"),
    "hash $2b$10$N9qo8uLOickgx2ZMRZoMye<KEY1> stored".replace("<KEY1>", "IjZAgcfl7p92ldGxad68LJZdL17lhWy"),
]


def _spelled(form: str) -> tuple[str, list[str]]:
    """Replace the placeholders in a form with secrets. Return the text and the secrets in it."""
    used = []
    for name, secret in SECRETS.items():
        if f"<{name}>" in form:
            form = form.replace(f"<{name}>", secret)
            used.append(secret)
    return form, used


def _left(secret: str, clean: str) -> list[str]:
    """Return the parts of a secret that are still in masked text: 4 characters of a phrase, 6 of other secrets."""
    clean = clean.replace(redact.MASK, "\0")
    size = SHORTEST if " " in secret else 6
    return [
        word[start : start + size]
        for word in secret.split()
        for start in range(max(1, len(word) - size + 1))
        if word[start : start + size] in clean
    ]


@pytest.mark.parametrize("form", UNKNOWN)
def test_an_unknown_secret_is_masked(form):
    text, secrets = _spelled(form)
    clean = redact.Redactor().text(text)
    assert [_left(secret, clean) for secret in secrets] == [[] for _secret in secrets], clean
    assert redact.MASK in clean
    assert clean.count("\n") == text.count("\n")
    assert redact.Redactor().text(clean) == clean


def test_a_whole_log_is_masked_like_each_of_its_lines():
    texts = [_spelled(form) for form in UNKNOWN]
    clean = redact.Redactor().text("\n2026-03-02T01:02:03Z INFO next\n".join(text for text, _secrets in texts))
    # Check only that no secret is left, because a PEM key without an end line also masks the lines after it.
    assert [secret for _text, secrets in texts for secret in secrets if _left(secret, clean)] == []


KNOWN = "Zeb\"ra/Köln &\\1 'x'?"
PLAIN = "plain-Known_value.77~ok"


def _base64(value: str, before: str = "", after: str = "", *, urlsafe: bool = False) -> str:
    data = (before + value + after).encode()
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()


def _ansi_c(value: str) -> str:
    return "$'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _every(value: str, form: str) -> str:
    return "".join(form.format(ord(letter)) for letter in value)


def _broken(value: str, between: str) -> str:
    return value[:9] + between + value[9:]


def _percent(value: str, form: str = "%{:02X}") -> str:
    return "".join(form.format(byte) for byte in value.encode())


SPELLINGS = {
    "raw": lambda value: value,
    "upper case": str.upper,
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "URL, slashes kept": urllib.parse.quote,
    "URL, plus for blank": urllib.parse.quote_plus,
    "URL, lower case": lambda value: "".join(
        letter if letter.isalnum() and letter.isascii() else _percent(letter).lower() for letter in value
    ),
    "URL, every byte": _percent,
    "URL, twice": lambda value: urllib.parse.quote(urllib.parse.quote(value, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON, not ASCII": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON, slash escaped": lambda value: json.dumps(value).replace("/", "\\/"),
    "JSON, every letter": lambda value: _every(value, "\\u{:04x}"),
    "JSON, every letter in capitals": lambda value: _every(value, "\\u{:04X}"),
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)),
    "JSON in JSON in JSON": lambda value: json.dumps(json.dumps(json.dumps(value))),
    "JSON, HTML safe": lambda value: json.dumps(value).replace("&", "\\u0026").replace("'", "\\u0027"),
    "shell": shlex.quote,
    "shell, double quotes": lambda value: '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"',
    "shell, ANSI C": _ansi_c,
    "shell, ANSI C, hex": lambda value: "$'" + _percent(value, "\\x{:02x}") + "'",
    "shell, ANSI C, octal": lambda value: "$'" + _percent(value, "\\{:03o}") + "'",
    "shell, backslashes": lambda value: "".join(c if c.isalnum() else "\\" + c for c in value),
    "hex": lambda value: value.encode().hex(),
    "hex, upper case": lambda value: value.encode().hex().upper(),
    "hex, blanks": lambda value: value.encode().hex(" "),
    "hex, colons": lambda value: value.encode().hex(":").upper(),
    "Buffer": lambda value: f"<Buffer {value.encode().hex(' ')}>",
    "Buffer as JSON": lambda value: json.dumps({"type": "Buffer", "data": list(value.encode())}),
    "Buffer as JSON, short": lambda value: json.dumps(list(value.encode()), separators=(",", ":")),
    "base64": _base64,
    "base64, offset 1": lambda value: _base64(value, "a", "z"),
    "base64, offset 2": lambda value: _base64(value, "ab", "yz"),
    "base64, offset 3": lambda value: _base64(value, "admin:", "\n"),
    "base64url": lambda value: _base64(value, urlsafe=True).rstrip("="),
    "base64url, offset 1": lambda value: _base64(value, "a?>", "z", urlsafe=True) + _base64(value, "a", urlsafe=True),
    "base64url, offset 2": lambda value: _base64(value, "ab", "yz", urlsafe=True),
    "base64 in a URL": lambda value: urllib.parse.quote(_base64(value, "a", "z"), safe=""),
    "base64 in lines": lambda value: "\n".join(
        _base64(value, "u:" * 9)[at : at + 20] for at in range(0, len(_base64(value, "u:" * 9)), 20)
    ),
    "base64 of JSON": lambda value: _base64(json.dumps({"password": value})),
    "Python": repr,
    "Python, ASCII": ascii,
    "Python, bytes": lambda value: repr(value.encode()),
    "JavaScript": lambda value: "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "JavaScript, hex": lambda value: _every(value, "\\x{:02x}"),
    "JavaScript, braces": lambda value: _every(value, "\\u{{{:x}}}"),
    "HTML": html.escape,
    "HTML, numbers": lambda value: _every(value, "&#{};"),
    "HTML, hex": lambda value: _every(value, "&#x{:X};"),
    "two lines": lambda value: _broken(value, "\n"),
    "two lines, indented": lambda value: _broken(value, "\r\n    "),
    "two lines, backslash": lambda value: _broken(value, "\\\n"),
    "two lines of a log": lambda value: _broken(value, "\n2026-03-02T01:02:03.456Z INFO "),
    "two lines of syslog": lambda value: _broken(value, "\nMar  2 01:02:03 web1 node[812]: "),
    "two lines of the journal": lambda value: _broken(value, "\n1772413323.456789 web1 node[812]: "),
    "two lines of containers": lambda value: _broken(value, "\nbackend_1  | "),
    "two strings": lambda value: _broken(value, "' +\n  '"),
    "escaped line feed": lambda value: json.dumps(_broken(value, "\n")),
}


@pytest.mark.parametrize("value", [KNOWN, PLAIN])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_known_secret_is_masked_in_every_encoding(spelling, value):
    text = f"word {SPELLINGS[spelling](value)} end"
    clean = redact.Redactor([value]).text(text)
    assert redact.MASK in clean and clean.startswith("word ") and clean.endswith(" end"), clean
    assert clean.count("\n") == text.count("\n")
    # Besides the masks, only quotes and other text that is not part of the secret may be left.
    left = clean.replace(redact.MASK, "")
    for noise in NO_SECRET:
        left = left.replace(noise, "")
    assert left.strip("\"'\\ \n\r$b") == "", clean


NO_SECRET = (
    *("word ", " end", "<Buffer >", '{"type": "Buffer", "data": []}', "[]", "2026-03-02T01:02:03.456Z INFO "),
    *("Mar  2 01:02:03 web1 node[812]: ", "1772413323.456789 web1 node[812]: ", "backend_1  | "),
)


@pytest.mark.parametrize("value", ["päss wörd 😀 geheim", "tab\tand\nline feed 12345678", "a%41b+c &amp; d\\u0041e"])
@pytest.mark.parametrize("spelling", ["raw", "URL", "URL, twice", "JSON", "JSON in JSON", "Python", "Python, bytes"])
def test_letters_escaped_differently_per_language_are_masked(spelling, value):
    clean = redact.Redactor([value]).text(f"word {SPELLINGS[spelling](value)} end")
    assert clean.replace("\n", "").replace(redact.MASK * 2, redact.MASK) in (
        f"word {before}{redact.MASK}{after} end" for before, after in (("", ""), *QUOTES)
    ), clean


def test_a_known_secret_in_base64_ends_with_its_line():
    text = f"sent {_base64(PLAIN, 'a:', 'b')}\n2026-03-02T01:02:03Z WARN login of admin"
    clean = redact.Redactor([PLAIN]).text(text)
    assert clean == f"sent {redact.MASK}\n2026-03-02T01:02:03Z WARN login of admin"


QUOTES = [('"', '"'), ("'", "'"), ("b'", "'"), ('"\\"', '\\""'), ('b"', '"')]


@pytest.mark.parametrize(
    "piece",
    [
        *("\\", "\\\\u0041", "\\u0041", "%41", "%25", "&#65;", "&amp;", "\n", "\\\n", "\n2026-03-02T01:02:03Z INFO "),
        *("A", "Aa1", "q7", "password: a ", "password: 'a' + ", "password: [", "password:\n", "token=a\n", 'secret="'),
        *(
            "'\\''",
            "secret: {",
            "Bearer\n",
            "a=b,",
            "key a1",
            "' == ",
            "-----BEGIN PRIVATE KEY-----\n",
            "A/b1",
            '"b": ',
        ),
        *("password is ", "value: ", "<password>", "aB3+", "[[[[", "name: password\n", "plain-Known_value.77~o"),
    ],
)
def test_the_time_is_proportional_to_the_length(piece):
    """If the text is 4 times longer, linear code takes 4 times longer, and quadratic code 16 times longer."""
    redactor = redact.Redactor([KNOWN, PLAIN])

    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        begun = time.process_time()
        redactor.text(text)
        return time.process_time() - begun

    growth = []
    for _attempt in range(3):
        growth.append(seconds(400_000) / max(seconds(100_000), 0.002))
        if growth[-1] < 8:
            return
    raise AssertionError(f"time multiplied by {growth}")
