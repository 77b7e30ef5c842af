# SPDX-License-Identifier: Apache-2.0
"""Agents that Aether keeps running: a first one, one that is killed, and one that is swapped in the middle of a job."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from aether import BINARY, PATIENCE, eventually, free_port
from jobs import Jobs, config
from judge import Judge
from workers import PRELUDE, counted

AETHERIS = BINARY.parent / "aetheris"

STEPS = """
@agent(name="coder")
def code(ctx, given):
    seen, goes_on = [], True
    while goes_on:
        i = len(seen)

        def one():
            time.sleep(0.02)
            tell(f"/count/s{i}")
            tell("/count/REVISION")
            return ["REVISION", not os.path.exists("stop") if given == "until told" else i < 29]

        word, goes_on = ctx.step(f"s{i}", one)
        seen.append(word)
    return seen

serve()
"""


@pytest.fixture
def judge():
    with Judge() as running:
        yield running


@pytest.fixture
def house(tmp_path, judge):
    agent = {"name": "coder", "command": [sys.executable, "agent.py"], "env": {"JUDGE": judge.url("")}}
    made = Jobs(tmp_path / "house", config(jobs={"lease": "10s"}, agents=[agent]))
    (made.folder / "agent.py").write_text(PRELUDE + STEPS.replace("REVISION", "one"))
    try:
        yield made.start()
    finally:
        made.halt()


def pid_of(house):
    (service,) = house.request("GET", "/v1/services")[2]["services"]
    return service["pid"]


def test_a_reload_swaps_an_agent_in_the_middle_of_its_job_and_a_broken_one_is_not_swapped_in(house, judge):
    run = house.submit(agent="coder", input="until told")
    counted(judge, "/count/s3")
    was = pid_of(house)
    for broken in ("def code(:", "import nothing_has_this_name"):
        (house.folder / "agent.py").write_text(PRELUDE + broken + STEPS)
        done = house.cli("reload", "coder")
        assert done.returncode == 1, done.stdout + done.stderr
        assert pid_of(house) == was
    (house.folder / "agent.py").write_text(PRELUDE + STEPS.replace("REVISION", "two"))
    done = house.cli("reload", "coder")
    assert done.returncode == 0, done.stdout + done.stderr
    counted(judge, "/count/two")
    (house.folder / "stop").touch()
    seen = house.ended(run)["output"]
    assert seen[0] == "one" and seen[-1] == "two", seen
    assert [judge.count(f"/count/s{i}") for i in range(len(seen))] == [1] * len(seen)


def test_an_agent_that_is_killed_is_started_again_and_need_not_wait_for_its_lease(house, judge):
    run = house.submit(agent="coder")
    counted(judge, "/count/s5")
    os.kill(pid_of(house), signal.SIGKILL)

    def over():
        job = house.job(run)
        if any(wait["effect"] for wait in job["waits"]):
            name = job["steps"][-1]["path"]
            house.change(run, "resolve", outcome="happened" if judge.count(f"/count/{name}") else "not_happened",
                         result=["one", True])  # fmt: skip
        return job if job["status"] == "completed" else None

    assert len(eventually(over, "the job ends")["output"]) == 30
    assert [judge.count(f"/count/s{i}") for i in range(30)] == [1] * 30
    house.verified()


def test_a_replay_runs_the_program_and_calls_nothing(house, judge):
    run = house.submit(agent="coder")
    assert len(house.ended(run)["output"]) == 30
    told = house.request("GET", f"/v1/jobs/{run}/replay")[2]
    assert told["equal"] and told["calls"] == 0 and told["decisions"] == 30, told
    (house.folder / "agent.py").write_text(PRELUDE + STEPS.replace('f"s{i}", ', 'f"t{i}", '))
    told = house.request("GET", f"/v1/jobs/{run}/replay")[2]
    assert not told["equal"] and '"s0"' in told["difference"] and '"t0"' in told["difference"], told
    assert [judge.count(f"/count/s{i}") for i in range(30)] == [1] * 30


@pytest.mark.parametrize("language", [[], ["--node"]], ids=["python", "node"])
def test_the_first_agent_answers_within_a_minute_of_its_making(tmp_path, language):
    runtime = tempfile.mkdtemp(prefix="ae.", dir="/tmp")  # short: it is part of a socket's path
    env = {**os.environ, "AETHER_RUNTIME_DIR": runtime, "HOME": str(tmp_path)}

    def typed(*words, folder=tmp_path, **more):
        return subprocess.run([str(AETHERIS), *words], cwd=folder, env=env, capture_output=True, text=True,
                              timeout=PATIENCE, check=False, **more)  # fmt: skip

    made = typed("init", *language, "my-agent")
    assert made.returncode == 0, made.stderr
    again = typed("init", "my-agent")
    assert again.returncode == 1 and "there already" in again.stderr
    folder = tmp_path / "my-agent"
    file = folder / "aetheris.yaml"
    file.write_text(file.read_text().replace("8080", str(free_port())))
    with open(tmp_path / "out.txt", "w") as out:
        running = subprocess.Popen([str(AETHERIS), "run"], cwd=folder, env=env, stdout=out, stderr=out)
    try:
        eventually(lambda: typed("jobs", "list", folder=folder).returncode == 0, "it runs")
        said = typed("chat", "hello", "there", folder=folder)
        assert said.returncode == 0 and said.stdout.endswith("You said: hello there\n"), said
        assert "announce" in said.stdout, said.stdout
        told = typed("chat", folder=folder, input="one\ntwo\n")
        assert "You said: one\n" in told.stdout and "You said: two\n" in told.stdout, told
        jobs = typed("jobs", "list", folder=folder).stdout
        assert jobs.count("completed") == 3, jobs
        assert typed("trace", jobs.splitlines()[1].split()[0], folder=folder).returncode == 0
        assert (folder / "announced.txt").read_text().count("\n") == 3
    finally:
        running.terminate()
        running.wait(PATIENCE)
        shutil.rmtree(runtime, ignore_errors=True)


def test_the_sdk_keeps_to_the_protocol():
    sdk = BINARY.parents[3] / "sdk" / "python"
    env = {**os.environ, "PYTHONPATH": str(sdk)}
    command = [str(AETHERIS), "conformance", "worker", "--command"]
    command += [f"{sys.executable} -m aetheris.conformance", "--each", "3"]
    good = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    assert " 0 failed" in good.stdout and good.stdout.count("✓") > 20, good.stdout


def test_a_program_that_does_not_keep_to_the_protocol_is_told_so(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("""
import json, os, socket
line = socket.socket(fileno=int(os.environ["AETHER_WORK_FD"])).makefile("rw")
say = lambda body: (line.write(json.dumps(body) + chr(10)), line.flush(), json.loads(line.readline()))[2]
while True:
    claim = {"id": 1, "v": 1, "do": "claim", "worker": "w", "agents": ["conformance"], "wait_ms": 1000}
    for run in say(claim)["runs"]:
        frame = {"id": 2, "v": 1, "run": run["run"], "token": run["token"]}
        say({**frame, "messages": [{"do": "step.begin", "path": "a/b", "tool": "t"}]})
        say({**frame, "messages": [{"do": "close", "outcome": "succeeded", "output": 5}]})
""")
    command = [str(AETHERIS), "conformance", "worker", "--command", f"{sys.executable} {wrong}", "--each", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1 and "✗ does a job of all kinds of steps" in done.stdout, done.stdout
