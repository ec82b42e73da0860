# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The error about an invalid remediation policy shows the variable, its value and the allowed values."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import remediation as remediation_policy

NOW = datetime.datetime(2026, 3, 1)
UNTIL = "remediation_tls_disable_https_until"
GOOD = {
    "remediation_allowed": ["disk_full"],
    "remediation_disk_globs": [{"glob": "/var/log/itsm/server.log*"}, {"glob": "/srv/b_*", "keep": "3"}],
    "remediation_keep_backups": 10,
    "remediation_max_old_space_size": 0,
    "remediation_memory_max": 0,
    "remediation_rollback_after_falls": "3",
    "remediation_stop_policy": [{"user": "root", "command": "backup .*", "port": 8080}],
    "remediation_stop_timeout": 10,
    UNTIL: "",
    "remediation_tls_key_mode": "0640",
    "remediation_tls_renew_command": ["certbot", "renew"],
    "remediation_tls_renew_timeout": 120.5,
}


def problems(**changes) -> list[str]:
    return remediation_policy.problems({**GOOD, **changes}, causes=["db_locked", "disk_full"], now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {UNTIL: "2026-03-02T05:00:00Z"},
        {UNTIL: "2020-01-01T00:00:00.000Z"},  # A time in the past is valid.
        {"remediation_allowed": []},
        {"remediation_disk_globs": []},
        {"remediation_keep_backups": 0},
        {"remediation_memory_max": 1 << 30, "remediation_max_old_space_size": 128},
    ],
)
def test_a_valid_policy(changes):
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("remediation_allowed", ["disk_fulll"], "'disk_fulll': must be one of db_locked, disk_full"),
        ("remediation_stop_timeout", "abc", "'abc': must be a number of at least 0.1"),
        ("remediation_stop_timeout", 0, "0: must be a number"),
        ("remediation_stop_timeout", True, "True: must be a number"),
        ("remediation_tls_renew_timeout", None, "None: must be a number"),
        ("remediation_rollback_after_falls", 0, "0: must be a number of at least 1"),
        ("remediation_memory_max", 512, "512: must be a number of at least 67108864, or 0 for the proposed value"),
        ("remediation_max_old_space_size", -1, "-1: must be a number of at least 32"),
        ("remediation_keep_backups", -1, "-1: must be a number of at least 1, or 0 for all"),
        (UNTIL, "tomorrow", "'tomorrow': must be empty, or a time in UTC"),
        (UNTIL, "2026-03-02T05:00:00+09:00", "must be empty, or a time in UTC"),
        (UNTIL, "2026-02-31T05:00:00Z", "must be empty, or a time in UTC"),
        (UNTIL, datetime.datetime(2026, 3, 2), "'2026-03-02 00:00:00': must be empty, or a time in UTC"),
        (UNTIL, "2036-03-02T05:00:00Z", "'2036-03-02T05:00:00Z': must be within 30 days"),
        ("remediation_tls_key_mode", "0644", "'0644': must be octal digits"),
        ("remediation_tls_key_mode", 416, "416: must be octal digits in quotes"),
        ("remediation_tls_renew_command", "certbot renew", "must be a list of non-empty words"),
        ("remediation_disk_globs", "/var/log/*", "'/var/log/*': must be a list"),
        ("remediation_disk_globs", ["/var/log/*"], "the row '/var/log/*': each row must be a dictionary with glob"),
        ("remediation_disk_globs", [{"glob": ""}], "each row must be a dictionary with glob"),
        ("remediation_disk_globs", [{"glob": "/var/log/*", "keeps": 1}], "it may contain only glob, keep"),
        ("remediation_disk_globs", [{"glob": "/var/log/*", "keep": "all"}], "keep must be a whole number"),
        ("remediation_disk_globs", [{"glob": "/srv/a/*", "as_user": "yes"}], "as_user must be true or false"),
        ("remediation_disk_globs", [{"glob": "log/*"}], "'log/*': must be an absolute path pattern"),
        ("remediation_stop_timeout", float("inf"), "inf: must be a number of at least 0.1"),
        ("remediation_tls_renew_timeout", "1e999", "'1e999': must be a number of at least 0.1"),
        ("remediation_memory_max", float("nan"), "nan: must be a number of at least 67108864"),
        ("remediation_disk_globs", [{"glob": "/var/../etc/*"}], "without . and .."),
        ("remediation_disk_globs", [{"glob": "/*/*"}], "must specify a folder below the root"),
        ("remediation_disk_globs", [{"glob": "/[a-z]*/log/*"}], "must specify a folder below the root"),
        ("remediation_disk_globs", [{"glob": "/home/**"}], "must specify one folder in /home"),
        ("remediation_stop_policy", [{"user": "root"}], "each row must be a dictionary with user and command"),
        ("remediation_stop_policy", [{"user": "root", "command": "("}], "'(': must be a regular expression, but"),
        ("remediation_stop_policy", [{"user": "root", "command": "x", "port": "http"}], "port must be a whole number"),
    ],
)
def test_an_invalid_policy_is_reported(name, value, said):
    (problem,) = problems(**{name: value})
    assert problem.startswith(name)
    assert said in problem


def test_the_files_that_may_be_removed_by_default():
    places = {"log_file": "/var/log/i/a.log", "log_patterns": ["logs/*.log", "/l/*.log"], "app_dir": "/srv/[a]"}
    assert remediation_policy.disk_globs(**places, database="/var/tmp/*/x.db", npm_cache="/n") == [
        {"glob": "/var/log/i/a.log*", "keep": 1},
        {"glob": "/srv/[[]a]/logs/*.log*", "keep": 1},
        {"glob": "/l/*.log*", "keep": 1},
        # The service's user could choose this path, so its wildcards have no special meaning.
        {"glob": "/var/tmp/[*]/x.db.backup_*", "keep": 3, "as_user": True},
        {"glob": "/n/_cacache/**"},
    ]
    nothing = {"log_file": "", "log_patterns": [], "app_dir": "/srv/a", "database": "", "npm_cache": ""}
    assert remediation_policy.disk_globs(**nothing) == []
