# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress messages for long tasks. The tests control the clock."""

from __future__ import annotations

import types

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import progress as task_progress


class Nap:
    """Replaces the watch's event object. wait() advances the clock, and returns True if the time `until` has passed."""

    def __init__(self, clock, until):
        self.clock, self.until = clock, until

    def wait(self, seconds):
        self.clock[0] += seconds
        return self.clock[0] > self.until


def watched(monkeypatch, *, interval, until, begins):
    """Return the messages about endless tasks, as (time, task, hosts, duration). begins: pairs of (second, host)."""
    clock, said = [0.0], []
    monkeypatch.setattr(task_progress, "time", types.SimpleNamespace(monotonic=lambda: clock[0], time=lambda: clock[0]))
    watch = task_progress.Watch(lambda task, hosts, seconds: said.append((clock[0], task, hosts, seconds)))
    monkeypatch.setattr(task_progress.threading, "Thread", lambda **keys: types.SimpleNamespace(start=lambda: None))
    watch.begin(interval)
    for at, host in begins:
        clock[0] = at
        watch.started(host, host, "Rebuild", task_progress.Moment.now())
    clock[0] = 0.0
    watch._tell(Nap(clock, until))
    return said


def test_a_message_appears_at_least_every_interval(monkeypatch):
    for begin in (0.0, 0.3, 0.95):
        said = [at for at, *_rest in watched(monkeypatch, interval=10.0, until=60.0, begins=[(begin, "node1")])]
        waits = [later - earlier for earlier, later in zip([begin, *said], said)]
        assert len(said) >= 5 and max(waits) <= 10.0 + 1e-6 and min(waits) > 8.0


def test_hosts_at_the_same_task_share_a_message(monkeypatch):
    said = watched(monkeypatch, interval=10.0, until=10.0, begins=[(0.0, "node1"), (0.0, "node2"), (5.0, "node3")])
    ((at, task, hosts, seconds),) = said
    assert (task, hosts) == ("Rebuild", ["node1", "node2"])
    assert at == pytest.approx(seconds)


def test_a_task_that_has_just_ended_is_not_shown(monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr(task_progress.time, "monotonic", lambda: clock[0])
    watch = task_progress.Watch(
        lambda *told: said.append(told), before=lambda: watch.ended("key", task_progress.Moment.now())
    )
    watch.begin(0)
    watch.started("key", "node1", "Rebuild", task_progress.Moment.now())
    watch._interval = 10.0
    watch._tell(Nap(clock, 30.0))
    assert said == []


def test_without_an_interval_nothing_is_watched(monkeypatch):
    watch = task_progress.Watch(lambda *told: pytest.fail("said"))
    watch.begin(0)
    watch.started("key", "node1", "Rebuild", task_progress.Moment.now())
    assert watch._thread is None


def test_a_prompt_is_not_shown_as_progress(monkeypatch):
    watch = task_progress.Watch(lambda *told: None)
    watch.begin(1e-9)
    monkeypatch.setattr(task_progress.threading, "Thread", lambda **keys: types.SimpleNamespace(start=lambda: None))
    watch.started("asks", "node1", "Ask", task_progress.Moment.now(), reported=False)
    watch.started("works", "node2", "Rebuild", task_progress.Moment.now())
    assert [(task, hosts) for task, (hosts, _began) in watch._long(task_progress.time.monotonic() + 1).items()] == [
        ("Rebuild", ["node2"])
    ]


def test_the_times_of_a_task_are_known_after_its_end():
    watch = task_progress.Watch(lambda *told: None)
    watch.started("key", "node1", "Rebuild", task_progress.Moment.now())
    before = task_progress.time.time()
    clock = watch.ended("key", task_progress.Moment.now())
    assert before - 5 < clock.began <= before and 0 <= clock.seconds < 5
    assert watch.ended("key", task_progress.Moment.now()) is None
