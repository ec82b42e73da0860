# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The "service" option is the same in the argument spec, the documentation, the preflight check and the nexus role."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.itsm_nexus.runbook.plugins.doc_fragments import backups, endpoints, settings
from ansible_collections.itsm_nexus.runbook.plugins.doc_fragments import service as fragment
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates

ROOT = Path(__file__).parents[4]
SERVICE = {"app_dir": "/srv/app", "command": ["node"], "manager": "process"}
FILES = {"log_file": "/srv/log", "pid_file": "/srv/pid"}


def test_the_documentation_is_that_of_the_argument_spec():
    documented = yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"]["service"]["suboptions"]
    for option in documented.values():
        assert option.pop("description")
    assert documented == service_process.arguments()["service"]["options"]


def specified(options):
    """Return documented options in the form of an argument spec."""
    return {
        name: {
            "options" if key == "suboptions" else key: specified(value) if key == "suboptions" else value
            for key, value in option.items()
            if key not in ("description", "version_added")
        }
        for name, option in options.items()
    }


def without_no_log(options):
    return {
        name: {
            key: without_no_log(value) if key == "options" else value
            for key, value in option.items()
            if key != "no_log"
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize(
    ("documented", "arguments"),
    [
        (backups, candidates.ARGUMENTS),
        (endpoints, probe_plan.ARGUMENTS),
        # The option state_dir is documented in the "lease" documentation fragment.
        (settings, {name: each for name, each in preflight_findings.ARGUMENTS.items() if name != "state_dir"}),
    ],
)
def test_a_fragment_documents_its_arguments(documented, arguments):
    options = yaml.safe_load(documented.ModuleDocFragment.DOCUMENTATION)["options"]
    assert specified(options) == without_no_log(arguments)


def test_role_and_preflight_have_the_same_suboptions():
    names = set(service_process.arguments()["service"]["options"])
    variables = yaml.safe_load((ROOT / "roles" / "nexus" / "vars" / "main.yml").read_text())
    assert names == set(variables["nexus_service"]) == set(preflight_findings.SERVICE_OPTIONS)


@pytest.mark.parametrize(
    ("starts", "changes", "error"),
    [
        (False, {"manager": "systemd"}, "manager is systemd but all of the following are missing: unit"),
        (False, {"manager": "systemd", "unit": "x"}, None),
        (False, {"manager": "upstart"}, "value of manager must be one of: systemd, process, got: upstart"),
        (False, {}, None),
        (True, {}, "manager is process but all of the following are missing: log_file, pid_file"),
        (True, FILES, None),
    ],
)
def test_an_error_names_parameter_and_allowed_values(starts, changes, error):
    validator = ArgumentSpecValidator(service_process.arguments(starts=starts))
    result = validator.validate({"service": {**SERVICE, **changes}})
    assert result.error_messages == ([f"{error} found in service"] if error else [])


def test_a_text_that_is_not_set_is_empty():
    validator = ArgumentSpecValidator(service_process.arguments())
    given = service_process.settings(validator.validate({"service": SERVICE}).validated_parameters)
    empty = dict.fromkeys(["user", "unit", "environment_file", "log_file", "pid_file"], "")
    assert given == {**SERVICE, **empty}
    assert service_process.Service(**given) == service_process.Service(**SERVICE)
