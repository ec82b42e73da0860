# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages about a degraded service. The IDs are those of module_utils/_readiness/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "finding.db_corrupt.in_use": "データベース {path} に問題がある：{why}",
    "finding.db_locked.blocks_all": "プロセス {pid}（{command}、ユーザー {user}、起動から{age}）が少なくとも {seconds} 秒間、データベースへの書き込みをすべてブロックしている",
    "finding.db_locked.by_service": "サービス自身（プロセス {pid}）が少なくとも {seconds} 秒間、書き込みトランザクションを開いたままにし、ほかの書き込みをすべてブロックしている",
    "finding.db_locked.unseen": "このホストから見えないプロセスが少なくとも {seconds} 秒間、データベースへの書き込みをすべてブロックしている",
    "finding.wal_growing": "データベース {path} の -wal ファイルが {mib} MiB に達しており、チェックポイントで空にならないため増え続けている",
    "finding.disk_full.percent": "{mount} の空き容量がほとんどない（使用率 {percent} %）",
    "finding.disk_full.no_inodes": "{mount} の空き inode がほとんどないため、ファイルを作成できない可能性がある",
    "finding.disk_filling.space": "{mount} の使用率は {percent} % で、このままでは {minutes} 分後に空きがなくなる",
    "finding.disk_filling.inodes": "{mount} の inode の使用率は {percent} % で、このままでは {minutes} 分後に空きがなくなる",
    "finding.too_many_files.near": "プロセス {pid} が、上限 {limit} のうち {open_files} のファイルと接続を開いている",
    "finding.tls_expired.served": "TLS 証明書の有効期限が {at} に切れた",
    "finding.tls_expiring": "TLS 証明書の有効期限が {at} に切れる（残り {days} 日）",
    "finding.frequent_restarts": "この 1 時間に systemd がサービスを {times} 回再起動した",
    "finding.memory_pressure": "直前の 1 分間のうち {percent} % の時間、すべてのプロセスがメモリを待っていた",
    "finding.clock_jump": "ホストの時刻が {seconds} 秒変更された",
    "finding.slow.slow": "サービスの応答に {seconds} 秒かかっている",
    "finding.slow.slower": "サービスの応答に {seconds} 秒かかっている（通常は {usual} 秒）",
    "finding.not_ready.status": "ready エンドポイント {path} が準備未完了を報告している（ステータス {status}）",
    "finding.not_ready.checks": "ready エンドポイント {path} が準備未完了を報告している：{checks}",
    "finding.not_ready.silent": "ready エンドポイント {path} が応答しない：{why}",
    "finding.login_refused": "ログインできない：{why}",
    # データベースの破損と、保留を解除した担当者。
    "finding.accepted": "{summary}。担当者が {at} に了承済み：{reason}",
    "finding.not_accepted": "{summary}。{at} に保留を解除した担当者（{reason}）は、この破損を了承していない",
    "remedy.accepted": "データベースを修復または復元する時刻を決めてから、database_recover.yml を実行する。先に --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "finding.unconfirmed": "未解決のインシデントの問題を再確認できなかった：{why}",
    "reason.unready.status": "{path} はステータス {status} を返した",
    "reason.unready.late": "確認が {seconds} 秒以内に終わらなかった",
    "reason.unready.path": "データベースのパスが不明",
    "reason.unready.process": "このユーザーにはプロセスが見えない",
    "reason.unready.error": "{why}",
}
