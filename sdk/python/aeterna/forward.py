# SPDX-License-Identifier: Apache-2.0
"""Passing a request on to the next revision, which listens on the same address."""

import os
import socket
import time

from .log import log

# How long the next revision may take until it can be connected to, and until it begins to answer.
CONNECT_PATIENCE = 5.0
ANSWER_PATIENCE = 60.0
HEAD_MAX = 64 << 10
_PIECE = 64 << 10

# Between two neighbours only (RFC 9110, 7.6.1), or settled by us already (Expect).
_HOP = {"connection", "keep-alive", "proxy-connection", "expect", "via"}


class Unanswered(Exception):
    """No answer came; `begun` tells whether the request may have been seen."""


def address_of(listener):
    """(family, address) at which the listener's socket is reached from this machine."""
    address = listener.getsockname()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
    return listener.family, (host,) + tuple(address[1:])


def via_token():
    return "aeterna-%d" % os.getpid()


def is_our_own(headers):
    """True if this process has passed the request on before: nobody else accepts any more."""
    return via_token() in headers.get("Via", "")


def _request_head(handler):
    lines = ["%s %s %s" % (handler.command, handler.path, handler.request_version)]
    for name, value in handler.headers.items():
        if name.lower() not in _HOP:
            lines.append("%s: %s" % (name, value))
    via = handler.headers.get("Via")
    lines.append("Via: %s1.1 %s" % (via + ", " if via else "", via_token()))
    lines.append("X-Forwarded-For: %s" % handler.client_address[0])
    lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _connect(family, address):
    deadline = time.monotonic() + CONNECT_PATIENCE
    while True:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(ANSWER_PATIENCE)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            if time.monotonic() > deadline:
                raise Unanswered("the next revision cannot be reached: %s" % error) from error
            time.sleep(0.01)


def _copy_body(source, target, length):
    while length > 0:
        piece = source.read(min(length, _PIECE))
        if not piece:
            raise Unanswered("the client did not send the whole request")
        target.sendall(piece)
        length -= len(piece)


def _read_head(sock):
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > HEAD_MAX:
            raise Unanswered("the head of the answer is longer than %d bytes" % HEAD_MAX)
        piece = sock.recv(_PIECE)
        if not piece:
            raise Unanswered("the next revision closed the connection without an answer")
        head += piece
        while head.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in head:
            head = head.split(b"\r\n\r\n", 1)[1]
    head, rest = head.split(b"\r\n\r\n", 1)
    return head.split(b"\r\n"), rest


def _answer_head(lines):
    kept = [lines[0]]
    for line in lines[1:]:
        if line.split(b":", 1)[0].strip().lower() not in (b"connection", b"keep-alive"):
            kept.append(line)
    kept.append(b"Connection: close")
    return b"\r\n".join(kept) + b"\r\n\r\n"


def forward(handler, listener, body, body_left):
    """Sends the handler's request to whoever accepts on the listener's address now, and its answer
    back with `Connection: close`, so that the client's next request goes there by itself.

    body: what was read of the body. body_left: how much of it is still in handler.rfile."""
    answered = False
    try:
        family, address = address_of(listener)
        with _connect(family, address) as upstream:
            upstream.sendall(_request_head(handler) + body)
            _copy_body(handler.rfile, upstream, body_left)
            lines, rest = _read_head(upstream)
            answered = True
            if any(line.lower().startswith(b"content-type: text/event-stream") for line in lines):
                handler.passed_stream = upstream  # ended when this process is: it may be endless
            handler.wfile.write(_answer_head(lines) + rest)
            upstream.settimeout(None)  # a stream may be silent for long
            while True:
                piece = upstream.recv(_PIECE)
                if not piece:
                    break
                handler.wfile.write(piece)
    except (Unanswered, OSError) as error:
        if answered:
            log.warning("the answer of the next revision was cut: %s", error)
        else:
            log.error("a request was not passed on: %s", error)
            handler.send_error(502, explain=str(error))
    finally:
        handler.passed_stream = None
        handler.close_connection = True
