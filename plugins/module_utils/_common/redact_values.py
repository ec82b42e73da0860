# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mask the values that follow the name of a secret.

A value in quotes ends at its closing quote. A value in a URL or on a command line ends at the end of the word. Every
other value ends at the end of the line or before the next name. If a value continues on the next line, the rest of the
value is also masked.
"""

from __future__ import annotations

import functools
import re
from typing import List, Match, NamedTuple, Optional, Pattern, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_brackets as brackets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_shapes as shapes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

MASK = shapes.MASK

# Names of secrets such as DB_PASSWORD, clientSecret, x-api-key and SESSION_KEY. A match begins at the word that
# identifies a secret, for example at PASSWORD in DB_PASSWORD.
JAPANESE = ("パスワード", "暗証番号", "秘密鍵", "認証キー", "シークレット", "トークン")
TELLING = (
    r"(?:(?i:passw(?:or)?[dt]|pass[ ]?phrase|passcode|secret|token|credential|creds|cookie|session_?id|sessid|"
    r"signature|contrase[nñ]a|authorization|(?:db|database|key)_?pass|"
    r"(?:api|auth|access|private|priv|licen[cs]e|encryption|signing|master|service|account|db|database|client)[_ ]?key)"
    r"[\w.-]{0,40}|(?i:pwd)\w[\w.-]{0,40}|"
    r"(?:[_-](?i:key|pwd|pass|pw|auth)|[a-z](?:Key|Pwd|Pass|Pw)|"
    r"\b(?:(?i:pass|(?:db|smtp|mail|user|admin|root)p(?:ass|w)|connect\.sid|bearer|psk|"
    r"(?:cloudant|clou|cl|softlayer|sl|ibm|iam|cloud|cos)[_-]?(?:api)?[_-]?(?:key|pwd|pw|pass))|[pP]wd|pw|PW|sid))"
    rf"(?![\w-])|(?:{'|'.join(JAPANESE)})(?!\w))"
)

# A quoted value ends at its closing quote or at the end of the line. Quotes may be escaped, as in JSON inside JSON.
QUOTED = "|".join(
    rf"{mark}(?:[^{mark}\\\n]|\\.)*(?:{mark}|\\?(?=\n|\Z))"
    rf"|\\{{1,8}}{mark}(?:[^{mark}\\\n]|\\(?!\\{{0,7}}{mark}))*(?:\\{{1,8}}{mark}|{mark}|(?=\n|\Z))"
    for mark in ('"', "'", "`")
)
# Quotation marks as they appear in JavaScript, SQL (knex quotes names with `), HTML and URLs.
QUOTE = r"""(?:\\{0,8}["'`]?|\\{1,8}u002[27]|&(?:quot|apos|#3[49]);|%2[27])"""
_ESCAPED_QUOTE = r"(?:\\{1,8}u002[27]|&(?:quot|apos|#3[49]);|%2[27])"
_SEPARATOR = (
    r"[ \t]{0,4}(?:=>|:=|[=!]{1,2}=|={1,2}!|::|->|[:=\uff1a\uff1d]|[!=]{1,2}(?=[ ]?@?[\"'`])|%3[aAdD])[ \t]{0,20}"
)


@functools.lru_cache(maxsize=None)
def _pattern(text: str) -> Pattern[str]:
    """Return the compiled pattern. The pattern is compiled at first use, because most runs find no secrets."""
    return re.compile(text)


# "Unexpected token" is an error message from a parser, not the name of a secret.
_NAME = rf"(?<![uU]nexpected ){TELLING}"
# Node prints [Symbol(password)]: 'x' and Symbol(password) => 'x'.
_OF_SYMBOL = r"(?:\)(?=\]?(?::[ ]|[ ]=>[ ](?![{(]))))?"
_NAMED = (
    rf"{_NAME}{_OF_SYMBOL}{QUOTE}[\]'\"`]{{0,2}}(?:\[\d{{0,20}}\])?(?:[ \t](?:is|was))?{_SEPARATOR}({_ESCAPED_QUOTE})?"
)
# {"name": "Authorization", "value": "x"}, <add key="password" value="x"/>.
_PAIR = (
    r"""(?i:\b(?:name|key|id|header|field|type)\\{0,8}["']?[ ]{0,4}[:=][ ]{0,4})\\{0,8}["']?[\w.:-]{0,60}?"""
    + TELLING
    + r"""\\{0,8}["']?[\s,]{1,4}(?:[{\\]{0,8}["']?)(?i:value)\\{0,8}["']?[ ]{0,4}[:=][ ]{0,4}"""
)
_PAIR_BEGUN = (
    r"""[ \t-]{0,200}["']?(?i:name|key|header|field)["']?[ ]{0,4}[:=][ ]{0,4}["']?[\w.:-]{0,60}?"""
    + TELLING
    + r"""["']?,?[ \t\r]{0,20}\Z"""
)
_PAIR_BEGINS = lazy(r"""[ \t-]{0,200}["']?(?i:name|key|header|field)""")
# The start tag of an XML element whose text is on the next line.
_ELEMENT_BEGUN = rf"<[\w:.-]{{0,60}}?{TELLING}>[ \t\r]{{0,20}}\Z"
# A value that is compared with a name: "x" === password.
_COMPARED = rf"[=!]{{2,3}}[ \t]{{0,4}}[\w.$]{{0,60}}?{TELLING}"

# Characters that precede the opening quote and are part of the value: b'', $'', @"", new String("").
_BEFORE_QUOTE = lazy(r"(?:[bBuUrRfF]{1,2}|[$@]|!!\w{1,20}[ ]|(?:new[ ])?[A-Za-z][\w.]{0,40}\()?(?=\\{0,8}[\"'`])")
_STRING = lazy(rf"(?:{QUOTED})")
# Another string that is part of the value: 'a' + 'b', 'it'\''s', 'it''s', Python's "a" "b".
_ANOTHER = lazy(rf"(?:\\'|[ ]?\+[ ]?|[ ])?(?=[\"'`])(?:{QUOTED})")
_BLOCK = lazy(r"(?:![\w!./-]{0,40}[ ]{1,4})?[|>][+-]?\d?[ \t\r]{0,20}\Z")
# A flag or a count is not a secret if it is the entire value.
_NO_SECRET = lazy(
    r"""(?:(?i:true|false|null|undefined|none|nil)|-?\d{1,3})"""
    r"""(?=["']?(?:,(?=[\s"'])|[;&]|\s{0,4}[}\])]{1,4}(?:[\s,;]|\Z)|\s{0,4}\Z)|[ ][\w.-]{1,40}=)"""
)
_WORD = lazy(r"""[^\s"'<>]+""")
_IN_QUERY = lazy(r"""[^\s&"'<>\\]+""")
_IN_CONNECTION = lazy(r"""[^;"'\n]+""")
FIRST_WORD = lazy(r"[\w+/=.~-]+")
# Matches the next name, or the end of the text that contains the value.
_NEXT_NAME = (
    r"""[,;&][ ]{1,4}["'`]?[\w.-]{1,40}["'`]?[ ]{0,2}[:=](?!\w{0,20}[;&])|[,;][ ]?["'][\w.-]{1,40}["'][ ]{0,2}:|"""
    r"""[;&][\w.-]{1,40}=|[ \t][\w.-]{1,40}=(?=[^\s=])|\\{0,8}["'][ ]?,[ ]?\\{0,8}["']|["'][ ]{1,4}[\w.-]{1,40}=|"""
    r"""[ ]-[ ](?:SQLITE_|E[A-Z]{3,})|</"""
)
# The end of a message about a value, such as "was rejected" in "NAME=value was rejected".
_SAID_OF_IT = (
    r"[ ](?:(?:was|were|is|has been|not)[ ]){0,3}"
    r"(?:refused|rejected|failed|denied|expired|accepted|invalid|wrong|found)\b"
)
# The closing quote of the text that contains a name and its value.
_CLOSES = r"{}(?=[\s,;)}}\]]|\Z)"
# Authorization: Bearer x. Some authentication schemes have more than one value.
_SCHEME = (
    r"(?i:(?:digest|hawk|oauth|token|aws4-hmac-sha256)[ \t][^\r\n]+|"
    r"(?:[a-z][\w-]{2,20}[ \t]{1,4})?[^\s\"'\\,&]+)"
)
_AUTHORIZATION = r"(?i:authorization)\W{1,30}\Z"
# These names contain a word such as Token, but are not names of secrets: TokenExpiredError, /srv/passwordReset.js:12.
_OF_AN_ERROR = lazy(r"(?i:error|exception|warning|rejection)\Z")
_OF_A_FILE = lazy(r"\.(?:[cm]?[jt]sx?|json|py|db|sql|log|md|html|css|map)\Z")
_PLACE = lazy(r"\d{1,7}(?::\d{1,7})?(?=[)\s,;'\"]|\Z)")
_CLOSING = " \t\r\"'`}]),>;"
_ONLY_CLOSING = lazy(r"[ \t\r\"'`}\]),>;]*\Z")
_BLANK = lazy(r"\s*\Z")
# A string that continues on the next line, as Node prints it: 'a' +
_JOINED = lazy(r"[ ]?\+[ \t\r]{0,20}\Z")
# A secret's name at the end of a line, in a list of names and values such as rawHeaders, arguments or Map entries.
_MEMBER = rf"(?:\A|[\[(,][ \t]{{0,8}})([\"'`])(-{{0,2}})[\w.-]{{0,60}}?{TELLING}\1,[ \t\r]{{0,20}}\Z"
# knex prints the values of a statement after its text.
_BINDINGS = r"""(?i:\b(?:bindings|parameters)["'`]?[ ]{0,2}[:=][ ]{0,2}(?=\[)|\bbindings["'`]?:[ \t\r]{0,20}\Z)"""

_BODY = brackets.BODY


class Carry(NamedTuple):
    """The state at the end of a line. This state determines how the next line is masked.

    kind: "value" (the value is on the next line), "rest" (the value may continue), "quote" (the value continues to its
    closing quote), "block" (the value continues while lines are indented), "pair" (the value of a pair follows),
    "bracket" (a list or an object continues), "joined" (another string follows), "member" or "option" (a string follows
    that belongs to the name on this line).
    """

    kind: str
    indent: int = 0
    quote: str = ""
    logged: bool = False
    # Number of open brackets.
    depth: int = 0


class _End(NamedTuple):
    """The end of a value. carry: the kind of Carry if the value continues on the next line, otherwise ""."""

    at: int
    carry: str = ""
    quote: str = ""
    depth: int = 0


def indent(line: str) -> int:
    """Return the number of blanks at the beginning of a line."""
    return len(line) - len(line.lstrip(" \t"))


def _carry(line: str, kind: str, quote: str = "", depth: int = 0) -> Carry:
    body = _BODY.match(line)
    column = brackets.column(line) if kind == "bracket" else indent(line)
    return Carry(kind, column, quote, bool(body and body.group().strip()), depth)


def carry_after(line: str, end: _End) -> Optional[Carry]:
    """Return the carry for the line after a value, or None if the value is complete."""
    return _carry(line, end.carry, end.quote, end.depth) if end.carry else None


def _before_name(line: str, start: int) -> Tuple[int, str]:
    """Return the position at which a name begins, and the character before the name.

    start: the position of the word that identifies a secret.
    """
    first = start
    while first > 0 and start - first < 80 and (line[first - 1].isalnum() or line[first - 1] in "_.-$"):
        first -= 1
    return first, line[first - 1] if first else ""


def _quoted_end(line: str, start: int) -> Optional[_End]:
    """Return the end position of a quoted value, or None if the value has no quotes."""
    before = _BEFORE_QUOTE.match(line, start)
    if before is None:
        return None
    for triple in ('"""', "'''"):
        if line.startswith(triple, before.end()):
            end = line.find(triple, before.end() + 3)
            return _End(len(line), "quote", triple) if end < 0 else _End(end + 3)
    found = _STRING.match(line, before.end())
    if found is None:
        return None
    quote = found.group().lstrip("\\")[:1]
    if not found.group().endswith(quote) or found.end() - found.start() < 2:
        return _End(found.end(), "quote", quote)
    end = found.end()
    while True:
        another = _ANOTHER.match(line, end)
        if another is None or another.end() - end < 2:
            return _End(end, "joined" if _JOINED.match(line, end) else "")
        end = another.end()


def closed(line: str, start: int, end: int) -> int:
    """Return the end position of a value, excluding closing brackets and quotes that belong to the surrounding text."""
    while end > start and line[end - 1] in _CLOSING and not line.endswith(MASK, start, end):
        end -= 1
    return end


def _ends_line(line: str, at: int) -> str:
    """Return "rest" (the value may continue) if only brackets and quotes follow on the line, otherwise ""."""
    return "rest" if _ONLY_CLOSING.match(line, at) else ""


def _stop(line: str, start: int, *, said: bool) -> int:
    """Return the first position at which a value without quotes ends."""
    # One combined pattern is faster than separate patterns, because each separate pattern would search the rest of the
    # line.
    ends = [_CLOSES.format(quote) for quote in "\"'" if line.count(quote, max(0, start - 1000), start) % 2]
    found = _pattern("|".join([_NEXT_NAME, *ends, *([_SAID_OF_IT] if said else [])])).search(line, start)
    return found.start() if found else len(line)


def _plain_end(line: str, name: int, start: int, *, equals: bool) -> _End:
    """Return the end position of a value without quotes."""
    first, before = _before_name(line, name)
    option = line[first : first + 1] == "-" and before in ("", " ", '"', "'")
    word: Optional[Match[str]] = None
    if "%3" in line[max(0, start - 9) : start] or (before and before in "?&#"):
        word = _IN_QUERY.match(line, start)
    elif before == ";":
        word = _IN_CONNECTION.match(line, start)
    elif option:
        word = _WORD.match(line, start)
    elif _pattern(_AUTHORIZATION).search(line, max(0, start - 60), start):
        word = _pattern(_SCHEME).match(line, start)
    else:
        made = FIRST_WORD.match(line, start)
        word = made if made and _made_by_a_program(made.group()) else None
        if word is None:
            at = closed(line, start, _stop(line, start, said=equals))
            return _End(at, _ends_line(line, at))
    at = word.end() if word else start
    return _End(at, _ends_line(line, at))


def _made_by_a_program(word: str) -> bool:
    """Return True if a program seems to have generated the word.

    A generated word is a complete value, not the first word of a value.
    """
    return shapes.opaque(word) or (len(word) >= 24 and any(map(str.isdigit, word)))


def value_end(line: str, name: int, start: int, *, equals: bool, quote: str = "") -> _End:
    """Return the end position of the value that begins at `start`.

    quote: an escaped quote before the value, such as &quot;.
    """
    if quote:
        closing = line.find(quote, start, start + 2000)
        if closing >= 0:
            return _End(closing)
    for nothing, left in ((_BLANK, "value"), (_BLOCK, "block"), (_NO_SECRET, "")):
        if nothing.match(line, start):
            return _End(start, left)
    quoted = _quoted_end(line, start)
    if quoted is not None:
        return quoted
    opened = None if line.startswith(MASK, start) else brackets.OPENED.match(line, start)
    if opened:
        at, depth = brackets.end(line, opened.end())
        if depth:
            return _End(at, "bracket", depth=depth)
        # A password can look like the name of a class.
        if opened.end() == start or brackets.FOLLOWING.match(line, at):
            return _End(at)
        start = at
    return _plain_end(line, name, start, equals=equals)


def _is_no_secret(match: Match[str], line: str) -> bool:
    name = match.group().rstrip(": \t")
    if _OF_A_FILE.search(name):
        return _PLACE.match(line, match.end()) is not None
    return _OF_AN_ERROR.search(name) is not None


def _without_compared(line: str) -> str:
    """Return a line without the strings that are compared with the name of a secret: 'x' === password."""
    pieces: List[str] = []
    last = 0
    for match in _pattern(_COMPARED).finditer(line):
        end = match.start()
        while end > last and line[end - 1] in " \t":
            end -= 1
        quote = line[end - 1] if end > last else ""
        begin = line.rfind(quote, max(last, end - 1000), end - 1) if quote and quote in "\"'`" else -1
        if begin >= 0:
            pieces += (line[last:begin], MASK)
            last = end
    return "".join([*pieces, line[last:]])


def _without_named(line: str, pattern: str) -> Tuple[str, Optional[Carry]]:
    """Mask the values that follow the matches of a pattern. Return the line, and the carry after the last value."""
    carry: Optional[Carry] = None
    pieces: List[str] = []
    last = 0
    search = _pattern(pattern).search
    match = search(line)
    while match is not None:
        start = match.end()
        if line.startswith(MASK, start):
            end = _End(start + len(MASK))
            pieces.append(line[last : end.at])
        elif _is_no_secret(match, line):
            end = _End(start)
            pieces.append(line[last:start])
        else:
            quote = match.group(1) if pattern is _NAMED else ""
            equals = ":" not in match.group()[-4:]
            end = value_end(line, match.start(), start, equals=equals, quote=quote or "")
            pieces += (line[last:start], MASK if end.at > start else "")
        carry = carry_after(line, end)
        last = end.at
        match = search(line, last) if last < len(line) else None
    return "".join([*pieces, line[last:]]), carry


def named_values(line: str) -> Tuple[str, Optional[Carry]]:
    """Mask the values that follow names of secrets. Return the line, and the carry for the next line."""
    carry: Optional[Carry] = None
    if "value" in line.lower():
        line, carry = _without_named(line, _PAIR)
    line, left = _without_named(line, _NAMED)
    carry = left or carry
    if any(sign in line for sign in ("==", "!=", "=!", "!!")):
        line = _without_compared(line)
    if carry is None and _PAIR_BEGINS.match(line) and _pattern(_PAIR_BEGUN).match(line):
        carry = _carry(line, "pair")
    if carry is None and ">" in line[-30:] and _pattern(_ELEMENT_BEGUN).search(line, max(0, len(line) - 200)):
        carry = _carry(line, "value")
    return line, carry or _member_begun(line)


def _member_begun(line: str) -> Optional[Carry]:
    """Return the carry after a line that ends with the name of a secret in a list of names and values."""
    if not line.endswith((",", ", ", ",\r")):
        return None
    body = _BODY.match(line)
    member = _pattern(_MEMBER).search(line[body.end() if body else 0 :][-200:])
    return _carry(line, "option" if member.group(2) else "member") if member else None


def bound_values(line: str) -> Tuple[str, Optional[Carry]]:
    """Mask the values of a database statement if they continue on the next line. Return the line and the carry."""
    match = _pattern(_BINDINGS).search(line)
    if match is None or line.startswith(MASK, match.end()):
        return line, None
    if match.end() >= len(line.rstrip()):
        return line, _carry(line, "value")
    at, depth = brackets.end(line, match.end())
    return (masked(line, match.end(), at), _carry(line, "bracket", depth=depth)) if depth else (line, None)


def masked(line: str, start: int, end: int) -> str:
    """Return a line with a part of it masked."""
    return line if end <= start else line[:start] + MASK + line[end:]
