# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All facts from a triage, and the service states that are derived from facts about several subjects."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.certificate import Certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.database import (
    Database,
    Migrations,
    Ownership,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.errors import Errors
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.host import Disks, Kernel, Memory, Window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.log import Journal, Log
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import entries
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.ports import Answer, Health, Ports
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.process import Process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.service import (
    Dependencies,
    Environment,
    Hold,
    Node,
    Service,
    Start,
    Unit,
)


class Facts(NamedTuple):
    """The facts from one triage, by subject.

    For the lists paths, settings and readiness, see RETURN of the triage_info module.
    """

    window: Window
    service: Service
    unit: Unit
    process: Process
    ports: Ports
    log: Log
    journal: Journal
    errors: Errors
    kernel: Kernel
    memory: Memory
    disks: Disks
    certificate: Certificate
    database: Database
    migrations: Migrations
    ownership: Ownership
    dependencies: Dependencies
    node: Node
    environment: Environment
    start: Start
    hold: Hold
    paths: Sequence[Mapping[str, Any]]
    settings: Sequence[Mapping[str, Any]]
    readiness: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Facts:
        """Return the facts from the collected parts. If a part could not be collected, its facts are unknown."""
        window, service = Window.of(facts.get("window")), Service.of(facts.get("service"))
        unit = Unit.of(facts.get("unit"))
        log, journal = Log.of(facts.get("log")), Journal.of(facts.get("journal"))
        process = _process(facts.get("process"), unit=unit, log=log, journal=journal, window=window)
        return cls(
            window=window,
            service=service,
            unit=unit,
            process=process,
            ports=_ports(facts, service=service, gone=process.gone),
            log=log,
            journal=journal,
            errors=Errors(log=log, journal=journal, process=process),
            kernel=Kernel.of(facts.get("kernel")),
            memory=Memory.of(facts.get("memory")),
            disks=Disks(mounts=entries(facts.get("disk")), deleted_files=process.deleted_files),
            certificate=Certificate.of(facts.get("certificate")),
            database=Database.of(facts.get("database")),
            migrations=Migrations.of(facts.get("migrations")),
            ownership=Ownership.of(facts.get("ownership")),
            dependencies=Dependencies.of(facts.get("dependencies")),
            node=Node.of(facts.get("node")),
            environment=Environment.of(facts.get("environment")),
            start=Start.of(facts.get("start")),
            hold=Hold.of(facts.get("hold")),
            paths=entries(facts.get("paths")),
            settings=entries(facts.get("settings")),
            readiness=entries(facts.get("readiness")),
        )

    @property
    def down(self) -> bool:
        """True if the process is gone, or if a configured port has no listener or does not answer."""
        return self.process.gone or self.ports.silent or bool(self.ports.unserved)

    @property
    def unwell(self) -> bool:
        """True if the service is down, or if its response to the health request is unhealthy."""
        return self.down or self.ports.health.ok is False

    @property
    def troubled(self) -> bool:
        """True if the service is down, or if systemd restarted it within the triage window."""
        return self.down or self.process.restarted


def _process(facts: Any, *, unit: Unit, log: Log, journal: Journal, window: Window) -> Process:
    known = facts if isinstance(facts, Mapping) else {}
    return Process(
        gone=known.get("state") == "gone",
        processes=known.get("processes") or [],
        unit=unit,
        journal=journal,
        window=window,
        served_at=max(log.last_success_at, journal.last_success_at),
    )


def _ports(facts: Mapping[str, Any], *, service: Service, gone: bool) -> Ports:
    answer = facts.get("answer")
    known = answer if isinstance(answer, Mapping) else {}
    return Ports(
        https=Answer.of(known.get("https")),
        http=Answer.of(known.get("http")),
        tls_elsewhere=known.get("tls_elsewhere") or (),
        listeners=entries(facts.get("ports")),
        answers=[Health.of(item) for item in entries(facts.get("health"))],
        service=service,
        gone=gone,
    )
