# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Samples for the redactor: strings that match a regular expression, and ordinary log lines.

The samples never change.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import uuid
from pathlib import Path
from typing import Any

try:
    from re import _constants as sre
    from re import _parser as parser
except ImportError:  # Python 3.10
    import sre_constants as sre  # type: ignore[no-redef]
    import sre_parse as parser  # type: ignore[no-redef]

# All printable characters except spaces, because a value cannot begin or end with a space.
_SIGNS = [letter for letter in string.printable if letter.isprintable() and letter != " "]
_CLASSES = {
    sre.CATEGORY_DIGIT: string.digits,
    sre.CATEGORY_WORD: string.ascii_letters + string.digits + "_",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_SPACE: string.ascii_letters + string.digits,
}


class Sampler:
    """Generates strings that match a regular expression."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._groups: dict[int, str] = {}

    def sample(self, pattern: re.Pattern[str]) -> str:
        """Return a string for `pattern`.

        Lookarounds are ignored. Therefore, callers must check that the string matches the pattern.
        """
        self._groups = {}
        return self._of(parser.parse(pattern.pattern, pattern.flags))

    def _of(self, nodes: Any) -> str:
        return "".join(self._one(kind, value) for kind, value in nodes)

    def _one(self, kind: Any, value: Any) -> str:  # noqa: PLR0911
        if kind is sre.LITERAL:
            return chr(value)
        if kind in (sre.NOT_LITERAL, sre.ANY):
            return self._random.choice([sign for sign in _SIGNS if sign != chr(value or 0)])
        if kind is sre.IN:
            return self._random.choice(self._class(value))
        if kind is sre.BRANCH:
            return self._of(self._random.choice(value[1]))
        if kind is sre.SUBPATTERN:
            made = self._of(value[3])
            self._groups[value[0]] = made
            return made
        if kind is sre.GROUPREF:
            return self._groups[value]
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self._repeated(kind, *value)
        assert kind in (sre.AT, sre.ASSERT, sre.ASSERT_NOT), kind
        return ""

    def _repeated(self, kind: Any, least: int, most: Any, nodes: Any) -> str:
        inner = str(list(nodes))
        if kind is sre.MIN_REPEAT:
            # Repeat the minimum number of times, and sometimes once or twice more.
            most = min(int(most), least + 2)
        elif "CATEGORY_SPACE" in inner or inner == str([(sre.LITERAL, ord(" "))]):
            most = least + 1
        elif inner == str([(sre.IN, [(sre.CATEGORY, sre.CATEGORY_WORD)])]) and least == 0:
            # This part of the pattern matches the rest of a name.
            return self._random.choice(("", "", "_main", "2", "Value", "_of_admin"))
        elif most is sre.MAXREPEAT:
            least, most = max(least, 8), max(least, 8) + 8
        return "".join(self._of(nodes) for _ in range(self._random.randint(least, min(int(most), max(least, 64)))))

    @staticmethod
    def _class(items: Any) -> list[str]:
        signs: set[str] = set()
        for kind, value in items:
            if kind is sre.LITERAL:
                signs.add(chr(value))
            elif kind is sre.RANGE:
                signs.update(map(chr, range(value[0], value[1] + 1)))
            elif kind is sre.CATEGORY:
                signs.update(_CLASSES[value])
        negated = items[0][0] is sre.NEGATE
        return sorted(sign for sign in _SIGNS if sign not in signs) if negated else sorted(signs)


def pieces_left(secret: str, clean: str, *, size: int = 6) -> list[str]:
    """Return all pieces of the secret, each `size` characters long, that the masked text still contains."""
    clean = clean.replace("[redacted]", "\0")
    return [
        word[start : start + size]
        for word in secret.split()
        for start in range(max(1, len(word) - size + 1))
        if word[start : start + size] in clean
    ]


class _Filler:
    """Returns a random value for each name in braces in a template."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def _hex(self, length: int) -> str:
        return "".join(self._random.choices("0123456789abcdef", k=length))

    def __getitem__(self, name: str) -> str:  # noqa: PLR0911
        pick, number = self._random.choice, self._random.randint
        if name.startswith("hex"):
            return self._hex(int(name[3:]))
        if name == "iso":
            day, clock = f"{number(1, 12):02d}-{number(1, 28):02d}", f"{number(0, 23):02d}:{number(0, 59):02d}"
            return f"2026-{day}T{clock}:{number(0, 59):02d}.{number(0, 999):03d}Z"
        if name == "uuid":
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        if name in ("sha512", "sha1"):
            return f"{name}-{base64.b64encode(self._random.randbytes(64 if name == 'sha512' else 20)).decode()}"
        if name == "b43":
            return base64.b64encode(self._random.randbytes(32)).decode().rstrip("=")
        if name == "n":
            return str(number(1, 99999))
        if name == "epoch":
            return f"{number(1700000000, 1800000000)}.{number(0, 999999):06d}"
        if name == "ip":
            return ".".join(str(number(1, 254)) for _ in range(4))
        return pick(_WORDS[name])


_WORDS: dict[str, list[str]] = {
    "level": ["INFO", "WARN", "ERROR", "DEBUG", "info", "warn", "error"],
    "method": ["GET", "POST", "PUT", "PATCH", "DELETE"],
    "status": ["200", "201", "204", "301", "304", "400", "401", "403", "404", "409", "500", "502", "503"],
    "table": ["users", "incidents", "changes", "assets", "audit_logs", "user_activity", "sessions", "tickets"],
    "column": ["email", "title", "name", "created_at", "assignee_id", "priority", "status"],
    "package": ["better-sqlite3", "@types/node", "express", "knex", "node-pre-gyp", "bcrypt", "jsonwebtoken", "csurf"],
    "version": ["1.2.3", "20.11.1", "9.4.3", "4.18.2", "0.5.1-beta.2", "8.11.0"],
    "code": ["SQLITE_BUSY", "SQLITE_CONSTRAINT", "EADDRINUSE", "ECONNREFUSED", "ERR_MODULE_NOT_FOUND", "ENOSPC"],
    "function": ["Server.setupListenHandle [as _listen2]", "Object.<anonymous>", "async TokenService.refreshTokens"],
    "file": [
        *("/mnt/LinuxHDD/ITSM-System/backend/server.js", "/srv/itsm/current/backend/routes/passwordReset.js"),
        *("/srv/itsm/node_modules/knex/lib/migrations/migrate/MigrationsLoader.js", "node:internal/modules/cjs/loader"),
        *("/var/lib/itsm/uploads/2026/03/Screenshot_20260302-010203.png", "/srv/itsm/dist/assets/index-4f3a2b1c.js"),
        *("/srv/itsm/releases/20260302T010203Z/backend/auth.js", "/root/.npm/_cacache/index-v5/4f/2a/0123456789abcdef"),
    ],
    "migration": [
        *("20240401090000_create_users.js", "20240422090100_create_user_activity.js"),
        *("20240506090000_link_incidents_to_assets.js", "20260101000000_add_password_reset_tokens.js"),
    ],
    "unit": ["itsm-system.service", "nginx.service", "systemd-journald.service", "cron.service"],
    "path": [
        *("/api/v1/incidents", "/api/v1/incidents?page=2&sort=created_at:desc", "/api/v1/health", "/favicon.ico"),
        *("/api/v1/users/12/password-resets", "/api/v1/auth/token", "/assets/index-4f3a2b1c.js", "/login"),
        *("/api/v1/search?q=keyboard%20broken&limit=20", "/socket.io/?EIO=4&transport=polling&t=OxY3kQ2"),
    ],
    "agent": [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
        *("curl/8.5.0", "Prometheus/2.45.3", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3 like Mac OS X) Version/17.3"),
    ],
    "user": ["admin", "tanaka", "m.suzuki", "itsm", "root", "user17@example.com"],
    "japanese": ["チケットを登録しました", "パスワードが違います", "トークンの有効期限が切れました", "接続できません"],
}

_TEMPLATES = [
    # winston and similar loggers
    "{iso} {level} {method} {path} {status} {n} ms",
    "{iso} [{level}]: server listening on port {n}",
    "{iso} {level} user {user} logged in from {ip}",
    "{iso} {level} password changed for user {n}",
    "{iso} {level} session {uuid} expired after {n} s",
    "{iso} {level} token expired at {iso}, user {user} has to log in again",
    "{iso} {level} login of {user} failed: wrong password",
    "{iso} {level} job {uuid} finished in {n} ms",
    "{iso} {level} deployed commit {hex40} of release {version}",
    "{iso} {level} HEAD is now at {hex7} fix: close sockets of {table}",
    "{iso} {level} cache key incidents:list:page={n} missed",
    "{iso} {level} {japanese} ({n})",
    '{{"level":"{level}","message":"request done","method":"{method}","path":"{path}","status":{status},"ms":{n}}}',
    '{{"level":30,"time":1772413{n},"pid":{n},"hostname":"web1","reqId":"{uuid}","msg":"request completed"}}',
    '{{"timestamp":"{iso}","level":"{level}","traceId":"{hex32}","spanId":"{hex16}","message":"{table} saved"}}',
    "{iso} {level} GET /health 200 trace={hex32} span={hex16}",
    # morgan and nginx
    '{ip} - - [02/Mar/2026:01:02:03 +0000] "{method} {path} HTTP/1.1" {status} {n} "-" "{agent}"',
    "{method} {path} {status} {n}.123 ms - {n}",
    '::ffff:{ip} - {user} [{iso}] "{method} {path} HTTP/1.1" {status} {n} "https://itsm.example/login" "{agent}"',
    "2026/03/02 01:02:03 [error] {n}#{n}: *{n} connect() failed (111: Connection refused), client: {ip}",
    # systemd and the kernel
    "Mar 02 01:02:03 web1 systemd[1]: {unit}: Main process exited, code=killed, status=9/KILL",
    "{epoch} web1 systemd[1]: Started {unit} - ITSM backend {n}.",
    "{epoch} web1 systemd[1]: {unit}: Scheduled restart job, restart counter is at {n}.",
    "{epoch} web1 node[{n}]: (node:{n}) ExperimentalWarning: The Fetch API is an experimental feature",
    "{epoch} web1 sshd[{n}]: Accepted publickey for {user} from {ip} port {n} ssh2: ED25519 SHA256:{b43}",
    "{epoch} web1 sshd[{n}]: Failed password for invalid user {user} from {ip} port {n} ssh2",
    "{epoch} web1 sudo[{n}]: {user} : TTY=pts/0 ; PWD=/home/x{n} ; USER=root ; COMMAND=/usr/bin/true",
    "{epoch} web1 systemd-logind[{n}]: New session {n} of user {user}.",
    "Out of memory: Killed process {n} (node) total-vm:{n}kB, anon-rss:{n}kB, file-rss:0kB, UID:{n} oom_score_adj:0",
    "[{n}.123456] EXT4-fs (sda1): mounted filesystem {uuid} r/w with ordered data mode. Quota mode: none.",
    # Node.js
    "Error: listen {code}: address already in use :::{n}",
    "    at {function} ({file}:{n}:{n})",
    "    at {file}:{n}:{n}",
    "    at process.processTicksAndRejections (node:internal/process/task_queues:{n}:5)",
    "{file}:{n}",
    "SyntaxError: Unexpected token }} in JSON at position {n}",
    "SyntaxError: Unexpected token: punc (,) in {file}:{n}",
    "JsonWebTokenError: invalid signature ({n})",
    "TokenExpiredError: jwt expired at {iso}",
    "TypeError: Cannot read properties of undefined (reading 'token') at {file}:{n}",
    "Error: Cannot find module '{package}' Require stack: - {file} {n}",
    "  code: '{code}', errno: -{n}, syscall: 'listen', address: '::', port: {n}",
    "<--- Last few GCs ---> [{n}:0x5f{hex8}] {n} ms: Mark-sweep {n}.1 (4121.2) -> 4070.9 (4123.4) MB",
    "(node:{n}) UnhandledPromiseRejectionWarning: Error: {code} (rejection id: {n})",
    "(Use `node --trace-warnings ...` to show where the warning was created {n})",
    # npm
    "npm WARN deprecated {package}@{version}: no longer supported since {n}",
    "npm error code {code} {n}",
    "npm error A complete log of this run can be found in: /root/.npm/_logs/2026-03-02T01_02_03_{n}Z-debug-0.log",
    "npm http fetch GET 200 https://registry.npmjs.org/{package}/-/x-{version}.tgz {n}ms (cache miss)",
    '    "integrity": "{sha512}",',
    '    "resolved": "https://registry.npmjs.org/{package}/-/x-{version}.tgz#{hex40}",',
    "npm verb reify failed optional dependency /srv/itsm/node_modules/{package} {n}",
    "added {n} packages, and audited {n} packages in {n}s",
    "gyp info using node@{version} | linux | x64 {n}",
    # knex and SQLite
    "Batch {n} run: 3 migrations: {migration}",
    'migration file "{migration}" failed: SQLITE_ERROR: no such table: {table}{n}',
    "Error: The migration directory is corrupt, the following files are missing: {migration} ({n})",
    "Can't take lock to run migrations: Migration table is already locked ({n})",
    "SqliteError: UNIQUE constraint failed: {table}.{column} ({n})",
    "insert into `{table}` (`id`, `{column}`) values ({n}, 'x') - {code}: database is locked",
    "select `{column}` from `{table}` where `id` = {n} limit 1 - {code}",
    "Tree {n} page {n} cell {n}: Rowid {n} out of order in {table}",
    "row {n} missing from index {table}_{column}_unique",
    "wal_checkpoint: 0|{n}|{n} of /mnt/LinuxHDD/ITSM-System/backend/itsm.db-wal",
    # containers, git, files
    "Pulling image docker.io/library/node@sha256:{hex64}",
    "container {hex12} exited with code {n}",
    "{hex64}  /var/lib/itsm/backups/itsm-{n}.db",
    "commit {hex40} (HEAD -> main, tag: v{version}, build {n})",
    "-rw-r--r-- 1 itsm itsm {n} Mar  2 01:02 {file}",
    "{file}: {n} bytes, md5 {hex32}",
    "backup written to /var/lib/itsm/backups/itsm-20260302T010203Z-{hex8}.db ({n} rows)",
    "reading certificate /etc/itsm/tls/server.crt, serial {hex16}, expires {iso}",
    "queue=mail-outgoing worker=web1-{hex8} attempt={n} id={uuid}",
    "upstream {ip}:{n} answered {status} in {n} ms, request {uuid}",
    "config: NODE_ENV=production PORT={n} LOG_LEVEL={level} TZ=Asia/Tokyo",
    'metrics http_requests_total{{method="{method}",status="{status}"}} {n}',
    "kubelet: pod itsm-backend-7d4b9c6f5d-x2x4q restarted {n} times on node web1",
]


def ordinary_lines(recorded: Path, *, each: int = 40) -> list[str]:
    """Return distinct log lines without secrets, from templates and from the files in the folder `recorded`.

    each: the number of lines that are generated from each template.
    """
    filler = _Filler("ordinary")
    lines = {template.format_map(filler): None for template in _TEMPLATES for _ in range(each)}
    for path in sorted(recorded.iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            lines[line] = None
    return [line for line in lines if line.strip()]


def recorded_texts(recorded: Path) -> list[str]:
    """Return the text of each timeline in the folder `recorded`."""
    texts: dict[str, None] = {}

    def walk(value: Any) -> None:
        if isinstance(value, str):
            texts[value] = None
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    for path in sorted(recorded.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            walk(json.loads(line))
    return list(texts)
