# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage of the certificate: whom it names, until when, whether its key fits, whether the service may read both."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
import time
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock, _command, _untrusted, _x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage_question import Question, found, read_theirs

_CERTIFICATE_NAME = re.compile(r"(?:\w+_)?(?:SSL|TLS|HTTPS)_(?:CERT|CRT|CERTIFICATE)_(?:PATH|FILE)")
_KEY_NAME = re.compile(r"(?:\w+_)?(?:SSL|TLS|HTTPS)_(?:PRIVATE_?)?KEY_(?:PATH|FILE)")
# What OpenSSL itself reads, under this and longer names: those it trusts, not what it serves.
_TRUSTED = "SSL_CERT_FILE"


def names_certificate(name: str) -> bool:
    """Whether a variable of this name holds the path of a certificate that is served."""
    return _CERTIFICATE_NAME.fullmatch(name) is not None and not name.endswith(_TRUSTED)


def names_key(name: str) -> bool:
    """Whether a variable of this name holds the path of a certificate's key."""
    return _KEY_NAME.fullmatch(name) is not None


def described(der: bytes) -> Dict[str, Any]:
    """Return what is to be known of a certificate. Raises CertificateError."""
    facts = _x509.describe(der)
    begin, end = facts["not_before"], facts["not_after"]
    return {
        **{name: facts[name] for name in ("subject", "issuer", "names")},
        "not_before": _clock.iso(begin),
        "not_after": _clock.iso(end),
        "expired": end < time.time(),
        "not_yet_valid": begin > time.time(),
        "fingerprint": hashlib.sha256(der).hexdigest(),
    }


def _pair(question: Question) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return path and source of the certificate and of its key: as configured here, else as the variables say."""
    service, known = question.service, question.known
    pair: List[Dict[str, Any]] = []
    for kind, option in (("certificate", "tls_cert_path"), ("key", "tls_key_path")):
        path = getattr(service, option)
        named = known.get(kind) or {}
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


def _problem(path: str) -> Optional[str]:
    """Return why a path cannot be read as a file by us; to open what is none might wait for ever."""
    try:
        os.close(_untrusted.open_file(path))
        return None
    except IsADirectoryError:
        return f"Cannot read {path}: it is not a regular file"
    except OSError as error:
        return f"Cannot read {path}: {error.strerror}"


def _matches(certificate: str, key: str) -> Tuple[Optional[bool], Optional[str]]:
    """Return whether a key is the certificate's, C(None) and the reason where that cannot be told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with contextlib.suppress(ssl.SSLError):  # whether they are strong enough is not the question
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        if "ENCRYPTED" in read_theirs(key):
            return None, f"{key} needs a passphrase"
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            return False, f"{key} is not the key of {certificate}"
        return None, f"Cannot use {key}: {error.reason or 'it is no key in PEM form'}"
    return True, None


def certificate(question: Question) -> Dict[str, Any]:
    """Read the certificate's file and its key, at last as the user the service runs as."""
    facts, key = _pair(question)
    for item in (facts, key):
        item.update(exists=None, error=None)
        if item["path"]:
            item["exists"] = os.path.lexists(item["path"])
            item["error"] = _problem(item["path"])
    key["matches"] = None
    if facts["path"] and not facts["error"]:
        try:
            facts.update(described(_x509.from_pem(read_theirs(facts["path"]))))
        except _x509.CertificateError as error:
            facts["error"] = f"Cannot use {facts['path']}: {error}"
        else:
            if key["path"] and not key["error"]:
                key["matches"], key["error"] = _matches(facts["path"], key["path"])
    facts["readable_by_service"] = key["readable"] = None
    with contextlib.suppress(_command.CommandError):  # not root: what another user can read is not ours to try
        become = _command.drop_to(question.service.user)
        if become is not None:
            become()  # this process answers this one question and ends
        for item, name in ((facts, "readable_by_service"), (key, "readable")):
            if item["exists"]:
                item[name] = os.access(item["path"], os.R_OK)
    return found({**facts, "key": key})
