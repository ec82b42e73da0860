# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The triage facts as one typed structure, with one class per subject and one name per fact.

Facts describe the present. Text from logs and systemd describes the past. If the text disagrees with the facts, the
facts take precedence.
"""
