# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service-independent tools for time, commands, files and text.

Put code here if it would be useful to any program that runs as root on a managed host.
This package imports nothing from the other packages.
"""

from __future__ import annotations

import atexit
import gc
import sys

# When Python exits, it searches all objects for garbage. This search takes a module 10 to 20 ms of CPU time, although
# the memory is freed anyway when the process exits. Frozen objects are not searched. On the controller, this package is
# loaded next to other plugins, which may need the search to close their files.
if "ansible.module_utils.basic" in sys.modules and "ansible.constants" not in sys.modules:
    atexit.register(gc.freeze)
