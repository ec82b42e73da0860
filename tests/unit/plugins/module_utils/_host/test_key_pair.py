# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If a key is for another certificate, it is reported as a mismatch, regardless of its type."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import key_pair

KINDS = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}


def made(folder: Path, kind: str, name: str) -> tuple[bytes, bytes]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    argv = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=x", "-newkey", *KINDS[kind]]
    subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate.read_bytes(), key.read_bytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("other", sorted(KINDS))
def test_a_key_of_another_certificate_is_a_mismatch(tmp_path: Path, kind: str, other: str) -> None:
    certificate, key = made(tmp_path, kind, "own")
    _other_certificate, other_key = made(tmp_path, other, "other")
    assert key_pair.why_unlike(certificate, key) == ""
    assert key_pair.why_unlike(certificate, other_key) == key_pair.MISMATCH
