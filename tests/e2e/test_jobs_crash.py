# SPDX-License-Identifier: Apache-2.0
"""Jobs over kill -9: what was called, judged by a counting server outside."""

import http.client
import threading

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge


@pytest.fixture
def judge():
    judge = Judge()
    yield judge
    judge.close()


@pytest.fixture
def house(tmp_path):
    with Jobs(tmp_path / "jobs", config()) as running:
        yield running


def test_an_approval_is_given_after_a_crash_and_nothing_before_it_is_called_again(house, judge):
    run = house.submit(
        [
            http_node(judge, "prepare", "/echo/prepare"),
            {"id": "review", "type": "approval", "after": ["prepare"], "with": {"message": "Go on?"}},
            http_node(judge, "publish", "/echo/publish", after=["review"]),
        ]
    )
    house.wait_status(run, "parked")
    house.crash()
    house.again()
    assert house.job(run)["status"] == "parked"
    assert judge.count("/echo/publish") == 0
    house.change(run, "approvals", decision="approve")
    assert house.ended(run)["status"] == "completed"
    assert judge.count("/echo/prepare") == judge.count("/echo/publish") == 1
    house.halt()
    house.verified()


def test_a_rejection_and_an_expiry_have_branches_of_their_own(house, judge):
    def graph(name, **more):
        return [
            {
                "id": "review",
                "type": "approval",
                "with": {"message": "Go on?"},
                "on_reject": ["refused"],
                "on_expiry": ["late"],
                **more,
            },
            http_node(judge, "good", f"/echo/{name}-good", after=["review"]),
            http_node(judge, "refused", f"/echo/{name}-refused"),
            http_node(judge, "late", f"/echo/{name}-late"),
        ]

    rejected = house.submit(graph("rejected"))
    expired = house.submit(graph("expired", timeout="200ms"))
    house.wait_status(rejected, "parked")
    house.change(rejected, "approvals", decision="reject", reason="too dear")
    assert house.ended(rejected)["status"] == "completed"
    assert house.ended(expired)["status"] == "completed"
    called = [call.path for call in judge.calls]
    assert sorted(called) == ["/echo/expired-late", "/echo/rejected-refused"]


def test_a_signal_before_its_wait_is_kept_over_a_crash_and_the_same_key_counts_once(house, judge):
    graph = {
        "nodes": [
            http_node(judge, "first", "/hold/early", policy="read"),
            {"id": "paid", "type": "wait", "after": ["first"], "with": {"signal": "paid"}},
        ],
        "output": "${paid.payload}",
    }
    run = house.submit(graph)
    eventually(lambda: judge.count("/hold/early") == 1, "the first step calls")
    body = {"name": "paid", "payload": {"sum": 5}}
    headers = {"Idempotency-Key": "payment-1"}
    assert house.post(run, "signals", body, headers)[0] == 200
    assert house.post(run, "signals", body, headers)[0] == 200
    house.crash()
    judge.release("early")
    house.again()
    job = house.ended(run)
    assert job["status"] == "completed", job
    assert job["output"] == {"sum": 5}
    assert house.kinds(run).count("signal.received") == 1


def test_a_call_cut_by_a_crash_is_not_made_again_and_waits_for_a_person(house, judge):
    run = house.submit(
        [
            http_node(judge, "pay", "/hold/pay"),
            http_node(judge, "tell", "/echo/tell", after=["pay"], body={"paid": "${pay.receipt}"}),
        ]
    )
    eventually(lambda: judge.count("/hold/pay") == 1, "the call is under way")
    house.crash()
    house.again()
    job = house.wait_status(run, "parked")
    (wait,) = job["waits"]
    assert wait["kind"] == "human" and wait["effect"], wait
    assert judge.count("/hold/pay") == 1
    shown = house.cli("jobs", "show", run)
    assert "jobs resolve" in shown.stdout, shown
    done = house.cli("jobs", "resolve", run, "--happened", "--result", '{"receipt": 77}')
    assert done.returncode == 0, done.stderr
    assert house.ended(run)["status"] == "completed"
    assert judge.count("/hold/pay") == 1
    assert [call.body for call in judge.of("/echo/tell")] == ['{"paid":77}']
    house.halt()
    house.verified()


def test_a_person_may_say_that_it_did_not_happen_or_give_it_up(house, judge):
    runs = [house.submit([http_node(judge, "pay", f"/hold/{name}")]) for name in ("not", "up")]
    eventually(lambda: judge.count("/hold/not") + judge.count("/hold/up") == 2, "both call")
    house.crash()
    judge.release("not")
    house.again()
    for run in runs:
        house.wait_status(run, "parked")
    house.change(runs[0], "resolve", outcome="not_happened")
    house.change(runs[1], "resolve", outcome="abandon")
    assert house.ended(runs[0])["status"] == "completed"
    assert house.ended(runs[1])["status"] == "failed"
    assert (judge.count("/hold/not"), judge.count("/hold/up")) == (2, 1)


def test_a_keyed_call_goes_again_with_the_same_key_and_a_lookup_asks_first(house, judge):
    keyed = house.submit([http_node(judge, "k", "/hold/keyed", policy="keyed")])
    looked = http_node(judge, "l", "/hold/looked", policy="lookup")
    looked["with"]["lookup"] = {"url": judge.url("/seen?key={key}")}
    lookup = house.submit([looked])
    eventually(lambda: judge.count("/hold/keyed") + judge.count("/hold/looked") == 2, "both call")
    house.crash()
    judge.release("keyed")
    house.again()
    assert house.ended(keyed)["status"] == "completed"
    assert house.ended(lookup)["status"] == "completed"
    calls = judge.of("/hold/keyed")
    assert len(calls) == 2 and calls[0].key == calls[1].key and calls[0].key
    assert judge.count("/hold/looked") == 1


def test_a_submission_that_was_answered_survives_and_is_the_same_job(house, judge):
    graph = [http_node(judge, "n", "/echo/survive")]
    run = house.submit(graph, key="k1", delay="1h")
    house.crash()
    house.again()
    assert house.job(run)["status"] == "pending"
    assert house.submit(graph, key="k1", delay="1h") == run
    other = house.request("POST", "/v1/jobs", {"goal": "x"}, {"Idempotency-Key": "k1"})
    assert other[0] == 409
    assert judge.count("/echo/survive") == 0


def test_all_of_a_flood_that_was_acknowledged_is_there_after_a_crash(house, judge):
    acknowledged = {}
    early = house.submit([{"id": "w", "type": "wait", "with": {"signal": "never"}}])
    signals = []

    def flood(number):
        for count in range(1000):
            key = f"flood-{number}-{count}"
            try:
                node = http_node(judge, "n", f"/echo/{key}", policy="keyed")
                acknowledged[key] = house.submit([node], key=key)
                if house.post(early, "signals", {"name": "note", "payload": key})[0] == 200:
                    signals.append(key)
            except (OSError, http.client.HTTPException):
                return  # It is gone.

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(acknowledged) >= 60, "many have been acknowledged")
    house.crash()
    for thread in threads:
        thread.join()
    judge.settle()
    house.again()
    for run in acknowledged.values():
        assert house.ended(run)["status"] == "completed"
    received = {one["body"]["payload"] for one in house.events(early) if one["type"] == "signal.received"}
    assert set(signals) <= received
    for key in acknowledged:
        assert len({call.key for call in judge.of(f"/echo/{key}")}) == 1, key
    house.halt()
    house.verified()
