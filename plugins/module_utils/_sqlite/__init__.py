# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read, check, copy, checkpoint, salvage and restore a SQLite database in WAL mode.

Put code here if it operates on the database or on the files next to it.
This package imports from _common and _host only.
"""
