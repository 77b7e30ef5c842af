# SPDX-License-Identifier: Apache-2.0
"""Each fault point of jobs, journal and tools, met by a five-step graph; judged from outside.

All points of one kind share a store: each Aether is started with the next fault, finds what the one
before left, and is killed if the fault has not ended it. At the end one starts without a fault, and
every run that was acknowledged must end, or wait for a person; then the store must verify.
"""

import http.client
import re
import time
from pathlib import Path

from jobs import ENDED, Jobs, config
from judge import Judge

POINTS_FILE = Path(__file__).parents[2] / "src" / "base" / "fault_points.def"
POINT = re.compile(r'AETHER_FAULT_POINT\(\w+, "((?:jobs|journal|tools)\.[\w-]+)"')
POINTS = POINT.findall(POINTS_FILE.read_text())

# What a five-step graph does not pass, each with the reason.
NOT_HERE = {
    "jobs.schedule": "nothing is scheduled",
    "jobs.fork": "nothing is forked",
    "jobs.reload": "nobody else appends to the stream of a run",
}


def steps(judge, name):
    def call(step, path, **more):
        return {
            "id": step,
            "type": "tool",
            "tool": "http",
            "with": {"method": "POST", "url": judge.url(f"/{path}/{name}-{step}"), "body": {}},
            **more,
        }

    looked = call("looked", "echo", after=["child"], policy="lookup")
    looked["with"]["lookup"] = {"url": judge.url("/seen?key={key}")}
    return {
        "nodes": [
            call("once", "echo"),
            {"id": "note", "type": "tool", "tool": "note", "after": ["once"], "with": {}},
            {"id": "pause", "type": "wait", "after": ["note"], "with": {"for": "5ms"}},
            {
                "id": "child",
                "type": "workflow",
                "after": ["pause"],
                "graph": {"nodes": [call("inner", "echo", policy="keyed")]},
            },
            looked,
            {"id": "review", "type": "approval", "after": ["looked"], "with": {"message": "?"}},
        ]
    }


class Sweep:
    """One store, one fault after another."""

    def __init__(self, folder, kind, points):
        self.kind, self.points = kind, points
        self.judge = Judge()
        made = config(tools={"note": {"type": "process", "command": ["true"]}})
        self.house = Jobs(folder, made)
        self.runs = {}  # name: id, or None if the submission was not answered
        self.ended = set()  # points at which the process ended, or stood still

    def close(self):
        self.judge.close()
        self.house.stop()

    def state(self):
        """"gone", "still" (SIGSTOP) or "alive"."""
        if self.house.process.poll() is not None:
            return "gone"
        try:
            stat = Path(f"/proc/{self.house.pid}/stat").read_text()
        except OSError:
            return "gone"
        return "still" if stat.rsplit(")", 1)[1].split()[0] in "Tt" else "alive"

    def ask(self, method, path, body=None, headers=None):
        """(status, answer), or None if nobody can answer any more."""
        if self.state() != "alive":
            return None
        try:
            code, _, answer = self.house.request(method, path, body, headers)
            return code, answer
        except (OSError, http.client.HTTPException):
            return None

    def submit(self, name):
        body = {"graph": steps(self.judge, name)}
        answer = self.ask("POST", "/v1/jobs", body, {"Idempotency-Key": name})
        if answer and answer[0] in (200, 201):
            self.runs[name] = answer[1]["id"]
        return self.runs[name]

    def push(self, name):
        """One round of what users do to a run. True when there is nothing left to do for it."""
        run = self.runs[name] or self.submit(name)
        if run is None:
            return False
        shown = self.ask("GET", f"/v1/jobs/{run}")
        if not shown or shown[0] != 200:
            return False
        job = shown[1]
        if job["status"] in ENDED:
            return True
        if job["status"] == "paused":
            self.ask("POST", f"/v1/jobs/{run}/control", {"action": "resume"})
        waits = [wait for wait in job["waits"] if wait["kind"] == "human"]
        if any(wait["effect"] for wait in waits):
            return True  # Somebody has to say what became of a call: that is the law.
        if waits:
            body = {"decision": "approve"}
            self.ask("POST", f"/v1/jobs/{run}/signals", {"name": "early"})
            self.ask("POST", f"/v1/jobs/{run}/control", {"action": "pause"})
            self.ask("POST", f"/v1/jobs/{run}/control", {"action": "resume"})
            self.ask("POST", f"/v1/jobs/{run}/approvals", body)
        return False

    def meet(self, point):
        """Starts with the fault, works until it has struck or the run is over."""
        self.house.again(wait=False, fault=f"{point}:1:{self.kind}")
        self.runs[point] = None
        deadline = time.monotonic() + (5 if self.kind == "eio" else 20)
        while time.monotonic() < deadline:
            if self.state() != "alive":
                self.ended.add(point)
                break
            try:
                if self.push(point):
                    break
            except FileNotFoundError:
                pass  # It has no control socket yet.
            time.sleep(0.01)
        self.house.crash()

    def run(self):
        self.house.start(wait=False)
        self.house.crash()
        for point in self.points:
            self.meet(point)
        self.house.again()
        self.finish()

    def finish(self):
        """Without a fault: all that was acknowledged ends or is parked, and nothing was called twice."""
        deadline = time.monotonic() + 60
        left = dict(self.runs)
        while left:
            assert self.state() == "alive", self.house.text()[-5000:]
            left = {name: run for name, run in left.items() if not self.push(name)}
            assert time.monotonic() < deadline, {n: self.house.job(r) for n, r in left.items() if r}
        self.judge_effects()
        assert self.house.halt() == 0
        self.house.verified()

    def judge_effects(self):
        called = {}
        for call in self.judge.calls:
            called.setdefault(call.path, []).append(call.key)
        for path, keys in called.items():
            if path.endswith("-inner"):
                assert len(set(keys)) == 1, f"{path}: a keyed call came with other keys: {keys}"
            else:
                assert len(keys) == 1, f"{path} was called {len(keys)} times"
