# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that are imported only when they are first needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import late_import


def test_a_fork_waits_for_an_import_on_another_thread(monkeypatch):
    begun, imported = threading.Event(), []

    def slow(name):
        begun.set()
        time.sleep(0.3)
        imported.append(name)

    monkeypatch.setattr(late_import.importlib, "import_module", slow)
    thread = threading.Thread(target=late_import.module, args=("_messages.en",))
    thread.start()
    assert begun.wait(10)
    child = os.fork()
    if not child:
        os._exit(0 if len(imported) == 1 else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_worker_can_import_after_a_fork():
    child = os.fork()
    if not child:
        os._exit(0 if late_import.module("_messages.en").SENTENCES else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_callback_imports_no_catalogue_and_no_report_at_the_start_of_a_run():
    name = "ansible_collections.itsm_nexus.runbook.plugins"
    code = (
        f"import {name}.callback.postmortem, sys; print(*[each for each in sys.modules if each.startswith('{name}')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    imported = {each[len(name) + 1 :] for each in done.stdout.split()}
    assert "plugin_utils._messages.catalogue" in imported
    assert not imported & {
        "plugin_utils._messages.en",
        "plugin_utils._messages.ja",
        "plugin_utils._report.closing",
        "plugin_utils._report.prose",
        "plugin_utils._timeline.model",
    }
