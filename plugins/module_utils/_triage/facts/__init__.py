# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a triage as one typed structure, with one class for each subject and one name for each fact.

Facts describe the present. Texts (of logs, of systemd) describe the past. If they disagree, the facts count.
"""
