# SPDX-License-Identifier: Apache-2.0
"""Hooks of the program: called by the SDK's thread, never for longer than a handoff may take."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
import time

from . import gate

# on_resume runs when nobody is waiting with a deadline; even so it must not stop the service.
RESUME_PATIENCE = 5.0


class TooLate(RuntimeError):
    """A hook did not return in time. It may still run; nobody waits for it any more."""


class Hook:
    """A function, called on a thread of its own; or a coroutine function, called on the loop that
    was running when it was registered. A turn() inside a hook does not wait for the handoff."""

    def __init__(self, name, function):
        self._name = name
        self._function = function
        self._loop = asyncio.get_running_loop() if inspect.iscoroutinefunction(function) else None
        self._running = None

    def call(self, deadline, *arguments):
        """What the hook returns. Raises what it raises, or TooLate."""
        if self._running is not None and not self._running.done():
            raise TooLate("%s is still running since an earlier handoff" % self._name)
        context = contextvars.copy_context()
        context.run(gate.step_inside)
        if self._loop is not None:
            self._running = context.run(self._submit, arguments)
        else:
            self._running = _in_thread(context, self._function, arguments)
        try:
            return self._running.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError:
            if self._running.done():  # the hook's own TimeoutError
                raise
            self._running.cancel()
            raise TooLate("%s did not return in time" % self._name) from None
        except concurrent.futures.CancelledError as error:
            raise RuntimeError("%s was cancelled" % self._name) from error

    def _submit(self, arguments):
        # call_soon_threadsafe takes this thread's context along, so the task is inside a turn.
        return asyncio.run_coroutine_threadsafe(self._function(*arguments), self._loop)


def _in_thread(context, function, arguments):
    future = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # a thread cannot be cancelled: it runs until it is done

    def run():
        try:
            result = context.run(function, *arguments)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="aeterna-hook", daemon=True).start()
    return future
