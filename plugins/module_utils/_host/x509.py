# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse the dates and names of a certificate, because Python's standard library can only verify certificates.

RFC 5280, section 4.1, defines the structure of a certificate, and X.690 defines its encoding (DER).
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from typing import Any, Dict, Iterator, List, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"

_UTC_TIME = 0x17
_CONTEXT_0 = 0xA0
_CONTEXT_3 = 0xA3
_OCTET_STRING = 0x04
_STRING_16_BIT = 0x1E

# Attribute types of a subject (RFC 4519), as their DER bytes.
_ATTRIBUTES: Dict[bytes, str] = {
    b"\x55\x04\x03": "CN",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
    b"\x55\x04\x06": "C",
}

# The subjectAltName extension (RFC 5280 section 4.2.1.6), and the two types of names that servers use in this
# extension.
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_DNS_NAME = 0x82
_IP_ADDRESS = 0x87


class CertificateError(MessageError):
    """The bytes are not a certificate."""

    templates = messages.ENGLISH


def _elements(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield (tag, content) of each element of DER data."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > len(data):
            raise ValueError("an element reaches beyond the end")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # the year has two digits, and 50 to 99 mean 1950 to 1999 (RFC 5280)
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    if len(text) != len("20260302010203Z") or not text[:-1].isdigit() or text[-1] != "Z":
        raise ValueError(f"not a time in UTC: {text!r}")
    # strptime is not used, because it loads slowly.
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(4, 14, 2))
    moment = datetime.datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
    return moment.timestamp()


def _name(content: bytes) -> str:
    parts = []
    for _set, relative in _elements(content):
        for _sequence, pair in _elements(relative):
            (_oid, kind), (tag, value) = list(_elements(pair))[:2]
            if kind in _ATTRIBUTES:
                text = value.decode("utf-16-be" if tag == _STRING_16_BIT else "utf-8", "replace")
                parts.append(f"{_ATTRIBUTES[kind]}={text}")
    return ", ".join(parts)


def _alternative_names(extensions: bytes) -> List[str]:
    """Return the host names and the addresses in a certificate's extensions."""
    names = []
    for _sequence, extension in _elements(next(_elements(extensions))[1]):
        fields = list(_elements(extension))
        if fields[0][1] != _ALTERNATIVE_NAMES or fields[-1][0] != _OCTET_STRING:
            continue
        for kind, value in _elements(next(_elements(fields[-1][1]))[1]):
            if kind == _DNS_NAME:
                names.append(value.decode("ascii", "replace"))
            elif kind == _IP_ADDRESS:
                names.append(str(ipaddress.ip_address(value)))
    return names


def describe(der: bytes) -> Dict[str, Any]:
    """Return facts about a certificate in DER format.

    not_before, not_after: seconds since the epoch. subject, issuer: text. names: the host names and addresses for which
    the certificate is valid, or an empty list if there is no subjectAltName. Raises CertificateError.
    """
    try:
        ((_tag, certificate),) = list(_elements(der))[:1]
        body = next(_elements(certificate))[1]
        fields = [field for field in _elements(body) if field[0] != _CONTEXT_0]  # [0] is the version
        (_serial, _algorithm, issuer, validity, subject) = fields[:5]
        begin, end = list(_elements(validity[1]))[:2]
        extensions = next((content for tag, content in fields if tag == _CONTEXT_3), None)
        return {
            "not_before": _time(*begin),
            "not_after": _time(*end),
            "subject": _name(subject[1]),
            "issuer": _name(issuer[1]),
            "names": [] if extensions is None else _alternative_names(extensions),
        }
    except (ValueError, IndexError, StopIteration) as error:
        raise CertificateError(message("reason.host.not_x509", why=str(error))) from error


def from_pem(text: str) -> bytes:
    """Return the first certificate in a PEM file as DER.

    The server's certificate comes first, before those of its issuers.

    Raises CertificateError.
    """
    begin = text.find(_BEGIN)
    end = text.find(_END, begin)
    if begin < 0 or end < 0:
        raise CertificateError(message("reason.host.no_pem"))
    try:
        return ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)])
    except ValueError as error:
        raise CertificateError(message("reason.host.not_pem", why=str(error))) from error
