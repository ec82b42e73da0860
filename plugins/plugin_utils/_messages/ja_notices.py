# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages for notifications. The IDs are those of en_notices.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "notice.failed": "{action}（失敗）",
    "notice.suspected": "疑いあり。DBA が対応を決めるまで何も変更しない",
    "notice.suspected_again": "疑いあり。DBA が対応を決めるまで何も変更しない。データベースの復旧により、すでに行が失われている",
    "notice.not_confirmed": "{verdict}。以前の通知で疑われた損失は確認されなかった",
    "notice.because": "{verdict}。疑いの理由：{why}",
    "notice.place": "{path}（コントローラー {host}）",
    "notice.see_cause": "原因を参照",
    "notice.login_again": "ログインを再確認し、成功",
    "notice.no_channel": "{name}には通知経路がないため、通知していない。escalation_contacts.{contact}.channels に通知経路を追加する（例：{{type: mail, to: name@example.com}}）",
    "notice.stopped": "停止要求による停止",
    "notice.lost": "{rows}を損失",
    "notice.lost_least": "{rows}以上を損失",
    "notice.lost_unknown": "損失行数は不明",
    "notice.seeded": "{rows}（復旧したデータではない）。空のテーブルには起動のたびに作成されるため、今は削除しない。失われた行をこれらのテーブルに戻す前にポストモーテムを確認する（戻した後に、自動作成された行を削除するコマンドを記載）",
    "notice.prevention": "ポストモーテムの第6節で、未完了の再発防止策に対応する",
    "asked.data_loss": "このデータベースでサービスを起動しない。証拠を確認する。database_recover.yml を --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "asked.data_loss_unknown_cause": "このデータベースでサービスを起動しない。証拠を確認する。database_recover.yml を --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "asked.data_loss_long_outage": "このデータベースでサービスを起動しない。証拠を確認する。database_recover.yml を --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "asked.data_loss_known": "まずサービスを復旧する。その後、失われた行のうち再入力が必要なものを利用者と確認する",
    "asked.data_in_doubt": "サービスの稼働を続けてよいか判断する。database_recover.yml を --check で実行すると、復旧方法ごとに失われるデータを確認できる",
    "asked.degraded": "原因に対処する。その間もサービスは稼働を続ける",
    "asked.degraded_database": "database_recover.yml を --check で実行し、復旧方法ごとに失われるデータを確認する。次にサービスを停止する時刻を決め、--check なしで実行する",
    "asked.long_outage": "担当者を決めて証拠を確認し、利用者へ状況を知らせる",
    "asked.unknown_cause": "担当者を決めて証拠を確認する。実施した手順では復旧しておらず、繰り返しても復旧しない",
    "asked.not_recovered": "原因に対処してから、Playbook を再度実行する",
    "asked.login_failed": "ログインできることと、ログイン確認に使うアカウントを確認し、Playbook を再度実行する",
    "asked.repeated_restarts": "サービスの起動が繰り返された理由を調べる。各停止の原因は、そのインシデントのポストモーテムに記載",
    "asked.reachable_again": "再び接続できただけの段階。この実行の結果を待つ",
    "asked.nothing": "緊急の対応は不要。今後の対応はポストモーテムを参照する",
    "asked.count_rows": "障害後に行数を集計していないため、outage_verify.yml を実行する。再発防止策はポストモーテムに記載",
    "asked.count_rows_again": "サービスの最後の起動より後に行数を集計していないため、outage_verify.yml を実行する。今後の対応はポストモーテムを参照する",
    "asked.find_out": "状況を確認する",
}
