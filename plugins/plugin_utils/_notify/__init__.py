# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notifications: who is notified about what, and how the message is sent.

Put a new transport here.
It imports from _timeline, _messages and _action only.
"""
