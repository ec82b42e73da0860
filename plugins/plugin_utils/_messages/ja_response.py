# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - full-width punctuation is how Japanese is written.

"""Japanese for the reasons of a first response, under the ids of module_utils/_response/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "reason.response.running": "サービスのプロセスがあります",
    "reason.response.incident": "インシデントが新規でないか、データの状態が未確定です",
    "reason.response.held": "サービスは起動保留中です",
    "reason.response.unit": "ユニットの状態は {state} です",
    "reason.response.not_collected": "原因調査の項目 {part} を取得できませんでした",
    "reason.response.unchecked": "データベースの検査を完了できませんでした",
    "reason.response.rows": "データベースの行が失われている可能性があります",
    "reason.response.modules": "node_modules がロックファイルと一致しないか、比較できませんでした",
    "reason.response.finding": "所見：{summary}",
    "reason.response.evidence": "証拠を保存できませんでした：{why}",
    "reason.response.unrecorded": "試行を記録できませんでした：{why}",
    "reason.response.not_started": "起動に失敗しました：{why}",
}
