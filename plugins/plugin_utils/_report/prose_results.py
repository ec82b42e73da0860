# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text for the result of a step, by module."""

from __future__ import annotations

import posixpath
from typing import Any, Callable, Dict, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import (
    message_of,
    summed_up,
    text_of,
    texts_of,
)

_Teller = Callable[[Words, Mapping[str, Any]], str]


def endpoint(words: Words, each: Mapping[str, Any]) -> str:
    """Return an endpoint's name and its response."""
    answer = words.message(message_of(each, "error"), each.get("error")) or (
        words.say("answered", status=each["status"]) if each.get("status") else ""
    )
    name = str(each.get("name") or "endpoint")
    return words.say("label", name=name, text=answer) if answer else name


def _tell_probe(words: Words, data: Mapping[str, Any]) -> str:
    if data.get("healthy"):
        return words.say("came.healthy", probes=words.count("probes", int(data.get("attempts") or 1)))
    parts = [words.name("severity", str(data.get("severity") or "unhealthy"))]
    if (data.get("process") or {}).get("state") == "gone":
        parts.append(words.say("came.gone"))
    parts += [endpoint(words, each) for each in data.get("endpoints") or [] if each.get("ok") is False]
    login = data.get("login") or {}
    if login.get("ok") is False:
        error = words.message(message_of(login, "error"), login.get("error")) or login.get("status")
        parts.append(words.say("came.login", error=error))
    return words.say("list.comma").join(parts)


def _tell_triage(words: Words, data: Mapping[str, Any]) -> str:
    findings = data.get("findings") or []
    if not findings:
        return words.say("came.no_cause")
    named = str(findings[0].get("cause") or "unknown")
    summary = summed_up(words, named, findings[0].get("summary"), message_of(findings[0], "summary"))
    told = words.say("label", name=words.name("cause", named), text=summary)
    return words.say("came.causes", first=told, number=len(findings) - 1) if len(findings) > 1 else told


def _tell_check(words: Words, data: Mapping[str, Any]) -> str:
    if data.get("healthy"):
        counts = data.get("row_counts") or {}
        if not counts:
            return words.say("came.sound")
        rows = words.count("rows.count", sum(counts.values()))
        return words.say("came.sound_rows", rows=rows, tables=words.count("tables", len(counts)))
    problems = [text_of(words, each, "message") or str(each.get("code")) for each in data.get("problems") or []]
    if not problems:
        return words.say("came.unsound")
    return words.say("label", name=words.say("came.unsound"), text=words.listed(problems, limit=3))


def _tell_process(words: Words, data: Mapping[str, Any]) -> str:
    before = [str(pid) for pid in data.get("pids_before") or []]
    parts = [
        words.say("came.killed", pid=each.get("pid"), after=words.duration(each.get("seconds")))
        if each.get("signal") == "KILL"
        else words.say("came.stopped", pid=each.get("pid"))
        for each in data.get("stopped") or []
    ]
    begun = [str(pid) for pid in data.get("pids_after") or [] if str(pid) not in before]
    if begun:
        parts.append(words.say("came.started", pids=words.listed(begun)))
    if not parts:
        state = str(data.get("state") or "")
        called = words.name("state", state)
        if not data["changed"]:
            parts = [words.say("came.already", state=called)]
        # In check mode, the result contains only the current and the expected state. If no process was running, the
        # stop only cancelled a restart by the service manager.
        elif not before and state == "stopped":
            parts = [called]
        elif before and state != "stopped":
            parts = [words.say("came.would_restart", pids=words.listed(before))]
        else:
            parts = [words.say("came.would_stop" if state == "stopped" else "came.would_start")]
    parts += [
        words.say("came.foreign", port=each.get("port"), command=each.get("command"), pid=each.get("pid"))
        for each in data.get("foreign") or []
    ]
    return words.say("list.comma").join(parts)


def _tell_backup(words: Words, data: Mapping[str, Any]) -> str:
    # Only the names are shown, because the list of kept files contains the full paths.
    if data.get("backup_file"):
        return words.say("came.backup", name=posixpath.basename(data["backup_file"]))
    if data.get("evidence_dir"):
        return words.say("came.copied", name=posixpath.basename(data["evidence_dir"]))
    return ""


def _tell_wal(words: Words, data: Mapping[str, Any]) -> str:
    frames = data.get("frames_committed", data.get("frames_before"))
    return words.say("came.checkpointed", frames=words.count("frames", int(frames))) if frames else ""


def _tell_restore(words: Words, data: Mapping[str, Any]) -> str:
    if not data.get("method"):
        return words.say("came.no_method", reason=text_of(words, data, "reason"))
    told = words.say("label", name=str(data["method"]), text=text_of(words, data, "reason"))
    return restored(words, data, told)


def restored(words: Words, data: Mapping[str, Any], method: str) -> str:
    """Return the result of a database recovery. method: the method, with the reason for it."""
    if data.get("planned") and data.get("plan"):
        return words.say("came.would_restore_chosen", method=method)  # The summary shows the loss of each method.
    key = "came.would_restore" if data.get("planned") else "came.restored"
    return words.say(key, method=method, lost=text_of(words, data, "statement"))


def _tell_npm(words: Words, data: Mapping[str, Any]) -> str:
    why = words.listed(texts_of(words, data, "reasons"), limit=3) or words.say("came.asked_for")
    if data.get("swapped"):
        return words.say("came.rebuilt", why=why)
    if data.get("needed"):
        return words.say("came.to_rebuild", why=why)
    return "" if data["changed"] else words.say("came.not_needed")


def _tell_knex(words: Words, data: Mapping[str, Any]) -> str:
    applied, pending = data.get("applied") or [], data.get("pending") or []
    if applied:
        return words.say("came.migrated", names=words.listed([str(each) for each in applied], limit=3))
    told = words.count("came.pending", len(pending)) if pending else words.say("came.none_pending")
    return words.joined([told, words.say("came.migration_locked")]) if data.get("locked") else told


def _tell_hold(words: Words, data: Mapping[str, Any]) -> str:
    return words.say("came.released" if data.get("state") == "released" else "came.held") if data["changed"] else ""


def _tell_incident(words: Words, data: Mapping[str, Any]) -> str:
    return words.say("came.incident", id=data["id"]) if data.get("id") else ""


def _tell_preflight(words: Words, data: Mapping[str, Any]) -> str:
    return words.joined([text_of(words, each, "message") for each in data.get("problems") or []])


TELLERS: Dict[str, _Teller] = {
    "health_probe": _tell_probe,
    "triage_info": _tell_triage,
    "sqlite_info": _tell_check,
    "sqlite_backup": _tell_backup,
    "sqlite_wal": _tell_wal,
    "sqlite_restore": _tell_restore,
    "node_process": _tell_process,
    "npm_ci": _tell_npm,
    "knex_migrate": _tell_knex,
    "knex_migrate_info": _tell_knex,
    "incident": _tell_incident,
    "incident_info": _tell_incident,
    "service_hold": _tell_hold,
    "service_preflight_info": _tell_preflight,
}
