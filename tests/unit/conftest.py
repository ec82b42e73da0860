# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from pathlib import Path

import pytest


def pytest_collection_finish() -> None:
    """Exempt all current objects from garbage collection. Otherwise, it would slow down every forked process."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def shared():
    """Yield a folder that other users can enter, unlike pytest's own folder. The test runs only as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103
        yield Path(base)


@pytest.fixture
def dead_mount(tmp_path):
    """Mount a file system that never responds, as if its file server were down. Yield the mount point."""
    place = tmp_path / "dead"
    place.mkdir()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("no /dev/fuse here")
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if library.mount(b"dead", os.fsencode(place), b"fuse.dead", 0, options.encode()) != 0:
        os.close(device)
        pytest.skip(f"no mounting here: {os.strerror(ctypes.get_errno())}")
    yield place
    os.close(device)
    library.umount2(os.fsencode(place), 2)
