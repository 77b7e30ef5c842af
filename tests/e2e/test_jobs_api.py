# SPDX-License-Identifier: Apache-2.0
"""Jobs over HTTP: what is answered, and what really happened at a counting server outside."""

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge


@pytest.fixture(scope="module")
def judge():
    judge = Judge()
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Jobs(tmp_path_factory.mktemp("jobs"), config()) as running:
        yield running
        running.verified()


def test_a_graph_passes_data_from_step_to_step_to_its_output(house, judge):
    graph = {
        "nodes": [
            http_node(judge, "fetch", "/echo/fetch", body={"n": "${input.n}"}),
            http_node(judge, "use", "/echo/use", after=["fetch"], body={"was": "${fetch.body.got.n}"}),
        ],
        "output": {"was": "${use.body.got.was}"},
    }
    run = house.submit(graph, input={"n": 5})
    job = house.ended(run)
    assert job["status"] == "completed", job
    assert job["output"] == {"was": 5}
    assert judge.count("/echo/fetch") == judge.count("/echo/use") == 1
    kinds = house.kinds(run)
    assert kinds[0] == "run.opened" and kinds[-1] == "run.closed"
    assert kinds.count("effect.intended") == kinds.count("effect.settled") == 2


def test_branches_run_side_by_side(house, judge):
    run = house.submit([http_node(judge, name, f"/hold/side-{name}") for name in ("a", "b", "c")])
    # None has been answered: all three are there at once, or never.
    eventually(
        lambda: all(judge.count(f"/hold/side-{name}") == 1 for name in "abc"), "all branches have called"
    )
    for name in "abc":
        judge.release(f"side-{name}")
    assert house.ended(run)["status"] == "completed"


def test_a_graph_with_mistakes_is_refused_with_each_of_their_places(house):
    circle = [
        {"id": "a", "type": "value", "after": ["b"]},
        {"id": "b", "type": "valeu", "after": ["a", "nobody"]},
    ]
    code, headers, problem = house.request("POST", "/v1/jobs", {"graph": {"nodes": circle}})
    assert code == 400 and headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == "request-invalid"
    assert "/nodes/1/type" in problem["detail"] and "/nodes/1/after/1" in problem["detail"], problem


def test_the_same_key_is_the_same_job_and_another_body_a_conflict(house, judge):
    job = {"graph": {"nodes": [http_node(judge, "once", "/echo/key")]}}
    headers = {"Idempotency-Key": "order-1"}
    first = house.request("POST", "/v1/jobs", job, headers)
    again = house.request("POST", "/v1/jobs", job, headers)
    assert (first[0], again[0]) == (201, 200)
    assert first[2]["id"] == again[2]["id"]
    other = house.request("POST", "/v1/jobs", {**job, "input": 1}, headers)
    assert other[0] == 409 and other[2]["code"] == "conflict"
    assert house.ended(first[2]["id"])["status"] == "completed"
    assert judge.count("/echo/key") == 1


def test_a_budget_ends_a_job_before_the_next_call(house, judge):
    nodes = [http_node(judge, "n0", "/echo/budget")]
    nodes += [http_node(judge, f"n{i}", "/echo/budget", after=[f"n{i - 1}"]) for i in range(1, 5)]
    run = house.submit(nodes, budget={"calls": 2})
    job = house.ended(run)
    assert job["status"] == "failed" and "budget" in job["error"], job
    assert judge.count("/echo/budget") == 2


def test_a_deadline_ends_a_job_that_waits(house):
    wait = {"id": "w", "type": "wait", "with": {"signal": "never"}}
    job = house.ended(house.submit([wait], deadline="300ms"))
    assert job["status"] == "cancelled" and "deadline" in job["cancel_reason"], job


def test_a_job_that_is_cancelled_calls_nothing_more(house, judge):
    run = house.submit(
        [
            {"id": "w", "type": "wait", "with": {"signal": "go"}},
            http_node(judge, "after", "/echo/cancel", after=["w"]),
        ]
    )
    house.wait_status(run, "parked")
    house.change(run, "control", action="cancel", reason="no longer wanted")
    job = house.ended(run)
    assert job["status"] == "cancelled" and job["cancel_reason"] == "no longer wanted"
    assert judge.count("/echo/cancel") == 0


def test_a_paused_job_begins_nothing_until_it_is_resumed(house, judge):
    run = house.submit(
        [
            http_node(judge, "first", "/hold/pause"),
            http_node(judge, "second", "/echo/pause", after=["first"]),
        ]
    )
    eventually(lambda: judge.count("/hold/pause") == 1, "the first step calls")
    house.change(run, "control", action="pause")
    judge.release("pause")
    eventually(lambda: house.kinds(run).count("effect.settled") == 1, "the first call is settled")
    assert house.wait_status(run, "paused")
    assert judge.count("/echo/pause") == 0
    house.change(run, "control", action="resume")
    assert house.ended(run)["status"] == "completed"
    assert judge.count("/echo/pause") == 1


def test_a_step_that_is_told_to_come_later_is_tried_again(house, judge):
    retry = {"attempts": 4, "backoff": "10ms"}
    run = house.submit([http_node(judge, "busy", "/busy/2", policy="read", retry=retry)])
    assert house.ended(run)["status"] == "completed"
    assert judge.count("/busy/2") == 3


def test_a_no_of_the_other_side_fails_the_job_after_one_call(house, judge):
    job = house.ended(house.submit([http_node(judge, "no", "/no")]))
    assert job["status"] == "failed" and "400" in job["error"], job
    assert judge.count("/no") == 1


def test_an_answer_to_a_form_must_be_what_the_form_asks_for(house):
    form = {"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}}
    graph = {
        "nodes": [{"id": "ok", "type": "approval", "with": {"message": "Pay?", "form": form}}],
        "output": "${ok.content.sum}",
    }
    run = house.submit(graph)
    job = house.wait_status(run, "parked")
    assert [wait["kind"] for wait in job["waits"]] == ["human"]
    code, _, problem = house.post(run, "approvals", {"decision": "approve", "form": {"sum": "many"}})
    assert code == 400 and "sum" in problem["detail"], problem
    house.change(run, "approvals", decision="approve", form={"sum": 5})
    assert house.ended(run)["output"] == 5
    code, _, problem = house.post(run, "approvals", {"decision": "approve"})
    assert code == 409, problem


def test_a_list_goes_through_all_jobs_page_by_page(house):
    value = {"id": "v", "type": "value", "with": 1}
    made = [house.submit([value], namespace="pages") for _ in range(5)]
    for run in made:
        house.ended(run)
    seen, after = [], ""
    while after is not None:
        code, _, page = house.request("GET", f"/v1/jobs?namespace=pages&limit=2&after={after}")
        assert code == 200 and len(page["jobs"]) <= 2
        seen += [job["id"] for job in page["jobs"]]
        after = page["next"]
    assert seen == made[::-1]
    _, _, done = house.request("GET", "/v1/jobs?namespace=pages&status=completed")
    assert len(done["jobs"]) == 5


def test_a_job_that_is_not_there_is_not_found(house):
    nobody = "0193b5c2-0000-7000-8000-000000000000"
    assert house.request("GET", f"/v1/jobs/{nobody}")[0] == 404
    assert house.request("GET", "/v1/jobs/x")[0] == 400
    assert house.request("DELETE", f"/v1/jobs/{nobody}")[0] == 405
