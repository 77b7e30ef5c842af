# SPDX-License-Identifier: Apache-2.0
"""When hooks run, and in which order.

Aether sends SIGURG twice: to the original when its snapshot comes, and to each copy before its first request. A
Python that waits in poll() for that request runs the handler of the signal first. Whether this is a copy tells a
page of memory that the kernel empties in a fork (MADV_WIPEONFORK): copies are forks, whatever Python knows of it.
"""

import mmap
import os
import signal
import sys
import threading

from . import reseeding

HOOK_SIGNAL = signal.SIGURG
_MADV_WIPEONFORK = 18  # man 2 madvise; Python's mmap has no name for it


class Copy:
    """What a copy knows of itself: `instance` and 16 bytes `seed` from Aether, None without a connection."""

    def __init__(self, instance=None, seed=None):
        self.instance = instance
        self.seed = seed


class _State:
    """One a process."""

    def __init__(self):
        self.before = []
        self.after = []
        self.installed = False
        self.page = None
        self.pid = os.getpid()
        self.prepared = False
        self.copy = None
        self.chained = None
        self.frame = None  # Of the program, while the signal is answered
        self.listeners = []  # Called at the signal, before anything else: wire.py reads its connection


_state = _State()


def register_before_snapshot(function, *args, **kwargs):
    """`function` runs once, in the original, before copies are made of it. Those registered last run first."""
    install()
    _state.before.append((function, args, kwargs))
    return function


def register_after_restore(function, *args, **kwargs):
    """`function` runs in each copy before its first request, in the order of registration."""
    install()
    _state.after.append((function, args, kwargs))
    return function


before_snapshot = register_before_snapshot
after_restore = register_after_restore


def keep_random():
    """The program seeds `random` itself and wants the same numbers in every copy: only that is left alone."""
    reseeding.keep_random = True


def is_copy():
    """What this copy was told, as a Copy; None in the original and in programs that nobody copied."""
    return _state.copy


def install():
    """Waits for Aether's signal. False if this is no main thread, or somebody else waits for SIGURG there."""
    if _state.installed:
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    _state.page = _wiped_page()
    _state.pid = os.getpid()
    previous = signal.signal(HOOK_SIGNAL, _on_signal)
    _state.chained = previous if callable(previous) else None
    _state.installed = True
    return True


def _wiped_page():
    """A page that holds 1, and 0 in a fork; None where the kernel cannot do that (before Linux 4.14)."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):
        return None
    page[0] = 1
    return page


def _was_copied():
    if _state.page is not None:
        return _state.page[0] == 0
    return os.getpid() != _state.pid or _state.prepared


def _on_signal(number, frame):
    _state.frame = frame
    for listener in _state.listeners:
        listener()
    if _was_copied():
        restored(Copy())
    elif not _state.prepared:
        prepare()
    _state.frame = None
    if _state.chained is not None:
        _state.chained(number, frame)


def _run(entry, when):
    function, args, kwargs = entry
    try:
        function(*args, **kwargs)
    except Exception as error:
        print("[aetherless] %s hook %r failed: %r" % (when, function, error), file=sys.stderr, flush=True)
        raise


def prepare():
    """In the original, before its copies are made. Once."""
    if _state.prepared:
        return
    _state.prepared = True
    for entry in reversed(_state.before):
        _run(entry, "before_snapshot")
    reseeding.prepare()


def restored(copy):
    """In a copy. The second call only adds what the first did not know."""
    if _state.copy is not None:
        if copy.seed is not None:
            _state.copy.instance, _state.copy.seed = copy.instance, copy.seed
        return
    _state.copy = copy
    if _state.page is not None:
        _state.page[0] = 1  # A copy of this copy, os.fork() for instance, is none of Aether's
    reseeding.renew(_state.frame)
    for entry in _state.after:
        _run(entry, "after_restore")
