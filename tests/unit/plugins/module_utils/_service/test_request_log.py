# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The number of requests, counted in several places: in journals, and in rotated, compressed or dated log files."""

from __future__ import annotations

import gzip
import os
import pathlib
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_files, log_patterns, request_log
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.request_log import Places, RequestLogError

BEGUN, OVER = (timestamps.epoch(f"2026-03-02T01:{minute}:00.000Z") for minute in ("00", "10"))
FORMS = {
    "proxy": '10.0.0.1 - - [02/Mar/2026:{clock} +0000] "GET {path} HTTP/1.1" {status} 12 "-" "-"',
    "application": "2026-03-02T{clock}.123Z INFO GET {path} {status} 3 ms",
    "json": '{{"time":"2026-03-02T{clock}.123Z","method":"GET","url":"{path}","status": {status}}}',
    "wrapped": '{{"level":"http","message":"GET {path} {status} 3 ms","timestamp":"2026-03-02T{clock}.123Z"}}',
}
# The first of these requests is before the outage, and the last is after the outage.
OUTAGE = [("00:59:59", 500), ("01:00:01", 502), ("01:05:00", 200), ("01:09:57", 503), ("01:10:01", 500)]


def text(lines, form="application", path="/api/v1/x"):
    return "".join(FORMS[form].format(clock=clock, path=path, status=status) + "\n" for clock, status in lines)


def lay(path: Path, content: str, *, modified: float = OVER + 60) -> Path:
    path.parent.mkdir(exist_ok=True)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    os.utime(path, (modified, modified))
    return path


class Journal:
    """Replaces commands.run. Returns journal entries, and records the command."""

    def __init__(self, *messages, rc=0):
        self.messages, self.rc, self.argv = messages, rc, None

    def __call__(self, argv, **_options):
        self.argv = argv
        told = "".join(f"{at:.6f} host node[12]: {line}\n" for at, line in self.messages)
        return commands.Completed(
            argv=argv, rc=self.rc, stdout=told, stderr="No journal files were found.", duration=0.1
        )


def count(places, *, deadline=5.0, run=None, begun=BEGUN, over=OVER):
    run = run or Journal()
    return request_log.count(places, begun=begun, over=over, deadline=time.monotonic() + deadline, run=run)


@pytest.mark.parametrize("form", FORMS)
def test_requests_of_the_outage_are_counted(tmp_path, form):
    log = lay(tmp_path / "access.log", text(OUTAGE, form) + "noise 500\n")
    assert count(Places(log=str(log))) == (3, 2, [str(log)])


def test_rotated_and_compressed_files_are_read(tmp_path):
    newest = lay(tmp_path / "access.log", text([("01:09:00", 500)]))
    rotated = lay(tmp_path / "access.log.1", text([("01:06:00", 200)]), modified=OVER - 200)
    compressed = lay(tmp_path / "access.log.2.gz", text([("00:10:00", 500), ("01:03:00", 502)]), modified=OVER - 300)
    # Files that were last changed before the outage are not read.
    broken = lay(tmp_path / "access.log.3.gz", "", modified=BEGUN - 60)
    broken.write_bytes(b"no gzip")
    os.utime(broken, (BEGUN - 60, BEGUN - 60))
    told = count(Places(log=str(newest)))
    assert told == (3, 2, [str(newest), str(rotated), str(compressed)])


def test_dated_logs_are_found_by_patterns(tmp_path):
    logs = tmp_path / "my [app]" / "logs"
    logs.parent.mkdir()
    lay(logs / "app-2026-03-01.log", text([("00:10:00", 500)]), modified=BEGUN - 3600)
    today = lay(logs / "app-2026-03-02.log", text(OUTAGE))
    patterns = log_files.absolute(["logs/*.log"], folder=str(logs.parent))
    assert count(Places(patterns=patterns)) == (3, 2, [str(today)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_pattern_cannot_make_root_count_the_requests_of_another_account():
    with tempfile.TemporaryDirectory() as base:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(base, 0o755)  # noqa: S103
        theirs = lay(pathlib.Path(base) / "access-1.log", text(OUTAGE))
        theirs.chmod(0o600)
        places = Places(patterns=[f"{base}/*.log"], user="nobody")
        with pytest.raises(request_log.RequestLogError, match="Permission denied"):
            count(places)
        theirs.chmod(0o644)
        assert count(places)[0] == 3


def test_a_log_may_be_a_link_of_its_administrator(tmp_path):
    lay(tmp_path / "disk" / "access.log", text(OUTAGE))
    lay(tmp_path / "access.log.1", text([("01:02:00", 502)]))
    (tmp_path / "access.log").symlink_to(tmp_path / "disk" / "access.log")
    assert count(Places(log=str(tmp_path / "access.log")))[:2] == (4, 3)


def test_a_log_that_is_being_compressed_is_counted_once(tmp_path):
    log = lay(tmp_path / "access.log.1", text(OUTAGE))
    lay(tmp_path / "access.log.1.gz", text(OUTAGE))
    assert count(Places(log=str(tmp_path / "access.log"))) == (3, 2, [str(log)])


def journal_of(lines, **options):
    """Return journal entries that are 0.4 seconds later than the lines of the log."""
    return [(log_patterns.instant(line) + 0.4, line) for line in text(lines, **options).splitlines()]


def test_a_request_in_several_places_is_counted_once(tmp_path):
    app = lay(tmp_path / "app-2026-03-02.log", text(OUTAGE, "wrapped"))
    errors = lay(tmp_path / "error-2026-03-02.log", text([line for line in OUTAGE if line[1] >= 500], "wrapped"))
    proxy = lay(tmp_path / "access.log", text([*OUTAGE, ("01:08:00", 502)], "proxy"))
    plain = [(at, line.partition("INFO ")[2]) for at, line in journal_of(OUTAGE)]
    places = Places(log=str(proxy), patterns=[str(tmp_path / "*-*.log")], unit="itsm")
    told = count(places, run=Journal(*plain))
    # Only the proxy's log contains the request that never reached the service.
    assert told[:2] == (4, 3)
    assert sorted(told.sources) == sorted(["journalctl -u itsm", str(app), str(errors), str(proxy)])


def test_different_requests_in_several_places_are_added(tmp_path):
    log = lay(tmp_path / "access.log", text([("01:05:00", 500)] * 3))
    others = [*journal_of([("01:05:00", 500)], path="/api/v1/y"), *journal_of([("01:05:00", 500)] * 2)]
    assert count(Places(log=str(log), unit="itsm"), run=Journal(*others))[:2] == (4, 4)
    later = journal_of([("01:05:05", 500)])
    assert count(Places(log=str(log), unit="itsm"), run=Journal(*later))[:2] == (4, 4)


def test_the_journal_is_read_for_the_outage_and_without_colours():
    at = BEGUN + 5
    journal = Journal((at, "\x1b[0mGET /api/v1/x \x1b[31m503\x1b[0m 3.1 ms - 12\x1b[0m"), (at, "Listening"))
    assert count(Places(unit="itsm"), run=journal) == (1, 1, ["journalctl -u itsm"])
    assert journal.argv[journal.argv.index("-u") + 1] == "itsm"
    assert journal.argv[journal.argv.index("--until") + 1] == f"@{OVER + 1:.0f}"
    assert "--all" in journal.argv  # Otherwise, lines with colours are shown as "[60B blob data]".


def test_a_place_that_cannot_be_opened_is_ignored_if_another_one_has_requests(tmp_path):
    log = lay(tmp_path / "app.log", text(OUTAGE))
    places = Places(log="/nowhere/server.log", patterns=[str(log)], unit="itsm")
    assert count(places, run=Journal(rc=1)) == (3, 2, [str(log)])
    with pytest.raises(RequestLogError, match="journalctl -u itsm cannot be read: No journal files were found"):
        count(Places(log="/nowhere/server.log", unit="itsm"), run=Journal(rc=1))
    with pytest.raises(RequestLogError, match="no log was found"):
        count(Places(patterns=["/nowhere/*.log"]))


def test_a_log_without_requests_from_that_time_is_named(tmp_path):
    log = lay(tmp_path / "access.log", "hello\n")
    with pytest.raises(RequestLogError, match=f"no requests from that time were recognized in {log}"):
        count(Places(log=str(log)))
    # Requests shortly before the outage show that the service logs requests here. Therefore, there were no requests
    # during the outage.
    lay(log, text([("00:59:00", 200)]))
    assert count(Places(log=str(log))) == (0, 0, [str(log)])


def test_only_the_needed_part_of_a_large_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "_CHUNK", 4096)
    monkeypatch.setattr(request_log, "_BEFORE", 60)
    clocks = [f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}" for second in range(0, 7200)]
    log = lay(tmp_path / "access.log", text([(clock, 500) for clock in clocks]) + "x" * 100_000)
    monkeypatch.setattr(request_log, "_MOST_BYTES", 60_000)
    assert count(Places(log=str(log)))[:2] == (600, 600)
    monkeypatch.setattr(request_log, "_MOST_BYTES", 30_000)
    with pytest.raises(RequestLogError, match=r"access\.log has too many lines from that time"):
        count(Places(log=str(log)))
    compressed = lay(tmp_path / "access.log.1.gz", text([(clock, 500) for clock in clocks]))
    log.unlink()
    with pytest.raises(RequestLogError, match="too many lines"):
        count(Places(patterns=[str(compressed)]))


def test_a_damaged_compressed_file_is_reported(tmp_path):
    path = lay(tmp_path / "access.log.1.gz", text(OUTAGE * 100))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RequestLogError, match=r"access\.log\.1\.gz cannot be read: Compressed file ended"):
        count(Places(patterns=[str(path)]))


def test_a_compressed_file_that_would_fill_the_memory_is_not_unpacked(tmp_path):
    path = tmp_path / "access.log.1.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _number in range(300):
            stream.write(b"x" * (1 << 20))
    with pytest.raises(RequestLogError, match=r"too many lines|took too long"):
        count(Places(patterns=[str(path)]), begun=0.0, over=time.time())


def test_the_time_limit_is_kept(tmp_path):
    log = lay(tmp_path / "access.log", text(OUTAGE * 1000))
    with pytest.raises(RequestLogError, match="took too long"):
        count(Places(log=str(log)), deadline=-1.0)


@pytest.mark.parametrize("line", ["GET" + '"' * 1990, 'GET"' * 490, "GET " + "\"'" * 990])
def test_lines_of_quotation_marks_do_not_slow_down_the_count(tmp_path, line):
    lay(tmp_path / "app.log", text([("01:02:00", 200)]) + f"{line}\n" * 20)
    started = time.process_time()
    assert count(Places(patterns=[str(tmp_path / "app.log")])).requests == 1
    assert time.process_time() - started < 0.5


def test_too_many_files_are_reported(tmp_path):
    for number in range(request_log._MOST_FILES + 1):
        lay(tmp_path / f"access.log.{number}", text(OUTAGE))
    with pytest.raises(RequestLogError, match="52 log files have been changed since the outage began, but at most 50"):
        count(Places(log=str(tmp_path / "access.log")))


def test_links_and_pipes_are_not_read(tmp_path):
    outside = lay(tmp_path / "outside" / "access.log", text(OUTAGE))
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "link.log").symlink_to(outside)
    os.mkfifo(logs / "pipe.log")
    with pytest.raises(RequestLogError, match="no log was found"):
        count(Places(patterns=[str(logs / "*.log")]))


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="there is no journalctl")
def test_a_real_journalctl_accepts_the_options():
    with pytest.raises(RequestLogError) as caught:
        count(Places(unit="no-such-unit"), run=commands.run)
    assert caught.value.told.id in ("reason.impact.log_empty", "reason.impact.log_unread")
