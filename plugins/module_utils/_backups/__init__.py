# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create verified backups on a schedule, and test whether they can be restored.

Put code here if it creates, lists, copies, tests or removes backups of a healthy service. This package imports from
_service, _incident, _sqlite, _host and _common.
"""
