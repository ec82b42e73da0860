# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check whether a version satisfies a range from the engines or dependencies of an npm package.

Grammar: https://github.com/npm/node-semver#ranges. Pre-release tags of versions are ignored.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

_Version = Tuple[int, ...]
# A version range that includes the first version but not the second version. None means no upper limit.
_Range = Tuple[_Version, Optional[_Version]]

_PART = r"(?:\d{1,9}|[xX*])"
_PARTIAL = rf"v?{_PART}(?:\.{_PART}){{0,2}}(?:[-+][\w.+-]{{0,100}})?"
_COMPARATOR = lazy(rf"(?P<sign>>=|<=|>|<|=|\^|~>?)?\s{{0,4}}(?P<version>{_PARTIAL})(?=\s|\Z)")
_HYPHEN = lazy(rf"\s*(?P<low>{_PARTIAL})\s+-\s+(?P<high>{_PARTIAL})\s*\Z")
_LONGEST = 500
_NEVER: _Version = (1 << 31, 0, 0)


def _numbers(text: str) -> List[int]:
    """Return the numbers of a version up to the first wildcard or missing number."""
    numbers: List[int] = []
    for part in re.split(r"[-+]", text.lstrip("v="))[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return numbers


def _whole(numbers: List[int]) -> _Version:
    return tuple([*numbers, 0, 0, 0][:3])


def _after(numbers: List[int]) -> Optional[_Version]:
    """Return the first version that is later than all matches of a partial version (20 or 20.1), or None for *."""
    return _whole([*numbers[:-1], numbers[-1] + 1]) if numbers else None


def _caret(numbers: List[int]) -> Optional[_Version]:
    """Return the upper limit of a range with ^. In such a range, the leftmost nonzero number does not change."""
    for index, number in enumerate(numbers):
        if number:
            return _after(numbers[: index + 1])
    return _after(numbers)


def _of_comparator(sign: str, numbers: List[int]) -> _Range:
    begin, after = _whole(numbers), _after(numbers)
    ranges: Dict[str, _Range] = {
        ">=": (begin, None),
        # ">*" matches no version. ">20" means 21.0.0 or later.
        ">": (after or _NEVER, None),
        "<": (_whole([]), begin),
        "<=": (_whole([]), after),
        "^": (begin, _caret(numbers)),
        "~": (begin, _after(numbers[:2])),
        "~>": (begin, _after(numbers[:2])),
    }
    return ranges.get(sign, (begin, after))


def _alternative(text: str) -> Optional[List[_Range]]:
    """Return the ranges in the text, or None if the text is not a range.

    A version must satisfy every range in the list.
    """
    hyphen = _HYPHEN.match(text)
    if hyphen:
        return [
            _of_comparator(">=", _numbers(hyphen.group("low"))),
            _of_comparator("<=", _numbers(hyphen.group("high"))),
        ]
    ranges = []
    text = text.strip()
    while text:
        match = _COMPARATOR.match(text)
        if match is None:
            return None
        ranges.append(_of_comparator(match.group("sign") or "", _numbers(match.group("version"))))
        text = text[match.end() :].strip()
    return ranges


def satisfies(version: Optional[str], wanted: Optional[str]) -> Optional[bool]:
    """Return True if a version such as v20.11.1 is within the wanted range.

    Returns None if the version or the range is invalid.
    """
    numbers = _numbers(version or "")
    if len(numbers) != 3 or not isinstance(wanted, str) or len(wanted) > _LONGEST:
        return None
    alternatives = [_alternative(text) for text in wanted.split("||")]
    if any(ranges is None for ranges in alternatives):
        return None
    own = tuple(numbers)
    return any(
        all(begin <= own and (end is None or own < end) for begin, end in ranges or []) for ranges in alternatives
    )
