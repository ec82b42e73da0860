#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triage_info
short_description: Find out why the service is down, and save the evidence
version_added: 0.1.0
description:
  - Collects the facts that a person would check during an outage. These facts describe the process, the unit, the ports
    and their responses, the disk, the memory, the kernel messages about low memory, the log file, the journal, the
    certificate, the database, core dumps, Node.js, and the names of the environment variables.
  - The module collects these parts in parallel, each with its own time limit. RV(parts) lists the parts that could not
    be collected.
  - Returns the causes of the outage in RV(findings), most likely first. On a healthy host, RV(findings) is empty.
  - If O(incident) is set, the module saves the facts as the evidence bundle for this incident, in a folder that only
    its owner can read. If O(run) is also set, the module can hold the service or release the hold. See RV(hold).
  - The module removes passwords, tokens, keys and the values of secret variables from all data that it returns or
    saves.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
  - itsm_nexus.runbook.triage
attributes:
  check_mode:
    support: full
    details: The module does not write the evidence bundle. RV(bundle) is the path to which the module would write the
      bundle.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  resume:
    description:
      - Whether the result of an earlier call by the same run may have been lost.
      - If V(true) and the earlier call started the service, the module returns the facts and findings that the earlier
        call saved before it started the service. However, the module returns the current facts and findings if nothing
        was saved, if the process is gone again, or if the data is now in doubt.
    type: bool
    default: false
    version_added: 1.0.0
"""

EXAMPLES = r"""
- name: Find out why the service is down
  itsm_nexus.runbook.triage_info:
    service:
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      unit: itsm-system
    incident: INC-20260302T010203Z-1f3a
  register: triage

- name: Fail if the service must not be started
  ansible.builtin.assert:
    that: not triage.blocks_start
    fail_msg: "{{ triage.findings[0].summary }} {{ triage.findings[0].remedy }}"
"""

RETURN = r"""
findings:
  description: The causes of the outage, most likely first.
  returned: always
  type: list
  elements: dict
  contains:
    cause:
      description: >-
        V(disk_full), V(disk_read_only), V(too_many_files), V(oom_kill), V(heap_oom), V(db_corrupt), V(db_unchecked),
        V(start_held), V(config_mismatch), V(port_conflict), V(modules_broken), V(db_locked), V(migration_pending),
        V(tls_expired), V(hung), V(unit_masked), V(unit_invalid), V(environment_missing), V(exec_failed),
        V(syntax_error), V(database_owner), V(unhandled_exception), V(killed), V(crash_loop), V(stopped),
        V(wal_pending), V(wal_reset_bug) or V(unknown). For a service that answers, also V(disk_filling),
        V(tls_expiring), V(wal_growing), V(memory_pressure), V(frequent_restarts), V(clock_jump), V(login_refused),
        V(slow) or V(not_ready).
      type: str
    confidence:
      description: Confidence in this cause, as a number from 0 to 1. A cause with a confidence of at least 0.5 is
        likely. A cause with a lower confidence is only a hint.
      type: float
    summary:
      description: The cause in one sentence.
      type: str
    evidence:
      description: >-
        Observations that support the finding, each with C(source) and C(text). If C(text) is not a quotation from the
        host, C(messages) contains C(text) as a translatable message.
      type: list
      elements: dict
    remedy:
      description: Recommended action.
      type: str
    prevention:
      description: Action that prevents the cause from recurring.
      type: str
    messages:
      description: >-
        C(summary), C(remedy) and C(prevention) as translatable messages. Each message contains its C(id) in the message
        catalogue, and the C(values) to insert into the message text.
      type: dict
      version_added: 1.0.0
    blocks_start:
      description: True if starting the service now could cause damage.
      type: bool
    rungs_help:
      description: True if at least one rung of the ladder can fix the cause.
      type: bool
    useless_rungs:
      description: Rungs that cannot fix the cause (V(restart), V(standard_recovery), V(clean_start_recovery)).
      type: list
      elements: str
    details:
      description:
        - Data that the remedy needs, depending on the cause. For causes that are not in the following list, C(details)
          is empty.
        - >-
          V(disk_full): C(mounts), each with C(mount), C(path), C(what) (V(bytes), V(inodes)), C(wanted) (the number of
          bytes or inodes to free), C(available), C(size), C(inodes_available) and C(inodes).
        - >-
          V(port_conflict): C(processes), each with C(port), C(pid) (V(null) if the process ID is not visible),
          C(start_ticks), C(user), C(command), C(exe) and C(ours).
        - >-
          V(db_locked): C(holders) (the processes whose lock blocks the service), each with C(pid), C(start_ticks),
          C(user), C(command), C(exe), C(role) and C(ours).
        - >-
          V(tls_expired): C(reason) (V(missing), V(unreadable), V(key_missing), V(key_unreadable), V(key_mismatch),
          V(expired), V(not_yet_valid), V(served_expired), V(not_served)), C(path), C(key_path) and C(not_after).
        - >-
          V(oom_kill), V(heap_oom): C(measured) (C(total), C(available), C(swap_free), C(memory_max), C(peak), C(heap)
          in bytes, C(max_old_space_size) in MiB) and C(proposal) (C(memory_max) in bytes, C(max_old_space_size) in
          MiB). If a value is unknown or not proposed, it is V(null).
        - >-
          V(modules_broken): C(packages) (the names of the broken packages, if the names are known) and C(reason)
          (V(missing), V(unloadable), V(invalid), V(not loaded), V(repaired)).
        - "V(migration_pending): the C(pending) migrations, and C(lock_held) (true if a lock was left behind)."
        - >-
          V(unhandled_exception), V(syntax_error), V(crash_loop): C(falls) (the number of failures since the service
          last served requests) and C(exception) (the exception text). V(unhandled_exception) and V(syntax_error) also
          have C(file) and C(line). If the log does not contain the file or the line, the value is V(null).
        - "V(unit_masked), V(unit_invalid): the C(variable) that contains the unit name, and the C(load_state) of the
          unit."
        - "V(environment_missing): the C(variable) that contains the path of the environment file, and the missing
          C(paths)."
        - >-
          V(exec_failed): C(status) (an exit code from systemd.exec(5)), the C(program) in the unit, and the C(reason).
        - >-
          V(database_owner): the C(user) of the service, and the C(database). C(files) are the database files that
          another user owns. C(denied) are the paths that the service user is not allowed to use. C(others) are the
          folder and its other entries, if another user owns them.
        - "V(config_mismatch): C(items), each with C(what), C(configured) and C(effective)."
        - >-
          V(stopped): C(by_operator) (true if a person stopped the service, V(null) if unknown), and C(at).
        - "V(start_held): the hold's C(incident) and C(at)."
      type: dict
    explained_by:
      description: The cause that led to this cause, or V(null) if there is no such cause.
      type: str
    past:
      description: True if the cause no longer exists. Such causes are listed after all current causes.
      type: bool
      version_added: 1.0.0
  sample:
    - cause: killed
      confidence: 0.9
      summary: The process was terminated by signal KILL.
      evidence:
        - source: systemctl show itsm-system
          text: failed (failed), Result=signal, main process killed, status KILL
      remedy: Start the service.
      prevention: Find out who or what sent the signal.
      messages:
        summary:
          id: finding.killed.signal
          values:
            signal: KILL
        remedy:
          id: remedy.start
          values: {}
        prevention:
          id: prevention.killed.sender
          values: {}
      blocks_start: false
      useless_rungs: []
      rungs_help: true
      details: {}
      explained_by: null
      past: false
blocks_start:
  description: True if at least one finding rules out a start of the service.
  returned: always
  type: bool
facts:
  description:
    - All collected facts, grouped by part. If the module could not collect a part, this part contains only C(error).
    - Unknown values are V(null), not V(false).
  returned: always
  type: dict
  contains:
    process:
      description: >-
        C(state) (V(running), V(gone)) and C(processes), each with C(pid), C(start_ticks), C(ppid), C(exe), C(cwd),
        C(argv), C(user), C(state), C(started_at), C(rss), C(rss_peak), C(swap), C(threads), C(open_files),
        C(open_files_max), C(core_max), C(wait_channel), C(oom_score), C(open_databases), C(open_logs) and
        C(deleted_files) (deleted files that are still open and use space, each with C(path) and C(size)).
      type: dict
    unit:
      description:
        - Properties of the unit. The keys are C(name), C(load_state), C(active_state), C(sub_state), C(result),
          C(exit_code), C(exit_status), C(main_pid), C(last_pid), C(restarts), C(restart), C(restart_delay),
          C(start_limit_burst), C(start_limit_interval), C(stop_timeout), C(memory_max), C(memory_high), C(memory_peak),
          C(tasks_max), C(open_files_max), C(control_group), C(working_directory), C(file), C(drop_ins), C(user),
          C(group), C(more_groups), C(confined), C(needed_folder), C(environment_files) and C(load_error).
        - C(more_groups) is true if the unit sets supplementary groups. C(confined) is true if the unit has its own root
          folder or a dynamic user (C(DynamicUser=)). C(environment_files) lists the environment files that the unit
          needs to start.
        - The times are C(active_enter_at), C(active_exit_at), C(inactive_enter_at), C(started_at) and C(exited_at).
      type: dict
    ports:
      description: >-
        The sockets that listen on the configured ports, and all listening sockets of the service. The keys of each
        socket are C(port), C(address) and C(owners). The keys of each owner are C(pid), C(start_ticks), C(command),
        C(exe), C(user) and C(ours).
      type: list
      elements: dict
    answer:
      description:
        - The responses on C(https) and C(http), each with C(port), C(listening), C(answered), C(status), C(error),
          C(seconds), and the served C(certificate).
        - The served certificate has the same keys as the C(certificate) fact, from C(subject) to C(fingerprint).
        - If nothing listens on the HTTPS port, C(tls_elsewhere) lists the other ports on which the service uses TLS.
      type: dict
    health:
      description: >-
        The responses to the health requests for O(health_path), one for each port. The module sends the same requests
        as M(itsm_nexus.runbook.health_probe). The keys of each response include C(name) (V(https), V(http)), C(url),
        C(ok), C(status) and C(error). C(messages) contains C(error) as a translatable message with its C(id).
      type: list
      elements: dict
    disk:
      description: >-
        The file systems that contain the application, the database, the log, the state folder and the temporary files,
        each with C(use), C(path), C(mount), C(device), C(type), C(size), C(available), C(used_percent), C(inodes),
        C(inodes_available) and C(read_only).
      type: list
      elements: dict
    memory:
      description: >-
        C(total), C(available), C(swap_total) and C(swap_free). C(pressure) contains C(cpu), C(memory) and C(io), each
        with C(some) and C(full) (C(avg10), C(avg60), C(avg300)). The unit's C(control_group) contains C(max), C(high),
        C(swap_max), C(current), C(peak), C(oom), C(oom_kill) and C(pressure).
      type: dict
    kernel:
      description: >-
        The keys are C(source) and C(out_of_memory) (the kernel log lines about low memory, each with C(at), C(text),
        C(pid), C(name)).
      type: dict
    log:
      description:
        - C(paths) lists the log files. C(path), C(size) and C(written_at) describe the newest log file. C(lines)
          contains only the last O(log_lines) lines. The other keys are C(exceptions), C(signatures) and
          C(last_success_at). C(exceptions) and C(signatures) may also contain results from earlier lines.
        - C(signatures) contains the signatures by name, each with C(count) and C(text). C(at) and C(last_at) are the
          times of the first and the last line with the signature. C(none_after) is the time of the latest line with the
          signature. If the time of one of these lines is uncertain, C(none_after) is V(null). For example, the time is
          uncertain if the line does not begin with a timestamp that includes a time zone.
        - The keys of each exception include C(message), C(stack), C(fatal), C(last), C(place) (C(file), C(line)), and
          C(times) (the number of occurrences in the log).
        - C(at) is the time of the log line that contains the exception. If this line has no timestamp, C(at) is the
          time of an earlier line or of the last write to the log. C(logged_by) is the latest time at which the
          exception could have been logged.
        - C(compiling) is true if Node.js was parsing a file when the exception occurred. C(changed_at) is the time when
          the file in C(place) was last changed. C(parses) is true if Node.js can parse the file in C(place) now.
      type: dict
    journal:
      description: >-
        C(lines) (only the last O(log_lines) lines), C(exceptions), C(signatures) and C(last_success_at), with the same
        meaning as in C(log). C(starts), C(exits), C(control_exits), C(stops), C(results) and C(start_limit) contain the
        log lines from systemd. For each exit, C(ours) is true if a run started the process. While an incident is open,
        C(exits) omits processes that a run killed.
      type: dict
    certificate:
      description:
        - Properties of the certificate file. The keys are C(path), C(source) (where the module found the path),
          C(exists), C(readable_by_service), C(error), C(subject), C(issuer), C(names), C(not_before), C(not_after),
          C(expired), C(not_yet_valid), C(fingerprint) (SHA-256) and C(key).
        - C(key) describes the private key. Its keys are C(path), C(source), C(exists), C(readable) (by the service
          user), C(matches) (true if the private key matches the certificate) and C(error).
      type: dict
    database:
      description:
        - The result of M(itsm_nexus.runbook.sqlite_info) for the database in use, plus C(path), C(source) (where the
          module found this path, for example C(open in the running process)) and C(configured) (the path in
          O(db_path)).
        - Each item of C(holders) contains C(pid), C(start_ticks), C(role), C(command), C(exe), C(user), C(age) (in
          seconds), C(ours) and C(files). If the process is not part of the service, the item also contains
          C(blocks_for). C(blocks_for) is the number of seconds for which the process blocked all writes during the
          check, or V(null) if the process released its lock.
        - C(recovered_at) is a time shortly before M(itsm_nexus.runbook.sqlite_restore) created the current database
          file. Errors that were logged before this time refer to an earlier database file. C(recovered_at) is empty if
          another program created the file, or if the creator is no longer certain, for example after a reboot.
      type: dict
    migrations:
      description: >-
        The keys are C(completed) and C(pending) (migrations), C(batch), C(lock_held), C(lock_stale), C(migrators)
        (C(pid), C(start_ticks), C(command), C(user)) and C(error). C(lock_stale) is true if the lock is held although
        no running process can be applying migrations.
      type: dict
    dependencies:
      description:
        - C(missing), C(invalid) and C(unloadable) list package names. A package is invalid if its version or content
          differs from the lock file. A package is unloadable if Node.js cannot load the package. The other keys are
          C(ok) and C(reasons) (as text).
        - If the files do not contain enough information, the module runs C(npm ls). In this case, C(npm_ls) contains
          C(ok), C(problems) and C(error).
      type: dict
    node:
      description: >-
        C(path), C(version), the required C(engines), C(engines_ok), C(script), C(script_exists), C(modules_exist), and
        C(dependencies) (the number of dependencies).
      type: dict
    environment:
      description: >-
        C(names) lists the names of the environment variables of the service. C(sources) lists the places where these
        variables are set. C(required_missing) lists the required variables that are missing. C(certificate) and C(key)
        are the files whose paths are in these variables (C(path), C(source)). The other keys are C(database_path),
        C(database_path_source), C(max_old_space_size) in MiB, and C(problems).
      type: dict
    start:
      description:
        - The current state of everything that the service needs to start. C(environment_files) lists the environment
          files, each with C(path) and C(exists). C(program) and C(folder) are the program and the working directory of
          the unit.
        - C(program_fault), C(folder_fault), C(user_fault) and C(group_fault) are the reasons why the program, folder,
          user or group cannot be used. C(messages) contains these four reasons as translatable messages.
        - C(changed_at) is the time of the last change to the unit, its program or its environment files.
      type: dict
    ownership:
      description: >-
        The owners of the C(database), its C(-wal) and C(-shm) files, and their C(folder). C(denied) lists the paths
        that the service's C(user) is not allowed to use, each with C(path), C(owner), C(group) and C(mode). C(foreign)
        lists the database files that another user owns. C(others) lists other entries in the folder that another user
        owns. C(read_only) is true if the file system is read-only.
      type: dict
    settings:
      description: The invalid variables from O(settings), each with C(variable), C(value), C(message) and C(messages).
      type: list
      elements: dict
    readiness:
      description: The problems from O(readiness), each with C(cause), C(summary), C(source), and C(messages)
        (C(summary) as a translatable message, with C(id) and C(values)).
      type: list
      elements: dict
    paths:
      description: >-
        The configured and the effective paths, each with C(what) (V(database), V(log), V(working directory)),
        C(configured), C(effective), C(source) (of the effective path) and C(same) (true if both paths are the same).
      type: list
      elements: dict
    hold:
      description:
        - C(held) is the current hold, with C(incident), C(cause), C(reason) and C(at). C(kept_by) is the reason why the
          module cannot release the hold. C(messages) contains this reason as a translatable message.
        - C(may_be_another) is true if the database was not found at first, the service is no longer held, and the
          module cannot confirm that the current database is the original database.
        - The other keys are C(rows_missing), C(rows_collapsed), C(replaced) (see RV(database_replaced)) and
          C(created_at).
      type: dict
    changes:
      description:
        - The changes since the service was last healthy. C(since) is the time of the manifest, or V(null) if there is
          no manifest to compare with. C(failed_at) is the time of the failure. C(items) lists the changes, with the
          most likely cause first. C(omitted) is the number of changes that C(items) does not contain.
        - The keys of each change include C(kind) (such as V(lock_file), V(unit), V(environment)), C(name), and
          C(inside) (the file or folder that contains C(name)). C(what) is V(changed), V(added), V(removed), or
          V(access) (the owner or the permissions changed). C(before) and C(after) are empty if the values are unknown
          or may be secret.
        - C(at) is the time of the change, or V(null) if only the period from C(earliest) to C(latest) is known.
          C(seconds_before) is the number of seconds from the change to the failure.
        - C(cause) is the cause in the finding to which the change is related. C(relation) is V(named) (the finding
          mentions the change), V(explains) (such a change can lead to this finding), V(possible), V(unlikely), V(after)
          (made after the failure), or V(ours) (made by this collection).
      type: dict
    cores:
      description: Core dumps that were written within O(window), each with C(path), C(size), C(at), C(pid), C(signal),
        C(exe) and C(source).
      type: list
      elements: dict
    service:
      description: >-
        C(app_dir), C(app_dir_exists), C(manager), C(unit), C(pid_file_exists), C(https_port), C(http_port) and
        C(health_path).
      type: dict
    ends:
      description: >-
        How the service processes ended, in the format of RV(itsm_nexus.runbook.health_probe#module:ends). C(stopped_by)
        also contains the C(pid) and C(command) of the process that requested the stop.
      type: dict
    window:
      description: >-
        The period for which the module read the logs (C(since), C(until)). C(booted_at) is the time when the host
        booted. If the host is a container, C(booted_at) is the time when the container started.
      type: dict
bundle:
  description: Path of the folder that contains the evidence, or V(null) if O(incident) is empty.
  returned: always
  type: str
  sample: /var/lib/itsm-runbook/evidence/INC-20260302T010203Z-1f3a
warnings:
  description: Reason why the module could not save the evidence in the usual folder, and the folder that it used
    instead.
  returned: when there are warnings
  type: list
  elements: str
parts:
  description: Duration of each part in seconds, or V(timed out), or an error message.
  returned: always
  type: dict
  sample: {unit: 0.02, log: 0.01, "disk:log": timed out}
signs:
  description: Observations that show when the service was still healthy (V(good)) or had already failed (V(bad)).
  returned: always
  type: list
  elements: dict
  sample:
    - at: "2026-03-02T01:02:03.456Z"
      kind: bad
      source: "unit itsm-system: main process ended"
row_counts:
  description: Number of rows in each table. Tables whose rows could not be counted are omitted.
  returned: always
  type: dict
data_loss_suspected:
  description: True if any observation indicates that database rows were lost.
  returned: always
  type: bool
rows_before:
  description: The last good row counts, by table. Empty if no good row counts are known.
  returned: always
  type: dict
  version_added: 1.0.0
rows_missing:
  description: Tables that have fewer rows than in the last good row counts, each with the earlier and the current row
    count.
  returned: always
  type: dict
  version_added: 1.0.0
  sample: {"users": [102, 0]}
rows_collapsed:
  description: True if, compared with the last good row counts, a table or more than half of all rows are missing.
  returned: always
  type: bool
  version_added: 1.0.0
created_before:
  description:
    - Creation time of the database to which RV(rows_before) refers, which is the time when knex applied the first
      migration. Empty if this time is unknown.
  returned: always
  type: str
  version_added: 1.0.0
database_replaced:
  description:
    - True if the database was created later than RV(created_before) and is therefore a different database. For example,
      a person may have deleted the file, and the service created a new file at its next start.
    - V(null) if the creation time of the database is unknown.
  returned: always
  type: bool
  version_added: 1.0.0
only_copy:
  description:
    - True if the database file was deleted, but a service process still has the file open. If this process exits, the
      only copy of the database is lost.
  returned: always
  type: bool
  version_added: 1.0.0
hold:
  description:
    - The current hold, as returned by M(itsm_nexus.runbook.service_hold), or V(null) if there is none.
    - If O(run) and O(incident) are set, the module holds the service if a finding rules out a start of the service. If
      a check shows that the database is intact and no rows are missing, the module releases the hold.
  returned: always
  type: dict
  version_added: 1.0.0
released:
  description: True if this call released a hold. Always false if O(run) or O(incident) is empty.
  returned: always
  type: bool
  version_added: 1.0.0
data:
  description: The state of the data, in the format of RV(itsm_nexus.runbook.incident#module:data).
  returned: always
  type: dict
  version_added: 1.0.0
data_evidence:
  description:
    - Copy of the database files, which the module creates if the database is in doubt. C(path) is the folder that
      contains the copy. If the module did not create a copy, C(not_copied) is the reason, and C(messages) contains
      this reason as a translatable message.
    - V(null) if the module found no problem with the database.
  returned: always
  type: dict
  version_added: 1.0.0
started_by_run:
  description:
    - Time when the current attempt of O(run) began, if this attempt has started the service. Otherwise, V(null). The
      module reads this time from the incident record.
    - If this value is not V(null), the module collected RV(findings) and RV(facts) before the service was started.
  returned: always
  type: str
  version_added: 1.0.0
duration:
  description: Duration of the triage in seconds.
  returned: always
  type: float
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.lease.lost", "values": {"run": "run-1", "other": "run-2"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import options as triage_options
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            **triage_options.ARGUMENTS,
            "resume": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = {**module.params, "service": service_process.settings(module.params)}
    known = data_guard.known(params)
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = triage_options.triage(params, known, check_mode=module.check_mode, resume=params["resume"])
            guarded = bool(params["run"] and params["incident"]) and not module.check_mode
            data_guard.finish(params, result, known, guarded=guarded, warn=module.warn)
    except triage_run.TriageError as error:
        module.fail_json(msg=sanitize.text(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
