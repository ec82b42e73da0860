# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a run that are shown."""

from __future__ import annotations

from timeline_samples import OUTCOME, Recording, only

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def test_a_failure_after_the_verdict_only_repeats_it():
    failure = {"host": "node1", "task": "End", "action": "ansible.builtin.fail", "status": "failed", "msg": "… on …"}
    recording = Recording().down().opened().add("task", **failure)
    recording.add("outcome", host="node1", data=OUTCOME).add("task", **failure)
    (before,) = [step for step in only(recording).steps if step.status == "failed"]
    assert (before.weight, before.message) == (incident_model.FAILURE, "… on …")


def test_internal_tasks_are_not_steps_unless_they_fail():
    recording = Recording().down().opened()
    for status in ("ok", "failed"):
        recording.add("task", host="node1", task=status, role=None, action="ansible.builtin.assert", status=status)
    assert [step.task for step in only(recording).steps] == ["health_probe", "incident", "failed"]
