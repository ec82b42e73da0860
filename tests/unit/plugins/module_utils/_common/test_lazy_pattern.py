# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Regular expressions that are compiled when they are first used."""

from __future__ import annotations

import copy
import re

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import lazy_pattern


def test_a_pattern_is_compiled_once_at_its_first_use(monkeypatch):
    compiled, compile_now = [], re.compile
    monkeypatch.setattr(lazy_pattern.re, "compile", lambda *given: compiled.append(given) or compile_now(*given))
    pattern = lazy_pattern.lazy("a+", re.IGNORECASE)
    assert not compiled
    assert pattern.match("AAb").end() == 2
    assert pattern.sub("x", "caat") == "cxt"
    assert pattern.pattern == "a+"
    assert compiled == [("a+", re.IGNORECASE)]


def test_a_copy_of_an_unused_pattern_is_a_pattern():
    assert copy.copy(lazy_pattern.lazy("a+")).match("aa").end() == 2


def test_an_invalid_pattern_is_an_error_at_its_first_use():
    pattern = lazy_pattern.lazy("(")
    with pytest.raises(re.error):
        pattern.match("")
