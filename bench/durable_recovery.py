# SPDX-License-Identifier: Apache-2.0
"""`kill -9` in the middle of 64 workflows, and the start after it: how soon work goes on, and what was done twice."""

import json
import sys
import time
import urllib.error
import urllib.request

from aether import eventually  # tests/e2e
from tables import table

RUNS = 64
STEPS = 60
DEAD = 0.1  # seconds, which whoever restarts things takes
LOOKING = 0.5  # seconds that whoever is asked takes
NOT_ASKED_ANY_MORE = 404
PATIENCE = 120
# (subject, policy, what it is called): an agent that Aether started dies with it, other workers outlive their server.
KILLED = (
    ("Aether (Node)", "once", "Aether and its agent, `once`"),
    ("Aether (Node)", "keyed", "Aether and its agent, `keyed`"),
    ("Aether over HTTP (Node)", "once", "Aether, `once`; its worker lives on"),
    ("Restate (Node)", "once", "Restate; its worker lives on"),
    ("DBOS (Node)", "once", "DBOS, which is in the worker"),
)  # fmt: skip


def ask(url, body=None):
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
        return json.loads(answer.read())


class Questions:
    """What Aether asks a person about: answered by what the judge has seen, as a person would who can look. A worker
    that lives on may know better, and gets a moment to say it."""

    def __init__(self, url, judge):
        self.url, self.judge, self.seen, self.answered = url, judge, {}, 0

    def answer(self):
        for job in ask(f"{self.url}/v1/jobs?status=parked&limit=200")["jobs"]:
            told = ask(f"{self.url}/v1/jobs/{job['id']}")
            effect = next((wait["effect"] for wait in told["waits"] if wait["effect"]), None)
            if effect and time.monotonic() - self.seen.setdefault(effect, time.monotonic()) >= LOOKING:
                self.resolve(told)

    def resolve(self, told):
        key = f"{told['input']['id']}/{told['steps'][-1]['path'].removeprefix('s')}"
        happened = {"outcome": "happened", "result": "ok"} if self.judge.seen(key) else {"outcome": "not_happened"}
        try:
            ask(f"{self.url}/v1/jobs/{told['id']}/resolve", happened)
            self.answered += 1
        except urllib.error.HTTPError as error:
            if error.code != NOT_ASKED_ANY_MORE:
                raise


def kill_and_wait(running, judge, wanted, questions):
    """Once a quarter of the effects are there; the figures."""
    eventually(lambda: judge.effects() > wanted // 4, "a quarter is done", PATIENCE)
    running.kill()
    time.sleep(DEAD)
    before = judge.effects()
    began = time.monotonic()
    running.again()
    until = began + PATIENCE
    while judge.effects() < wanted and time.monotonic() < until:
        time.sleep(0.05)
        if questions:
            questions.answer()
    told = judge.told()
    later = [when - began for when in told["times"] if when > began]
    return {"killed_after": before, "first_s": min(later, default=None), "all_s": max(later, default=None),
            "effects": told["effects"], "twice": told["twice"], "missing": wanted - told["effects"],
            "asked": questions.answered if questions else 0}  # fmt: skip


def recovery(bench, names, database):
    found = []
    for name, policy, called in KILLED:
        if name.replace(" over HTTP", "") not in names:
            continue
        running = bench.made(name, database if name.startswith("DBOS") else None)
        try:
            running.start()
            bench.judge.forget()
            running.begin(runs=RUNS, prefix="r", given={"count": STEPS, "effects": True, "policy": policy})
            asks = running.kind == "aether" and policy == "once"
            questions = Questions(f"http://127.0.0.1:{running.port}", bench.judge) if asks else None
            figures = kill_and_wait(running, bench.judge, RUNS * STEPS, questions)
        finally:
            running.stop()
        found.append({"subject": called, "runs": RUNS, "steps": STEPS, "dead_s": DEAD, **figures})
        print(f"  {found[-1]}", file=sys.stderr, flush=True)
    return found


def seconds(value):
    return "never" if value is None else f"{value:.2f}"


def recovery_table(found):
    table(f"kill -9 of the engine in the middle of {RUNS} workflows of {found[0]['steps']} steps (seconds since it was "
          "started again)",
          ["", "effects before", "next effect", "all effects", "effects", "twice", "missing", "asked a person"],
          [[one["subject"], one["killed_after"], seconds(one["first_s"]), seconds(one["all_s"]), one["effects"],
            one["twice"], one["missing"], one["asked"]] for one in found])
