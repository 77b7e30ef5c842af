# SPDX-License-Identifier: Apache-2.0
"""Steering jobs from the command line: what is done, what is printed, and with which exit code."""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from aether import BINARY, PATIENCE, eventually, free_port
from jobs import Jobs, config, http_node
from judge import Judge

NOBODY = "0193b5c2-0000-7000-8000-000000000000"
APPROVAL = {"id": "ok", "type": "approval", "with": {"message": "Go on?"}}
SIGNAL = {"id": "w", "type": "wait", "with": {"signal": "go"}}


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Jobs(tmp_path_factory.mktemp("jobs"), config(), name="aetheris") as running:
        yield running
        running.verified()


def done(house, *words):
    """What a command prints that must succeed."""
    ended = house.cli(*words)
    assert ended.returncode == 0, (words, ended.stderr)
    return ended.stdout


def test_an_approval_is_given_or_refused_and_a_second_answer_is_told_what_stands(house):
    given, refused = house.submit([APPROVAL]), house.submit([APPROVAL])
    for run in (given, refused):
        house.wait_status(run, "parked")
    assert "waits for human at ok (Go on?)" in done(house, "jobs", "show", given)
    assert given in done(house, "jobs", "list", "--status", "parked")
    assert given in done(house, "jobs", "approve", given, "--reason", "checked")
    told = json.loads(done(house, "-o", "json", "jobs", "reject", refused))
    assert told["id"] == refused
    assert house.ended(given)["status"] == "completed"
    assert house.ended(refused)["status"] == "failed"
    again = house.cli("jobs", "approve", given)
    assert again.returncode == 1 and "conflict" in again.stderr
    assert not again.stdout


def test_a_branch_that_was_not_taken_is_shown_as_such(house):
    run = house.submit([{"id": "size", "type": "condition", "if": "1 > 2", "then": ["big"], "else": ["small"]},
                        {"id": "big", "type": "value", "with": 1}, {"id": "small", "type": "value", "with": 2}])
    steps = {step["path"]: step.get("skipped") for step in house.ended(run)["steps"]}
    assert steps == {"size": None, "big": "no branch leads here", "small": None}
    shown = [line.split() for line in done(house, "jobs", "show", run).splitlines()]
    assert ["–", "big", "value", "skipped"] in shown and ["✓", "small", "value", "pure"] in shown
    assert "– big  value  skipped" in done(house, "trace", run)


def test_who_waits_for_a_job_is_told_that_it_is_kept_when_aether_goes_away(tmp_path):
    with Jobs(tmp_path, config()) as own:
        (tmp_path / "graph.json").write_text(json.dumps({"nodes": [SIGNAL]}))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(own.cli, "jobs", "submit", str(tmp_path / "graph.json"), "--wait")
            run = eventually(lambda: [job["id"] for job in own.request("GET", "/v1/jobs")[2]["jobs"]], "it is there")[0]
            own.wait_status(run, "parked")
            own.crash()
            ended = waiting.result()
        assert ended.returncode != 0 and f"aether jobs show {run}" in ended.stderr, ended
        own.again()
        assert own.job(run)["status"] == "parked"


def test_a_worker_does_the_work_and_listens_nowhere(tmp_path):
    port = free_port()
    with Jobs(tmp_path, config(api={"port": port}), command=("worker", "start")) as worker:
        assert worker.ended(worker.submit([{"id": "a", "type": "value", "with": 1}]))["status"] == "completed"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        second = worker.cli("worker", "start")
        assert second.returncode == 1 and "already-running" in second.stderr, second
    with_more = tmp_path / "more.yaml"
    with_more.write_text('service: {command: ["true"]}\nstore: {path: other.db}\n')
    refused = subprocess.run([BINARY, "worker", "start", "-c", with_more], env=worker.env, capture_output=True,
                             text=True, timeout=PATIENCE, check=False)
    assert refused.returncode == 2 and "aether up" in refused.stderr, refused


def test_a_signal_with_its_payload_arrives(house):
    run = house.submit({"nodes": [SIGNAL], "output": "${w.payload}"})
    done(house, "jobs", "signal", run, "go", "--payload", '{"sum": 5}', "--key", "s1")
    assert house.ended(run)["output"] == {"sum": 5}
    text = house.submit({"nodes": [SIGNAL], "output": "${w.payload}"})
    done(house, "jobs", "signal", text, "go", "--payload", "just words")
    assert house.ended(text)["output"] == "just words"


def test_pause_resume_and_cancel(house):
    run = house.submit([SIGNAL])
    house.wait_status(run, "parked")
    assert "paused" in done(house, "jobs", "pause", run)
    assert "paused" not in done(house, "jobs", "resume", run)
    assert done(house, "jobs", "cancel", run, "--reason", "enough").startswith(run)
    job = house.ended(run)
    assert job["status"] == "cancelled" and job["cancel_reason"] == "enough"
    assert house.cli("jobs", "resume", run).returncode == 1


def test_a_call_that_nobody_knows_of_is_resolved_in_each_of_three_ways(house, judge):
    def doubt():
        run = house.submit([http_node(judge, "n", "/hold/doubt", timeout="1s")])
        house.asks(run)
        return run

    happened, abandoned = doubt(), doubt()
    done(house, "jobs", "resolve", happened, "--happened", "--result", '{"n": 1}')
    assert house.ended(happened)["output"] == {"n": {"n": 1}}
    done(house, "jobs", "resolve", abandoned, "--abandon")
    assert house.ended(abandoned)["status"] == "failed"
    judge.release("doubt")
    repeated = house.submit([http_node(judge, "n", "/drop/1/doubt")])
    effect = house.asks(repeated)["effect"]
    assert house.cli("jobs", "resolve", repeated, "another-effect", "--abandon").returncode == 1
    done(house, "jobs", "resolve", repeated, effect, "--not-happened")
    assert house.ended(repeated)["status"] == "completed"
    assert judge.count("/drop/1/doubt") == 2
    both = house.cli("jobs", "resolve", repeated, "--abandon", "--happened")
    assert both.returncode == 2


def test_a_submission_that_is_waited_for_ends_with_its_outcome(house, tmp_path):
    (tmp_path / "good.yaml").write_text("nodes: [{id: v, type: value, with: 7}]\n")
    (tmp_path / "bad.yaml").write_text('nodes: [{id: v, type: value, with: "${input.no}"}]\n')
    (tmp_path / "wrong.yaml").write_text("nodes:\n  - {id: v, type: valeu}\n")
    good = house.cli("jobs", "submit", str(tmp_path / "good.yaml"), "--wait")
    assert good.returncode == 0 and "completed" in good.stdout and "7" in good.stdout
    bad = house.cli("jobs", "submit", str(tmp_path / "bad.yaml"), "--input", "{}", "--wait")
    assert bad.returncode == 1 and "failed" in bad.stdout
    wrong = house.cli("jobs", "submit", str(tmp_path / "wrong.yaml"))
    assert wrong.returncode == 1 and "valeu" in wrong.stderr and "value" in wrong.stderr
    assert not wrong.stdout
    missing = house.cli("jobs", "submit", str(tmp_path / "missing.yaml"))
    assert missing.returncode in (1, 2) and "missing.yaml" in missing.stderr
    goal = house.cli("jobs", "submit", "--goal", "say hello", "--wait")
    assert goal.returncode == 0 and "hello" in goal.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "show", NOBODY),
        ("jobs", "cancel", NOBODY),
        ("jobs", "signal", NOBODY, "go"),
        ("jobs", "approve", NOBODY),
        ("jobs", "resolve", NOBODY, "--abandon"),
        ("jobs", "fork", NOBODY, "--from", "a"),
        ("trace", NOBODY),
        ("replay", NOBODY),
        ("export", NOBODY),
    ],
)
def test_a_job_that_is_not_there_is_told_with_exit_code_1(house, words):
    ended = house.cli(*words)
    assert ended.returncode == 1 and "not-found" in ended.stderr and not ended.stdout, ended


@pytest.mark.parametrize("words", [("jobs", "show"), ("jobs", "signal", NOBODY), ("trace",), ("jobs", "nothing")])
def test_a_command_that_lacks_a_word_is_told_with_exit_code_2(house, words):
    ended = house.cli(*words)
    assert ended.returncode == 2 and ended.stderr and not ended.stdout, ended


def test_without_an_aether_each_command_says_that_none_runs(house, tmp_path):
    stopped = Jobs(tmp_path / "stopped", config())
    for words in (("jobs", "list"), ("jobs", "cancel", NOBODY), ("jobs", "submit", "--goal", "x")):
        ended = stopped.cli(*words)
        assert ended.returncode != 0 and "not-running" in ended.stderr, ended
    stopped.stop()


def test_a_running_job_is_followed_to_its_end(house, judge):
    run = house.submit([http_node(judge, "n", "/hold/followed")])
    eventually(lambda: judge.count("/hold/followed") == 1, "it calls")
    lines = done(house, "trace", run).splitlines()
    assert any("http" in line and "once" in line and "open" in line for line in lines), lines
    judge.release("followed")
    house.ended(run)
    assert not any(" open " in line for line in done(house, "trace", run).splitlines())
    assert run in done(house, "-o", "json", "trace", run)
