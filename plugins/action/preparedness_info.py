# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host


class ActionModule(on_host.OnHost):
    """Runs the module of the same name, and adds two values that the controller measures.

    answered_at: the controller's time, to compare the clocks. elapsed: the duration of the call in seconds, to
    determine the round trip time.
    """

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result. See OnHost.run."""
        begun = time.monotonic()
        result = super().run(tmp, task_vars)
        return {**result, "answered_at": timestamps.now(), "elapsed": round(time.monotonic() - begun, 3)}
