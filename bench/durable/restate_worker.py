# SPDX-License-Identifier: Apache-2.0
"""The steps as a service of Restate."""

import asyncio
import os

import hypercorn.asyncio
import hypercorn.config
import restate
from judged import Loop

JUDGE = Loop()
work = restate.Service("flow")


@work.handler()
async def run(ctx: restate.Context, given: dict) -> int:
    return await JUDGE.steps(given, ctx.run_typed)


config = hypercorn.config.Config()
config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
asyncio.run(hypercorn.asyncio.serve(restate.app([work]), config))
