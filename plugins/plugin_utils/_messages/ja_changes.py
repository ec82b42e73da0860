# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""Japanese messages about changes before an outage."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "doc.changes": "8. 停止前の変更点",
    "doc.changes.since": "最後に正常だった実行（{at}）との比較。原因の可能性が高い順に示す",
    "doc.changes.none": "最後に正常だった実行（{at}）以降の変更は見つからなかった",
    "doc.changes.unknown": (
        "不明（正常だった実行との比較を行っていない）。比較するには、サービスが正常なうちに、"
        "nexus_manifest_enabled を true（既定値）にして outage_verify.yml を実行しておく。"
    ),
    "doc.changes.more": "ほかに{number}件の変更がある",
    "doc.column.gap": "停止との時間差",
    "doc.column.changed": "変更対象",
    "doc.column.values": "変更内容",
    "doc.column.relation": "停止との関連",
    "screen.change": "直前の変更",
    "change": "{what}の{deed}",
    "change.before": "停止の{gap}前",
    "change.after": "停止の{gap}後",
    "change.between": "最後に正常だった実行以降",
    "change.plain": "{name}（{kind}）",
    "change.inside": "{inside} 内の {name}（{kind}）",
    "change.values": "{deed}：{before} → {after}",
    "change.none": "非表示",
    "change_what.changed": "変更",
    "change_what.added": "追加",
    "change_what.removed": "削除",
    "change_what.access": "所有者または権限の変更",
    "change_relation.named": "所見に記載：{cause}",
    "change_relation.explains": "原因となりうる：{cause}",
    "change_relation.possible": "可能性あり",
    "change_relation.unlikely": "可能性は低い",
    "change_relation.after": "停止後の変更（原因ではない）",
    "change_relation.ours": "この Playbook による変更",
    "change_kind.release": "リリース",
    "change_kind.code": "コード",
    "change_kind.lock_file": "lock ファイル",
    "change_kind.package_json": "依存関係の一覧",
    "change_kind.modules": "インストール済みモジュール",
    "change_kind.knexfile": "knexfile",
    "change_kind.migrations": "マイグレーション",
    "change_kind.schema": "データベースのスキーマ",
    "change_kind.environment": "環境変数",
    "change_kind.unit": "ユニット",
    "change_kind.certificate": "証明書",
    "change_kind.key": "秘密鍵",
    "change_kind.node": "Node",
    "change_kind.database": "データベースのファイル",
    "change_kind.host": "ホスト",
    "change_kind.kernel": "カーネル",
    "change_kind.packages": "パッケージ",
    "change_kind.network": "ネットワーク設定",
    "change_kind.python": "Python",
    "change_kind.timezone": "タイムゾーン",
}
