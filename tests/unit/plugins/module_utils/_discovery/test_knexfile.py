# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The path of the database is read from a knexfile without running it.

Anything other than a simple path is treated as unknown.
"""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import knexfile

APP = "/srv/app"


def read(text, *, section="production", path=f"{APP}/knexfile.js", **variables):
    return knexfile.database(text, section=section, path=path, app_dir=APP, variable=variables.get)


def file(code):
    return f"""
const path = require('path');
// production: {{ connection: {{ filename: 'comment.db' }} }}
module.exports = {{
  development: {{ client: 'sqlite3', connection: {{ filename: './dev.db' }} }},
  production: {{
    client: 'sqlite3',
    migrations: {{ directory: './backend/migrations' }}, /* filename: 'other.db' */
    connection: {{
      filename: {code},
    }},
    pool: {{ afterCreate: (conn, cb) => {{ conn.run('PRAGMA foreign_keys = ON', cb); }} }},
  }},
}};
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("'backend/itsm_nexus.db'", f"{APP}/backend/itsm_nexus.db"),
        ('"/var/lib/itsm/itsm.db"', "/var/lib/itsm/itsm.db"),
        ("`./a.db`", f"{APP}/a.db"),
        ("path.join(__dirname, 'backend', 'itsm.db')", f"{APP}/backend/itsm.db"),
        ("path.resolve(__dirname, './itsm.db')", f"{APP}/itsm.db"),
        ("path.join('data', 'itsm.db')", f"{APP}/data/itsm.db"),
        ("process.env.DATABASE_PATH || 'backend/itsm.db'", f"{APP}/backend/itsm.db"),
        ("process.env.DATABASE_PATH ?? path.join(__dirname, 'itsm.db')", f"{APP}/itsm.db"),
        ("(process.env.DATABASE_PATH || 'itsm.db')", f"{APP}/itsm.db"),
        ("process.env.DATABASE_PATH", None),
        ("`${folder}/itsm.db`", None),
        ("getPath('itsm.db')", None),
        ("path.join(base, 'itsm.db')", None),
        ("'a' + '.db'", None),
    ],
)
def test_only_simple_expressions_have_a_path(code, expected):
    assert read(file(code)).path == expected


def test_a_variable_of_the_environment_has_priority():
    code = "process.env.DATABASE_PATH || 'backend/itsm.db'"
    found = read(file(code), DATABASE_PATH="data/real.db")
    assert found == knexfile.Database(f"{APP}/data/real.db", "DATABASE_PATH")


def test_the_section_counts():
    text = file("'prod.db'")
    assert read(text, section="development").path == f"{APP}/dev.db"
    assert read(text, section="staging") is None


def test_a_path_with_dirname_is_relative_to_the_folder_of_the_file():
    text = file("path.join(__dirname, 'itsm.db')")
    assert read(text, path=f"{APP}/backend/knexfile.js").path == f"{APP}/backend/itsm.db"


@pytest.mark.parametrize(
    "text",
    [
        "module.exports = { production: section(process.env.DATABASE_PATH || 'backend/itsm.db') }",
        "module.exports = { production: { ...base, client: 'sqlite3' } }",
        "module.exports = { production: { connection: { host: 'db' } } }",
        "module.exports = { production: { connection: {",
        "production: {",
    ],
)
def test_code_that_must_be_run_has_no_path(text):
    assert read(text).path is None


def test_a_connection_can_be_a_path():
    assert read("module.exports = { production: { connection: './itsm.db' } }").path == f"{APP}/itsm.db"
