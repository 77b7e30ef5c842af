# SPDX-License-Identifier: Apache-2.0
"""The steps as an agent of Aether."""

from aetheris import agent, serve
from judged import steps


@agent
def work(ctx, given):
    return steps(given, lambda name, code: ctx.step(code, name=name, policy=given["policy"]))


serve(at_once=64)
