#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_probe
short_description: Check whether the service answers, and determine the severity of an outage
version_added: 0.1.0
description:
  - Probes all endpoints of the service in parallel, checks the service process, and repeats these checks until the
    verdict is clear. If the service is unhealthy, the module does not fail, but returns RV(healthy=false).
  - An endpoint is healthy if it returns status 200 and a JSON body whose C(status) is one of O(ok_statuses). A response
    with status 429 (rate limit) also counts as healthy, because such a response shows that the service works.
  - The module aborts each request after O(timeout), even if the server keeps sending data slowly. The module ignores
    proxy settings in the environment.
  - The module can change the host, so its name does not end in C(_info). With O(open=true), the module opens an
    incident, and may take over the unit from systemd if systemd has scheduled a restart.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.endpoints
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  endpoints:
    description: The endpoints to probe. The service is healthy if every required endpoint is healthy.
  mode:
    description:
      - As soon as the service returns a healthy response, V(watch) reports that the service is healthy. After
        O(critical_after) consecutive failed probes, V(watch) reports the severity V(critical). As soon as a probe fails
        and the process is gone, V(watch) reports the severity V(emergency).
      - V(await) probes until all endpoints are healthy, for at most O(deadline) seconds. Use V(await) after starting
        the service. V(await) stops early if no process is running and systemd will not start a process. V(await) also
        stops early if systemd has restarted the service and the service exits again.
      - V(hold) probes O(count) times. As soon as a probe fails or the process IDs change, V(hold) reports that the
        service is unhealthy.
      - If O(run) is set, V(await) records the time of the first healthy response in the incident. If the stability
        check fails, V(hold) removes the recorded time. Therefore, the incident contains the end of the outage even if
        the run is killed between V(await) and V(hold).
    type: str
    default: watch
    choices: [watch, await, hold]
  timeout:
    description: Time limit for a request, in seconds.
    type: float
    default: 5.0
  interval:
    description: Time from the start of a probe to the start of the next probe, in seconds.
    type: float
    default: 1.0
  warning_after:
    description: Number of consecutive failed probes after which the severity is V(warning).
    type: int
    default: 3
  critical_after:
    description: Number of consecutive failed probes after which the severity is V(critical). This number must be at
      least O(warning_after).
    type: int
    default: 5
  deadline:
    description: Time limit for O(mode=await), in seconds.
    type: float
    default: 60.0
  count:
    description: Number of consecutive healthy responses that O(mode=hold) requires.
    type: int
    default: 6
  login:
    description:
      - Settings for the login check. The module tries to log in once, after all endpoints are healthy. The module
        discards the response body.
      - With O(mode=await) and O(mode=hold), the service is unhealthy if the login fails. With O(mode=watch), this
        option is allowed only together with O(readiness), and the service is degraded if the login fails.
      - The module sends the password only to a loopback address, or over HTTPS with O(login.validate_certs=true).
  remember:
    description:
      - Whether O(mode=watch) and O(mode=hold) save the time when the service was last healthy. The module saves this
        time in O(state_dir). M(itsm_nexus.runbook.incident) uses this time to determine the start of an outage. If the
        module cannot save the time, it does not report an error.
      - If the service is down and no incident is open, O(mode=watch) with O(open=false) saves the time of the first
        failed probe. If a run opens an incident within an hour after the last failed probe, this time helps to
        determine the start of the outage. A healthy probe removes this time.
      - In check mode, the module does not save anything.
    type: bool
    default: false
    version_added: 1.0.0
  open:
    description:
      - Whether O(mode=watch) opens or continues an incident in the same round trip if RV(severity) is not V(none).
      - To make the next M(itsm_nexus.runbook.incident) task return this incident, pass RV(opened) to
        O(itsm_nexus.runbook.incident#module:opened).
    type: bool
    default: false
    version_added: 1.0.0
  maintenance_until:
    description:
      - End of the maintenance window, in the format of O(itsm_nexus.runbook.incident#module:maintenance_until). The
        maintenance window does not change the verdict.
    type: str
    default: ""
    version_added: 1.0.0
  maintenance_reason:
    description: Reason for the maintenance.
    type: str
    default: ""
    version_added: 1.0.0
  preflight:
    description:
      - The options of M(itsm_nexus.runbook.service_preflight_info), except O(service) and O(state_dir). If this option
        is set, the module validates these settings and probes the service in one round trip. The module probes only
        endpoints with valid settings.
      - If the service is down, the module does not fail because of an invalid value, but lists the value in
        RV(preflight). If the service is healthy or its state is unknown, the module fails if a value is invalid.
      - The module always fails if O(state_dir) or O(service.manager) is invalid, or if O(service.command) is empty.
      - The module also fails if the only problems are disks that do not respond, because it cannot check the settings
        for paths on these disks.
      - If a drop-in from M(itsm_nexus.runbook.unit_dropin) has disabled HTTPS, the module probes only plain HTTP.
    type: dict
    version_added: 1.0.0
    suboptions:
      db_path:
        description: See M(itsm_nexus.runbook.service_preflight_info).
        type: str
        required: true
      db_path_variable:
        description: See M(itsm_nexus.runbook.service_preflight_info).
        type: str
        default: DATABASE_PATH
      https_port:
        description: See M(itsm_nexus.runbook.service_preflight_info).
        type: raw
        required: true
      http_port:
        description: See M(itsm_nexus.runbook.service_preflight_info).
        type: raw
        required: true
  readiness:
    description:
      - Settings for the readiness checks. If this option is set and the service answers, O(mode=watch) and O(mode=hold)
        also check whether the service is ready. See RV(readiness). If the service is not ready, O(mode=watch) reports
        the severity V(degraded).
      - The preflight check determines the database path. Therefore, the module checks the database only if O(preflight)
        is set.
      - To detect trends, the module compares the current values with earlier measurements. O(mode=watch) saves these
        measurements in O(state_dir) if O(remember=true).
    type: dict
    version_added: 1.0.0
    suboptions:
      ready_path:
        description:
          - URL path of the endpoint that reports whether the service is ready. The service is not ready if the endpoint
            returns a status of 500 or higher, or does not respond. If the response body is a JSON object with
            C(checks), the module reports the names of the failed checks. If the status is between 300 and 499, such as
            404, readiness counts as unchecked.
          - If empty, the module does not send a request to this endpoint.
        type: str
        default: ""
      slow_after:
        description: >-
          Minimum duration of a slow response, in seconds. The module reports slow responses if three consecutive
          responses take at least this time. If the usual response time is known, each of these responses must also take
          at least ten times as long as usual. If V(0), the module does not check response times.
        type: float
        default: 1.0
      lock_after:
        description: >-
          Minimum duration of a lock to report, in seconds. The maximum is V(10). The module reports a process that
          continuously blocks all writes to the database for at least this time. If V(0), the module does not check
          locks.
        type: float
        default: 2.0
      check_budget:
        description: Time limit for the database check (C(quick_check)), in seconds. The maximum is V(10). If V(0), the
          module does not check the content of the database.
        type: float
        default: 0.5
      open_files_percent:
        description: >-
          Threshold for open files and connections, as a percentage of the limit of a process. The module reports a
          process that has reached this percentage of its limit. If V(0), the module does not check open files.
        type: float
        default: 90.0
      certificate_days:
        description: >-
          Minimum remaining validity period of the certificate, in days. The module reports a certificate that expires
          within this period. The module always reports an expired certificate.
        type: float
        default: 7.0
      disk_percent:
        description:
          - Threshold for used space or used inodes, as a percentage. The module reports a file system that has reached
            this percentage and will be full within O(readiness.disk_hours) at the current rate.
          - If V(0), the module does not check this trend. The module always reports a file system if at least V(99) %
            of its space or inodes is used.
        type: float
        default: 95.0
      disk_hours:
        description: Time until a file system is full, in hours. See O(readiness.disk_percent).
        type: float
        default: 24.0
      wal_bytes:
        description: >-
          Minimum size of a WAL to report, in bytes. The module reports a WAL that has at least this size and keeps
          growing. If V(0), the module does not check the size.
        type: int
        default: 67108864
      restarts:
        description: >-
          Threshold for automatic restarts. The module reports the service if systemd restarted the service at least
          this many times in the last hour. If V(0), the module does not check restarts.
        type: int
        default: 3
      memory_pressure:
        description: >-
          Threshold for memory pressure, as a percentage of the last minute. The module reports memory pressure if all
          processes on the host or in the unit were waiting for memory at the same time for at least this percentage of
          the last minute. If V(0), the module does not check memory pressure.
        type: float
        default: 20.0
  manifest:
    description:
      - Settings for the manifest. If this option is set and O(remember=true), O(mode=watch) and O(mode=hold) save a
        manifest of a healthy service in O(state_dir).
      - The manifest describes the state of the host, such as the release, the lock file, the unit, the names of
        environment variables, the certificate, the packages and the database schema. During an outage,
        M(itsm_nexus.runbook.triage_info) compares the manifest with the host. See
        RV(itsm_nexus.runbook.triage_info#module:facts).
      - The manifest contains neither secrets nor hashes of secrets. If the module cannot save the manifest, it does not
        report an error.
    type: dict
    version_added: 1.0.0
    suboptions:
      database_path:
        description: Path of the database. Used only if O(preflight) is not set. If empty, the module does not save the
          schema.
        type: str
        default: ""
      tls_cert_path:
        description: See O(itsm_nexus.runbook.triage_info#module:tls_cert_path).
        type: str
        default: ""
      tls_key_path:
        description: Path of the private key of the certificate. If empty, the module reads the path from the
          environment of the service.
        type: str
        default: ""
  ports:
    description: The TCP ports on which the service listens. If another user started the service process, the module
      uses the ports to find this process.
    type: list
    elements: int
    default: []
seealso:
  - module: itsm_nexus.runbook.node_process
"""

EXAMPLES = r"""
- name: Probe until the verdict is clear
  itsm_nexus.runbook.health_probe:
    service:
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      unit: itsm-system
    endpoints:
      - name: https
        url: https://localhost:6443/api/v1/health
      - name: http
        url: http://localhost:8080/api/v1/health
        required: false

- name: Wait until the service answers after a start, and log in
  itsm_nexus.runbook.health_probe:
    mode: await
    deadline: 60
    interval: 0.25
    service:
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      unit: itsm-system
    endpoints:
      - name: https
        url: https://localhost:6443/api/v1/health
    login:
      url: https://localhost:6443/api/v1/auth/login
      username: admin
      password: "{{ nexus_login_password }}"
"""

RETURN = r"""
healthy:
  description: True if the service is healthy according to O(mode). False if the login check failed. With O(mode=watch),
    a degraded service counts as unhealthy, although the service answers.
  returned: success
  type: bool
  sample: false
summary:
  description: The problems as one line of text, or V(answers) if there are no problems.
  returned: success
  type: str
  sample: "https: connection refused (nothing listens there); the process is gone"
messages:
  description:
    - RV(summary) as translatable messages. C(summary) is a list with one message per problem. Each message contains its
      C(id) in the message catalogue, and the C(values) to insert into the message text.
    - If the module fails, C(msg) contains the reason as a message.
  returned: success, and when a parameter is invalid
  type: dict
  version_added: 1.0.0
  sample: {"summary": [{"id": "reason.probe.gone", "values": {}}]}
severity:
  description:
    - V(none) if the service is healthy, otherwise V(warning), V(critical) or V(emergency). The severity is V(emergency)
      if the process is gone, or if the service must not be started because of a problem in the database (RV(doubt)).
    - With O(mode=watch), V(degraded) means that the service answers, but RV(readiness) contains problems.
    - With O(mode=watch), V(unreachable) means that the connection to the host failed, or that the host did not answer
      within the C(timeout) of the task. In this case, the state of the service is unknown.
    - With O(mode=watch), the severity is also V(warning) if the service answers again after at least O(warning_after)
      consecutive failed probes.
    - With O(open=true), the severity is also V(emergency) if systemd recently restarted the service, and no run has
      found the service healthy since that restart.
  returned: success
  type: str
  sample: emergency
readiness:
  description:
    - Results of the readiness checks. V(null) if O(readiness) is not set or the service does not answer.
    - C(problems) lists the problems. C(cause) can have the same values as in
      RV(itsm_nexus.runbook.triage_info#module:findings). C(source) is the place where the problem was found.
    - C(unchecked) lists the checks that the module could not perform, each with the reason.
    - C(reported) is the ID of the open incident in which a run has already reported all of these problems, or V(null).
    - C(seconds) is the duration of the checks.
  returned: success
  type: dict
  version_added: 1.0.0
  sample:
    problems:
      - cause: db_locked
        summary: Process 4711 (sqlite3, user itsm, age 9 min) has blocked all writes to the database for at least 2.0 s
        source: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
        messages: {}
    unchecked:
      - {check: ready, why: /api/v1/health/ready answered with status 404, messages: {}}
    reported: null
    seconds: 0.04
consecutive_failures:
  description: Number of consecutive failed probes at the end of the check.
  returned: success
  type: int
  sample: 1
max_consecutive_failures:
  description: Highest number of consecutive failed probes during the check.
  returned: success
  type: int
  sample: 1
process:
  description:
    - State of the service process. C(state) is V(running) or V(gone). If the module cannot check the process, for
      example because the module user is not allowed to see the process, C(state) is V(unknown). C(restarts) is the
      number of automatic restarts that systemd has counted, or V(null) if systemd does not manage the service.
  returned: success
  type: dict
  sample: {"state": "running", "pids": [812], "started_at": "2026-03-02T01:02:03.450Z", "restarts": 0}
endpoints:
  description:
    - The last response from each endpoint. C(certificate) is V(null) if there was no TLS handshake.
    - C(silent) is true if the endpoint did not respond in time.
    - C(messages) contains C(error) as a translatable message. See RV(messages).
  returned: success
  type: list
  elements: dict
  sample:
    - name: https
      url: https://localhost:6443/api/v1/health
      required: true
      ok: true
      status: 200
      latency_ms: 7.4
      error: null
      messages: {}
      silent: false
      certificate: {"not_after": "2027-03-02T01:02:03.000Z", "subject": "CN=localhost", "expired": false}
silent:
  description: True if all requests to all endpoints timed out.
  returned: success
  type: bool
  sample: false
  version_added: 1.0.0
first_failure_at:
  description: Time when the first failed probe started, or V(null) if no probe failed.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.456Z"
last_success_at:
  description: Time of the last healthy response, or V(null) if there was none.
  returned: success
  type: str
  sample: null
first_healthy_at:
  description: Time of the first healthy response, or V(null) if there was none.
  returned: success
  type: str
  sample: null
opened:
  description:
    - With O(open=true), the result of M(itsm_nexus.runbook.incident) with
      O(itsm_nexus.runbook.incident#module:state=open). If the module could not open the incident, C(failed) is true and
      C(msg) is the reason.
    - V(null) if the module did not have to open an incident.
  returned: success
  type: dict
  sample: null
signs:
  description: The times of the last healthy response and of the first failed probe, in the format of
    O(itsm_nexus.runbook.incident#module:signs).
  returned: success
  type: list
  elements: dict
  sample:
    - at: "2026-03-02T01:02:03.456Z"
      kind: bad
      source: health probe
python:
  description: Tag of the host's Python version, as in the names of C(.pyc) files. The controller compiles cached
    modules for this version.
  returned: success
  type: str
  sample: cpython-313
supervisor:
  description:
    - State of the unit in systemd.
    - C(phase) is the phase of the unit at the first probe (V(up), V(down), V(pending), V(starting) or V(stopping)).
    - C(waited) is the time in seconds that the module waited for systemd or a person to start the service.
    - With O(open=true), C(restarted) is true if the service answers, systemd recently restarted the service, and no run
      has found the service healthy since that restart. C(started_at) is the start time of the service process, or
      V(null) if there is no process.
  returned: success
  type: dict
  version_added: 1.0.0
  sample: {"phase": "starting", "waited": 2.1, "restarted": true, "started_at": "2026-03-02T01:02:03.456Z"}
takeover:
  description:
    - Details of the takeover, if the module took over the unit from systemd because systemd was about to start the
      unit. The keys are C(unit), C(at), C(sub_state) and C(timer).
    - V(null) if there was no takeover.
  returned: success
  type: dict
  version_added: 1.0.0
doubt:
  description: Reason why the service must not be started, such as a problem that a quick check found in the database.
    Determined only with O(open=true). V(null) if there is no such reason.
  returned: success
  type: str
  version_added: 1.0.0
hold:
  description: The hold on the service, as returned by M(itsm_nexus.runbook.service_hold), or V(null) if the service is
    not held.
  returned: success
  type: dict
  version_added: 1.0.0
data_in_doubt:
  description: True if the open incident records that the service's data is in doubt or that the service's database was
    not found.
  returned: success
  type: bool
  version_added: 1.0.0
open_incident:
  description: True if an incident was open in O(state_dir). If the service is healthy and an incident was open, the
    outage ended without any action by this run.
  returned: success
  type: bool
  sample: false
maintenance:
  description:
    - The current maintenance window. If O(state_dir) contains a maintenance window and the options also define a
      maintenance window, the module returns the window that ends later.
    - V(null) if there is no maintenance window.
  returned: success
  type: dict
  sample: {"until": "2026-03-02T04:00:00.000Z", "reason": "Release 4.2", "source": "variable"}
preflight:
  description: The result of M(itsm_nexus.runbook.service_preflight_info), or V(null) if O(preflight) is not set.
  returned: success, and when a value of O(preflight) is invalid
  type: dict
  version_added: 1.0.0
ends:
  description:
    - How the service processes ended in the last C(window) seconds, as recorded by the restart recorder of the
      P(itsm_nexus.runbook.start_guard#role) role. V(null) if the restart recorder is not installed.
    - C(restarts) is the number of automatic restarts by systemd. C(after) contains the number of these restarts for
      each kind of exit.
    - Each item of C(ends) contains C(at), C(how) (for example V(SIGSEGV), V(oom-kill), V(exit 1), V(host-down)),
      C(result), C(status), C(signal), C(automatic), C(invocation), C(confirmed) and C(stopped_by).
    - C(automatic) is true if an automatic restart had started this process. C(confirmed) is true if systemd confirmed
      the invocation. If C(confirmed) is false, the service's user may have forged this entry. C(stopped_by) contains
      the C(uid) and C(login_uid) of the account that requested the stop, or is V(null).
  returned: success
  type: dict
  version_added: 1.0.0
  sample: {"window": 3600.0, "restarts": 3, "after": {"SIGSEGV": 2, "exit 1": 1}, "ends": []}
answers_since:
  description:
    - C(at) is the time when a healthy service began to respond, and C(source) is the source of this time. Determined
      only with O(mode=watch). If systemd restarted the service before the first probe, this time is an estimate.
  returned: success
  type: dict
  sample: {at: "2026-03-02T01:02:03.456Z", source: health probe}
  version_added: 1.0.0
serving_said_at:
  description:
    - Time of the log line in which the process reports that it serves requests on O(ports), or V(null) if there is no
      such line. The module searches for this line only if the service is healthy and no probe observed the end of the
      outage. This can be the case if an incident is open, or if systemd restarted the service before the first probe.
  returned: success
  type: str
  sample: null
  version_added: 1.0.0
attempts:
  description: Number of probes.
  returned: success
  type: int
  sample: 1
duration:
  description: Total duration of all probes and waits, in seconds.
  returned: success
  type: float
  sample: 0.021
login:
  description:
    - Result of the login check, or V(null) if the module did not try to log in.
    - If the service returned status 429 (rate limit), the password was not checked. In this case, C(ok) is true and
      C(checked) is false.
    - With O(mode=watch), this value is always V(null), because the login check is part of RV(readiness).
  returned: success
  type: dict
  sample: {"ok": true, "checked": true, "status": 200, "error": null, "messages": {}}
"""

import functools

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import baseline
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import examine as service_readiness
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import limits
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

_PLAN = {
    "mode": {"type": "str", "default": "watch", "choices": ["watch", "await", "hold"]},
    "timeout": {"type": "float", "default": 5.0},
    "interval": {"type": "float", "default": 1.0},
    "warning_after": {"type": "int", "default": 3},
    "critical_after": {"type": "int", "default": 5},
    "deadline": {"type": "float", "default": 60.0},
    "count": {"type": "int", "default": 6},
}
_CHECKED = {
    "db_path": {"type": "str", "required": True},
    "db_path_variable": {"type": "str", "default": "DATABASE_PATH"},
    "https_port": {"type": "raw", "required": True},
    "http_port": {"type": "raw", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            **_PLAN,
            **probe_plan.ARGUMENTS,
            "ports": {"type": "list", "elements": "int", "default": []},
            "remember": {"type": "bool", "default": False},
            "open": {"type": "bool", "default": False},
            "maintenance_until": {"type": "str", "default": ""},
            "maintenance_reason": {"type": "str", "default": ""},
            "preflight": {"type": "dict", "options": _CHECKED},
            "readiness": {"type": "dict", "options": limits.arguments()},
            "manifest": {"type": "dict", "options": baseline.ARGUMENTS},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    ready = functools.partial(service_readiness.of_detection, check_mode=module.check_mode)
    see = functools.partial(baseline.of_detection, check_mode=module.check_mode)
    detect = detection.Detection(module.params, check_mode=module.check_mode, warn=module.warn, ready=ready, see=see)
    try:
        with host_lease.held(**detect.lease, warn=module.warn, fail=module.fail_json):
            detect.ask()
    except detection.SettingsError as error:
        told = plain(msg=error.told)
        module.fail_json(msg=sanitize.text(error), messages=told, preflight=error.preflight)
    except probe_plan.HealthError as error:
        module.fail_json(**failure(error))
    module.exit_json(changed=False, **sanitize.data(detect.report()))


if __name__ == "__main__":
    main()
