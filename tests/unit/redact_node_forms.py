# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets as Node prints them: recorded output of util.inspect, console.table and JSON.stringify of Node 20.

Each secret is a placeholder, or consists of the same words as a placeholder, or is an encoding of such a word.
"""

from __future__ import annotations

PLACEHOLDERS = {
    "PHRASE": "correct horse battery staple",
    # This phrase is so long that Node prints it on a line of its own.
    "LONG": (
        "abandon ability able about above absent absorb abstract absurd abuse access accident account accuse achieve "
        "acid acoustic acquire across action"
    ),
    "KEY1": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "KEY2": "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
}
# Pieces that must not remain in masked text: the words of the secrets, and the first letters of PHRASE in hexadecimal
# and decimal.
PIECES = (
    *" ".join(PLACEHOLDERS.values()).split(),
    *("Kanarienvogel", "42!x", "63 6f 72 72", "99, 111, 114, 114"),
)

NODE = {
    "long with newlines": r"""
{
  username: 'admin',
  passphrase: 'abandon ability able\n' +
    'about above absent\n' +
    'absorb abstract absurd abuse\n' +
    'access accident account accuse achieve acid acoustic acquire across action',
  next: 'abc'
}
""",
    "narrow value next line 2": """
{
  password: 'abandon ability able about above absent absorb abstract absurd abuse a',
  a: {
    b: {
      c: {
        password: 'abandon ability able about above absent absorb abstract absurd abuse access ac'
      }
    }
  }
}
""",
    "array of phrases multi": """
{
  passwords: [
    'one two correct horse',
    'battery staple correct',
    'horse battery staple one'
  ]
}
""",
    "array grouped": """
{
  passwords: [
    'correct horse',
    'battery',
    'staple',
    'abandon',
    'ability',
    'absent',
    'absorb',
    'abstract',
    'absurd',
    'accident'
  ]
}
""",
    "buffer": """
{
  secret: <Buffer 63 6f 72 72 65 63 74 20 68 6f 72 73 65 20 62 61 74 74 65 72 79 20 73 74 61 70 6c 65>
}
""",
    "uint8array long": """
{
  secret: Uint8Array(143) [
     97,  98,  97, 110, 100, 111, 110,  32,  97,  98, 105, 108,
    105, 116, 121,  32,  97,  98, 108, 101,  32,  97,  98, 111,
    117, 116,  32,  97,  98, 111, 118, 101,  32,  97,  98, 115,
    101, 110, 116,  32,  97,  98, 115, 111, 114,  98,  32,  97,
     98, 115, 116, 114,  97,  99, 116,  32,  97,  98, 115, 117,
    114, 100,  32,  97,  98, 117, 115, 101,  32,  97,  99,  99,
    101, 115, 115,  32,  97,  99,  99, 105, 100, 101, 110, 116,
     32,  97,  99,  99, 111, 117, 110, 116,  32,  97,  99,  99,
    117, 115, 101,  32,
    ... 43 more items
  ],
  n: 1
}
""",
    "symbol": """
{ [Symbol(password)]: '<PHRASE>' }
""",
    "set": """
{ passwords: Set(2) { 'correct horse', 'battery staple' } }
""",
    "set multi": """
{
  passwords: Set(3) {
    'correct horse battery',
    'staple abandon ability',
    'absent absorb abstract absurd abuse'
  }
}
""",
    "class multi": """
{
  password: Secret {
    value: '<PHRASE>',
    other: 'abandon ability absent absorb abstract absurd abuse'
  }
}
""",
    "null proto": """
{
  password: [Object: null prototype] { value: '<PHRASE>' }
}
""",
    "URLSearchParams": """
URLSearchParams {
  'token' => 'Kanarienvogel-42!x',
  'user' => 'x',
  'password' => '<PHRASE>' }
""",
    "rawHeaders": """
{
  rawHeaders: [
    'Host',
    'localhost',
    'Authorization',
    'Bearer Kanarienvogel-42!x',
    'X-Api-Key',
    '<PHRASE>',
    'Cookie',
    'sid=Kanarienvogel-42!x; theme=Kanarienvogel-42!x'
  ]
}
""",
    "rawHeaders multi": """
{
  rawHeaders: [
    'Host',
    'localhost:3000',
    'Authorization',
    'Token <PHRASE>',
    'Connection',
    'keep-alive',
    'X-Auth-Token',
    'abandon ability able about above absent absorb abstract absu'
  ]
}
""",
    "getter multi": """
{
  credentials: [Getter] {
    value: '<PHRASE>',
    other: 'abandon ability absent absorb abstract absurd abuse'
  }
}
""",
    "error of axios": """
Error: Request failed with status code 401
  config: {
    url: '/api',
    method: 'post',
    auth: { username: 'u', password: '<PHRASE>' },
    headers: { Authorization: 'Bearer Kanarienvogel-42!x' },
    data: '{"password":"<PHRASE>","user":"x"}'
  }
}
""",
    "knex config": r"""
{
  client: 'mysql2',
  connection: {
    host: '127.0.0.1',
    user: 'itsm',
    password: '<PHRASE>',
    database: 'itsm',
    ssl: {
      key: '-----BEGIN PRIVATE KEY-----\n' +
        '<KEY1>\n' +
        '<KEY2>\n' +
        '-----END PRIVATE KEY-----\n',
      ca: 'x'
    }
  },
  pool: { min: 0, max: 7 }
}
""",
    "json indent": """
{
  "user": "x",
  "password": "<PHRASE>",
  "tokens": [
    "correct horse",
    "battery staple"
  ],
  "n": 1
}
""",
    "_header long": r"""
{
  req: {
    _header: 'POST /login HTTP/1.1\r\n' +
      'Accept: application/json, text/plain, */*\r\n' +
      'X-Auth-Token: <PHRASE>\r\n' +
      'User-Agent: axios/1.6.0\r\n' +
      'Connection: close\r\n' +
      '\r\n'
  }
}
""",
    "pem": r"""
{
  key: '-----BEGIN PRIVATE KEY-----\n' +
    '<KEY1>\n' +
    '<KEY2>\n' +
    '-----END PRIVATE KEY-----\n',
  cert: 'x'
}
""",
    "pem unnamed": r"""
[
  '-----BEGIN PRIVATE KEY-----\n' +
    '<KEY1>\n' +
    '<KEY2>\n' +
    '-----END PRIVATE KEY-----\n'
]
""",
    "pem json": r"""
{"k":"-----BEGIN PRIVATE KEY-----\n<KEY1>\n<KEY2>\n-----END PRIVATE KEY-----\n"}
""",
    "cookies obj": """
{
  cookies: {
    sid: 'Kanarienvogel-42!x',
    theme: '<PHRASE>',
    other: 'abandon ability absent absorb'
  }
}
""",
    "signedCookies": """
{
  signedCookies: [Object: null prototype] {
    remember: 'correct horse',
    other: 'abandon ability'
  }
}
""",
    "argv multi": """
{
  spawnargs: [
    '/usr/bin/node',
    '/srv/app/server.js',
    '--admin-password',
    'correct horse battery',
    '--port',
    '3000',
    '--token',
    'Kanarienvogel'
  ]
}
""",
    "Object.entries": """
[ [ 'password', '<PHRASE>' ], [ 'user', 'x' ] ]
""",
    "console.table": """
┌─────────┬──────┬────────────────────────────────┐
│ (index) │ user │ password                       │
├─────────┼──────┼────────────────────────────────┤
│ 0       │ 'a'  │ '<PHRASE>' │
│ 1       │ 'b'  │ 'abandon ability'              │
└─────────┴──────┴────────────────────────────────┘
""",
    "console.table kv": """
┌──────────┬────────────────────────────────┐
│ (index)  │ Values                         │
├──────────┼────────────────────────────────┤
│ password │ '<PHRASE>' │
│ user     │ 'x'                            │
└──────────┴────────────────────────────────┘
""",
    "sequelize": """
{
  parameters: [ 'admin', '<PHRASE>' ],
  sql: 'INSERT INTO `Users` (`id`,`password`) VALUES (?, ?);'
}
""",
    "sql multi": """
{
  sql: "INSERT INTO users (id, name, password, note) VALUES (1, 'admin', '<PHRASE>', 'abandon')"
}
""",
    "sql newline": r"""
{
  sql: 'INSERT INTO users (id, name, password)\n' +
    " VALUES (1, 'admin', '<PHRASE>')"
}
""",
    "bindings multi": """
{
  bindings: [
    'admin',
    '<PHRASE> abandon',
    'ability absent absorb abstract absurd abuse',
    'x'
  ]
}
""",
    "formidable fields": """
{
  fields: {
    password: [
      '<PHRASE> abandon ability absent absorb abstract absurd'
    ],
    user: [ 'x' ]
  }
}
""",
    "long token split": r"""
{
  token: 'Kanarienvogel-42!x\nKanarienvogel-42!x\n<PHRASE>\n'
}
""",
    "+ split in array": r"""
[
  'user=x\npassword=correct horse\n',
  'token=Kanarienvogel-42!x\nnext\n'
]
""",
    "function": """
{
  password: [Function: correct] { value: '<PHRASE>' }
}
""",
    "qs path": r"""
{
  _header: 'GET /login?user=x&password=correct%20horse%20battery%20staple HTTP/1.1\r\n' +
    'Host: x.example\r\n' +
    'Authorization: Bearer Kanarienvogel-42!x\r\n' +
    '\r\n',
  path: '/login?password=correct%20horse%20battery%20staple'
}
""",
    "key with dash quoted": """
{
  'x-api-key': '<LONG>',
  'client-secret': '<PHRASE>'
}
""",
    "getter": """
{ password: [Getter: '<PHRASE>'] }
""",
    "multi-line key quoted": """
{
  'x-auth-token': 'abandon ability able about above absent absorb abstract absurd abuse access'
}
""",
    "inspect escaped": r"""
{ password: 'it\'s "correct" `horse` battery' }
""",
    "maxString": """
{
  password: 'abandon ability able about above absent '... 103 more characters
}
""",
}
