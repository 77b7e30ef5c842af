# SPDX-License-Identifier: Apache-2.0
# A handler with `ipc: ring`, one request after another (or THREADS of them at once).
import os
import random
import signal
import time
import zlib

import aetherless
from aetherless import Response


def stream(size):
    piece = bytes(range(256)) * 64
    while size > 0:
        yield piece[:size]
        size -= len(piece)


def die(after):
    yield b"x" * after
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


def poison(how):
    """Writes into the ring that Aether reads, past the library."""
    line = SERVER[0].line
    writer, position = line.writer, line.writer.tail
    if how == "sequence":
        writer.sequence += 7
    messages = {"message": b"\0\0\0\0\x63\0\0\0", "call": b"\xff\xff\xff\x7f\4\0\0\0x"}
    writer.write(messages.get(how, b"\0" * 16))
    word = writer.lead(position)
    if how == "crc":
        writer.data[(position & writer.mask) + 24] ^= 1
    elif how == "length":
        writer.words[word] = writer.words[word] & ~0xFFFFFFFF | 0x7FFFFFF0
    elif how == "head":
        line.reader.words[256 // 8] = 1 << 40
    os.write(line.bell, b"\1")
    time.sleep(60)


def handler(request):
    if request.path == "/echo":
        return Response(iter(request), headers={"X-Method": request.method})
    if request.path == "/sum":
        size = checksum = 0
        for chunk in request:
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
        return {"size": size, "crc": checksum}
    if request.path == "/bytes":
        return Response(stream(int(request.query)))
    if request.path == "/who":
        return str(os.getpid())
    if request.path == "/draw":
        return str(random.random())
    if request.path == "/slow":
        time.sleep(float(request.query))
        return "slow"
    if request.path == "/fail":
        raise RuntimeError("as it was asked to")
    if request.path == "/die":
        return Response(die(int(request.query or 0))) if request.query else os.kill(os.getpid(), signal.SIGKILL)
    if request.path == "/poison":
        return poison(request.query)
    if request.path == "/headers":
        return dict(request.headers)
    return Response("hello from python " + request.path, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


SERVER = []
if __name__ == "__main__":
    from aetherless import serving, wire

    SERVER.append(serving.Server(handler, int(os.environ.get("THREADS", "1"))))
    SERVER[0].run(wire.ready)
