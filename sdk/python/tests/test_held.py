# SPDX-License-Identifier: Apache-2.0
"""A run that a worker holds, and what it says of it while the worker stops."""

import asyncio
import threading
import types
import unittest

from aetheris.branches import AsyncContext, Loop
from aetheris.code import current
from aetheris.context import Context, GiveBack
from aetheris.held import AsyncHeld, Held

CLAIMED = {"run": "r", "token": "t", "agent": "a", "input": None, "lease_ms": 30000}
PATIENCE = 30


class Carrier:
    """As Aether answers. `begins`: a step has been asked for; its answer waits for `may_begin`."""

    def __init__(self):
        self.said, self.begins, self.may_begin = [], threading.Event(), threading.Event()

    def frame(self, body):
        said = [one["do"] for one in body["messages"]]
        self.said += said
        if "step.begin" in said:
            self.begins.set()
            self.may_begin.wait(PATIENCE)
        return [self.answer(one) for one in body["messages"]]

    def answer(self, message):
        if message["do"] == "step.begin":
            return {"is": "go", "effect": "e", "turn": 1, "token": "t"}
        if message["do"] == "release":
            return {"is": "give_back", "why": "released"}
        return {"is": "open" if message["do"] == "wait" else "done"}


def worker_of(carrier):
    worker = types.SimpleNamespace(carrier=carrier, stopping=threading.Event(), threads=None)
    worker.will_say_ends = lambda held: None
    return worker


class HeldRun(unittest.TestCase):
    def test_a_worker_that_stops_keeps_a_run_whose_step_it_may_be_told_to_call(self):
        carrier = Carrier()
        worker = worker_of(carrier)
        held = Held(worker, CLAIMED)
        done = []

        def code():
            context = Context(held)
            try:
                context.step("one", lambda: done.append("one"))
                context.step("two", lambda: done.append("two"))
            except GiveBack as back:
                done.append(back.why)

        running = threading.Thread(target=code)
        running.start()
        self.assertTrue(carrier.begins.wait(PATIENCE))
        worker.stopping.set()
        held.check()
        self.assertEqual(carrier.said, ["step.begin"])
        carrier.may_begin.set()
        running.join(PATIENCE)
        self.assertEqual(done, ["one", "released"])
        self.assertEqual(carrier.said, ["step.begin", "step.end", "release"])

    def test_a_branch_begins_nothing_more_while_another_one_ends_its_step(self):
        carrier = Carrier()
        carrier.may_begin.set()
        worker = worker_of(carrier)
        loop = Loop()
        done = []

        async def main():
            held = AsyncHeld(worker, CLAIMED, loop)
            held.enter()
            context = AsyncContext(held)
            current.set(context)
            waits = asyncio.Event()

            async def slow():
                worker.stopping.set()
                waits.set()
                for _ in range(20):
                    await asyncio.sleep(0.01)
                done.append("slow")

            async def other():
                await waits.wait()
                await context.step("other", lambda: done.append("other"))

            both = [asyncio.ensure_future(one) for one in (context.step("slow", slow), other())]
            with self.assertRaises(GiveBack):
                await asyncio.wait_for(asyncio.gather(*both), PATIENCE)
            context.leave()

        loop.run_until_complete(main())
        loop.close()
        self.assertEqual(done, ["slow"])
        self.assertEqual([one for one in carrier.said if one != "wait"], ["step.begin", "step.end", "release"])


if __name__ == "__main__":
    unittest.main()
