# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load the checks that antsibull-nox.toml selects. `make nox` runs these checks."""

import antsibull_nox

antsibull_nox.load_antsibull_nox_toml()
