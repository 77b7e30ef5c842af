# SPDX-License-Identifier: Apache-2.0
"""A handler with `ipc: ring`. Aether lets it find the library; nothing is to be installed."""

import asyncio

import aetherless
from aetherless import Response


async def upper(request):
    async for piece in request:
        yield piece.upper()


async def count(most):
    for number in range(1, most + 1):
        yield f"{number}\n"
        await asyncio.sleep(0.1)


async def handler(request):
    if request.path == "/hello":
        return {"from": "python", "agent": request.headers.get("user-agent")}
    if request.path == "/upper":
        return Response(upper(request), headers={"Content-Type": "text/plain"})
    if request.path == "/count":
        return Response(count(int(request.query or 3)), headers={"Content-Type": "text/plain"})
    return Response("there is no such page\n", status=404)


aetherless.serve(handler)
