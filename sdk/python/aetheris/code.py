# SPDX-License-Identifier: Apache-2.0
"""@agent and @tool: what of a program is an agent, and which of its functions must not happen twice."""

import contextvars
import functools
import inspect

AGENTS = {}
POLICIES = ("once", "read", "keyed", "pure")

current = contextvars.ContextVar("aetheris_context", default=None)  # of the run whose code runs here
_key = contextvars.ContextVar("aetheris_key", default=None)


def idempotency_key():
    """Within a step of policy `keyed`: the same each time that the step is tried. Else None."""
    return _key.get()


class Tool:
    """A function that is a step of its own when an agent calls it; called elsewhere it is the function."""

    def __init__(self, function, name=None, policy="once", attempts=1, pause=1.0):
        if policy not in POLICIES:
            raise ValueError(f"policy is not one of {', '.join(POLICIES)}: {policy}")
        self.function, self.name = function, name or function.__name__
        self.policy, self.attempts, self.pause = policy, attempts, pause
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        context = current.get()
        if context is None:
            return self.function(*args, **kwargs)
        return context.step(self, *args, **kwargs)


def tool(function=None, *, name=None, policy="once", attempts=1, pause=1.0):
    """`policy`: what may happen after a crash in the middle: once (never again: a person is asked), read (again),
    keyed (again with the same idempotency_key()), pure (it touches nothing outside). `attempts`: of read and keyed
    when they raise, and of any that raises NotExecuted; `pause` seconds before the second, then twice as long."""

    def wrap(wrapped):
        return Tool(wrapped, name, policy, attempts, pause)

    return wrap if function is None else wrap(function)


class Agent:
    def __init__(self, function, name=None):
        self.function, self.name = function, name or function.__name__
        self.is_async = inspect.iscoroutinefunction(function)
        self.takes = len(inspect.signature(function).parameters)
        functools.update_wrapper(self, function)

    def __call__(self, context, given):
        return self.function(*(context, given)[: self.takes])


def agent(function=None, *, name=None):
    """The function gets (ctx, input), or ctx alone; what it returns is the job's output. `async def` works as well.
    Its name, or `name`, is the one under `agents:` in Aether's configuration."""

    def wrap(wrapped):
        made = Agent(wrapped, name)
        AGENTS[made.name] = made
        return made

    return wrap if function is None else wrap(function)


class inside_step:
    """The code of a step is not the agent's: tools that it calls are plain functions there."""

    def __init__(self, key):
        self.key = key

    def __enter__(self):
        self.tokens = current.set(None), _key.set(self.key)

    def __exit__(self, *_):
        current.reset(self.tokens[0])
        _key.reset(self.tokens[1])
