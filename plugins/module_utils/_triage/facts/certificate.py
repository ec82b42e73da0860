# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the certificate and its private key."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import NOTHING, Part


class Validity(Part):
    """The subject of a certificate, and its validity period."""

    subject: Optional[str] = None
    not_before: Optional[str] = None
    not_after: Optional[str] = None
    expired: Optional[bool] = None
    not_yet_valid: Optional[bool] = None

    @property
    def outdated(self) -> bool:
        """True if the certificate is not currently valid."""
        return bool(self.expired or self.not_yet_valid)


class Key(Part):
    """The private key.

    readable: True if the service's user can read the key. matches: True if the key matches the certificate.
    """

    path: Optional[str] = None
    exists: Optional[bool] = None
    readable: Optional[bool] = None
    matches: Optional[bool] = None


def _unusable(file: Union[Certificate, Key]) -> bool:
    """Return True if no account can use the file.

    The result is False if the file can be used with another permission or with a passphrase.
    """
    error = file.error or "" if file.exists else ""
    return bool(error) and not any(words in error for words in ("Permission denied", "passphrase"))


class Certificate(Validity):
    """The certificate file."""

    path: Optional[str] = None
    exists: Optional[bool] = None
    readable_by_service: Optional[bool] = None
    # Facts collected about the private key.
    key: Mapping[str, Any] = NOTHING

    def fault(self) -> str:
        """Return the known problem with the certificate or private key on disk, or an empty string if there is none."""
        key = Key.of(self.key)
        faults = {
            "missing": self.exists is False,
            "unreadable": self.readable_by_service is False or _unusable(self),
            "key_missing": key.exists is False,
            "key_unreadable": key.readable is False or (key.matches is None and _unusable(key)),
            "key_mismatch": key.matches is False,
            "expired": bool(self.expired),
            "not_yet_valid": bool(self.not_yet_valid),
        }
        return next((name for name, so in faults.items() if so), "")
