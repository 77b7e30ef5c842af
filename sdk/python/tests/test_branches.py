# SPDX-License-Identifier: Apache-2.0
"""Agents that are coroutine functions: when a run is given back, and which branch is alone."""

import asyncio
import contextlib
import unittest

from aetheris.branches import WAITS_MAX, AsyncContext, Loop
from aetheris.code import current
from aetheris.context import GiveBack


class Server:
    """As Aether answers: a run is parked when a frame says that nothing else goes on, and none of it is over."""

    run, agent, input = "r", "a", None

    def __init__(self):
        self.record, self.over, self.frames, self.waits = {}, {}, [], set()

    async def ask_async(self, messages):
        self.frames.append(messages)
        if messages[0]["do"] == "close":
            return await asyncio.sleep(0.1, [{"is": "done"}])
        await asyncio.sleep(0)
        answers = [self.answer(one) for one in messages]
        gives = all(one.get("give_back") for one in messages if one["do"] == "wait")
        if messages[0]["do"] == "wait" and gives and all(one["is"] == "open" for one in answers):
            raise GiveBack("parked")
        return answers

    def answer(self, message):
        path = message["path"]
        if message["do"] == "wait":
            self.waits.add(path)
            result = {"end": "answered", "payload": self.over.get(path)}
            return {"is": "recorded", "outcome": "pure", "result": result} if path in self.over else {"is": "open"}
        if message["do"] == "step.begin":
            return {"is": "go", "effect": "e", "turn": 1, "token": "t"}
        self.record[path] = message.get("result")
        return {"is": "done"}

    def calling(self):
        return contextlib.nullcontext()

    def check(self):
        pass

    @property
    def begun(self):
        return {one["path"]: one["strict"] for frame in self.frames for one in frame if one["do"] == "step.begin"}


def run(server, code):
    """Its output, or "parked"."""
    loop = Loop()

    async def main():
        context = AsyncContext(server)
        current.set(context)
        task = asyncio.ensure_future(code(context))
        try:
            output = await asyncio.wait_for(task, 30)
            context.ends()
            await server.ask_async([{"do": "close", "path": ""}])
            return output
        except GiveBack as back:
            return back.why
        finally:
            context.leave()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


class Branches(unittest.TestCase):
    def test_a_branch_whose_wait_is_over_goes_on_before_the_run_is_given_back(self):
        server = Server()
        server.over["a"] = 5

        async def code(ctx):
            waits = [asyncio.ensure_future(one) for one in (ctx.sleep(3600), ctx.wait("a"))]
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            got = await ctx.step("after", lambda: done.pop().result())
            return [got, await ctx.wait("b")]

        self.assertEqual(run(server, code), "parked")
        self.assertEqual(server.record, {"after": 5})
        self.assertEqual(server.waits, {"sleep", "a", "b"})

    def test_what_comes_to_one_wait_while_the_run_is_given_back_for_all_is_not_lost(self):
        class Late(Server):
            """The signal comes when the worker has said already that all of its branches wait."""

            async def ask_async(self, messages):
                if all(one.get("give_back") for one in messages):
                    self.over["a"] = 1
                return await super().ask_async(messages)

        async def code(ctx):
            waits = [asyncio.ensure_future(one) for one in (ctx.wait("a"), ctx.sleep(3600))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return await ctx.step("after", lambda: "done")

        self.assertEqual(run(Late(), code), "done")

    def test_a_run_is_given_back_only_when_aether_knows_of_all_its_waits(self):
        for count in (2, WAITS_MAX + 3):
            server = Server()

            async def code(ctx, count=count):
                await asyncio.gather(*(ctx.wait(f"s{i}") for i in range(count)))

            self.assertEqual(run(server, code), "parked")
            self.assertEqual(len(server.waits), count)
            last = server.frames[-1]
            self.assertTrue(all(one["give_back"] for one in last), last)
            self.assertLessEqual(max(len(frame) for frame in server.frames), WAITS_MAX)

    def test_a_run_is_not_given_back_while_a_step_is_under_way(self):
        server = Server()

        async def slow():
            await asyncio.sleep(0.15)
            return not any(one.get("give_back") for frame in server.frames for one in frame)

        async def code(ctx):
            return await asyncio.gather(ctx.wait("a"), ctx.step("slow", slow), ctx.sleep(3600))

        self.assertEqual(run(server, code), "parked")
        self.assertEqual(server.record, {"slow": True})

    def test_branches_that_only_pass_something_to_each_other_are_waited_for(self):
        server = Server()
        server.over["a"] = 1

        async def code(ctx):
            queue = asyncio.Queue()

            async def give():
                got = await ctx.wait("a")
                for _ in range(20):
                    await asyncio.sleep(0)
                await queue.put(got)

            async def take():
                await queue.get()
                return await ctx.step("taken", lambda: 2)

            return (await asyncio.gather(give(), take(), ctx.wait("b")))[1]

        self.assertEqual(run(server, code), "parked")
        self.assertEqual(server.record, {"taken": 2})

    def test_a_branch_that_is_left_behind_gives_nothing_back_while_the_run_is_closed(self):
        server = Server()
        server.over["a"] = 5

        async def late(ctx):
            await asyncio.sleep(0.02)
            await ctx.wait("late")

        async def code(ctx):
            waits = [asyncio.ensure_future(one) for one in (ctx.sleep(3600), ctx.wait("a"), late(ctx))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return "done"

        self.assertEqual(run(server, code), "done")
        closes = server.frames.index([{"do": "close", "path": ""}])
        self.assertFalse([one for frame in server.frames[closes:] for one in frame if one.get("give_back")])

    def test_a_wait_alone_gives_its_run_back_with_the_first_frame(self):
        server = Server()

        async def code(ctx):
            await ctx.step("one", lambda: 1)
            await ctx.wait("a")

        self.assertEqual(run(server, code), "parked")
        self.assertEqual([len(frame) for frame in server.frames], [1, 1, 1])

    def test_no_branch_is_strict_not_even_the_first_and_one_alone_is(self):
        server = Server()

        async def code(ctx):
            await ctx.step("one", lambda: 1)
            await asyncio.gather(*(ctx.step(f"b{i}", lambda: 1) for i in range(2)))
            return "done"

        self.assertEqual(run(server, code), "done")
        self.assertEqual(server.begun, {"one": True, "b0": False, "b1": False})

    def test_a_branch_that_has_not_begun_yet_is_one(self):
        server = Server()

        async def code(ctx):
            other = asyncio.ensure_future(ctx.step("other", lambda: 1))
            await ctx.step("mine", lambda: 1)
            return await other

        self.assertEqual(run(server, code), 1)
        self.assertEqual(server.begun, {"mine": False, "other": False})


if __name__ == "__main__":
    unittest.main()
