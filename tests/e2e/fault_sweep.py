# SPDX-License-Identifier: Apache-2.0
"""Each fault point of jobs, journal and tools, met by a run with all kinds of steps; judged from outside.

For each point an Aether is started with the fault, and users work with it until the fault has struck
or there is nothing left to do. Then one starts without a fault, and everything that was acknowledged
must end, or wait for a person. The judge outside has seen no call twice that is to be made once, the
store verifies, and what ended is decided the same way once more.

Each fault strikes at the first, second, ... time that its point is passed; AETHER_SOAK=N goes N times as far.
"""

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aether import BINARY, PATIENCE, eventually, free_port
from jobs import ENDED, Jobs, config, http_node
from judge import Judge

SOAK = int(os.environ.get("AETHER_SOAK", "1"))
LANES = 2
TIMES = {"kill": 2, "eio": 1, "stop": 1}
LEASE = "600ms"
PATIENCE_FIRST = 0.4
TOKEN = "viewer-0123456789abcdef"

# What is passed only after something else has failed.
BEHIND = {"jobs.reload": "jobs.append:1:eio"}


def known_points():
    """As the program tells them."""
    done = subprocess.run(
        [str(BINARY), "status"],
        env={**os.environ, "AETHER_FAULT": "x:1:kill"},
        capture_output=True,
        text=True,
        check=False,
    )
    names = re.search(r"there are: (.*)", done.stderr).group(1)
    return re.findall(r"(?:jobs|journal|tools)\.[\w-]+", names)


def main_graph(judge, name):
    """A run with every kind of step; `name` tells its calls from those of others."""

    def call(step, policy, after=(), way="echo"):
        return http_node(judge, step, f"/{way}/{name}.{step}", after=after, policy=policy)

    looked = call("lookup", "lookup", ["child"], way="drop/1")
    looked["with"]["lookup"] = {"url": judge.url("/seen?key={key}")}
    ask = {"name": "ask", "tool": "http", "with": {"method": "POST", "url": judge.url(f"/echo/{name}.agent-once")}}
    nodes = [
        call("once", "once"),
        call("read", "read", way="hold"),
        {"id": "note", "type": "tool", "tool": "note", "after": ["once"], "with": {"stdin": f"{name}\n"}},
        {"id": "pause", "type": "wait", "after": ["note", "read"], "with": {"for": "5ms"}},
        {"id": "paid", "type": "wait", "after": ["pause"], "with": {"signal": "paid"}},
        {"id": "child", "type": "workflow", "after": ["paid"], "graph": {"nodes": [call("keyed", "keyed")]}},
        looked,
        {
            "id": "agent",
            "type": "agent",
            "after": ["lookup"],
            "agent": {"name": "agent", "policy": "read", "tools": [ask]},
            "with": "call ask {}\nsay done",
        },
        {"id": "review", "type": "approval", "after": ["agent"], "with": {"message": "?"}},
    ]
    return {"nodes": nodes}


class Lane:
    """One store, and one fault after another."""

    def __init__(self, folder, kind, judge):
        self.kind, self.judge = kind, judge
        self.notes = folder / "notes"
        self.port = free_port()
        note = {"type": "process", "command": ["sh", "-c", f"cat >> {self.notes}"]}
        tick = {"name": "tick", "every": "1s", "job": {"graph": {"nodes": [{"id": "v", "type": "value"}]}}}
        token = {"name": "viewer", "role": "viewer", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
        self.made = config(jobs={"lease": LEASE}, tools={"note": note}, schedules=[tick])
        self.with_api = {**self.made, "api": {"host": "127.0.0.1", "port": self.port, "tokens": [token]}}
        self.house = Jobs(folder, self.made)
        self.jobs = {}  # name: what it asks for
        self.runs = {}  # name: id, once it was acknowledged
        self.met = set()
        self.patience = PATIENCE_FIRST

    # ---- asking somebody who may be dead

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
        """(status, answer); (0, None) if nobody answers any more."""
        if self.state() != "alive":
            return 0, None
        try:
            # A process that stands still answers nobody; that is noticed by asking for its state.
            code, _, answer = self.house.request(method, path, body, headers, patience=self.patience)
            self.patience = PATIENCE_FIRST
            return code, answer
        except TimeoutError:
            self.patience = min(2 * self.patience, PATIENCE)  # a slow machine is not a dead one
        except (OSError, http.client.HTTPException):
            pass
        return 0, None

    def post(self, name, action, /, **body):
        return self.ask("POST", f"/v1/jobs/{self.runs[name]}/{action}", body)[0]

    # ---- what users do

    def submit(self, name, graph):
        self.jobs[name] = {"graph": graph, "name": name}

    def shown(self, name):
        """The job, once it was acknowledged; None otherwise."""
        if name not in self.runs:
            code, answer = self.ask("POST", "/v1/jobs", self.jobs[name], {"Idempotency-Key": name})
            if code not in (200, 201):
                return None
            self.runs[name] = answer["id"]
        code, job = self.ask("GET", f"/v1/jobs/{self.runs[name]}")
        assert code != 404, f"{name} was acknowledged, and is not there"
        return job if code == 200 else None

    def push_main(self, job, name):
        """Whether there is nothing left to do."""
        if job["status"] in ENDED:
            return True
        if job["status"] == "paused":
            self.post(name, "control", action="resume")
        waits = {wait["path"]: wait for wait in job["waits"] if wait["kind"] in ("human", "signal")}
        if any(wait["effect"] for wait in waits.values()):
            return True  # Somebody has to say what became of a call: that is the law.
        if "paid" in waits:
            self.post(name, "signals", name="paid", payload=1)
        if "review" in waits:
            self.post(name, "control", action="pause")
            self.post(name, "control", action="resume")
            self.post(name, "approvals", decision="approve")
        return False

    def push_victim(self, job, name):
        """It is cancelled during its call."""
        if job["status"] in ENDED or any(wait["effect"] for wait in job["waits"]):
            return True
        if self.judge.count(f"/hold/{name}.once"):
            self.post(name, "control", action="cancel")
        return False

    def push_doubt(self, job, name):
        """Nobody knows what became of its call; a person says so."""
        if job["status"] in ENDED:
            return True
        if any(wait["effect"] for wait in job["waits"]):
            self.post(name, "resolve", outcome="happened", result=1)
        return False

    def push_fork(self, name):
        code, _ = self.ask("POST", f"/v1/jobs/{self.runs[name]}/fork", {"step": "review"})
        return 0 < code < 500

    def push(self, name):
        """One round of what users do. True when there is nothing left to do."""
        left = False
        for part, how in (("main", self.push_main), ("victim", self.push_victim), ("doubt", self.push_doubt)):
            job = self.shown(f"{name}.{part}")
            left = not (job and how(job, f"{name}.{part}")) or left
        return not left

    def refused(self):
        """Somebody asks for what he may not; that is noted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            connection.request("POST", "/v1/jobs", "{}", headers)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    # ---- one fault

    def begin(self, name):
        self.submit(f"{name}.main", main_graph(self.judge, f"{name}.main"))
        self.submit(f"{name}.victim", {"nodes": [http_node(self.judge, "n", f"/hold/{name}.victim.once", timeout="3s")]})
        doubt = http_node(self.judge, "n", f"/hold/{name}.doubt.once", timeout="30ms")
        self.submit(f"{name}.doubt", {"nodes": [doubt]})

    def meet(self, point, count):
        name = f"{point}-{count}"
        self.begin(name)
        self.house.write_config(self.with_api if point == "jobs.note" else self.made)
        fault = ",".join([*filter(None, [BEHIND.get(point)]), f"{point}:{count}:{self.kind}"])
        self.house.again(wait=False, fault=fault)
        struck = self.work(point, name)
        if struck:
            self.met.add(point)
        self.judge.release(f"{name}.main.read")
        self.recover(point, struck)
        eventually(lambda: self.over(name), f"all of {name} ends or is parked")
        self.replayed(name)
        self.house.crash()

    def work(self, point, name):
        """Until the fault has struck, or there is nothing left to do. Whether it has."""
        began = time.monotonic()
        forked = False
        while time.monotonic() - began < PATIENCE:
            if self.state() != "alive":
                return True
            enough = 1.5 if self.kind == "eio" else PATIENCE
            if point != "jobs.renew" or time.monotonic() - began > enough:
                self.judge.release(f"{name}.main.read")
            if point == "jobs.note":
                self.refused()
            over = self.push(name)
            if over and not forked:
                forked = self.push_fork(f"{name}.main")
            elif over and time.monotonic() - began >= self.least(point):
                return self.terminate()
            time.sleep(0.005)
        raise AssertionError(f"{name}: neither struck nor over:\n{self.house.text()[-3000:]}")

    def least(self, point):
        """How long it waits for what comes by itself, or where somebody else listens: seconds."""
        if point not in ("jobs.schedule", "jobs.note"):
            return 0
        return 2.5 if self.kind == "eio" else PATIENCE / 2

    def terminate(self):
        """Nothing is left to do: it is asked to end. Whether a fault was there, too."""
        self.house.process.send_signal(signal.SIGTERM)
        eventually(lambda: self.state() != "alive", "it ends")
        return self.state() == "still" or self.house.process.returncode != 0

    def recover(self, point, struck):
        """The next life; every second one that stands still goes on in the old one, after its lease."""
        goes_on = struck and self.kind == "stop" and self.state() == "still" and hash_of(point) % 2 == 0
        if goes_on:
            time.sleep(0.7)  # longer than its lease: that is the fault
            self.house.process.send_signal(signal.SIGCONT)
            if point not in ("jobs.stop", "journal.checkpoint"):
                return
            self.house.process.wait(PATIENCE)
        self.house.crash()
        self.judge.settle()
        self.house.again()

    def over(self, name):
        assert self.state() == "alive", self.house.text()[-3000:]
        return self.push(name)

    def replayed(self, name):
        """What has ended is decided the same way once more."""
        for part in ("main", "victim", "doubt"):
            code, _, told = self.house.request("GET", f"/v1/jobs/{self.runs[f'{name}.{part}']}/replay")
            assert code == 200 and told["equal"] and told["calls"] == 0, (name, part, told)

    # ---- the end

    def finish(self):
        self.house.again()
        listed = self.listed()
        for name, run in self.runs.items():
            assert [one["id"] for one in listed if one["name"] == name] == [run] or self.forks(listed, name, run)

        def quiet():
            return all(one["status"] in (*ENDED, "parked") for one in self.listed())

        eventually(quiet, "all that was forked or scheduled ends or is parked")
        assert self.house.halt() == 0, self.house.text()[-3000:]
        self.house.verified()
        fsck = self.house.cli("fsck")
        assert fsck.returncode == 0, fsck.stdout + fsck.stderr

    def listed(self):
        found, after = [], ""
        while after is not None:
            _, _, page = self.house.request("GET", f"/v1/jobs?limit=1000&after={after}")
            found += page["jobs"]
            after = page["next"]
        return found

    def forks(self, listed, name, run):
        """Beside the run itself there is only what was forked of it."""
        others = [one["id"] for one in listed if one["name"] == name and one["id"] != run]
        return all(self.house.job(one).get("forked_from") == run for one in others)

    def judge_notes(self):
        noted = self.notes.read_text().split() if self.notes.exists() else []
        assert len(noted) == len(set(noted)), "a program was run twice"


def hash_of(text):
    return hashlib.sha256(text.encode()).digest()[0]


def judge_calls(judge):
    """The law of effects, as somebody outside saw it."""
    called = {}
    for call in judge.calls:
        called.setdefault(call.path, []).append(call.key)
    for path, keys in called.items():
        policy = re.split(r"[.-]", path)[-1]
        if policy == "keyed":
            assert len(set(keys)) == 1 and keys[0], f"{path}: a keyed call came with other keys: {keys}"
        elif policy != "read":
            assert len(keys) == 1, f"{path} was called {len(keys)} times"
    return called


def sweep(folder, kind):
    """All points with faults of one kind. The points that struck."""
    points = known_points()
    assert len(points) >= 40, points
    work = [(point, count) for count in range(1, SOAK * TIMES[kind] + 1) for point in points]
    judge = Judge()
    lanes = [Lane(folder / f"lane{number}", kind, judge) for number in range(LANES)]

    def run(number):
        lane = lanes[number]
        try:
            for point, count in work[number::LANES]:
                lane.meet(point, count)
            lane.finish()
        except BaseException:
            print(f"---- {lane.house.folder}\n{lane.house.text()[-5000:]}")
            raise

    try:
        with ThreadPoolExecutor(LANES) as pool:
            for done in [pool.submit(run, number) for number in range(LANES)]:
                done.result()
        called = judge_calls(judge)
        for lane in lanes:
            lane.judge_notes()
        assert len(called) > len(points), "hardly anything was called"
    finally:
        judge.close()
        for lane in lanes:
            lane.house.stop()
    return set(points), set.union(*[lane.met for lane in lanes])


def assert_all_met(points, met):
    assert json.dumps(sorted(points - met)) == "[]", "points that were never passed"
