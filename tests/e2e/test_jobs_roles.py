# SPDX-License-Identifier: Apache-2.0
"""Who may do what with jobs, streams that go on after a cut, and what other planes leave behind."""

import hashlib
import http.client
import json

import pytest
from aether import PATIENCE, eventually, free_port
from jobs import Jobs, config

ROLES = ("viewer", "submitter", "approver", "operator", "auditor")
WAIT = {"id": "ok", "type": "approval", "with": {"message": "Go on?"}}


def token_of(name):
    return f"{name}-0123456789abcdef"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    port = free_port()
    names = [(role, None) for role in ROLES] + [("blue", ["blue"])]
    tokens = [
        {
            "name": name,
            "role": "submitter" if spaces else name,
            "sha256": hashlib.sha256(token_of(name).encode()).hexdigest(),
            **({"namespaces": spaces} if spaces else {}),
        }
        for name, spaces in names
    ]
    made = config(api={"host": "127.0.0.1", "port": port, "tokens": tokens})
    with Jobs(tmp_path_factory.mktemp("jobs"), made) as running:
        running.port = port
        yield running
        running.verified()


def ask(house, token, method, path, body=None):
    """(status, JSON) over TCP, with a token."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {token_of(token)}"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, json.loads(text) if is_json else text
    finally:
        connection.close()


def test_each_role_may_do_what_it_is_for_and_refusals_are_in_the_journal(house):
    run = house.submit([WAIT])
    house.wait_status(run, "parked")
    job = {"graph": {"nodes": [{"id": "v", "type": "value", "with": 1}]}}
    at = f"/v1/jobs/{run}"
    asked = [
        ("GET", at, None, set(ROLES)),
        ("GET", f"{at}/events", None, set(ROLES)),
        ("POST", "/v1/jobs", job, {"submitter", "operator"}),
        ("POST", f"{at}/signals", {"name": "x"}, {"submitter", "operator"}),
        ("GET", f"{at}/evidence", None, {"auditor", "operator"}),
        ("GET", "/v1/audit", None, {"auditor", "operator"}),
        ("GET", "/v1/checkpoint", None, {"auditor", "operator"}),
        ("POST", f"{at}/control", {"action": "pause"}, {"operator"}),
        ("POST", f"{at}/control", {"action": "resume"}, {"operator"}),
    ]
    refused = set()
    for method, path, body, may in asked:
        for role in ROLES:
            code, answer = ask(house, role, method, path, body)
            assert (code < 300) == (role in may), (role, method, path, code, answer)
            if role not in may:
                assert code == 403 and answer["code"] == "forbidden"
                refused.add((f"token:{role}", f"{method} {path}"))
    body = {"decision": "approve"}
    for role in ("viewer", "submitter", "operator", "auditor"):
        assert ask(house, role, "POST", f"{at}/approvals", body)[0] == 403
        refused.add((f"token:{role}", f"POST {at}/approvals"))
    assert ask(house, "approver", "POST", f"{at}/approvals", body)[0] == 200
    assert house.ended(run)["status"] == "completed"
    closed = [event for event in house.events(run) if event["type"] == "wait.closed"]
    assert [event["body"]["by"] for event in closed] == ["token:approver"]

    def all_noted():
        code, audit = ask(house, "auditor", "GET", "/v1/audit?limit=1000")
        assert code == 200
        return refused <= {
            (event["actor"], event["body"]["action"])
            for event in audit["events"]
            if event["body"].get("decision") == "refused"
        }

    eventually(all_noted, "every refusal is in the journal")


def test_a_token_of_a_namespace_sees_and_changes_nothing_of_another(house):
    value = {"nodes": [{"id": "v", "type": "value", "with": 1}]}
    mine = house.submit(value, namespace="blue")
    other = house.submit(value, namespace="red")
    assert ask(house, "blue", "GET", f"/v1/jobs/{mine}")[0] == 200
    assert ask(house, "blue", "GET", f"/v1/jobs/{other}")[0] == 403
    body = {"graph": value, "namespace": "red"}
    assert ask(house, "blue", "POST", "/v1/jobs", body)[0] == 403
    assert ask(house, "blue", "POST", "/v1/jobs", {**body, "namespace": "blue"})[0] == 201
    code, listed = ask(house, "blue", "GET", "/v1/jobs")
    assert code == 200 and {job["namespace"] for job in listed["jobs"]} == {"blue"}
    assert ask(house, "blue", "POST", "/v1/reload", {})[0] == 403


def read_events(house, run, last=None, stop_after=None):
    """The events of a stream, until it ends or so many have come."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {token_of('viewer')}", "Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    connection.request("GET", f"/v1/jobs/{run}/events", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream"
    seen, current = [], {}
    for line in iter(answer.readline, b""):
        text = line.decode().rstrip("\n")
        if text.startswith("id: "):
            current["id"] = int(text[4:])
        elif text.startswith("event: "):
            current["type"] = text[7:]
        elif text.startswith("data: "):
            current["data"] = json.loads(text[6:])
        elif not text and current:
            seen.append(current)
            current = {}
            if stop_after is not None and len(seen) >= stop_after:
                break
    connection.close()
    return seen


def test_a_stream_that_was_cut_goes_on_without_a_gap_and_ends_with_the_job(house):
    run = house.submit([WAIT])
    house.wait_status(run, "parked")
    first = read_events(house, run, stop_after=2)
    assert [event["id"] for event in first] == [1, 2]
    assert first[0]["type"] == "run.opened"
    house.change(run, "approvals", decision="approve")
    rest = read_events(house, run, last=2)
    assert [event["id"] for event in rest] == list(range(3, 3 + len(rest)))
    assert rest[-1]["type"] == "run.closed"
    assert rest[-1]["data"]["body"]["outcome"] == "succeeded"
    assert len(house.events(run)) == 2 + len(rest)


def test_swaps_of_services_are_points_in_the_same_journal(tmp_path):
    made = config(service={"name": "sleeper", "command": ["sleep", "1000"], "listen": "none"})
    with Jobs(tmp_path / "jobs", made) as house:
        eventually(lambda: house.service()["state"] == "RUNNING", "the service runs")
        swap = house.reload("sleeper")
        assert swap["verdict"] in ("succeeded", "SUCCEEDED"), swap

        def noted():
            code, audit = house.ask("GET", "/v1/audit")
            assert code == 200
            return [event["body"]["target"] for event in audit["events"] if event["body"]["action"] == "swap"]

        assert eventually(noted, "the swap is noted") == ["sleeper"]
        house.halt()
        house.verified()
