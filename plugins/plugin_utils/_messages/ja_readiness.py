# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and full-width punctuation is how Japanese is written.

"""Japanese for a service that answers but is degraded, under the ids of module_utils/_readiness/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "finding.db_corrupt.in_use": "データベース {path} に問題があります：{why}",
    "finding.db_locked.blocks_all": "プロセス {pid}（{command}、ユーザー {user}、起動から{age}）が少なくとも {seconds} 秒間、データベースへの書き込みをすべてブロックしています",
    "finding.db_locked.by_service": "サービス自身（プロセス {pid}）が少なくとも {seconds} 秒間、書き込みトランザクションを開いたままにし、ほかの書き込みをすべてブロックしています",
    "finding.db_locked.unseen": "このホストから見えないプロセスが少なくとも {seconds} 秒間、データベースへの書き込みをすべてブロックしています",
    "finding.wal_growing": "データベース {path} の -wal ファイルが {mib} MiB に達しており、チェックポイントで空にならないため増え続けています",
    "finding.disk_full.percent": "{mount} の空き容量がほとんどありません（使用率 {percent} %）",
    "finding.disk_full.no_inodes": "{mount} の空き inode がほとんどないため、ファイルを作成できません",
    "finding.disk_filling.space": "{mount} の使用率は {percent} % で、このままでは {minutes} 分後に空きがなくなります",
    "finding.disk_filling.inodes": "{mount} の inode の使用率は {percent} % で、このままでは {minutes} 分後に空きがなくなります",
    "finding.too_many_files.near": "プロセス {pid} が、上限 {limit} のうち {open_files} のファイルと接続を開いています",
    "finding.tls_expired.served": "TLS 証明書の有効期限が {at} に切れました",
    "finding.tls_expiring": "TLS 証明書の有効期限が {at} に切れます（残り {days} 日）",
    "finding.frequent_restarts": "この 1 時間に systemd がサービスを {times} 回再起動しました",
    "finding.memory_pressure": "直前の 1 分間のうち {percent} % の時間、すべてのプロセスがメモリを待っていました",
    "finding.clock_jump": "ホストの時刻が {seconds} 秒変更されました",
    "finding.slow.slow": "サービスの応答に {seconds} 秒かかっています",
    "finding.slow.slower": "サービスの応答に {seconds} 秒かかっています（通常は {usual} 秒）",
    "finding.not_ready.status": "ready エンドポイント {path} が準備未完了を報告しています（ステータス {status}）",
    "finding.not_ready.checks": "ready エンドポイント {path} が準備未完了を報告しています：{checks}",
    "finding.not_ready.silent": "ready エンドポイント {path} が応答しません：{why}",
    "finding.login_refused": "ログインできません：{why}",
    # データベースの損傷と、保留を解除した担当者。
    "finding.accepted": "{summary}。担当者が {at} に了承済み：{reason}",
    "finding.not_accepted": "{summary}。{at} に保留を解除した担当者（{reason}）は、この損傷を了承していません",
    "remedy.accepted": "データベースを修復または復元する時刻を決めてから、database_recover.yml を実行する。先に --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "finding.unconfirmed": "未解決のインシデントの問題を再確認できませんでした：{why}",
    "reason.unready.status": "{path} はステータス {status} を返しました",
    "reason.unready.late": "確認が {seconds} 秒以内に終わりませんでした",
    "reason.unready.path": "データベースのパスが不明です",
    "reason.unready.process": "このユーザーにはプロセスが見えません",
    "reason.unready.error": "{why}",
}
