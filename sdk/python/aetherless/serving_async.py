# SPDX-License-Identifier: Apache-2.0
"""aetherless.serve() with a coroutine function: all requests at once, on one event loop."""

import asyncio
import signal
import sys
import traceback

from .exchange import Gone
from .line import Closed, Line
from .message import AsyncRequest, encoded, head_of, response_of, whole_body


class AsyncServer:
    def __init__(self, handler):
        self.handler = handler
        self.line = Line()
        self.tasks = {}
        self.stopping = False
        self.failure = None

    async def run(self, say_ready):
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.room = asyncio.Event()
        self.line.attach()
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        self.loop.add_reader(self.line.wake, self.heard)
        say_ready()
        self.pump()
        await self.over.wait()
        self.loop.remove_reader(self.line.wake)
        for task in list(self.tasks.values()):
            task.cancel()
        if self.failure:
            print("[aetherless] %s" % self.failure, file=sys.stderr, flush=True)

    def stop(self):
        self.stopping = True
        if not self.tasks:
            self.over.set()

    def heard(self):
        try:
            self.line.heard()
        except Closed as error:
            self.close(error)
        else:
            self.pump()

    def close(self, error):
        self.failure = self.failure or str(error)
        self.over.set()

    def pump(self):
        try:
            calls = self.line.receive()
            for call in calls:
                if call.head is not None:
                    self.begin(call)
                elif call.waiter is not None:
                    call.waiter.set()
                if call.gone and call.number in self.tasks:
                    self.tasks[call.number].cancel()
            self.flush()
            # To be asked again at once, behind what waits for its turn; else only when it is woken.
            if calls or not self.line.must_wait():
                self.loop.call_soon(self.pump)
        except Closed as error:
            self.close(error)

    def begin(self, call):
        request, call.head = AsyncRequest(call.head), None
        call.waiter = asyncio.Event()
        self.tasks[call.number] = self.loop.create_task(self.answer(call, request))

    def flush(self):
        if self.line.flush():
            self.room.set()
            return
        self.room.clear()  # Aether rings when there is some

    def say(self):
        try:
            self.flush()
        except Closed as error:
            self.close(error)

    async def answer(self, call, request):
        request._next = lambda: self.next_of(call)
        try:
            await self.respond(call, response_of(await self.handler(request)))
        except Gone:
            pass
        except asyncio.CancelledError:
            if not call.gone and not self.over.is_set():
                self.line.exchange.fail(call, "the handler was cancelled")
        except Exception as error:
            traceback.print_exc()
            self.line.exchange.fail(call, repr(error))
        finally:
            self.line.exchange.forget(call)
            self.tasks.pop(call.number, None)
            self.say()
            if self.stopping and not self.tasks:
                self.over.set()

    async def next_of(self, call):
        while True:
            chunk = self.line.exchange.read(call)
            self.flush()
            if chunk is not None:
                return chunk
            call.waiter.clear()
            await call.waiter.wait()

    async def respond(self, call, response):
        whole = whole_body(response.body)
        head = head_of(response, None if whole is None else len(whole))
        if whole is not None:
            return await self.send_whole(call, head, whole)
        body = response.body
        await self.send_whole(call, head, b"", end=False)
        try:
            if hasattr(body, "__aiter__"):
                async for piece in body:
                    await self.send_piece(call, encoded(piece))
            else:
                for piece in body:
                    await self.send_piece(call, encoded(piece))
        finally:
            if hasattr(body, "aclose"):
                await body.aclose()
            elif hasattr(body, "close"):
                body.close()
        await self.send_piece(call, b"", end=True)

    async def send_whole(self, call, head, body, end=True):
        fits = body[: call.credit]
        rest = body[len(fits) :]
        self.line.exchange.begin_answer(call, head, fits, end and not rest)
        self.flush()
        if rest:
            await self.send_piece(call, rest, end)

    async def send_piece(self, call, body, end=False):
        body = memoryview(body)
        while True:
            if call.gone:
                raise Gone("the client has left")
            if self.line.exchange.outbox:
                await self.room.wait()
                continue
            if body and call.credit == 0:
                call.waiter.clear()
                await call.waiter.wait()
                continue
            body = body[self.line.exchange.send(call, body, end) :]
            self.flush()
            if not body:
                return
