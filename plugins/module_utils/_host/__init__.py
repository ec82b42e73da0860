# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the managed host: its processes, accounts, environment files and certificates.

Put code here if it reads the host and does not depend on this service or on SQLite.
This package imports from _common only.
"""
