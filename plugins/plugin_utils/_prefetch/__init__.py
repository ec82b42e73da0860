# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pack modules before they are needed. This saves time and does not change any result.

Add code to this package if it makes a recovery faster without changing the recovery's result.
This package imports only from _timeline and _messages.
"""
