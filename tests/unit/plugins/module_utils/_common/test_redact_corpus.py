# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure how many secrets from a public scanner's rules are masked, and how many ordinary log lines are changed.

Samples are generated from each regular expression in the detect-secrets scanner. In each sample, the part that the rule
marks as the secret must be masked.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
import string
from pathlib import Path
from typing import Iterator

import detect_secrets.plugins
from detect_secrets.plugins import keyword as keywords
from detect_secrets.plugins.base import RegexBasedDetector
from redact_samples import Sampler, ordinary_lines, pieces_left, recorded_texts

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact

RECORDED = Path(__file__).parents[3] / "recorded"
OF_A_RULE = 40
LEAST_MASKED, MOST_CHANGED = 0.99, 0.01
# Rules without samples. An IP address is not a secret. The rule for private keys matches only the first line of a key,
# so _private_keys generates complete keys.
NO_RULES = ("IPPublicDetector", "PrivateKeyDetector")
# Public text that is not part of a secret but is matched by the rules.
NO_SECRET = re.compile(r"AccountKey=|https://hooks\.slack\.com/services/", re.IGNORECASE)


def _detectors() -> Iterator[type[RegexBasedDetector]]:
    for module in pkgutil.iter_modules(detect_secrets.plugins.__path__):
        for found in vars(importlib.import_module(f"detect_secrets.plugins.{module.name}")).values():
            if not isinstance(found, type) or not issubclass(found, RegexBasedDetector):
                continue
            if isinstance(getattr(found, "denylist", None), (list, tuple)) and found.__name__ not in NO_RULES:
                yield found


def _samples(pattern: re.Pattern[str], group: int | None, *, seed: str) -> Iterator[tuple[str, str]]:
    """Yield strings that a rule matches, each with its secret.

    The secret is the match of the regex group `group`, or of the longest group if `group` is None.
    """
    sampler = Sampler(seed)
    made = 0
    for _attempt in range(OF_A_RULE * 20):
        text = sampler.sample(pattern)
        match = pattern.search(text)
        if match is None:
            continue
        groups = [found for found in match.groups() if found]
        secret = match.group(group) if group is not None else max(groups, key=len, default=match.group())
        yield text, NO_SECRET.sub("", secret)
        made += 1
        if made == OF_A_RULE:
            return
    raise AssertionError(f"no samples of {pattern.pattern}")


def _scanner_samples() -> Iterator[tuple[str, str, str]]:
    """Yield the samples of all rules as (rule, text, secret)."""
    for detector in dict.fromkeys(_detectors()):
        for number, pattern in enumerate(detector.denylist):
            # For these rules, the marked part is only a prefix of the secret, so use the entire match.
            whole = detector.__name__ in ("GitHubTokenDetector", "GitLabTokenDetector", "SlackDetector")
            for text, secret in _samples(pattern, 0 if whole else None, seed=f"{detector.__name__} {number}"):
                yield f"{detector.__name__} {number}", text, secret
    rules = {pattern: group for table in keywords.REGEX_BY_FILETYPE.values() for pattern, group in table.items()}
    for number, (pattern, group) in enumerate(rules.items()):
        for text, secret in _samples(pattern, group, seed=f"keyword {number}"):
            yield f"keyword {number}", text, secret
    yield from _entropy_samples()
    yield from _private_keys()


def _entropy_samples() -> Iterator[tuple[str, str, str]]:
    """Yield samples for the scanner's rule for quoted high-entropy base64. This rule has no regular expression.

    The rule for hexadecimal strings has no samples. If a secret of 32, 40 or 64 hexadecimal digits has no name, it
    looks like a digest or a commit hash. Such values must not be masked.
    """
    source = random.Random("entropy")  # noqa: S311
    alphabet = string.ascii_letters + string.digits + "+/"
    for _ in range(OF_A_RULE * 2):
        secret = "".join(source.choices(alphabet, k=source.randint(32, 64)))
        yield "base64 of high entropy", f'{source.choice(("x = ", "", "call("))}"{secret}"', secret


def _private_keys() -> Iterator[tuple[str, str, str]]:
    source = random.Random("keys")  # noqa: S311
    kinds = ("DSA ", "EC ", "OPENSSH ", "", "RSA ", "SSH2 ENCRYPTED ")
    for kind in kinds:
        for _ in range(OF_A_RULE // 4):
            lines = ["".join(source.choices(string.ascii_letters + string.digits + "+/", k=64)) for _ in range(3)]
            text = "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])
            yield f"{kind}PRIVATE KEY", text, " ".join(lines)


def _is_left(secret: str, clean: str) -> bool:
    return bool(pieces_left(secret, clean, size=8)) if len(secret) >= 6 else secret in clean


def masked() -> tuple[int, list[tuple[str, str, str]]]:
    """Mask all samples.

    Return the number of samples, and the samples with an unmasked secret as (rule, text, result).
    """
    samples = list(_scanner_samples())
    redactor = redact.Redactor()
    kept = [(rule, text, clean) for rule, text, secret in samples if _is_left(secret, clean := redactor.text(text))]
    return len(samples), kept


def changed() -> tuple[int, list[tuple[str, str]]]:
    """Mask all ordinary lines. Return the number of lines, and the changed lines, as (line, result)."""
    redactor = redact.Redactor()
    lines = list(dict.fromkeys([*ordinary_lines(RECORDED), *recorded_texts(RECORDED)]))
    return len(lines), [(line, clean) for line in lines if (clean := redactor.text(line)) != line]


def test_findings_of_a_public_scanner_are_masked():
    number, kept = masked()
    assert number >= 2000
    assert 1 - len(kept) / number >= LEAST_MASKED, (number, len(kept), kept[:20])


def test_ordinary_lines_are_unchanged():
    number, lines = changed()
    assert number >= 2000
    assert len(lines) / number < MOST_CHANGED, (number, len(lines), lines[:20])


def test_ordinary_lines_are_unchanged_in_one_log():
    lines = ordinary_lines(RECORDED)
    random.Random("order").shuffle(lines)  # noqa: S311
    clean = redact.Redactor().text("\n".join(lines)).split("\n")
    assert len(clean) == len(lines)
    assert sum(new != old for new, old in zip(clean, lines)) / len(lines) < MOST_CHANGED
