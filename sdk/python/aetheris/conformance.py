# SPDX-License-Identifier: Apache-2.0
"""The agent that `aether conformance worker --command 'python3 -m aetheris.conformance'` asks for."""

import os
import time

from aetheris import agent, idempotency_key, serve, tool


def note(file, text):
    """The suite counts these lines: each is something that happened outside."""
    with open(file, "ab", buffering=0) as out:
        out.write(f"{text}\n".encode())
    return text


@tool
def first(file):
    return note(file, "first")


@tool
def last(file):
    return note(file, "last")


@tool
def slow(file):
    time.sleep(1.5)
    return note(file, "slow")


@tool(policy="read")
def read(file):
    return note(file, "read")


@tool(policy="keyed")
def keyed(file):
    return note(file, f"keyed {idempotency_key()}")


@tool
def bad(file):
    note(file, "bad")
    raise ValueError("no such luck")


@agent
def conformance(ctx, given):
    file = given["file"]
    if given["do"] == "slow":
        return slow(file)
    if given["do"] == "fail":
        return bad(file)
    if os.environ.get("CONFORMANCE_OTHER"):
        ctx.step("other", note, file, "other")
    first(file)
    read(file)
    keyed(file)
    pure = ctx.step("pure", lambda: 7, policy="pure")
    said = ctx.llm("say hello")
    ctx.sleep(0.001)
    go = ctx.wait("go")
    approved = ctx.approve("Go on?").approved
    last(file)
    return {"pure": pure, "said": said, "go": go, "approved": approved}


if __name__ == "__main__":
    serve()
