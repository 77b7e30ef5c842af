# SPDX-License-Identifier: Apache-2.0
"""Aether with agents that have code, and their workers as processes that a test can kill."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

from aether import PATIENCE, eventually
from jobs import ENDED, Jobs, config

NUMBERS = itertools.count()
SDK = Path(__file__).parents[2] / "sdk" / "python"

# What workers share: a tool that the judge counts.
PRELUDE = """
import json, os, sys, time, urllib.request
from aetheris import *

JUDGE = os.environ["JUDGE"]

def tell(path, **body):
    request = urllib.request.Request(JUDGE + path, json.dumps(body).encode(), method="POST")
    if idempotency_key():
        request.add_header("Idempotency-Key", idempotency_key())
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read()).get("n")
"""


class House(Jobs):
    """An Aether whose agents' workers come from elsewhere."""

    def __init__(self, folder, judge, *agents, lease="1s", store="sqlite", **sections):
        named = [{"name": name, "code": True} for name in agents or ("coder",)]
        super().__init__(folder, config(store, jobs={"lease": lease}, agents=named, **sections))
        self.judge = judge
        self.workers = []

    @property
    def url(self):
        return f"unix:{self.control_socket}"

    def worker(self, code, **env):
        made = Worker(self, code, env)
        self.workers.append(made)
        return made

    def halt(self):
        for worker in self.workers:
            worker.kill()
        return super().halt()

    def until_over(self, run, otherwise=lambda: False):
        """Until the run has ended, or a person is asked what became of a call: "ended", "asks" or "otherwise"."""

        def state():
            job = self.job(run)
            if job["status"] in ENDED:
                return "ended"
            if any(wait["effect"] for wait in job["waits"]):
                return "asks"
            return "otherwise" if otherwise() else None

        try:
            return eventually(state, f"{run} comes on")
        except AssertionError as error:
            told = [worker.text()[-800:] for worker in self.workers if worker.process.poll() is None]
            raise AssertionError(f"{error}: {self.job(run)} {self.events(run)[-6:]} {told}") from None

    def begin(self, agent="coder", given=None, **job):
        return self.submit(agent=agent, input=given, **job)


class Worker:
    def __init__(self, house, code, env):
        self.file = house.folder / f"worker{next(NUMBERS)}.py"  # tests start several at once
        self.file.write_text(PRELUDE + code + "\nserve()\n")
        self.env = {**os.environ, "PYTHONPATH": str(SDK), "AETHER_URL": house.url, "JUDGE": house.judge.url(""),
                    "AETHERIS_LOG": "INFO", **env}  # fmt: skip
        self.log = house.folder / f"{self.file.stem}.log"
        self.process = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([sys.executable, str(self.file)], env=self.env, stdout=log, stderr=log)
        return self

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)

    def again(self):
        self.kill()
        return self.start()

    def stopped(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def text(self):
        return self.log.read_text()


def counted(judge, path, at_least=1):
    """Waits until the judge has had so many calls of the path."""
    return eventually(lambda: judge.count(path) >= at_least, f"the judge hears {path}")


# ---- What is asked of a worker in any language


def halted_past_its_lease(house, judge, paying):
    """A worker that stands still loses its run, and its late answer counts. What a person was asked meanwhile."""
    slow = house.worker(paying, WAY="hold")
    run = house.begin(given="a")
    counted(judge, "/hold/pay.a")
    slow.process.send_signal(signal.SIGSTOP)
    house.worker(paying)
    asked = house.asks(run)
    judge.release("pay.a")
    slow.process.send_signal(signal.SIGCONT)
    job = house.ended(run)
    assert job["status"] == "completed", job
    assert judge.count("/hold/pay.a") == 1 and judge.count("/count/pay.a") == 0
    assert any(event["body"].get("by") == "late" for event in house.events(run)), house.kinds(run)
    return asked


def goes_on_with_the_right_code(house, judge, waits):
    """`waits` has a step STEP, which is called otherwise in the wrong code. The error while it was stuck."""
    right = house.worker(waits.replace("STEP", "fetch"))
    run = house.begin()
    house.wait_status(run, "parked")
    right.kill()
    wrong = house.worker(waits.replace("STEP", "get"))
    house.change(run, "signals", name="go", payload=5)
    error = house.wait_status(run, "stuck")["error"]
    assert '"fetch"' in error and '"get"' in error, error
    wrong.kill()
    right.start()
    house.change(run, "control", action="resume")
    assert house.ended(run)["output"] == [1, 5]
    assert judge.count("/count/one") == 1
    return error
