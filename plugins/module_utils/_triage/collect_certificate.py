# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the certificate and its private key: names, validity, match and readability.

The service's environment may specify any file. Therefore, both files are read with the rights of the service's user.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import key_pair, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, found

_LARGEST = 1 << 20


def described(der: bytes) -> Dict[str, Any]:
    """Return facts about a certificate in DER format. Raises CertificateError."""
    facts = x509.describe(der)
    begin, end = facts["not_before"], facts["not_after"]
    return {
        **{name: facts[name] for name in ("subject", "issuer", "names")},
        "not_before": timestamps.iso(begin),
        "not_after": timestamps.iso(end),
        "expired": end < time.time(),
        "not_yet_valid": begin > time.time(),
        "fingerprint": hashlib.sha256(der).hexdigest(),
    }


def _pair(question: Question, *, settings_only: bool) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the path and source of the certificate and of its private key.

    The role's settings take precedence over the service's environment. settings_only: ignore the environment.
    """
    service = question.service
    pair: List[Dict[str, Any]] = []
    for kind, option in (("certificate", "tls_cert_path"), ("key", "tls_key_path")):
        path = getattr(service, option)
        named = {} if settings_only else question.known.environment.get(kind) or {}
        if path:
            pair.append({"path": service.path(path), "source": option})
        else:
            pair.append({"path": named.get("path"), "source": named.get("source")})
    certificate, key = pair
    if certificate["path"] and not key["path"]:
        beside = os.path.splitext(certificate["path"])[0] + ".key"
        if os.path.isfile(beside):
            key.update(path=beside, source="beside the certificate")
    return certificate, key


def _content(path: str) -> Tuple[bytes, Optional[str]]:
    """Return (content, error) of a regular file. error: the reason why the file cannot be read, or None."""
    try:
        return safe_open.read(path, limit=_LARGEST), None
    except IsADirectoryError:
        return b"", f"Cannot read {path}: it is not a regular file"
    except OSError as error:
        return b"", f"Cannot read {path}: {error.strerror}"


def _matches(
    certificate: str, key: str, certificate_pem: bytes, key_pem: bytes
) -> Tuple[Optional[bool], Optional[str]]:
    """Return (matches, reason).

    matches: True if the private key matches, False if not, or None if unknown. reason: the reason why it does not match
    or why this is unknown, or None if it matches.
    """
    if b"ENCRYPTED" in key_pem:
        return None, f"{key} needs a passphrase"
    why = key_pair.why_unlike(certificate_pem, key_pem)
    if why == key_pair.MISMATCH:
        return False, f"{key} is not the key of {certificate}"
    return (None, f"Cannot use {key}: {why}") if why else (True, None)


def _act_as(user: str) -> bool:
    """Permanently switch this process to the service's user, and return True if it has this user's rights.

    Return False if the user does not exist, or only root could switch to this user.
    """
    try:
        become = commands.drop_to(user)
    except commands.CommandError:
        return False
    if become is not None:
        become()  # the process cannot switch back, but it collects only this part
    return True


def _exists(path: str) -> bool:
    """Return True if a file exists or if this process cannot reach it."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def certificate(question: Question) -> Dict[str, Any]:
    """Check the certificate and its private key, and whether the service's user can read both files."""
    as_service = _act_as(question.service.user)
    # Root does not read files that the service's environment specifies.
    facts, key = _pair(question, settings_only=os.geteuid() == 0 and question.service.user != "root")
    # The content of the files is not part of the facts, because a private key is a secret.
    contents: List[bytes] = []
    for item in (facts, key):
        item.update(exists=None, error=None)
        content = b""
        if item["path"]:
            item["exists"] = _exists(item["path"])
            content, item["error"] = _content(item["path"])
        contents.append(content)
    key["matches"] = None
    if facts["path"] and not facts["error"]:
        try:
            facts.update(described(x509.from_pem(contents[0].decode("utf-8", "replace"))))
        except x509.CertificateError as error:
            facts["error"] = f"Cannot use {facts['path']}: {error}"
        else:
            if key["path"] and not key["error"]:
                key["matches"], key["error"] = _matches(facts["path"], key["path"], *contents)
    for item, name in ((facts, "readable_by_service"), (key, "readable")):
        item[name] = os.access(item["path"], os.R_OK) if item["exists"] and as_service else None
    return found({**facts, "key": key})
