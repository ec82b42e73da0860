# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import ansible.template
import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.itsm_nexus.runbook.plugins.lookup import invalid_settings


def invalid(*roles: str, **variables: Any) -> list[str]:
    templar = Templar(loader=DataLoader(), variables=variables)
    return invalid_settings.LookupModule(loader=None, templar=templar).run(roles, variables)


@pytest.mark.parametrize(
    ("role", "variable", "value", "allowed"),
    [
        ("triage", "triage_window", "a while", "a whole number"),
        ("verification", "verification_deadline", "soon", "a number"),
        ("triage", "triage_silent", "perhaps", "true or false"),
        ("nexus", "nexus_manager", "upstart", "one of systemd, process"),
        ("nexus", "nexus_health_ok_statuses", {"ok": 200}, "a list of texts"),
    ],
)
def test_an_invalid_setting_is_named_with_its_value_and_the_allowed_values(
    role: str, variable: str, value: Any, allowed: str
) -> None:
    assert invalid(role, **{variable: value}) == [f"{variable} is {str(value)!r}, must be {allowed}"]


def test_valid_settings_and_settings_of_other_roles_are_no_problem() -> None:
    assert invalid("triage", triage_window="600", verification_deadline="soon", triage_log_lines=5) == []


def test_a_variable_that_cannot_be_evaluated_is_named() -> None:
    # Since ansible-core 2.19, only a text marked as trusted is evaluated.
    trusted = getattr(ansible.template, "trust_as_template", str)
    assert invalid("triage", triage_window=trusted("{{ not_defined }}")) == ["triage_window cannot be evaluated"]


def test_every_invalid_setting_is_named_in_the_order_of_the_roles() -> None:
    found = invalid("verification", "triage", triage_window="x", verification_deadline="y", triage_deadline="z")
    assert [each.split()[0] for each in found] == ["verification_deadline", "triage_deadline", "triage_window"]


def test_a_long_value_is_cut() -> None:
    (found,) = invalid("triage", triage_window="x" * 500)
    assert len(found) < 150


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(AnsibleLookupError, match="no role 'reboot'"):
        invalid("reboot")
