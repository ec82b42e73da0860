# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An open incident on the host: its record, its lease, and the control of service starts.

Put code here if it handles the state of an incident, which must persist after a run ends.
This package imports from _common and _host only.
"""
