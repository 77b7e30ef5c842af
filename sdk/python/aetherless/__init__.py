# SPDX-License-Identifier: Apache-2.0
"""aetherless: for handlers that Aether copies while they run (docs/handlers.md).

    import aetherless

    @aetherless.before_snapshot          # once, before the copies are made; the last one registered runs first
    def close_connections(): ...

    @aetherless.after_restore            # in each copy, before its first request; in the order of registration
    def connect_again(): ...

    aetherless.ready()                   # instead of connecting to AETHER_SOCKET and sending READY

Names and order are those of AWS Lambda's SnapStart. What must differ between copies, `random` for instance, is
renewed by itself: importing this module, or being started by Aether, which loads it into every Python handler,
is enough. No dependencies; Python 3.8 or newer. Without Aether everything does nothing.
"""

from .hooks import (
    Copy,
    after_restore,
    before_snapshot,
    install,
    is_copy,
    keep_random,
    register_after_restore,
    register_before_snapshot,
)


def ready():
    """Tells Aether that the handler is ready: call it once, when it listens or is about to. True if Aether was
    told; False without Aether (no AETHER_SOCKET)."""
    from .wire import ready as tell  # Sockets are loaded by those who need them

    return tell()


__all__ = [
    "Copy",
    "after_restore",
    "before_snapshot",
    "install",
    "is_copy",
    "keep_random",
    "ready",
    "register_after_restore",
    "register_before_snapshot",
]
