# SPDX-License-Identifier: Apache-2.0
"""Who does durable steps: Aether, Restate and DBOS, each with its programs of bench/durable, started and killed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from aether import BINARY, eventually, free_port  # noqa: E402

PROGRAMS = ROOT / "bench" / "durable"
PATIENCE = 90
POOL = {"node": 10, "python": 20}  # connections of DBOS, by its defaults; 32 were slower on two cores


def read(path):
    return path.read_text(errors="replace")[-3000:] if path.exists() else "nothing"


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


class Obedient:
    """A program that is told what to do by lines of JSON."""

    def __init__(self, command, env, log):
        self.log = log
        with open(log, "ab") as errors:
            self.process = subprocess.Popen([str(word) for word in command], env=env, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=errors, text=True)
        self.expect("ready")

    def expect(self, word):
        line = self.process.stdout.readline().strip()
        while line and line != word:
            line = self.process.stdout.readline().strip()
        assert line == word, f"it ended: {read(self.log)}"

    def tell(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        given_up = threading.Timer(PATIENCE, self.process.kill)
        given_up.start()
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):  # whatever its libraries print
            line = self.process.stdout.readline()
        given_up.cancel()
        assert line, f"it ended: {read(self.log)}"
        return json.loads(line)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Subject:
    """`folder`: its own, new. `judge`: the judge's port. `language`: node or python."""

    asker = None

    def __init__(self, folder, judge, language, peers, database=None):
        self.folder, self.language, self.peers, self.database = Path(folder), language, peers, database
        self.folder.mkdir(parents=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AETHER", "LISTEN_"))}
        self.env = {**inherited, "JUDGE": str(judge), "PEERS": str(peers), "PYTHONDONTWRITEBYTECODE": "1"}
        self.processes = []

    def program(self, name):
        """The command of a worker in the language."""
        if self.language == "node":
            found = PROGRAMS / f"{name}.js"
            return ["node", found if found.exists() else found.with_suffix(".mjs")]
        return [self.peers / "python" / "bin" / "python", PROGRAMS / f"{name}_worker.py"]

    def launch(self, command, **env):
        with open(self.folder / "log", "ab") as log:
            made = subprocess.Popen([str(word) for word in command], env={**self.env, **env}, cwd=self.folder,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(made)
        return made

    def text(self):
        return read(self.folder / "log")

    def client(self, port):
        return Obedient(["node", PROGRAMS / "client.js", self.kind, port], self.env, self.folder / "client.log")

    def load(self, **what):
        return self.asker.tell(do="load", **what)

    def begin(self, **what):
        """Asks for workflows, until all are acknowledged: from then on none may be lost."""
        return self.asker.tell(do="submit", **what)

    def stop(self):
        if self.asker:
            self.asker.kill()
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class AetherSubject(Subject):
    """The agent's command is Aether's to start."""

    kind = "aether"
    is_remote = False

    def start(self):
        self.port = free_port()
        url = f"http://127.0.0.1:{self.port}"
        env = {"JUDGE": self.env["JUDGE"], "NODE_PATH": str(ROOT / "sdk" / "node"),
               "PYTHONPATH": str(ROOT / "sdk" / "python")}  # fmt: skip
        command = [str(word) for word in self.program("aether")]
        if self.language == "python":
            command[0] = "/usr/bin/python3"
        agent = {"name": "work", "code": True} if self.is_remote else {"name": "work", "command": command, "env": env}
        config = {
            "store": {"type": "postgres", "path": self.database} if self.database else {"path": "jobs.db"},
            "api": {"port": self.port},
            "agents": [agent],
            "observability": {"metrics_port": "none"},
        }
        (self.folder / "aether.yaml").write_text(json.dumps(config))
        # Short: the path of a Unix socket has 107 bytes.
        self.env["AETHER_RUNTIME_DIR"] = self.runtime = tempfile.mkdtemp(prefix="ae.", dir="/tmp")
        self.serve()
        if self.is_remote:
            self.launch(command, AETHER_URL=url, **env)
        self.asker = self.client(self.port)
        return self

    def serve(self):
        self.server = self.launch([BINARY, "up", "-f", "-c", self.folder / "aether.yaml"])
        eventually(lambda: answers(f"http://127.0.0.1:{self.port}/v1/status"), f"Aether serves: {self.text()}", PATIENCE)

    def kill(self):
        self.server.kill()
        self.server.wait()

    def again(self):
        self.serve()

    def stop(self):
        for server in [self.server] if self.processes else []:
            server.send_signal(signal.SIGTERM)  # it ends its worker
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
        super().stop()
        shutil.rmtree(self.runtime, ignore_errors=True)


class RemoteAetherSubject(AetherSubject):
    """Its worker is started by somebody else, comes over HTTP, and outlives it, as Restate's does."""

    is_remote = True


class RestateSubject(Subject):
    kind = "restate"

    def start(self):
        self.ingress, self.admin, self.node, port = free_port(), free_port(), free_port(), free_port()
        self.launch(self.program("restate"), PORT=str(port), RESTATE_LOGGING="ERROR")
        self.serve()
        body = json.dumps({"uri": f"http://127.0.0.1:{port}"}).encode()
        wanted = urllib.request.Request(f"http://127.0.0.1:{self.admin}/deployments", body,
                                        {"Content-Type": "application/json"}, method="POST")

        def register():
            try:
                with urllib.request.urlopen(wanted, timeout=10) as answer:
                    return answer.status < 300
            except (OSError, urllib.error.URLError):
                return False

        eventually(register, f"Restate knows the worker: {self.text()}", PATIENCE)
        self.asker = self.client(self.ingress)
        return self

    def serve(self):
        binary = self.peers / "node_modules" / "@restatedev" / "restate-server-linux-x64" / "bin" / "restate-server"
        env = {"RESTATE_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "RESTATE_LOG_FILTER": "warn",
               "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress}",
               "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin}",
               "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self.node}", "RESTATE_LISTEN_MODE": "tcp"}  # fmt: skip
        command = [binary, "--no-logo", "--node-name", "bench", "--base-dir", self.folder / "data"]
        self.server = self.launch(command, **env)
        eventually(lambda: answers(f"http://127.0.0.1:{self.ingress}/restate/health"),
                   f"Restate serves: {self.text()}", PATIENCE)

    def kill(self):
        self.server.kill()
        self.server.wait()

    def again(self):
        self.serve()


class DbosSubject(Subject):
    kind = "dbos"

    def start(self):
        self.env.update(DATABASE=self.database, POOL=str(POOL[self.language]))
        self.serve()
        return self

    def serve(self):
        self.asker = Obedient(self.program("dbos"), self.env, self.folder / "client.log")

    def kill(self):
        self.asker.kill()

    def again(self):
        self.serve()


class Named:
    """A subject's maker. `package`: which of the peers' packages it needs."""

    def __init__(self, made, language, on_database, package=None):
        self.made, self.language, self.needs_database, self.package = made, language, on_database, package


SUBJECTS = {
    f"{name} ({language.capitalize()})": Named(made, language, on_database, package)
    for language in ("node", "python")
    for name, made, on_database, package in (
        ("Aether", AetherSubject, False, None),
        ("Aether on PostgreSQL", AetherSubject, True, None),
        ("Restate", RestateSubject, False, language),
        ("DBOS", DbosSubject, True, language),
    )
}  # fmt: skip
REMOTE = Named(RemoteAetherSubject, "node", False)  # for what is killed


def subject(name, folder, judge, peers, database):
    one = SUBJECTS.get(name, REMOTE)
    return one.made(folder, judge, one.language, peers, database)
