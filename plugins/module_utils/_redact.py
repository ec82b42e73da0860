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

# Names under which secrets go: DB_PASSWORD, clientSecret, x-api-key, JWT_SECRET, SESSION_KEY, privateKey.
_NAME = (
    r"(?:[\w.-]*(?:(?i:passw(?:or)?d|passphrase|passwd|secret|token|credential|api_?key|authorization|cookie|session_?id)|"
    r"(?i:pwd)\b)[\w.-]*|[\w.-]*(?i:[_-]key)|[a-z][a-zA-Z]*Key|(?i:\bpass\b))"
)
_SECRET_NAME = re.compile(_NAME + r"\Z")

# Quotes may be escaped: JSON inside a JSON log line.
_QUOTED = r"""\\*"(?:[^"\\]|\\[^"])*\\*"|\\*'(?:[^'\\]|\\[^'])*\\*'"""

_RULES: Tuple[Tuple[Pattern[str], str], ...] = (
    # Private keys, whole, cut off at the end, or cut off at the beginning.
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        MASK,
    ),
    (re.compile(r"(?:[A-Za-z0-9+/=]{16,}\s+)+-----END [A-Z ]*PRIVATE KEY-----"), MASK),
    # JSON Web Tokens: three base64url parts, the first of which begins with {" .
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*)?"), MASK),
    # HTTP: Authorization with its scheme, cookies with all their pairs.
    (
        re.compile(
            r"""(?i)((?:proxy-)?authorization\\*["']?\s*[:=]\s*\\*["']?)(?:(?:bearer|basic|digest|token|negotiate)\s+)?"""
            r"""[^\s"'\\,]+"""
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/-]{8,}=*"), r"\1\2" + MASK),
    (re.compile(r"""(?i)((?:set-)?cookie\\*["']?\s*:\s*\\*["']?)[^"'\r\n]+"""), r"\1" + MASK),
    # URLs with credentials.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@\"']*):[^\s/@\"']+@"), r"\1:" + MASK + "@"),
    # NAME=value, "name": "value", name: value, --name value.
    (
        re.compile(
            r"(\\*[\"']?" + _NAME + r"\\*[\"']?\s*(?:=>|[:=])\s*)(?:" + _QUOTED + r"|(?!\[redacted\])[^\s,;&}\]\"'\\]+)"
        ),
        r"\1" + MASK,
    ),
    (re.compile(r"(--?" + _NAME + r"\s+)(?:" + _QUOTED + r"|(?!\[redacted\])[^\s-][^\s]*)"), r"\1" + MASK),
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


def is_secret_name(name: str) -> bool:
    """Whether a variable, header or key of this name holds a secret."""
    return _SECRET_NAME.match(name) is not None


def secret_values(environment: Mapping[str, str]) -> List[str]:
    """Return the values that must appear nowhere: those of secret names, and passwords within URLs."""
    values = [value for name, value in environment.items() if is_secret_name(name)]
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
        return text

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
