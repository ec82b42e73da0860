#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_probe
short_description: Check whether the service answers, and how severe the outage is
version_added: 0.1.0
description:
  - Probes all endpoints of the service at once, checks its process, and repeats until the verdict is clear. An
    unhealthy service is a result, not a failure of the module.
  - An endpoint is good if it answers 200 with a JSON body whose C(status) is one of O(ok_statuses), or 429 (a rate
    limit proves that it works). Each request ends after O(timeout), also if the server accepts the connection and stays
    silent or sends single bytes. Proxies of the environment are not used.
  - It is not named C(health_info), because it can change the host. With O(open) it opens the incident, and it may take
    over a pending restart from systemd.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  endpoints:
    description: The endpoints to probe. The service is healthy if every required endpoint is good.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: A short name for messages and results.
        type: str
        required: true
      url:
        description: The URL, V(http://) or V(https://), without user and password.
        type: str
        required: true
      required:
        description: Whether the service is unhealthy if this endpoint is not good.
        type: bool
        default: true
      validate_certs:
        description: Whether the endpoint is bad if its certificate is untrusted, expired, or issued for another name.
        type: bool
        default: false
      ca_path:
        description: File of certificates to trust. Without it, the host's trusted certificates are used.
        type: path
        default: ""
  mode:
    description:
      - V(watch) ends healthy at the first healthy answer, V(critical) after O(critical_after) failures in a row, and
        V(emergency) as soon as an answer is bad and the process is gone.
      - V(await) is for the time after a start. It probes until all endpoints are good, for O(deadline) seconds at most.
        It ends early if the process is gone and nothing is about to start it, or if it ended once more after systemd
        restarted it.
      - V(hold) probes O(count) times. It ends unhealthy at the first bad answer, or if the pids change.
      - With O(run), V(await) records the first healthy answer in the incident, and V(hold) removes it if the stability
        check fails. So the end of the outage is recorded even if the run is killed in between.
    type: str
    default: watch
    choices: [watch, await, hold]
  ok_statuses:
    description: Values of C(status) that mean healthy (case-insensitive).
    type: list
    elements: str
    default: [ok]
  timeout:
    description: Time limit of a request, in seconds.
    type: float
    default: 5.0
  interval:
    description: Time from the start of one probe to the start of the next, in seconds.
    type: float
    default: 1.0
  warning_after:
    description: Number of failures in a row that make a warning.
    type: int
    default: 3
  critical_after:
    description: Number of failures in a row that are critical. Not less than O(warning_after).
    type: int
    default: 5
  deadline:
    description: Time limit of O(mode=await), in seconds.
    type: float
    default: 60.0
  count:
    description: Number of healthy answers in a row for O(mode=hold).
    type: int
    default: 6
  login:
    description:
      - A login to try once after all endpoints are good, with O(mode=await) and O(mode=hold). If it fails, the service
        is unhealthy. Its answer is discarded.
      - The password is sent only to a loopback address, or over HTTPS with O(login.validate_certs=true).
    type: dict
    suboptions:
      url:
        description: URL to which a JSON object with C(username) and C(password) is posted.
        type: str
        required: true
      username:
        description: The account to log in with.
        type: str
        required: true
      password:
        description: The password.
        type: str
        required: true
      validate_certs:
        description: As for O(endpoints[].validate_certs).
        type: bool
        default: false
      ca_path:
        description: As for O(endpoints[].ca_path).
        type: path
        default: ""
  remember:
    description:
      - Whether to record in O(state_dir) when the service was healthy, with O(mode=watch) and O(mode=hold).
        M(itsm_nexus.runbook.incident) uses it as the last good sign before an outage. An error while recording is not
        reported.
      - In check mode nothing is recorded.
    type: bool
    default: false
    version_added: 0.2.0
  open:
    description:
      - Whether O(mode=watch) opens an incident, or continues the open one, in the same round trip if the service is
        down. Pass RV(opened) to O(itsm_nexus.runbook.incident#module:opened), which reports it.
    type: bool
    default: false
    version_added: 0.2.0
  maintenance_until:
    description: End of a maintenance, as for M(itsm_nexus.runbook.incident). It changes no verdict.
    type: str
    default: ""
    version_added: 0.2.0
  maintenance_reason:
    description: Reason for the maintenance.
    type: str
    default: ""
    version_added: 0.2.0
  preflight:
    description:
      - The options of M(itsm_nexus.runbook.service_preflight_info) that this module does not have itself (it has
        O(service) and O(state_dir)). With them, both checks are done in one round trip. An invalid value fails the
        module only if the service is healthy, or if its state is unknown. If the service is down, the module succeeds,
        and RV(preflight) lists the invalid values. The service is probed on the usable endpoints.
      - While HTTPS is switched off by consent, only plain HTTP is probed.
    type: dict
    version_added: 0.2.0
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
  ports:
    description: The TCP ports the service listens on. They help to find its process when another user started it.
    type: list
    elements: int
    default: []
seealso:
  - module: itsm_nexus.runbook.node_process
"""

EXAMPLES = r"""
- name: Ask until a verdict stands
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

- name: Wait until the service answers after a start, then log in
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
  description: True if the service is healthy by the rules of O(mode), including the login.
  returned: success
  type: bool
  sample: false
summary:
  description: The problems in one line, V(answers) if there are none.
  returned: success
  type: str
  sample: "https: connection refused: nothing listens there; the process is gone"
messages:
  description:
    - RV(summary) for other languages. C(summary) is a list with a message for each problem. Each message has the C(id)
      of its text in the catalogue of messages, and the C(values) in it.
    - If the module fails, C(msg) has the reason as a message.
  returned: success, and when a parameter is invalid
  type: dict
  version_added: 0.2.0
  sample: {"summary": [{"id": "reason.probe.gone", "values": {}}]}
severity:
  description:
    - V(none) for a healthy service, else V(warning), V(critical) or V(emergency). It is V(emergency) if the process is
      gone, or if nobody may start the service because its database is in doubt (RV(doubt)).
    - With O(mode=watch) also V(unreachable) if the host could not be checked, because there is no connection or it did
      not answer within the task's C(timeout). The state of the service is then unknown.
    - With O(mode=watch) also V(warning) for a service that answers again after O(warning_after) or more failures in a
      row.
  returned: success
  type: str
  sample: emergency
consecutive_failures:
  description: Failures in a row at the end.
  returned: success
  type: int
  sample: 1
max_consecutive_failures:
  description: The highest number of failures in a row.
  returned: success
  type: int
  sample: 1
process:
  description:
    - The service's process. C(state) is V(running), V(gone) or V(unknown) (this user may not see it). C(restarts) is
      systemd's count of automatic restarts, V(null) for another manager.
  returned: success
  type: dict
  sample: {"state": "running", "pids": [812], "started_at": "2026-03-02T01:02:03.450Z", "restarts": 0}
endpoints:
  description:
    - The last answer of each endpoint. C(certificate) is V(null) if there was no TLS handshake.
    - C(silent) is V(true) if there was no answer in time.
    - C(messages) has C(error) for other languages. See RV(messages).
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
  description: True if all attempts timed out on all endpoints.
  returned: success
  type: bool
  sample: false
  version_added: 0.2.0
first_failure_at:
  description: Start of the first failed probe, V(null) if none failed.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.456Z"
last_success_at:
  description: Time of the last healthy answer, V(null) if there was none.
  returned: success
  type: str
  sample: null
first_healthy_at:
  description: Time of the first healthy answer, V(null) if there was none.
  returned: success
  type: str
  sample: null
opened:
  description:
    - With O(open), the result of M(itsm_nexus.runbook.incident) with O(itsm_nexus.runbook.incident#module:state=open).
      If it was refused, C(failed) is V(true) and C(msg) gives the reason.
    - V(null) if no incident had to be opened.
  returned: success
  type: dict
  sample: null
signs:
  description: The last good and the first bad answer, as O(itsm_nexus.runbook.incident#module:signs).
  returned: success
  type: list
  elements: dict
  sample:
    - at: "2026-03-02T01:02:03.456Z"
      kind: bad
      source: health probe
python:
  description: Tag of the host's Python in file names of compiled code. The controller compiles kept modules for it.
  returned: success
  type: str
  sample: cpython-313
supervisor:
  description:
    - The actions of systemd on the unit. C(phase) at the first probe (V(up), V(down), V(pending), V(starting),
      V(stopping)), C(waited) (seconds for somebody else's start), C(restarted) (whether the service answers because
      systemd restarted it), C(started_at).
  returned: success
  type: dict
  version_added: 0.2.0
  sample: {"phase": "starting", "waited": 2.1, "restarted": true, "started_at": "2026-03-02T01:02:03.456Z"}
takeover:
  description:
    - The takeover of a unit that systemd was about to start. C(unit), C(at), C(sub_state), C(timer).
    - V(null) if nothing was taken over.
  returned: success
  type: dict
  version_added: 0.2.0
doubt:
  description: Why the service must not be started on its database, by a quick check. V(null) if no reason was found.
  returned: success
  type: str
  version_added: 0.2.0
hold:
  description: The hold of the service, as M(itsm_nexus.runbook.service_hold) returns it. V(null) if there is none.
  returned: success
  type: dict
  version_added: 0.2.0
data_in_doubt:
  description: True if the data of the open incident are in doubt.
  returned: success
  type: bool
  version_added: 0.2.0
open_incident:
  description: True if an incident was open in O(state_dir). If the service is healthy, it was resolved manually.
  returned: success
  type: bool
  sample: false
maintenance:
  description:
    - The current maintenance from O(state_dir) or the parameters, whichever lasts longer.
    - V(null) if there is none.
  returned: success
  type: dict
  sample: {"until": "2026-03-02T04:00:00.000Z", "reason": "Release 4.2", "source": "variable"}
preflight:
  description: The result of M(itsm_nexus.runbook.service_preflight_info), V(null) without O(preflight).
  returned: success, and when a value of O(preflight) cannot be right
  type: dict
  version_added: 0.2.0
answers_since:
  description:
    - With O(mode=watch), the time since which a healthy service answers (C(at)), and the source of that time
      (C(source)). If systemd restarted it before the first probe, the time is an estimate.
  returned: success
  type: dict
  sample: {at: "2026-03-02T01:02:03.456Z", source: health probe}
  version_added: 0.2.0
serving_said_at:
  description:
    - Time of the log line in which the process reports that it serves on O(ports). The module searches for it only if
      the service is healthy and no probe saw the end of its outage (an incident is open, or systemd restarted it);
      otherwise V(null).
  returned: success
  type: str
  sample: null
  version_added: 0.2.0
attempts:
  description: Number of probes.
  returned: success
  type: int
  sample: 1
duration:
  description: Duration in seconds.
  returned: success
  type: float
  sample: 0.021
login:
  description:
    - The result of the login, V(null) if none was tried. C(ok) is also V(true) if the service answered 429 (rate
      limit); C(checked) is V(false) then, because the password was not checked.
  returned: success
  type: dict
  sample: {"ok": true, "checked": true, "status": 200, "error": null, "messages": {}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

_PROOF = {"validate_certs": {"type": "bool", "default": False}, "ca_path": {"type": "path", "default": ""}}
_PLAN = {
    "mode": {"type": "str", "default": "watch", "choices": ["watch", "await", "hold"]},
    "ok_statuses": {"type": "list", "elements": "str", "default": ["ok"]},
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
_ENDPOINT = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "required": {"type": "bool", "default": True},
    **_PROOF,
}
_LOGIN = {
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    **_PROOF,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            **_PLAN,
            "ports": {"type": "list", "elements": "int", "default": []},
            "endpoints": {"type": "list", "elements": "dict", "required": True, "options": _ENDPOINT},
            "login": {"type": "dict", "options": _LOGIN},
            "remember": {"type": "bool", "default": False},
            "open": {"type": "bool", "default": False},
            "maintenance_until": {"type": "str", "default": ""},
            "maintenance_reason": {"type": "str", "default": ""},
            "preflight": {"type": "dict", "options": _CHECKED},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    detect = detection.Detection(module.params, check_mode=module.check_mode, warn=module.warn)
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
