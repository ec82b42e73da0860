# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages about backups and restore drills. The IDs are those of module_utils/_backups/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # バックアップ
    "reason.backup.running": "このホストで別のバックアップまたは復元訓練を実行中（ロック：{path}）",
    "reason.backup.list_not.read": "バックアップの一覧 {path} を読み取れない：{why}。バックアップの作成も削除もしていない。このファイルを別の場所に移動すること（一覧にあったバックアップは削除されなくなる）",
    "reason.backup.list_not.write": "バックアップの一覧 {path} に書き込めない：{why}",
    "reason.backup.not_listed": "{path} はバックアップの一覧に存在しない",
    "reason.backup.not_verified": "{path} はバックアップの一覧にあるが、検証されていない。作成した実行が強制終了されたか、まだ実行中",
    "reason.backup.not_removed": "古いバックアップ {path} を削除できない：{why}",
    "reason.backup.not_read": "バックアップ {path} を読み取れない：{why}",
    "reason.backup.changed": "バックアップ {path} のサイズが検証時の {listed} バイトから {size} バイトに変わった",
    "reason.backup.fewer": (
        "バックアップ {path} は正常だが、前回のバックアップにあった表、または半数を超える行が失われている：{tables}。古いバックアップは削除していない。意図した削除であれば、"
        "backup_accept_fewer_rows=true で一度バックアップを実行すること"
    ),
    "reason.backup.table": "{table}：{rows}行から{now}行に減少",
    "reason.backup.command_user": "バックアップを別のホストにコピーできなかった：このホストにユーザー {user} が存在しない。command_user（backup_off_host_user）に既存のユーザーを設定すること",
    "reason.backup.command_not_run": "バックアップを別のホストにコピーできなかった：{program} を実行できない：{why}",
    "reason.backup.command_late": "バックアップを別のホストにコピーできなかった：{program} が{seconds}秒以内に終わらず、強制終了した",
    "reason.backup.command_failed": "バックアップを別のホストにコピーできなかった：{program} が終了コード {code} で終了した：{said}",
    "reason.backup.command_silent": "出力なし",
    # 復元訓練
    "reason.drill.no_systemd": "復元訓練には、サービスを専用のネットワークで動かすための systemd が必要（nexus_manager は {manager}）",
    "reason.drill.as_root": "復元訓練ではサービスを root として起動しない。ユニット {unit} に User= を設定すること",
    "reason.drill.no_command": "ユニット {unit} に ExecStart のコマンドが存在しない",
    "reason.drill.not_a_file": "backup {path} は通常のファイルではない",
    "reason.drill.no_room": "復元訓練には {folder} に {needed} バイトの空きが必要だが、空きは {free} バイト。空きを増やすか、scratch_dir（restore_drill_dir）に別のフォルダーを設定すること",
    "reason.drill.no_memory": "復元訓練は最大 {needed} バイトのメモリを使用するが、このホストの空きは {free} バイト。サービスがそれほど使わない場合は、memory（restore_drill_memory）に小さい値を設定すること",
    "reason.drill.folder_closed": "ユーザー {user} がフォルダー {folder} に到達できない。restore_drill_dir に、このユーザーが入れるフォルダーを設定すること",
    "reason.drill.not_prepared": "{folder} で復元訓練を準備できない：{why}。scratch_dir（restore_drill_dir）に root だけが変更できるフォルダーを設定すること",
    "reason.drill.not_started": "復元したデータベースでサービスを起動できない：{why}",
    "reason.drill.not_isolated": "このホストでは systemd がサービスを隔離できないため、起動しなかった：{why}",
    "reason.drill.ended": "復元したデータベースで正常になる前にサービスが終了した。最後の出力：{said}",
    "reason.drill.said_nothing": "出力なし",
    "reason.drill.not_healthy": "復元したデータベースで、サービスが{seconds}秒以内に正常にならなかった：{why}。最後の出力：{said}",
    "reason.drill.not_asked": "訓練用のネットワークにリクエストを送信できない：{why}",
    "reason.drill.other_database": "サービスが復元したデータベースを開かなかった。サービスがデータベースのパスを変数 {variable}（nexus_db_path_variable）から読み取ることを確認すること",
    "reason.drill.login": "復元したデータベースでログインに失敗した：{why}",
    "reason.drill.rows_lost": "サービスが復元したデータベースから行を削除した：{tables}",
    "reason.drill.not_sound": "サービスが使用した後、復元したデータベースに異常がある：{why:;}",
    "reason.drill.live_changed": "訓練中に稼働中のサービスが変化した：{what}。訓練は稼働中のサービスに触れないため、別の原因が考えられる",
    "reason.drill.left": "訓練後に {folder} を削除できない。手動で削除すること",
    "reason.drill.not_kept": "復元訓練の結果を {path} に書き込めない：{why}",
    "reason.drill.pid": "プロセスが {before} から {now} に変わった",
    "reason.drill.replaced": "データベースのファイルが置き換えられた",
    # Litestream
    "reason.litestream.unusable": "{path} にこのデータベースの記載があるが、レプリカを使用できない：{why}",
    "reason.litestream.no_program": "通常のフォルダーにプログラム {program} が存在しない",
    "reason.litestream.not_of_root": "root 以外のアカウントが {path} を変更できる",
    "reason.litestream.refused": (
        "{path} のレプリカは使用しない：ユーザー {user} はこのデータベースを読み取れず、nexus_db_path の設定とも異なる。"
        "このサービスのものであれば、nexus_db_path を修正する"
    ),
    "reason.litestream.not_restored": "Litestream で {path} のレプリカを復元できない：{why}",
    "reason.litestream.nothing": "エラーなしで終了したが、ファイルが作成されなかった",
}
