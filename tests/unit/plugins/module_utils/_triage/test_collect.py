# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of individual triage parts. Files, programs and processes are real, but systemd's output is fake."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    parallel,
    redact,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, mounts, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    assembled_facts,
    collect_application,
    collect_certificate,
    collect_host,
    collect_logs,
    collect_paths,
    collect_ports,
    collect_process,
    collect_service,
    collected,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context

# A fake node that prints a version or checks whether packages load.
NODE = """#!{python}
import json, sys
if sys.argv[1] == "--version":
    print("v20.11.1")
else:
    say = lambda **line: print("@npm_ci " + json.dumps(line), flush=True)
    say(platform="linux", arch="x64", abi="115")
    for name in sys.argv[4:]:
        say(name=name)
        if name in {unloadable}:
            say(name=name, error="invalid ELF header")
    say(done=True)
"""


def program_at(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a Site: an application's folder, fake programs, and question(), which creates the input for collectors."""
    app, programs = tmp_path / "app", tmp_path / "bin"
    app.mkdir()
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    class Site:
        folder = app
        bin = programs
        service = triage_context.Service(
            app_dir=str(app),
            command=[str(programs / "node"), "server.js"],
            manager="process",
            unit="itsm-system",
            user="",
            db_path="itsm.db",
            db_path_variable="DATABASE_PATH",
            log_file=str(tmp_path / "server.log"),
            environment_file="",
            pid_file="",
            tls_cert_path="",
            tls_key_path="",
            https_port=0,
            http_port=0,
            required_environment=["JWT_SECRET", "NODE_ENV"],
            state_dir=str(tmp_path / "state"),
        )

        def node(self, *, unloadable=()):
            program_at(programs / "node", NODE.format(python=sys.executable, unloadable=list(unloadable)))

        def npm(self, text):
            program_at(programs / "npm", "#!/bin/sh\n" + text)

        def question(self, *, run=commands.run, budget=20.0, service=None, **known):
            return triage_context.Question(
                service=self.service._replace(**(service or {})),
                run=run,
                since=time.time() - 600,
                budget=budget,
                log_lines=50,
                kernel_log_command=(),
                keep=True,
                known=triage_context.Known(**known),
            )

    return Site()


# The certificate and its private key.


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a folder with certificates and private keys for two servers, a key with a passphrase and a broken key."""
    folder = tmp_path_factory.mktemp("pairs")
    for name in ("server", "other"):
        openssl(
            *f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -keyout {name}.key".split(),
            *("-out", f"{name}.crt", "-subj", f"/O=Ops/CN={name}.example"),
            *("-addext", f"subjectAltName=DNS:{name}.example,DNS:*.{name}.example,IP:10.0.0.1,IP:::1,email:x@y"),
            cwd=folder,
        )
    openssl(*["pkey", "-aes128", "-passout", "pass:geheim", "-in", "server.key", "-out", "locked.key"], cwd=folder)
    (folder / "broken.key").write_text("no key at all\n")
    return folder


def certificate(site, **paths):
    return collect_certificate.certificate(site.question(service=paths))["facts"]


def test_a_certificate_and_its_key(site, pairs):
    facts = certificate(site, tls_cert_path=str(pairs / "server.crt"), tls_key_path=str(pairs / "server.key"))
    assert facts["names"] == ["server.example", "*.server.example", "10.0.0.1", "::1"]
    assert (facts["subject"], facts["issuer"]) == ("O=Ops, CN=server.example",) * 2
    assert (facts["exists"], facts["readable_by_service"], facts["error"], facts["expired"]) == (
        True,
        True,
        None,
        False,
    )
    assert len(facts["fingerprint"]) == 64
    assert facts["key"] == {
        "path": str(pairs / "server.key"),
        "source": "tls_key_path",
        "exists": True,
        "error": None,
        "matches": True,
        "readable": True,
    }


@pytest.mark.parametrize(
    ("key", "expected", "says"),
    [
        ("other.key", (True, False), "is not the key of"),
        ("locked.key", (True, None), "needs a passphrase"),
        ("broken.key", (True, None), "Cannot use"),
        ("absent.key", (False, None), "No such file"),
        (".", (True, None), "not a regular file"),
    ],
)
def test_an_unusable_key(site, pairs, key, expected, says):
    facts = certificate(site, tls_cert_path=str(pairs / "server.crt"), tls_key_path=str(pairs / key))
    assert (facts["key"]["exists"], facts["key"]["matches"]) == expected
    assert says in facts["key"]["error"]
    assert facts["error"] is None


@pytest.mark.parametrize("end", ["crt", "key"])
def test_a_file_of_a_pair_that_becomes_a_fifo_after_the_check_delays_nothing(site, pairs, tmp_path, monkeypatch, end):
    for name in ("server.crt", "server.key"):
        shutil.copy(pairs / name, tmp_path)
    exchanged = tmp_path / f"server.{end}"
    opened = safe_open.open_file

    def then_exchange(path, *arguments, **options):
        descriptor = opened(path, *arguments, **options)
        if path == str(exchanged):
            exchanged.unlink()
            os.mkfifo(exchanged)
        return descriptor

    monkeypatch.setattr(safe_open, "open_file", then_exchange)
    paths = {"tls_cert_path": str(tmp_path / "server.crt"), "tls_key_path": str(tmp_path / "server.key")}
    question = site.question(service=paths)
    answer = parallel.ask({"x": lambda: collect_certificate.certificate(question)}, timeout=5)["x"]
    assert answer.error is None
    facts = answer.value["facts"]
    assert (facts["error"], facts["key"]["error"], facts["key"]["matches"]) == (None, None, True)
    assert "PRIVATE KEY" not in str(answer.value)


def test_variables_name_the_certificate_and_the_key(site, pairs):
    named = {name: {"path": str(pairs / f"other.{end}"), "source": "X"} for name, end in PAIR.items()}
    facts = collect_certificate.certificate(site.question(service=ME, environment=named))["facts"]
    assert (facts["subject"], facts["key"]["matches"]) == ("O=Ops, CN=other.example", True)
    # The role's settings take precedence over environment variables. If the settings do not specify a private key, the
    # key next to the certificate is used.
    configured = {**ME, "tls_cert_path": str(pairs / "server.crt")}
    facts = collect_certificate.certificate(site.question(service=configured, environment=named))["facts"]
    assert (facts["source"], facts["key"]["matches"]) == ("tls_cert_path", False)
    facts = certificate(site, **configured)
    assert (facts["key"]["source"], facts["key"]["matches"]) == ("beside the certificate", True)


PAIR = {"certificate": "crt", "key": "key"}
ME = {"user": pwd.getpwuid(os.geteuid()).pw_name}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_key_that_only_root_may_read(site, pairs):
    os.chmod(pairs / "server.key", 0o600)
    os.chmod(pairs / "server.crt", 0o644)
    paths = {"tls_cert_path": str(pairs / "server.crt"), "tls_key_path": str(pairs / "server.key")}
    question = site.question(service={"user": "nobody", **paths})
    # The function switches to the service's user, so it must run in a separate process.
    facts = parallel.ask({"x": lambda: collect_certificate.certificate(question)}, timeout=20)["x"].value["facts"]
    assert (facts["key"]["exists"], facts["key"]["readable"], facts["key"]["matches"]) == (True, False, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["nobody", "no-such-user", ""])
def test_the_environment_cannot_make_root_read_a_certificate_or_a_key(site, pairs, user):
    """A folder that only root can enter contains the files that a hostile `.env` specifies."""
    folder = site.folder.parent / "locked"
    shutil.copytree(pairs, folder)
    folder.chmod(0o700)

    def facts(*names, gone=""):
        named = {name: {"path": f"{folder}/server.{PAIR[name]}{gone}", "source": "X"} for name in names}
        question = site.question(service={"user": user}, environment=named)
        return parallel.ask({"x": lambda: collect_certificate.certificate(question)}, timeout=20)["x"].value["facts"]

    for names in (("certificate", "key"), ("certificate",)):
        found = facts(*names)
        assert found.get("subject") is None and found["key"]["matches"] is None
        # Root would see whether the files exist.
        missing = facts(*names, gone=".gone")
        assert (missing["exists"], missing["key"]["exists"]) == (found["exists"], found["key"]["exists"])


@pytest.mark.parametrize(
    ("name", "of_certificate", "of_key"),
    [
        ("SSL_CERT_PATH", True, False),
        ("HTTPS_CERT_FILE", True, False),
        ("ITSM_TLS_CERTIFICATE_PATH", True, False),
        ("SSL_KEY_PATH", False, True),
        ("TLS_PRIVATE_KEY_FILE", False, True),
        ("SSL_CERT_FILE", False, False),
        ("NIX_SSL_CERT_FILE", False, False),
        ("SSL_CERT_DIR", False, False),
        ("JWT_KEY_PATH", False, False),
    ],
)
def test_names_of_variables(name, of_certificate, of_key):
    assert (environment_names.names_certificate(name), environment_names.names_key(name)) == (
        of_certificate,
        of_key,
    )


# The logs.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_pattern_cannot_make_root_read_a_log(site, tmp_path):
    """A folder in a pattern may be from the service's environment, so the user may have chosen any folder."""
    with tempfile.TemporaryDirectory() as base:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(base, 0o755)  # noqa: S103
        for name, mode in (("theirs.log", 0o600), ("own.log", 0o644)):
            path = pathlib.Path(base, name)
            path.write_text(f"2026-12-02T01:02:03Z ERROR a line of {name}\n")
            path.chmod(mode)
        question = site.question(service={"user": "nobody", "log_file": "", "log_patterns": [f"{base}/*.log"]})
        facts = collect_logs.log(question)["facts"]
        assert facts["lines"] == ["2026-12-02T01:02:03Z ERROR a line of own.log"]
        # Root reads the log that the inventory specifies.
        named = {"user": "nobody", "log_file": f"{base}/theirs.log", "log_patterns": [f"{base}/*.log"]}
        facts = collect_logs.log(site.question(service=named))["facts"]
        assert len(facts["lines"]) == 2
        # If the user owns the folder, the user could have moved one of root's files there.
        os.chown(base, pwd.getpwnam("nobody").pw_uid, -1)
        found = collect_logs.log(site.question(service=named))
        assert found["facts"]["lines"] == ["2026-12-02T01:02:03Z ERROR a line of own.log"]


# The environment.


def test_missing_variables_of_the_environment(site):
    (site.folder / "unit.env").write_text("JWT_SECRET=x\nNODE_ENV=\nNODE_OPTIONS=--inspect --max-old-space-size=512\n")
    facts = collect_service.environment(site.question(service={"environment_file": "unit.env"}))["facts"]
    assert facts["required_missing"] == ["NODE_ENV"]
    assert facts["max_old_space_size"] == 512
    # A file that cannot be read may set variables, so it is unknown which variables are missing.
    for environment_file in ("absent.env", ""):
        facts = collect_service.environment(site.question(service={"environment_file": environment_file}))["facts"]
        assert facts["required_missing"] is None
    assert facts["problems"] == []


def test_many_variables_do_not_delay_the_redaction(site):
    """The redactor searches each string for each secret, and the service's user can define any number of both."""
    (site.folder / ".env").write_text("".join(f"A{number}_SECRET=value-{number:06}\n" for number in range(10_000)))
    answer = collect_service.environment(site.question())
    assert (len(answer["facts"]["names"]), len(answer["secrets"])) == (500, 200)
    done = collected.Pass()
    for name in ("first", "second"):
        secrets = [f"{name} secret {number}" for number in range(150)]
        done.take({name: parallel.Answer(0.1, triage_context.found({}, secrets=secrets))})
    assert len(done.secrets) == 200


def test_a_secret_that_several_sources_contain_counts_once():
    """All processes and files of the service contain the same secrets.

    The last process or file may contain an additional secret.
    """
    same = [f"secret {number}" for number in range(150)]
    answer = triage_context.found({}, secrets=[*same, *same, "only here"])
    assert len(answer["secrets"]) == 151
    done = collected.Pass()
    for name, secrets in (("process", same), ("environment", [*same, "only here"])):
        done.take({name: parallel.Answer(0.1, triage_context.found({}, secrets=secrets))})
    assert "only here" in done.secrets


def test_the_applications_own_file_has_the_lowest_precedence(site):
    (site.folder / ".env").write_text(
        "NODE_ENV=x\nDATABASE_PATH=own.db\nSSL_KEY_PATH=own.key\nADMIN_TOKEN=geheim-4711\n"
    )
    (site.folder / "unit.env").write_text("JWT_SECRET=x\nDATABASE_PATH=unit.db\nSSL_KEY_PATH=\n")
    answer = collect_service.environment(site.question(service={"environment_file": "unit.env"}))
    facts = answer["facts"]
    assert facts["required_missing"] == []
    assert facts["database_path"] == str(site.folder / "unit.db")
    assert facts["key"]["path"] == str(site.folder / "own.key")
    assert answer["secrets"] == ["geheim-4711"]


@pytest.mark.parametrize(("variable", "name"), [("DESK_DATABASE", "desk.db"), ("", None)])
def test_the_database_is_named_by_the_services_own_variable(site, variable, name):
    (site.folder / "unit.env").write_text("DATABASE_PATH=other.db\nDESK_DATABASE=desk.db\n")
    service = {"environment_file": "unit.env", "db_path_variable": variable}
    facts = collect_service.environment(site.question(service=service))["facts"]
    assert facts["database_path"] == (str(site.folder / name) if name else None)


def test_a_hanging_environment_file_costs_only_its_own_facts(site, tmp_path, monkeypatch):
    (site.folder / "unit.env").write_text("JWT_SECRET=x\n")
    (site.folder / ".env").write_text("NODE_ENV=x\n")
    read = env_file.read_environment_file

    def slowly(path):
        if path.endswith("unit.env"):
            time.sleep(60)
        return read(path)

    monkeypatch.setattr(env_file, "read_environment_file", slowly)
    answer = collect_service.environment(site.question(service={"environment_file": "unit.env"}, budget=1.0))
    assert answer["facts"]["names"] == ["NODE_ENV"]
    assert "no response in time" in answer["facts"]["problems"][0]
    assert answer["facts"]["required_missing"] is None


# Processes and paths.


@contextlib.contextmanager
def running(site, code, *arguments, **options):
    """Run a process in the application's folder until the end of the block. Yield as soon as the process is ready.

    The block receives the process and the service fields that describe it.
    """
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, cwd=site.folder, stdout=subprocess.PIPE, **options)
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process, {"command": command}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


WRITER = """
import os, sqlite3, sys, time
log, gone, base = open(sys.argv[1], "a"), open("gone.log", "w"), sqlite3.connect("itsm.db")
base.execute("create table if not exists t (a)"); base.commit()
read = open(os.devnull, "a") and open(sys.argv[1] + ".read.log", "w+") and open(sys.argv[1] + ".read.log")
gone.write("x" * 5000); gone.flush(); os.unlink("gone.log")
print("ready", flush=True); time.sleep(60)
"""


def test_open_files_of_a_process(site, tmp_path):
    log = tmp_path / "server.log"
    with running(site, WRITER, str(log)) as (process, service):
        found = collect_process.process(site.question(service=service))
        (facts,) = found["facts"]["processes"]
        known = procfs.read_process(process.pid)
        again = {
            what: collect_paths.paths(site.question(service=service, processes=[facts]), what=what)["facts"]
            for what in ("database", "log", "working directory")
        }
        other = collect_paths.paths(
            site.question(service={**service, "log_file": "/var/log/other.log"}, processes=[facts]), what="log"
        )["facts"]
    assert (facts["pid"], facts["start_ticks"]) == (process.pid, known.start_ticks)
    assert facts["open_databases"] == [str(site.folder / "itsm.db")]
    assert facts["open_logs"] == [str(site.folder / "gone.log"), str(log)]
    assert facts["deleted_files"] == [{"path": str(site.folder / "gone.log"), "size": 5000}]
    assert facts["open_files"] >= 6 and facts["open_files_max"] > 0
    assert facts["rss_peak"] >= facts["rss"] > 0
    assert {what: item["same"] for what, item in again.items()} == dict.fromkeys(again, True)
    assert (other["effective"], other["same"]) == (str(site.folder / "gone.log"), False)
    assert any(item["name"] == f"process-{process.pid}.txt" for item in found["evidence"])


TLS_SERVER = """
import socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(3)]
def serve(server, tls):
    while True:
        link = server.accept()[0]
        try:
            link = context.wrap_socket(link, server_side=True) if tls else link
            link.recv(100)
            link.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        except OSError:
            pass
        link.close()
for number, server in enumerate(sockets):
    threading.Thread(target=serve, args=(server, number == 2), daemon=True).start()
print("ready", flush=True)
print(*(server.getsockname()[1] for server in sockets), flush=True)
time.sleep(60)
"""


def test_https_that_is_served_on_another_port_is_found(site, pairs):
    with running(site, TLS_SERVER, str(pairs / "server.crt"), str(pairs / "server.key")) as (process, service):
        http, _other, https = map(int, process.stdout.readline().split())
        wrong = collect_ports.answer(site.question(service={**service, "http_port": http, "https_port": 1}))["facts"]
        right = collect_ports.answer(site.question(service={**service, "http_port": http, "https_port": https}))
        # Even if another program's port uses TLS, it is not reported as the service's HTTPS port.
        strange = collect_ports.answer(site.question(service={"https_port": 1}))["facts"]
    assert (wrong["https"]["listening"], wrong["http"]["answered"], wrong["tls_elsewhere"]) == (False, True, [https])
    assert right["facts"]["https"]["answered"] and "tls_elsewhere" not in right["facts"]
    assert strange["tls_elsewhere"] == []


def test_an_application_folder_that_is_a_link_is_not_a_mismatch(site, tmp_path):
    (tmp_path / "current").symlink_to(site.folder)
    sqlite3.connect(site.folder / "itsm.db").close()
    facts = collect_paths.paths(site.question(service={"app_dir": str(tmp_path / "current")}), what="database")
    assert (facts["facts"]["same"], facts["facts"]["source"]) == (True, "db_path")


def test_without_a_process_no_path_is_compared(site):
    log = collect_paths.paths(site.question(), what="log")["facts"]
    assert (log["effective"], log["same"]) == (None, None)
    folder = collect_paths.paths(site.question(unit={"working_directory": "/srv/old"}), what="working directory")[
        "facts"
    ]
    assert (folder["effective"], folder["same"], folder["source"]) == ("/srv/old", False, "the unit")


def test_secrets_on_the_command_line_are_known(site):
    code = "import time; print('ready', flush=True); time.sleep(60)"
    with running(site, code, "--admin-password", "geheim-4711", "--api-token=geheim-4712") as (_process, service):
        secrets = collect_process.process(site.question(service=service))["secrets"]
    assert {"geheim-4711", "geheim-4712"} <= set(secrets)


# Dependencies.


def lay_modules(site, *, hidden=True):
    packages = {
        "node_modules/express": {"version": "4.18.2", "integrity": "sha512-a"},
        "node_modules/express/node_modules/qs": {"version": "6.0.0", "integrity": "sha512-b"},
        "node_modules/better-sqlite3": {"version": "9.0.0", "integrity": "sha512-c", "hasInstallScript": True},
        "node_modules/built": {"version": "1.0.0", "integrity": "sha512-d", "hasInstallScript": True},
        "node_modules/maybe": {"version": "1.0.0", "hasInstallScript": True, "optional": True},
        "node_modules/tests": {"version": "1.0.0", "dev": True},
    }
    own = {"": {"name": "app", "version": "1.0.0"}}
    (site.folder / "package.json").write_text('{"dependencies": {"express": "^4"}, "engines": {"node": "^18 || ^20"}}')
    (site.folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": {**own, **packages}}))
    installed = {name: entry for name, entry in packages.items() if not entry.get("optional") and not entry.get("dev")}
    for name, entry in installed.items():
        (site.folder / name).mkdir(parents=True, exist_ok=True)
        (site.folder / name / "package.json").write_text(json.dumps({"version": entry["version"]}))
    if hidden:
        (site.folder / "node_modules" / ".package-lock.json").write_text(json.dumps({"packages": installed}))


def dependencies(site, **options):
    return collect_application.dependencies(site.question(**options))


def test_npm_is_not_run_if_dependencies_are_complete(site):
    lay_modules(site)
    site.node()
    site.npm("exit 99\n")
    found = dependencies(site)
    assert found["facts"] == {
        "ok": True,
        "missing": [],
        "invalid": [],
        "unloadable": [],
        "reasons": [],
        "error": None,
        "npm_ls": None,
    }
    assert found["reports"] == {} and found["evidence"] == []


def break_express(site):
    (site.folder / "node_modules/express/package.json").unlink()


def downgrade(site):
    (site.folder / "node_modules/express/node_modules/qs/package.json").write_text('{"version": "5.0.0"}')


@pytest.mark.parametrize(
    ("damage", "unloadable", "expected"),
    [
        (break_express, (), {"missing": ["express"]}),
        (downgrade, (), {"invalid": ["qs"]}),
        (lambda site: None, ("better-sqlite3",), {"unloadable": ["better-sqlite3"]}),
        # All packages that were compiled on this host are checked, not only the known database drivers.
        (lambda site: None, ("built",), {"unloadable": ["built"]}),
    ],
)
def test_broken_dependencies(site, damage, unloadable, expected):
    lay_modules(site)
    site.node(unloadable=unloadable)
    site.npm("exit 99\n")
    damage(site)
    found = dependencies(site)
    facts = found["facts"]
    assert facts["ok"] is False
    assert {name: facts[name] for name in ("missing", "invalid", "unloadable")} == {
        **{"missing": [], "invalid": [], "unloadable": []},
        **expected,
    }
    assert len(facts["reasons"]) == 1
    assert (facts["npm_ls"], found["reports"]) == (None, {})
    assert facts["reasons"][0] in found["evidence"][0]["text"]


@pytest.mark.parametrize(
    ("says", "ok", "problems"),
    [
        ("""echo '{}'""", True, []),
        ("""echo '{"problems": ["extraneous: a"]}'; exit 1""", True, []),
        ("""echo '{"problems": ["extraneous: a", "missing: b@^4"]}'; exit 1""", False, ["missing: b@^4"]),
        ("""echo '{"error": {"code": "EJSONPARSE"}}'; exit 1""", None, []),
        ("""echo no json; exit 1""", None, []),
    ],
)
def test_npm_is_run_if_the_files_are_not_enough(site, says, ok, problems):
    lay_modules(site, hidden=False)
    site.node()
    site.npm(says + "\n")
    found = dependencies(site)
    facts = found["facts"]
    assert (facts["ok"], facts["npm_ls"]["ok"], facts["npm_ls"]["problems"]) == (ok, ok, problems)
    assert isinstance(found["reports"]["npm_ls"], float)
    assert all(problem in found["evidence"][0]["text"] for problem in problems)


def test_the_folder_that_npm_used_is_removed_as_the_user(site, shared, monkeypatch):
    """While npm runs, the user can move one of root's folders to the path of npm's folder."""
    lay_modules(site, hidden=False)
    roots = shared / "roots"
    roots.mkdir(mode=0o755)
    (roots / "precious").write_text("root's")
    account, moved = pwd.getpwnam("nobody"), []

    def exchange(_question, *, folder):
        assert os.stat(folder).st_uid == account.pw_uid
        os.rename(folder, f"{folder}.away")
        os.rename(roots, folder)
        return {"ok": True, "problems": [], "error": None}

    discard = atomic_files.discard_tree
    monkeypatch.setattr(atomic_files, "discard_tree", lambda path, **more: (moved.append(path), discard(path, **more)))
    monkeypatch.setattr(collect_application, "_npm_ls", exchange)
    monkeypatch.setattr(collect_application.run_as, "resolve", lambda *_arguments, **_named: account)
    monkeypatch.setattr(collect_application.tempfile, "tempdir", str(shared))
    assert dependencies(site)["facts"]["ok"] is True
    (path,) = moved
    assert Path(path, "precious").read_text() == "root's"


def test_hanging_npm_costs_only_its_result_and_leaves_no_process_behind(site, tmp_path, monkeypatch):
    lay_modules(site, hidden=False)
    site.node()
    monkeypatch.setattr(collect_application.tempfile, "tempdir", str(tmp_path))
    # This program ignores signals. The child of the program runs longer than the program and keeps the output pipe
    # open.
    site.npm("trap '' TERM INT; setsid sleep 20 & echo $! > $0.child; sleep 20\n")
    started = time.monotonic()
    try:
        found = dependencies(site, budget=3.0)
    finally:
        subprocess.run(["kill", (site.bin / "npm.child").read_text().strip()], check=False)
    assert time.monotonic() - started < 15
    assert found["reports"] == {"npm_ls": parallel.TIMED_OUT}
    assert (found["facts"]["ok"], found["facts"]["npm_ls"]["error"]) == (None, parallel.TIMED_OUT)
    assert not list(tmp_path.glob("itsm-nexus-*"))


def test_without_a_package_json_the_dependencies_are_unknown(site):
    facts = dependencies(site)["facts"]
    assert facts["ok"] is None and "package.json" in facts["error"]


def test_node_version_against_the_requirement_of_the_application(site):
    lay_modules(site)
    site.node()
    facts = collect_application.node(site.question())["facts"]
    assert (facts["version"], facts["engines"], facts["engines_ok"]) == ("v20.11.1", "^18 || ^20", True)
    assert (facts["modules_exist"], facts["dependencies"], facts["script_exists"]) == (True, 1, False)


def test_the_program_is_the_one_that_runs_the_service(site):
    site.node()
    of_unit = {"unit": {"program": "/opt/node/bin/node"}}
    assert triage_context.program(site.question()) == str(site.bin / "node")
    assert triage_context.program(site.question(**of_unit)) == "/opt/node/bin/node"
    assert triage_context.program(site.question(unit={"program": "/usr/bin/env"})) == str(site.bin / "node")
    processes = [{"exe": "/usr/bin/node"}]
    assert triage_context.program(site.question(processes=processes, **of_unit)) == "/usr/bin/node"


# Migrations.


@pytest.fixture
def base(site):
    """Return the path of a database with knex's tables."""
    path = site.folder / "itsm.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('create table "m" (id integer, name text, batch integer, migration_time text)')
        connection.execute('create table "m_lock" ("index" integer primary key, is_locked integer)')
        connection.execute("insert into m values (1, '1_users.js', 3, '')")
        connection.execute("insert into m_lock values (1, 1)")
    return str(path)


def migrations(site, base, *, processes=()):
    question = site.question(database_path=base, processes=list(processes))
    facts = collect_application.migrations(question)["facts"]
    shipped = collect_application.migrations_shipped(question)["facts"]
    if collect_application.to_be_listed(facts, shipped):
        shipped = collect_application.migrations_listed(question)["facts"]
    return assembled_facts.with_pending(facts, shipped)


@pytest.fixture
def knex(site):
    """Return a function that creates a fake knex, which lists the given migration files."""
    site.node()
    program = site.folder / "node_modules" / ".bin" / "knex"
    program.parent.mkdir(parents=True)

    def put(*names):
        told = "\n".join([f"Found {len(names)} Pending Migration file/files.", *names])
        program.write_text(f"#!/bin/sh\ncat <<'END'\nNo Completed Migration files Found.\n{told}\nEND\n")
        program.chmod(0o755)

    return put


def test_a_lock_is_found_without_knex(site, base):
    site.node()
    facts = migrations(site, base)
    assert (facts["lock_held"], facts["lock_stale"], facts["batch"], facts["pending"]) == (True, True, 3, None)
    assert facts["completed"] == ["1_users.js"]
    assert "knex" in facts["error"]


def test_migrations_missing_from_the_database_are_pending(site, base, knex):
    knex("1_users.js", "2_changes.js", "3_assets.js")
    facts = migrations(site, base)
    assert (facts["completed"], facts["pending"]) == (["1_users.js"], ["2_changes.js", "3_assets.js"])
    assert (facts["lock_held"], facts["batch"], facts["error"]) == (True, 3, None)


@pytest.mark.parametrize("folder", ["migrations", "backend/migrations"])
def test_knex_is_not_run_if_the_usual_folder_contains_exactly_the_completed_migrations(site, base, folder):
    (site.folder / folder).mkdir(parents=True)
    for name in ("1_users.js", "README.md"):
        (site.folder / folder / name).touch()
    facts = migrations(site, base)  # knex is not installed
    assert (facts["completed"], facts["pending"], facts["error"]) == (["1_users.js"], [], None)


@pytest.mark.parametrize("files", [[], ["1_users.js", "2_changes.js"], ["2_changes.js"]])
def test_knex_is_run_if_the_usual_folder_contains_other_migrations(site, base, knex, files):
    """The knexfile can specify a different folder."""
    (site.folder / "migrations").mkdir()
    for name in files:
        (site.folder / "migrations" / name).touch()
    knex("1_users.js", "3_assets.js")
    assert migrations(site, base)["pending"] == ["3_assets.js"]


def test_migrations_missing_from_the_application_are_reported(site, base, knex):
    knex("2_changes.js")
    facts = migrations(site, base)
    assert (facts["completed"], facts["pending"]) == (["1_users.js"], None)
    assert facts["error"] == "The application lacks migrations that its database has: 1_users.js"


def test_knex_names_its_own_table_if_two_look_alike(site, base, knex):
    with contextlib.closing(sqlite3.connect(base)) as connection, connection:
        connection.execute('create table "n" (id integer, name text, batch integer, migration_time text)')
        connection.execute("insert into n values (1, 'another.js', 9, '')")
    knex("1_users.js", "2_changes.js")
    # If it is unclear which table knex uses, knex receives a copy of both tables and reads its own table.
    facts = migrations(site, base)
    assert (facts["completed"], facts["pending"], facts["error"]) == ([], ["1_users.js", "2_changes.js"], None)


def test_a_database_that_cannot_be_read_has_no_pending_migrations(site, knex):
    knex("1_users.js")
    facts = migrations(site, str(site.folder / "none.db"))
    assert (facts["completed"], facts["pending"], facts["lock_held"]) == (None, None, None)
    assert "none.db" in facts["error"]


def test_a_lock_is_not_stale_while_a_process_may_be_migrating(site, base):
    site.node()
    waiting = "import time; print('ready', flush=True); time.sleep(60)"
    with running(site, waiting, "node_modules/.bin/knex", "migrate:latest") as (process, _service):
        facts = migrations(site, base)
    assert facts["lock_stale"] is False
    assert [item["pid"] for item in facts["migrators"]] == [process.pid]
    assert facts["migrators"][0]["start_ticks"] > 0
    # The service itself may be running migrations while it starts.
    assert migrations(site, base, processes=[{"pid": 1, "open_databases": [base]}])["lock_stale"] is False
    assert migrations(site, base, processes=[{"pid": 1, "open_databases": []}])["lock_stale"] is True
    # Triage itself lists migrations. Therefore, a process that only lists migrations does not count as a migrator.
    for command in (["something else"], ["node_modules/.bin/knex", "migrate:list"]):
        with running(site, waiting, *command):
            facts = migrations(site, base)
        assert (facts["lock_stale"], facts["migrators"]) == (True, [])


# Processes that have the database open.


def test_holders_of_the_database(site, base):
    code = """
import sqlite3, time
base = sqlite3.connect("itsm.db", isolation_level=None)
base.execute("begin immediate")
print("ready", flush=True); time.sleep(60)
"""
    with running(site, code, "--db-password", "geheim-4711") as (process, _service):
        facts = collect_application.database(site.question(database_path=base))["facts"]
        ticks = procfs.read_process(process.pid).start_ticks
        ours = collect_application.database(site.question(database_path=base, processes=[{"pid": process.pid}]))[
            "facts"
        ]
    (holder,) = facts["holders"]
    assert {name: holder[name] for name in ("pid", "start_ticks", "role", "ours")} == {
        "pid": process.pid,
        "start_ticks": ticks,
        "role": "writer",
        "ours": False,
    }
    assert holder["exe"] == os.path.realpath(sys.executable) and holder["user"]
    assert holder["blocks_for"] >= 0.5
    assert ours["holders"][0]["ours"] is True and "blocks_for" not in ours["holders"][0]
    assert "geheim" not in json.dumps(facts)


def test_a_short_foreign_write_blocks_nothing(site, base):
    code = """
import sqlite3, sys, time
base = sqlite3.connect("itsm.db", isolation_level=None)
base.execute("begin immediate")
print("ready", flush=True); time.sleep(0.25); base.execute("rollback"); time.sleep(60)
"""
    with running(site, code):
        (holder,) = collect_application.database(site.question(database_path=base))["facts"]["holders"]
    assert (holder["ours"], holder["blocks_for"]) == (False, None)


def test_a_foreign_lock_released_during_a_long_check_blocks_nothing(site, base, monkeypatch):
    code = """
import os, sqlite3, time
base = sqlite3.connect("itsm.db", isolation_level=None)
base.execute("begin immediate")
print("ready", flush=True)
while not os.path.exists("let-go"): time.sleep(0.02)
base.execute("rollback"); os.rename("let-go", "gone"); time.sleep(60)
"""
    check = collect_application.sqlite_check.check
    folder = Path(base).parent

    def check_for_long(**options):
        facts = check(**options)
        (folder / "let-go").touch()
        while not (folder / "gone").exists():
            time.sleep(0.02)
        time.sleep(collect_application._LASTS)
        return facts

    monkeypatch.setattr(collect_application.sqlite_check, "check", check_for_long)
    with running(site, code):
        (holder,) = collect_application.database(site.question(database_path=base))["facts"]["holders"]
    assert (holder["role"], holder["blocks_for"]) == ("writer", None)


# The host.


def test_pressure(tmp_path):
    (tmp_path / "memory").write_text(
        "some avg10=1.50 avg60=2.00 avg300=0.25 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert collect_host._pressure(str(tmp_path / "memory")) == {
        "some": {"avg10": 1.5, "avg60": 2.0, "avg300": 0.25},
        "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0},
    }
    assert collect_host._pressure(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (
            2,
            {
                "memory.max": "536870912\n",
                "memory.high": "max\n",
                "memory.swap.max": "0\n",
                "memory.current": "1000\n",
                "memory.peak": "2000\n",
                "memory.events": "low 0\noom 3\noom_kill 2\n",
            },
            {"max": 536870912, "high": None, "swap_max": 0, "current": 1000, "peak": 2000, "oom": 3, "oom_kill": 2},
        ),
        (
            1,
            {
                "memory.limit_in_bytes": "9223372036854771712\n",
                "memory.usage_in_bytes": "1000\n",
                "memory.max_usage_in_bytes": "2000\n",
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            },
            {"max": None, "high": None, "swap_max": None, "current": 1000, "peak": 2000, "oom": None, "oom_kill": 1},
        ),
        (2, {}, dict.fromkeys(("max", "high", "swap_max", "current", "peak", "oom", "oom_kill"))),
    ],
)
def test_control_groups_of_both_versions(site, monkeypatch, version, files, expected):
    roots = {2: str(site.bin / "cgroup"), 1: str(site.bin / "cgroup" / "memory")}
    monkeypatch.setattr(collect_host, "_GROUP_ROOTS", tuple(roots.values()))
    group = "/system.slice/itsm-system.service"
    os.makedirs(roots[version] + group)
    for name, text in files.items():
        with open(f"{roots[version]}{group}/{name}", "w", encoding="ascii") as stream:
            stream.write(text)
    facts = collect_host.memory(site.question(unit={"control_group": group}))["facts"]
    assert facts["control_group"] == {**expected, "pressure": None}
    assert facts["total"] > facts["available"] > 0
    assert set(facts["pressure"]) == {"cpu", "memory", "io"}


@pytest.mark.parametrize(
    ("line", "signal"),
    [
        ("{day} UTC 4711 1000 1000 SIGABRT present  /usr/bin/node 12.3M", "SIGABRT"),
        # The output format of coredumpctl in systemd 247.
        ("{day} UTC    4711   1000   1000   6 missing   /usr/bin/node", "6"),
    ],
)
def test_recorded_core_dumps(site, line, signal):
    at = time.time() - 60
    day = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime(at))

    def run(argv, **_options):
        assert argv[0] == "coredumpctl" and f"@{time.time() - 600:.0f}"[:8] in argv[-1]
        return commands.Completed(argv=argv, rc=0, stdout=line.format(day=day) + "\nnoise\n", stderr="", duration=0)

    (site.folder / "core.99").write_bytes(b"x")
    own, record = sorted(collect_host.cores(site.question(run=run))["facts"], key=lambda item: item["source"] != "file")
    assert (own["path"], own["size"], own["source"]) == (str(site.folder / "core.99"), 1, "file")
    assert (record["pid"], record["signal"], record["exe"]) == (4711, signal, "/usr/bin/node")
    assert abs(timestamps.epoch(record["at"]) - at) < 2


def test_a_host_without_coredumpctl(site):
    def run(argv, **_options):
        raise commands.CommandError("no such program")

    assert collect_host.cores(site.question(run=run))["facts"] == []


def test_a_mount_with_an_odd_name_hides_no_other(monkeypatch):
    # With fusermount, any user can create such a mount.
    odd = "x /home/u/a\rb fuse rw 0 0\nx /home/u/\u2028\x0b fuse rw 0 0\nx /home/u/a\xa0b fuse rw 0 0\n"
    monkeypatch.setattr(mounts, "_read", lambda path: f"a / ext4 rw 0 0\n{odd}b /srv xfs rw 0 0\n")
    assert collect_host._mount_of("/srv/app") == ("/srv", "b", "xfs")
    assert collect_host._mount_of("/home/u/a\xa0b/c")[0] == "/home/u/a\xa0b"


def test_of_two_mounts_on_one_mount_point_the_later_one_counts(monkeypatch):
    table = "a / ext4 rw 0 0\nb /srv ext4 rw 0 0\nc /srv xfs rw 0 0\nd /srv2 xfs rw 0 0\ne /my\\040disk xfs rw 0 0\n"
    monkeypatch.setattr(mounts, "_read", lambda path: table)
    assert collect_host._mount_of("/srv/app")[1] == "c"
    assert collect_host._mount_of("/srv")[1] == "c"
    assert collect_host._mount_of("/srv3")[1] == "a"
    assert collect_host._mount_of("/my disk/x")[1] == "e"


# Facts that depend on other facts.


def test_a_question_waits_for_the_question_that_it_depends_on():
    def moment():
        time.sleep(0.2)
        return time.monotonic()

    answers = parallel.ask({"second": time.monotonic, "first": moment}, timeout=20, after={"second": "first"})
    assert answers["second"].value > answers["first"].value


def test_a_function_that_depends_on_a_timed_out_function_is_not_called():
    questions = {"first": lambda: time.sleep(60), "second": lambda: 1, "third": lambda: 2}
    answers = parallel.ask(questions, timeout=0.3, after={"second": "first"})
    assert answers["second"].report == "not asked: first timed out"
    assert answers["third"].value == 2


def test_slow_questions_start_first(monkeypatch):
    started = []
    begin = parallel._ask

    def recorded(name, *arguments, **more):
        started.append(name)
        return begin(name, *arguments, **more)

    monkeypatch.setattr(parallel, "_ask", recorded)
    answers = parallel.ask({name: lambda: 1 for name in ("quick", "slow", "other")}, timeout=20, first=("slow",))
    assert started == ["slow", "quick", "other"]
    assert list(answers) == ["quick", "slow", "other"]


def test_no_function_runs_beyond_the_deadline():
    questions = {"first": lambda: time.sleep(0.1), "second": lambda: time.sleep(60)}
    started = time.monotonic()
    answers = parallel.ask(questions, timeout=50, after={"second": "first"}, until=started + 0.5)
    assert time.monotonic() - started < 20
    assert answers["second"].report == parallel.TIMED_OUT


def test_text_is_shortened_at_the_beginning_of_a_line():
    assert triage_context.end_of("abc\ndef\n", limit=8) == ("abc\ndef\n", False)
    assert triage_context.end_of("abc\ndef\n", limit=6) == ("def\n", True)


def test_a_process_is_named_without_secrets():
    process = procfs.read_process(os.getpid())
    process = process._replace(argv=["mysql", "--password", "x1", "bare-geheim"])
    facts = triage_context.identity(process, ours=False, redactor=redact.Redactor(["bare-geheim"]))
    assert facts["command"] == "mysql --password [redacted] [redacted]"
    assert (facts["pid"], facts["start_ticks"], facts["ours"]) == (process.pid, process.start_ticks, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges that a program could abuse")
def test_the_program_of_a_process_never_runs_as_root(site):
    # The service's user can start any program named node, and triage knows only the program's path.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        os.chmod(base, 0o755)  # noqa: S103
        planted = program_at(Path(base, "node"), '#!/bin/sh\necho "v20.1.0-as-$(id -un)"\n')
        service = site.service._replace(user="nobody")
        question = site.question(processes=[{"exe": planted}])._replace(service=service)
        facts = collect_application.node(question)["facts"]
    assert (facts["path"], facts["version"]) == (planted, "v20.1.0-as-nobody")


# Functions that test_run.py tests only as parts of complete triage.
OF_A_TRIAGE = {
    "collect_application.files",
    "collect_changes.changes",
    "collect_host.disk",
    "collect_paths.used_database",
    "collect_ports.health",
    "collect_ports.ports",
}
# This function collects no fact.
OF_NO_FACT = {"collect_application.as_service"}


def test_every_function_that_collects_a_fact_has_a_test():
    functions = {
        f"{file.stem}.{node.name}"
        for file in Path(collect_host.__file__).parent.glob("collect_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if [each.arg for each in node.args.args[:1]] == ["question"]
    }
    tests = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    named = {each for each in functions if re.search(rf"\b{re.escape(each)}\(|\({re.escape(each)}\b", tests)}
    lacking = sorted(functions - named - OF_A_TRIAGE - OF_NO_FACT)
    assert lacking == [], f"no file in tests/unit/plugins/module_utils/_triage calls {lacking}"
