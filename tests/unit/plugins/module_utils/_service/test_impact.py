# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The users and requests that an outage affected, determined from a real database and real logs."""

from __future__ import annotations

import pathlib
import sqlite3

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import impact as outage_impact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import request_log

ROLE = pathlib.Path(__file__).resolve().parents[5] / "roles" / "postmortem"
DEFAULT = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))[
    "postmortem_affected_users_query"
]
START, END = "2026-03-02T01:00:00.000Z", "2026-03-02T01:10:00.000Z"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def database(tmp_path):
    """Return the path of a database that records the activity of four users, in two time formats.

    Users 1 and 2 were active near or during the outage. User 3 was active long before the outage, and user 4 after it.
    """
    path = tmp_path / "itsm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE user_activity (user_id INTEGER, created_at TEXT)")
        connection.execute("CREATE TABLE users (id INTEGER, username TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'anna'), (2, 'runbook')")
        rows = [
            (1, "2026-03-02T00:30:00.000Z"),
            (1, "2026-03-02T00:40:00.000Z"),
            (2, "2026-03-02 01:05:00"),
            (3, "2026-03-01T23:00:00.000Z"),
            (4, "2026-03-02T01:11:00.000Z"),
        ]
        connection.executemany("INSERT INTO user_activity VALUES (?, ?)", rows)
    connection.close()
    return str(path)


def measure(path, **keys):
    return outage_impact.measure(
        **{
            "path": path,
            "query": "",
            "places": request_log.Places(),
            "start": START,
            "end": END,
            "time_budget": 5.0,
            **keys,
        }
    )


def test_the_default_counts_users_active_from_an_hour_before_the_outage_to_its_end(database):
    told = measure(database, query=DEFAULT)
    assert (told["users"], told["users_unknown"]) == (2, None)
    assert measure(database, query=DEFAULT, login="runbook")["users"] == 1


def test_a_live_database_is_queried_and_unchanged(database, tmp_path):
    with sqlite3.connect(database) as service:
        service.execute("INSERT INTO user_activity VALUES (5, '2026-03-02T01:00:00.000Z')")
        service.commit()
        before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert measure(database, query=DEFAULT)["users"] == 3
        assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("query", "why"),
    [
        pytest.param("SELECT count(*) FROM no_such", "the query failed: no such table: no_such", id="no table"),
        pytest.param("SELECT 'many'", "the query did not return a number", id="no number"),
        pytest.param("SELECT 1 WHERE 0", "the query did not return a number", id="no row"),
        pytest.param("DELETE FROM user_activity", "the query failed: not authorized", id="writes"),
        pytest.param("SELECT 1; DROP TABLE user_activity", "the query failed", id="two statements"),
        pytest.param("ATTACH '/tmp/x.db' AS x", "the query failed: not authorized", id="another file"),
        pytest.param(ENDLESS, "the query took too long", id="endless"),
    ],
)
def test_a_query_without_a_number_reports_the_reason(database, query, why):
    told = measure(database, query=query, time_budget=0.5)
    assert told["users"] is None
    assert told["users_unknown"].startswith(why)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM user_activity").fetchone() == (5,)


def test_an_unknown_path_is_reported():
    assert measure("", query=DEFAULT)["users_unknown"] == "the path of the database is not known"


def test_a_missing_database_is_not_created(tmp_path):
    told = measure(str(tmp_path / "gone.db"), query=DEFAULT)
    assert told["users"] is None and "gone.db" in told["users_unknown"]
    assert list(tmp_path.iterdir()) == []


def test_requests_of_the_outage_are_counted(database, tmp_path):
    log = tmp_path / "access.log"
    lines = [("00:59:59", 500), ("01:00:01", 502), ("01:05:00", 200), ("01:09:59", 503), ("01:10:01", 500)]
    text = "".join(f"2026-03-02T{clock}.123Z INFO GET /api/v1/x {status} 3 ms\n" for clock, status in lines)
    log.write_text(text + "noise 500\n")
    told = measure(database, places=request_log.Places(log=str(log)))
    assert (told["requests"], told["requests_failed"], told["requests_from"]) == (3, 2, str(log))


def test_a_log_without_requests_reports_the_reason(database, tmp_path):
    told = measure(database, places=request_log.Places(log=str(tmp_path / "access.log")))
    assert told["requests"] is None and "cannot be read: No such file" in told["requests_unknown"]
    assert told["messages"]["requests_unknown"]["id"] == "reason.impact.log_unread"


def test_without_a_query_the_impact_is_unknown_without_an_error(database):
    told = measure(database)
    assert told.pop("messages") == {}
    assert set(told.values()) == {None}


def test_an_invalid_time_is_refused(database):
    with pytest.raises(outage_impact.ImpactError, match="start is 'yesterday'"):
        measure(database, start="yesterday")
