# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service-independent tools for time, commands, files and text.

Put code here if it would be useful to any program that runs as root on a managed host.
This package imports nothing from the other packages.
"""
