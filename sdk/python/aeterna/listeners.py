# SPDX-License-Identifier: Apache-2.0
"""Listening sockets that were given to this process: fds from 3, as systemd passes them."""

import os
import socket
import stat

from .log import log

FIRST_FD = 3
FDS_MAX = 253


def _count():
    """How many sockets were passed. LISTEN_PID is checked; behind a wrapper (sh -c) only ours holds."""
    environment = os.environ
    pid = environment.get("LISTEN_PID")
    text = environment.get("LISTEN_FDS") if pid in (None, str(os.getpid())) else None
    if text is None:
        text = environment.get("AETERNA_INHERITED_FDS", "0")
    try:
        return max(0, min(int(text), FDS_MAX))
    except ValueError:
        log.warning("the number of inherited sockets is %r; ignored", text)
        return 0


def discover():
    """[(name, socket)] of the inherited fds. Clears the variables: they are not for our children."""
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(_count()):
        fd = FIRST_FD + index
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                log.warning("fd %d is not a socket; ignored", fd)
                continue
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
        except OSError as error:
            log.warning("fd %d cannot be used: %s", fd, error)
            continue
        name = names[index] if index < len(names) and names[index] else "listener%d" % index
        found.append((name, sock))
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "AETERNA_INHERITED_FDS"):
        os.environ.pop(variable, None)
    return found


def default_port():
    try:
        return int(os.environ.get("PORT", "8080"))
    except ValueError:
        log.warning("PORT=%r is not a number; using 8080", os.environ["PORT"])
        return 8080


def bind_own(port):
    """A listener of our own, for a program that runs without Aether."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
        )
    return socket.create_server(("", port), backlog=1024)


def bind_nowhere():
    """A listener that nobody knows of."""
    return socket.create_server(("127.0.0.1", 0))


def is_own_lane(sock):
    """True if connections in this socket's queue are for this revision only (steered)."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0
    except OSError:
        return False


def has_inherited():
    """True if sockets were passed to this process (before discover(), which clears the signs)."""
    return _count() > 0
