# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from sqlite_samples import (
    OPEN,
    READER,
    WRITER,
    Process,
    closed,
    crashed,
    flip,
    frame_offset,
    new_salts,
    shell,
    snapshot,
)

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


@pytest.fixture
def app(tmp_path: Path) -> str:
    folder = tmp_path / "app"
    folder.mkdir()
    return str(folder / "itsm.db")


def checkpoint(path: str, **arguments: Any) -> Dict[str, Any]:
    return sqlite_checkpoint.checkpoint(path=path, busy_timeout=0.2, **arguments)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("shm", [False, True], ids=["no index", "index left"])
def test_everything_goes_into_the_database(app: str, page_size: int, shm: bool) -> None:
    crashed(app, page_size=page_size, shm=shm)
    result = checkpoint(app)
    assert result["changed"]
    assert result["checkpointed"]
    assert result["frames_before"] == result["frames_committed"] >= 60
    assert result["row_counts"] == {"incidents": 260, "users": 2}
    assert result["removed"] == [f"{app}-wal", *([f"{app}-shm"] if shm else [])]
    assert os.listdir(os.path.dirname(app)) == ["itsm.db"]
    assert shell(app, "PRAGMA integrity_check; SELECT count(*) FROM incidents") == "ok\n260"


def test_twice(app: str) -> None:
    crashed(app)
    checkpoint(app)
    before = snapshot(os.path.dirname(app))
    result = checkpoint(app)
    assert not result["changed"]
    assert result["checkpointed"]
    assert snapshot(os.path.dirname(app)) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_nothing_to_do(app: str, mode: str) -> None:
    closed(app, mode=mode)
    before = snapshot(os.path.dirname(app))
    assert not checkpoint(app)["changed"]
    assert snapshot(os.path.dirname(app)) == before


def test_check_mode(app: str) -> None:
    crashed(app, shm=True)
    before = snapshot(os.path.dirname(app))
    result = checkpoint(app, check_mode=True)
    assert result["changed"]
    assert not result["checkpointed"]
    assert result["diff"]["before"]["frames_committed"] == result["frames_committed"] > 0
    assert result["diff"]["after"] == {"wal_bytes": 0, "frames_committed": 0}
    assert snapshot(os.path.dirname(app)) == before


def test_committed_rows_before_a_torn_tail_are_kept(app: str) -> None:
    crashed(app)
    os.truncate(f"{app}-wal", os.path.getsize(f"{app}-wal") - 100)
    expected = sqlite_check.check(path=app)["row_counts"]
    result = checkpoint(app)
    assert result["torn"]
    assert 0 < result["frames_committed"] <= result["frames_before"]
    assert result["row_counts"] == expected == {"incidents": 259, "users": 2}
    assert shell(app, "SELECT count(*) FROM incidents") == "259"


@pytest.mark.parametrize("body", [OPEN, READER, WRITER], ids=["open", "reader", "writer"])
@pytest.mark.parametrize("hidden", [False, True])
def test_refused_while_another_process_has_it_open(app: str, body: str, hidden: bool, tmp_path: Path) -> None:
    crashed(app)
    (tmp_path / "proc").mkdir()
    with Process(app, body) as process:
        before = snapshot(os.path.dirname(app))
        words = "hidden" if hidden else f"pid {process.pid}"
        with pytest.raises(SqliteError, match=words):
            checkpoint(app, proc_root=str(tmp_path / "proc") if hidden else "/proc")
        assert snapshot(os.path.dirname(app)) == before


def test_an_unseen_process_still_stops_it(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the search finds no process that has the database open, SQLite's locks prevent the checkpoint."""
    crashed(app)
    nobody = sqlite_holders.Holders(found=[], complete=True)
    with Process(app, OPEN):
        monkeypatch.setattr(sqlite_holders, "find_holders", lambda *_arguments, **_named: nobody)
        with pytest.raises(SqliteError, match="locked; the WAL is kept"):
            checkpoint(app)
        assert os.path.getsize(f"{app}-wal") > 0
    monkeypatch.undo()
    assert sqlite_check.check(path=app)["row_counts"]["incidents"] == 260


def _zero_bytes(path: str) -> None:
    os.truncate(path, 0)


def _corrupt(path: str) -> None:
    with open(path, "r+b") as stream:
        stream.seek(3 * 4096)
        stream.write(b"\xa5" * 4096 * 8)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (os.unlink, "There is no database"),
        (_zero_bytes, "would delete that WAL"),
        (_corrupt, "not sound"),
        (lambda path: flip(path, 2), "not sound"),
        (lambda path: flip(f"{path}-wal", 0), "header of the WAL of .* is damaged"),
        (lambda path: flip(f"{path}-wal", frame_offset(9) + 500), "is damaged at frame 10"),
        (lambda path: new_salts(f"{path}-wal"), "have salts that differ"),
    ],
    ids=["missing", "zero bytes", "corrupt", "no database", "WAL header", "WAL frame", "WAL salts"],
)
def test_refused_if_something_could_be_lost(app: str, damage: Callable[[str], None], words: str) -> None:
    crashed(app)
    damage(app)
    before = snapshot(os.path.dirname(app))
    with pytest.raises(SqliteError, match=words):
        checkpoint(app)
    assert snapshot(os.path.dirname(app)) == before


def test_space_is_checked_first(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    monkeypatch.setattr(sqlite_files, "free_bytes", lambda _folder: 1000)
    before = snapshot(os.path.dirname(app))
    with pytest.raises(sqlite_files.NoRoomError, match="Free some space first"):
        checkpoint(app)
    assert snapshot(os.path.dirname(app)) == before


def test_no_time_for_the_check_means_no_checkpoint(app: str) -> None:
    crashed(app)
    with pytest.raises(SqliteError, match=r"time.budget"):
        checkpoint(app, time_budget=0.000001)
    assert os.path.getsize(f"{app}-wal") > 0


def test_missing_rows_are_an_error(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    check = sqlite_check.check
    answers = []

    def lacking(**named: Any) -> Dict[str, Any]:
        result = check(**named)
        answers.append(result)
        if len(answers) == 2:
            result["row_counts"] = {"incidents": 1, "users": 2}
        return result

    monkeypatch.setattr(sqlite_check, "check", lacking)
    with pytest.raises(SqliteError, match="changed the row counts of"):
        checkpoint(app)


def test_a_busy_answer_is_respected(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    in_child = child_process.in_child

    def busy(work: Any, **named: Any) -> Any:
        messages = in_child(work, **named)
        return [{**message, "row": [1, 127, 127]} if "row" in message else message for message in messages]

    monkeypatch.setattr(child_process, "in_child", busy)
    with pytest.raises(SqliteError, match="busy=1"):
        checkpoint(app)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_the_checkpoint_keeps_the_owner_of_the_database(app: str) -> None:
    crashed(app, shm=True)
    for suffix in ("", "-wal", "-shm"):
        os.chown(app + suffix, 12345, 23456)
        os.chmod(app + suffix, 0o640)
    checkpoint(app)
    facts = os.stat(app)
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (12345, 23456, 0o640)
