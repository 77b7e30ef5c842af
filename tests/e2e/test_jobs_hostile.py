# SPDX-License-Identifier: Apache-2.0
"""Requests about jobs that make no sense: each is refused with a reason, and nothing is recorded of it."""

import json

import pytest
from aether import PATIENCE, UnixConnection
from jobs import Jobs, config

VALUE = {"id": "v", "type": "value", "with": 1}
DEEP = "[" * 50_000 + "]" * 50_000


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Jobs(tmp_path_factory.mktemp("jobs"), config()) as running:
        running.parked = running.submit(
            [{"id": "ok", "type": "approval", "with": {"message": "?", "form": {"type": "object"}}}]
        )
        running.wait_status(running.parked, "parked")
        yield running
        running.verified()


def ask_raw(house, method, path, body, headers=None):
    connection = UnixConnection(house.control_socket, PATIENCE)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        is_problem = answer.headers.get("Content-Type") == "application/problem+json"
        return answer.status, json.loads(text) if is_problem else text
    finally:
        connection.close()


def refused(house, method, path, body, headers=None, codes=(400,)):
    count = house.job(house.parked)["sequence"]
    code, problem = ask_raw(house, method, path, body, headers)
    assert code in codes and problem["detail"], (path, body[:100], code, problem)
    assert house.process.poll() is None
    assert house.job(house.parked)["sequence"] == count, "it changed the job"
    return problem


BODIES = {
    "nothing": "",
    "no JSON": "{",
    "no object": "[]",
    "a text": '"x"',
    "neither graph nor agent nor goal": "{}",
    "graph and goal": json.dumps({"graph": {"nodes": [VALUE]}, "goal": "x"}),
    "no nodes": json.dumps({"graph": {"nodes": []}}),
    "nodes that are none": json.dumps({"graph": {"nodes": [1, None, "x"]}}),
    "an agent that nobody knows": json.dumps({"agent": "nobody"}),
    "a member that nobody knows": json.dumps({"graph": {"nodes": [VALUE]}, "prioritty": 5}),
    "a priority that is too high": json.dumps({"graph": {"nodes": [VALUE]}, "priority": 10**9}),
    "a priority that is no number": json.dumps({"graph": {"nodes": [VALUE]}, "priority": "5"}),
    "a budget below nothing": json.dumps({"graph": {"nodes": [VALUE]}, "budget": {"calls": -1}}),
    "a budget of what is none": json.dumps({"graph": {"nodes": [VALUE]}, "budget": {"luck": 1}}),
    "a deadline that is no time": json.dumps({"graph": {"nodes": [VALUE]}, "deadline": "tomorrow"}),
    "a namespace with a colon": json.dumps({"graph": {"nodes": [VALUE]}, "namespace": "a:b"}),
    "an empty queue": json.dumps({"graph": {"nodes": [VALUE]}, "queue": ""}),
    "a circle": json.dumps({"graph": {"nodes": [{**VALUE, "after": ["v"]}]}}),
    "the same id twice": json.dumps({"graph": {"nodes": [VALUE, VALUE]}}),
    "a policy that is none": json.dumps({"graph": {"nodes": [{"id": "t", "tool": "http", "policy": "twice"}]}}),
    "a condition that cannot be read": json.dumps({"graph": {"nodes": [{**VALUE, "when": "${v} &&"}]}}),
    "a reference to nobody": json.dumps({"graph": {"nodes": [{**VALUE, "with": "${nobody.x}"}]}}),
    "too deep": json.dumps({"graph": {"nodes": [VALUE]}, "input": "DEEP"}).replace('"DEEP"', DEEP),
    "too many nodes": json.dumps({"graph": {"nodes": [{**VALUE, "id": f"v{i}"} for i in range(2001)]}}),
    "bytes that are no UTF-8": b'{"goal": "\xff\xfe"}',
}


@pytest.mark.parametrize("what", BODIES)
def test_a_submission_that_makes_no_sense_is_refused(house, what):
    refused(house, "POST", "/v1/jobs", BODIES[what])
    assert len(house.request("GET", "/v1/jobs")[2]["jobs"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 1000, "ä", "a\tb"])
def test_a_key_that_is_no_key_is_refused(house, key):
    body = json.dumps({"graph": {"nodes": [VALUE]}})
    refused(house, "POST", "/v1/jobs", body, {"Idempotency-Key": key.encode()})


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("signals", {}),
        ("signals", {"name": 5}),
        ("signals", {"name": ""}),
        ("approvals", {}),
        ("approvals", {"decision": "maybe"}),
        ("approvals", {"decision": "approve", "form": "not an object"}),
        ("control", {}),
        ("control", {"action": "explode"}),
        ("control", {"action": "lease"}),
        ("resolve", {"outcome": "perhaps"}),
        ("fork", {}),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(house, action, body):
    refused(house, "POST", f"/v1/jobs/{house.parked}/{action}", json.dumps(body))


def test_what_does_not_fit_the_state_of_a_job_is_told(house):
    at = f"/v1/jobs/{house.parked}"
    body = json.dumps({"outcome": "abandon"})
    assert refused(house, "POST", f"{at}/resolve", body, codes=(404, 409))
    body = json.dumps({"decision": "approve", "step": "nobody"})
    assert refused(house, "POST", f"{at}/approvals", body, codes=(400, 404))
    body = json.dumps({"step": "nobody"})
    assert refused(house, "POST", f"{at}/fork", body, codes=(400, 404))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?limit=many",
        "/v1/jobs?status=asleep",
        "/v1/jobs/%00",
        "/v1/jobs/..%2f..%2fetc",
        "/v1/jobs/PARKED/events?after=-1",
        "/v1/jobs/PARKED/trace?format=picture",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(house, path):
    refused(house, "GET", path.replace("PARKED", house.parked), "", codes=(400, 404))


def test_a_body_beyond_all_measure_is_refused_and_the_next_request_is_served(house):
    body = json.dumps({"goal": "x" * 40_000_000})
    try:
        code, _ = ask_raw(house, "POST", "/v1/jobs", body)
        assert code in (400, 413), code
    except OSError:
        pass  # It was cut off while it sent.
    assert house.job(house.parked)["status"] == "parked"
