# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find known secrets in every common encoding.

Escapes (URL, JSON, JavaScript, Python, shell, HTML) are decoded in copies of the text, up to three levels deep. In
additional copies, line breaks are removed. Each copy is searched for the plain value. A match is masked at the
corresponding position in the original text. Base64, hex and lists of bytes do not contain the letters of the value.
Therefore, each copy is also searched for these encodings of the value.
"""

from __future__ import annotations

import base64
import bisect
import html
import json
import re
import string
from typing import Container, Iterable, Iterator, List, Optional, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_shapes as shapes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

# A shorter value is probably a word like "admin". Masking such a word everywhere would make the evidence unreadable.
SHORTEST = 6
# If a secret value has several lines, as a key does, each line with at least this many characters is also a secret.
_SHORTEST_LINE = 16
# The original text and three levels of decoded escapes, for example JSON in a JSON string in another JSON string.
_LEVELS = 4

# All escapes in a match have the same length. A position in the copy can therefore be converted to a position in the
# text. Every match begins with one of a few characters, which makes the search fast.
_AFTER_A_SIGN = (
    r"(?:(?P<percent>(?<=%)[0-9a-fA-F]{2}(?:%[0-9a-fA-F]{2})*)|"
    r"(?<=\\)(?:(?P<unicode>u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*)|(?P<byte>x[0-9a-fA-F]{2}(?:\\x[0-9a-fA-F]{2})*)|"
    r"(?P<octal>[0-7]{3}(?:\\[0-7]{3})*)|(?P<braces>u\{[0-9a-fA-F]{1,6}\}|U[0-9a-fA-F]{8})|"
    r"(?P<backslashes>\\(?:\\\\)*)|(?P<letters>[^ux0-7\\\r\n](?:\\[^ux0-7\\\r\n])*))|"
    r"(?P<entity>(?<=&)(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-z]{2,6});)|"
    r"(?<=')(?:(?P<shell>(?:\\'|\"'\")')|(?P<single>'(?:'')*))|(?P<double>(?<=\")\"(?:\"\")*))"
)
_ESCAPES = lazy(r"[%\\&'\"]" + _AFTER_A_SIGN)
# This pattern is for text that contains none of _QUOTES, such as most JSON logs. In such text, no escape begins with a
# quote. The pattern is faster, because it does not stop at every quote.
_WITHOUT_QUOTES = lazy(r"[%\\&]" + _AFTER_A_SIGN)
_QUOTES = ("''", '""', "'\\'", "'\"'")
# For each kind of escape: its prefix, the base of its digits, and its length.
_DIGITS = {"percent": ("%", 16, 3), "unicode": ("\\u", 16, 6), "byte": ("\\x", 16, 4), "octal": ("\\", 8, 4)}
_BREAK = lazy(shapes.BREAK)
_BEFORE_BREAK = lazy(shapes.BEFORE_BREAK)
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]*")
_BASE64_SIGNS = frozenset(string.ascii_letters + string.digits + "+/_=-")
# Characters that are dropped from the end of a line when the line is joined with the next one. See shapes.BEFORE_BREAK.
_LEFT_OUT = frozenset("\"' +\\}\r")
_SIGNS_OF_LETTERS = str.maketrans("nrtbf", "\n\r\t\b\f")


def _undone(kind: Optional[str], run: str) -> Tuple[str, int]:
    """Decode a sequence of escapes. Return the decoded text, and the original length of one escape."""
    if kind in _DIGITS:
        mark, base, width = _DIGITS[kind]
        return "".join([chr(int(digits, base)) for digits in run.split(mark)[1:]]), width
    if kind == "letters":
        return run[1::2].translate(_SIGNS_OF_LETTERS), 2
    if kind == "braces":
        code = int(run[2:].strip("{}"), 16)
        return chr(code) if code < 0x110000 else "?", len(run)
    if kind == "entity":
        return html.unescape(run)[:1], len(run)
    return ("'", len(run)) if kind == "shell" else (run[::2], 2)


class _Copy:
    """A copy of the text with decoded escapes or joined lines. It maps each position back to the original text."""

    def __init__(self, text: str, parent: Optional[_Copy] = None) -> None:
        self.text = text
        self._parent = parent
        self._joined = False
        self._starts: List[int] = [0]
        self._origins: List[int] = [0]
        self._widths: List[int] = [1]

    def _changed(self, changes: Iterable[Tuple[int, int, str, int]]) -> Optional[_Copy]:
        """Return a changed copy, or None if there are no changes.

        changes: for each changed part, the start, the end, the new text, and the length of one escape.
        """
        pieces: List[str] = []
        copy = _Copy("", self)
        length = last = 0
        for begin, end, said, width in changes:
            pieces += (self.text[last:begin], said)
            length += begin - last
            copy._starts += (length, length + len(said))
            copy._origins += (begin, end)
            copy._widths += (width, 1)
            length, last = length + len(said), end
        if not last:
            return None
        copy.text = "".join([*pieces, self.text[last:]])
        return copy

    def _breaks(self, signs: Container[str]) -> Iterator[Tuple[int, int, str, int]]:
        text, folded, last = self.text, _folded(self.text), 0
        at = text.find("\n")
        while at >= 0:
            following = at + 1
            end = folded[at - 1 : at]
            # A brace at the end of a line is dropped only if the quote before it is also dropped.
            if end in signs or (end in _LEFT_OUT and (end != "}" or folded[at - 2 : at - 1] == '"')):
                before = _BEFORE_BREAK.search(text[max(last, at - 8) : at])
                begin = at - len(before.group()) if before else at
                match = _BREAK.match(text, at) if begin == last or folded[begin - 1] in signs else None
                if match:
                    yield begin, match.end(), "", 1
                    last = following = match.end()
            at = text.find("\n", following)

    def without_breaks(self, signs: Container[str]) -> Optional[_Copy]:
        """Return a copy in which lines are joined, or None if no lines are joined.

        A line is joined with the next one only if the last character of the line, in lower case, is in `signs`. If
        `signs` contains the characters of all searched values, every value that is split across two lines is found.
        Most lines of a JSON log are not joined.
        """
        joined = self._changed(self._breaks(signs))
        if joined is not None:
            joined._joined = True
        return joined

    def without_escapes(self) -> Optional[_Copy]:
        """Return a copy in which one level of escapes is decoded, or None if the text has no escapes."""
        pattern = _ESCAPES
        if not any(each in self.text for each in _QUOTES):
            pattern = _WITHOUT_QUOTES
            if not any(sign in self.text for sign in "%\\&"):
                return None
        return self._changed(
            (*match.span(), *_undone(match.lastgroup, match.group())) for match in pattern.finditer(self.text)
        )

    def breaks(self, begin: int, end: int) -> List[int]:
        """Return the positions of removed line breaks in this copy, from begin to end (inclusive)."""
        if not self._joined:
            return []
        return self._starts[bisect.bisect_left(self._starts, max(begin, 1)) : bisect.bisect_right(self._starts, end)]

    def origin(self, begin: int, end: int) -> Tuple[int, int]:
        """Convert the start and end positions of a part of this copy to positions in the original text."""
        if self._parent is None:
            return begin, end
        first = bisect.bisect_right(self._starts, begin) - 1
        last = bisect.bisect_right(self._starts, end - 1) - 1
        return self._parent.origin(
            self._origins[first] + (begin - self._starts[first]) * self._widths[first],
            self._origins[last] + (end - self._starts[last]) * self._widths[last],
        )


def _copies(text: str, signs: Container[str]) -> Iterator[_Copy]:
    """Yield the text, and copies in which up to three levels of escapes are decoded.

    The text and each copy are yielded with and without joined lines. signs: the last characters of the lines to join.
    """
    copy: Optional[_Copy] = _Copy(text)
    for _level in range(_LEVELS):
        if copy is None:
            return
        yield copy
        joined = copy.without_breaks(signs)
        if joined is not None:
            yield joined
        copy = copy.without_escapes()


def _folded(text: str) -> str:
    """Return the text in lower case with unchanged positions. lower() would convert one letter (U+0130) to two."""
    return text.replace("\u0130", "i").lower().replace("\u03c2", "\u03c3")


def _plain_spellings(value: str) -> Set[str]:
    """Return the lower-case forms of the value to search for in the copies."""
    values = {value, "".join(value.splitlines())}
    values.update(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE)
    # If a value contains escapes, also search for its decoded forms, because the copies of the text contain these
    # forms.
    for item in sorted(values):
        copy = _Copy(item).without_escapes()
        while copy is not None:
            values.add(copy.text)
            copy = copy.without_escapes()
    # A URL may contain "+" instead of a space. An escape may encode one UTF-8 byte, or half of a surrogate pair.
    values.update([item.replace(" ", "+") for item in values])
    values.update([item.encode("utf-8", "surrogatepass").decode("latin-1") for item in values])
    units = value.encode("utf-16-be", "surrogatepass")
    values.add("".join(chr(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2)))
    return {_folded(item) for item in values}


def _byte_spellings(value: str) -> Set[str]:
    """Return the value in hex and as a list of bytes, in lower case."""
    data = value.encode("utf-8", "surrogatepass")
    digits = [f"{byte:02x}" for byte in data]
    found = {between.join(digits) for between in ("", " ", ":", "-", ", 0x", ",0x")}
    found.update(between.join(map(str, data)) for between in (",", ", "))
    return found


def _base64_spellings(value: str) -> Set[str]:
    """Return the base64 encodings of the value for each alignment: after 0, 1 or 2 other bytes."""
    found = set()
    for text in dict.fromkeys((value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])):
        data = text.encode("utf-8", "surrogatepass")
        for offset in range(3):
            # Four characters encode three bytes. Characters that also encode bits of adjacent bytes are omitted.
            first, last = -(-offset * 4 // 3), (offset + len(data)) * 4 // 3
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                found.add(encode(b"\0" * offset + data).decode("ascii")[first:last])
    return found


def _places(text: str, values: Iterable[str]) -> Iterator[Tuple[int, int]]:
    for value in values:
        at = text.find(value)
        while at >= 0:
            yield at, at + len(value)
            at = text.find(value, at + len(value))


class Known:
    """Known secret values. Every occurrence of these values is masked."""

    def __init__(self, values: Iterable[str]) -> None:
        """Store the values. Values with fewer than SHORTEST characters are ignored."""
        self._values: Set[str] = set()
        self._exact: Set[str] = set()
        for value in values:
            if len(value) >= SHORTEST:
                self._values |= _plain_spellings(value) | _byte_spellings(value)
                self._exact |= _base64_spellings(value)
        self._values = {value for value in self._values if len(value.strip()) >= SHORTEST}
        # A base64 string is masked as a whole, so all its lines are joined.
        self._signs = frozenset(map(_folded, _BASE64_SIGNS)).union(*self._values) - {"\n"}

    def mask(self, text: str) -> str:
        """Return the text with every known value masked."""
        spans: List[Tuple[int, int]] = []
        for copy in _copies(text, self._signs) if self._values else ():
            spans += (copy.origin(*place) for place in _places(_folded(copy.text), self._values))
            spans += (copy.origin(*place) for place in self._in_base64(copy))
        return _covered(text, spans) if spans else text

    def _in_base64(self, copy: _Copy) -> Iterator[Tuple[int, int]]:
        """Yield the start and end positions of each base64 string that contains a known value.

        The whole string is masked.
        """
        text = copy.text
        done = 0
        for begin, end in sorted(_places(text, self._exact)):
            if end <= done:
                continue
            first = begin
            while first > done and text[first - 1] in _BASE64_SIGNS:
                first -= 1
            found = _BASE64.match(text, end)
            last = found.end() if found else end
            # A word at the end of the previous line, or at the beginning of the next line, is not part of the string.
            before, after = copy.breaks(first, begin), copy.breaks(end, last)
            if before and before[0] - first < _SHORTEST_LINE:
                first = before[0]
            if after and last - after[-1] < _SHORTEST_LINE:
                last = after[-1]
            done = max(last, end)
            yield first, done


def _covered(text: str, spans: List[Tuple[int, int]]) -> str:
    """Return the text with the given parts masked. Adjacent parts are replaced with a single mask."""
    pieces: List[str] = []
    last = 0
    spans.sort()
    at = 0
    while at < len(spans):
        begin, end = spans[at]
        while at + 1 < len(spans) and spans[at + 1][0] <= end:
            at += 1
            end = max(end, spans[at][1])
        pieces += (text[last:begin], shapes.cover(text[begin:end]))
        last = end
        at += 1
    return "".join([*pieces, text[last:]])
