# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# All project tasks. `make demo` and `make test` install all requirements.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# Ansible needs a UTF-8 locale. Every Debian system has C.UTF-8.
export LC_ALL := C.UTF-8
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# The tests start hundreds of Python programs. Without PYTHONDONTWRITEBYTECODE, these programs share compiled files.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# With this PATH, programs find other programs in the virtual environment.
WITH_PATH := PATH="$(CURDIR)/$(BIN):$$PATH"
COLLECTION := collections/ansible_collections/itsm_nexus/runbook
# Ruff does not find these Python programs automatically, because the names do not end with .py.
PYTHON_PROGRAMS = $$(git grep -lE '^\#!.*python' -- ':!*.py')
# vermin must ignore these names. The first two are Python 3.9 functions, which are called only if they exist. The last
# name is a field with the same name as a Python 2 function.
GUARDED := $(addprefix --exclude ,os.pidfd_open signal.pidfd_send_signal file)

# Exact versions of all packages in the virtual environment. With `make CONSTRAINTS= ...`, pip chooses the newest
# versions that requirements-*.txt allow.
CONSTRAINTS ?= constraints.txt

# Start more processes than there are cores, because tests are idle part of the time. Unit tests are idle half of the
# time.
TEST_PROCESSES = $$(($$(nproc) + 1))
UNIT_TEST_PROCESSES = $$(($$(nproc) * 3))

# The programs for the rulebooks, and for the pages in a browser.
PAGE_TOOLS := java=default-jre-headless chromium /usr/share/fonts/opentype/ipafont-gothic=fonts-ipafont-gothic

# Only `make nightly` runs these tests. The first two tests take several minutes: all commands in docs/eda.md, and a
# recovery of sixty hosts. The other tests create the AWX objects again with other settings.
LONG_TESTS := tests/integration/test_eda_page.py tests/integration/test_fleet.py::test_broken_hosts_are_recovered_without_waiting \
  tests/integration/test_awx.py::test_texts_are_in_the_language_of_the_setting \
  tests/integration/test_awx.py::test_a_success_is_reported_if_the_setting_says_so

# In `make nightly`, these integration tests run more cases.
THOROUGH_TESTS := tests/integration/test_changes.py tests/integration/test_ready.py tests/integration/test_start_guard.py

# Only `make nightly` runs these drills. Some drills take several minutes. The other drills test code that rarely
# changes, and are similar to drills in `make molecule`.
LONG_DRILLS := controller_timer crowded database_recover discover escalation_rises heap_oom migration_pending \
  modules_native oom_kill other_service port_conflict_own ready restore_drill tls_key_unreadable two_faults \
  useless_rungs what_changed
# In `make nightly`, these drills run more rounds.
THOROUGH_DRILLS := connection_cut controller_killed database_in_doubt dead_man degraded start_guard systemd_restarts_first
# Start the longest drills first, so that no long drill runs alone at the end.
FIRST_DRILLS := degraded database_in_doubt start_guard connection_cut rung_fails controller_killed crash_loop
OTHER_DRILLS = $(filter-out $(FIRST_DRILLS) $(LONG_DRILLS),$(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))
DRILLS = $(FIRST_DRILLS) $(OTHER_DRILLS)

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | sort | expand -t 14

demo: $(VENV)/demo.stamp ## Break and recover the demo service on this machine
	@$(WITH_PATH) demo/run

# Targets that use only one core run in parallel, while make downloads the programs for the other tests. If two targets
# install packages, the second apt process waits for the first apt process.
test: $(VENV)/test.stamp ## Run the tests for every change; needs root; make nightly adds the long tests and drills
	$(MAKE) --jobs=3 --output-sync=target tools lint torture flip TORTURE='--rounds 30 --backups 10' FLIP='--sample 500 --seed 1'
	$(MAKE) unit integration molecule

tools: $(VENV)/test.stamp
	tests/install sqlite3 strace $(PAGE_TOOLS)
	$(MAKE) $(VENV)/eda.stamp
	molecule/hosts/install
	molecule/hosts/build-image
	molecule/hosts/build-modules

lint: $(VENV)/test.stamp ## Check style and types
	$(BIN)/yamllint --strict .
	$(BIN)/ruff check . $(PYTHON_PROGRAMS)
	$(BIN)/ruff format --check . $(PYTHON_PROGRAMS)
	$(BIN)/mypy $(COLLECTION)/plugins/module_utils $(COLLECTION)/plugins/plugin_utils
	$(BIN)/mypy --config-file= --strict roles/start_guard/files
	$(BIN)/shellcheck --external-sources $$(git ls-files | xargs -r grep --no-messages -lE '^#!/bin/(ba)?sh' --)
	$(BIN)/vermin --quiet --no-tips --violations --target=3.8- $(GUARDED) plugins/modules plugins/module_utils roles/start_guard/files
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/reuse lint --quiet || $(BIN)/reuse lint --lines
	$(BIN)/codespell --toml pyproject.toml $$(git ls-files ':!collections')
	$(BIN)/python tests/prose
	$(BIN)/python docs/picture.py --check
	$(BIN)/python docs/role_readme.py --check
	$(BIN)/python docs/drills.py --check
	$(BIN)/python docs/postmortem_schema.py --check
	$(BIN)/python docs/published.py --check
	$(BIN)/python docs/causes.py --check
	$(BIN)/antsibull-changelog lint
	$(WITH_PATH) $(BIN)/antsibull-docs lint-collection-docs --plugin-docs .
	# ansible-lint checks the syntax without an inventory.
	$(WITH_PATH) ANSIBLE_HOST_PATTERN_MISMATCH=warning $(BIN)/ansible-lint

unit: $(VENV)/test.stamp ## Run the unit tests; takes a minute or two
	tests/install sqlite3
	$(WITH_PATH) $(BIN)/pytest --numprocesses=$(UNIT_TEST_PROCESSES) --dist=worksteal tests/unit tests/fuzz

fuzz: $(VENV)/test.stamp ## Search for input that breaks a reader or reveals a secret; takes minutes
	TEST_THOROUGH=1 FUZZ_PROFILE=long $(WITH_PATH) $(BIN)/pytest --numprocesses=auto tests/fuzz

# Each test process runs complete files, because some tests depend on the previous test in the same file.
integration: $(VENV)/test.stamp $(VENV)/eda.stamp ## Test playbooks and rulebooks with the demo service, and pages in a browser; takes minutes
	tests/install $(PAGE_TOOLS)
	$(WITH_PATH) $(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile $(LONG_TESTS:%=--deselect=%) tests/integration

molecule: $(VENV)/test.stamp ## Run the drills (except LONG_DRILLS) on real systemd hosts; takes minutes; SCENARIO='name ...' selects drills
	@echo "Running the drills in containers. Missing programs, such as podman, are installed on this machine first."
	$(WITH_PATH) molecule/run $(or $(SCENARIO),$(DRILLS))

# In `make nightly`, the unit tests also cover the cases that `make unit` omits.
nightly: export TEST_THOROUGH = 1
nightly: $(VENV)/eda.stamp coverage cores nox release ## Run the checks that are too slow to run for every change: more tests, long drills with full waits, two drills on Debian 12
	$(WITH_PATH) $(BIN)/pytest $(LONG_TESTS) $(THOROUGH_TESTS) tests/fuzz/test_documents.py
	tests/install chromium /usr/share/fonts/opentype/ipafont-gothic=fonts-ipafont-gothic
	POSTMORTEM_PICTURES=1 $(WITH_PATH) $(BIN)/pytest tests/integration/test_postmortem_page.py
	molecule/hosts/install
	$(MAKE) flip FLIP="--jobs $$(nproc)"
	DRILL_THOROUGH=1 $(WITH_PATH) molecule/run $(THOROUGH_DRILLS) $(LONG_DRILLS)
	DRILL_SUITE=bookworm $(WITH_PATH) molecule/run crash clean_start

coverage: $(VENV)/test.stamp ## Run the unit tests and show their coverage
	tests/install sqlite3
	$(WITH_PATH) $(BIN)/pytest --numprocesses=auto --cov --cov-report=term:skip-covered tests/unit

cores: $(VENV)/demo.stamp ## Run unit tests, sanity tests and a recovery on every supported version of ansible-core; CORE=2.16 selects one version
	tests/install sqlite3
	tests/publish/cores $(CORE)

sanity: $(VENV)/test.stamp ## Run ansible-test sanity
	$(WITH_PATH) tests/publish/sanity

release: $(VENV)/test.stamp $(VENV)/publish.stamp ## Build and check the tarball, install it into an empty folder, and run it from there; sign a copy of the project
	$(WITH_PATH) tests/publish/release
	tests/install gpg script=bsdutils
	$(WITH_PATH) tests/publish/signature

nox: $(VENV)/test.stamp $(VENV)/publish.stamp ## Run the antsibull-nox checks that the community's collections share
	$(WITH_PATH) $(BIN)/nox --envdir build/nox

audit: $(VENV)/test.stamp $(VENV)/publish.stamp ## Check the tools and the demo service's packages for known vulnerabilities
	$(BIN)/pip-audit --strict --local --progress-spinner off
	npm --prefix demo/service audit --package-lock-only --audit-level=high

matrix: $(VENV)/test.stamp ## Update docs/drills.md with the results of all drills that check a cause
	$(BIN)/python docs/drills.py

torture: ## Kill database writers and recoveries, and count the lost rows; takes minutes
	tests/install strace
	$(PYTHON) tests/torture/sqlite_torture.py $(TORTURE)

flip: $(VENV)/test.stamp ## Replace each file right before a system call uses it, as a hostile user could; a full run takes half an hour
	$(BIN)/python tests/flip/flip.py $(FLIP)

bench: $(VENV)/test.stamp $(VENV)/bench.stamp ## Compare measurements with the goals, and write docs/benchmarks.md; takes an hour, or five minutes with QUICK=1; ONLY=name selects measurements; AGAINST='commit ...' compares with earlier commits
	tests/install sqlite3 lsof
	molecule/hosts/install
	$(WITH_PATH) $(BIN)/python tests/bench/run $(if $(QUICK),--quick) $(if $(AGAINST),--against '$(AGAINST)') $(ONLY)

docs: $(VENV)/test.stamp ## Generate pages from the code; the HTML pages of modules and roles are in build/docs
	$(BIN)/python docs/role_readme.py
	$(BIN)/python docs/postmortem_schema.py
	$(BIN)/python docs/published.py
	$(BIN)/python docs/causes.py
	$(BIN)/python docs/picture.py
	$(BIN)/python docs/messages.py
	mkdir -p build/docs/source && chmod go-w build/docs/source
	$(WITH_PATH) $(BIN)/antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --cleanup everything \
	  --dest-dir build/docs/source itsm_nexus.runbook
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --conf-dir docs/site build/docs/source build/docs/html
	echo "build/docs/html/index.html"

constraints: ## Write the newest allowed versions of all packages to constraints.txt; takes minutes
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet --disable-pip-version-check $(patsubst %,--requirement %,$(wildcard requirements-*.txt))
	sed --in-place '/^[^#]/d' constraints.txt
	build/constraints/bin/pip freeze >>constraints.txt

clean: ## Remove the files that these targets created
	rm -rf $(VENV) .demo build .mypy_cache .ruff_cache .pytest_cache .ansible

# The stamp file shows that the requirements are installed. If the list of requirements changes, make installs the
# requirements again.
$(VENV)/%.stamp: requirements-%.txt $(CONSTRAINTS)
	@demo/install
	echo "Installing $(notdir $<) into $(VENV). This takes a minute the first time"
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement $< $(CONSTRAINTS:%=--constraint %)
	touch $@

# requirements-test.txt includes this list.
$(VENV)/test.stamp: requirements-unit.txt

.PHONY: help demo test tools lint unit fuzz integration molecule nightly coverage cores sanity release nox audit matrix torture flip bench docs constraints clean
