# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB=two words\n", {"A": "1", "B": "two words"}),
        ("A=last line without newline", {"A": "last line without newline"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("  A = spaced out \t\n", {"A": "spaced out"}),
        ("# A=1\n; B=2\n  # C=3\nD=4#not a comment\n", {"D": "4#not a comment"}),
        ("# a comment \\\nA=1\n", {"A": "1"}),
        ("no assignment\nexport A=1\n1A=2\nA-B=3\n=4\nOK=5\n", {"OK": "5"}),
        ("A=\nB=''\nC=\"\"\n", {"A": "", "B": "", "C": ""}),
        ("A='one \\ $x \"'\n", {"A": 'one \\ $x "'}),
        ('A="q \\" b \\\\ d \\$ t \\` n \\n"\n', {"A": 'q " b \\ d $ t ` n \\n'}),
        ('A="  kept  "  \n', {"A": "  kept  "}),
        ("A='one'\"two\" three\n", {"A": "onetwothree"}),
        ("A=one \\\n  two\nB=3\n", {"A": "one   two", "B": "3"}),
        ('A="one \\\ntwo"\n', {"A": "one two"}),
        ('A="one\ntwo"\n', {"A": "one\ntwo"}),
        ("A=kept \\\n\nB=2\n", {"A": "kept ", "B": "2"}),
        ("A=back\\slash\\\\\n", {"A": "backslash\\"}),
        ("A=unquoted \"inner\" 'quotes'\n", {"A": "unquoted \"inner\" 'quotes'"}),
        ("A=$HOME/${X}\n", {"A": "$HOME/${X}"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A='open to the end  ", {"A": "open to the end  "}),
        ("名前=x\nA=日本語\n", {"A": "日本語"}),
        ("", {}),
    ],
)
def test_parsing_follows_systemd(text, expected):
    assert env_file.parse_environment(text) == expected


def test_a_file_is_read(tmp_path):
    path = tmp_path / "service.env"
    path.write_text("NODE_ENV=production\nJWT_SECRET='a b'\n")
    assert env_file.read_environment_file(str(path)) == {"NODE_ENV": "production", "JWT_SECRET": "a b"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.write_bytes(b"SECRET=\xff\n"), "byte 7 is not UTF-8"),
        (lambda path: path.write_bytes(b"SECRET=\0\n"), "NUL byte"),
        (lambda path: path.write_bytes(b"#" * (1024 * 1024 + 1)), "more than 1048576"),
    ],
)
def test_an_invalid_environment_file_is_refused_in_one_line(tmp_path, make, message):
    path = tmp_path / "service.env"
    make(path)
    with pytest.raises(env_file.EnvironmentFileError, match=message) as caught:
        env_file.read_environment_file(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
