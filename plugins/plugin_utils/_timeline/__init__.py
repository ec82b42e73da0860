# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timeline of a run: its events, their file, the incident built from them, and what may be recorded.

Put code here if it records or decides what happened, or which statements are allowed. Other packages add words. It
imports no other package of plugin_utils.
"""
