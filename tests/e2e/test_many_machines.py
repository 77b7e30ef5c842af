# SPDX-License-Identifier: Apache-2.0
"""Jobs of many processes on one PostgreSQL, under everything that happens to machines: processes are killed,
stopped past their leases and cut off, their clocks are turned, the database is restarted without a word. A counting
server outside says how often each tool was called.

AETHER_TRIAL=120 is a longer trial, in seconds."""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import threading
import time

import pytest
import workers
from aether import PATIENCE, eventually, free_port
from database import Database
from jobs import ENDED, Jobs, config, http_node
from judge import Judge
from partition import Cable

SECONDS = int(os.environ.get("AETHER_TRIAL", "12"))
RESTART_EVERY = 10 if SECONDS >= 60 else 5
SERVERS, WORKERS = 3, 5


@pytest.fixture
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture
def database():
    with Database() as database:
        yield database


def everywhere():
    listening = socket.socket()
    listening.bind(("0.0.0.0", 0))
    return Judge(listening)


class House:
    """Servers and workers on one store; all of them stop at the end."""

    def __init__(self, folder, url, **sections):
        self.folder, self.members = folder, []
        self.config = {**config(**sections), "store": {"type": "postgres", "path": url}}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for member in self.members:
            if member.process and member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)
        for member in self.members:
            member.__exit__(kind)

    def add(self, role, wait=True, wrap=(), **more):
        name = f"{role}{len(self.members)}"
        env = {"AETHER_CLOCK": str(self.folder / name / "clock")}
        member = Jobs(self.folder / name, {**self.config, **more}, env=env, command=(role, "start"), wrap=wrap)
        if self.members:  # the key that signs is one for all
            for file in self.members[0].folder.glob("aether-postgres.key*"):
                shutil.copy(file, member.folder)
        self.members.append(member)
        return member.start(wait)


def steps(judge, name, count, policy=None):
    nodes = []
    for number in range(count):
        after = [f"s{number - 1}"] if number else []
        nodes.append(http_node(judge, f"s{number}", f"/slow/{name}/s{number}", after=after, policy=policy))
    return nodes


def verified(member):
    done = member.cli("-o", "json", "fsck")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not json.loads(done.stdout)["findings"], done.stdout


def test_a_job_of_one_process_is_done_steered_and_seen_by_others(tmp_path, database, judge):
    with House(tmp_path, database.url) as house:
        server, other = house.add("server"), house.add("server")
        runs = [server.submit(steps(judge, f"r{number}", 3)) for number in range(20)]
        for run in runs:
            assert other.ended(run)["status"] == "completed"
        assert len(judge.calls) == 60
        # Who did it is in the journal: both had a part.
        holders = {
            event["body"]["holder"]
            for run in runs
            for event in server.events(run)
            if event["type"] == "run.controlled" and event["body"]["control"] == "lease"
        }
        assert len(holders) == 2, holders
        # An answer at one process goes to a job of the other; a key is one job everywhere.
        graph = [
            {"id": "ask", "type": "approval", "with": {"message": "Go on?"}},
            http_node(judge, "then", "/echo/then", after=["ask"]),
        ]
        run = server.submit(graph, key="k")
        assert other.submit(graph, key="k") == run
        other.asks(run)
        other.change(run, "approvals", decision="approve")
        assert server.ended(run)["status"] == "completed"
        assert judge.count("/echo/then") == 1
        # What is under way in one process is cancelled at the other.
        run = server.submit([http_node(judge, "long", "/hold/long")])
        eventually(lambda: judge.count("/hold/long") == 1, "the call is under way")
        other.change(run, "control", action="cancel")
        assert other.wait_status(run, "cancelled", "parked")
        server.halt()
        other.halt()
        verified(other)


CODE = """
@agent(name="coder")
def code(ctx, given):
    return ctx.step("tell", lambda: tell(f"/count/{given}"))
"""


def test_a_worker_of_one_process_does_the_jobs_of_agents_that_came_to_another(tmp_path, database, judge):
    with contextlib.ExitStack() as stack:
        houses = []
        for name in ("asked", "working"):
            house = workers.House(tmp_path / name, judge)
            store = {"type": "postgres", "path": database.url}
            house.write_config({**json.loads(house.config.read_text()), "store": store})
            stack.callback(house.halt)
            houses.append(house.start())
        asked, working = houses
        run = asked.begin(given="first")
        working.worker(CODE)
        assert asked.ended(run)["output"] == 1
        # When there is no worker here any more, another process's may come.
        working.halt()
        asked.worker(CODE)
        assert asked.ended(asked.begin(given="second"))["output"] == 1
        assert judge.count("/count/first") == judge.count("/count/second") == 1


def test_what_a_stopped_process_held_goes_on_elsewhere_and_its_late_answer_counts(tmp_path, database, judge):
    with House(tmp_path, database.url) as house:
        worker = house.add("worker")
        run = worker.submit([http_node(judge, "pay", "/hold/pay")])
        eventually(lambda: judge.count("/hold/pay") == 1, "the call is under way")
        server = house.add("server")
        worker.process.send_signal(signal.SIGSTOP)
        # The other one takes it over, finds a call whose end nobody knows, and asks a person.
        (wait,) = server.wait_status(run, "parked")["waits"]
        assert wait["effect"], wait
        judge.release("pay")
        worker.process.send_signal(signal.SIGCONT)
        assert server.ended(run)["status"] == "completed"
        settled = [event["body"] for event in server.events(run) if event["type"] == "effect.settled"]
        assert settled[-1]["by"] == "late", settled
        assert judge.count("/hold/pay") == 1


def test_a_process_that_is_cut_off_is_followed_by_another_and_its_late_answer_counts(tmp_path):
    with Cable() as cable, everywhere() as judge, Database(listen=f"{cable.here}:{free_port()}") as database:
        judge.address = cable.here
        url = f"postgres://tester@{cable.here}:{database.port}/postgres"
        with House(tmp_path, url) as house:
            worker = house.add("worker", wrap=cable.wrap)
            run = worker.submit([http_node(judge, "pay", "/hold/pay")])
            eventually(lambda: judge.count("/hold/pay") == 1, "the call is under way")
            server = house.add("server")
            cable.pull()
            server.wait_status(run, "parked")
            judge.release("pay")
            cable.plug()
            assert server.ended(run)["status"] == "completed"
            assert judge.count("/hold/pay") == 1
            # What it had claimed is another's, and it works on.
            more = [worker.submit(steps(judge, f"after{number}", 1)) for number in range(3)]
            for run in more:
                assert server.ended(run)["status"] == "completed"


class Trial:
    """Submits while everything is disturbed, and knows what was acknowledged."""

    def __init__(self, house, database, judge, cable):
        self.house, self.database, self.judge, self.cable = house, database, judge, cable
        self.kinds = ["clock", "kill", "stop", "cut"] if cable else ["clock", "kill", "stop"]
        self.acknowledged = {}
        self.ends = threading.Event()
        self.random = random.Random(7)
        self.done = []

    def submit(self, server, number):
        count = 0
        while not self.ends.is_set():
            key = f"k{number}-{count}"
            try:
                self.acknowledged[key] = server.submit(steps(self.judge, key, 3), key=key)
                count += 1
            except (OSError, http.client.HTTPException, AssertionError):
                pass  # Asked again with the same key: it is the same job.
            self.ends.wait(0.05)

    def restart(self):
        while not self.ends.wait(RESTART_EVERY):
            self.database.restart()
            self.done.append("restart")

    def busiest(self):
        """Who has most to lose."""
        sql = "select split_part(holder, ':', 2) from aether.claim group by 1 order by count(*) desc limit 1"
        pid = int(self.database.ask(sql, check=False).stdout.strip() or 0)
        named = [member for member in self.house.members if member.pid == pid]
        return named[0] if named else self.random.choice(self.house.members)

    def disturb(self, kind):
        """One thing at a time, beside the restarts; each undone before the next."""
        victim = self.busiest() if kind == "kill" else self.random.choice(self.house.members)
        if kind == "clock":
            turned = self.random.choice(["2h", "-2h", "3m", "-3m"])
            (victim.folder / "clock").write_text(turned)
        elif kind == "kill":
            victim.crash()
            victim.again(wait=False)
        elif kind == "stop":
            victim.process.send_signal(signal.SIGSTOP)
            self.ends.wait(4)  # twice its lease
            victim.process.send_signal(signal.SIGCONT)
        else:
            self.cable.pull()
            self.ends.wait(4)
            self.cable.plug()
        self.done.append(kind)

    def revive(self):
        """As who watches over it does: one that begins while the database is away ends, and says why."""
        for member in self.house.members:
            if member.process.poll() is not None:
                member.again(wait=False)

    def run(self, servers):
        tasks = [(self.submit, each) for each in zip(servers, range(len(servers)))] + [(self.restart, ())]
        threads = [threading.Thread(target=task, args=args) for task, args in tasks]
        for thread in threads:
            thread.start()
        end, number = time.monotonic() + SECONDS, 0
        try:
            while time.monotonic() < end or number < len(self.kinds):
                self.disturb(self.kinds[number % len(self.kinds)])
                self.ends.wait(SECONDS / 15)
                self.revive()
                number += 1
        finally:
            self.ends.set()
            for thread in threads:
                thread.join()
        self.revive()
        assert {*self.kinds, "restart"} <= {*self.done}, self.done


def test_no_job_is_lost_and_no_tool_is_called_twice_whatever_happens(tmp_path):
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(Cable()) if Cable.can_be() else None
        judge = stack.enter_context(everywhere())
        database = stack.enter_context(Database(listen=f"{cable.here}:{free_port()}" if cable else ""))
        house = stack.enter_context(House(tmp_path, database.url))
        servers = [house.add("server", wait=number == 0) for number in range(SERVERS)]
        for number in range(WORKERS):
            far = {}
            if cable and number == 0:
                url = f"postgres://tester@{cable.here}:{database.port}/postgres"
                far = {"wrap": cable.wrap, "store": {"type": "postgres", "path": url}}
            house.add("worker", wait=False, **far)
        judge.address = cable.here if cable else judge.address
        trial = Trial(house, database, judge, cable)
        trial.run(servers)
        assert len(trial.acknowledged) > 10, trial.done
        eventually(servers[0].control_ready, "the first server serves")
        settle(servers[0], trial, judge)


def counted(words):
    return ", ".join(f"{words.count(word)} {word}" for word in sorted({*words}))


def settle(server, trial, judge):
    """Every job that was acknowledged ends, or waits for a person because a call was cut; no call was made twice."""
    waiting = {}

    def all_over():
        for key, run in trial.acknowledged.items():
            if waiting.get(key) not in (*ENDED, "parked"):
                waiting[key] = server.job(run)["status"]
        return all(status in (*ENDED, "parked") for status in waiting.values())

    eventually(all_over, lambda: f"all end: {[k for k, s in waiting.items() if s not in ENDED]}", PATIENCE * 2)
    asked = 0
    for key, run in trial.acknowledged.items():
        job = server.job(run)
        calls = [judge.count(f"/slow/{key}/s{number}") for number in range(3)]
        assert max(calls) <= 1, f"{key} ({run}) called {calls}"
        if job["status"] == "completed":
            assert calls == [1, 1, 1], f"{key} ({run}) called {calls}"
        else:
            assert job["waits"] and job["waits"][0]["effect"], job
            asked += 1
    ended = len(trial.acknowledged) - asked
    print(f"{ended} jobs ended and {asked} ask a person; disturbed by {counted(trial.done)}")
    assert ended > asked
    assert asked or SECONDS < 60, "in so long a trial some calls are cut off"
    verified(server)
