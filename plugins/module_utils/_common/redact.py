# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove secrets from text and data before they leave the host.

There are three filters:

- redact_known removes known values (the secrets in the service's own environment), in every common encoding.
- redact_values removes every value that follows the name of a secret. redact_carried removes the part of such a value
  that is on later lines, and redact_tables removes the values in a table.
- redact_shapes removes secrets with a known shape (keys, service tokens, long random strings), in any context.

A mask keeps the line breaks of the text that it replaces, so that the number of lines does not change.

An attacker may have written the text, so every pattern must run in time proportional to the length of the text.
Therefore, each pattern has at least one of these three properties:

- Its repetitions are bounded.
- The part after a repetition always matches.
- A match can begin at only one position in a run of characters.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Match,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    redact_carried,
    redact_known,
    redact_shapes,
    redact_tables,
    sanitize,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_values as values
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

MASK = redact_shapes.MASK

_SECRET_NAME = lazy(values.TELLING + r"\Z")
# Only this many characters at the end of a name are searched for words such as "password".
_END_OF_NAME = 64
# Endings of names that only describe a secret, such as PASSWORD_FILE. The values of such names are ordinary words and
# paths.
_ABOUT = lazy(
    r"(?i:_(?:file|path|dir|directory|url|uri|ttl|name|domain|host|port|age|length|rounds|algorithm|issuer|type|secure|"
    r"samesite|same_site|enabled|mode|store|header|prefix|version|audience|provider))\Z"
)
_ABOUT_TIME = lazy(r"(?i:expir|lifetime)")
_PATH_OF_KEY = lazy(r"/[\w./-]+\.(?:key|pem|p12|pfx|json|txt)\Z")


def _token(match: Match[str]) -> str:
    """Mask a JSON Web Token. Every token begins with "eyJ", because its first part is a JSON object in base64url."""
    before, begin, _token_itself = match.group().partition("eyJ")
    return before + MASK if begin else before


class _Rule(NamedTuple):
    """A pattern, its replacement, and lower-case words. Text that contains none of these words cannot match.

    The pattern is compiled only when one of its words is first found, because most runs find none of them.
    """

    words: Sequence[str]
    pattern: str
    replacement: Union[str, Callable[[Match[str]], str]]
    # A line without any of these characters cannot match. If `signs` is empty, every line can match.
    signs: str = ""


_NAME_WORDS = (
    *("passwd", "password", "passphrase", "secret", "token", "credential", "apikey", "api_key", "authorization"),
    *("cookie", "sessionid", "session_id", "signature", "key", "pwd", "pass", "_auth", "-auth", "bearer"),
    # "sid" and "pw" occur in many other words, so they are matched only if one of these characters follows them.
    *(
        "creds",
        "sessid",
        "contrase",
        *(name + end for name in ("sid", "pw") for end in ("=", ":", " =", '"', "'", "`", "]")),
        "phrase",
        "psk",
        *values.JAPANESE,
    ),
)

# Names under which knex and Sequelize print the values of a database statement.
_BOUND_WORDS = ("bindings", "parameters")

_RULES: Tuple[_Rule, ...] = (
    _Rule(("eyj",), r"(?<![\w=-])[\w=-]{8,}\.[\w=-]{2,}(?:\.[\w.+/=-]*)?", _token),
    # HTTP: credentials after Bearer or Basic, cookies with all their pairs, and Node's raw headers ("name", "value").
    _Rule(("bearer", "basic"), r"(?i)\b(bearer|basic)(\s{1,4})[\w.~+/-]{8,}=*", r"\1\2" + MASK),
    _Rule(
        ("cookie",),
        r"""(?i)(cookie""" + values.QUOTE + r"""\s{0,4}:\s{0,4}""" + values.QUOTE + r""")[^"'\r\n]+""",
        r"\1" + MASK,
    ),
    _Rule(
        ("authorization", "cookie", "key", "token"),
        r"""(?i)((?:authorization|cookie|api-key|-token)\\{0,8}["'],\s{0,4})(?!["']value)(?:""" + values.QUOTED + r")",
        r"\1" + MASK,
    ),
    # Cookies that a program has already parsed into an object or a list.
    _Rule(
        ("cookies",),
        r"(?i)(cookies" + values.QUOTE + r"\s{0,4}[:=]\s{0,4}(?!\[redacted\])[{\[])[^}\]\n]+",
        r"\1" + MASK,
    ),
    # If a URL contains credentials, the password is masked. If there is no password, everything before @ is masked. A
    # password may contain unescaped @ and /. Digits between the colon and a slash are a port, not a password.
    _Rule(
        ("://",),
        r"""(://[^\s/:@"'?#\[]{0,200}:)(?!\[redacted\]|\d{1,5}[/?#])[^\s"'<>]{1,1000}@""",
        r"\1" + MASK + "@",
    ),
    _Rule(("://",), r"""(://)(?!\[redacted\]@)[^\s/:@"'?#]{1,1000}@""", r"\1" + MASK + "@"),
    _Rule(
        _BOUND_WORDS,
        r"(?i)((?:bindings|\bparameters)(?![^\w\[]{1,4}\[redacted\])[^\w\[]{1,4}\[)(?!\[redacted\])[^\]\n]+",
        r"\1" + MASK,
    ),
    _Rule(
        _NAME_WORDS,
        r"(<[\w:.-]{0,60}?" + values.TELLING + r">)(?:<!\[CDATA\[[^\n]{0,2000}?\]\]>|[^<\n]+)",
        r"\1" + MASK,
        signs="<",
    ),
    # A string after a name, such as `secret("x")`, `private_key "x";` or `invalid password "x"`.
    _Rule(
        (*_NAME_WORDS, "identified"),
        r"((?<![uU]nexpected )(?:" + values.TELLING + r"(?![\w.-])|(?i:identified\s{1,4}by))"
        r"(?:[^\s\"'`=:,;.?\\]{1,20}[ ]{0,4}|\.\w{1,20}\([ ]{0,4}|[ ]{1,4}|(?=[\"'`][^\"'`\n]{1,500}[\"'`];)))"
        r"(?:" + values.QUOTED + r")",
        r"\1" + MASK,
        signs="\"'`",
    ),
    # Prose such as "the password is x", and a token that directly follows its name.
    _Rule(
        _NAME_WORDS,
        r"((?<![uU]nexpected )" + values.TELLING + r"\s{1,4}"
        r"(?:(?:is|was)\s{1,4}(?=[^\s\d]{0,40}[\d!@#$%^&*])|(?=[^\s\d]{0,40}\d)(?=[\w+/=.-]{16})))"
        r"(?!\[redacted\])[^\s\"'<>]{6,}",
        r"\1" + MASK,
        signs=" \t",
    ),
    _Rule(
        ("passw", "phrase", "identified"),
        r"((?i:passw(?:or)?d|passphrase|identified[ ]by)[ ]{1,4})"
        r"(?!\[redacted\])(?=[^\s\d]{0,40}\d)(?=\S{0,40}?[A-Z!@#$%^&*])[^\s\"']{6,}",
        r"\1" + MASK,
    ),
    # A pair such as ("password", "x"), in the form that Python or a JavaScript Map prints.
    _Rule(
        _NAME_WORDS,
        r"([\[(][ ]?[\"'][\w.-]{0,40}?" + values.TELLING + r"[\"'],[ ]{0,4}b?)(?![\"']value)(?:" + values.QUOTED + r")",
        r"\1" + MASK,
        signs=",",
    ),
    # The key of an encrypted SQLite database.
    _Rule(
        ("pragma",), r"(?i)(\bpragma\s{1,4}(?:hex)?(?:re)?key\s{0,4}=\s{0,4})(?!\[redacted\]|\s)[^;\n]+", r"\1" + MASK
    ),
    # Names such as key or sig, whose values are secret only in the query string of a URL.
    _Rule(
        ("key=", "auth=", "sig=", "hmac=", "otp=", "pin="),
        r"""(?i)([?&](?:key|auth|sig|hmac|otp|pin)=)(?!\[redacted\])[^\s&#"'\\]+""",
        r"\1" + MASK,
    ),
    # A password after a user name (-u name:x), or after a one-letter option of a known program (mysql -px).
    _Rule(
        ("-u", "--user", "--proxy-user"),
        r"""((?<![\w-])(?:-[uU]|--(?:proxy-)?user)[ =]{0,2}(?P<quote>["'])?[^\s:"']{1,100}:)(?!\[redacted\])"""
        r"""(?(quote)(?:(?!(?P=quote)).)+|[^\s"']+)""",
        r"\1" + MASK,
    ),
    _Rule(
        ("sshpass", "mysql", "redis-cli", "docker login"),
        (
            r"(\bsshpass\s{1,4}-p\s{0,4}|\bmysql\w{0,10}\s(?:[^\n]{0,200}?\s)?-p|"
            r"\bredis-cli\s(?:[^\n]{0,200}?\s)?-a\s{0,4}|"
            r"\bdocker login\s(?:[^\n]{0,200}?\s)?-p\s{0,4})(?!\[redacted\])(?:" + values.QUOTED + r"|\S+)"
        ),
        r"\1" + MASK,
    ),
    # A long option and its value, such as --password x.
    _Rule(
        _NAME_WORDS,
        (
            r"((?<![\w-])--?[\w-]{0,40}?" + values.TELLING + r"\s{1,4})"
            r"(?:" + values.QUOTED + r"|(?!\[redacted\])[^\s-]\S*)"
        ),
        r"\1" + MASK,
        signs="-",
    ),
)
_INSERTING = ("insert into", "replace into")
# The text between the parts of a statement. Node prints several strings, such as: 'x)\n' + and 'values'. Each of them
# can be on a separate line of the log.
_BLANKS = r"(?:[\s\"'`+]|\\[nrt]){0,40}"
_GAP = rf"{_BLANKS}(?:\n[ \t]{{0,40}}{redact_shapes.PREFIX}{_BLANKS})?"
_INSERTED = lazy(
    rf"(?i)(?P<before>(?:insert|replace) into [^()]{{1,200}}\((?P<columns>[^()]{{1,4000}})\){_GAP}values{_GAP})"
    r"(?P<values>\([^\n]{0,20000}(?:\n[ \t\"'`]{0,40}\([^\n]{0,20000}){0,1000})"
)
# Several rows without values: insert into t (a, b) select 'x' as a, 'y' as b union all select ...
_SELECTED = lazy(
    rf"(?i)(?P<before>(?:insert|replace) into [^()]{{1,200}}\((?P<columns>[^()]{{1,4000}})\){_GAP}select\b)"
    r"(?P<values>[^\n]{0,20000}(?:\n[ \t]{0,40}[\"'`][^\n]{0,20000}){0,1000})"
)
# The error at the end of a statement. It follows the last quoted value.
_ERROR = lazy(r" - [^\"'`\n]{0,200}\Z")
_WORDS = redact_shapes.Words({*_INSERTING, *(word for rule in _RULES for word in rule.words)})


def _inserted(match: Match[str]) -> str:
    """Mask the values of an INSERT or REPLACE statement if a column has the name of a secret.

    knex prints such statements in its errors.
    """
    columns = re.findall(r"\w{1,64}", match.group("columns"))
    hidden = any(map(is_secret_name, columns))
    return match.group("before") + (redact_shapes.cover(match.group("values")) if hidden else match.group("values"))


def _selected(match: Match[str]) -> str:
    """Mask the rows of an INSERT or REPLACE statement with SELECT if a column has the name of a secret."""
    if not any(map(is_secret_name, re.findall(r"\w{1,64}", match.group("columns")))):
        return match.group(0)
    error = _ERROR.search(match.group("values"))
    return f"{match.group('before')} {MASK}{error.group(0) if error else ''}"


def is_secret_name(name: str) -> bool:
    """Return True if the value of a variable, header or key with this name is a secret."""
    return _SECRET_NAME.search(name[-_END_OF_NAME:]) is not None


def secret_values(environment: Mapping[str, str]) -> List[str]:
    """Return the values to redact everywhere: the values of variables with secret names, and passwords in URLs."""
    found = [
        value
        for name, value in environment.items()
        if is_secret_name(name)
        and not _ABOUT.search(name)
        and not _ABOUT_TIME.search(name)
        and not _PATH_OF_KEY.match(value)
    ]
    for value in environment.values():
        for password in re.findall(r"://[^\s/:@\[]{0,200}:(?!\d{1,5}[/?#])(\S{1,1000})@", value):
            found.extend((password, urllib.parse.unquote(password)))
    return sorted({value for value in found if len(value) >= redact_known.SHORTEST})


def secret_arguments(arguments: Sequence[str]) -> List[str]:
    """Return the values to redact everywhere: the values of options with secret names on a command line."""
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
    """Return the part of an argument that precedes a secret, for options such as -p and -u.

    Return " " if the whole argument is the secret, and "" if the argument contains no such secret.
    """
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


# If a line contains a word of a rule, only this many characters at its beginning are searched. The rest of the line is
# masked.
_LONGEST_LINE = 64 * 1024


def _without_values(lines: Sequence[str], words: Iterable[str]) -> Iterator[str]:
    """Yield the lines. Secrets that match a rule, and values that follow the name of a secret, are masked.

    words: the words of the rules that occur in the text.
    """
    carry: Optional[values.Carry] = None
    for number, whole in enumerate(lines):
        line = whole
        if carry is not None:
            line, carry = redact_carried.carried(line, carry)
        lowered = line.lower()
        held = {word for word in words if word in lowered}
        if held:
            if len(line) > _LONGEST_LINE:
                line = line[:_LONGEST_LINE]
            left = None
            if not held.isdisjoint(_NAME_WORDS):
                line, left = values.named_values(line)
            if not held.isdisjoint(_BOUND_WORDS):
                line, bound = values.bound_values(line)
                left = bound or left
            for rule in _RULES:
                if not held.isdisjoint(rule.words) and (not rule.signs or any(sign in line for sign in rule.signs)):
                    line = re.sub(rule.pattern, rule.replacement, line)
            if len(whole) > _LONGEST_LINE and not line.endswith(MASK):
                line += MASK
            carry = left or carry
        if carry is not None and carry.kind == "quote":
            following = lines[number + 1 : number + 4]
            # If none of the next three lines contains the closing quote, the line was probably truncated.
            carry = carry if any(carry.quote in each for each in following) else carry._replace(kind="rest")
        yield line


# Many short strings occur repeatedly in the facts. Therefore, the results are cached for strings of up to this many
# characters.
_REPEATED = 1000


def prepare() -> None:
    """Compile the patterns that most logs need. Call this function while the module waits for other processes."""
    Redactor(["a known value"]).text("-auth key=1 token: '2' password=\"3\"\n")


class Redactor:
    """Removes secrets from text and data. Known values are removed everywhere."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Store the known values. Very short values are ignored, because they are usually words like "admin"."""
        self._known = redact_known.Known(known)
        self._done: Dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return text without secrets and colour codes. The number of lines does not change.

        Colour codes are removed first, because they may separate a name from its value.
        """
        if len(text) > _REPEATED:
            return self._without_secrets(text)
        done = self._done.get(text)
        if done is None:
            done = self._done[text] = self._without_secrets(text)
        return done

    def _without_secrets(self, text: str) -> str:
        text = redact_shapes.without_private_keys(self._known.mask(sanitize.without_sequences(text)))
        words = _WORDS.found_in(text.lower())
        if not words.isdisjoint(_INSERTING):
            text = _SELECTED.sub(_selected, _INSERTED.sub(_inserted, text))
        if words and redact_tables.BAR in text:
            text = redact_tables.without_columns(text, is_secret_name)
        if words:
            text = "\n".join(_without_values(text.split("\n"), words))
        return redact_shapes.without_opaque(redact_shapes.without_tokens(text))

    def argv(self, arguments: List[str]) -> List[str]:
        """Return a command line without secrets. An option and its secret can be two arguments: --password x."""
        clean: List[str] = []
        for number, argument in enumerate(arguments):
            hidden = number > 0 and _hides_next(arguments[number - 1]) and not argument.startswith("-")
            shown = _after_a_letter(arguments, number)
            clean.append(shown.strip() + MASK if hidden or shown else self.text(argument))
        return clean

    def value(self, value: Any) -> Any:
        """Return JSON data with every string redacted.

        If a key is the name of a secret and its value is a string or a list of strings, the value is masked completely.
        The values of pairs such as {"name": "Authorization", "value": "x"} are masked in the same way.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            named = any(isinstance(value.get(key), str) and is_secret_name(value[key]) for key in ("name", "key"))
            return {
                name: MASK if named and name == "value" and isinstance(item, str) else self._member(name, item)
                for name, item in value.items()
            }
        return value

    def _member(self, name: str, item: Any) -> Any:
        """Return the value of a dictionary entry, with its secrets masked. name: the key of the entry."""
        if name == "argv" and isinstance(item, list):
            return self.argv(item)
        if isinstance(name, str) and is_secret_name(name):
            if isinstance(item, str) and item:
                return MASK
            if isinstance(item, (list, tuple)) and item and all(isinstance(each, str) for each in item):
                return [MASK for _each in item]
        return self.value(item)
