# SPDX-License-Identifier: Apache-2.0
"""Agents that are coroutine functions: their branches, and how it is known that all of them wait.

A run may go from its worker when nothing of its code can go on: no step is under way, and the loop has nothing left to
do. Then one frame asks for all that the branches wait for, and Aether takes the run back if none of it is over."""

import asyncio
import contextlib
import contextvars
import selectors

from .code import current, inside_step
from .context import Ask, GiveBack, Pause, Rules

WAITS_MAX = 32  # in one frame
LOOK_FIRST, LOOK_LAST = 0.02, 0.5  # seconds before it is asked again about waits beside which a step goes on


class _Selector(selectors.DefaultSelector):
    """Knows when the loop has nothing to do but to wait: then it is asked for events with a timeout."""

    def __init__(self):
        super().__init__()
        self.idle = []  # futures

    def select(self, timeout=None):
        if not self.idle or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        events = super().select(0)
        if not events:
            idle, self.idle = self.idle, []
            for one in idle:
                if not one.done():
                    one.set_result(None)
        return events


class Loop(asyncio.SelectorEventLoop):
    """Tells a run which tasks are its branches."""

    def __init__(self):
        self._idle = _Selector()
        super().__init__(self._idle)
        self.set_task_factory(self._make)

    @staticmethod
    def _make(loop, code, **more):
        context = current.get(None)
        task = asyncio.Task(code, loop=loop, **more)
        if isinstance(context, AsyncContext):
            context.tasks.add(task)
            task.add_done_callback(context.tasks.discard)
        return task

    def call_exception_handler(self, context):
        """A run that is given back is no fault of a branch that nobody awaits."""
        if not isinstance(context.get("exception"), GiveBack):
            super().call_exception_handler(context)

    def becomes_idle(self):
        """Done when all that could be done without waiting for the world is done."""
        idle = self.create_future()
        self._idle.idle.append(idle)
        return idle

    def outside(self, code):
        """A task that is no branch of the run that makes it."""
        return contextvars.Context().run(self.create_task, code)


class AsyncContext(Rules):
    """Of an agent that is a coroutine function; its branches may ask at the same time."""

    def __init__(self, held):
        super().__init__(held)
        self.tasks = set()  # branches that have not ended
        self._asked = set()  # branches that have asked for something, by their id
        self._busy = 0  # steps and calls under way: what would be cut off
        self._waits = {}  # future: its message; Aether knows of each
        self._looking = None  # the task that asks about the waits
        self._stirred = None  # an event: the last step has ended, or there is a wait more

    def ends(self):
        """Its code has come to its end: what is left of its branches does not hold back the last word."""
        self._busy += 1
        if self._looking is not None:
            self._looking.cancel()

    def leave(self):
        """Nothing of the code goes on."""
        for one in [*self.tasks, *filter(None, [self._looking])]:
            one.cancel()

    def _strict(self):
        self._asked.add(id(asyncio.current_task()))
        return self._is_alone()

    def _is_alone(self):
        return len(self._asked) == 1 and len(self.tasks) <= 1

    def _may_give_back(self):
        return self._is_alone() and self._busy == 0

    async def _drive(self, rules):
        given, raised = None, None
        while True:
            try:
                wanted = rules.throw(raised) if raised else rules.send(given)
            except StopIteration as done:
                return done.value
            given, raised = None, None
            try:
                given = await self._do(wanted)
            except GiveBack as back:
                raised = back

    async def _do(self, wanted):
        if isinstance(wanted, Pause):
            self.held.check()
            return await asyncio.sleep(wanted.seconds)
        if isinstance(wanted, Ask):
            if wanted.messages[0]["do"] == "wait":
                return [await self._wait_for(wanted.messages[0])]
            with self._being_busy():
                return await self.held.ask_async(wanted.messages)
        with self._being_busy(), self.held.calling(), inside_step(wanted.key):
            try:
                if asyncio.iscoroutinefunction(wanted.function):
                    return await wanted.function(*wanted.args, **wanted.kwargs), None
                return await asyncio.to_thread(wanted.function, *wanted.args, **wanted.kwargs), None
            except Exception as error:  # noqa: BLE001
                return None, error

    @contextlib.contextmanager
    def _being_busy(self):
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._busy == 0 and self._stirred is not None:
                self._stirred.set()

    # ---- waits

    async def _wait_for(self, message):
        """Its answer, once it is over."""
        with self._being_busy() if not message["give_back"] else contextlib.nullcontext():
            (answer,) = await self.held.ask_async([message])
        if answer["is"] == "recorded":
            return answer
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        self._waits[over] = message
        if self._stirred is not None:
            self._stirred.set()
        if self._looking is None:
            self._looking = loop.outside(self._look())
        try:
            return await over
        finally:
            self._waits.pop(over, None)

    async def _look(self):
        """Asks about all waits, until there are none, or the run is given back."""
        self._stirred = asyncio.Event()
        pause = LOOK_FIRST
        try:
            while self._waits:
                await asyncio.get_running_loop().becomes_idle()
                self._stirred.clear()
                if await self._ask_for_all():
                    pause = LOOK_FIRST
                    continue
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stirred.wait(), pause)
                pause = min(pause * 1.5, LOOK_LAST)
        except BaseException as error:  # noqa: BLE001
            for over in list(self._waits):
                if not over.done():
                    over.set_exception(error)
                    over.exception()  # a branch that nobody awaits any more is no fault
        finally:
            self._looking = self._stirred = None

    async def _ask_for_all(self):
        """Whether one of them is over."""
        all_of_them, some = list(self._waits.items()), False
        for i in range(0, len(all_of_them), WAITS_MAX):
            these = all_of_them[i : i + WAITS_MAX]
            is_last = i + WAITS_MAX >= len(all_of_them)
            gives = is_last and not some and self._busy == 0
            answers = await self.held.ask_async([{**message, "give_back": gives} for _, message in these])
            for (over, _), answer in zip(these, answers):
                if answer["is"] == "recorded" and not over.done():
                    over.set_result(answer)
                    some = True
        return some
