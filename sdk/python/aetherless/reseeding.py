# SPDX-License-Identifier: Apache-2.0
"""What copies would share and must not: each entry says where it is remembered. Only modules that the program has
loaded are looked at. os.urandom(), secrets, uuid4() and random.SystemRandom ask the kernel and need nothing."""

import gc
import os
import sys
import threading

keep_random = False


def prepare():
    """In the original. What is alive now is taken out of the collector's sight, so that its walks do not write
    to (and so copy) the pages that all copies share: gc.freeze()."""
    gc.collect()
    gc.freeze()


def renew(frame):
    """In a copy."""
    for what in (_random, _numpy, _uuid, _tempfile, _openssl, _thread_number, _asyncio):
        module = what.__name__
        try:
            what(frame)
        except Exception as error:  # An old or odd version of a library is no reason not to serve
            print("[aetherless] %s could not be renewed: %r" % (module[1:], error), file=sys.stderr, flush=True)


def _random(_):
    module = sys.modules.get("random")
    if module is not None and not keep_random:
        module.seed()


def _numpy(_):
    module = sys.modules.get("numpy.random")
    if module is not None and not keep_random:
        module.seed()  # Of the old interface; what default_rng() gave to the program only the program can renew


def _uuid(_):
    module = sys.modules.get("uuid")
    if module is None:
        return
    module._last_timestamp = None
    # The C library's remembers a clock sequence; without it uuid1() draws one from `random` each time.
    if hasattr(module, "_generate_time_safe"):
        module._generate_time_safe = None


def _tempfile(_):
    module = sys.modules.get("tempfile")
    if module is not None:
        module._name_sequence = None


def _openssl(_):
    # It notices a fork by its process number, which is the same in a pid namespace of its own.
    for name in ("ssl", "_ssl"):
        module = sys.modules.get(name)
        if module is not None:
            module.RAND_add(os.urandom(32), 32.0)
            return


def _thread_number(_):
    if hasattr(threading, "get_native_id"):
        threading.current_thread()._native_id = threading.get_native_id()


def _asyncio(frame):
    """Before Python 3.12 a running loop is remembered together with the process number, and in a copy
    asyncio.get_running_loop() says that there is none."""
    module = sys.modules.get("asyncio")
    if module is None or sys.version_info >= (3, 12) or module._get_running_loop() is not None:
        return
    loop = _loop_of(frame, module)
    if loop is not None:
        module._set_running_loop(loop)


def _loop_of(frame, module):
    """The loop that was interrupted: by its frame, else (uvloop has none) the one that was set."""
    while frame is not None:
        if frame.f_code.co_name == "run_forever":
            loop = frame.f_locals.get("self")
            if isinstance(loop, module.AbstractEventLoop):
                return loop
        frame = frame.f_back
    local = getattr(module.get_event_loop_policy(), "_local", None)
    loop = getattr(local, "_loop", None)
    return loop if loop is not None and loop.is_running() else None
