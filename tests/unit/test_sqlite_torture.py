# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The torture test passes with the real steps, and fails if a step loses data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict

import pytest

TORTURE = Path(__file__).resolve().parents[1] / "torture" / "sqlite_torture.py"


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("sqlite_torture", TORTURE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)  # Hide strace, because tracing is slow.
    return module


def test_no_row_is_lost(torture: ModuleType, tmp_path: Path) -> None:
    figures = torture.torture(3, 1, str(tmp_path))
    assert (figures["rounds"], figures["rows lost"]) == (3, 0)
    assert figures["rows"] > 0
    assert figures["kills"] > 3
    assert torture.live_backups(2, 1, str(tmp_path))["live backups"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_wal_is_detected(torture: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of running a checkpoint, delete the WAL, as the runbook's clean start does."""

    def remove(*, path: str) -> None:
        os.unlink(f"{path}-wal")

    monkeypatch.setattr(torture.sqlite_checkpoint, "checkpoint", remove)
    with pytest.raises(torture.Lost):
        torture.torture(5, 1, str(tmp_path))


def test_a_backup_without_the_wal_is_detected(
    torture: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = torture.sqlite_backup.backup

    def copy(
        *, path: str, dest_dir: str = "", prefix: str = "", evidence: bool = False, **named: Any
    ) -> Dict[str, Any]:
        if evidence:
            return dict(backup(path=path, dest_dir=dest_dir, prefix=prefix, evidence=True))
        return {"backup_file": shutil.copy(path, f"{dest_dir}/{prefix}20260302T010203Z")}

    monkeypatch.setattr(torture.sqlite_backup, "backup", copy)
    with pytest.raises(torture.Lost):
        torture.torture(5, 1, str(tmp_path))
