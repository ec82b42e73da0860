# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: run.py start_guard|restart_recorder|guard_keeper CONFIG [--show]. Runs a program in this folder.

Python compiles the script itself at every start, but imports modules in compiled form, which is faster. Therefore, this
script imports the programs.
"""

import sys

sys.path.insert(0, __file__.rpartition("/")[0])
sys.exit(__import__(sys.argv[1]).main(sys.argv[2:]))
