# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names from the profile file, such as the service unit and the service folder on this host."""

with open("/opt/drill/profile") as stream:
    NAMES = dict(line.rstrip("\n").split("=", 1) for line in stream if not line.startswith("#"))
