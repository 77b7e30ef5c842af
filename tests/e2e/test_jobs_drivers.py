# SPDX-License-Identifier: Apache-2.0
"""What decides the steps: a graph, an agent, a goal in words; and a run that goes another way from a step."""

import json
import sqlite3

import pytest
from aether import eventually
from jobs import Jobs, config, http_node
from judge import Judge

AGENTS = [
    {
        "name": "clerk",
        "instructions": "Use the tools.",
        "max_iterations": 4,
        "tools": [
            {
                "name": "order",
                "tool": "http",
                "policy": "read",
                "description": "Looks up an order.",
                "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
                "with": {"method": "POST", "url": "URL/echo/agent-order", "body": {"id": "${args.id}"}},
            },
        ],
    },
]


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory, judge):
    agents = json.loads(json.dumps(AGENTS).replace("URL", judge.url("")))
    with Jobs(tmp_path_factory.mktemp("jobs"), config(agents=agents)) as running:
        yield running
        running.verified()


def outcomes(house, run):
    return {step["path"]: step.get("outcome") for step in house.job(run)["steps"]}


def replays(house, run):
    _, _, told = house.request("GET", f"/v1/jobs/{run}/replay")
    assert told["equal"] and told["calls"] == 0, told
    return told


@pytest.mark.parametrize(("amount", "taken", "skipped"), [(500, "large", "small"), (5, "small", "large")])
def test_a_condition_decides_which_branch_is_called_and_both_meet_again(house, judge, amount, taken, skipped):
    graph = {
        "nodes": [
            {"id": "size", "type": "condition", "if": "${input.amount} > 100", "then": ["large"], "else": ["small"]},
            http_node(judge, "large", f"/echo/{amount}-large"),
            http_node(judge, "small", f"/echo/{amount}-small"),
            http_node(judge, "meet", f"/echo/{amount}-meet", after=["large", "small"]),
            http_node(judge, "rare", f"/echo/{amount}-rare", after=["meet"], when="${input.rare} == true"),
        ],
        "output": {"large": "${size.value}", "rare": "${rare.status}"},
    }
    run = house.submit(graph, input={"amount": amount})
    assert house.ended(run)["output"] == {"large": amount > 100, "rare": None}
    assert judge.count(f"/echo/{amount}-{taken}") == judge.count(f"/echo/{amount}-meet") == 1
    assert judge.count(f"/echo/{amount}-{skipped}") == judge.count(f"/echo/{amount}-rare") == 0
    replays(house, run)


def test_data_keep_their_types_from_node_to_node(house, judge):
    data = {"n": 1.5, "t": "ä\n\"${x}\"", "l": [1, None, {"k": True}], "big": 2**53 - 1}
    graph = {
        "nodes": [
            {"id": "v", "type": "value", "with": {"all": "${input}", "text": "n=${input.n} l=${input.l}"}},
            http_node(judge, "send", "/echo/types", after=["v"], body="${v}"),
        ],
        "output": "${send.body.got}",
    }
    output = house.ended(house.submit(graph, input=data))["output"]
    assert output["all"] == data
    assert output["text"] == 'n=1.5 l=[1,null,{"k":true}]'
    (call,) = judge.of("/echo/types")
    assert json.loads(call.body)["all"] == data


def test_a_missing_member_fails_the_step_by_name_before_anything_is_called(house, judge):
    graph = [
        {"id": "v", "type": "value", "with": {"a": 1}},
        http_node(judge, "send", "/echo/missing", after=["v"], body="${v.b}"),
    ]
    job = house.ended(house.submit(graph))
    assert job["status"] == "failed" and "send" in job["error"] and "b" in job["error"], job
    assert judge.count("/echo/missing") == 0


def test_large_values_go_from_step_to_step_and_come_out_whole(house, judge):
    text = "x" * 300_000
    node = http_node(judge, "big", "/echo/big", body={"text": "${input}"})
    graph = {"nodes": [node], "output": "${big.body.got.text}"}
    run = house.submit(graph, input=text)
    assert house.ended(run)["output"] == text
    assert len(house.events(run)[0]["body"]["input"]) == 300_000
    with sqlite3.connect(f"file:{house.folder}/jobs.db?mode=ro", uri=True) as database:
        (longest,) = database.execute("SELECT max(length(body)) FROM event").fetchone()
    database.close()
    assert longest < 10_000
    replays(house, run)


def test_a_declared_agent_calls_its_tool_and_each_call_is_a_recorded_step(house, judge):
    words = 'call order {"id": 7}\nsay the order is {last}'
    run = house.submit(agent="clerk", input=words)
    job = house.ended(run)
    assert job["status"] == "completed", job
    assert job["output"]["text"].startswith("the order is ") and '"id":7' in job["output"]["text"], job
    assert [json.loads(call.body) for call in judge.of("/echo/agent-order")] == [{"id": 7}]
    steps = outcomes(house, run)
    assert sum("model." in path for path in steps) == 2 and sum("tool." in path for path in steps) == 1, steps
    assert job["used"]["tokens"] > 0 and job["used"]["calls"] == 3
    replays(house, run)


def test_an_agent_that_never_ends_is_ended_after_its_iterations(house, judge):
    before = judge.count("/echo/agent-order")
    job = house.ended(house.submit(agent="clerk", input='loop order {"id": 1}'))
    assert job["status"] == "failed" and "4" in job["error"], job
    assert judge.count("/echo/agent-order") - before <= 4


def test_an_agent_goes_on_after_a_crash_without_a_second_call_of_its_tool(tmp_path, judge):
    tool = {"name": "pay", "tool": "http", "with": {"method": "POST", "url": judge.url("/count/agent-pay")}}
    held = {"method": "POST", "url": judge.url("/hold/slow")}
    slow = {"name": "slow", "tool": "http", "policy": "read", "with": held}
    agent = {"name": "payer", "policy": "read", "tools": [tool, slow]}
    with Jobs(tmp_path / "jobs", config(agents=[agent])) as house:
        run = house.submit(agent="payer", input="call pay {}\ncall slow {}\nsay paid: {1}")
        eventually(lambda: judge.count("/hold/slow") == 1, "the second tool is called")
        house.crash()
        judge.release("slow")
        house.again()
        job = house.ended(run)
        assert job["status"] == "completed" and '"n":1' in job["output"]["text"], job
        assert judge.count("/count/agent-pay") == 1
        house.halt()
        house.verified()


def test_a_goal_in_words_becomes_a_recorded_graph_without_any_network(house, judge):
    goal = f"fetch {judge.url('/echo/goal')} then wait 10ms; approve the result; say done"
    run = house.submit(goal=goal)
    house.asks(run)
    house.change(run, "approvals", decision="approve")
    assert house.ended(run)["status"] == "completed"
    assert [call.method for call in judge.of("/echo/goal")] == ["GET"]
    steps = outcomes(house, run)
    plan = next(step for step in house.job(run)["steps"] if step["path"] == "plan")
    assert len(plan["result"]["graph"]["nodes"]) == 4 and sum(path.startswith("plan/") for path in steps) >= 4, steps
    replays(house, run)


def chain(judge, name, **more):
    nodes = [http_node(judge, "a", f"/count/{name}-a"), http_node(judge, "b", f"/count/{name}-b", after=["a"], **more)]
    return {"nodes": nodes, "output": {"a": "${a.body.n}", "b": "${b.body.n}"}}


def fork(house, run, step, **body):
    code, _, answer = house.post(run, "fork", {"step": step, **body})
    assert code == 201, answer
    return answer["id"]


def test_a_fork_keeps_what_came_before_and_does_the_rest_again(house, judge):
    run = house.submit(chain(judge, "fork"))
    assert house.ended(run)["output"] == {"a": 1, "b": 1}
    forked = fork(house, run, "b")
    job = house.ended(forked)
    assert forked != run and job["forked_from"] == run
    assert job["output"] == {"a": 1, "b": 2}
    assert (judge.count("/count/fork-a"), judge.count("/count/fork-b")) == (1, 2)
    assert house.job(run)["output"] == {"a": 1, "b": 1}
    done = house.cli("jobs", "fork", run, "--from", "a")
    assert done.returncode == 0, done.stderr
    assert house.ended(done.stdout.strip())["output"] == {"a": 2, "b": 3}
    for one in (run, forked):
        replays(house, one)
    assert house.post(run, "fork", {"step": "nobody"})[0] in (400, 404)


def test_a_failed_run_is_forked_with_a_mended_graph(house, judge):
    broken = chain(judge, "mend")
    broken["nodes"][1]["with"]["url"] = judge.url("/no/mend")
    run = house.submit(broken)
    assert house.ended(run)["status"] == "failed"
    forked = fork(house, run, "b", graph=chain(judge, "mend"))
    assert house.ended(forked)["output"] == {"a": 1, "b": 1}
    assert judge.count("/count/mend-a") == 1


def test_a_graph_that_is_not_the_recorded_one_leaves_the_run_stuck_and_calls_nothing(house, judge):
    run = house.submit(chain(judge, "stuck"))
    house.ended(run)
    other = chain(judge, "stuck")
    other["nodes"][0]["with"]["body"] = {"another": "input"}
    forked = fork(house, run, "b", graph=other)
    job = house.wait_status(forked, "stuck", "failed", "completed")
    assert job["status"] == "stuck" and '"a"' in job["error"], job
    assert (judge.count("/count/stuck-a"), judge.count("/count/stuck-b")) == (1, 1)
    house.change(forked, "control", action="resume")
    assert house.wait_status(forked, "stuck")
    house.change(forked, "control", action="cancel")
    assert house.ended(forked)["status"] == "cancelled"
    assert (judge.count("/count/stuck-a"), judge.count("/count/stuck-b")) == (1, 1)
