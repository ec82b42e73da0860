# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""Japanese messages about the start guard, and about process exits that the restart recorder saved."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "ends.restarts": "直近 1 時間の systemd による再起動は {number} 回",
    "ends.after": "{how} の後が {number} 回",
    "ended_how.oom-kill": "メモリ不足による強制終了",
    "ended_how.host-down": "ホストの再起動または電源断",
    "ended_how.timeout": "タイムアウト",
    "ended_how.watchdog": "ウォッチドッグのタイムアウト",
    "ended_how.stopped": "担当者による停止",
    "screen.restarts": "再起動",
    "source.start guard": "起動ガード",
    "reason.hold.refused": "起動ガードが起動を拒否している：{why}",
    "module.start_guard_info": "起動ガードの状態の確認",
    "part.start_guard": "起動ガード",
}
