# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The message catalogues, one per language.

Add text to this package if a document or the screen shows it.
This package does not import any other package in plugin_utils.
"""
