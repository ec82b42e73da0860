# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the service on a host and propose the variables of the inventory, each with its source.

Put code here if it finds out how the service is deployed, or derives variables or questions from these facts. This
package imports from _service and lower packages. It never returns environment values that may be secret.
"""
