# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find problems with a service that answers. A health check that always returns "ok" hides such problems.

Put code here if it finds problems that do not stop the service from answering.
This package imports from _service, _incident, _sqlite, _host and _common.
"""
