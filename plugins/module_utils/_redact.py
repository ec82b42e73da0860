# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking secrets out of text and data before they leave the host.

Two nets: patterns (what looks like a secret) and known values (what the service's own environment calls one). The
second catches what no pattern can, such as a password an application logged bare.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, Pattern, Tuple

MASK = "[redacted]"

# A shorter "secret" is a word like "admin": taking it out everywhere would make the evidence unreadable.
_SHORTEST_KNOWN = 6

# Names under which secrets go, from the word that tells on: DB_PASSWORD, clientSecret, x-api-key, SESSION_KEY.
_TELLING = (
    r"(?:(?i:passw(?:or)?d|passphrase|secret|token|credential|api_?key|authorization|cookie|session_?id)[\w.-]{0,40}|"
    r"(?:[_-](?i:key|pwd)|[a-z](?:Key|Pwd)|\b(?:pass|pwd))(?![\w-]))"
)
_SECRET_NAME = re.compile(r"[\w.-]*?" + _TELLING + r"\Z")
# Variables about a secret that are none themselves; their values are ordinary words and paths.
_ABOUT = re.compile(
    r"(?i:_(?:file|path|dir|directory|url|uri|ttl|name|domain|host|port|age|length|rounds|algorithm|issuer))\Z"
)
_ABOUT_TIME = re.compile(r"(?i:expir|lifetime)")

# All repetitions are bounded or begin at one place only: the text comes from anyone, and must not take for ever.
# Quotes may be escaped: JSON inside a JSON log line.
_QUOTED = "|".join(
    rf"(?:{mark}(?:[^{mark}\\\n]|\\.)*(?:{mark}|$)|\\{{1,8}}{mark}(?:[^{mark}\\\n]|\\[^{mark}])*(?:\\{{1,8}}{mark}|$))"
    for mark in ('"', "'")
)
_QUOTE = r"""\\{0,8}["']?"""
_VALUE = _QUOTED + r"""|(?!\[redacted\])[^\s,;&}\]"'\\]+"""

_RULES: Tuple[Tuple[Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        MASK,
    ),
    # JSON Web Tokens: three base64url parts, the first of which begins with {" .
    (re.compile(r"(?<![\w-])eyJ[\w-]{5,2000}\.[\w-]{2,20000}(?:\.[\w-]*)?"), MASK),
    # HTTP: Authorization with its scheme, cookies with all their pairs.
    (
        re.compile(
            r"(?i)(authorization" + _QUOTE + r"\s{0,4}[:=]\s{0,4}" + _QUOTE + r")"
            r"""(?:(?:bearer|basic|digest|token|negotiate)\s{1,4})?[^\s"'\\,]+"""
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"(?i)\b(bearer|basic)(\s{1,4})[\w.~+/-]{8,}=*"), r"\1\2" + MASK),
    (re.compile(r"""(?i)(cookie""" + _QUOTE + r"""\s{0,4}:\s{0,4}""" + _QUOTE + r""")[^"'\r\n]+"""), r"\1" + MASK),
    # URLs with credentials.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{0,200}):[^\s/@\"']{1,1000}@"), r"\1:" + MASK + "@"),
    # NAME=value, "name": "value", name: value, --name value.
    (
        re.compile(r"(" + _TELLING + _QUOTE + r"\s{0,4}(?:=>|[:=])\s{0,4})(?:" + _VALUE + r")", re.MULTILINE),
        r"\1" + MASK,
    ),
    (
        re.compile(
            r"((?<![\w-])--?[\w-]{0,40}?" + _TELLING + r"\s{1,4})(?:" + _QUOTED + r"|(?!\[redacted\])[^\s-]\S*)"
        ),
        r"\1" + MASK,
    ),
    # Tokens that give themselves away, and bcrypt hashes.
    (
        re.compile(
            r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|"
            r"[sr]k_(?:live|test)_\w{10,}|npm_\w{30,})"
        ),
        MASK,
    ),
    (re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}"), MASK),
)

_END_OF_KEY = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY-----")
_LINE_OF_KEY = re.compile(r"[A-Za-z0-9+/=\s]*\Z")


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
    return _SECRET_NAME.match(name) is not None


def secret_values(environment: Mapping[str, str]) -> List[str]:
    """Return the values that must appear nowhere: those of secret names, and passwords within URLs."""
    values = [
        value
        for name, value in environment.items()
        if is_secret_name(name) and not _ABOUT.search(name) and not _ABOUT_TIME.search(name)
    ]
    for value in environment.values():
        values.extend(re.findall(r"://[^\s/:@]*:([^\s/@]+)@", value))
    return sorted({value for value in values if len(value) >= _SHORTEST_KNOWN})


class Redactor:
    """Takes secrets out; C(known) are values to remove wherever they stand."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """Compile the known values, longest first, so that a value that contains another goes as a whole."""
        values = sorted({value for value in known if len(value) >= _SHORTEST_KNOWN}, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(value) for value in values)) if values else None

    def text(self, text: str) -> str:
        """Return C(text) without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        return _without_beheaded_keys(text)

    def argv(self, arguments: List[str]) -> List[str]:
        """Return a command line without secrets; C(--password x) is two arguments but one secret."""
        clean: List[str] = []
        for number, argument in enumerate(arguments):
            before = arguments[number - 1] if number else ""
            hidden = before.startswith("-") and "=" not in before and is_secret_name(before.lstrip("-"))
            clean.append(MASK if hidden and not argument.startswith("-") else self.text(argument))
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
