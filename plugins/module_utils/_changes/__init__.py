# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out what changed on the host since the service was last healthy, and which change may have caused an outage.

Put code here if it compares or ranks changes, or if it observes something that a person or a program can change. This
package imports from _service, _incident, _sqlite, _host and _common.
"""
