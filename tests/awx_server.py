# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of the AWX 24.6.1 API that awx.awx uses: objects, associations, surveys, workflows, roles and launches.

Requests are checked against the fields of a real server (types, choices and limits in awx_fields.json), and against the
rules of AWX's serializers. Objects refer to each other by ID. Deleting an object deletes its dependents.
"""

from __future__ import annotations

import http.server
import itertools
import json
import re
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import jinja2
import jinja2.sandbox
import yaml

ROOT = Path(__file__).resolve().parents[1]
FIELDS: Dict[str, Dict[str, Dict[str, Any]]] = json.loads((ROOT / "tests" / "awx_fields.json").read_text("utf-8"))

Object = Dict[str, Any]

UNIFIED = {
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "projects": "project",
    "inventory_sources": "inventory_source",
}
ROLES = {
    "inventories": ["adhoc", "admin", "read", "update", "use"],
    "job_templates": ["admin", "execute", "read"],
    "workflow_job_templates": ["admin", "approval", "execute", "read"],
}
# Maps a kind of object to the dependents that AWX deletes together with the object. Each dependent is a pair: its kind,
# and the field that refers to the object.
CASCADES = {
    "organizations": [
        (kind, "organization")
        for kind in (
            *("projects", "inventories", "teams", "notification_templates", "labels", "execution_environments"),
            *("workflow_job_templates", "job_templates"),
        )
    ],
    "inventories": [("inventory_sources", "inventory")],
    "workflow_job_templates": [
        ("workflow_job_template_nodes", "workflow_job_template"),
        ("schedules", "unified_job_template"),
    ],
    "job_templates": [("schedules", "unified_job_template")],
}
# Values that AWX sets in a new object.
KEPT_BY_AWX: Dict[str, Object] = {
    "credential_types": {"managed": False},
    "inventory_sources": {"status": "never updated"},
    "projects": {"status": "pending"},
    "workflow_job_template_nodes": {"extra_data": {}},
}
SURVEY_TYPES = {"text": str, "multiplechoice": str, "integer": int}
MAIL = {
    **{"host": str, "port": int, "username": str, "password": str, "use_tls": bool, "use_ssl": bool, "sender": str},
    **{"recipients": list, "timeout": int},
}
MESSAGES = {"started", "success", "error", "workflow_approval"}
APPROVAL_MESSAGES = {"running", "approved", "timed_out", "denied"}
PLAYBOOK = re.compile(
    r"^\s*?-?\s*?(?:hosts|(ansible\.builtin\.)?import_playbook|(ansible\.builtin\.)?include):\s*?.*?$"
)
TEXT = re.compile(r"\{\{ (awx_texts[\w.]+) \}\}")
# Fields of an approval node. Approval nodes have no separate POST endpoint.
APPROVAL_FIELDS: Dict[str, Dict[str, Any]] = {
    "name": {"max_length": 512, "type": "string"},
    "description": {"type": "string"},
    "timeout": {"type": "integer"},
}
JSON_TYPES = {"string": str, "boolean": bool, "integer": int, "choice": (str, int), "id": int, "json": (dict, str)}


class _Loader(yaml.SafeLoader):
    """Reads !unsafe as plain text."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def _loaded(name: str) -> Object:
    loaded: Object = _Loader((ROOT / "playbooks" / "vars" / f"{name}.yml").read_text("utf-8")).get_single_data()
    return loaded


def texts(language: str) -> Object:
    """Return all texts of the objects in a language, by key. The parts of a key are joined with dots."""

    def flat(value: Any, path: str) -> Object:
        if not isinstance(value, dict):
            return {path: value}
        return {key: text for name, each in value.items() for key, text in flat(each, f"{path}.{name}").items()}

    return flat(_loaded(f"awx_{language}")["awx_texts"], "awx_texts")


def described(language: str = "en") -> Object:
    """Return the content of playbooks/vars/awx.yml, which describes the objects to create, in `language`."""
    known = texts(language)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        named = TEXT.fullmatch(value) if isinstance(value, str) else None
        return known[named.group(1)] if named else value

    loaded: Object = filled(_loaded("awx"))
    return loaded


def could_be_playbook(path: Path) -> bool:
    """Return True if AWX would list this project file as a playbook."""
    parts = path.relative_to(ROOT).parts
    if {"roles", "tasks", "group_vars", "host_vars"} & set(parts) or any(part.startswith(".") for part in parts):
        return False
    return path.suffix in (".yml", ".yaml") and any(
        PLAYBOOK.match(line) for line in path.read_text("utf-8").splitlines()
    )


class Refused(Exception):
    """A request that AWX rejects with status 400, or with the given status."""

    def __init__(self, what: Any, status: int = 400) -> None:
        super().__init__(str(what))
        self.what, self.status = what, status


def _judge_survey(spec: Object) -> None:
    if not (isinstance(spec.get("name"), str) and isinstance(spec.get("description"), str) and spec.get("spec")):
        raise Refused({"error": "a survey has a name, a description and a spec"})
    for question in spec["spec"]:
        for key in ("type", "question_name", "variable"):
            if not isinstance(question.get(key), str):
                raise Refused({"error": f"{key} of {question}"})
        kind = SURVEY_TYPES.get(question["type"])
        default = question.get("default", "")
        if kind is None or not isinstance(question.get("required"), bool):
            raise Refused({"error": f"type or required of {question}"})
        if default != "" and not isinstance(default, kind):
            raise Refused({"error": f"default of {question}"})
        if any(type(question.get(key, 0)) is not int for key in ("min", "max")):
            raise Refused({"error": f"limits of {question}"})
        if question["type"] == "multiplechoice":
            choices = question.get("choices", "").splitlines()
            if not choices or (default and default not in choices):
                raise Refused({"error": f"choices of {question}"})
    if len({question["variable"] for question in spec["spec"]}) < len(spec["spec"]):
        raise Refused({"error": "a variable is asked for twice"})


def judge_answers(survey: Optional[Object], answers: Object, *, all_required: bool) -> None:
    questions = {question["variable"]: question for question in (survey or {}).get("spec", [])}
    for variable, value in answers.items():
        question = questions.get(variable)
        if question is None:
            raise Refused({"extra_data": f"{variable} is not allowed on launch"})
        if question["type"] == "multiplechoice" and value not in question["choices"].splitlines():
            raise Refused({"extra_data": f"{value} is not a choice of {variable}"})
        if question["type"] == "text" and not question.get("min", 0) <= len(value) <= question.get("max", 1024):
            raise Refused({"extra_data": f"length of {variable}"})
    missing = [name for name, question in questions.items() if question["required"] and name not in answers]
    if all_required and missing:
        raise Refused({"variables_needed_to_start": missing})


def variables(template: Object, survey: Object, answers: Object) -> Object:
    """Return the variables for a job: from the template, then the survey's valid defaults, then the answers.

    If a webhook launches the job, nobody answers the survey. In this case, even required questions have no answers.
    """
    defaults = {}
    for question in survey.get("spec", []):
        default = question.get("default")
        # An empty default is valid only if the question allows it.
        if default is not None and (question["type"] != "text" or len(default) >= question.get("min", 0)):
            defaults[question["variable"]] = default
    return {**template.get("extra_vars", {}), **defaults, **answers}


def rendered(text: str, *, approval: bool, artifacts: Object) -> str:
    """Return the text of a notification.

    When AWX saves or sends a notification, the text can use only the values in this function.
    """
    of_approval = {"approval_status": "running", "approval_node_name": "A step", "workflow_url": "https://awx/#/jobs/1"}
    of_job = {"url": "https://awx/#/jobs/2", "job_friendly_name": "Job", "job": {"name": "n", "artifacts": artifacts}}
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    try:
        return environment.from_string(text).render(of_approval if approval else of_job)
    except jinja2.TemplateError as error:
        raise Refused({"messages": f"{text}: {error}"}) from error


def _judge_notification(thing: Object) -> None:
    if thing["notification_type"] == "email":
        configuration = thing["notification_configuration"]
        if {key: type(value) for key, value in configuration.items()} != MAIL:
            raise Refused({"notification_configuration": "keys or types"})
    for event, messages in (thing.get("messages") or {}).items():
        if event not in MESSAGES:
            raise Refused({"messages": event})
        each = messages if event == "workflow_approval" else {event: messages}
        if event == "workflow_approval" and set(messages) - APPROVAL_MESSAGES:
            raise Refused({"messages": f"{messages}"})
        for texts in each.values():
            if set(texts) - {"message", "body"} or "\n" in texts.get("message", ""):
                raise Refused({"messages": f"{texts}"})
            for text in texts.values():
                rendered(text, approval=event == "workflow_approval", artifacts={})


def _judge_credential_type(thing: Object) -> None:
    fields = thing["inputs"]["fields"]
    names = {field["id"] for field in fields}
    if set(thing["inputs"]) - {"fields", "required"} or set(thing["inputs"].get("required", [])) - names:
        raise Refused({"inputs": "keys, or a required field that does not exist"})
    for field in fields:
        if set(field) - {"id", "label", "type", "secret", "help_text"} or field["type"] not in ("string", "boolean"):
            raise Refused({"inputs": f"{field}"})
    if set(thing["injectors"]) - {"env", "extra_vars", "file"}:
        raise Refused({"injectors": "kinds"})
    for kind, injected in thing["injectors"].items():
        for name, template in injected.items():
            if kind == "env" and name.startswith("ANSIBLE_"):
                raise Refused({"injectors": f"{name} is not allowed"})
            if not isinstance(template, str) or set(re.findall(r"\{\{ *(\w+) *\}\}", template)) - names:
                raise Refused({"injectors": f"{template} uses an undefined field"})


class Awx:
    """The server, whose objects are stored in the dictionary objects[kind][id]."""

    def __init__(self) -> None:
        self.objects: Dict[str, Dict[int, Object]] = {
            kind: {} for kind in (*FIELDS, "credentials", "approvals", "instance_groups")
        }
        self.surveys: Dict[int, Object] = {}
        self.links: Dict[Tuple[int, str], List[int]] = {}
        self.roles: Dict[int, Tuple[str, str]] = {}
        self.refused: List[str] = []
        self.launched: List[Object] = []
        # The status of a project after AWX has fetched the project.
        self.fetched = "successful"
        # The status and the output of a finished inventory update, and all updates by ID.
        self.synced, self.sync_output = "successful", "Read 1 host"
        self.updates: Dict[int, Object] = {}
        # Maps the ID of each running job to its template, and to the number of further requests after which the job
        # ends.
        self.running: Dict[int, Tuple[Object, int]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        awx = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                try:
                    if self.headers.get("Authorization") != "Bearer of-the-test":
                        raise Refused("Authentication credentials were not provided.", 401)
                    with awx._lock:
                        status, answer = awx.answer(self.command, self.path, body)
                except Refused as refused:
                    awx.refused.append(f"{self.command} {self.path} {body}: {refused.what}")
                    status, answer = refused.status, refused.what
                data = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("X-API-Product-Name", "AWX")
                self.send_header("X-API-Product-Version", "24.6.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # For tests: find objects, and add objects before a run.

    def names(self, kind: str) -> List[str]:
        return sorted(thing.get("name", "") for thing in self.objects[kind].values())

    def named(self, kind: str, name: str) -> Object:
        return next(thing for thing in self.objects[kind].values() if thing["name"] == name)

    def linked(self, thing: Object, association: str) -> List[Object]:
        everything = {id_: each for kind in self.objects.values() for id_, each in kind.items()}
        return [everything[id_] for id_ in self.links.get((thing["id"], association), [])]

    def add(self, kind: str, /, **fields: Any) -> Object:
        id_ = next(self._ids)
        url = f"/api/v2/{kind}/{id_}/"
        thing = {"id": id_, "type": kind.rstrip("s"), "url": url, "description": "", **fields}
        thing["related"] = {"survey_spec": f"{url}survey_spec/", "update": f"{url}update/"}
        thing["summary_fields"] = {"object_roles": {}}
        for role in ROLES.get(kind, []):
            role_id = next(self._ids)
            self.roles[role_id] = (fields["name"], role)
            thing["summary_fields"]["object_roles"][f"{role}_role"] = {"id": role_id}
        self.objects[kind][id_] = thing
        return thing

    # Requests.

    def answer(self, method: str, path: str, body: Object) -> Tuple[int, Any]:
        parsed = urllib.parse.urlsplit(path)
        parts = parsed.path.strip("/").split("/")[2:]
        query = dict(urllib.parse.parse_qsl(parsed.query))
        if len(parts) == 1:
            if method == "GET":
                return 200, self._list(self._found(parts[0], query))
            return 201, self._create(parts[0], body)
        kind, id_ = parts[0], self._identified(parts[0], parts[1])
        if kind == "roles":
            return self._associations(id_, parts[2], method, body)
        if kind == "inventory_updates":
            return 200, self._update(id_, *parts[2:])
        if id_ not in self.objects[kind]:
            raise Refused("Not found.", 404)
        thing = self.objects[kind][id_]
        if len(parts) == 2:
            return self._one(kind, thing, method, body)
        return self._below(kind, thing, parts[2], method, body)

    def _identified(self, kind: str, identifier: str) -> int:
        """Return the ID for the identifier in a URL: a number, or a name in one of AWX's NAMED_URL_FORMATS."""
        if identifier.isdigit():
            return int(identifier)
        name, _, organization = urllib.parse.unquote(identifier).partition("++")
        found = self._found(kind, {"name": name, "organization__name": organization})
        if len(found) != 1:
            raise Refused("Not found.", 404)
        return int(found[0]["id"])

    def _one(self, kind: str, thing: Object, method: str, body: Object) -> Tuple[int, Any]:
        if method == "DELETE":
            self._delete(kind, thing)
            return 204, None
        if method == "PATCH":
            changed = {**thing, **self._judged(kind, body, thing)}
            if kind == "credential_types" and changed["inputs"] != thing["inputs"] and self._credentials_of(thing):
                reason = "Modifications to inputs are not allowed for credential types that are in use"
                raise Refused({"inputs": reason}, 403)
            self._judge(kind, changed)
            thing.update(changed)
        answer = dict(thing)
        if kind == "projects":
            # The first response shows the status before AWX has fetched the project. Later responses show the result.
            thing["status"] = self.fetched
        return 200, answer

    def end_deletions(self) -> None:
        """Complete the deletion of inventories, which AWX performs in the background."""
        for each in [each for each in self.objects["inventories"].values() if each.get("pending_deletion")]:
            self._delete("inventories", each)

    def run(self, template: Object, *, requests: int) -> None:
        """Start a job from a template. The job ends after `requests` requests for the list of running jobs."""
        self.running[next(self._ids)] = (template, requests)

    def _running(self, query: Dict[str, str]) -> List[Object]:
        """Return the running jobs whose template description contains the requested text, as unified_jobs does."""
        if set(query) != {"status__in", "unified_job_template__description__contains"}:
            raise Refused({"detail": f"unified_jobs: {sorted(query)}"})
        mark = query["unified_job_template__description__contains"]
        found = [(id_, template) for id_, (template, _left) in self.running.items() if mark in template["description"]]
        self.running = {id_: (each, left - 1) for id_, (each, left) in self.running.items() if left > 1}
        return [{"id": id_, "name": template["name"], "status": "running"} for id_, template in found]

    def _update(self, id_: int, what: str = "") -> Object:
        """Return an inventory update or its output. The first response shows that the update is not finished."""
        update = self.updates[id_]
        if what == "stdout":
            return {"range": {}, "content": self.sync_output}
        answer = {key: value for key, value in update.items() if key != "read"}
        update["status"] = self.synced
        update.update(
            failed=self.synced == "failed", event_processing_finished=True, finished="now", job_explanation=""
        )
        self.objects["inventory_sources"][update["inventory_source"]]["status"] = self.synced
        return answer

    def _below(self, kind: str, thing: Object, what: str, method: str, body: Object) -> Tuple[int, Any]:
        if what == "survey_spec":
            if method == "POST":
                _judge_survey(body)
                self.surveys[thing["id"]] = body
            return 200, self.surveys.get(thing["id"], {})
        if what == "workflow_nodes":
            nodes = self.objects["workflow_job_template_nodes"].values()
            return 200, self._list([node for node in nodes if node["workflow_job_template"] == thing["id"]])
        if what == "update":
            update = next(self._ids)
            read = {key: thing.get(key) for key in ("source_project", "source_path")}
            self.updates[update] = {"id": update, "status": "pending", "inventory_source": thing["id"], "read": read}
            thing["status"] = "pending"
            return 202, {"id": update, "status": "pending", "url": f"/api/v2/inventory_updates/{update}/"}
        if what == "launch" and method == "POST":
            # If the template does not prompt for a value, AWX ignores the value. This server rejects it instead.
            asked = {"extra_vars": self.surveys.get(thing["id"]), "limit": thing["ask_limit_on_launch"]}
            unasked = sorted(each for each in body if not asked.get(each))
            if unasked:
                raise Refused({"ignored_fields": unasked})
            judge_answers(asked["extra_vars"], body.get("extra_vars", {}), all_required=True)
            self.launched.append({"template": thing["name"], **body})
            return 201, {"id": next(self._ids), "status": "pending"}
        if what == "create_approval_template":
            approval = self.add("approvals", **{key: body[key] for key in ("name", "description", "timeout")})
            thing["unified_job_template"] = approval["id"]
            thing["related"]["unified_job_template"] = approval["url"]
            return 201, approval
        if kind == "approvals":
            raise Refused("Not found.", 404)
        return self._associations(thing["id"], what, method, body)

    def _associations(self, id_: int, what: str, method: str, body: Object) -> Tuple[int, Any]:
        linked = self.links.setdefault((id_, what), [])
        if method == "GET":
            return 200, self._list([{"id": each} for each in linked])
        if body.get("disassociate"):
            linked.remove(body["id"])
        else:
            linked.append(body["id"])
        return 204, None

    def _list(self, found: List[Object]) -> Object:
        return {"count": len(found), "next": None, "previous": None, "results": found}

    def _found(self, kind: str, query: Dict[str, str]) -> List[Object]:
        if kind == "unified_jobs":
            return self._running(query)
        for each in [each for each in self.objects.get(kind, {}).values() if each.get("pending_deletion")]:
            each["pending_deletion"] -= 1
            if not each["pending_deletion"]:
                each["pending_deletion"] = 1
                self._delete(kind, each)
        if kind == "unified_job_templates":
            things = [thing for each in UNIFIED for thing in self.objects[each].values()]
        else:
            things = list(self.objects[kind].values())
        return [thing for thing in things if all(self._matches(thing, key, value) for key, value in query.items())]

    def _matches(self, thing: Object, key: str, value: str) -> bool:
        tests: Dict[str, Callable[[], bool]] = {
            "organization__name": lambda: (
                self.objects["organizations"].get(thing.get("organization"), {}).get("name") == value
            ),
            "name__in": lambda: thing["name"] in value.split(","),
            "description__contains": lambda: value in thing["description"],
            "pending_deletion": lambda: bool(thing.get("pending_deletion")) == (value == "true"),
        }
        if key in tests:
            return tests[key]()
        if key not in thing:
            raise Refused({"detail": f"has no field named '{key}'"})
        return str(thing[key]) == value

    def _create(self, kind: str, body: Object) -> Object:
        fields = self._judged(kind, body)
        missing = [name for name, field in FIELDS[kind].items() if field.get("required") and name not in fields]
        if missing:
            raise Refused(dict.fromkeys(missing, "This field is required."))
        if kind == "job_templates":
            fields["organization"] = self.objects["projects"][fields["project"]]["organization"]
        if kind == "inventory_sources":
            fields["organization"] = self.objects["inventories"][fields["inventory"]]["organization"]
        self._judge(kind, fields)
        return self.add(kind, **{**KEPT_BY_AWX.get(kind, {}), **fields})

    def _judged(self, kind: str, body: Object, thing: Optional[Object] = None) -> Object:
        """Return the fields of `body` that AWX stores. Raises Refused for an unknown field or an invalid value."""
        taken = {}
        for name, value in body.items():
            field = (APPROVAL_FIELDS if kind == "approvals" else FIELDS[kind]).get(name)
            if field is None:
                # AWX would ignore an unknown field. Here, the test must fail, because the field is probably misspelled.
                if name not in ("managed", "type", "organization", "kind", "host_filter", "state"):
                    raise Refused({name: "no such field"})
                continue
            if value is None and not field.get("required"):
                taken[name] = value
                continue
            if not isinstance(value, JSON_TYPES[field["type"]]) or (
                isinstance(value, bool) and field["type"] in ("integer", "id")
            ):
                raise Refused({name: f"{value!r} is no {field['type']}"})
            if "choices" in field and value not in field["choices"]:
                raise Refused({name: f'"{value}" is not a valid choice.'})
            if isinstance(value, str) and len(value) > field.get("max_length", len(value)):
                raise Refused({name: "too long"})
            if field["type"] == "integer" and not field.get("min_value", value) <= value <= field.get(
                "max_value", value
            ):
                raise Refused({name: "out of range"})
            if field["type"] == "id" and not any(value in things for things in self.objects.values()):
                raise Refused({name: f'Invalid pk "{value}" - object does not exist.'})
            taken[name] = value
        return taken

    def _judge(self, kind: str, thing: Object) -> None:
        if kind == "job_templates" and not could_be_playbook(ROOT / thing["playbook"]):
            raise Refused({"playbook": "Playbook not found for project."})
        if kind == "notification_templates":
            _judge_notification(thing)
        if kind == "credential_types":
            _judge_credential_type(thing)
        if kind in ("schedules", "workflow_job_template_nodes") and thing.get("unified_job_template"):
            template = self.objects["job_templates"].get(thing["unified_job_template"]) or self.objects[
                "workflow_job_templates"
            ].get(thing["unified_job_template"], {})
            survey = self.surveys.get(template.get("id", 0))
            judge_answers(survey, thing.get("extra_data") or {}, all_required=kind == "schedules")
            if thing.get("job_type") and not template["ask_job_type_on_launch"]:
                raise Refused({"job_type": "Field is not configured to prompt on launch."})
        if kind == "schedules" and not re.fullmatch(
            r"DTSTART(:\d{8}T\d{6}Z|;TZID=[A-Za-z/]+:\d{8}T\d{6}) "
            r"RRULE:FREQ=(MINUTELY|DAILY|WEEKLY);INTERVAL=\d+(;BYDAY=\w\w)?",
            thing["rrule"],
        ):
            raise Refused({"rrule": thing["rrule"]})

    def _credentials_of(self, credential_type: Object) -> List[Object]:
        credentials = self.objects["credentials"].values()
        return [each for each in credentials if each["credential_type"] == credential_type["id"]]

    def _delete(self, kind: str, thing: Object) -> None:
        if any(template["id"] == thing["id"] for template, _left in self.running.values()):
            raise Refused({"error": "Resource is being used by running jobs."}, 409)
        if kind == "inventories" and not thing.get("pending_deletion"):
            # AWX deletes an inventory in the background. Until then, the name is still in use.
            thing["pending_deletion"] = 3
            return
        if kind == "credential_types" and self._credentials_of(thing):
            raise Refused("Credential types that are in use cannot be deleted", 403)
        for other, field in CASCADES.get(kind, []):
            for each in list(self.objects[other].values()):
                if each.get(field) == thing["id"]:
                    self._delete(other, each)
        self.objects[kind].pop(thing["id"], None)
        for key in [key for key in self.links if key[0] == thing["id"]]:
            del self.links[key]
        for linked in self.links.values():
            if thing["id"] in linked:
                linked.remove(thing["id"])
        # A label is deleted together with the last template that uses it.
        used = {id_ for (_owner, what), ids in self.links.items() if what == "labels" for id_ in ids}
        for label in [label for label in self.objects["labels"] if label not in used]:
            del self.objects["labels"][label]
