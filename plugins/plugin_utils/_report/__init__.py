# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents: Markdown, HTML, JSON, charts, and the summary on the screen.

Add code to this package if it only presents an incident as text or as a chart. Decisions are made in _policy.
This package imports only from _timeline, _messages and _policy.
"""
