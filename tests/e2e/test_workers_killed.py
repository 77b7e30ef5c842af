# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed (SIGKILL) before and after each message that it sends, and in the middle of each step."""

from concurrent.futures import ThreadPoolExecutor

from judge import Judge
from workers import House

LANES = 5

# Dies before or after the N-th frame that is no beat, or in its N-th own function.
DYING = """
import signal
from aetheris.carrier import HttpCarrier

MOMENT, NUMBER = os.environ.get("DIE", "never:0").split(":")
passed = {"before": 0, "after": 0, "inside": 0}

def pass_by(moment):
    passed[moment] += 1
    if moment == MOMENT and passed[moment] == int(NUMBER):
        os.kill(os.getpid(), signal.SIGKILL)

real = HttpCarrier.frame

def frame(self, body):
    if body["messages"][0]["do"] == "beat":
        return real(self, body)
    pass_by("before")
    answers = real(self, body)
    pass_by("after")
    return answers

HttpCarrier.frame = frame

def told(path):
    count = tell(path)
    pass_by("inside")
    return count

@tool
def once(run):
    return told(f"/echo/once.{run}")

@agent(name="LANE")
def code(ctx, run):
    ctx.step("read", told, f"/echo/read.{run}", policy="read")
    once(run)
    ctx.step("keyed", told, f"/echo/keyed.{run}", policy="keyed")
    ctx.call("http", {"method": "POST", "url": JUDGE + f"/echo/call.{run}"})
    same = ctx.random()
    ctx.sleep(0.001)
    ctx.wait("go")
    once(run)
    return [same, ctx.random() != same]
"""


def one_death(house, judge, lane, moment, number, code=DYING):
    """False when the run ended before the worker came to die."""
    name = f"{moment}{number}"
    run = house.begin(lane, name)
    house.change(run, "signals", name="go")
    worker = house.worker(code.replace("LANE", lane), DIE=f"{moment}:{number}")
    house.until_over(run, lambda: worker.process.poll() is not None)
    lived = worker.process.poll() is None
    worker.kill()
    judge.settle()
    if not lived:
        worker.env["DIE"] = "never:0"
        worker.start()
    if house.until_over(run) == "asks":
        house.change(run, "resolve", outcome="happened" if judge.count(f"/echo/once.{name}") else "not_happened")
    job = house.ended(run)
    worker.kill()
    assert job["status"] == "completed" and job["output"][1] is True, (name, job, worker.text())
    for path, most in (("once", 2), ("call", 1), ("read", 2), ("keyed", 2)):
        assert 1 <= judge.count(f"/echo/{path}.{name}") <= most, (name, path, judge.calls)
    assert judge.count(f"/echo/once.{name}") == 2 or was_resolved(house, run), name
    keys = {call.key for call in judge.of(f"/echo/keyed.{name}")}
    assert len(keys) == 1 and None not in keys, (name, keys)
    return not lived


def was_resolved(house, run):
    return any(event["body"].get("by") == "person" for event in house.events(run))


def die_at_each_moment(folder, made_by, code, messages):
    """A worker of `made_by` dies in each of its functions, and before and after each of so many messages."""
    lanes = [f"lane{i}" for i in range(LANES)]
    with Judge() as judge:
        house = made_by(folder, judge, *lanes, lease="1s")
        try:
            house.start()

            def sweep(lane, moments):
                deaths = 0
                for moment, number in moments:
                    deaths += one_death(house, judge, lane, moment, number, code)
                return deaths

            moments = [("inside", n) for n in range(1, 5)]
            moments += [(moment, n) for moment in ("before", "after") for n in range(1, messages + 1)]
            with ThreadPoolExecutor(LANES) as pool:
                done = [pool.submit(sweep, lane, moments[i::LANES]) for i, lane in enumerate(lanes)]
                # On a busy machine a live worker may lose its run, too, before it comes to its moment.
                assert sum(one.result() for one in done) > len(moments) * 2 / 3, "too few moments were reached"
            house.verified()
        finally:
            house.halt()


def test_no_death_of_a_worker_makes_a_call_twice_or_loses_a_run(tmp_path):
    die_at_each_moment(tmp_path / "house", House, DYING, 15)
