# SPDX-License-Identifier: Apache-2.0
"""The state check: a throwaway process of the new revision that only reads a copy of the memory."""

import os
import sys

from . import state

FAILED = 3


def is_on():
    return os.environ.get("AETERNA_CHECK_STATE") == "1"


def finish(value, connected):
    """The memory was read; can this program give it away again? Ends the process."""
    if not connected:
        fail("there is no conversation with Aether")
    try:
        encoded = state.encode(value)
        again = state.decode(encoded.format, encoded.data)
        if encoded.format == "json" and again != value:
            raise ValueError("JSON does not give the same memory back")
    except Exception as error:
        fail("the memory was read, but cannot be handed over again: %r" % error)
    _end(0, "the memory can be read: %d bytes of %s" % (encoded.size, encoded.format))


def fail(text):
    _end(FAILED, text)


def _end(code, text):
    """What comes after load_context() must not happen in this process."""
    print("[Aeterna-SDK] state check: %s" % text, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        pass
    os._exit(code)
