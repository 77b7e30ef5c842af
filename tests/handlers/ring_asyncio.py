# SPDX-License-Identifier: Apache-2.0
# An asynchronous handler with `ipc: ring`.
import asyncio
import os
import random
import zlib

import aetherless
from aetherless import Response


async def stream(size):
    piece = bytes(range(256)) * 64
    while size > 0:
        yield piece[:size]
        size -= len(piece)


async def handler(request):
    if request.path == "/echo":
        return Response(request.__aiter__())
    if request.path == "/sum":
        size = checksum = 0
        async for chunk in request:
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
        return {"size": size, "crc": checksum}
    if request.path == "/bytes":
        return Response(stream(int(request.query)))
    if request.path == "/who":
        return str(os.getpid())
    if request.path == "/draw":
        return str(random.random())
    if request.path == "/slow":
        print("begun", flush=True)
        try:
            await asyncio.sleep(float(request.query))
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
        return "slow"
    return "hello from asyncio " + request.path


aetherless.serve(handler)
