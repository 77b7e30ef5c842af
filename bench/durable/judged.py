# SPDX-License-Identifier: Apache-2.0
"""What programs in Python tell the judge (judge.py): over a connection of each thread, or one of an event loop."""

import asyncio
import collections
import os
import socket
import threading
import time

PORT = int(os.environ["JUDGE"])
OWN = threading.local()


def connection():
    if not hasattr(OWN, "socket"):
        OWN.socket = socket.create_connection(("127.0.0.1", PORT))
        OWN.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return OWN.socket


def effect(key):
    """Something outside happens: it is counted once it was heard."""
    connection().sendall(f"+ {key}\n".encode())
    return connection().recv(64).decode().strip()


class Clock:
    """How long each step took, the last one until its workflow goes on."""

    def __init__(self):
        self.took, self.began = [], time.monotonic()

    def note(self):
        now = time.monotonic()
        self.took.append(str(round((now - self.began) * 1e6)))
        self.began = now

    def line(self):
        return f"t {','.join(self.took)}\n".encode()


def steps(given, step):
    """Does the steps one after the other by `step(name, code)`."""
    clock = Clock()
    for number in range(given["count"]):
        key = f"{given['id']}/{number}"
        step(f"s{number}", (lambda: effect(key)) if given["effects"] else (lambda: "ok"))
        clock.note()
    connection().sendall(clock.line())
    return given["count"]


class Loop:
    """The same for coroutines, over one connection."""

    def __init__(self):
        self.asked, self.opening, self.writer = collections.deque(), asyncio.Lock(), None

    async def open(self):
        async with self.opening:
            if self.writer is None:
                reader, self.writer = await asyncio.open_connection("127.0.0.1", PORT)
                self.hearing = asyncio.create_task(self.hear(reader))

    async def hear(self, reader):
        while line := await reader.readline():
            waiting = self.asked.popleft()
            if not waiting.done():
                waiting.set_result(line.decode().strip())

    async def effect(self, key):
        answer = asyncio.get_running_loop().create_future()
        self.asked.append(answer)
        self.writer.write(f"+ {key}\n".encode())
        return await answer

    async def steps(self, given, step):
        await self.open()
        clock = Clock()
        for number in range(given["count"]):
            key = f"{given['id']}/{number}"

            async def code(key=key):
                return await self.effect(key) if given["effects"] else "ok"

            await step(f"s{number}", code)
            clock.note()
        self.writer.write(clock.line())
        return given["count"]
