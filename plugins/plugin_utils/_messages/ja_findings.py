# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and full-width punctuation is how Japanese is written.

"""Japanese for what the rules of the causes say of an outage: what it saw, what is to be done, what keeps it from coming back.

A sentence that is in doubt there is in doubt here. A summary into which something was put that has no words here is told
by the words of its cause, C(summary.<cause>) in M(messages_ja), with the English one beside it.
"""

from __future__ import annotations

from typing import Dict

_FINDINGS: Dict[str, str] = {
    # ディスク
    "Writes failed for want of room; there is room again": "空き容量の不足により書き込みに失敗しました（現在は空きがあります）",
    "Start the service, and see what took the room": "サービスを起動し、容量を使用したものを調べる",
    "Rotate and compress the logs, and have somebody told before a file system is full": "ログをローテーション・圧縮し、容量が尽きる前に通知されるようにする",
    "There is no room left on {where}": "{where} の空き容量がありません",
    "Restart the service: it holds removed files open, which take the room until then": "サービスを再起動する（削除済みのファイルを開いたままで、再起動まで容量を占有しています）",
    "Make room on {where}: rotated logs, the npm cache, old backups. Never the database, its -wal or -shm": (
        "{where} の空き容量を確保する（ローテーション済みのログ、npm キャッシュ、古いバックアップ。DB、-wal、-shm は削除しない）"
    ),
    "The file system {where} is read-only": "ファイルシステム {where} が読み取り専用になっています",
    "Read the kernel's log for errors of that disk, and mount it writable once it is known to be well": "カーネルログでディスクのエラーを確認し、正常と分かってから書き込み可能でマウントする",
    "Watch the disk's health, and have somebody told when a file system becomes read-only": "ディスクの健全性を監視し、読み取り専用になった時点で通知されるようにする",
    # 起動保留
    "The start is held by incident {incident}: {why}": "インシデント {incident} により起動が保留されています: {why}",
    "Run database_recover.yml, or release the hold with outage_release.yml and a reason": (
        "database_recover.yml を実行するか、理由を付けて outage_release.yml で保留を解除する"
    ),
    "Keep verified backups, so that a database in doubt can be replaced at once": (
        "検証済みのバックアップを用意し、疑いのあるデータベースをすぐに置き換えられるようにする"
    ),
    # メモリ
    "The service reached its own memory limit, and the kernel killed it": "サービスが自身のメモリ上限に達し、カーネルに強制終了されました",
    "The kernel ran out of memory and killed the service": "ホストのメモリが不足し、カーネルがサービスを強制終了しました",
    "Restart the service; where it falls again, give it the sizes proposed, or the host more memory": "再起動する。再発する場合は、提案された値に設定するか、ホストのメモリを増設する",
    "Bound the service (MemoryMax=, --max-old-space-size) below what the host has, and look for a leak": (
        "サービスのメモリ上限（MemoryMax=、--max-old-space-size）をホストの容量より低く設定し、メモリリークを調査する"
    ),
    "The log speaks of the limit of Node's heap, but it was not what ended the service": "ログに Node.js のヒープ上限の記録がありますが、停止の原因ではありません",
    "Node reached the limit of its own heap and aborted; the host's memory was not the limit": "Node.js がヒープの上限に達して異常終了しました（ホストのメモリは不足していません）",
    "Restart the service; where the load explains the need, give it the heap proposed": "再起動する。負荷に見合う場合は、提案されたヒープに設定する",
    "Look for the leak; raise --max-old-space-size only if the load explains the need": "メモリリークを調査する。負荷に見合う場合に限り --max-old-space-size を引き上げる",
    # データベース
    "The database {path} is not sound: {why}": "データベース {path} に問題があります：{why}",
    "it is not there": "存在しない",
    "it has 0 bytes": "0バイト",
    "it has 0 bytes beside a WAL": "0バイト（WAL は残っている）",
    "it holds no table": "テーブルがない",
    "it does not begin as a database does": "データベースの形式ではない",
    "something else is in its place": "別のものに置き換わっている",
    "its pages are damaged": "ページの破損",
    "its WAL is damaged": "WAL の破損",
    "its WAL belongs to another database": "別のデータベースの WAL",
    "rows are missing": "行の欠落",
    "its file was removed while it was open": "使用中にファイルが削除された",
    "it cannot be read": "読み取れない",
    "Rows of the database {path} may be lost": "データベース {path} の行が失われた疑いがあります",
    "The service reported a damaged database; {path} itself could be read": "サービスがデータベースの破損を報告しましたが、{path} は読み取れました",
    "Start nothing and change nothing: keep database, -wal and -shm as they are and call the DBA": (
        "何も起動・変更せず、データベース、-wal、-shm をそのまま残して DBA に連絡する（DB破損 Runbook）"
    ),
    "Back the database up often and read the backups back; find out what damaged it": "バックアップの頻度を上げ、リストアできることを確認する。破損の原因を特定する",
    "Whether the database {path} is sound could not be told: it may not be read": "データベース {path} を読み取る権限がなく、整合性を確認できませんでした",
    "Whether the database {path} is sound could not be told in time": "データベース {path} の整合性を時間内に確認できませんでした",
    "Look again as root; give database, -wal and -shm back to the service's user where they are another's": (
        "root で再確認する。データベース、-wal、-shm の所有者が異なる場合は、サービスのユーザーに戻す"
    ),
    "Check it with sqlite_info and a larger time_budget, or give triage_database_timeout more seconds": (
        "sqlite_info の time_budget、または triage_database_timeout を延ばして確認する"
    ),
    "Let nobody but the service's user open its database for writing": "サービスのユーザー以外がデータベースを書き込みで開かないようにする",
    "Give triage_database_timeout the seconds that a look through this database takes": "triage_database_timeout を、このデータベースの確認に必要な秒数にする",
    "Let that process finish, or stop it": "そのプロセスの完了を待つか、終了させる",
    "Let that process finish or stop it, then restart the service": "そのプロセスの完了を待つか終了させ、サービスを再起動する",
    "Restart the service, which ends the older process first": "サービスを再起動する（古いプロセスは先に終了されます）",
    "The database is locked by process {pid} ({command})": "プロセス {pid}（{command}）がデータベースをロックしています",
    "Writes wait: process {pid} ({command}) held the lock of the database for {seconds} s, as long as it was looked at": (
        "書き込みが待たされています: プロセス {pid}（{command}）が、確認していた {seconds} 秒の間データベースのロックを保持していました"
    ),
    "The database is locked": "データベースがロックされています",
    "The service found its database locked; no other process holds the lock now": "サービスがデータベースのロックを検出しましたが、現在は他のプロセスによるロックはありません",
    "Let backups and reports read a copy of the database, and set a busy timeout in the service": "バックアップや集計はデータベースの複製に対して行い、サービスに busy timeout を設定する",
    "{pages} committed pages of the database stand in its -wal file alone": "コミット済みの{pages}ページが -wal ファイルにのみ残っています",
    "Do not delete the -wal. Starting the service, or a checkpoint (module sqlite_wal), brings them home": "-wal は削除しない。サービスの起動またはチェックポイント（sqlite_wal）により反映される",
    "Let the service close its database when it is stopped (a handler for SIGTERM)": "停止時にデータベースを閉じるよう、サービスに SIGTERM の処理を追加する",
    # ポート
    "Port {port} is taken by {who}, which is not the service": "ポート{port}を別のプロセスが使用しています（{who}）",
    "process {pid} of user {user} ({command})": "PID {pid}、ユーザー {user}、{command}",
    "another process": "プロセスは特定できず",
    "Find out whose it is and stop it, or give it another port. It is not stopped unless policy names it": "所有者を確認して停止するか、別のポートに移す（方針で許可されない限り、自動では停止しません）",
    "Port {port} is held by an older process of the service (pid {pid}) beside its unit": "ポート{port}を、ユニット外の古いサービスのプロセス（PID {pid}）が使用しています",
    "Stop the older process, then start the unit": "古いプロセスを停止してから、ユニットを起動する",
    "The service could not start because its port was taken; it is free now": "ポートが使用中のため起動できませんでした（現在は空いています）",
    "Start the service, and find out who took the port": "サービスを起動し、ポートを使用していたものを調べる",
    "Start the service through its unit only, never by hand beside it": "サービスは必ずユニットから起動し、手動で並行して起動しない",
    "Reserve the port for the service, and give the other program one of its own": "ポートをサービス専用とし、他のプログラムには別のポートを割り当てる",
    # 証明書
    "The TLS certificate expired on {at}; a newer one is there, which the service has not read": "SSL証明書の期限が {at} に切れています（新しい証明書はありますが、サービスが読み込んでいません）",
    "The TLS certificate is not valid before {at}; a newer one is there, which the service has not read": (
        "SSL証明書は {at} まで有効ではありません（別の証明書がありますが、サービスが読み込んでいません）"
    ),
    "The TLS certificate expired on {at}": "SSL証明書の期限が {at} に切れています",
    "The TLS certificate is not valid before {at}": "SSL証明書は {at} まで有効ではありません",
    "The service would not offer HTTPS: {why}": "サービスを起動しても HTTPS で応答できない状態です：{why}",
    "The service does not offer HTTPS: {why}": "サービスが HTTPS で応答していません：{why}",
    "there is no certificate at its path": "証明書が所定の場所にない",
    "the service cannot read its certificate": "サービスが証明書を読み取れない",
    "there is no key at its path": "秘密鍵が所定の場所にない",
    "the service cannot read its key": "サービスが秘密鍵を読み取れない",
    "the key does not belong to the certificate": "秘密鍵と証明書が一致しない",
    "the certificate has expired": "証明書の期限切れ",
    "the certificate is not valid yet": "証明書の有効期間前",
    "it has not read its certificate and key": "証明書と秘密鍵を読み込んでいない",
    "it could not use its certificate or key": "証明書または秘密鍵を使用できない",
    "Restart the service, so that it reads the certificate and key that are there": "再起動し、現在の証明書と秘密鍵を読み込ませる",
    "Renew the certificate, see that the service's user can read it and its key, and restart": "証明書を更新し、証明書と秘密鍵をサービスのユーザーが読めることを確認して再起動する",
    "Let the certificate renew itself, restart the service after it, and watch the days that are left": "証明書の更新と更新後の再起動を自動化し、残り日数を監視する",
    # 依存関係
    "The service could not load a dependency; all of them are in order now": "依存関係を読み込めませんでした（現在は正常です）",
    "The service's dependencies are missing: there is no node_modules": "依存関係がありません（node_modules が存在しません）",
    "The service's dependencies are missing: {names}": "依存関係が不足しています：{names}",
    "The service's dependencies are there but cannot be loaded: {names}": "依存関係を読み込めません：{names}",
    "The service's dependencies are not those of the lock file: {names}": "依存関係が lock ファイルと一致しません：{names}",
    "The service's dependencies are missing or cannot be loaded: {names}": "依存関係が不足しているか、読み込めません：{names}",
    "see the log": "ログを参照",
    "Rebuild node_modules from the lock file beside the present ones, and swap (module npm_ci)": "lock ファイルから node_modules を別の場所に再構築し、入れ替える（npm_ci）",
    "Install with npm ci only, as the service's user, and again after each change of Node's version": "インストールはサービスのユーザーによる npm ci に限り、Node.js の更新後にも実行する",
    # マイグレーション
    "A migration is running: {who}": "マイグレーションを実行中です：{who}",
    "Wait for it. Ended midway it leaves its lock behind, and the service does not start": "完了を待つ（途中で終了するとロックが残り、サービスが起動しなくなります）",
    "The database has migrations that the code does not know: the code is older than its database": "コードにないマイグレーションが適用済みです（コードがデータベースより古い）",
    "Put the release in place that has these migrations; do not migrate": "該当のマイグレーションを含むリリースを配置する。マイグレーションは実行しない",
    "A migration was interrupted and its lock is still set": "マイグレーションが中断され、ロックが残っています",
    "The service found the migration lock set; it is free now": "サービスがマイグレーションのロックを検出しましたが、現在は解除されています",
    "Back the database up, release the stale lock, migrate to the latest": "データベースをバックアップし、残ったロックを解除して、最新まで適用する",
    "The service asks for tables or columns that {number} pending migrations would bring": "必要なテーブルまたは列がありません（未適用のマイグレーション{number}件で作成されます）",
    "The service asks for tables or columns that the database does not have": "必要なテーブルまたは列がデータベースにありません",
    "Back the database up and migrate to the latest": "データベースをバックアップし、マイグレーションを最新まで適用する",
    "Compare the release with the migrations' status; see whether it is the right database": "リリースとマイグレーションの状態を照合し、正しいデータベースかを確認する",
    "Migrate as a step of the release, with a backup before it, and let nobody kill a migration": "マイグレーションはバックアップ後にリリース手順の一部として実行し、途中で終了させない",
    # 設定
    "The configuration does not fit the host: {what}": "設定とホストの状態が一致しません：{what}",
    "health_path: nexus_health_path is {path}, which it answers with {status} while its process, ports, log, database and dependencies are well": (
        "nexus_health_path が {path} ですが、応答は {status} です（プロセス、ポート、ログ、データベース、依存関係は正常）"
    ),
    "{status} and nothing of its health": "{status}（状態の情報なし）",
    "Correct the variables of this host, or the service's own configuration, whichever is wrong": "ホストの変数かサービスの設定か、誤っている方を修正する",
    "Keep the service's configuration and this inventory in one place, and change both together": "サービスの設定とインベントリを一元管理し、必ず同時に変更する",
    # 起動できない原因
    "The environment file {path} does not exist, and no start succeeds without it": "環境ファイル {path} が存在せず、これがないと起動できません",
    "Restore {path} from a backup or the configuration management, for root only (0600), then start it": "{path} をバックアップまたは構成管理から復元し（root のみ、0600）、起動する",
    "Keep the environment file in a backup, and let one tool alone manage it": "環境ファイルをバックアップに含め、管理するツールを一つに限る",
    "The unit {unit} is masked: systemd refuses to start it": "ユニット {unit} がマスクされており、systemd が起動を拒否します",
    "Ask who masked it and why; if that is over, systemctl unmask {unit} and start it": "マスクした人と理由を確認し、不要であれば systemctl unmask {unit} を実行して起動する",
    "Announce maintenance instead of masking the unit: a maintenance has an end": "ユニットをマスクせず、期限のあるメンテナンスを登録する",
    "systemd cannot load the unit {unit} ({state})": "systemd がユニット {unit} を読み込めません（{state}）",
    "Run systemd-analyze verify on the unit, correct it, then systemctl daemon-reload": "ユニットを systemd-analyze verify で確認して修正し、systemctl daemon-reload を実行する",
    "Check a unit with systemd-analyze verify before it is put in place": "ユニットは配置の前に systemd-analyze verify で確認する",
    "systemd cannot run the unit {unit} ({status}): {fault}": "systemd がユニット {unit} を実行できません（{status}）：{fault}",
    "{path} does not exist": "{path} が存在しない",
    "{path} is not a file": "{path} がファイルではない",
    "{path} is not a folder": "{path} がフォルダーではない",
    "{path} is on a file system that is mounted noexec": "{path} が noexec でマウントされたファイルシステムにある",
    "{path} may not be executed by the service's user": "サービスのユーザーに {path} の実行権限がない",
    "{path} may not be entered by the service's user": "サービスのユーザーが {path} に入れない",
    "{path} needs the interpreter {interpreter}, which does not exist": "{path} に必要なインタープリター {interpreter} が存在しない",
    "{path} is neither a program nor a script": "{path} がプログラムでもスクリプトでもない",
    "there is no user {user}": "ユーザー {user} が存在しない",
    "there is no group {group}": "グループ {group} が存在しない",
    "its working directory cannot be entered": "作業フォルダーに入れない",
    "its program cannot be run": "プログラムを実行できない",
    "its standard output cannot be opened": "標準出力を開けない",
    "there is no such group": "グループが存在しない",
    "there is no such user": "ユーザーが存在しない",
    "its view of the file system cannot be set up": "ファイルシステムの名前空間を用意できない",
    "Install the missing part, or correct the unit and run systemctl daemon-reload; then start it": "不足しているものを配置するか、ユニットを修正して systemctl daemon-reload を実行し、起動する",
    "systemd could not run the unit {unit}; the unit or what it needs was changed since": "systemd がユニット {unit} を実行できませんでした（その後にユニットまたは必要なファイルが変更されています）",
    "Read the lines of the journal, correct the unit or the host, then start it": "ジャーナルを確認し、ユニットまたはホストを修正して起動する",
    "Run systemd-analyze verify and a start of the unit after each change of Node or of the unit": "Node.js やユニットの変更後は、systemd-analyze verify と起動を確認する",
    "Node cannot read {where}: {error}": "Node.js が {where} を読み込めません：{error}",
    "Node could not read {where}: {error}; the file was changed since": "Node.js が {where} を読み込めませんでした：{error}（その後に変更されています）",
    "Correct {where}, or go back to the release before. No restart helps": "{where} を修正するか、前のリリースに戻す（再起動では復旧しません）",
    "Run node --check, or the tests, on each release before it is put in place": "リリースは配置の前に node --check またはテストで確認する",
    "User {user} may not write {path}: it belongs to {owner}, mode {mode}": "ユーザー {user} が {path} に書き込めません（所有者 {owner}、モード {mode}）",
    "Give database, -wal, -shm and their folder back to user {user} (chown), then start it": "データベース、-wal、-shm とそのフォルダーの所有者をユーザー {user} に戻し（chown）、起動する",
    "Work on the database as the service's user only (sudo -u), never as root": "データベースの作業は root ではなく、必ずサービスのユーザーで行う（sudo -u）",
    # 例外、異常終了の繰り返し
    "An exception that nobody caught ended the service at {where}: {what}": "未処理の例外によりサービスが終了しました（{where}）：{what}",
    "An exception that nobody caught ended the service: {what}": "未処理の例外によりサービスが終了しました：{what}",
    "The service ended itself over an error: {what}": "サービスがエラーにより自ら終了しました：{what}",
    "Start it again; where it falls again, go back to the release before": "再起動する。再発する場合は、前のリリースに戻す",
    "Mend the code that throws it, and test it with what it was thrown at": "例外を起こすコードを修正し、同じ条件のテストを追加する",
    "The service falls again and again ({times} times)": "サービスが起動と異常終了を繰り返しています（{times}回）",
    "The service falls again and again ({times} times), and systemd has given up starting it": "サービスが起動と異常終了を繰り返し（{times}回）、systemd が起動を断念しました",
    "Deal with what makes it fall, or go back to the release before; one more restart does nothing new": "異常終了の原因に対処するか、前のリリースに戻す（これ以上再起動しても変わりません）",
    "Deal with what made it fall, and have somebody told when systemd restarts it": "異常終了の原因に対処し、systemd による再起動を通知の対象にする",
    # ハング、強制終了、停止
    "The process {pid} was stopped (SIGSTOP) and does nothing": "プロセス {pid} が SIGSTOP により一時停止しています",
    "The process is there but does not answer": "プロセスは存在しますが、応答がありません",
    "Restart the service": "再起動する",
    "Find out who sent SIGSTOP": "SIGSTOP の送信元を特定する",
    "Find out what it waited for: a loop in the code, a lock, a disk or a service that does not answer": "応答しなくなった原因（処理の無限ループ、ロック、応答しないディスクやサービス）を特定する",
    "The process was ended by signal {signal}": "プロセスがシグナル {signal} により終了しました",
    "The process was ended by signal {signal}; systemd has started it again": "プロセスがシグナル {signal} により終了し、systemd が再起動しました",
    "systemd ended it: {result}": "systemd により終了されました：{result}",
    "Find out why it did not answer systemd in time": "systemd に時間内に応答しなかった原因を特定する",
    "Find out who or what sent the signal": "シグナルの送信元を特定する",
    "See whether it holds": "安定して稼働するか確認する",
    "The process is gone without a last word: it was killed, or the host went down": "プロセスが記録を残さずに消失しました（強制終了されたか、ホストが停止した可能性があります）",
    "The process is gone without a last word: it was killed": "プロセスが記録を残さずに消失しました（強制終了されています）",
    "Find out who or what sent the signal; a unit would have it on record which one it was": "シグナルの送信元を特定する（ユニットで起動していれば、シグナルの種類が記録されます）",
    "Start it through a unit: how it ends is then on record": "ユニットで起動し、終了の記録が残るようにする",
    "The process is gone without a last word or a pid file: it was killed, or stopped by hand": "プロセスが記録も PID ファイルも残さずに消失しました（強制終了または手動で停止された可能性があります）",
    "Ask whether it was meant to be stopped; if not, start it": "意図した停止かどうかを確認し、意図したものでなければ起動する",
    "Start it through a unit, or by the module node_process, so that its end is on record": "終了の記録が残るよう、ユニットまたは node_process から起動する",
    "Announce maintenance before a stop, so that nobody is called and nothing acts": "停止の前にメンテナンスを登録し、通知や自動復旧が動かないようにする",
    "The service was stopped by somebody, did not end in time, and was killed": "サービスは手動で停止されましたが、時間内に終了せず強制終了されました",
    "The service was stopped in order": "サービスは正常な手順で停止されました",
    "The service has not been started since the host booted, or was stopped long ago": "サービスはホストの起動後に一度も起動されていないか、かなり前に停止されました",
    "The service ended in order; the journal does not tell whether somebody stopped it": "サービスは正常に終了しました（手動による停止かどうかはジャーナルから分かりません）",
    "The service ended by itself, in order: nobody stopped it": "サービスが自ら正常終了しました（停止の操作はありません）",
    "The service is not running and left no pid file: it was stopped, or never started this way": "サービスは稼働しておらず、PID ファイルもありません（停止されたか、この方法で起動されていません）",
    "Start it": "起動する",
    "Start the service": "サービスを起動する",
    "Enable the unit, so that it starts with the host": "ホストの起動時にサービスも起動するよう、ユニットを有効化する",
    "Let systemd restart it whenever it ends (Restart=always)": "終了時に systemd が再起動するよう設定する（Restart=always）",
    # 原因不明
    "The service ended with exit code {code}, and nothing that was looked at says why": "サービスが終了コード {code} で終了しましたが、原因は特定できませんでした",
    "The service has no process, and nothing that was looked at says why": "サービスのプロセスがありませんが、原因は特定できませんでした",
    "The service does not serve {what}, and nothing that was looked at says why": "サービスが {what} で応答していませんが、原因は特定できませんでした",
    "Read the evidence; restart it if nothing speaks against it": "証拠を確認し、問題がなければ再起動する",
    "Let the service log why it ends, so that the next time something says why": "終了理由をログに残すようにし、次回に原因を特定できるようにする",
}

SENTENCES: Dict[str, str] = {f"said.{english}": japanese for english, japanese in _FINDINGS.items()}
