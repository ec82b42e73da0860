# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pack modules before they are needed. This saves time and changes no result.

Put code here if a recovery would be slower, but not different, without it.
It imports from _timeline only.
"""
