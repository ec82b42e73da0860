# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions in a recovery about the settings, the remedy policy and the verdict.

Add code to this package if it decides what a playbook may do. This code does not use ansible-core.
This package imports only from _timeline and _messages.
"""
