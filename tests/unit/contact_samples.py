# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sample contacts, rules and earlier notifications for tests, and the resulting notification plan."""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import rules as notification_rules

URL = "https://hooks.example.com/services/verysecretpath"
CONTACTS = {
    "leader": {
        "name": "the leader",
        "channels": [
            {"type": "mail", "to": "leader@example.com"},
            {"type": "pagerduty", "routing_key": "verysecretkey"},
        ],
    },
    "dba": {"name": "the DBA", "channels": [{"type": "webhook", "shape": "slack", "url": URL}]},
    "team": {"channels": [{"type": "webhook", "shape": "teams", "url": URL, "name": "war room"}]},
    "spare": "somebody",
}
MAIL, PAGER, SLACK, ROOM = "mail leader@example.com", "pagerduty", "slack hooks.example.com", "war room"


def rules(applies):
    """Return notification rules for several levels. `when` is True only for "record" and for the rule `applies`."""
    rows = [
        ("data", None, ["leader", "dba"]),
        ("long", "everyone", ["team"]),
        ("unknown", "everyone", ["team"]),
        ("down", None, ["leader"]),
        ("record", None, []),
    ]
    return [
        {
            "name": name,
            "when": name in (applies, "record"),
            "to": to,
            "reason": f"why {name}",
            **({"level": level} if level else {}),
        }
        for name, level, to in rows
    ]


def told(level, contact, channel, ok=True):
    return {"level": level, "contact": contact, "channel": channel, "at": "", "ok": ok, "error": ""}


def plan(applies, before=(), *, recovered=False, acknowledged=False, contacts=CONTACTS):
    return notification_rules.plan(
        rules(applies), contacts=contacts, notified=list(before), recovered=recovered, acknowledged=acknowledged
    )


DOWN = [("down", "leader", MAIL), ("down", "leader", PAGER)]
DOWN_TOLD = [told(*each) for each in DOWN]
