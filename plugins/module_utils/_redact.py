# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking secrets out of text and data before they leave the host.

Two nets: patterns (what looks like a secret) and known values (what the service's own environment calls one). The
second catches what no pattern can, such as a password an application logged bare.

The text comes from anyone, so every pattern takes time in proportion to its length: a repetition is bounded, or what
follows it cannot fail, or the pattern begins at one place only of a run of characters that it would repeat over.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import urllib.parse
from typing import Any, Callable, Dict, Iterable, List, Mapping, Match, Sequence, Set, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _plain

MASK = "[redacted]"

# A shorter "secret" is a word like "admin": taking it out everywhere would make the evidence unreadable.
_SHORTEST_KNOWN = 6
# Of a value in several lines (a key), each line that is at least this long is a secret of its own.
_SHORTEST_LINE = 16

# Names under which secrets go, from the word that tells on: DB_PASSWORD, clientSecret, x-api-key, SESSION_KEY.
_JAPANESE = ("パスワード", "暗証番号", "秘密鍵", "認証キー", "シークレット", "トークン")
_TELLING = (
    r"(?:(?i:passw(?:or)?[dt]|passphrase|passcode|secret|token|credential|creds|cookie|session_?id|sessid|signature|"
    r"authorization|(?:api|access|private|licen[cs]e|encryption|signing|master)_?key)[\w.-]{0,40}|"
    r"(?:[_-](?i:key|pwd|pass|pw|auth)|[a-z](?:Key|Pwd|Pass|Pw)|"
    r"\b(?:(?i:pass|(?:db|smtp|mail|user|admin|root)p(?:ass|w)|connect\.sid|bearer)|[pP]wd|pw|PW|sid))(?![\w-])|"
    rf"(?:{'|'.join(_JAPANESE)})(?!\w))"
)
_SECRET_NAME = re.compile(_TELLING + r"\Z")
# No word that tells stands further from the end of a name than this.
_END_OF_NAME = 64
# Variables about a secret that are none themselves; their values are ordinary words and paths.
_ABOUT = re.compile(
    r"(?i:_(?:file|path|dir|directory|url|uri|ttl|name|domain|host|port|age|length|rounds|algorithm|issuer|type|secure|"
    r"samesite|same_site|enabled|mode|store|header|prefix|version|audience|provider))\Z"
)
_ABOUT_TIME = re.compile(r"(?i:expir|lifetime)")
_PATH_OF_KEY = re.compile(r"/[\w./-]+\.(?:key|pem|p12|pfx|json|txt)\Z")

# Quoted values end at their quote or with the line. Quotes may be escaped: JSON inside a JSON log line.
_QUOTED = "|".join(
    rf"{mark}(?:[^{mark}\\\n]|\\.)*(?:{mark}|\\?(?=\n|\Z))"
    rf"|\\{{1,8}}{mark}(?:[^{mark}\\\n]|\\(?!\\{{0,7}}{mark}))*(?:\\{{1,8}}{mark}|{mark}|(?=\n|\Z))"
    for mark in ('"', "'")
)
# As JavaScript, SQL (knex quotes names by `), HTML and URLs write them.
_QUOTE = r"""(?:\\{0,8}["'`]?|\\{1,8}u002[27]|&(?:quot|apos|#3[49]);|%2[27])"""
_OPENING = r"(?:\\{1,8}u002[27]|&(?:quot|apos|#3[49]);|%2[27])?"
_VALUE = _QUOTED + r"""|(?!\[redacted\])[^\s,;&}\]"'\\]+"""
_SEPARATOR = r"\s{0,4}(?:=>|:=|[:=\uff1a\uff1d]|%3[aAdD])\s{0,20}"

_KEY = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
# A key ends with its END; where that was cut off, what may be left of the key goes.
_WHOLE_KEY = re.compile(rf"-----BEGIN {_KEY}(?:.{{0,20000}}?-----END {_KEY}|.{{0,20000}})", re.DOTALL)
_END_OF_KEY = re.compile(rf"-----END {_KEY}")
_LINE_OF_KEY = re.compile(r"[A-Za-z0-9+/=\s]*\Z")

# A line that ends with a separator goes on: long values are printed on a line of their own.
_LINES = re.compile(r"(?<![:=\n])\n")


def _token(match: Match[str]) -> str:
    """Take out a JSON Web Token: parts in base64url, the first of which begins with {" ."""
    before, begin, _token_itself = match.group().partition("eyJ")
    return before + MASK if begin else before


def _inserted(match: Match[str]) -> str:
    """Take out the values of an SQL statement (knex prints them in its errors) where a column's name tells."""
    columns = re.findall(r"\w{1,64}", match.group("columns"))
    return match.group("before") + (MASK if any(map(is_secret_name, columns)) else match.group("values"))


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A pattern, what replaces what it finds, and words (in lower case) without one of which it finds nothing.

    It is compiled when one of its words is first found, as most runs meet none.
    """

    words: Sequence[str]
    pattern: str
    replacement: Union[str, Callable[[Match[str]], str]]


_NAME_WORDS = (
    *("passwd", "password", "passphrase", "secret", "token", "credential", "apikey", "api_key", "authorization"),
    *("cookie", "sessionid", "session_id", "signature", "key", "pwd", "pass", "_auth", "-auth", "bearer"),
    # Short ones begin many a word: with what comes next.
    *(
        "creds",
        "sessid",
        *(name + end for name in ("sid", "pw") for end in ("=", ":", " =", '"', "'", "`")),
        *_JAPANESE,
    ),
)

_RULES: Tuple[_Rule, ...] = (
    _Rule(("eyj",), r"(?<![\w-])[\w-]{8,}\.[\w-]{2,}(?:\.[\w-]*)?", _token),
    # HTTP: Authorization with its scheme, cookies with all their pairs, and both as Node's raw headers.
    _Rule(
        ("authorization",),
        (
            r"(?i)(authorization" + _QUOTE + r"\s{0,4}[:=]\s{0,4}" + _QUOTE + r")"
            r"""(?:digest\s[^\r\n]+|(?:[a-z][\w-]{2,20}\s{1,4})?[^\s"'\\,]+)"""
        ),
        r"\1" + MASK,
    ),
    _Rule(("bearer", "basic"), r"(?i)\b(bearer|basic)(\s{1,4})[\w.~+/-]{8,}=*", r"\1\2" + MASK),
    _Rule(
        ("cookie",),
        r"""(?i)(cookie""" + _QUOTE + r"""\s{0,4}:\s{0,4}""" + _QUOTE + r""")[^"'\r\n]+""",
        r"\1" + MASK,
    ),
    _Rule(
        ("authorization", "cookie", "key", "token"),
        (r"""(?im)((?:authorization|cookie|api-key|-token)\\{0,8}["'],\s{0,4})(?:""" + _QUOTED + r")"),
        r"\1" + MASK,
    ),
    # Cookies that a program has read already.
    _Rule(("cookies",), r"(?i)(cookies" + _QUOTE + r"\s{0,4}[:=]\s{0,4}[{\[])[^}\]\n]+", r"\1" + MASK),
    # URLs with credentials: the password, or the whole of what stands there without one. People leave @ and / in their
    # passwords as they are; digits and a slash are a port.
    _Rule(
        ("://",),
        r"""(://[^\s/:@"'?#\[]{0,200}:)(?!\[redacted\]|\d{1,5}[/?#])[^\s"'<>]{1,1000}@""",
        r"\1" + MASK + "@",
    ),
    _Rule(("://",), r"""(://)(?!\[redacted\]@)[^\s/:@"'?#]{1,1000}@""", r"\1" + MASK + "@"),
    _Rule(
        ("insert into", "replace into"),
        (
            r"(?i)(?P<before>(?:insert|replace) into [^()\n]{1,200}"
            r"\((?P<columns>[^()\n]{1,4000})\)\s{1,4}values\s{0,4})(?P<values>\([^\n]{0,20000})"
        ),
        _inserted,
    ),
    _Rule(("bindings",), r"(?i)(bindings\W{1,4}?\[)(?!\[redacted\])[^\]\n]+", r"\1" + MASK),
    _Rule(_NAME_WORDS, r"(<[\w:.-]{0,60}?" + _TELLING + r">)[^<\n]+", r"\1" + MASK),
    _Rule(
        ("passw", "passphrase", "identified"),
        r"((?i:passw(?:or)?d|passphrase|identified\s{1,4}by)\s{1,4})(?:" + _QUOTED + r")",
        r"\1" + MASK,
    ),
    # Names that tell in the query of a URL alone.
    _Rule(
        ("key=", "auth=", "sig=", "hmac=", "otp=", "pin="),
        r"""(?i)([?&](?:key|auth|sig|hmac|otp|pin)=)(?!\[redacted\])[^\s&#"'\\]+""",
        r"\1" + MASK,
    ),
    # Programs that take a password with a letter.
    _Rule(
        ("-u", "--user", "--proxy-user"),
        (r"""((?<![\w-])(?:-[uU]|--(?:proxy-)?user)[ =]{0,2}["']?[^\s:"']{1,100}:)(?!\[redacted\])[^\s"']+"""),
        r"\1" + MASK,
    ),
    _Rule(
        ("sshpass", "mysql", "redis-cli"),
        (
            r"(\bsshpass\s{1,4}-p\s{0,4}|\bmysql\w{0,10}\s(?:[^\n]{0,200}?\s)?-p|"
            r"\bredis-cli\s(?:[^\n]{0,200}?\s)?-a\s{0,4})(?!\[redacted\])[^\s]+"
        ),
        r"\1" + MASK,
    ),
    # A line of an environment file: nothing but a blank ends its value.
    _Rule(
        _NAME_WORDS,
        r"""(?m)^([ \t]{0,8}(?:export[ \t])?\w{0,80}?""" + _TELLING + r"""=)(?!["'\\]|\[redacted\])\S+""",
        r"\1" + MASK,
    ),
    # NAME=value, "name": "value", name: value, --name value.
    _Rule(
        _NAME_WORDS,
        r"(" + _TELLING + _QUOTE + _SEPARATOR + _OPENING + r")(?:" + _VALUE + r")",
        r"\1" + MASK,
    ),
    _Rule(
        _NAME_WORDS,
        (
            r"((?<![\w-])--?[\w-]{0,40}?" + _TELLING + r"\s{1,4})"
            r"(?:" + _QUOTED + r"|(?!\[redacted\])[^\s-]\S*)"
        ),
        r"\1" + MASK,
    ),
    # Tokens that give themselves away, and hashes of passwords.
    _Rule(
        ("akia", "asia", "gh", "glpat", "glptt", "gldt", "glrt", "xox", "xapp-", "k_", "sk-", "npm_", "aiza", "ya29."),
        (
            r"\b(?:A(?:KI|SI)A[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|gl(?:pat|ptt|dt|rt)-[\w-]{16,}|"
            r"(?:xox[abeprs]|xapp)-[\w-]{10,}|[sr]k_(?:live|test)_\w{10,}|sk-[\w-]{20,}|npm_\w{30,}|AIza[\w-]{30,}|"
            r"ya29\.[\w-]{20,})"
        ),
        MASK,
    ),
    _Rule(
        ("sg.", "hvs.", "hvb.", "pypi-", "_v1_", "whsec_", "age-secret-key-"),
        (
            r"\b(?:SG\.[\w-]{16,}\.[\w-]{16,}|hv[sb]\.[\w-]{20,}|pypi-[\w-]{16,}|do[opr]_v1_\w{40,}|"
            r"whsec_[\w+/=-]{16,}|AGE-SECRET-KEY-1\w{20,})"
        ),
        MASK,
    ),
    # Addresses that are their own key: whoever has them may post there.
    _Rule(
        ("hooks.", "webhook"),
        (r"(?i)\b(hooks\.slack\.com/\w{1,20}/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/)[\w/@-]+"),
        r"\1" + MASK,
    ),
    _Rule(
        ("$1$", "$5$", "$6$", "$y$", "$7$", "pbkdf2"),
        r"(?:\$[1567y]\$|\bpbkdf2[\w:-]{0,20}\$)[\w$./+=-]{20,500}",
        MASK,
    ),
    _Rule(("$2",), r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}", MASK),
    _Rule(("$argon2", "$scrypt"), r"\$(?:argon2\w{0,2}|scrypt)\$[\w$./+=,-]{20,500}", MASK),
)
_WORDS = tuple(dict.fromkeys(word for rule in _RULES for word in rule.words))


def _without_beheaded_keys(text: str) -> str:
    """Take out private keys of which only the end is there: the lines in base64 before the END."""
    pieces = _END_OF_KEY.split(text)
    clean = []
    for piece in pieces[:-1]:
        lines = piece.splitlines(keepends=True)
        while lines and _LINE_OF_KEY.match(lines[-1]):
            lines.pop()
        clean.append("".join(lines))
    return MASK.join([*clean, pieces[-1]])


def is_secret_name(name: str) -> bool:
    """Whether a variable, header or key of this name holds a secret."""
    return _SECRET_NAME.search(name[-_END_OF_NAME:]) is not None


def secret_values(environment: Mapping[str, str]) -> List[str]:
    """Return the values that must appear nowhere: those of secret names, and passwords within URLs."""
    values = [
        value
        for name, value in environment.items()
        if is_secret_name(name)
        and not _ABOUT.search(name)
        and not _ABOUT_TIME.search(name)
        and not _PATH_OF_KEY.match(value)
    ]
    for value in environment.values():
        for password in re.findall(r"://[^\s/:@\[]{0,200}:(?!\d{1,5}[/?#])(\S{1,1000})@", value):
            values.extend((password, urllib.parse.unquote(password)))
    return sorted({value for value in values if len(value) >= _SHORTEST_KNOWN})


def secret_arguments(arguments: Sequence[str]) -> List[str]:
    """Return the values on a command line that must appear nowhere: those of options with secret names."""
    found: Dict[str, str] = {}
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if equals and is_secret_name(name):
            found[name.lstrip("-")] = value
        elif number and _hides_next(arguments[number - 1]) and not argument.startswith("-"):
            found[arguments[number - 1].lstrip("-")] = argument
        elif _after_a_letter(arguments, number):
            found["password"] = argument[len(_after_a_letter(arguments, number).strip()) :]
    return secret_values(found)


def _after_a_letter(arguments: Sequence[str], number: int) -> str:
    """Return the part of an argument that is no secret where its program takes one there by a letter, else nothing."""
    argument, before = arguments[number], arguments[number - 1] if number else ""
    program = arguments[0].rsplit("/", 1)[-1]
    if (program, before) in (("sshpass", "-p"), ("redis-cli", "-a")):
        return " "
    if program.startswith("mysql") and re.match(r"-p.", argument):
        return "-p"
    if before in ("-u", "-U", "--user", "--proxy-user") and ":" in argument:
        return argument.partition(":")[0] + ":"
    return ""


def _hides_next(argument: str) -> bool:
    return argument.startswith("-") and "=" not in argument and is_secret_name(argument.lstrip("-"))


def _spellings(value: str) -> Set[str]:
    """Return the forms in which a known value may stand in a text."""
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms.update((urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)))
    forms.add(base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("="))
    forms.update(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE)
    return {form for form in forms if len(form) >= _SHORTEST_KNOWN}


class Redactor:
    """Takes secrets out; C(known) are values to remove wherever they stand."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Take the known values, longest first, so that a value that contains another goes as a whole."""
        forms: Set[str] = set()
        for value in known:
            if len(value) >= _SHORTEST_KNOWN:
                forms |= _spellings(value)
        self._known = sorted(forms, key=lambda form: (-len(form), form))

    def text(self, text: str) -> str:
        """Return C(text) without secrets, and without colours: a name and its value may each have one."""
        text = _plain.without_sequences(text)
        for form in self._known:
            if form in text:
                text = text.replace(form, MASK)
        if "PRIVATE KEY" in text:
            text = _without_beheaded_keys(_WHOLE_KEY.sub(MASK, text))
        lowered = text.lower()
        # Most lines of a log hold no such word, and to see that is much quicker than to try the patterns.
        words = [word for word in _WORDS if word in lowered]
        return "\n".join(self._line(line, words) for line in _LINES.split(text)) if words else text

    @staticmethod
    def _line(line: str, words: Sequence[str]) -> str:
        lowered = line.lower()
        held = {word for word in words if word in lowered}
        if held:
            for rule in _RULES:
                if not held.isdisjoint(rule.words):
                    line = re.sub(rule.pattern, rule.replacement, line)
        return line

    def argv(self, arguments: List[str]) -> List[str]:
        """Return a command line without secrets; C(--password x) is two arguments but one secret."""
        clean: List[str] = []
        for number, argument in enumerate(arguments):
            hidden = number > 0 and _hides_next(arguments[number - 1]) and not argument.startswith("-")
            shown = _after_a_letter(arguments, number)
            clean.append(shown.strip() + MASK if hidden or shown else self.text(argument))
        return clean

    def value(self, value: Any) -> Any:
        """Return data (as JSON knows it) with every text in it redacted; a text under a secret's name goes whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            clean: Dict[str, Any] = {}
            for name, item in value.items():
                if name == "argv" and isinstance(item, list):
                    clean[name] = self.argv(item)
                elif isinstance(item, str) and item and is_secret_name(name):
                    clean[name] = MASK
                else:
                    clean[name] = self.value(item)
            return clean
        return value
