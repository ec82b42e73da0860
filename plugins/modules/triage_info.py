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
  - Collects all facts that a person would check during an outage, at the same time. These are process, unit, ports and
    their answers, disk, memory, the kernel's out-of-memory lines, log file, journal, certificate, database, core dumps,
    Node, and the names of the environment's variables. Each part has its own deadline. RV(parts) lists the parts that
    were not reached.
  - Names the causes in RV(findings), the one to deal with first at the front. On a healthy host there are none.
  - With O(incident) it saves the facts as the evidence bundle of that incident, in a folder that only its owner can
    read. Nothing else on the host is changed.
  - Passwords, tokens, keys and the values of the service's secret variables are removed from everything it returns and
    saves.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
attributes:
  check_mode:
    support: full
    details: The bundle is not written; RV(bundle) is its planned path.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  db_path:
    description:
      - The database. A relative path, here and in O(tls_cert_path), is relative to O(service.app_dir).
      - If the running process has another database open, or O(db_path_variable) names another one, that one is checked
        and the difference is a finding.
    type: str
    default: backend/itsm.db
  db_path_variable:
    description: The variable of the service's environment that names its database, or V("") for none.
    type: str
    default: DATABASE_PATH
    version_added: 0.2.0
  tls_cert_path:
    description:
      - The service's certificate. If it is empty, the path is read from the service's variables (E(SSL_CERT_PATH),
        E(TLS_CERT_FILE) and similar); the same for O(tls_key_path).
    type: str
    default: ""
  tls_key_path:
    description: The key of that certificate. If no setting names it, the file next to it that ends in C(.key).
    type: str
    default: ""
  https_port:
    description: The HTTPS port of the service, or V(0) if there is none.
    type: int
    default: 6443
  http_port:
    description: The HTTP port of the service, or V(0) if there is none.
    type: int
    default: 8080
  health_path:
    description:
      - Path of the health request. If it is empty, no request is sent.
      - If everything else is healthy, but the service refuses the request (a status from 300 to 499 except 408 and 429)
        or answers with a page, the path is wrong. That is the finding V(config_mismatch), and no rung is tried.
    type: str
    default: ""
    version_added: 0.2.0
  health_ok_statuses:
    description: Values of C(status) that mean healthy.
    type: list
    elements: str
    default: [ok]
    version_added: 0.2.0
  silent:
    description:
      - Whether all earlier probes timed out. See RV(itsm_nexus.runbook.health_probe#module:silent). The service then
        gets half a second to answer instead of a large part of O(part_timeout).
    type: bool
    default: false
    version_added: 0.2.0
  required_environment:
    description: Variables that the service requires. Missing or empty ones are reported.
    type: list
    elements: str
    default: []
  state_dir:
    description: The folder below which evidence is kept.
    type: path
    default: /var/lib/itsm-runbook
  incident:
    description: Incident that the evidence belongs to. If empty, no evidence is saved.
    type: str
    default: ""
  evidence_limit:
    description: Maximum size of the evidence of one incident in bytes, all passes together.
    type: int
    default: 20971520
  evidence_keep:
    description:
      - Number of newest incidents whose evidence is kept. If V(0), all is kept.
      - The evidence of O(incident) and of the open incident is never removed. Files of others in these folders are kept
        too.
    type: int
    default: 50
  evidence_keep_days:
    description: Number of days for which the evidence of an incident is kept. If V(0), it is kept for ever.
    type: float
    default: 365.0
  deadline:
    description: Time limit of the whole pass, in seconds.
    type: float
    default: 10.0
  part_timeout:
    description: Time limit of each part, in seconds.
    type: float
    default: 5.0
  database_timeout:
    description:
      - Time limit in seconds of the check of the database if it did not finish within O(deadline).
      - A database whose check did not finish by then is the finding V(db_unchecked), on which nothing is started. If
        its disk does not answer, there is no extra time.
    type: float
    default: 300.0
  window:
    description: Length of the period before the end of the service (or before now) from which logs are read, in
      seconds.
    type: int
    default: 600
  log_lines:
    description: Number of last lines of log file and journal to return.
    type: int
    default: 100
  kernel_log_command:
    description: Command that prints the kernel's log. If empty, C(journalctl -k) is used, or C(dmesg) if that fails.
    type: list
    elements: str
    default: []
  settings:
    description:
      - Invalid variables, as RV(itsm_nexus.runbook.service_preflight_info#module:problems) lists them. Each becomes a
        finding that names the rungs which need the variable.
    type: list
    elements: dict
    default: []
    version_added: 0.2.0
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

- name: Start nothing if rows may be lost
  ansible.builtin.assert:
    that: not triage.blocks_start
    fail_msg: "{{ triage.findings[0].summary }} {{ triage.findings[0].remedy }}"
"""

RETURN = r"""
findings:
  description: The causes found, the most urgent first.
  returned: always
  type: list
  elements: dict
  contains:
    cause:
      description: >-
        V(disk_full), V(disk_read_only), V(oom_kill), V(heap_oom), V(db_corrupt), V(db_unchecked), V(start_held),
        V(config_mismatch), V(port_conflict), V(modules_broken), V(db_locked), V(migration_pending), V(tls_expired),
        V(hung), V(unit_masked), V(unit_invalid), V(environment_missing), V(exec_failed), V(syntax_error),
        V(database_owner), V(unhandled_exception), V(killed), V(crash_loop), V(stopped), V(wal_pending) or V(unknown).
      type: str
    confidence:
      description: From 0 to 1. From 0.5 it is a likely cause, below that only a hint.
      type: float
    summary:
      description: The cause in a sentence.
      type: str
    evidence:
      description: Texts that support the finding, as C(source) and C(text).
      type: list
      elements: dict
    remedy:
      description: Action to take now.
      type: str
    prevention:
      description: Action to prevent it in future.
      type: str
    messages:
      description: >-
        C(summary), C(remedy) and C(prevention) for other languages, each with its C(id) in the catalogue of messages
        and its C(values).
      type: dict
      version_added: 0.2.0
    blocks_start:
      description: True if starting the service now would do harm.
      type: bool
    rungs_help:
      description: True if a rung of the ladder can fix it at all.
      type: bool
    useless_rungs:
      description: Those of V(restart), V(standard_recovery) and V(clean_start_recovery) that cannot fix it.
      type: list
      elements: str
    details:
      description:
        - Input of the remedy, by cause. Causes that are not listed here have none.
        - >-
          V(disk_full): C(mounts), each with C(mount), C(path), C(what) (V(bytes), V(inodes)), C(wanted) (how many of
          them must go), C(available), C(size), C(inodes_available), C(inodes).
        - >-
          V(port_conflict): C(processes), each with C(port), C(pid) (V(null) if it is not visible),
          C(start_ticks), C(user), C(command), C(exe), C(ours).
        - >-
          V(db_locked): C(holders), those whose lock keeps the service out, each with C(pid), C(start_ticks), C(user),
          C(command), C(exe), C(role), C(ours).
        - >-
          V(tls_expired): C(reason) (V(missing), V(unreadable), V(key_missing), V(key_unreadable), V(key_mismatch),
          V(expired), V(not_yet_valid), V(served_expired), V(not_served)), C(path), C(key_path), C(not_after).
        - >-
          V(oom_kill), V(heap_oom): C(measured) (C(total), C(available), C(swap_free), C(memory_max), C(peak), C(heap)
          in bytes, C(max_old_space_size) in MiB) and C(proposal) (C(memory_max) in bytes, C(max_old_space_size) in
          MiB), each V(null) if unknown or without a proposal.
        - >-
          V(modules_broken): C(packages), as far as they are named, and C(reason) (V(missing), V(unloadable),
          V(invalid), V(not loaded), V(repaired)).
        - "V(migration_pending): the C(pending) migrations, and C(lock_held), whether a lock was left behind."
        - >-
          V(unhandled_exception), V(syntax_error), V(crash_loop): C(falls) since it last served, the text of the
          C(exception), and, but for V(crash_loop), its C(file) and C(line), V(null) if the log does not name them.
        - "V(unit_masked), V(unit_invalid): the C(variable) that names the unit, and its C(load_state)."
        - "V(environment_missing): the C(variable) that names it, and the C(paths) that do not exist."
        - >-
          V(exec_failed): the exit C(status) of systemd.exec(5), the unit's C(program), and the C(reason).
        - >-
          V(database_owner): the C(user) of the service, the C(database), those C(files) of it that belong to somebody
          else, what that user may not use (C(denied)), and the C(others), other entries of the folder, or the folder
          itself, that belong to somebody else.
        - "V(config_mismatch): C(items), each with C(what), C(configured), C(effective)."
        - >-
          V(stopped): C(by_operator), whether a person stopped it (V(null) if unknown), and C(at).
      type: dict
    explained_by:
      description: The cause of which this one is a consequence.
      type: str
    past:
      description: True if it no longer exists. Such a cause comes after all current ones.
      type: bool
      version_added: 0.2.0
  sample:
    - cause: killed
      confidence: 0.9
      summary: The process was ended by signal KILL.
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
  description: True if any finding says that nothing may be started.
  returned: always
  type: bool
facts:
  description:
    - Everything collected, by part. A part that was not reached holds C(error) and nothing else of its own.
    - An unknown value is V(null), which is neither V(true) nor V(false).
  returned: always
  type: dict
  contains:
    process:
      description: >-
        C(state) (V(running), V(gone)) and C(processes), each with C(pid), C(start_ticks), C(ppid), C(exe), C(cwd),
        C(argv), C(user), C(state), C(started_at), C(rss), C(rss_peak), C(swap), C(threads), C(open_files),
        C(open_files_max), C(core_max), C(wait_channel), C(oom_score), C(open_databases), C(open_logs) and
        C(deleted_files) (C(path), C(size)): deleted files that are still open and use space.
      type: dict
    unit:
      description: >-
        Properties of the unit. C(name), C(load_state), C(active_state), C(sub_state), C(result), C(exit_code),
        C(exit_status), C(main_pid), C(last_pid), C(restarts), C(restart), C(restart_delay), C(start_limit_burst),
        C(start_limit_interval), C(stop_timeout), C(memory_max), C(memory_high), C(memory_peak), C(tasks_max),
        C(open_files_max), C(control_group), C(working_directory), C(file), C(drop_ins), C(user), C(group),
        C(more_groups) (whether it adds some), C(confined) (whether it has a root folder or a user of its own),
        C(needed_folder), C(environment_files) (those that a start needs), C(load_error), and the instants
        C(active_enter_at), C(active_exit_at), C(inactive_enter_at), C(started_at), C(exited_at).
      type: dict
    ports:
      description: >-
        The sockets that listen on the configured ports, and those of the service. C(port), C(address) and C(owners),
        each with C(pid), C(start_ticks), C(command), C(exe), C(user), C(ours).
      type: list
      elements: dict
    answer:
      description: >-
        For C(https) and C(http) C(port), C(listening), C(answered), C(status), C(error), C(seconds), and the
        served C(certificate) with the fields of the part C(certificate). If nothing listens on the HTTPS port,
        C(tls_elsewhere) has the other ports on which the service speaks TLS.
      type: dict
    health:
      description: >-
        The answer to the health request at O(health_path), sent as by M(itsm_nexus.runbook.health_probe). C(name)
        (V(https), V(http)), C(url), C(ok), C(status), C(error), and in C(messages) the error as a message with the
        C(id) of its text.
      type: list
      elements: dict
    disk:
      description: >-
        For each place that matters C(use), C(path), C(mount), C(device), C(type), C(size), C(available),
        C(used_percent), C(inodes), C(inodes_available), C(read_only).
      type: list
      elements: dict
    memory:
      description: >-
        C(total), C(available), C(swap_total), C(swap_free); C(pressure) with C(cpu), C(memory) and C(io), each with
        C(some) and C(full) (C(avg10), C(avg60), C(avg300)); the unit's C(control_group) with C(max), C(high),
        C(swap_max), C(current), C(peak), C(oom), C(oom_kill), C(pressure).
      type: dict
    kernel:
      description: C(source) and the lines C(out_of_memory), each with C(at), C(text), C(pid), C(name).
      type: dict
    log:
      description: >-
        The log file. C(path), C(size), C(written_at), C(lines), C(exceptions) (C(message), C(stack), C(fatal),
        C(last), C(at), C(place) (C(file), C(line)), C(compiling) (Node was reading a file), C(times) the same one is
        there, C(changed_at) when its file was changed, C(parses) whether Node can read that file now),
        C(signatures) by name (C(count), C(text), C(at)), C(last_success_at).
      type: dict
    journal:
      description: >-
        As C(log), and the lines of systemd as C(starts), C(exits), C(control_exits), C(stops), C(results),
        C(start_limit).
      type: dict
    certificate:
      description: >-
        The certificate's file. C(path), C(source) of the path, C(exists), C(readable_by_service), C(error),
        C(subject), C(issuer), C(names), C(not_before), C(not_after), C(expired), C(not_yet_valid), C(fingerprint)
        (SHA-256), and C(key) with C(path), C(source), C(exists), C(readable) (by the service's user), C(matches)
        (the certificate), C(error).
      type: dict
    database:
      description: >-
        The result of M(itsm_nexus.runbook.sqlite_info) for the database in use, with C(path), C(source) and
        C(configured); each of its C(holders) with C(pid), C(start_ticks), C(role), C(command), C(exe), C(user),
        C(ours), C(files), and those that are not the service's C(blocks_for) (seconds for which it was seen to block
        all writes; null if it released its lock).
      type: dict
    migrations:
      description: >-
        C(completed) and C(pending) migrations, C(batch), C(lock_held), C(lock_stale) (held, and nobody is there who
        could be migrating), C(migrators) (C(pid), C(start_ticks), C(command), C(user)), C(error).
      type: dict
    dependencies:
      description: >-
        C(ok), and the names of the packages that are C(missing), C(invalid) (another version or content than the lock
        file's) or C(unloadable) (Node cannot load them), the C(reasons) as text, and C(npm_ls) (C(ok), C(problems),
        C(error)) if C(npm ls) was run, because the files gave no answer.
      type: dict
    node:
      description: >-
        C(path), C(version), the required C(engines), whether C(engines_ok); C(script), C(script_exists),
        C(modules_exist), the number of C(dependencies).
      type: dict
    environment:
      description: >-
        The C(names) of the service's variables and their C(sources), the C(required_missing) ones,
        C(database_path) and C(database_path_source), the C(certificate) and C(key) they name (C(path), C(source)),
        C(max_old_space_size) in MiB, C(problems).
      type: dict
    start:
      description: >-
        What a start needs, as it is now. C(environment_files) (C(path), C(exists)); of a unit its C(program) with
        C(program_fault) (why it cannot be run), the C(folder) it is run in with C(folder_fault), C(user_fault),
        C(group_fault), and these four as C(messages); C(changed_at), when the unit, its program or its environment
        files were last changed.
      type: dict
    ownership:
      description: >-
        Of the C(database), its -wal and -shm and their C(folder): paths that the C(user) of the service may not use
        (C(denied), each with C(path), C(owner), C(group), C(mode)), their files that belong to somebody else
        (C(foreign)), other such entries of the folder (C(others)), and whether the file system is C(read_only).
      type: dict
    settings:
      description: The variables of O(settings), each with C(variable), C(value), C(message), C(messages).
      type: list
      elements: dict
    paths:
      description: >-
        The configured and the used paths. C(what) (V(database), V(log), V(working directory)), C(configured),
        C(effective), the C(source) of that, whether they are the C(same).
      type: list
      elements: dict
    hold:
      description: >-
        C(held) (the hold in force: C(incident), C(cause), C(reason), C(at)), C(kept_by) (what keeps it in force;
        also in C(messages)), C(rows_missing), C(rows_collapsed).
      type: dict
    cores:
      description: Core dumps of the window. C(path), C(size), C(at), C(pid), C(signal), C(exe), C(source).
      type: list
      elements: dict
    service:
      description: >-
        C(app_dir), C(app_dir_exists), C(manager), C(unit), C(pid_file_exists), C(https_port), C(http_port),
        C(health_path).
      type: dict
    window:
      description: >-
        The instants C(since) and C(until) of the logs that were read, and C(booted_at), when the host or its container
        was started.
      type: dict
bundle:
  description: The folder with the evidence, or V(null) without O(incident).
  returned: always
  type: str
  sample: /var/lib/itsm-runbook/evidence/INC-20260302T010203Z-1f3a
warnings:
  description: Why the evidence could not be saved in its usual folder, and its current place.
  returned: when there are any
  type: list
  elements: str
parts:
  description: Duration of each part in seconds, or V(timed out), or its error.
  returned: always
  type: dict
  sample: {unit: 0.02, log: 0.01, "disk:log": timed out}
signs:
  description: Instants at which the service was last healthy (V(good)) and at which it had failed (V(bad)).
  returned: always
  type: list
  elements: dict
  sample:
    - at: "2026-03-02T01:02:03.456Z"
      kind: bad
      source: "unit itsm-system: main process ended"
row_counts:
  description: Rows of each table of the database, as far as they could be counted.
  returned: always
  type: dict
data_loss_suspected:
  description: True if there are signs in the database that rows are lost.
  returned: always
  type: bool
rows_before:
  description: The last good row counts by table. Empty if none are known.
  returned: always
  type: dict
  version_added: 0.2.0
rows_missing:
  description: Tables with fewer rows than at the last good count, each with the rows before and now.
  returned: always
  type: dict
  version_added: 0.2.0
  sample: {"users": [102, 0]}
rows_collapsed:
  description: True if a table, or half of all rows, is missing since the last good count.
  returned: always
  type: bool
  version_added: 0.2.0
only_copy:
  description:
    - True if a process of the service has the database open although its file was deleted. A stop would destroy the
      only copy.
  returned: always
  type: bool
  version_added: 0.2.0
hold:
  description:
    - The hold that is in force now, as M(itsm_nexus.runbook.service_hold) returns it. V(null) if there is none.
    - With O(run) and O(incident), a finding that blocks the start sets it. A check that finds the database sound, and
      no row missing, releases it.
  returned: always
  type: dict
  version_added: 0.2.0
data:
  description: The state of the data, as RV(itsm_nexus.runbook.incident#module:data).
  returned: always
  type: dict
  version_added: 0.2.0
data_evidence:
  description:
    - The copy of the files of a database in doubt. C(path) of the folder, C(not_copied) why there is none.
    - V(null) if the database is not in doubt.
  returned: always
  type: dict
  version_added: 0.2.0
duration:
  description: Duration of the pass in seconds.
  returned: always
  type: float
messages:
  description:
    - Why the module failed, as a message for other languages. C(msg) has the C(id) of its text in the catalogue of
      messages, and the C(values) in it.
  returned: failure
  type: dict
  version_added: 0.2.0
  sample: {"msg": {"id": "reason.lease.lost", "values": {"run": "run-1", "other": "run-2"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run

_DESCRIPTION = {
    "db_path": {"type": "str", "default": "backend/itsm.db"},
    "db_path_variable": {"type": "str", "default": "DATABASE_PATH"},
    "tls_cert_path": {"type": "str", "default": ""},
    "tls_key_path": {"type": "str", "default": "", "no_log": False},
    "https_port": {"type": "int", "default": 6443},
    "http_port": {"type": "int", "default": 8080},
    "health_path": {"type": "str", "default": ""},
    "health_ok_statuses": {"type": "list", "elements": "str", "default": ["ok"]},
    "required_environment": {"type": "list", "elements": "str", "default": []},
    "state_dir": {"type": "path", "default": "/var/lib/itsm-runbook"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            **_DESCRIPTION,
            "incident": {"type": "str", "default": ""},
            "evidence_limit": {"type": "int", "default": 20971520},
            "evidence_keep": {"type": "int", "default": 50},
            "evidence_keep_days": {"type": "float", "default": 365.0},
            "deadline": {"type": "float", "default": 10.0},
            "part_timeout": {"type": "float", "default": 5.0},
            "database_timeout": {"type": "float", "default": 300.0},
            "window": {"type": "int", "default": 600},
            "log_lines": {"type": "int", "default": 100},
            "silent": {"type": "bool", "default": False},
            "kernel_log_command": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = {**module.params, "service": service_process.settings(module.params)}
    known = data_guard.known(params)
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = triage_run.triage(
                service=triage_run.Service(**params["service"], **{name: params[name] for name in _DESCRIPTION}),
                run=commands.run,
                save=not module.check_mode,
                **known,
                **{name: params[name] for name in params if name not in (*_DESCRIPTION, "run", "service")},
            )
            guarded = bool(params["run"] and params["incident"]) and not module.check_mode
            data_guard.finish(params, result, known, guarded=guarded, warn=module.warn)
    except triage_run.TriageError as error:
        module.fail_json(msg=sanitize.text(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
