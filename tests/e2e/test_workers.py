# SPDX-License-Identifier: Apache-2.0
"""Agents with code: workers in Python, killed, halted and replaced; judged by what a tool server outside has seen."""

import pytest
from aether import eventually
from judge import Judge
from workers import House, counted, goes_on_with_the_right_code, halted_past_its_lease

PAYING = """
@tool
def pay(run):
    return tell(f"/{os.environ.get('WAY', 'count')}/pay.{run}")

@agent(name="coder")
def code(ctx, given):
    first = ctx.step("look", lambda: tell(f"/count/look.{given}"), policy="read")
    paid = pay(given)
    return {"look": first, "paid": paid, "again": ctx.call("http", {"url": JUDGE + f"/count/http.{given}"})["status"]}
"""


@pytest.fixture
def judge():
    with Judge() as running:
        yield running


@pytest.fixture
def house(tmp_path, judge):
    made = House(tmp_path / "house", judge)
    try:
        yield made.start()
    finally:
        made.halt()


def test_a_worker_does_a_job_and_the_client_waits_for_its_output(house, judge, monkeypatch):
    from workers import SDK

    monkeypatch.syspath_prepend(str(SDK))
    from aetheris import AetherisClient, JobFailedError, JobStatus

    client = AetherisClient(house.url)
    assert client.health()
    job = client.run("coder", "a", idempotency_key="k")
    assert client.run("coder", "a", idempotency_key="k").id == job.id
    assert not job.is_terminal
    worker = house.worker(PAYING)
    assert job.wait(timeout=60).output == {"look": 1, "paid": 1, "again": 200}
    assert job.is_terminal and job.status is JobStatus.COMPLETED
    assert client.get_job(job.id).output == job.output
    assert [one.id for one in client.list_jobs("coder", status="completed")] == [job.id]
    assert judge.count("/count/pay.a") == 1
    worker.kill()
    other = client.run("coder", "b")
    house.change(other.id, "control", action="cancel")
    with pytest.raises(JobFailedError):
        other.wait(timeout=60)
    assert [one.id for one in client.list_jobs("coder", status="cancelled")] == [other.id]


def test_a_call_that_may_have_happened_is_not_made_again_and_a_person_settles_it(house, judge):
    worker = house.worker(PAYING, WAY="hold")
    run = house.begin(given="a")
    counted(judge, "/hold/pay.a")
    worker.kill()
    other = house.worker(PAYING)
    wait = house.asks(run)
    assert "code:pay" in wait["name"]
    house.wait_status(run, "parked")
    assert (judge.count("/hold/pay.a"), judge.count("/count/pay.a")) == (1, 0)
    house.change(run, "resolve", outcome="happened", result="settled")
    assert house.ended(run)["output"]["paid"] == "settled"
    assert judge.count("/count/pay.a") == 0 and other.process.poll() is None
    house.verified()


def test_a_halted_worker_loses_its_run_and_its_late_answer_counts(house, judge):
    halted_past_its_lease(house, judge, PAYING)


def test_other_code_makes_a_run_stuck_and_the_right_code_goes_on(house, judge):
    waits = """
@agent(name="coder")
def code(ctx, given):
    got = ctx.step("STEP", lambda: tell("/count/one"))
    return [got, ctx.wait("go")]
"""
    error = goes_on_with_the_right_code(house, judge, waits)
    assert '"fetch" (step 1 of 2' in error, error


def test_a_worker_that_is_told_to_stop_gives_its_runs_to_the_next(house, judge):
    steps = """
@agent(name="coder")
def code(ctx, given):
    seen = []
    for i in range(40):
        seen.append(ctx.step(f"s{i}", lambda: (time.sleep(0.02), tell(f"/count/s{i}"), os.environ["REVISION"])[2]))
    return seen
"""
    first = house.worker(steps, REVISION="one")
    run = house.begin()
    counted(judge, "/count/s5")
    house.worker(steps, REVISION="two")
    assert first.stopped() == 0, first.text()
    seen = house.ended(run)["output"]
    assert seen[0] == "one" and seen[-1] == "two", seen
    assert [judge.count(f"/count/s{i}") for i in range(40)] == [1] * 40


def test_runs_and_workers_survive_the_death_of_aether(house, judge):
    worker = house.worker(PAYING, WAY="hold")
    run = house.begin(given="a")
    counted(judge, "/hold/pay.a")
    house.crash()
    judge.release("pay.a")
    house.again()
    job = house.ended(run)
    assert job["status"] == "completed", (job, worker.text())
    assert judge.count("/hold/pay.a") == 1
    assert worker.process.poll() is None


def test_an_asyncio_agent_has_branches_waits_and_values_and_a_client_answers_it(house, judge, monkeypatch):
    from workers import SDK

    monkeypatch.syspath_prepend(str(SDK))
    from aetheris import AetherisClient

    house.worker("""
import asyncio

@tool(policy="keyed")
async def one(i):
    return [tell(f"/count/b{i}"), idempotency_key()]

@agent(name="coder")
async def code(ctx):
    both = await asyncio.gather(*(ctx.step(f"b{i}", one, i) for i in range(4)))
    values = [(await ctx.now()).year > 2000, len(await ctx.uuid()), 0 <= await ctx.random() < 1]
    said = await ctx.llm("say hello")
    await ctx.sleep(0.01)
    ok = await ctx.approve("Go?", timeout=3600)
    waits = [asyncio.ensure_future(one) for one in (ctx.wait("a"), ctx.sleep(3600))]
    (first,), _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    after = await ctx.step("after", lambda: first.result())
    return [[len({key for _, key in both}), values, said], ok.approved, ok.by != "", after]
""")
    client = AetherisClient(house.url)
    job = client.run("coder")
    house.asks(job.id)
    client.signal_job(job.id, {"approved": True})
    eventually(lambda: len(house.job(job.id)["waits"]) >= 2, "both branches wait")
    eventually(lambda: job.refresh().is_waiting, "the job waits")
    job.signal(7, correlation_key="a")
    assert job.wait(timeout=60).output == [[4, [True, 36, True], "hello"], True, True, 7]
    assert [judge.count(f"/count/b{i}") for i in range(4)] == [1] * 4


def test_what_a_step_raises_is_recorded_and_tried_again_as_its_policy_says(house, judge):
    house.worker("""
def failing(path, error):
    def call():
        if tell(path) < 3:
            raise error("no")
        return "yes"
    return call

@agent(name="coder")
def code(ctx):
    got = [ctx.step("read", failing("/count/read", ValueError), policy="read", attempts=5, pause=0.01)]
    got.append(ctx.step("sent", failing("/count/sent", NotExecuted), attempts=5, pause=0.01))
    try:
        ctx.step("once", failing("/count/once", ValueError), attempts=5, pause=0.01)
    except StepFailed as failed:
        got.append(failed.message)
    try:
        ctx.call("http", {"url": JUDGE + "/no/thing"})
    except StepFailed:
        got.append("refused")
    ctx.wait("never", timeout=0.01)
""")
    run = house.begin()
    job = house.ended(run)
    assert job["status"] == "failed" and "TimedOut" in job["error"], job
    assert [judge.count(f"/count/{name}") for name in ("read", "sent", "once")] == [3, 3, 1]
    assert judge.count("/no/thing") == 1


def test_a_worker_without_the_role_is_refused_and_one_with_it_works(tmp_path, judge):
    from aether import free_port

    port = free_port()
    tokens = [{"name": "w", "role": "worker", "env": "W"}, {"name": "s", "role": "submitter", "env": "S"}]
    house = House(tmp_path / "house", judge, api={"host": "127.0.0.1", "port": port, "tokens": tokens})
    house.env.update(W="w" * 20, S="s" * 20)
    try:
        house.start()
        refused = house.worker(PAYING, AETHER_URL=f"http://127.0.0.1:{port}", AETHER_TOKEN="s" * 20)
        eventually(lambda: "forbidden" in refused.text(), "the worker is refused")
        run = house.begin(given="a")
        refused.kill()
        house.worker(PAYING, AETHER_URL=f"http://127.0.0.1:{port}", AETHER_TOKEN="w" * 20)
        assert house.ended(run)["status"] == "completed"
    finally:
        house.halt()
