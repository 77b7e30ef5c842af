# SPDX-License-Identifier: Apache-2.0
"""What waits: for a person, a signal, a time, a child; over restarts, and without holding anything."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge
from processes import status

APPROVAL = {"id": "ok", "type": "approval", "with": {"message": "Go on?"}}


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = config(jobs={"lease": "2s", "concurrency": 2})
    with Jobs(tmp_path_factory.mktemp("jobs"), made) as running:
        yield running
        running.verified()


def test_what_waits_keeps_no_worker(house):
    parked = [house.submit([APPROVAL]) for _ in range(10)]
    for run in parked:
        house.wait_status(run, "parked")
    # Two workers, ten that wait: one more runs all the same.
    assert house.ended(house.submit([{"id": "v", "type": "value", "with": 1}]))["status"] == "completed"
    for run in parked:
        house.change(run, "approvals", decision="approve")
        assert house.ended(run)["status"] == "completed"


def test_the_same_answer_again_is_the_same_and_another_one_a_conflict(house):
    run = house.submit([APPROVAL, {"id": "w", "type": "wait", "after": ["ok"], "with": {"signal": "go"}}])
    house.wait_status(run, "parked")
    with ThreadPoolExecutor(8) as many:
        asked = [many.submit(house.post, run, "approvals", {"decision": "approve"}) for _ in range(8)]
    assert 200 in {one.result()[0] for one in asked}
    assert {one.result()[0] for one in asked} <= {200, 409}
    assert house.post(run, "approvals", {"decision": "reject"})[0] == 409
    assert house.kinds(run).count("wait.closed") == 1
    house.change(run, "signals", name="go")
    assert house.ended(run)["status"] == "completed"


def test_a_signal_key_with_another_payload_is_a_conflict(house):
    run = house.submit([{"id": "w", "type": "wait", "with": {"signal": "end"}}])
    key = {"Idempotency-Key": "s1"}
    assert house.post(run, "signals", {"name": "note", "payload": 1}, key)[0] == 200
    assert house.post(run, "signals", {"name": "note", "payload": 1}, key)[0] == 200
    assert house.post(run, "signals", {"name": "note", "payload": 2}, key)[0] == 409
    assert house.post(run, "signals", {"name": "end", "payload": 1}, key)[0] == 409
    assert house.job(run)["status"] == "parked"
    house.change(run, "signals", name="end")
    assert house.ended(run)["status"] == "completed"
    code, _, problem = house.post(run, "signals", {"name": "end"})
    assert code == 409, problem


def test_signals_are_taken_in_their_order_one_for_each_wait(house):
    wait = {"type": "wait", "with": {"signal": "tick"}}
    nodes = [{**wait, "id": f"w{i}", "after": [f"w{i - 1}"] if i else []} for i in range(3)]
    graph = {"nodes": nodes, "output": ["${w0.payload}", "${w1.payload}", "${w2.payload}"]}
    run = house.submit(graph)
    for number in (1, 2, 3):
        house.change(run, "signals", name="tick", payload=number)
    assert house.ended(run)["output"] == [1, 2, 3]


def test_a_wait_for_a_signal_that_does_not_come_takes_its_other_branch(house, judge):
    wait = {"id": "w", "type": "wait", "with": {"signal": "never"}, "timeout": "200ms", "on_expiry": ["late"]}
    nodes = [
        wait,
        http_node(judge, "good", "/echo/in-time", after=["w"]),
        http_node(judge, "late", "/echo/too-late"),
    ]
    assert house.ended(house.submit(nodes))["status"] == "completed"
    assert (judge.count("/echo/in-time"), judge.count("/echo/too-late")) == (0, 1)
    failing = {"id": "w", "type": "wait", "with": {"signal": "never"}, "timeout": "50ms"}
    assert house.ended(house.submit([failing]))["status"] == "failed"


def test_times_that_came_while_nobody_ran_are_kept_once_at_the_next_start(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        graph = [
            {"id": "w", "type": "wait", "with": {"for": "100ms"}},
            http_node(judge, "n", "/echo/woken", after=["w"], policy="keyed"),
        ]
        expiring = {**APPROVAL, "timeout": "100ms", "on_expiry": ["late"]}
        late = http_node(judge, "late", "/echo/expired", policy="keyed")
        runs = [house.submit(graph, delay="50ms") for _ in range(20)]
        expired = house.submit([expiring, late], delay="50ms")
        house.crash()
        house.again()
        for run in [*runs, expired]:
            assert house.ended(run)["status"] == "completed"
        house.crash()
        house.again()
        # One of them may have called before the crash, too: with the same key.
        assert len({call.key for call in judge.of("/echo/woken")}) == 20
        assert len({call.key for call in judge.of("/echo/expired")}) == 1
        for run in runs:
            assert house.kinds(run).count("wait.closed") == 1
        house.halt()
        house.verified()


def test_many_times_that_are_due_together_are_all_kept(house):
    graph = {"nodes": [{"id": "w", "type": "wait", "with": {"for": "1ms"}}]}
    with ThreadPoolExecutor(4) as many:
        runs = list(many.map(lambda _: house.submit(graph, namespace="timers"), range(200)))

    def all_over():
        _, _, page = house.request("GET", "/v1/jobs?namespace=timers&status=completed&limit=1000")
        return len(page["jobs"]) == 200

    eventually(all_over, "all have been woken")
    assert len(set(runs)) == 200


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_parked_jobs_cost_no_processor_and_next_to_no_memory(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        wait = {"nodes": [{"id": "w", "type": "wait", "with": {"signal": "go"}}]}
        probe = house.submit([{"id": "v", "type": "value", "with": 1}])
        house.ended(probe)
        with ThreadPoolExecutor(8) as many:
            runs = list(many.map(lambda _: house.submit(wait), range(1500)))

        def all_parked():
            _, _, page = house.request("GET", "/v1/jobs?status=parked&limit=1000")
            return len(page["jobs"]) == 1000 and not house.request("GET", "/v1/jobs?status=running")[2]["jobs"]

        eventually(all_parked, "all are parked")
        threads = int(status(house.pid)["Threads"])
        house.halt()
        house.again()  # what it holds now, it holds for them
        before = cpu_ticks(house.pid)
        assert house.cli("jobs", "submit", "--goal", "wait 1s", "--wait").returncode == 0
        # A second in which 1500 wait costs some hundredths: of the one job that ran.
        assert cpu_ticks(house.pid) - before < 60
        assert int(status(house.pid)["Threads"]) <= threads + 2
        house.change(runs[700], "signals", name="go")
        assert house.ended(runs[700])["status"] == "completed"
        assert house.job(runs[701])["status"] == "parked"


def test_a_schedule_makes_a_job_for_each_of_its_times_and_only_one(tmp_path, judge):
    job = {"graph": {"nodes": [http_node(judge, "n", "/echo/tick", policy="keyed")]}, "namespace": "clock"}
    made = config(schedules=[{"name": "tick", "every": "1s", "job": job}])
    with Jobs(tmp_path / "jobs", made) as house:

        def listed():
            return house.request("GET", "/v1/jobs?namespace=clock")[2]["jobs"]

        eventually(lambda: len(listed()) >= 2, "two have been made")
        house.crash()
        house.again()
        count = len(listed())
        eventually(lambda: len(listed()) > count, "it goes on after a crash")
        runs = [one["id"] for one in listed()]
        for run in runs:
            assert house.ended(run)["schedule"] == "tick"
        keys = [event["body"]["idempotency_key"] for run in runs for event in house.events(run)[:1]]
        assert len(set(keys)) == len(keys)
        house.halt()
        assert len({call.key for call in judge.of("/echo/tick")}) <= house.verified()["jobs"]
        assert len(judge.of("/echo/tick")) >= len(runs)


def test_children_run_in_their_own_right_and_survive_a_crash(tmp_path, judge):
    inner = {
        "nodes": [http_node(judge, "n", "/hold/child", policy="keyed", body={"n": "${input.n}"})],
        "output": {"twice": "${n.body.got.n}"},
    }
    graph = {
        "nodes": [
            {"id": "a", "type": "workflow", "graph": inner, "with": {"n": 1}},
            {"id": "b", "type": "workflow", "graph": inner, "with": {"n": 2}},
        ],
        "output": ["${a.twice}", "${b.twice}"],
    }
    with Jobs(tmp_path / "jobs", config()) as house:
        run = house.submit(graph)
        eventually(lambda: judge.count("/hold/child") == 2, "both children call")
        house.crash()
        judge.release("child")
        house.again()
        assert house.ended(run)["output"] == [1, 2]
        assert len({call.key for call in judge.of("/hold/child")}) == 2
        children = [one for one in house.request("GET", "/v1/jobs")[2]["jobs"] if one["id"] != run]
        assert len(children) == 2 and {one["status"] for one in children} == {"completed"}
        house.halt()
        house.verified()
