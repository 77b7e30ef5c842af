# SPDX-License-Identifier: Apache-2.0
"""A network of a test's own, for settings of the kernel that a test must not change for others."""

import ctypes
import fcntl
import os
import socket
import struct
import threading

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914


def enter():
    """This thread, and what it starts, from now on; the reason if it may not be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # UP, RUNNING
    return None


def in_own_network(body, **settings):
    """Runs body() in a thread whose network, and that of what it starts, has only a loopback interface; `settings`
    are names and values below /proc/sys/net/ipv4."""
    outcome = {}

    def run():
        outcome["refused"] = enter()
        if outcome["refused"]:
            return
        try:
            for name, value in settings.items():
                with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as file:
                    file.write(str(value))
            body()
        except BaseException as error:  # It is raised again where the test can see it.
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome["refused"]:
        pytest.skip(f"a network of its own is not allowed here: {outcome['refused']}")
    if "error" in outcome:
        raise outcome["error"]
