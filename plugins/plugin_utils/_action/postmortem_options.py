# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the postmortem callback, for other plugins on the controller."""

from __future__ import annotations

from ansible import constants
from ansible.plugins.loader import callback_loader

_CALLBACK = "itsm_nexus.runbook.postmortem"


def get(option: str) -> str:
    """Return the value of an option, such as dir, language or timezone."""
    callback = callback_loader.get(_CALLBACK)
    callback.set_options()
    return str(callback.get_option(option))


def documents_folder() -> str:
    """Return the folder of the postmortems, or an empty string if this run writes none."""
    try:
        return get("dir") if _CALLBACK in constants.config.get_config_value("CALLBACKS_ENABLED") else ""
    except Exception:  # Even if the configuration is invalid, a notification must be sent.
        return ""
