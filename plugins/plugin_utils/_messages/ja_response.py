# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""Japanese messages about a first response. The IDs are those of module_utils/_response/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "reason.response.running": "サービスのプロセスがある",
    "reason.response.incident": "インシデントが新規でないか、データの状態が未確定",
    "reason.response.held": "サービスは起動保留中",
    "reason.response.unit": "ユニットの状態は {state}",
    "reason.response.not_collected": "原因調査の項目 {part} を取得できなかった",
    "reason.response.unchecked": "データベースの検査を完了できなかった",
    "reason.response.rows": "データベースの行が失われている可能性がある",
    "reason.response.modules": "node_modules がロックファイルと一致しないか、比較できなかった",
    "reason.response.finding": "所見：{summary}",
    "reason.response.evidence": "証拠を保存できなかった：{why}",
    "reason.response.unrecorded": "試行を記録できなかった：{why}",
    "reason.response.not_started": "起動に失敗した：{why}",
}
