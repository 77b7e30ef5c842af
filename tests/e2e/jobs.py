# SPDX-License-Identifier: Apache-2.0
"""An Aether that runs jobs, and what tests ask of it."""

import http.client
import json
import os
import signal
import subprocess

from aether import PATIENCE, Aether, UnixConnection, eventually

ENDED = ("completed", "failed", "cancelled")


def config(store="sqlite", **sections):
    made = {"observability": {"metrics_port": "none"}, "jobs": {"lease": "2s"}, **sections}
    made["store"] = {"type": "memory"} if store == "memory" else {"path": "jobs.db"}
    return made


def http_node(judge, name, path, after=(), policy=None, body=None, **more):
    node = {
        "id": name,
        "type": "tool",
        "tool": "http",
        "after": list(after),
        "with": {"method": "POST", "url": judge.url(path), "body": body or {"step": name}},
        **more,
    }
    if policy:
        node["policy"] = policy
    return node


class Jobs(Aether):
    """An Aether with jobs in the foreground."""

    judge = None  # who has to have seen all that was sent, before the next life begins

    def serving(self):
        return self.control_ready()

    def request(self, method, path, body=None, headers=None, patience=PATIENCE):
        """(status, headers, JSON or text)"""
        connection = UnixConnection(self.control_socket, patience)
        try:
            data = json.dumps(body) if body is not None else None
            connection.request(method, path, body=data, headers=headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = "json" in (answer.headers.get("Content-Type") or "")
            return answer.status, answer.headers, json.loads(text) if is_json else text
        finally:
            connection.close()

    def submit(self, graph=None, key=None, **job):
        if graph is not None:
            job["graph"] = graph if isinstance(graph, dict) else {"nodes": graph}
        headers = {"Idempotency-Key": key} if key else {}
        code, _, answer = self.request("POST", "/v1/jobs", job, headers)
        assert code in (200, 201), answer
        return answer["id"]

    def submit_and_die(self, graph, key):
        """Submits to an Aether that a fault ends, starts it again, and submits the same once more."""
        acknowledged = None
        try:
            acknowledged = self.submit(graph, key=key)
        except (OSError, http.client.HTTPException):
            pass  # it died before it could answer
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.text()
        if self.judge:
            self.judge.settle()  # what was sent may be on its way still
        self.again()
        run = self.submit(graph, key=key)
        assert acknowledged in (None, run), f"{acknowledged} was acknowledged, and {run} is another one"
        return run

    def job(self, run):
        code, _, answer = self.request("GET", f"/v1/jobs/{run}")
        assert code == 200, answer
        return answer

    def wait_status(self, run, *wanted):
        def reached():
            assert self.process.poll() is None, f"Aether ended:\n{self.text()}"
            job = self.job(run)
            return job if job["status"] in wanted else None

        try:
            return eventually(reached, f"{run} becomes {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {json.dumps(self.job(run), indent=1)}") from None

    def ended(self, run):
        return self.wait_status(run, *ENDED)

    def asks(self, run):
        """Waits until a person is asked; the wait."""

        def asked():
            waits = self.job(run)["waits"]
            return next((wait for wait in waits if wait["kind"] == "human"), None)

        return eventually(asked, f"{run} asks a person")

    def post(self, run, action, body, headers=None):
        return self.request("POST", f"/v1/jobs/{run}/{action}", body, headers)

    def change(self, run, action, /, **body):
        code, _, answer = self.post(run, action, body)
        assert code == 200, answer
        return answer

    def events(self, run):
        code, _, answer = self.request("GET", f"/v1/jobs/{run}/events?limit=1000")
        assert code == 200, answer
        return answer["events"]

    def kinds(self, run):
        return [event["type"] for event in self.events(run)]

    def crash(self):
        """kill -9, and it is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def again(self, wait=True, fault=None):
        """Starts on the same store."""
        self.env.pop("AETHER_FAULT", None)
        if fault:
            self.env["AETHER_FAULT"] = fault
        return self.start(wait)

    def halt(self):
        """Stops it, and leaves its folders."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
        return self.process.returncode

    def verified(self):
        """`aether verify --all` of its store; its JSON."""
        done = self.cli("-o", "json", "verify", "--all")
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert told["valid"] and not told["findings"], told
        return told

    def on_copy(self, folder, *words):
        """Runs a command line for the copy of its configuration and store in that folder."""
        return subprocess.run(
            [str(self.binary), "-c", str(folder / "aeterna.yaml"), *words],
            env=self.env,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def without_network(command, **options):
    """Runs it where there is no network at all; None if that cannot be made here."""
    wrap = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
        return None
    return subprocess.run(
        [*wrap, *command], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )
