# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An open incident on the host: its record, its lease, and who may start the service.

Put code here if it must be true for the whole incident and survive the end of a run.
It imports from _common and _host only.
"""
