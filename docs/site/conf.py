# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sphinx settings for `make docs`, which builds HTML pages from the documentation of modules, roles and plugins."""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "itsm_nexus.runbook"
html_title = "itsm_nexus.runbook"
extensions = ["sphinx_antsibull_ext", "sphinx_rtd_theme"]
html_theme = "sphinx_rtd_theme"
html_static_path = ["static"]
html_css_files = ["narrow.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_use_index = False
highlight_language = "yaml+jinja"

ANSIBLE = "https://docs.ansible.com/ansible/latest"
# The pages link to these targets in Ansible's own documentation. All other undefined targets are errors.
ELSEWHERE = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "callback_plugins": "plugins/callback.html",
    "common_return_values": "reference_appendices/common_return_values.html",
    "ansible_collections.ansible.builtin.assert_module": "collections/ansible/builtin/assert_module.html",
    "ansible_collections.ansible.builtin.fail_module": "collections/ansible/builtin/fail_module.html",
    "ansible_collections.community.general.mail_module": "collections/community/general/mail_module.html",
}


def elsewhere(app: Sphinx, env: BuildEnvironment, node: pending_xref, label: nodes.Node) -> nodes.reference | None:
    """Return the link to a target in Ansible's own documentation, or None if the target is not listed."""
    page = ELSEWHERE.get(node["reftarget"])
    return page and nodes.reference("", label.astext(), refuri=f"{ANSIBLE}/{page}")


def setup(app: Sphinx) -> None:
    """Register the function for link targets that Sphinx cannot resolve."""
    app.connect("missing-reference", elsewhere)
