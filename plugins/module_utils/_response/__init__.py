# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""First response to a crash: save evidence that a start would destroy, check for obstacles, and start the service.

Put code here if it decides during a triage whether the service may be started immediately.
This package imports from _triage and lower packages. If anything is in doubt, the service is not started.
"""
