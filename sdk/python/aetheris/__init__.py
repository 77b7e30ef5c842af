# SPDX-License-Identifier: Apache-2.0
"""Durable agents in Python: a function whose steps are recorded, and go on where they were after any crash.

    from aetheris import agent, tool, serve

    @tool                                  # called at most once, whatever crashes
    def refund(order): ...

    @agent
    def clerk(ctx, input):
        if ctx.approve(f"Refund {input['order']}?"):
            return refund(input["order"])

    serve()

And the client: `AetherisClient("http://localhost:8080").run("clerk", {"order": 7}).wait().output`.
"""

from .branches import AsyncContext
from .client import AetherisClient, AetherisError, Job, JobFailedError, JobStatus, TimeoutError  # noqa: A004
from .code import Agent, Tool, agent, idempotency_key, tool
from .context import (
    Context,
    Decision,
    GiveBack,
    NotExecuted,
    Retryable,
    StepFailed,
    TimedOut,
    Unknown,
)
from .worker import Worker, serve

__all__ = [
    "AetherisClient", "AetherisError", "Agent", "AsyncContext", "Context", "Decision", "GiveBack", "Job",
    "JobFailedError", "JobStatus", "NotExecuted", "Retryable", "StepFailed", "TimedOut", "TimeoutError", "Tool",
    "Unknown", "Worker", "agent", "idempotency_key", "serve", "tool",
]  # fmt: skip
