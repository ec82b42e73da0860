# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timeline of a run: the events, their file, the incident that the events describe, and the rules for recording.

Add code to this package if it records what happened or decides which statements are allowed. Add text to other
packages. This package does not import any other package in plugin_utils.
"""
