# SPDX-License-Identifier: Apache-2.0
"""Counts what durable steps really did, in a process of its own that outlives whatever is killed.

Lines over TCP. `+ KEY` counts one effect and is answered `ok`; `t US,US,…` tells how long steps took, and is not
answered; `?` is answered with all that was counted since the last `!`, as JSON, `n` with how many keys there were,
`= KEY` with yes or no; `!` forgets. Its port is the first line of its output.
"""

import asyncio
import json
import time


class Ledger:
    def __init__(self):
        self.forget()

    def forget(self):
        self.counts, self.times, self.took = {}, [], []

    def count(self, key):
        before = self.counts.get(key, 0)
        self.counts[key] = before + 1
        if before == 0:
            self.times.append(time.monotonic())  # of this machine: whoever kills compares it with its own

    def told(self):
        twice = sum(count - 1 for count in self.counts.values())
        return {"effects": len(self.counts), "twice": twice, "times": self.times, "took_us": self.took}


class Line(asyncio.Protocol):
    def __init__(self, ledger):
        self.ledger, self.rest = ledger, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        said = [self.answer(line) for line in lines]
        self.transport.write(b"".join(said))

    def answer(self, line):
        word, _, rest = line.partition(b" ")
        if word == b"+":
            self.ledger.count(rest)
            return b"ok\n"
        if word == b"t":
            self.ledger.took += map(int, rest.split(b","))
            return b""
        if word == b"n":
            return b"%d\n" % len(self.ledger.counts)
        if word == b"=":
            return b"yes\n" if rest in self.ledger.counts else b"no\n"
        if word == b"!":
            self.ledger.forget()
            return b"ok\n"
        return json.dumps(self.ledger.told()).encode() + b"\n"


async def main():
    ledger = Ledger()
    server = await asyncio.get_running_loop().create_server(lambda: Line(ledger), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
