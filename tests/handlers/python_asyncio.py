#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""asyncio, which remembers the process number of its loop before Python 3.12. Says READY by the hook library."""
import asyncio
import json
import os
import random

import aetherless


async def answer(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.001)  # Fails where the running loop is not known
        body = json.dumps({"language": "python", "pid": os.getpid(), "random": random.random()}).encode() + b"\n"
        head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        writer.write(head.encode() + body)
        await writer.drain()
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["AETHER_TRIGGER_PORT"]))
    aetherless.ready()
    await server.serve_forever()


asyncio.run(main())
