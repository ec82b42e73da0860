# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Before an outage, collect facts for a possible recovery: rights, disk space, modules, backups, restart policy.

Put code here if it collects a fact for the readiness report. Code in this package must not change the host.
This package imports from _triage and lower packages. plugin_utils/_ready_report evaluates the facts.
"""
