# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets with a known shape: private keys, tokens of known services, long strings of high entropy.

Every pattern runs in time proportional to the length of the text. redact.py explains why this is necessary.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterable, List, Match, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

MASK = "[redacted]"

# The prefix (possibly empty) that a logger, syslog, journalctl or a container runtime writes before a message.
_STAMP = (
    r"\[?(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,:+Zz-]{0,20}|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|"
    r"\d{9,10}\.\d{1,9}|\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)\]?"
)
_WHO = r" [\w.-]{1,64} [\w./@-]{1,64}(?:\[\d{1,10}\])?:"
_LEVEL = r"\[?(?i:trace|debug|info|notice|warn(?:ing)?|error|fatal|critical)\]?:?"
_IN_JSON = r'\{"(?:level|time|timestamp|severity)"[^{}\n]{0,300}?"(?:msg|message)"\s?:\s?"'
PREFIX = rf"(?:{_IN_JSON}|(?:[\w.-]{{1,64}}[ ]{{1,8}}\|[ ]?)?(?:{_STAMP}(?:{_WHO})?[ ]{{1,2}})?(?:{_LEVEL}[ ]{{1,2}})?)"
# The end of a line, and the prefix of the next line.
_LINE_BREAK = rf"(?:\"\}}\r?\n{_IN_JSON}|\\?\r?\n[ \t]{{0,200}}{PREFIX})"
# A line break and a prefix between two parts of a value. Two strings that are concatenated with + count as one value.
BREAK = rf"\n(?:[ \t]{{0,200}}\\?\r?\n){{0,50}}(?:(?<=\}}\n){_IN_JSON}|[ \t]{{0,200}}{PREFIX})[\"']?"
BEFORE_BREAK = r"(?:[\"']?[ ]?\+?[ ]?\\?|\"\})\r?\Z"


def cover(text: str) -> str:
    """Return text with each line masked. Line breaks, and the logger's prefixes after them, are kept."""
    parts = re.split(f"({_LINE_BREAK})", text)
    return "".join(part if number % 2 or not part else MASK for number, part in enumerate(parts))


_KEY = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
# A key ends with its END line. If there is no END line, the next 20,000 characters are masked.
_WHOLE_KEY = lazy(
    rf"-----BEGIN {_KEY}(?:.{{0,20000}}?-----END {_KEY}|.{{0,20000}})|"
    r"PuTTY-User-Key-File-\d(?:.{0,20000}?Private-MAC: ?\w{1,200}|.{0,20000})",
    re.DOTALL,
)
_END_OF_KEY = lazy(rf"-----END {_KEY}")
_LINE_OF_KEY = lazy(rf"(?:[ \t]{{0,200}}{PREFIX})?([A-Za-z0-9+/=\s]*)\Z")


def without_private_keys(text: str) -> str:
    """Return text without private keys. A key is removed even if its beginning or its end is missing."""
    if "PRIVATE KEY" in text or "PuTTY-User-Key" in text:
        text = _without_beheaded_keys(_WHOLE_KEY.sub(lambda match: cover(match.group()), text))
    return text


def _without_beheaded_keys(text: str) -> str:
    """Mask private keys whose beginning is missing: the base64 lines before an END line."""
    pieces = _END_OF_KEY.split(text)
    clean = []
    for piece in pieces[:-1]:
        lines = piece.splitlines(keepends=True)
        covered: List[str] = []
        while lines and _LINE_OF_KEY.match(lines[-1]):
            line = lines.pop()
            covered.append(cover(line.rstrip()) + line[len(line.rstrip()) :])
        clean.append("".join([*lines, *reversed(covered)]))
    return MASK.join([*clean, pieces[-1]])


_ANY_CASE = "(?i)"
# Tokens of known services. Each item consists of words and a pattern. Every match of the pattern contains one of the
# words.
_TOKENS: Tuple[Tuple[Tuple[str, ...], str], ...] = (
    (
        ("AKIA", "ASIA", "A3T", "ABIA", "ACCA"),
        r"(?:A(?:KI|SI|BI)A|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}",
    ),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "gl", "GR1348941"),
        r"(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|gl[a-z]{2,6}-[\w-]{16,}|GR1348941[\w-]{16,})",
    ),
    (
        ("xox", "xapp-", "k_live_", "k_test_", "sk-", "npm_", "AIza", "ya29.", "sq0", "EAAA"),
        r"(?:(?:xox[abeoprs]|xapp)-[\w-]{10,}|[sr]k_(?:live|test)_\w{10,}|\bsk-[\w-]{20,}|\bnpm_(?!config_)\w{30,}|"
        r"AIza[\w-]{30,}|\bya29\.[\w-]{20,}|sq0[a-z]{3}-[\w\\-]{22,}|\bEAAA[\w-]{60})",
    ),
    (
        ("SG.", "hvs.", "hvb.", "pypi-", "_v1_", "whsec_", "AGE-SECRET-KEY-"),
        r"\b(?:SG\.[\w-]{16,}\.[\w-]{16,}|hv[sb]\.[\w-]{20,}|pypi-[\w-]{16,}|do[opr]_v1_\w{40,}|"
        r"whsec_[\w+/=-]{16,}|AGE-SECRET-KEY-1\w{20,})",
    ),
    # Artifactory, Twilio, Mailchimp, Telegram.
    (("AKC", "AP"), r"(?<![\w/.-])(?:AKC|AP[0-9A-F](?=[A-Z0-9]{0,40}[a-z]))[a-zA-Z0-9]{8,}(?![\w/.-])"),
    (("AC", "SK"), r"(?<![a-zA-Z0-9])(?:AC|SK)[a-z0-9]{32}(?!\w)"),
    (("-us",), r"(?<![0-9a-zA-Z])[0-9a-z]{32}-us\d{1,2}"),
    ((":AA",), r"(?<!\d)\d{8,10}:AA[\w-]{33}(?![\w-])"),
    # These URLs are themselves secrets: anyone who knows such a URL can post to it.
    (
        ("hooks.", "webhook"),
        _ANY_CASE + r"(?<=hooks\.slack\.com/services/)[\w/@-]+|(?<=hooks\.slack\.com/workflows/)[\w/@-]+|"
        r"(?<=discord\.com/api/webhooks/)[\w/@-]+|(?<=discordapp\.com/api/webhooks/)[\w/@-]+|"
        r"(?<=webhook\.office\.com/)[\w/@-]+",
    ),
    # Password hashes.
    (("$1$", "$5$", "$6$", "$y$", "$7$", "pbkdf2"), r"(?:\$[1567y]\$|\bpbkdf2[\w:-]{0,20}\$)[\w$./+=-]{20,500}"),
    (("$2",), r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}"),
    (("$argon2", "$scrypt"), r"\$(?:argon2\w{0,2}|scrypt)\$[\w$./+=,-]{20,500}"),
)


class Words:
    """Finds out which words of a fixed set occur in a text.

    Most texts contain few of these words, so this search is faster than a search with a pattern. Words with the same
    first two characters are searched for only if the text contains their common prefix.
    """

    def __init__(self, words: Iterable[str]) -> None:
        groups: Dict[str, List[str]] = {}
        for word in words:
            groups.setdefault(word[:2], []).append(word)
        # commonprefix compares characters instead of path components. This comparison is correct, because the words are
        # not paths.
        self._groups = [(os.path.commonprefix(group), group) for group in groups.values()]  # noqa: RUF071

    def found_in(self, text: str) -> Set[str]:
        """Return the words that text contains. The search is case-sensitive."""
        return {word for beginning, group in self._groups if beginning in text for word in group if word in text}


_TOKEN_WORDS = Words(word for words, pattern in _TOKENS for word in words if not pattern.startswith(_ANY_CASE))
_TOKEN_WORDS_IN_ANY_CASE = Words(word for words, pattern in _TOKENS for word in words if pattern.startswith(_ANY_CASE))


def without_tokens(text: str) -> str:
    """Return text without the tokens and hashes that are recognizable by their first characters."""
    found = _TOKEN_WORDS.found_in(text) | _TOKEN_WORDS_IN_ANY_CASE.found_in(text.lower())
    for words, pattern in _TOKENS if found else ():
        if not found.isdisjoint(words):
            text = re.sub(pattern, MASK, text)
    return text


_SHORTEST = 20
# A digest is public, so it is not masked. A digest begins with its type: "sha512-…" (npm) or "SHA256:…" (OpenSSH).
_RUN = lazy(r"(?<![A-Za-z0-9+/_=-])(?<!SHA256:)(?!sha\d{1,3}-)[A-Za-z0-9+/_=-]{20,}")
# Matches a path component that is a word: "node_modules", ".npm", "Linux".
_WORD = lazy(r"[._]?[A-Za-z]?[a-z]{2,}(?:[_-][a-z]+)*\Z")
_HEX = lazy(r"[0-9a-f]+\Z|[0-9A-F]+\Z")
# Matches each change between upper-case letters, lower-case letters and digits. A name that consists of words
# ("setupListenHandle") has about one change per four characters. A random string has about two changes per three
# characters.
_CHANGE = lazy(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
# Parts that do not count as letters: times in the names of files and runs ("20260302T010203Z"), and punctuation.
_NO_LETTER = lazy(r"(?<!\d)\d{8}T\d{4,9}Z?|[^A-Za-z0-9]+")


def opaque(token: str) -> bool:
    """Return True if a token is long and random enough to be a generated secret."""
    if len(token) < _SHORTEST:
        return False
    letters = _NO_LETTER.sub("", token)
    if len(letters) < _SHORTEST or token.startswith("sha"):
        return False
    if _HEX.match(letters):
        # These are not secrets: digests, commits and identifiers (32, 40 or 64 digits), certificate serial numbers (up
        # to 40 digits).
        return token == letters and len(letters) >= 44 and len(letters) not in (56, 64, 96, 128)
    changes = len(_CHANGE.findall(letters)) / len(letters)
    small, capital = letters.upper() != letters, letters.lower() != letters
    digit = any(sign in letters for sign in "0123456789")
    if small and capital:
        return changes >= (0.36 if digit else 0.42)
    if not digit or token != letters:
        return False
    return len(letters) >= (24 if small else 32) and changes >= 0.22


def _judge(match: Match[str]) -> str:
    token = match.group()
    parts = token.split("/")
    is_path = sum(len(part) for part in parts if _WORD.match(part)) * 4 >= len(token)
    if opaque(token) and not is_path:
        return MASK
    # A single path component can still be a token.
    return "/".join(MASK if opaque(part) else part for part in parts) if len(parts) > 1 else token


# A masked token with an unmasked part ("[redacted].k4rDmc.[redacted]"), or with a number before it.
_AROUND = lazy(r"(?:(?<!\d)\d{8,10}:)?\[redacted\](?:\.[\w=-]{4,40}\.\[redacted\])?")


def without_opaque(text: str) -> str:
    """Return text without tokens that are long and random."""
    masked = _RUN.sub(_judge, text)
    return text if masked == text else _AROUND.sub(MASK, masked)
