# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of environment variables and files in which Node applications usually keep their settings."""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

_CERTIFICATE_NAME = lazy(r"(?:\w+_)?(?:SSL|TLS|HTTPS)_(?:CERT|CRT|CERTIFICATE)_(?:PATH|FILE)")
_KEY_NAME = lazy(r"(?:\w+_)?(?:SSL|TLS|HTTPS)_(?:PRIVATE_?)?KEY_(?:PATH|FILE)")
# OpenSSL reads its trusted certificates from the file that this variable specifies. The service's own certificate is
# not in this file.
_TRUSTED = "SSL_CERT_FILE"

# Files that an application reads itself (dotenv), relative to the application's folder.
OWN_FILES = (".env", "backend/.env")


def names_certificate(name: str) -> bool:
    """Return True if a variable with this name contains the path of the service's certificate."""
    return _CERTIFICATE_NAME.fullmatch(name) is not None and not name.endswith(_TRUSTED)


def names_key(name: str) -> bool:
    """Return True if a variable with this name contains the path of a private key."""
    return _KEY_NAME.fullmatch(name) is not None
