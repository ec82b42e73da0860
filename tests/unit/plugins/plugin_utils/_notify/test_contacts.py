# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Contacts and the names of their channels."""

from __future__ import annotations

import pytest
from contact_samples import URL

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import contacts as notification_contacts


@pytest.mark.parametrize(
    ("channel", "label"),
    [
        ({"type": "mail", "to": ["a@example.com", "b@example.com"]}, "mail a@example.com, b@example.com"),
        ({"type": "webhook", "shape": "teams", "url": URL}, "teams hooks.example.com"),
        ({"type": "http", "url": "https://[verysecretpath", "secret": "verysecretkey"}, "http"),
        ({"type": "pagerduty", "routing_key": "verysecretkey"}, "pagerduty"),
        ({"type": "command", "argv": ["/usr/local/bin/ring", "verysecretkey"]}, "command ring"),
        ({"type": "our_gateway", "number": 1}, "our_gateway"),
    ],
)
def test_a_channel_is_named_without_secrets(channel, label):
    (found,) = notification_contacts.channels({"leader": {"channels": [channel]}}, "leader")
    assert found.label == label
