# SPDX-License-Identifier: Apache-2.0
"""Answers questions about the machines here, from what the inventory says."""

from aetheris import agent, serve


@agent
def assistant(ctx, question):
    known = ctx.call("inventory", {"stdin": {"question": question}})["stdout"]
    return ctx.llm(f"Question: {question}\nKnown: {known}", model="local")


serve()
