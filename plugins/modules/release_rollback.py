#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_rollback
short_description: Roll back to an earlier release of the application if that release can use the database
version_added: 1.0.0
description:
  - Switches to the previous release, or to the release in O(release). O(release) can also be newer than the current
    release.
  - With O(strategy=symlink), O(app_dir) is a symbolic link to a release folder. The module replaces the link with a
    single rename operation.
  - With O(strategy=git), O(app_dir) is a git repository. The module checks out the last tag before the current commit.
  - If the database has migrations that the target release does not contain, the module changes nothing and returns the
    reason in RV(refused). The module also refuses the rollback if the database or a file in O(protect) is part of a
    release, or if a person has changed files in the repository.
  - If the module has already rolled back the application, it rolls back further only if O(release) is set to an older
    release.
  - The module records the rollback in O(state_dir).
  - Before the rollback, stop the service and back up the database. After the rollback, install the modules with
    M(itsm_nexus.runbook.npm_ci).
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  strategy:
    description: How this host stores the releases.
    type: str
    choices: [symlink, git]
    required: true
  app_dir:
    description: Absolute path of the application folder, or of the link to this folder.
    type: path
    required: true
  release:
    description:
      - The target release. With O(strategy=symlink), the name of a release folder. With O(strategy=git), a tag, branch
        or commit. Defaults to the previous release.
      - The module sorts release folders by name, and compares numbers in the names as numbers.
    type: str
    default: ""
  releases_dir:
    description: With O(strategy=symlink), the folder that contains the releases. Defaults to the parent folder of the
      current release.
    type: path
    default: ""
  migrations_dir:
    description: Path of the migrations folder within a release.
    type: str
    default: backend/migrations
  db_path:
    description: Absolute path of the database.
    type: path
    required: true
  protect:
    description: Absolute paths of other files that must not be replaced, such as the environment file.
    type: list
    elements: path
    default: []
  user:
    description:
      - The user that the service runs as. This user or root must own O(app_dir) and every folder on its path.
        Otherwise, the module fails.
    type: str
    default: ""
    version_added: 1.0.0
  timeout:
    description:
      - Time limit for each git command, in seconds.
      - The time limit for reading the applied migrations from the database is the shorter of 30 seconds and O(timeout).
    type: float
    default: 60.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
notes:
  - The module runs git without the hooks of the repository.
  - If accounts other than root can change O(app_dir) or a folder on its path, git runs as O(user). If O(user) is empty,
    git runs as the owner of the first folder that accounts other than root can change.
  - If only root can change O(app_dir) and the folders on its path, git runs as root. In this case, the module fails if
    an account other than root can change a file in O(app_dir).
seealso:
  - module: itsm_nexus.runbook.npm_ci
  - module: itsm_nexus.runbook.sqlite_backup
"""

EXAMPLES = r"""
- name: Roll back to the previous release
  itsm_nexus.runbook.release_rollback:
    strategy: symlink
    app_dir: /srv/itsm/current
    db_path: /srv/itsm/shared/itsm.db

- name: Roll back to a tag
  itsm_nexus.runbook.release_rollback:
    strategy: git
    app_dir: /mnt/LinuxHDD/ITSM-System
    release: v1.4.2
    db_path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
"""

RETURN = r"""
from:
  description: Folder, branch, tag or commit of the release that was active before the module ran. V(null) if the
    release is unknown.
  returned: success
  type: str
  sample: v1.5.0
to:
  description: The release that the module switched to. In check mode, the release that the module would switch to. If
    the module refused the rollback, the target release, or V(null) if the target release is unknown.
  returned: success
  type: str
  sample: v1.4.2
refused:
  description: Reason why the module refused the rollback. Empty if the module did not refuse the rollback.
  returned: success
  type: str
  sample: ""
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.2
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
    - If the module refused the rollback, C(refused) contains RV(refused) as a translatable message.
  returned: success, and failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.release.git_late", "values": {"command": "checkout", "folder": "/srv/itsm"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release as service_release
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import release_steps


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "strategy": {"type": "str", "choices": ["symlink", "git"], "required": True},
            "app_dir": {"type": "path", "required": True},
            "release": {"type": "str", "default": ""},
            "releases_dir": {"type": "path", "default": ""},
            "migrations_dir": {"type": "str", "default": "backend/migrations"},
            "db_path": {"type": "path", "required": True},
            "user": {"type": "str", "default": ""},
            "protect": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    releases = release_steps.Releases(
        app_dir=params["app_dir"],
        db_path=params["db_path"],
        state_dir=params["state_dir"],
        release=params["release"],
        releases_dir=params["releases_dir"],
        migrations_dir=params["migrations_dir"],
        protect=params["protect"],
        user=params["user"],
        timeout=params["timeout"],
    )
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = service_release.roll_back(releases, strategy=params["strategy"], check_mode=module.check_mode)
    except release_steps.ReleaseError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
