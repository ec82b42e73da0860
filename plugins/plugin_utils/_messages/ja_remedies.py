# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages about remedies. The IDs are those of en_remedies.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # 対処しない理由
    "reason.remedy.not_allowed": "remediation_allowed で許可されていない",
    "reason.remedy.past": "原因調査の時点で、この原因はすでに解消していた可能性がある",
    "reason.remedy.proposed": "提案：{what}",
    "reason.remedy.owner_blocked": "サービスを起動できないため、データベースを変更しない：{why}",
    "reason.remedy.owner_not_root": "root が所有するデータベースのファイルはなく、別の権限が原因。ファイルとフォルダーのモードを手動で修正する",
    "reason.remedy.disk_not_full": "空き容量が不足しているファイルシステムはもうない",
    "reason.remedy.disk_no_globs": "remediation_disk_globs が空",
    "reason.remedy.memory_no_unit": "メモリ上限を設定できるのは systemd のユニットのみ",
    "reason.remedy.memory_no_sizes": "メモリ上限の提案も方針の指定もない",
    "reason.remedy.migration_none": "未適用のマイグレーションがなく、ロックも解除されている",
    "reason.remedy.modules_sound": "依存関係は lock ファイルと一致し、読み込める",
    "reason.remedy.release_unknown": "nexus_release_strategy が none のため、Playbook では前のリリースに戻せない。手動で戻すか、nexus_release_strategy を設定する",
    "reason.remedy.release_falls": "停止は{falls}回で、方針では{after}回から前のリリースに戻す",
    "reason.remedy.release_same": "すでにリリース {release} を使用中",
    "reason.remedy.process_hidden": "このユーザーにはプロセスを参照する権限がない",
    "reason.remedy.process_unlocked": "データベースをロックしているプロセスはもうない",
    "reason.remedy.process_off_port": "ポートを使用しているプロセスはもうない",
    "reason.remedy.tls_key_not_named": (
        "{path} の秘密鍵がインベントリで指定されていない。権限を変更できるのは、インベントリで指定した秘密鍵だけなので、nexus_tls_key_path を設定する"
    ),
    "reason.remedy.tls_no_way": "方針に、証明書への対処の指定がない。remediation_tls_renew_command、秘密鍵の権限、remediation_tls_disable_https_until のいずれかを設定する",
    # 対処の失敗の理由
    "reason.remedy.not_stopped": "停止すると再び起動できないため、この対処のためのサービスの停止は行わなかった：{why}",
    "reason.remedy.disk_short": "{freed}バイトを解放したが、{mounts} の空き容量がまだ不足している",
    "reason.remedy.disk_would_be_short": "解放できるのは{freed}バイトのみのため、{mounts} の空き容量がまだ不足する",
    "reason.remedy.disk_kept": "書き込み中などの理由で残した最大のファイル：{files}",
    "reason.remedy.migration_left": "マイグレーションの後も未適用のものが残っている：{names}",
    "reason.remedy.release_refused": "リリース {release} に切り替えなかった：{why}",
    "reason.remedy.release_restored": "{new} の依存関係をインストールできないため、リリース {old} に戻した：{why}",
    "reason.remedy.process_replaced": "停止したプロセスに代わる新しいプロセスがある：PID {pids}",
    "reason.remedy.tls_not_served": "サービスが HTTPS で応答できない：{why}",
    "reason.remedy.tls_unknown": "証明書のパスが不明",
    # 対処の内容と結果
    "deed.backup": "バックアップ：{path}",
    "deed.file": "{path}",
    "deed.owner": "{files} の所有者をユーザー {user} に戻す",
    "deed.owner_done": "{file} の所有者は {owner}",
    "deed.disk": "{mounts} の空き容量を{wanted}確保する（{globs} に一致するファイルを古い順に削除）",
    "deed.disk_bytes": "{number}バイト",
    "deed.disk_inodes": "inode {number}個",
    "deed.disk_removed": "{path} を削除（{size}バイト）",
    "deed.disk_file": "{path}（{size}バイト）",
    "deed.memory": "ユニット {unit} に {sizes} をドロップインで設定する（次回の起動から有効）",
    "deed.migration": "サービスを停止し、データベースをバックアップして、未適用のマイグレーションを適用する：{names}",
    "deed.migration_unlock": "サービスを停止し、データベースをバックアップし、残ったロックを解除して、未適用のマイグレーションを適用する：{names}",
    "deed.migration_nothing": "なし",
    "deed.migration_applied": "{name} を適用",
    "deed.modules": "lock ファイルから依存関係を別のフォルダーに構築し、現在のものと入れ替える",
    "deed.release": "サービスを停止し、データベースをバックアップして、リリース {old} から {new} に戻す",
    "deed.release_left": "リリースを {old} から {new} に戻し済み",
    "deed.release_modules": "依存関係をインストール",
    "deed.release_modules_kept": "依存関係は変更なし",
    "deed.stop": "このアプリケーションのプロセス、または方針で許可されたプロセスであれば停止する：{processes}",
    "deed.stop_process": "PID {pid}（{command}）",
    "deed.left": "PID {pid}：{reason}",
    "deed.stopped": "PID {pid} を停止",
    "deed.tls_key": "秘密鍵 {path} の権限を設定する",
    "deed.tls_renew": "{program} を実行する",
    "deed.tls_plain": "証明書がまだ使用できない場合、{until} まで HTTPS を無効にする",
    "deed.tls_key_done": "秘密鍵の権限を設定済み",
    "deed.tls_renewed": "証明書を更新済み",
    "deed.tls_valid": "有効期限 {at}",
    "deed.tls_off": "{until} まで HTTPS は無効（パスワードは暗号化されずに送信される）",
    "next_step.approval.wanted": "{host} の {service} のクリーンスタートを承認または却下する",
    "next_step.approval.reason": "実行の理由：{reason}。チケット：{ticket}",
    "next_step.approval.cause": "最も可能性の高い原因：{cause}",
    "next_step.approval.effect": "クリーンスタートでは、サービスを停止し、検証済みのバックアップを作成し、WAL をチェックポイントし、モジュールを再構築してから、サービスを起動する。行は削除しない",
    "next_step.approval.job": "所見と証拠：{job}",
}
