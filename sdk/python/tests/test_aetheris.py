# SPDX-License-Identifier: Apache-2.0
"""aetheris without an Aether: what its parts do by themselves, against a carrier made of answers."""

import json
import threading
import unittest

from aetheris import agent, idempotency_key, tool
from aetheris.client import AetherisClient, AetherisError, JobStatus
from aetheris.code import AGENTS
from aetheris.context import Context, GiveBack, StepFailed, as_recorded


class Recorder:
    """Answers as Aether would, from a record that survives contexts."""

    run, agent, input = "r", "a", {"n": 1}

    def __init__(self):
        self.record, self.said, self.parked = {}, [], set()

    def ask(self, messages):
        json.dumps(messages)
        self.said += messages
        return [self.answer(one) for one in messages]

    async def ask_async(self, messages):
        return self.ask(messages)

    def answer(self, message):
        path = message["path"]
        if path in self.record:
            return self.record[path]
        if message["do"] == "step.begin":
            key = "k" if message["policy"] == "keyed" else None
            return {"is": "go", "effect": "e", "turn": 1, "token": "t", **({"key": key} if key else {})}
        if message["do"] == "step.end":
            outcome = "committed" if message["outcome"] == "ok" else "failed"
            if not message.get("again"):
                self.record[path] = {"is": "recorded", "outcome": outcome, "result": message.get("result"),
                                     "error": message.get("error")}  # fmt: skip
            return {"is": "done"}
        if message["do"] == "call":
            return {"is": "recorded", "outcome": "committed", "result": {"content": "said"}}
        raise GiveBack("parked")

    def calling(self):
        return threading.Lock()

    def pause(self, seconds):
        pass

    def check(self):
        pass


class Aetheris(unittest.TestCase):
    def test_a_step_is_done_once_and_given_back_to_whoever_runs_the_code_again(self):
        held, done = Recorder(), []

        @tool(policy="keyed")
        def pay(order, *, sum):
            done.append((order, sum, idempotency_key()))
            return (order, sum)

        @agent(name="test-a")
        def code(ctx, given):
            paid = ctx.step(pay, "o", sum=given["n"])
            return [paid, ctx.step("twice", done.count, 1), ctx.step("twice", done.count, 1)]

        first = code(Context(held), {"n": 5})
        self.assertEqual(first, [["o", 5], 0, 0])
        self.assertEqual(code(Context(held), {"n": 5}), first)
        self.assertEqual(done, [("o", 5, "k")])
        paths = [one["path"] for one in held.said if one["do"] == "step.begin"]
        self.assertEqual(paths, ["pay", "twice", "twice.2"] * 2)
        AGENTS.pop("test-a")

    def test_what_aether_would_not_take_fails_its_own_step_and_no_other(self):
        held = Recorder()
        deep = []
        for _ in range(60):
            deep = [deep]
        for result in (float("nan"), "\ud800", 2**53 + 1, "x" * 600_000, deep, object()):
            with self.assertRaisesRegex(StepFailed, "odd.* cannot be recorded"):
                Context(held).step("odd", lambda result=result: result)
            ended = held.said[-1]
            self.assertEqual((ended["do"], ended["outcome"], ended.get("result")), ("step.end", "error", None))
            with self.assertRaisesRegex(StepFailed, "it was done, and its result cannot be recorded"):
                Context(held).step("odd", self.fail)  # the same, when the code runs again
            held.record.clear()
            asked = held.said[-1]
            with self.assertRaises((TypeError, ValueError)):
                Context(held).step("given", str, result)
            self.assertEqual(held.said[-1], asked, "nothing more was asked")
        self.assertEqual(as_recorded({"a": ("ü", 2**53, -1.5, [[]] * 60)}), {"a": ["ü", 2**53, -1.5, [[]] * 60]})

        def odd():
            raise OSError("no file \udcff")

        with self.assertRaisesRegex(StepFailed, r"OSError: no file \?"):
            Context(held).step("file", odd)

    def test_names_of_steps_have_at_most_the_bytes_that_the_protocol_has(self):
        held = Recorder()
        for name in ("日" * 100, "日" * 101, "a/b~c#d\x7f"):
            Context(held).step(name, len, "ab")
        paths = [one["path"] for one in held.said if one["do"] == "step.begin"]
        self.assertEqual([len(path.encode()) for path in paths], [180, 180, 8])
        self.assertEqual(paths[2], "a-b-c-d-")

    def test_a_tool_that_an_agent_calls_is_a_step_and_elsewhere_a_function(self):
        from aetheris.code import current

        @tool
        def add(a, b):
            return a + b

        self.assertEqual(add(1, 2), 3)
        held = Recorder()
        token = current.set(Context(held))
        try:
            self.assertEqual(add(1, 2), 3)
        finally:
            current.reset(token)
        self.assertEqual([one["do"] for one in held.said], ["step.begin", "step.end"])

    def test_what_a_step_raises_is_recorded_and_raised_again(self):
        held = Recorder()

        def bad():
            raise ValueError("no")

        for _ in range(2):
            with self.assertRaises(StepFailed) as failed:
                Context(held).step(bad)
            self.assertIn("no", failed.exception.message)

    def test_a_result_that_is_no_json_fails_its_step_and_the_record_says_that_it_was_done(self):
        held = Recorder()
        with self.assertRaises(StepFailed):
            Context(held).step("set", lambda: {1, 2})
        self.assertEqual(held.said[-1]["outcome"], "error")
        self.assertIn("it was done", held.said[-1]["error"])

    def test_names_cannot_collide(self):
        context = Context(Recorder())
        paths = [context._path(name) for name in ("a", "a", "a.2", "a", "b/c#d", "b-c-d")]
        self.assertEqual(len(set(paths)), 6, paths)
        self.assertFalse(any(c in path for path in paths for c in "/~#"))

    def test_no_exception_handler_holds_back_a_run_that_is_given_back(self):
        with self.assertRaises(GiveBack):
            try:
                Context(Recorder()).approve("?")
            except Exception:  # noqa: BLE001
                self.fail("GiveBack is an Exception")

    def test_values_are_as_they_come_back_from_the_record(self):
        self.assertEqual(as_recorded({1: (2, 3)}), {"1": [2, 3]})
        with self.assertRaises(ValueError):
            as_recorded(float("nan"))

    def test_a_client_without_an_aether_says_so(self):
        client = AetherisClient("http://127.0.0.1:9")
        self.assertFalse(client.health())
        with self.assertRaises(AetherisError):
            client.run("a", "b")
        self.assertIs(JobStatus.of("parked"), JobStatus.WAITING)


if __name__ == "__main__":
    unittest.main()
