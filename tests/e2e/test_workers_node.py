# SPDX-License-Identifier: Apache-2.0
"""Agents in Node: halted, replaced, swapped and misled; judged by what a tool server outside has seen."""

import json
import os
import subprocess

import pytest
from aether import BINARY, PATIENCE
from jobs import Jobs, config
from judge import Judge
from node_workers import PRELUDE, SDK, NodeHouse
from workers import counted, goes_on_with_the_right_code, halted_past_its_lease

PAYING = """
const pay = tool('pay', run => tell(`/${process.env.WAY || 'count'}/pay.${run}`));
agent('coder', async (ctx, given) => {
  const look = await ctx.step('look', () => tell(`/count/look.${given}`), { policy: 'read' });
  const paid = await pay(given);
  const called = await ctx.call('http', { url: `${JUDGE}/count/http.${given}` });
  return { look, paid, again: called.status };
});
"""

# Which program did each step: it goes on until the second has done some.
STEPS = """
agent('coder', async ctx => {
  const seen = [];
  while (seen.filter(each => each === 'two').length < 5) {
    const i = seen.length;
    seen.push(await ctx.step(`s${i}`, async () => {
      await new Promise(resolve => setTimeout(resolve, 20));
      await tell(`/count/s${i}`);
      return process.env.REVISION || 'REVISION';
    }));
  }
  return seen;
});
"""


def passed_on(job, judge):
    """Each step of STEPS was done once, by the first program or by the second."""
    seen = job["output"]
    assert seen == ["one"] * (len(seen) - 5) + ["two"] * 5, seen
    assert [judge.count(f"/count/s{i}") for i in range(len(seen))] == [1] * len(seen)


@pytest.fixture
def judge():
    with Judge() as running:
        yield running


@pytest.fixture
def house(request, tmp_path, judge):
    # Long enough for a worker that lives, on a machine that is busy.
    made = NodeHouse(tmp_path / "house", judge, "coder", "waiter", lease=getattr(request, "param", "10s"))
    try:
        yield made.start()
    finally:
        made.halt()


CLIENT = """
const { AetherisClient, JobFailedError } = require('aetheris');
(async () => {
  const client = new AetherisClient();
  const job = await client.run('coder', 'a', { idempotencyKey: 'k' });
  const same = await client.run('coder', 'a', { idempotencyKey: 'k' });
  const { output } = await job.wait({ timeout: '60s' });
  const waiting = await client.run('waiter');
  while (!(await waiting.refresh()).isWaiting) await new Promise(resolve => setTimeout(resolve, 20));
  await waiting.signal(5);
  while (!(await waiting.refresh()).raw.waits.some(each => each.kind === 'human' && each.open !== false))
    await new Promise(resolve => setTimeout(resolve, 20));
  await waiting.signal({ approved: false });
  const failed = await waiting.wait().catch(error => error);
  const listed = await client.listJobs('coder', { status: 'completed' });
  console.log(JSON.stringify({
    health: await client.health(), same: same.id === job.id, output, listed: listed.length,
    failed: failed instanceof JobFailedError && failed.message,
  }));
})();
"""


WAITING = "agent('waiter', async ctx => { throw new Error(`${await ctx.wait('go')} ${await ctx.approve('?')}`); });"


def test_a_client_in_node_submits_waits_signals_and_approves(house, judge):
    house.worker(PAYING + WAITING)
    env = {**os.environ, "NODE_PATH": str(SDK), "AETHER_URL": house.url}
    command = ["node", "-e", CLIENT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["health"] and told["same"] and told["listed"] == 1, told
    assert told["output"] == {"look": 1, "paid": 1, "again": 200}
    assert "5 false" in told["failed"], told


@pytest.mark.parametrize("house", ["1s"], indirect=True)
def test_a_halted_worker_in_node_loses_its_run_and_its_late_answer_counts(house, judge):
    asked = halted_past_its_lease(house, judge, PAYING)
    assert "code:pay" in asked["name"]
    house.verified()


def test_other_code_in_node_names_both_steps_and_the_right_code_goes_on(house, judge):
    waits = "agent('coder', async ctx => [await ctx.step('STEP', () => tell('/count/one')), await ctx.wait('go')]);"
    goes_on_with_the_right_code(house, judge, waits)


def test_a_worker_in_node_that_is_told_to_stop_gives_its_runs_to_the_next(house, judge):
    first = house.worker(STEPS, REVISION="one")
    run = house.begin()
    counted(judge, "/count/s5")
    house.worker(STEPS, REVISION="two")
    assert first.stopped() == 0, first.text()
    passed_on(house.ended(run), judge)


def test_branches_race_and_values_in_node(house, judge):
    house.worker("""
const one = tool('one', { policy: 'keyed' }, async i => [await tell(`/count/b${i}`), idempotencyKey()]);
agent('coder', async ctx => {
  const both = await Promise.all([0, 1, 2, 3].map(i => one(i)));
  const first = await Promise.race([ctx.wait('go'), ctx.sleep('1h')]);
  const values = [(await ctx.now()) instanceof Date, (await ctx.uuid()).length, await ctx.llm('say hello')];
  await ctx.sleep(10);
  const { approved, by } = await ctx.approve('Go?', { timeout: '1h', full: true });
  return [new Set(both.map(each => each[1])).size, first, values, approved, by !== ''];
});
""")
    run = house.begin()
    house.wait_status(run, "parked")
    house.change(run, "signals", name="go", payload="now")
    house.asks(run)
    house.change(run, "approvals", decision="approve")
    assert house.ended(run)["output"] == [4, "now", [True, 36, "hello"], True, True]
    assert [judge.count(f"/count/b{i}") for i in range(4)] == [1] * 4


def test_a_reload_swaps_an_agent_in_node_in_the_middle_of_its_job(tmp_path, judge):
    agent = {"name": "coder", "command": ["node", "agent.js"], "env": {"JUDGE": judge.url("")}}
    house = Jobs(tmp_path / "house", config(jobs={"lease": "20s"}, agents=[agent]))
    program = house.folder / "agent.js"
    program.write_text(PRELUDE + STEPS.replace("REVISION'", "one'") + "serve();")
    try:
        house.start()
        run = house.submit(agent="coder")
        counted(judge, "/count/s5")
        program.write_text(PRELUDE + STEPS.replace("REVISION'", "two'") + "serve();")
        done = house.cli("reload", "coder")
        assert done.returncode == 0, done.stdout + done.stderr
        passed_on(house.ended(run), judge)
        replayed = house.cli("replay", run)
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    finally:
        house.halt()


def test_the_sdk_for_node_keeps_to_the_protocol():
    command = [str(BINARY), "conformance", "worker", "--each", "5", "--command"]
    command += [f"node {SDK}/aetheris/conformance.js"]
    good = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    assert " 0 failed" in good.stdout and good.stdout.count("✓") > 12, good.stdout


@pytest.mark.parametrize("house", ["1s"], indirect=True)
def test_an_agent_in_node_whose_house_dies_goes_on_when_it_is_back(house, judge):
    worker = house.worker(PAYING, WAY="hold")
    run = house.begin(given="a")
    counted(judge, "/hold/pay.a")
    house.crash()
    judge.release("pay.a")
    house.again()
    job = house.ended(run)
    assert job["status"] == "completed", (job, worker.text())
    assert judge.count("/hold/pay.a") == 1 and worker.process.poll() is None
