# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watch services for event rules, and decide when to call a playbook.

Add code to this package if the event source plugin needs it.
This package does not import any other package in plugin_utils.
"""
