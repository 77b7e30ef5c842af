# SPDX-License-Identifier: Apache-2.0
"""A run that this worker holds: what its code asks goes to Aether in frames, in the order in which it was asked.

The end of a step is not waited for: it goes in one frame with what the code asks next, so that a step costs one round
trip and one commit. If the code asks nothing for SOON, the end goes by itself. Nothing overtakes it."""

import asyncio
import contextlib
import threading
import time

from .carrier import VERSION, Gone, Refused
from .context import GiveBack

SOON = 0.002  # seconds that the end of a step waits for what the code asks next
AGAIN = 0.05  # before what was left open is asked again
BEATS = 8  # in the time of a lease, of a run that says nothing else
ENDS_MAX = 32  # of branches, in one frame
# Answers that may take long, or end everything: nothing goes in the same frame.
ALONE = ("call", "release")
# Left open they are asked again here; of the others the rules of the context know what to do.
NEVER_OPEN = ("step.begin", "step.end", "close")


class Held:
    """Of an agent that is a plain function: who asks is a thread, and waits."""

    def __init__(self, worker, claimed):
        self.worker, self.carrier = worker, worker.carrier
        self.run, self.token, self.agent = claimed["run"], claimed["token"], claimed["agent"]
        self.input, self.lease = claimed["input"], claimed["lease_ms"] / 1000
        self.back = None  # GiveBack, once it is not ours any more
        self.inside = 0  # functions of its steps that run right now
        self._begun = set()  # paths of steps that were asked for, and have not ended
        self.left = threading.Event()
        self.said = time.monotonic()  # when the last frame went
        self._ends = []  # of steps, not said yet
        self._kept = 0.0  # since when
        self._refused = None  # what the code takes for recorded, and is not
        self._lock = threading.Lock()  # of the ends
        self._order = threading.Lock()  # held while an end is on its way

    # ---- what the code asks

    def ask(self, messages):
        if self._is_kept(messages[0]):
            return self._keep(messages[0])
        while not self._may_ask(messages[0]):
            self.left.wait(AGAIN)
        with self._noting(messages[0]) as answered:
            answers = self._ask(messages)
            answered(answers)
            return answers

    def _ask(self, messages):
        with self._order:
            ends = self._take_ends()
            joins = ends and messages[0]["do"] not in ALONE
            if ends:
                answers = self._look(self.say([*ends, *messages] if joins else ends))
        if not joins:
            answers = self._look(self.say(messages))
        self._raise()
        return answers[-len(messages) :]

    def _may_ask(self, message):
        """Not while the worker stops and something is under way: that ends first, and then the run is given back."""
        if message["do"] in ("step.end", "close"):
            return True
        self.check()
        with self._lock:
            may = not self.worker.stopping.is_set()
            if may and message["do"] == "step.begin":
                self._begun.add(message["path"])
            return may

    @contextlib.contextmanager
    def _noting(self, message):
        """A step is under way from its beginning to its end, unless there is nothing to be called."""
        answers = []
        try:
            yield answers.extend
        finally:
            goes = message["do"] == "step.begin" and answers and answers[-1]["is"] == "go"
            if not goes:
                self._begun.discard(message.get("path"))

    def check(self):
        with self._lock:
            is_quiet = self.inside == 0 and not self._begun
        # Who gives back what is just told to call a function leaves a call of which nobody knows the outcome.
        if self.back is None and self.worker.stopping.is_set() and is_quiet:
            self.release()
        if self.back is not None:
            raise GiveBack(self.back.why, self.back.detail)

    def pause(self, seconds):
        self.left.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def calling(self):
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    # ---- what the worker asks

    def beat(self):
        """Nothing, if something else was said lately."""
        if self.back is None and time.monotonic() - self.said >= self.lease / BEATS:
            with contextlib.suppress(Refused):
                self.say([{"do": "beat"}])

    def release(self):
        self.say_ends()
        with contextlib.suppress(Refused):
            self.say([{"do": "release", "why": "the worker stops"}])

    def give_back(self, why, detail=""):
        if self.back is None:
            self.back = GiveBack(why, detail)
            self.left.set()

    # ---- the end of a step

    def _is_kept(self, message):
        is_good = message["do"] == "step.end" and message["outcome"] == "ok"
        return is_good and self.back is None and len(self._ends) < ENDS_MAX

    def _keep(self, end):
        with self._lock:
            is_first = not self._ends
            self._ends.append(end)
            self._begun.discard(end["path"])
            if is_first:
                self._kept = time.monotonic()
        if is_first:
            self._will_say_ends()
        return [{"is": "done"}]

    def _will_say_ends(self):
        self.worker.will_say_ends(self)

    def _take_ends(self):
        with self._lock:
            ends, self._ends = self._ends, []
            return ends

    def ends_due(self):
        """When what was kept is to be said; None if there is nothing."""
        with self._lock:
            return self._kept + SOON if self._ends else None

    def say_ends(self):
        """Says what was kept, if it still is. What is refused is raised when the code asks next."""
        with self._order:
            ends = self._take_ends()
            try:
                self._look(self.say(ends) if ends else [])
            except Refused as refused:
                self._refused = refused

    # ---- frames

    def say(self, messages):
        """The answers; what is given back is noted."""
        while True:
            try:
                answers = self.carrier.frame(self._frame(messages))
            except Gone as gone:
                return self._lost(messages, gone)
            except Refused:
                if len(messages) == 1:
                    raise
                # Nothing of the frame was done: each by itself, to know which one is refused.
                return [*self._look(self.say(messages[:1])), *self.say(messages[1:])]
            if not self._is_open(messages, answers):
                return answers
            self.left.wait(AGAIN)

    def _frame(self, messages):
        self.said = time.monotonic()
        return {"v": VERSION, "run": self.run, "token": self.token, "messages": messages}

    def _lost(self, messages, gone):
        self.give_back("lost", str(gone))
        return [{"is": "give_back", "why": "lost"}] * len(messages)

    def _is_open(self, messages, answers):
        """Whether the same has to be asked again: Aether could not say it in time."""
        for answer in answers:
            if answer["is"] == "give_back":
                self.give_back(answer["why"], answer.get("detail", ""))
        if self.back is not None:
            return False
        return any(answer["is"] == "open" and message["do"] in NEVER_OPEN
                   for message, answer in zip(messages, answers))  # fmt: skip

    @staticmethod
    def _look(answers):
        for answer in answers:
            if answer["is"] == "refused":
                raise Refused("refused", answer["detail"])
        return answers

    def _raise(self):
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused
        if self.back is not None:
            raise GiveBack(self.back.why, self.back.detail)


class AsyncHeld(Held):
    """Of an agent that is a coroutine function: its branches ask at the same time, from one loop."""

    def __init__(self, worker, claimed, loop):
        super().__init__(worker, claimed)
        self._loop = loop
        self.gone = None  # an event of the loop

    def enter(self):
        """In the loop."""
        self.gone = asyncio.Event()
        if self.back is not None:
            self.gone.set()

    def give_back(self, why, detail=""):
        super().give_back(why, detail)
        if self.gone is not None:
            self._loop.call_soon_threadsafe(self.gone.set)

    def in_thread(self, work, *args):
        return self._loop.run_in_executor(self.worker.threads, work, *args)

    async def ask_async(self, messages):
        if self._is_kept(messages[0]):
            return self._keep(messages[0])
        if not hasattr(self.carrier, "frame_async"):
            return await self.in_thread(self.ask, messages)
        while not self._may_ask(messages[0]):
            await asyncio.sleep(AGAIN)
        with self._noting(messages[0]) as answered:
            answers = await self._ask_on_line(messages)
            answered(answers)
            return answers

    async def _ask_on_line(self, messages):
        ends = self._take_ends()
        joins = ends and messages[0]["do"] not in ALONE
        if ends and not joins:
            self._look(await self._say_async(ends))
        answers = self._look(await self._say_async([*ends, *messages] if joins else messages))
        self._raise()
        return answers[-len(messages) :]

    async def _say_async(self, messages):
        """As say, on a line: what is asked first goes first."""
        while True:
            try:
                answers = await self.carrier.frame_async(self._frame(messages))
            except Gone as gone:
                return self._lost(messages, gone)
            except Refused:
                if len(messages) == 1:
                    raise
                first = self._look(await self._say_async(messages[:1]))
                return [*first, *await self._say_async(messages[1:])]
            if not self._is_open(messages, answers):
                return answers
            await asyncio.sleep(AGAIN)

    def _will_say_ends(self):
        self._loop.call_later(SOON, self._say_late)

    def _say_late(self):
        if self._ends:
            self._loop.outside(self._say_ends_async())

    async def _say_ends_async(self):
        if not hasattr(self.carrier, "frame_async"):
            return await self.in_thread(self.say_ends)
        try:
            self._look(await self._say_async(self._take_ends()))
        except Refused as refused:
            self._refused = refused
