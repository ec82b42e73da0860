#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preparedness_info
short_description: Collect facts that show whether this host is ready for a recovery
version_added: 1.0.0
description:
  - Collects the facts for the readiness report in one round trip. M(itsm_nexus.runbook.preparedness_report) evaluates
    the facts.
  - Does not change the host. To test the Node.js modules of the service, this Ansible module rebuilds them in a
    temporary folder below C(/var/tmp). If this Ansible module runs as root, the rebuild has no network access and uses
    a private mount namespace. In this namespace, everything except the temporary folder is read-only.
  - If the service user owns a folder, the module reads the files in this folder with the permissions of that user.
  - If the module cannot collect a fact in time, it does not fail. RV(parts) contains the reason.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.backups
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.settings
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  state_dir:
    description: Absolute path of the state folder of this collection.
    type: str
  log_patterns:
    description: Path patterns for additional log files of the service.
    type: list
    elements: str
    default: []
  required_environment:
    description: Names of the environment variables that the service requires.
    type: list
    elements: str
    default: []
  tls_cert_path:
    description: Path of the service's certificate. If empty, the module reads the path from the environment of the
      service.
    type: str
    default: ""
  tls_key_path:
    description: Path of the private key. If empty, the module reads the path from the environment of the service.
    type: str
    default: ""
  npm_cache:
    description: Path of the npm cache folder. If empty, npm uses the cache in the home folder of the service user.
    type: str
    default: ""
  rebuild:
    description: Whether to rebuild the Node.js modules of the service.
    type: bool
    default: true
  rebuild_timeout:
    description: Time limit for npm, in seconds.
    type: float
    default: 300
  database_timeout:
    description: Time limit for checking the database and its backups, in seconds.
    type: float
    default: 120
  timeout:
    description: Time limit for all other facts, in seconds. The module collects these facts in three consecutive
      groups. The limit applies to each group separately.
    type: float
    default: 20
"""

EXAMPLES = r"""
- name: Collect the facts for the readiness report
  itsm_nexus.runbook.preparedness_info:
    service: "{{ nexus_service }}"
    db_path: "{{ nexus_db_path }}"
    https_port: "{{ nexus_https_port }}"
    http_port: "{{ nexus_http_port }}"
    state_dir: "{{ nexus_state_dir }}"
  register: _preparedness
"""

RETURN = r"""
facts:
  description: The collected facts, by name. If the module could not collect a fact, the key of this fact is missing.
  returned: success
  type: dict
  contains:
    backups:
      description:
        - C(found) lists the examined backups, newest first. The C(kind) of a backup is V(sound), V(older_schema),
          V(without_wal), V(damaged), V(other_service), V(unreadable), V(refused) or V(not_checked). C(written_at) is
          the time of the last write. C(why) is the reason for the C(kind), as a translatable message.
        - C(number) is the total number of backups. C(unread) lists the reasons why folders cannot be read.
      type: dict
    certificate:
      description: Properties of the certificate and its key, as in RV(itsm_nexus.runbook.triage_info#module:facts).
      type: dict
    clock:
      description: C(synchronized) is true if the host's clock is synchronized, or V(null) if this is unknown. C(at) is
        the current time on the host.
      type: dict
    database:
      description: The state of the service's database.
      type: dict
    drill:
      description: The result of the last restore drill. If there is no result, the only key is C(missing).
      type: dict
    environment:
      description: The names of the service's environment variables, without their values.
      type: dict
    guard:
      description: The installed parts of the start guard and the restart recorder.
      type: dict
    incident:
      description: The hold that prevents the service from being started, and the ID of the open incident.
      type: dict
    log:
      description: The size of the log files, and the logrotate configuration that rotates the service's log file.
      type: dict
    modules:
      description: Whether the Node.js modules could be rebuilt offline and loaded. If the modules could not be rebuilt
        or loaded, C(why) is the reason.
      type: dict
    privileges:
      description: The account that runs this module, and whether this account has the permissions that a recovery
        requires.
      type: dict
    process:
      description: The resource usage of the service's processes.
      type: dict
    room:
      description: The file systems to which a recovery writes, each with the available and the required space.
      type: list
      elements: dict
    secrets:
      description: The names of required variables that are missing or contain a weak secret, and the paths of
        environment files and private keys that any account can read. C(hard_links_protected) is false if the kernel
        setting C(fs.protected_hardlinks) is 0, or V(null) if this setting is unknown.
      type: dict
    settings:
      description: The result of M(itsm_nexus.runbook.service_preflight_info).
      type: dict
    unit:
      description: The properties of the unit, as in RV(itsm_nexus.runbook.triage_info#module:facts), plus C(at_boot)
        and C(needs_reload).
      type: dict
    versions:
      description: The versions of Python and Node.js.
      type: dict
      sample: {"python": "3.13.5", "node": "20.19.2"}
parts:
  description: Time in seconds that the module needed to collect each fact. If a fact is missing, the value is the
    reason, as a translatable message.
  returned: success
  type: dict
  sample: {"settings": 0.093, "modules": {"id": "ready.part.late", "values": {"seconds": "390"}}}
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 14.2
elapsed:
  description: Time in seconds from the start of the task to the result. The difference between this time and
    RV(duration) is the time needed to connect to the host and to start the module.
  returned: success
  type: float
  sample: 15.1
answered_at:
  description: Time when the controller received the result, according to the controller clock.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.456Z"
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  sample: {"msg": {"id": "reason.lease.lost", "values": {"run": "run-1", "other": "run-2"}}}
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import collect
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates

_LONGEST = 86400


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **preflight_findings.ARGUMENTS,
            **candidates.ARGUMENTS,
            "log_patterns": {"type": "list", "elements": "str", "default": []},
            "required_environment": {"type": "list", "elements": "str", "default": []},
            "tls_cert_path": {"type": "str", "default": ""},
            "tls_key_path": {"type": "str", "default": "", "no_log": False},
            "npm_cache": {"type": "str", "default": ""},
            "rebuild": {"type": "bool", "default": True},
            "rebuild_timeout": {"type": "float", "default": 300},
            "database_timeout": {"type": "float", "default": 120},
            "timeout": {"type": "float", "default": 20},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    # A repeated call collects the facts again. Otherwise, the module would have to save the first result on the host.
    repeated_call.once(module.params, check_mode=True, fail=module.fail_json)
    values = {name: value for name, value in module.params.items() if name != "run"}
    for name in ("rebuild_timeout", "database_timeout", "timeout"):
        if not 0 < values[name] <= _LONGEST:
            why = f"{name} is {values[name]:g}: must be more than 0 and at most {_LONGEST} seconds"
            module.fail_json(msg=sanitize.text(why))
    for folder in values["backup_dirs"]:
        if not folder.startswith("/"):
            module.fail_json(msg=sanitize.text(f"backup_dirs contains {folder!r}: must be absolute paths"))
    begun = time.monotonic()
    described = {**values.pop("service"), **values}
    config = preflight_findings.Config(**{name: described.pop(name) for name in preflight_findings.Config._fields})
    with host_lease.held(run=module.params["run"], state_dir=config.state_dir, warn=module.warn, fail=module.fail_json):
        result = collect.collect(collect.Settings(config=config, **described))
    module.exit_json(changed=False, duration=round(time.monotonic() - begun, 3), **sanitize.data(result))


if __name__ == "__main__":
    main()
