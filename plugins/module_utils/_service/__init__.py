# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service management: unit, process, health, packages, migrations, release and certificate.

Put code here if it checks or changes the service.
This package imports from _incident, _sqlite, _host and _common.
"""
