# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notifications: the contacts, the messages, and the transports that send them.

Add new transports to this package.
This package imports only from _timeline and _messages.
"""
