# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helpers that the action plugins of this collection share.

Put code here if it handles data that a host sends to the controller, or reads the options of a callback.
This package does not import any other package in plugin_utils.
"""
