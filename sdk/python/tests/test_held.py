# SPDX-License-Identifier: Apache-2.0
"""A run that a worker holds, and what it says of it while the worker stops."""

import asyncio
import json
import socket
import threading
import types
import unittest

from aetheris.branches import AsyncContext, Loop
from aetheris.carrier import Gone, LineCarrier
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



class Line(unittest.TestCase):
    """A LineCarrier, and the other end of its socket pair, which answers each frame and keeps claims until a frame."""

    def setUp(self):
        ours, theirs = socket.socketpair()
        self.carrier, self.theirs = LineCarrier(theirs.detach()), ours
        threading.Thread(target=self.answer, daemon=True).start()

    def tearDown(self):
        self.theirs.shutdown(socket.SHUT_RDWR)
        self.theirs.close()
        self.carrier.close()

    def answer(self):
        claims = []
        for line in self.theirs.makefile("rb"):
            asked = json.loads(line)
            answers = [{"id": asked["id"], "answers": [asked["n"]]}] if "n" in asked else []
            if answers and asked["n"] % 50 == 49:
                answers += [{"id": each, "runs": []} for each in claims]
                claims = []
            elif not answers:
                claims.append(asked["id"])
            self.theirs.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in answers))

    def test_each_of_many_threads_is_answered_whoever_reads(self):
        claimed, wrong = [], []

        def ask(count):
            for number in range(count):
                if self.carrier.frame({"n": number}) != [number]:
                    wrong.append(number)

        claims = threading.Thread(target=lambda: claimed.append(self.carrier.claim({})))
        claims.start()
        for at_once in (1, 2, 8):
            threads = [threading.Thread(target=ask, args=(200,)) for _ in range(at_once)]
            for each in threads:
                each.start()
            for each in threads:
                each.join(60)
                self.assertFalse(each.is_alive())
        claims.join(60)
        self.assertEqual((claimed, wrong), ([[]], []))

    def test_who_waits_hears_of_the_end_of_the_line(self):
        gone = []

        def claim():
            try:
                self.carrier.claim({})
            except Gone as error:
                gone.append(error)

        waits = threading.Thread(target=claim)
        waits.start()
        self.carrier.frame({"n": 0})
        self.theirs.shutdown(socket.SHUT_RDWR)
        waits.join(60)
        self.assertEqual(len(gone), 1)


if __name__ == "__main__":
    unittest.main()
