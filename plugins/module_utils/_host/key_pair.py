# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check with OpenSSL, on private copies, whether a certificate and a private key match.

OpenSSL opens files by path, and waits forever if a path is a FIFO. The service's user may own the certificate and the
private key, and could replace a file after a check. Therefore, callers read both files through descriptors and pass the
content. OpenSSL opens unnamed copies in memory.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from typing import IO, Iterator, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel

# Time limit in seconds. A crafted certificate keeps some versions of OpenSSL busy forever (CVE-2022-0778).
_TIMEOUT = 10.0
MISMATCH = "KEY_VALUES_MISMATCH"
# Reasons that OpenSSL gives if the key has a different type than the certificate, for example RSA instead of EC.
_OTHER_TYPE = ("KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
PASSPHRASE = "it needs a passphrase"  # noqa: S105 - a message


@contextlib.contextmanager
def _private_copy(data: bytes) -> Iterator[str]:
    """Yield the /proc path of an unnamed file that contains data. Raises OSError."""
    with contextlib.ExitStack() as stack:
        stream: IO[bytes]
        try:
            stream = stack.enter_context(os.fdopen(os.memfd_create("itsm-nexus"), "wb"))
        except OSError:  # the kernel forbids files in memory (vm.memfd_noexec)
            stream = stack.enter_context(tempfile.TemporaryFile())
        stream.write(data)
        stream.flush()
        yield f"/proc/self/fd/{stream.fileno()}"


def _load(certificate: bytes, key: bytes) -> str:
    def no_passphrase() -> str:
        raise ValueError(PASSPHRASE)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with contextlib.suppress(ssl.SSLError):  # accept weak keys, because the service itself decides whether to use them
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        with _private_copy(certificate) as certificate_path, _private_copy(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=no_passphrase)
    except ssl.SSLError as error:
        return MISMATCH if error.reason in _OTHER_TYPE else error.reason or str(error)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def why_unlike(certificate: bytes, key: bytes, *, timeout: Optional[float] = None) -> str:
    """Return the reason why a certificate and a private key (PEM) do not match, or an empty string if they match.

    If the key does not match the certificate, the result is MISMATCH. If the key is encrypted, the result is
    PASSPHRASE. In all other cases, the result is the reason that OpenSSL gives. OpenSSL runs in a separate process, for
    at most timeout seconds (10 if timeout is None).
    """
    limit = _TIMEOUT if timeout is None else timeout
    answer = parallel.ask({"pair": lambda: _load(certificate, key)}, timeout=limit)["pair"]
    if answer.error is not None:
        return f"OpenSSL {answer.error}" + (f" after {limit:g} s" if answer.error == parallel.TIMED_OUT else "")
    return str(answer.value)
