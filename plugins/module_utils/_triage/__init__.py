# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage: collect the facts about an outage in one pass and identify its causes.

Put code here if it collects a fact (collect_*) or draws a conclusion from facts (causes).
This package may import from all other packages. No other package imports it.
"""
