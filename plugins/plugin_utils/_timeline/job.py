# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The URL of this run's AWX job.

A job knows its number, but it receives the address of AWX only from the AWX setting "Base URL of the service". The
default of this setting is not a real address. Therefore, the job template may set another address.
"""

from __future__ import annotations

import re
from typing import Any, Mapping

# The variable of the job template, and the environment variable that AWX sets in every job.
VARIABLE, ENVIRONMENT = "outage_recover_awx_url", "AWX_HOST"
# The default values of this AWX setting.
_DEFAULTS = ("https://towerhost", "https://platformhost")
# The address must not contain a user name, a password, a query or a fragment.
_ADDRESS = r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*"
_NUMBER = r"[0-9]{1,18}"
_URL = re.compile(rf"{_ADDRESS}/#/jobs/playbook/{_NUMBER}/output")
_LONGEST = 300


def url(number: Any, *addresses: Any) -> str:
    """Return the URL of an AWX job.

    If this run is not a job, or if no address is valid, return an empty string. number: the number of the job.
    addresses: addresses of AWX, preferred address first.
    """
    for address in addresses:
        base = str(address or "").rstrip("/")
        made = f"{base}/#/jobs/playbook/{number}/output"
        if base not in _DEFAULTS and valid(made):
            return made
    return ""


def valid(text: Any) -> bool:
    """Return True if a text is the URL of an AWX job."""
    return isinstance(text, str) and len(text) <= _LONGEST and _URL.fullmatch(text) is not None


def of_run(extra_vars: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the URL of this run's AWX job, or an empty string."""
    number = extra_vars.get("awx_job_id") or extra_vars.get("tower_job_id")
    return url(number, extra_vars.get(VARIABLE), environment.get(ENVIRONMENT))
