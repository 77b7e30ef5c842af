# SPDX-License-Identifier: Apache-2.0
"""The gate: turns go in while it is open; a handoff closes it and waits until nobody is inside."""

import contextvars
import threading
import time

OPEN = "open"
QUIESCED = "quiesced"  # memory is being handed over: new turns wait
RELEASED = "released"  # the next revision has the memory: new turns belong to it

# How deep this thread (or asyncio task) is inside turns: a turn inside a turn is part of it.
_depth = contextvars.ContextVar("aeterna_turn_depth", default=0)


def step_inside():
    """What runs in this context from now on belongs to a turn: it does not wait at the gate."""
    _depth.set(_depth.get() + 1)


class Gate:
    def __init__(self):
        self.reset()

    def reset(self):
        """As new: in a child of fork() the threads that were inside, or held the lock, are gone."""
        self._changed = threading.Condition(threading.Lock())
        self._state = OPEN
        self._inside = 0

    @property
    def state(self):
        return self._state

    def enter(self, wait=True, patience=0.0):
        """Waits while quiesced. True: inside, call leave(). False: released, or would have waited.

        With `patience` it waits so many seconds for a released gate to open again."""
        depth = _depth.get()
        if depth == 0:
            with self._changed:
                while self._state == QUIESCED:
                    if not wait:
                        return False
                    self._changed.wait()
                if self._state == RELEASED and patience:
                    self._changed.wait_for(lambda: self._state == OPEN, patience)
                if self._state != OPEN:
                    return False
                self._inside += 1
        _depth.set(depth + 1)
        return True

    def leave(self):
        depth = _depth.get()
        _depth.set(depth - 1)
        if depth == 1:
            with self._changed:
                self._inside -= 1
                if self._inside == 0:
                    self._changed.notify_all()

    def step_out(self):
        """Leaves however deep this is; returns what step_in() needs to come back."""
        depth = _depth.get()
        if depth:
            _depth.set(1)
            self.leave()
        return depth

    def begin_closing(self):
        """Lets nobody in any more. False if it did so already."""
        with self._changed:
            if self._state != OPEN:
                return False
            self._state = QUIESCED
            return True

    def await_empty(self, deadline):
        """True once nobody is inside; False at the deadline. It stays closed either way."""
        with self._changed:
            while self._inside > 0:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def open(self):
        self._set(OPEN)

    def release(self):
        self._set(RELEASED)

    def _set(self, state):
        with self._changed:
            self._state = state
            self._changed.notify_all()

    @property
    def inside(self):
        return self._inside
