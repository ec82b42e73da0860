# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a discovered deployment with the inventory, and write the inventory's file for the host.

Add code to this package if it renders, updates or explains this file.
This package imports from _messages only.
"""
