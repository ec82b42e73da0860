# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only settings that the inventory needs are shown, with their source. All other settings may be secrets."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment, messages


def source(variable):
    return message.english(variable.source, messages.ENGLISH)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("PORT", "8080", True),
        ("HTTPS_PORT", "6443", True),
        ("PORT", "8080; password", False),
        ("PORT", "pipe/secret", False),
        ("NODE_ENV", "production", True),
        ("NODE_ENV", "two words", False),
        ("ENABLE_HTTPS", "true", True),
        ("DATABASE_PATH", "backend/itsm_nexus.db", True),
        ("DATABASE_PATH", "postgres://user:secret@db/itsm", False),
        ("DATABASE_PATH", "/srv/a.db?key=secret", False),
        ("DATABASE_PATH", "{{ lookup('pipe', 'id') }}", False),
        ("DATABASE_PATH", "a\nb", False),
        ("DB_FILE", "/srv/a.db", True),
        ("SSL_CERT_PATH", "/etc/ssl/a.crt", True),
        ("SSL_KEY_PATH", "backend/ssl/a.key", True),
        ("LOG_DIR", "/var/log/itsm", True),
        ("BACKUP_DIR", "/backup", True),
        ("JWT_SECRET", "/looks/like/a/path", False),
        ("DATABASE_PASSWORD", "secret", False),
        ("DATABASE_URL", "/srv/a.db", False),
        ("BACKUP_KEY", "/srv/key", False),
        ("LOG_TOKEN", "abc", False),
        ("API_KEY", "8080", False),
        ("SSL_KEY_PASSPHRASE", "secret", False),
    ],
)
def test_which_values_are_shown(name, value, shown):
    assert environment.may_be_shown(name, value) is shown
    known = environment.Environment([environment.Source(environment.FILE, "/etc/env", {name: value})])
    assert (known.get(name) is not None) is shown
    assert known.is_set(name)


def test_the_source_is_the_file_in_which_a_person_finds_the_value():
    process = environment.Source(environment.PROCESS, "", {"PORT": "1", "HTTPS_PORT": "2", "NODE_ENV": "production"})
    file = environment.Source(environment.FILE, "/etc/env", {"PORT": "1", "HTTPS_PORT": "3", "LOG_DIR": "logs"})
    unit = environment.Source(environment.UNIT, "", {"ENABLE_HTTPS": "true"})
    known = environment.Environment([process, file, unit])
    assert source(known.get("PORT")) == "PORT in /etc/env, the same as in the running process"
    assert source(known.get("NODE_ENV")) == "NODE_ENV in the environment of the running process"
    assert source(known.get("LOG_DIR")) == "LOG_DIR in /etc/env"
    assert source(known.get("ENABLE_HTTPS")) == "ENABLE_HTTPS in Environment= of the unit"
    assert known.get("HTTPS_PORT").value == "2"
    assert known.changed() == [("HTTPS_PORT", "/etc/env")]


def test_a_changed_secret_is_not_reported():
    process = environment.Source(environment.PROCESS, "", {"JWT_SECRET": "a"})
    file = environment.Source(environment.FILE, "/etc/env", {"JWT_SECRET": "b"})
    assert environment.Environment([process, file]).changed() == []


def test_names_are_found_by_their_value():
    values = {"DESK_DATABASE": "/srv/a.db", "OTHER": "x", "EMPTY": ""}
    known = environment.Environment([environment.Source(environment.FILE, "/etc/env", values)])
    assert known.names == ["DESK_DATABASE", "OTHER"]
    assert known.names_of(lambda value: value == "/srv/a.db") == ["DESK_DATABASE"]
    assert known.first(lambda name: name == "OTHER") is None
