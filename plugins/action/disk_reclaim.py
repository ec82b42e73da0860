# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host


class ActionModule(on_host.OnHost):
    """Runs the module specified in the task. meta/runtime.yml redirects several modules to this plugin."""
