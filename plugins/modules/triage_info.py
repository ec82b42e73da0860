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
    and their responses, the disk, the memory, the kernel's messages about low memory, the log file, the journal, the
    certificate, the database, core dumps, Node, and the names of the environment variables. The module collects these
    parts in parallel, each with its own time limit. RV(parts) shows which parts could not be collected.
  - Returns the causes of the outage in RV(findings), most likely first. On a healthy host, RV(findings) is empty.
  - If O(incident) is set, the module saves the facts as the evidence bundle for this incident, in a folder that only
    its owner can read. If O(run) is also set, the module can hold the service or release a hold. See RV(hold).
  - The module removes passwords, tokens, keys and the values of the service's secret variables from all data that it
    returns or saves.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
  - itsm_nexus.runbook.triage
attributes:
  check_mode:
    support: full
    details: The module does not write the bundle. RV(bundle) is the path to which it would write the bundle.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  resume:
    description: Whether the result of an earlier call by the same run may have been lost. If this option is true and
      the earlier call started the service, the module returns the facts and findings that were saved before the service
      was started. The module returns the current facts and findings if nothing was saved, if the process is gone again,
      or if the data is now in doubt.
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
      description: A number from 0 to 1. A cause with a value of at least 0.5 is likely. A cause with a lower value is
        only a hint.
      type: float
    summary:
      description: The cause in one sentence.
      type: str
    evidence:
      description: >-
        Observations that support the finding, each with C(source) and C(text). If a C(text) is not quoted from the
        host, C(messages) contains it as a translatable message.
      type: list
      elements: dict
    remedy:
      description: The recommended action.
      type: str
    prevention:
      description: The action that prevents the cause from recurring.
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
      description: The rungs that cannot fix the cause (V(restart), V(standard_recovery), V(clean_start_recovery)).
      type: list
      elements: str
    details:
      description:
        - Data that the remedy requires, by cause. For causes that are not listed here, C(details) is empty.
        - >-
          V(disk_full): C(mounts), each with C(mount), C(path), C(what) (V(bytes), V(inodes)), C(wanted) (the number of
          bytes or inodes to free), C(available), C(size), C(inodes_available) and C(inodes).
        - >-
          V(port_conflict): C(processes), each with C(port), C(pid) (V(null) if it is not visible), C(start_ticks),
          C(user), C(command), C(exe) and C(ours).
        - >-
          V(db_locked): C(holders) (the processes whose lock blocks the service), each with C(pid), C(start_ticks),
          C(user), C(command), C(exe), C(role) and C(ours).
        - >-
          V(tls_expired): C(reason) (V(missing), V(unreadable), V(key_missing), V(key_unreadable), V(key_mismatch),
          V(expired), V(not_yet_valid), V(served_expired), V(not_served)), C(path), C(key_path) and C(not_after).
        - >-
          V(oom_kill), V(heap_oom): C(measured) (C(total), C(available), C(swap_free), C(memory_max), C(peak), C(heap)
          in bytes, C(max_old_space_size) in MiB) and C(proposal) (C(memory_max) in bytes, C(max_old_space_size) in
          MiB). A value is V(null) if it is unknown or not proposed.
        - >-
          V(modules_broken): C(packages) (the names of the broken packages, if they are known) and C(reason)
          (V(missing), V(unloadable), V(invalid), V(not loaded), V(repaired)).
        - "V(migration_pending): the C(pending) migrations, and C(lock_held) (true if a lock was left behind)."
        - >-
          V(unhandled_exception), V(syntax_error), V(crash_loop): C(falls) (the number of failures since the service
          last served requests) and C(exception) (the text of the exception). V(unhandled_exception) and V(syntax_error)
          also have C(file) and C(line), which are V(null) if the log does not contain them.
        - "V(unit_masked), V(unit_invalid): the C(variable) that contains the name of the unit, and the unit's
          C(load_state)."
        - "V(environment_missing): the C(variable) that contains the path of the environment file, and the C(paths) that
          do not exist."
        - >-
          V(exec_failed): C(status) (an exit code from systemd.exec(5)), the unit's C(program), and the C(reason).
        - >-
          V(database_owner): the C(user) of the service, and the C(database). C(files) are the database files that
          another user owns. C(denied) are the paths that the service's user is not allowed to use. C(others) are the
          folder and the other entries in the folder, if another user owns them.
        - "V(config_mismatch): C(items), each with C(what), C(configured) and C(effective)."
        - >-
          V(stopped): C(by_operator) (true if a person stopped the service, V(null) if this is unknown), and C(at).
        - "V(start_held): the hold's C(incident) and C(at)."
      type: dict
    explained_by:
      description: The other cause that led to this cause, or V(null) if there is none.
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
  description: True if a finding means that the service must not be started.
  returned: always
  type: bool
facts:
  description:
    - All collected facts, grouped by part. If a part could not be collected, it contains only C(error).
    - An unknown value is V(null), not V(false).
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
      description: >-
        Properties of the unit, with C(name), C(load_state), C(active_state), C(sub_state), C(result), C(exit_code),
        C(exit_status), C(main_pid), C(last_pid), C(restarts), C(restart), C(restart_delay), C(start_limit_burst),
        C(start_limit_interval), C(stop_timeout), C(memory_max), C(memory_high), C(memory_peak), C(tasks_max),
        C(open_files_max), C(control_group), C(working_directory), C(file), C(drop_ins), C(user), C(group),
        C(more_groups), C(confined), C(needed_folder), C(environment_files) and C(load_error). C(more_groups) is true if
        the unit sets supplementary groups. C(confined) is true if the unit has its own root folder or a dynamic user
        (C(DynamicUser=)). C(environment_files) lists the environment files that the unit needs to start. The times are
        C(active_enter_at), C(active_exit_at), C(inactive_enter_at), C(started_at) and C(exited_at).
      type: dict
    ports:
      description: >-
        The sockets that listen on the configured ports, and all listening sockets of the service. The keys of each
        socket are C(port), C(address) and C(owners). The keys of each owner are C(pid), C(start_ticks), C(command),
        C(exe), C(user) and C(ours).
      type: list
      elements: dict
    answer:
      description: >-
        The responses on C(https) and C(http), each with C(port), C(listening), C(answered), C(status), C(error),
        C(seconds), and the served C(certificate). The keys of the served certificate are the same as in the
        C(certificate) fact, from C(subject) to C(fingerprint). If nothing listens on the HTTPS port, C(tls_elsewhere)
        lists the other ports on which the service uses TLS.
      type: dict
    health:
      description: >-
        The responses to the health requests for O(health_path), one for each port. The requests are the same as in
        M(itsm_nexus.runbook.health_probe). The keys of each response include C(name) (V(https), V(http)), C(url),
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
        The keys are C(source) and C(out_of_memory) (the kernel's log lines about low memory, each with C(at), C(text),
        C(pid), C(name)).
      type: dict
    log:
      description: >-
        C(paths) lists the log files. C(path), C(size) and C(written_at) describe the newest one. The other keys are
        C(lines) (only the last O(log_lines) lines), C(exceptions), C(signatures) by name (each with C(count), C(text),
        and the times C(at) and C(last_at) of the first and the last line) and C(last_success_at). C(none_after) is the
        time of the latest line with the signature. It is V(null) if the time of one of these lines is uncertain, for
        example because the line does not begin with a timestamp that includes a time zone. C(exceptions) and
        C(signatures) may also contain results from earlier lines. The keys of each exception include C(message),
        C(stack), C(fatal), C(last), C(place) (C(file), C(line)), and C(times) (the number of occurrences in the log).
        C(at) is the time of the exception's log line. If this line has no timestamp, C(at) is the time of an earlier
        line or of the last write to the log. C(logged_by) is the latest time at which the exception could have been
        logged. C(compiling) is true if Node was parsing a file when the exception occurred. C(changed_at) is the time
        when the exception's file was last changed. C(parses) is true if Node can parse that file now.
      type: dict
    journal:
      description: >-
        C(lines) (only the last O(log_lines) lines), C(exceptions), C(signatures) and C(last_success_at), with the same
        meaning as in C(log). The log lines of systemd are in C(starts), C(exits), C(control_exits), C(stops),
        C(results) and C(start_limit). For an open incident, exits of processes that a run killed are omitted. For each
        exit, C(ours) is true if a run started the process.
      type: dict
    certificate:
      description:
        - Properties of the certificate file. The keys are C(path), C(source) (where the module found the path),
          C(exists), C(readable_by_service), C(error), C(subject), C(issuer), C(names), C(not_before), C(not_after),
          C(expired), C(not_yet_valid), C(fingerprint) (SHA-256) and C(key).
        - C(key) describes the private key. Its keys are C(path), C(source), C(exists), C(readable) (by the service's
          user), C(matches) (true if the private key matches the certificate) and C(error).
      type: dict
    database:
      description: >-
        The result of M(itsm_nexus.runbook.sqlite_info) for the database in use, plus C(path), C(source) (where the
        module found this path, for example C(open in the running process)) and C(configured) (the path in O(db_path)).
        Each item of C(holders) contains C(pid), C(start_ticks), C(role), C(command), C(exe), C(user), C(age) (in
        seconds), C(ours) and C(files). If the process is not part of the service, the item also contains C(blocks_for).
        This is the number of seconds for which the process blocked all writes during the check, or V(null) if the
        process released its lock. C(recovered_at) is a time, or empty. Errors that were logged before this time do not
        refer to the current database file, because M(itsm_nexus.runbook.sqlite_restore) created this file later.
        C(recovered_at) is empty if another program created the file, or if this is no longer certain, for example after
        a reboot.
      type: dict
    migrations:
      description: >-
        The keys are C(completed) and C(pending) (migrations), C(batch), C(lock_held), C(lock_stale), C(migrators)
        (C(pid), C(start_ticks), C(command), C(user)) and C(error). C(lock_stale) is true if the lock is held, but no
        running process can be applying migrations.
      type: dict
    dependencies:
      description: >-
        C(missing), C(invalid) and C(unloadable) list names of packages. A package is invalid if its version or content
        differs from the lock file. A package is unloadable if Node cannot load it. The other keys are C(ok) and
        C(reasons) (as text). If the files did not contain enough information, the module ran C(npm ls), and C(npm_ls)
        contains C(ok), C(problems) and C(error).
      type: dict
    node:
      description: >-
        C(path), C(version), the required C(engines), C(engines_ok), C(script), C(script_exists), C(modules_exist), and
        C(dependencies) (the number of dependencies).
      type: dict
    environment:
      description: >-
        C(names) lists the names of the service's variables, C(sources) lists where the variables are set, and
        C(required_missing) lists the required variables that are missing. C(certificate) and C(key) are the files whose
        paths are in the variables (C(path), C(source)). The other keys are C(database_path), C(database_path_source),
        C(max_old_space_size) in MiB, and C(problems).
      type: dict
    start:
      description: >-
        The current state of everything that the service needs to start. C(environment_files) lists files with C(path)
        and C(exists). C(program) and C(folder) are the program and the working folder of the unit.
        C(program_fault), C(folder_fault), C(user_fault) and C(group_fault) are the reasons why the program, folder,
        user or group cannot be used. C(messages) contains these four reasons as translatable messages. C(changed_at) is
        the time when the unit, its program or its environment files were last changed.
      type: dict
    ownership:
      description: >-
        The owners of the C(database), its C(-wal) and C(-shm) files, and their C(folder). C(denied) lists paths that
        the C(user) of the service is not allowed to use, each with C(path), C(owner), C(group) and C(mode). C(foreign)
        lists the database files that another user owns. C(others) lists the folder's other entries that another user
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
      description: >-
        C(held) is the current hold with C(incident), C(cause), C(reason) and C(at). C(kept_by) is the reason why the
        module cannot release the hold. C(messages) contains this reason as a translatable message. C(may_be_another) is
        true if the database was not found at first, and the module cannot confirm that the current database is the
        earlier one. The other keys are C(rows_missing), C(rows_collapsed), C(replaced) (see RV(database_replaced)) and
        C(created_at).
      type: dict
    changes:
      description: >-
        The changes since the service was last healthy. C(since) is the time of the manifest, or V(null) if there is no
        manifest to compare with. C(failed_at) is the time of the failure. C(items) lists the changes, with the most
        likely cause first, and C(omitted) is the number of further changes. The keys of each change include C(kind)
        (such as V(lock_file), V(unit), V(environment)), C(name), and C(inside) (the file or folder that contains
        C(name)). C(what) is V(changed), V(added), V(removed), or V(access) (the owner or the permissions changed).
        C(before) and C(after) are empty if they are unknown or may be secret. C(at) is the time of the change, or
        V(null) if only the period from C(earliest) to C(latest) is known. C(seconds_before) is the number of seconds
        from the change to the failure. C(cause) is the cause in the finding to which the change is related. C(relation)
        is V(named) (the finding mentions the change), V(explains) (such a change can lead to this finding),
        V(possible), V(unlikely), V(after) (made after the failure), or V(ours) (made by this collection).
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
        How the service's processes ended, in the format of RV(itsm_nexus.runbook.health_probe#module:ends).
        C(stopped_by) also contains the C(pid) and C(command) of the process that requested the stop.
      type: dict
    window:
      description: >-
        The period for which the logs were read (C(since), C(until)), and C(booted_at) (the time when the host was
        booted, or when the container was started if the host is a container).
      type: dict
bundle:
  description: The folder that contains the evidence, or V(null) if O(incident) is empty.
  returned: always
  type: str
  sample: /var/lib/itsm-runbook/evidence/INC-20260302T010203Z-1f3a
warnings:
  description: The reason why the evidence could not be saved in the usual folder, and the folder in which it was saved
    instead.
  returned: when there are warnings
  type: list
  elements: str
parts:
  description: For each part, its duration in seconds, V(timed out), or an error.
  returned: always
  type: dict
  sample: {unit: 0.02, log: 0.01, "disk:log": timed out}
signs:
  description: Times at which the service was still healthy (V(good)) or had already failed (V(bad)).
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
  description: True if any observation indicates that rows of the database were lost.
  returned: always
  type: bool
rows_before:
  description: The last good row counts, by table. Empty if no good row counts are known.
  returned: always
  type: dict
  version_added: 1.0.0
rows_missing:
  description: Tables that have fewer rows than in the last good row counts, each with the earlier and the current
    number of rows.
  returned: always
  type: dict
  version_added: 1.0.0
  sample: {"users": [102, 0]}
rows_collapsed:
  description: True if a table is missing, or if more than half of all rows are missing, compared with the last good row
    counts.
  returned: always
  type: bool
  version_added: 1.0.0
created_before:
  description:
    - The creation time of the database to which RV(rows_before) refers. The creation time is the time when knex applied
      the first migration. Empty if this time is unknown.
  returned: always
  type: str
  version_added: 1.0.0
database_replaced:
  description:
    - True if the database was created later than RV(created_before) and is therefore a different database. For example,
      the file was deleted, and the service created a new file at its next start.
    - V(null) if the creation time of the database is unknown.
  returned: always
  type: bool
  version_added: 1.0.0
only_copy:
  description:
    - True if the database file was deleted but a process of the service still has it open. If this process exits, the
      only copy is lost.
  returned: always
  type: bool
  version_added: 1.0.0
hold:
  description:
    - The current hold, as returned by M(itsm_nexus.runbook.service_hold), or V(null) if there is none.
    - If O(run) and O(incident) are set, the module sets a hold if a finding means that the service must not be started.
      The module releases the hold if a check shows that the database is intact and no rows are missing.
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
    - The copy of the database files, which the module creates if the database is in doubt. C(path) is the folder that
      contains the copy. If no copy was created, C(not_copied) is the reason.
    - V(null) if the module found no problem with the database.
  returned: always
  type: dict
  version_added: 1.0.0
started_by_run:
  description: The time at which the current attempt of O(run) began, if this attempt has started the service.
    Otherwise, V(null). The time is read from the incident's record. If this value is not V(null), RV(findings) and
    RV(facts) were collected before the service was started.
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
