# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base classes and helpers that the action plugins of this collection share.

Add code to this package if it runs modules, handles the data that a host sends to the controller, or reads a callback's
options. This package imports only from _policy, _notify and _timeline.
"""
