# SPDX-License-Identifier: Apache-2.0
"""What tools reach, what they are given, and what of it is in a record."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from aether import eventually, free_port
from jobs import Jobs, config, http_node
from judge import Judge
from processes import command_of, descendants
from test_function_cli import write_handler

KEY = "sk-do-not-record-0123456789"


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory, judge):
    folder = tmp_path_factory.mktemp("jobs")
    function = {"id": "hello-api", "memory_limit_mb": 128, "trigger_port": free_port()}
    function["handler_path"] = write_handler(folder)
    made = config(
        tools={
            "ledger": {
                "type": "http",
                "base_url": judge.url(""),
                "hosts": [f"127.0.0.1:{judge.port}"],
                "api_key_env": "LEDGER_KEY",
                "policy": "keyed",
            },
            "gpt": {"type": "llm", "base_url": judge.url("/v1"), "model": "small-1", "api_key_env": "LEDGER_KEY"},
            "words": {"type": "process", "command": ["sh", "-c", "cat; echo $WORD-$SECRET >&2"], "env": {"WORD": "w"}},
            "fails": {"type": "process", "command": ["sh", "-c", "echo why >&2; exit 3"]},
            "stays": {"type": "process", "command": ["sh", "-c", "sleep 1000 & sleep 1000"], "timeout": "1s"},
            "nobody": {"type": "process", "command": ["/no/such/program"]},
        },
        functions=[function],
        orchestrator={"warm_pool_size": 1},
    )
    env = {"LEDGER_KEY": KEY, "SECRET": "do-not-pass"}
    with Jobs(folder / "home", made, env=env) as running:
        yield running
        running.verified()


def tool_node(tool, **arguments):
    return {"id": "n", "type": "tool", "tool": tool, "with": arguments}


def one(house, node, status="completed"):
    job = house.ended(house.submit([node]))
    assert job["status"] == status, job
    return job["output"]["n"] if status == "completed" else job["error"]


def test_a_key_reaches_the_other_side_and_is_in_no_record(house, judge):
    run = house.submit([tool_node("ledger", method="POST", url="/echo/ledger", body={"a": 1})])
    assert house.ended(run)["status"] == "completed"
    (call,) = judge.of("/echo/ledger")
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    answer = one(house, {"id": "n", "type": "llm", "with": {"model": "gpt", "prompt": "hi"}})
    assert answer["content"] == "hello" and answer["usage"]["total_tokens"] == 20
    (asked,) = judge.of("/v1/chat/completions")
    assert asked.headers["Authorization"] == f"Bearer {KEY}" and json.loads(asked.body)["model"] == "small-1"
    told = [house.text(), house.cli("trace", run).stdout, house.cli("export", run).stdout]
    assert all(told) and not any(KEY in text for text in told)
    for file in house.folder.glob("jobs.db*"):
        assert KEY.encode() not in file.read_bytes(), file


def test_a_tool_with_hosts_reaches_no_other_one_not_even_by_a_redirect(house, judge):
    with Judge() as outside:
        error = one(house, tool_node("ledger", url=outside.url("/echo/direct")), status="failed")
        assert "hosts" in error, error
        path = f"/to/{quote(outside.url('/echo/led'), safe='')}"
        error = one(house, tool_node("ledger", url=path), status="failed")
        assert "hosts" in error, error
        assert not outside.calls


def test_a_call_that_is_refused_beforehand_leaves_no_intent(house):
    run = house.submit([tool_node("ledger", url="http://169.254.169.254/latest")])
    assert house.ended(run)["status"] == "failed"
    assert "effect.intended" not in house.kinds(run)
    run = house.submit([tool_node("http", url="/relative")])
    assert house.ended(run)["status"] == "failed"
    assert "effect.intended" not in house.kinds(run)


def test_a_program_gets_its_input_and_nothing_of_aethers_environment(house):
    result = one(house, tool_node("words", stdin={"a": [1]}))
    assert result == {"exit": 0, "stdout": {"a": [1]}, "stderr": "w-\n"}


def test_a_program_that_fails_says_why_and_one_that_is_not_there_was_not_run(house):
    error = one(house, tool_node("fails"), status="failed")
    assert "3" in error and "why" in error, error
    run = house.submit([tool_node("nobody")])
    assert house.ended(run)["status"] == "failed"
    (settled,) = [event["body"] for event in house.events(run) if event["type"] == "effect.settled"]
    assert settled["outcome"] == "not_executed"


def test_a_program_that_is_too_slow_is_ended_with_all_it_started_and_nobody_knows_what_it_did(house):
    run = house.submit([tool_node("stays")])
    wait = house.asks(run)
    assert wait["effect"], wait

    def sleepers():
        return [pid for pid in descendants(house.pid) if command_of(pid) == "sleep"]

    eventually(lambda: not sleepers(), "what it started is gone")
    house.change(run, "resolve", outcome="abandon")
    assert house.ended(run)["status"] == "failed"


def test_one_of_aethers_own_functions_is_a_tool(house):
    node = {
        "id": "n",
        "type": "function",
        "with": {"function": "hello-api", "method": "POST", "path": "/thumb", "body": {"width": 1}},
    }
    result = one(house, node)
    assert result["status"] == 200
    assert result["body"]["path"] == "/thumb" and json.loads(result["body"]["body"]) == {"width": 1}
    error = one(house, {"id": "n", "type": "function", "with": {"function": "nobody"}}, status="failed")
    assert "nobody" in error, error


# ---- what the manuals show

EXAMPLES = Path(__file__).parents[2] / "examples" / "jobs"


def submit_file(house, name, **given):
    words = ["-o", "json", "jobs", "submit", str(EXAMPLES / name), "--input", json.dumps(given)]
    done = house.cli(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def test_the_example_of_an_order_does_each_part_once(house, judge):
    run = submit_file(house, "order.yaml", order=7, shop=judge.url("/echo/shop"), bank=judge.url("/echo/bank"))
    assert house.ended(run)["status"] == "completed", house.job(run)
    called = [call.path for call in judge.calls if "/shop/" in call.path or "/bank/" in call.path]
    assert sorted(called) == [
        "/echo/bank/charges",
        "/echo/shop/labels/7",
        "/echo/shop/reservations",
        "/echo/shop/shipments",
    ]
    again = submit_file(house, "order.yaml", order=7, shop=judge.url("/echo/shop"), bank=judge.url("/echo/bank"))
    house.ended(again)
    assert judge.count("/echo/bank/charges") == 1  # its business key


def test_the_examples_of_a_page_of_a_review_and_of_a_plan_run(house, judge):
    fetched = submit_file(house, "fetch.yaml", url=judge.url("/echo/page"))
    assert house.ended(fetched)["output"]["status"] == 200
    small = submit_file(house, "review.yaml", amount=5)
    assert house.ended(small)["output"] == {"paid": {"amount": 5, "by": "rule"}}
    large = submit_file(house, "review.yaml", amount=500)
    wait = house.asks(large)
    assert wait["name"] == "Pay 500?" and wait["form"]["properties"]["note"]["type"] == "string"
    assert house.cli("jobs", "reject", large, "--reason", "too dear").returncode == 0
    assert "refused" in house.ended(large)["output"]
    planned = submit_file(house, "plan.json", say="something")
    assert house.ended(planned)["status"] == "completed"
