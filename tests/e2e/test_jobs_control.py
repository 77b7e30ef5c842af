# SPDX-License-Identifier: Apache-2.0
"""Cancel, compensation, budgets, deadlines, priorities and keys of concurrency, judged from outside."""

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge
from processes import command_of, descendants

VALUE = {"id": "v", "type": "value", "with": 1}


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory, judge):
    made = config(
        jobs={"lease": "2s", "concurrency": 4},
        tools={
            "sleeper": {"type": "process", "command": ["sleep", "1000"]},
            "dear": {"type": "llm", "base_url": judge.url("/v1"), "prices": {"input": 40_000, "output": 20_000}},
        },
    )
    with Jobs(tmp_path_factory.mktemp("jobs"), made) as running:
        yield running
        running.verified()


def settled(house, run):
    return [one["body"] for one in house.events(run) if one["type"] == "effect.settled"]


def test_a_cancel_during_a_call_ends_it_and_says_truly_that_nobody_knows(house, judge):
    run = house.submit(
        [http_node(judge, "held", "/hold/cancelled"), http_node(judge, "next", "/echo/next", after=["held"])]
    )
    eventually(lambda: judge.count("/hold/cancelled") == 1, "the call is under way")
    house.change(run, "control", action="cancel", reason="enough")
    job = house.ended(run)
    assert job["status"] == "cancelled" and job["cancel_reason"] == "enough"
    (end,) = settled(house, run)
    assert end["outcome"] == "unknown"
    assert judge.count("/hold/cancelled") == 1 and judge.count("/echo/next") == 0
    judge.release("cancelled")
    code, _, problem = house.post(run, "control", {"action": "pause"})
    assert code == 409 and problem["code"] == "conflict"


def test_a_cancel_ends_the_program_that_a_step_runs(house):
    run = house.submit([{"id": "s", "type": "tool", "tool": "sleeper", "with": {}}])

    def sleeps():
        return [pid for pid in descendants(house.pid) if command_of(pid) == "sleep"]

    (pid,) = eventually(sleeps, "the program runs")
    house.change(run, "control", action="cancel")
    assert house.ended(run)["status"] == "cancelled"
    eventually(lambda: pid not in sleeps(), "the program is gone")


def test_a_cancel_of_a_parent_cancels_its_children(house, judge):
    inner = {"nodes": [{"id": "w", "type": "wait", "with": {"signal": "never"}}]}
    run = house.submit([{"id": "child", "type": "workflow", "graph": inner}])
    job = house.wait_status(run, "parked")
    (wait,) = job["waits"]
    child = wait["name"]
    assert wait["kind"] == "child" and house.wait_status(child, "parked")["parent"]["id"] == run
    house.change(run, "control", action="cancel")
    assert house.ended(run)["status"] == "cancelled"
    assert house.ended(child)["status"] == "cancelled"


def test_what_was_done_is_taken_back_last_first_when_a_later_step_fails(house, judge):
    def node(name, after=(), path=None):
        undo = {"tool": "http", "with": {"method": "POST", "url": judge.url(f"/echo/saga-undo-{name}")}}
        return http_node(judge, name, path or f"/echo/saga-{name}", after=after, compensate=undo)

    run = house.submit([node("a"), node("b", ["a"]), node("c", ["b"], "/no/saga-c")])
    job = house.ended(run)
    assert job["status"] == "failed" and job["outcome"] == "compensated", job
    called = [call.path.rsplit("/", 1)[1] for call in judge.calls if "saga" in call.path]
    assert called == ["saga-a", "saga-b", "saga-c", "saga-undo-b", "saga-undo-a"]


def test_a_cancelled_run_takes_back_what_it_did(house, judge):
    undo = {"tool": "http", "with": {"method": "POST", "url": judge.url("/echo/cancel-undo")}}
    run = house.submit(
        [
            http_node(judge, "a", "/echo/cancel-do", compensate=undo),
            {"id": "w", "type": "wait", "after": ["a"], "with": {"signal": "never"}},
        ]
    )
    house.wait_status(run, "parked")
    house.change(run, "control", action="cancel")
    assert house.ended(run)["status"] == "cancelled"
    assert judge.count("/echo/cancel-undo") == 1


@pytest.mark.parametrize(
    ("budget", "node", "word"),
    [
        ({"steps": 2}, VALUE, "2 steps"),
        ({"calls": 0}, {"id": "m", "type": "llm", "with": {"prompt": "say hello"}}, "0 calls"),
        ({"tokens": 1}, {"id": "m", "type": "llm", "with": {"prompt": "say hello"}}, "1 tokens"),
        ({"cost": 0.5}, {"id": "m", "type": "llm", "with": {"model": "dear", "prompt": "say hello"}}, "0.5"),
    ],
)
def test_a_budget_ends_a_job_before_what_it_cannot_pay(house, judge, budget, node, word):
    path = f"/echo/budget-{next(iter(budget))}"
    nodes = [{**node, "id": f"n{i}", "after": [f"n{i - 1}"] if i else []} for i in range(3)]
    job = house.ended(house.submit([*nodes, http_node(judge, "last", path, after=["n2"])], budget=budget))
    assert job["status"] == "failed" and "budget" in job["error"] and word in job["error"], job
    assert judge.count(path) == 0
    if "tokens" in budget or "cost" in budget:
        assert job["used"]["calls"] == 1, job
    if "cost" in budget:
        assert job["used"]["cost"] == 0.6 and job["used"]["tokens"] == 20, job


def test_a_budget_of_time_and_a_deadline_end_a_call_under_way(house, judge):
    timed = house.submit([http_node(judge, "n", "/hold/time")], budget={"time": "300ms"})
    late = house.submit([http_node(judge, "n", "/hold/late")], deadline="300ms")
    for run, why in ((timed, "budget"), (late, "deadline")):
        job = house.ended(run)
        assert job["status"] == "cancelled" and why in job["cancel_reason"], job
    judge.release("time")
    judge.release("late")


def test_runs_of_one_key_are_never_more_than_its_limit_at_once(house, judge):
    def submit(number):
        node = http_node(judge, "n", "/hold/limited", body={"n": number})
        return house.submit([node], concurrency_key="account", concurrency_limit=2)

    runs = [submit(number) for number in range(6)]
    other = house.submit([http_node(judge, "n", "/echo/other")])
    # The others of the key wait; whoever has none passes them by.
    eventually(lambda: judge.count("/hold/limited") == 2, "two have begun")
    assert house.ended(other)["status"] == "completed"
    assert judge.count("/hold/limited") == 2
    judge.release("limited")
    for run in runs:
        assert house.ended(run)["status"] == "completed"
    assert judge.most_at_once("/hold/limited") <= 2


def test_what_is_urgent_goes_first_when_all_workers_are_busy(house, judge):
    busy = [house.submit([http_node(judge, "n", "/hold/busy")]) for _ in range(4)]
    eventually(lambda: judge.count("/hold/busy") == 4, "all workers are busy")
    node = http_node(judge, "n", "/hold/order", body={"who": "${input}"})
    wanted = [("low", -5), ("middle", 0), ("high", 5)]
    runs = [house.submit([node], input=name, priority=priority) for name, priority in wanted]
    for run in runs:
        assert house.job(run)["status"] == "pending"
    house.change(busy[0], "control", action="cancel")  # one worker is free
    eventually(lambda: judge.count("/hold/order") == 1, "one of them has begun")
    judge.release("order")
    for run in runs:
        assert house.ended(run)["status"] == "completed"
    judge.release("busy")
    for run in busy[1:]:
        assert house.ended(run)["status"] == "completed"
    seen = [call.body for call in judge.of("/hold/order")]
    assert seen == [f'{{"who":"{name}"}}' for name in ("high", "middle", "low")]


def test_a_flood_of_one_queue_keeps_no_other_queue_waiting(house, judge):
    busy = [house.submit([http_node(judge, "n", "/hold/full")]) for _ in range(4)]
    eventually(lambda: judge.count("/hold/full") == 4, "all workers are busy")
    node = http_node(judge, "n", "/echo/flood", body={"who": "${input}"})
    runs = [house.submit([node], input="heavy", queue="heavy") for _ in range(12)]
    runs.append(house.submit([node], input="realtime", queue="realtime"))
    house.change(busy[0], "control", action="cancel")
    for run in runs:
        assert house.ended(run)["status"] == "completed"
    judge.release("full")
    for run in busy[1:]:
        assert house.ended(run)["status"] == "completed"
    seen = [call.body for call in judge.of("/echo/flood")]
    assert seen.index('{"who":"realtime"}') <= 2, seen


def test_a_job_with_a_delay_does_not_begin_before_its_time(house, judge):
    run = house.submit([http_node(judge, "n", "/echo/delayed")], delay="400ms")
    job = house.job(run)
    assert job["status"] in ("pending", "completed") and job["not_before"]
    job = house.ended(run)
    opened = [one["time"] for one in house.events(run) if one["type"] == "step.opened"]
    assert opened[0] >= job["not_before"]
    assert judge.count("/echo/delayed") == 1


def test_pause_and_resume_are_over_a_restart_what_they_were_before(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        wait = {"id": "w", "type": "wait", "with": {"signal": "go"}}
        run = house.submit([wait, http_node(judge, "n", "/echo/paused", after=["w"])])
        house.wait_status(run, "parked")
        house.change(run, "control", action="pause", reason="look first")
        house.change(run, "signals", name="go")
        house.crash()
        house.again()
        assert house.job(run)["status"] == "paused"
        house.ended(house.submit([VALUE]))  # the other one could have gone on by now
        assert house.job(run)["status"] == "paused" and judge.count("/echo/paused") == 0
        house.change(run, "control", action="resume")
        assert house.ended(run)["status"] == "completed"
        assert judge.count("/echo/paused") == 1
        house.halt()
        house.verified()
