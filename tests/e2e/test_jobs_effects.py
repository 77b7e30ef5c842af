# SPDX-License-Identifier: Apache-2.0
"""A call and a crash: for each policy and each moment, what a counting server outside saw."""

import socket

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge

POLICIES = ("once", "read", "keyed", "lookup")

# Where the process dies: (how many calls the judge has had by then, whether the intent was recorded).
MOMENTS = {
    "jobs.intend": (0, False),
    "jobs.append": (0, False),
    "jobs.durable": (0, True),
    "jobs.call": (0, True),
    "tools.connect": (0, True),
    "tools.sent": (1, True),
    "tools.answer": (1, True),
    "jobs.returned": (1, True),
    "jobs.settle": (1, True),
}


@pytest.fixture
def judge():
    with Judge() as running:
        yield running


def node_of(judge, policy, path):
    node = http_node(judge, "call", path, policy=policy)
    if policy == "lookup":
        node["with"]["lookup"] = {"url": judge.url("/seen?key={key}")}
    return node


def expected(policy, before, was_intended):
    """(status, how many calls in all)"""
    if not was_intended:
        return "completed", 1
    if policy == "once":
        return "parked", before
    if policy == "lookup":
        return "completed", 1
    return "completed", before + 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_crash_around_a_call_ends_as_its_policy_says(tmp_path, judge, policy):
    house = Jobs(tmp_path / "jobs", config())
    house.judge = judge
    try:
        for point, (before, was_intended) in MOMENTS.items():
            path = f"/count/{point}"
            house.again(fault=f"{point}:1:kill")
            run = house.submit_and_die([node_of(judge, policy, path)], point)
            status, calls = expected(policy, before, was_intended)
            job = house.wait_status(run, "completed", "failed", "parked")
            assert (job["status"], judge.count(path)) == (status, calls), (point, job)
            keys = {call.key for call in judge.of(path)}
            assert len(keys) <= 1 and (policy in ("once", "read") or None not in keys), (point, keys)
            if status == "parked":
                (wait,) = job["waits"]
                assert wait["kind"] == "human" and wait["effect"], wait
                house.change(run, "resolve", outcome="happened", result={"told": point})
                assert house.ended(run)["output"] == {"call": {"told": point}}
                assert judge.count(path) == before, point
            house.crash()
        house.again()
        house.halt()
        house.verified()
    finally:
        house.stop()


def test_a_call_that_is_recorded_is_never_made_again(tmp_path, judge):
    wait = {"id": "ok", "type": "approval", "after": ["call"], "with": {"message": "?"}}
    house = Jobs(tmp_path / "jobs", config())
    house.judge = judge
    try:
        for policy in POLICIES:
            path = f"/count/{policy}"
            # Its second durable turn is the one with the outcome.
            house.again(fault="jobs.durable:2:kill")
            run = house.submit_and_die([node_of(judge, policy, path), wait], policy)
            house.wait_status(run, "parked")
            house.change(run, "approvals", decision="approve")
            assert house.ended(run)["status"] == "completed"
            assert judge.count(path) == 1, policy
            house.crash()
    finally:
        house.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Jobs(tmp_path_factory.mktemp("jobs"), config()) as running:
        yield running
        running.verified()


def test_a_connection_that_was_refused_is_tried_again_and_called_once(house):
    retry = {"attempts": 200, "backoff": "20ms", "max_backoff": "50ms"}
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{place.getsockname()[1]}/count/refused"
        node = {
            "id": "late", "type": "tool", "tool": "http", "with": {"method": "POST", "url": url}, "retry": retry
        }
        run = house.submit([node])

        def refused_twice():
            return house.kinds(run).count("effect.settled") >= 2

        eventually(refused_twice, "it was refused twice")
        with Judge(place.dup()) as judge:
            assert house.ended(run)["status"] == "completed"
            assert judge.count("/count/refused") == 1
    outcomes = [one["body"]["outcome"] for one in house.events(run) if one["type"] == "effect.settled"]
    assert outcomes[-1] == "ok" and set(outcomes[:-1]) == {"not_executed"}


@pytest.mark.parametrize("end", ["drop", "half"])
def test_an_answer_that_breaks_off_is_unknown_and_only_what_may_be_repeated_is(house, judge, end):
    retry = {"attempts": 3, "backoff": "10ms"}
    once = house.submit([http_node(judge, "n", f"/{end}/1/once", retry=retry)])
    keyed = house.submit([http_node(judge, "n", f"/{end}/1/keyed", policy="keyed", retry=retry)])
    read = house.submit([http_node(judge, "n", f"/{end}/1/read", policy="read", retry=retry)])
    looked = node_of(judge, "lookup", f"/{end}/1/lookup")
    lookup = house.submit([looked])
    job = house.wait_status(once, "parked")
    assert [wait["kind"] for wait in job["waits"]] == ["human"]
    for run in (keyed, read, lookup):
        assert house.ended(run)["status"] == "completed"
    counts = {policy: judge.count(f"/{end}/1/{policy}") for policy in POLICIES}
    assert counts == {"once": 1, "keyed": 2, "read": 2, "lookup": 1}
    first, second = judge.of(f"/{end}/1/keyed")
    assert first.key == second.key and first.key
    house.change(once, "resolve", outcome="abandon")
    assert house.ended(once)["status"] == "failed"
    assert judge.count(f"/{end}/1/once") == 1


def test_a_timeout_is_not_a_failure(house, judge):
    run = house.submit([http_node(judge, "slow", "/hold/timeout", timeout="1s")])
    job = house.wait_status(run, "parked")
    assert job["waits"][0]["effect"], job
    (settled,) = [one["body"] for one in house.events(run) if one["type"] == "effect.settled"]
    assert settled["outcome"] == "unknown" and settled["by"] == "tool"
    judge.release("timeout")
    house.change(run, "resolve", outcome="happened", result=1)
    assert house.ended(run)["status"] == "completed"
    assert judge.count("/hold/timeout") == 1


def test_a_business_key_is_called_once_over_all_runs_and_the_others_take_its_answer(house, judge):
    def pay():
        node = http_node(judge, "pay", "/count/business", business_key="order-7")
        return house.submit({"nodes": [node], "output": "${pay.body.n}"})

    first = pay()
    assert house.ended(first)["output"] == 1
    others = [pay() for _ in range(3)]
    assert [house.ended(run)["output"] for run in others] == [1, 1, 1]
    assert judge.count("/count/business") == 1
    elsewhere = house.submit(
        [http_node(judge, "pay", "/count/business", business_key="order-7")], namespace="other"
    )
    assert house.ended(elsewhere)["status"] == "completed"
    assert judge.count("/count/business") == 2


def test_the_first_recorded_answer_stands_however_the_other_side_answers_later(tmp_path, judge):
    """The answer of the first call was lost; the second, with the same key, is the one that counts."""
    house = Jobs(tmp_path / "jobs", config())
    house.judge = judge
    try:
        house.again(fault="jobs.settle:1:kill")
        node = http_node(judge, "k", "/count/twice", policy="keyed")
        graph = {
            "nodes": [node, {"id": "ok", "type": "approval", "after": ["k"], "with": {"message": "?"}}],
            "output": "${k.body.n}",
        }
        run = house.submit_and_die(graph, "twice")
        house.wait_status(run, "parked")
        house.crash()
        house.again()
        house.change(run, "approvals", decision="approve")
        assert house.ended(run)["output"] == 2
        assert judge.count("/count/twice") == 2
    finally:
        house.stop()
