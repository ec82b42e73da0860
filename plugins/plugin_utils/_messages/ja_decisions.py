# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501, RUF001 - a sentence is one line, and Japanese uses full-width punctuation.

"""Japanese messages about the decisions of a run. The IDs are those of en_decisions.py."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "reason.no_cause": "原因は見つからなかった",
    "reason.data_sound_again": "データベースに疑いがあり起動を保留していたが、今回の検査で正常と確認された",
    "reason.loop.fell": "復旧の実行が過去{minutes}分以内に起動した後、安定性確認中に再び停止したため、再起動のみの復旧は再試行しない",
    "reason.loop.started": "この実行より前に、復旧の実行が直前の{minutes}分間に全インシデントの合計で{times}回サービスを起動しているため、再起動のみの復旧は再試行しない",
    "reason.only_notifies": "outage_recover_act_on が空のため、通知のみ行う",
    "reason.not_acted_on": "重大度 {severity} は outage_recover_act_on（{act_on}）に含まれないため、何も実施していない",
    "reason.degraded": "サービスは応答しているため、再起動しない",
    "reason.fewer_rows": "以前より行数が減っている：{tables}",
    "reason.data_loss_suspected": "データ損失の疑いがある",
    "reason.rung.not_in_run": "outage_recover_rungs または outage_recover_highest_rung により対象外",
    "reason.rung.highest": "許可されている最も高い復旧段階は {rung}",
    "reason.rung.cannot_help": "{rung} では復旧できない：{why:;}",
    "reason.rung.lost": "ホストとの接続が切れたため",
    "reason.rung.stopped": "エラーにより復旧が中止されたため",
    "reason.rung.serves": "サービスは応答しており、ログインの失敗だけを理由に停止することはない",
    "reason.rung.ended": "{rung} で復旧処理が終了したため",
    "reason.unreached": "ホストに到達できない：{why}",
    "reason.not_worked_on": "root に昇格できない：{why}",
    "reason.no_answer": "{seconds}秒以内に応答がない（ディスクまたはホスト全体が応答していない可能性がある）",
    "reason.died": "モジュールが結果を返さずに終了した（終了コード {code}）",
    "reason.failure.hidden": "出力は非表示",
    "reason.failure.undefined": "変数 {name} が未定義",
    "reason.failure.task": "「{task}」：{why}",
    "reason.failure.then": "その後：{why}",
    "reason.failure.restored": "元の状態への復帰も失敗：{why}",
    "reason.failure.not_run": "{host} で {module} を実行できない：{why}",
    "reason.failure.not_written": "ポストモーテムを作成できず：{why}",
    "reason.failure.not_usable": "無効な設定：{names}",
    "reason.verification.fell": "再び停止：{why}",
    "reason.verification.login": "{why}。サービスは応答しているため、nexus_login_username と nexus_login_password を確認する",
    "reason.recovery.no_method": "実施できる方法がないため {path} を変更していない：{why}。空のデータベースを使用するには database_recovery_confirm_empty を指定する",
    "reason.recovery.not_examined": "{path} が開かれている間は、実施できる方法がない：{why}",
    "reason.recovery.rows_missing": (
        "{path} は正常だが、前回の確認時より行が少ないテーブルがある（{tables}）ため変更していない。意図した削除であれば outage_release.yml で保留を解除し、そうでなければ "
        "database_recovery_method を設定する"
    ),
    "reason.recovery.not_sound": "マイグレーションの後の {path} に問題がある：{problems}",
    "remedy.see_evidence": "証拠を参照",
    "remedy.roll_back_manually": "nexus_release_strategy が none のため、前のリリースには手動で戻す",
    "next_step.data_loss": "{number}. サービスを起動せず、証拠を DBA に引き継ぐ",
    "next_step.data_in_doubt": "{number}. データベースの確認を DBA に依頼する",
    "next_step.login_failed": "ログインできることと、nexus_login_username・nexus_login_password の値を確認してから、Playbook を再度実行する（ログインを確認し、インシデントをクローズする）",
    "next_step.halted": "復旧が中止された原因に対処してから、Playbook を再度実行する。中止された原因：{halted}",
    "next_step.helpless": "証拠を確認する。実施した手順では復旧しておらず、繰り返しても復旧しない",
    "next_step.not_recovered": "原因に対処する：{remedy:;}。その後、Playbook を再度実行する",
    "next_step.command": "コマンド：\n{command}",
    "next_step.count_rows": "行が失われていないことを確認する。次のコマンドは、最後の正常な行数が保存されていれば、それと比較する：\n{command}",
    "next_step.check_data": "アプリケーションで、データが失われていないことを確認する",
    "next_step.systemd.waiting": (
        "この実行の最後の確認時、systemd は {unit} の再起動を待っていた。その起動までに原因に対処すれば、"
        "サービスは自動的に復旧する可能性がある"
    ),
    "next_step.systemd.handed_back": "実行中は systemd による {unit} の再起動を止めていた。実行が終了したため、systemd が再び起動させることがある",
    "next_step.start_manually": "復旧の実行による起動回数が上限に達したため、最長1時間は再起動のみの復旧を再試行しない。原因を解消した場合は、先にサービスを手動で起動する",
    "next_step.degraded": "原因に対処する：{remedy:;}。その間もサービスは稼働を続ける。Playbook を再度実行すると、問題が解消したかを確認できる",
    "next_step.accepted.running": (
        "担当者が {at} に了承した破損（{reason}）があるまま、サービスは稼働を続ける。停止してデータベースを修復または復元する時刻を決める。次のコマンドで復旧方法ごとに失われるデータを確認し、"
        "「次の対応」に表示されるコマンドを実行する：\n{command} --check"
    ),
    "next_step.accepted.planned": "データベースの破損は、担当者が {at} に了承済み（{reason}）。修復または復元する時刻を決める。次のコマンドで復旧方法ごとに失われるデータを確認し、「次の対応」に表示されるコマンドを実行する：\n{command} --check",
    "next_step.accepted.failed": (
        "担当者が {at} に了承した破損（{reason}）があるため、サービスが正常に動作しない。今すぐデータベースを修復または復元する。次のコマンドで復旧方法ごとに失われるデータを確認し、"
        "「次の対応」に表示されるコマンドを実行する：\n{command} --check"
    ),
    "next_step.accepted.down": "データベースの破損は、担当者が {at} に了承済み（{reason}）。database_recover.yml で修復または復元する時刻を決める。それまでの間、サービスを起動できる：\n{command}",
    "next_step.warning": "停止に至る前に原因を調査する：{summary}",
    "next_step.would_recover": "--check なしで Playbook を実行し、サービスを復旧する",
    "next_step.asked_to_stop": "サービスは人またはプログラムの要求で停止された。先に、意図した停止かどうかを確認する",
    "next_step.recovered": "未完了の再発防止策に対応する",
    "next_step.recovered_by_systemd": "未完了の再発防止策に対応する",
    "next_step.held_without_unit": "サービスの起動はインシデント {incident} により保留されており、解除されるまで、本コレクションはサービスを起動しない",
    "next_step.held_running": "稼働中のサービスは停止しない。サービスが終了した場合、インシデント {incident} の保留が解除されるまで、本コレクションも systemd も再び起動しない",
    "next_step.held": "サービスの起動はインシデント {incident} により保留されており、解除されるまで、本コレクションも systemd もサービスを起動しない",
    "next_step.database.loss": "失われたデータを関係者に報告する：{statement}。破損したファイルは {kept} に保存されている",
    "next_step.database.loss_in_evidence": "失われたデータを関係者に報告する：{statement}。破損したファイルは証拠として保存されている",
    "next_step.database.deleted": "{number}. 欠落した行が意図した削除かどうかを DBA に確認し、意図した削除であれば outage_release.yml を実行する",
    "next_step.database.compare": "{number}. 次のコマンドを実行し、復旧方法ごとに失われる行数を確認する（何も変更されない）：\n{command} --check",
    "next_step.database.time": "{number}. サービスを停止する時刻を DBA と決める（それまでサービスは稼働を続ける）",
    "next_step.database.agreed": "{number}. DBA の同意を得て、この確認の「次の対応」に表示されるコマンドを実行する（データベースを復旧し、サービスを起動する）",
    "next_step.database.stopping": "{number}. 決めた時刻に、この確認の「次の対応」に表示されるコマンドを実行する（サービスを停止し、データベースを復旧して起動する）",
    "next_step.database.choose": "{number}. この確認で可能と表示された方法を選び、--check を付けずにオプションを付けて実行する。オプションの例：\n-e database_recovery_method=backup",
    "next_step.database.choose_method": "{number}. 意図した削除でなければ、復旧方法を選んで実行する。例：\n{command}",
    "next_step.database.not_recovered": "証拠を DBA に引き継ぐ。データベースのファイルはすべて保存されている。復旧方法ごとに失われる行数を確認する：\n{command} --check",
    "next_step.database.other_method": "証拠を DBA に引き継ぐ。データベースのファイルはすべて保存されている。別の方法で復旧する場合の例：\n{command}",
    "next_step.database.no_other_method": (
        "証拠を DBA に引き継ぐ。データベースのファイルはすべて保存されている。ほかに可能な方法はない。"
        "DBA が別のフォルダーにバックアップを持っている場合は、そのフォルダーを database_recovery_backup_dirs に追加し、Playbook を再度実行する"
    ),
    "next_step.database.would_recover": (
        "方法ごとに失われるデータを比べる。DBA の同意を得てから、「選択」と表示された方法でデータベースを復旧する。別の方法を選ぶ場合は、下のオプションを追加する。同じコマンドを --check "
        "なしで実行すると、サービスが動作していれば停止し、復旧後に起動する：\n{command}"
    ),
    "next_step.database.examine_again": (
        "データベースが開かれているため、調べられない方法がある。DBA の同意を得てから、同じコマンドを --check なしで実行する。サービスが動作していれば停止し、"
        "その後で方法をもう一度調べ、実施できる方法があればデータベースを復旧する：\n{command}"
    ),
    "next_step.unguarded": "systemd のユニットがないため、手動起動を防ぐ仕組みがない。復旧が終わるまで、人もスクリプトもサービスを起動しないようにする",
    "next_step.reach.other": "コンソールなど別の方法でホストに接続してから、Playbook を再度実行する",
    "next_step.reach.refused": "ホストがこのポートへの接続を拒否している。コンソールなどから、sshd が動作しているか、ansible_port が正しいか、ファイアウォールが接続を拒否していないかを確認してから、Playbook を再度実行する",
    "next_step.reach.known_hosts": "known_hosts にこのホストの鍵がないか、別の鍵が登録されている。ホスト鍵を確認し、known_hosts に登録してから、Playbook を再度実行する",
    "next_step.reach.become": (
        "ホストで root に昇格できない。ansible_become_password とホストの sudo の設定を確認する。sudo の設定によっては ansible_pipelining と "
        "ansible_python_interpreter の値も確認する。その後、Playbook を再度実行する"
    ),
    "next_step.reach.login": "ホストがログインを拒否している。ansible_user、その鍵またはパスワード、ホストの authorized_keys を確認してから、Playbook を再度実行する",
    "next_step.reach.name": "ホスト名を解決できない。インベントリの ansible_host とコントローラーの DNS を確認してから、Playbook を再度実行する",
}
