# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The language and time zone for a run and its incidents."""

from __future__ import annotations

from typing import Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue


class Wording:
    """The language and time zone from an incident's outcome or, if there is no outcome, the configured values."""

    def __init__(self, *, language: str, timezone: str) -> None:
        """Start with the configured values."""
        self._language, self._timezone = language, timezone
        self._of_run: Mapping[str, Optional[str]] = {}

    def follow(self, outcome: Mapping[str, Optional[str]]) -> None:
        """Use the language and time zone from an outcome for the run as a whole.

        A later outcome replaces an earlier one.
        """
        chosen = {key: outcome[key] for key in ("language", "timezone") if outcome.get(key)}
        self._of_run = {**self._of_run, **chosen}

    def of_run(self) -> catalogue.Words:
        """Return the catalogue for text about the run as a whole."""
        return self.of(self._of_run.get("language"), self._of_run.get("timezone"))

    def of(self, language: Optional[str], timezone: Optional[str]) -> catalogue.Words:
        """Return the catalogue for an incident with this language and time zone."""
        return catalogue.of(language or self._language, timezone or self._timezone)
