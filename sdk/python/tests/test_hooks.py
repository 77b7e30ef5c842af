# SPDX-License-Identifier: Apache-2.0
"""Hooks of a handoff: called in time, never waited for longer, and what they do to the work."""

import unittest

import fake_aether as fake
from fake_aether import ACK, ERROR, LOAD, RESUME

AGENT = """
import asyncio, sys, threading, time
from aeterna import AeternaClient, Released
client = AeternaClient()
context = client.load_context()
print("loaded", flush=True)
%s
"""

# A turn that would take for ever, unless it is asked to put down what it has.
LONG_TURN = """
stop, inside = threading.Event(), threading.Event()
def work():
    with client.turn():
        inside.set()
        stop.wait()
        context["unfinished"] = "page 7"
threading.Thread(target=work, daemon=True).start()
@client.on_quiesce
def checkpoint():
    stop.set()
inside.wait()
print("set", flush=True)
threading.Event().wait()
"""

ASYNC_LONG_TURN = """
async def main():
    stop, inside = asyncio.Event(), asyncio.Event()
    @client.on_quiesce
    async def checkpoint():
        stop.set()
        async with client.aturn():  # of a hook: it does not wait for the handoff
            context["by"] = "hook"
    async def work():
        async with client.aturn():
            inside.set()
            await stop.wait()
            context["unfinished"] = "page 7"
    task = asyncio.ensure_future(work())
    await inside.wait()
    print("set", flush=True)
    await task
    try:
        async with client.aturn(): print("again", flush=True)
    except Released: print("released", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

# Prints a line a turn; what a hook does must not end that.
WORKS_ON = """
%s
print("set", flush=True)
while True:
    with client.turn(): print("turn", flush=True)
    time.sleep(0.01)
"""


class Hooks(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)

    def start(self, body):
        child = self.aether.spawn(AGENT % body)
        session = self.aether.accept()
        session.expect(LOAD)
        session.send(ACK, {"of": "load", "memory": "none"})
        self.until(child, "set")
        return child, session

    def until(self, child, word):
        while True:
            line = child.stdout.readline().strip()
            self.assertTrue(line, "it ended")
            if line == word:
                return

    def refused(self, body, code, words, deadline_ms=5000):
        child, session = self.start(WORKS_ON % body)
        session.ask_export(deadline_ms=deadline_ms)
        error, _, _ = session.expect(ERROR)
        self.assertEqual((error["of"], error["code"]), ("export", code))
        self.assertIn(words, error["message"])
        for _ in range(3):
            self.until(child, "turn")
        return child, session

    def test_quiesce_lets_a_long_turn_put_down_what_it_has(self):
        child, session = self.start(LONG_TURN)
        self.assertEqual(session.export(), {"unfinished": "page 7"})

    def test_a_coroutine_quiesces_on_its_own_loop(self):
        child, session = self.start(ASYNC_LONG_TURN)
        self.assertEqual(session.export(), {"by": "hook", "unfinished": "page 7"})
        session.send(RESUME, {"memory": "own"})
        session.expect(ACK)
        self.until(child, "again")

    def test_quiesce_that_raises_is_told_and_the_work_goes_on(self):
        self.refused("client.on_quiesce(lambda: 1 / 0)", "handoff-failed", "ZeroDivisionError")

    def test_quiesce_that_hangs_is_given_up_in_time_and_the_work_goes_on(self):
        hanging = "client.on_quiesce(lambda: threading.Event().wait())"
        _, session = self.refused(hanging, "quiesce-timeout", "did not return in time", 300)
        session.ask_export(deadline_ms=300)
        self.assertIn("still running", session.expect(ERROR)[0]["message"])

    def test_an_export_that_hangs_is_given_up_in_time_and_the_work_goes_on(self):
        hanging = "client.on_handoff(lambda: threading.Event().wait())"
        self.refused(hanging, "handoff-failed", "did not return in time", 300)

    def test_a_coroutine_that_hangs_is_given_up_and_cancelled(self):
        body = """
async def main():
    @client.on_quiesce
    async def hang():
        try: await asyncio.Event().wait()
        finally: print("cancelled", flush=True)
    print("set", flush=True)
    while True:
        async with client.aturn(): print("turn", flush=True)
        await asyncio.sleep(0.01)
asyncio.run(main())
"""
        child, session = self.start(body)
        session.ask_export(deadline_ms=300)
        self.assertEqual(session.expect(ERROR)[0]["code"], "quiesce-timeout")
        self.until(child, "cancelled")
        self.until(child, "turn")


if __name__ == "__main__":
    unittest.main()
