# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The causes of an outage: one file per subject, one function per cause, and a ranking table.

To add a cause, write a function in the file for its subject, and add a row to table.py. common.py contains code for
several subjects.
"""
