# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""English messages about the exits of the service's processes.

The restart recorder saves information about these exits.
"""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "ends.restarts": "{number} restarts by systemd in the last hour",
    "ends.restarts.one": "{number} restart by systemd in the last hour",
    "ends.after": "{number} after {how}",
    "ended_how.oom-kill": "an out-of-memory kill",
    "ended_how.host-down": "a reboot or a power failure",
    "ended_how.timeout": "a timeout",
    "ended_how.watchdog": "a watchdog timeout",
    "ended_how.stopped": "a manual stop",
    "screen.restarts": "restarts",
}
