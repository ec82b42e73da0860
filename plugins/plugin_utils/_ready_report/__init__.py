# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The readiness report, which answers the question: would a recovery work on this host tonight?

Add code to this package if it decides what a fact means for a recovery, or presents the report.
This package imports only from _report and _messages, and from module_utils.
"""
