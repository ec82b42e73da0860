# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages for a discovery. English: en_discovery.py and module_utils/_discovery/messages.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # ファイル
    "inventory.title": "{host} の変数（outage_discover.yml による検出結果）",
    "inventory.review": (
        "各行を確認し、質問に答えてください。質問の下の行が正しければ、質問だけを削除してください。ほかの変数は現在の値のままです。"
    ),
    "inventory.source": "出典：{source}",
    "inventory.question": "QUESTION：{question}",
    "inventory.defaults": "次の既定値は、このホストで正しい値です。",
    "inventory.elsewhere": "次の値は正しく、インベントリの別の場所で設定済みです。",
    "inventory.information": "参考情報：",
    "inventory.refused": "正しい値は何ですか。ホストの報告値は、コントローラーで使用できません",
    # 画面
    "inventory.found": "検出：{name}（{state}）、フォルダー {folder}",
    "inventory.process": "ユニットのないプロセス",
    "inventory.running": "稼働中",
    "inventory.down": "停止中",
    "inventory.file.written": "作成：{path}、変数 {number}個",
    "inventory.file.would_write": "未作成（チェックモード）：{path}、変数 {number}個",
    "inventory.file.updated": "更新：{path}、変数 {number}個",
    "inventory.file.would_update": "未更新（チェックモード）：{path}、変数 {number}個",
    "inventory.file.kept": "変更なし：{path} は既存のため変更していません。ホストと異なる変数 {number}個",
    "inventory.file.matches": "差異なし：インベントリはホストと一致しています（{path}）",
    "inventory.file.no_file": "未作成：インベントリがファイルではありません。ホストと異なる変数 {number}個",
    "inventory.differences": "インベントリとホストの差異：{number}個",
    "inventory.difference": "{name}：インベントリ {known}、ホスト {value}（{source}）",
    "inventory.difference.default": "{name}：インベントリになし（既定値 {known}）、ホスト {value}（{source}）",
    "inventory.questions": "質問：{number}件",
    "inventory.questions.none": "質問：0件。ファイルに残っている質問は解決済みです。そのコメントを削除してください",
    "inventory.next.review": "次の手順：{path} を確認し、質問に答えてから、{command} を実行",
    "inventory.next.update": "次の手順：{path} を手動で変更するか、-e outage_discover_update=true を付けて再実行。その後、{command} を実行",
    "inventory.next.copy": "次の手順：表示された内容を、インベントリのホスト変数に転記してから、{command} を実行",
    "inventory.next.without_check": "次の手順：--check なしで再実行",
    "inventory.next.detect": "次の手順：{command} を実行",
    # エラー
    "reason.discovery.none": "server.js を node で実行するユニットもプロセスもない。nexus_unit にユニット名を設定する",
    "reason.discovery.no_folder": (
        "nexus_app_dir は {path} だが、このホストにそのフォルダーがなく、server.js を node で実行するユニットもプロセスもない。nexus_app_dir "
        "にアプリケーションのフォルダーの絶対パスを設定するか、ディスクをマウントするか、nexus_unit にユニット名を設定する"
    ),
    "reason.discovery.several_units": "該当しうるユニットが複数ある：{names}。nexus_unit にいずれかを設定する",
    "reason.discovery.several_processes": "該当しうるプロセスが複数ある（フォルダー：{folders}）。nexus_app_dir にいずれかを設定する",
    "reason.discovery.may_not.change": "復旧時に変更するが、ユーザー {user} はこのパスまたはそのフォルダーを変更できない",
    "reason.discovery.may_not.own": "復旧時に所有者とモードを変更することがあるが、ユーザー {user} は読み取れないか、所有者ではない",
    "reason.discovery.may_not.read": "復旧時に読み取るが、ユーザー {user} は読み取れない",
    "reason.discovery.may_not.read_all": "復旧時に読み取るが、ユーザー {user} はその中のファイルをすべては読み取れない",
    "reason.discovery.may_not.unknown": "ユーザー {user} の権限を確認できない",
    # 値の出典
    "discovery.source.no_ready": "ready エンドポイントなし",
    "discovery.source.answers": "サービスがこのパスに応答",
    "discovery.source.answer_status": "サービスの応答の status は「{word}」",
    "discovery.source.backup_names": "バックアップのファイル名（例：{names}）",
    "discovery.source.backups": "これらのフォルダーに SQLite データベースのコピーが {number}個",
    "discovery.source.beside_output": "現在の出力先 {path} から日付を除いたファイル名。復旧時に起動したサービスの出力先になる",
    "discovery.source.file_and_process": "{path} の {name}（実行中のプロセスと同じ値）",
    "discovery.source.file_variable": "{path} の {name}",
    "discovery.source.has_unit": "ホストにユニット {unit} が存在",
    "discovery.source.https_off": "ENABLE_HTTPS が未設定のため、HTTP のみ",
    "discovery.source.inventory": "インベントリ",
    "discovery.source.journal": "実行中のプロセスの出力先はジャーナル",
    "discovery.source.knexfile": "{path} の {section} セクション",
    "discovery.source.listens": "サービスがこのポートで待ち受け（{scheme}）",
    "discovery.source.listens_as": "{name}、{source}",
    "discovery.source.log_folder": "ログファイル {number}個が存在",
    "discovery.source.names": "サービスの環境変数",
    "discovery.source.no_file": "ユニットに指定がなく、アプリケーションのフォルダーにもなし",
    "discovery.source.no_output": "実行中のプロセスの出力先ファイルなし",
    "discovery.source.no_unit": "サービスを実行するユニットなし",
    "discovery.source.not_listening": "実行中のサービスに {scheme} の待ち受けポートなし",
    "discovery.source.only_database": "アプリケーションのフォルダーにある唯一の SQLite データベース",
    "discovery.source.open": "実行中のプロセスが開いているファイル",
    "discovery.source.output": "実行中のプロセスの出力先",
    "discovery.source.own_file": "アプリケーションのフォルダーにある設定ファイル（ユニットには指定なし）",
    "discovery.source.owner": "アプリケーションのフォルダーの所有者",
    "discovery.source.process": "実行中のプロセス",
    "discovery.source.process_variable": "実行中のプロセスの環境変数 {name}",
    "discovery.source.same_path": "サービスの環境変数 {name} の値がこのパス",
    "discovery.source.unit": "ユニット {unit} の {name}",
    "discovery.source.unit_file": "{path}",
    "discovery.source.unit_variable": "ユニットの Environment= の {name}",
    # 担当者への質問
    "discovery.question.app_dir": "サービスの実行フォルダーはどこですか。ユニットに WorkingDirectory がなく、プロセスもありません",
    "discovery.question.backups": "データベースのバックアップはどこですか。通常のフォルダーに SQLite データベースがありません。バックアップがない場合は [] を設定してください",
    "discovery.question.backup_names": (
        "データベースのバックアップは {name} のような名前ですか。このようなファイルが {folder} にあります。この名前はサービスのユーザーが選んだ可能性があり、復旧時にはこのパターンを root のフォルダーにも"
        "使用するため、{pattern} は設定しません。このような名前のバックアップがすべてこのサービスのものであれば、既定のパターンと合わせてこの変数に設定してください"
    ),
    "discovery.question.certificate": "サービスの証明書はどれですか。環境変数にファイルの指定がありません",
    "discovery.question.changed_since": "再起動の予定はありますか。{path} の {name} が実行中のプロセスの値と異なるため、プロセスの値を使用しています",
    "discovery.question.command": "サービスの起動コマンドは何ですか。ユニットにもプロセスにも見つかりません",
    "discovery.question.confined": "検出したパスはホスト上で有効ですか。ユニットに独自のルートフォルダーまたは動的ユーザーがあります",
    "discovery.question.database": "データベースはどのファイルですか。開いているプロセスも、設定もありません。アプリケーションのフォルダーにある SQLite データベース：{paths}",
    "discovery.question.disk_silent": "{path} のディスクが応答しませんでした。応答するようになったら再実行してください",
    "discovery.question.down": "サービスは停止中です。値はユニット、環境変数、ファイルによるものです。サービスの稼働中に再実行してください",
    "discovery.question.file_unread": "{path} で設定される変数は何ですか。{why}",
    "discovery.question.health": "ヘルスチェックのパスは何ですか。通常のパスに、status を含む JSON の応答がありません",
    "discovery.question.hidden": "接続で become を使用していますか。このアカウントは、サービスが開いているファイルを参照できません",
    "discovery.question.https_unknown": "HTTPS は有効ですか。HTTPS のポートは設定されていますが、ENABLE_HTTPS がありません",
    "discovery.question.launcher": "ユニットから node を直接起動できますか。現在は {program} が node を起動しているため、シグナルがサービスに届かず、終了コードも systemd に伝わらない可能性があります",
    "discovery.question.log_file": "サービスのログファイルはどれですか。StandardOutput のパスを取得できません",
    "discovery.question.login": (
        "復旧時に、利用者がログインできることも確認しますか。確認する場合は、確認専用のアカウントを nexus_login_username に設定し、パスワードを Vault に保存してください。確認しない場合は、"
        "nexus_login_password に空文字列を設定してください（ログインは確認しません）"
    ),
    "discovery.question.missing_file": "別のファイルを使用していますか。{path} がありません",
    "discovery.question.other_folder": (
        "アプリケーションのフォルダーは {found} ですか。異なる場合は、nexus_app_dir に存在するフォルダーの絶対パスを設定してください。"
        "インベントリの nexus_app_dir は {path} ですが、このホストにそのフォルダーはありません"
    ),
    "discovery.question.no_folder": "ディスクはマウントされていますか。フォルダー {path} がありません",
    "discovery.question.no_https": "証明書は読み取り可能ですか。ENABLE_HTTPS は true ですが、HTTPS の待ち受けポートがありません",
    "discovery.question.no_section": "NODE_ENV は正しいですか。{path} に {section} セクションがありません",
    "discovery.question.no_service": "サービスは {path} にありますか。実行するユニットもプロセスもありません",
    "discovery.question.node_env": "NODE_ENV は意図的に未設定ですか。未設定では、knex は knexfile の development セクションを使用します",
    "discovery.question.not_a_path": "データベースはどのファイルですか。{name} の値はパスではありません。パスワードを含む可能性があるため、表示しません",
    "discovery.question.not_local": "localhost で待ち受けることはできますか。ポート {ports} は localhost で待ち受けていませんが、確認処理は localhost に接続します",
    "discovery.question.open_databases": "データベースはどのファイルですか。実行中のプロセスが開いているファイル：{paths}",
    "discovery.question.others": "インベントリの指定は正しいですか。次のものもサービスの可能性があります：{names}",
    "discovery.question.path": (
        "このサービスは {path} を使用しますか。このパスはサービスのユーザーが選んだ可能性があり（{source}）、{why}ため、設定しません。このサービスのものであれば、この変数に設定してください"
    ),
    "discovery.question.port": "サービスのポートは何番ですか。環境変数に {name} がなく、サービスは停止中です",
    "discovery.question.release_git": "各リリースは git のタグですか。{path} は git リポジトリです。該当する場合は、この変数を git に設定してください",
    "discovery.question.release_link": "リリースはリンクで切り替えますか。{path} は {target} へのリンクです。該当する場合は、この変数を symlink に設定してください",
    "discovery.question.required": "起動に必要な環境変数はどれですか。{missing} がありません。存在する変数名：{names}",
    "discovery.question.secret_argument": "サービスの起動コマンドは何ですか。機密情報と思われる引数があるため、コマンドは表示しません。機密情報は環境ファイルに移してください",
    "discovery.question.no_environment_file": "サービスの環境変数はどのファイルにありますか（ファイルが見つかりませんでした）",
    "discovery.question.no_such_file": (
        "サービスの環境変数はどのファイルにありますか。インベントリの nexus_environment_file は {path} ですが、このホストにそのファイルはありません。環境変数のファイルがない場合は、"
        "nexus_environment_file に空文字列を設定してください"
    ),
    "discovery.question.several_files": "機密情報とデータベースのパスを設定しているのはどのファイルですか：{paths}",
    "discovery.question.several_ports": "利用者が接続するのはどのポートですか：{ports}",
    "discovery.question.silent_ports": "ポート {ports} の用途は何ですか。待ち受けていますが、HTTPS にも HTTP にも応答しません",
    "discovery.question.status": "status「{word}」は正常を意味しますか。ヘルスチェックの応答に含まれています",
    "discovery.question.stop_timeout": "停止にかかる時間の上限は何秒ですか。ユニットの TimeoutStopSec は無限です",
    "discovery.question.unusable": "正しい値は何ですか。値はテンプレート、制御文字、その他の特殊文字を含むため、表示しません。出典：{source}",
    # 参考情報
    "discovery.information.backups": "バックアップのフォルダー：{folders}",
    "discovery.information.certificate": "{variable} は設定しません。このパスは、実行のたびにサービスの環境変数から読み取ります。現在のパス：{path}（{source}）",
    "discovery.information.node_env": "NODE_ENV は {value}（{source}）",
    "discovery.information.package": "package.json：{name} {version}",
    "discovery.information.proxy": (
        "{program} がサービスの前段にある可能性：{path} の {line}行目にポート {port}。サービスに届かなかったリクエストも数えるには、このホストにある {program} "
        "のログのパスを postmortem_access_log に設定する"
    ),
    "discovery.information.restart": "systemd：Restart={restart}、RestartSec={delay}、開始回数の上限 {interval} に {burst}回、TimeoutStopSec={stop}、KillMode={kill}",
    "discovery.information.unit_missing": "インベントリのユニット {unit} は、このホストにありません",
}
