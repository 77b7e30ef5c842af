# SPDX-License-Identifier: Apache-2.0
"""HTTPServer: http.server.ThreadingHTTPServer whose clients do not notice when it is replaced.

- It adopts the listener that Aether keeps for the service.
- Each request is a turn: a handoff waits for those that run; those that come meanwhile are held,
  and then answered by whoever has the memory: here, or by the next revision, to which this process
  passes them on (each connection once; the client is told to come back).
- Handlers of long answers (server-sent events) say `with self.stream() as stream:` and end when
  `stream.moved` is true; their clients reconnect to the next revision.
- When it is replaced, each connection is answered once more, with `Connection: close`. Idle ones
  are kept as long as the drain allows, since a request that meets a closed socket is lost; the last
  ones are closed at random moments before its deadline. Streams end likewise (where memory moved,
  as soon as it has).
- SIGTERM: what is in flight is answered, then serve_forever() returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import io
import selectors
import signal
import socket
import struct
import termios
import threading
import time
from typing import Any, Iterator, Optional, Tuple

from . import listeners
from .client import AeternaClient
from .drain_plan import random_share
from .forward import forward, is_our_own
from .relay import DRAINED, EXPORTED, RELEASED, RESUMED

__all__ = ["HTTPServer", "ThreadingHTTPServer"]

# A body up to this size is read before its turn begins, so that a slow client delays no handoff.
BODY_READ_AHEAD_MAX = 8 << 20
# Connections accepted in a row before anything else is looked at.
ACCEPTS_PER_ROUND = 64
# How long a request that came back to the process that passed it on waits for that to be resumed.
OWN_PATIENCE = 5.0
# After the last answer the client's end is waited for, so that unread bytes do not reset the
# connection and take the answer with them (RFC 9112, 9.6): until it has been quiet for so long, and
# has all that was sent; and how long at most.
LINGER = 1.0
LINGER_MAX = 10.0
# How long DRAIN may come after SIGTERM, which takes another way.
PLAN_PATIENCE = 0.2
SIOCOUTQ = termios.TIOCOUTQ  # bytes that the client has not acknowledged (man 7 tcp)


class Stream:
    """A long answer. It does not hold up a handoff, and must end once it has `moved`."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    @property
    def moved(self) -> bool:
        """True once this answer should end, so that its client comes back to the next revision."""
        return self._event.is_set()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until it has moved. False after `timeout` seconds."""
        return self._event.wait(timeout)


class BodyError(Exception):
    """The body cannot be read; `status` is the answer."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


class RelayingHandler:
    """What HTTPServer puts before a BaseHTTPRequestHandler class."""

    disable_nagle_algorithm = True
    _idle = True
    _streaming = False
    _interim = False
    _ending = False
    passed_stream = None  # the next revision's side of an event stream that is passed on

    def stream(self) -> contextlib.AbstractContextManager[Stream]:
        """A context manager for a long answer; see Stream. What follows it is outside the turn."""
        return self._stream()

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Stream]:
        if not self._streaming:
            self._streaming = True
            self.server.gate.step_out()
        self.close_connection = True
        yield Stream(self._moved)

    def setup(self):
        super().setup()
        self._moved = threading.Event()
        self.server.connection_began(self.request, self)

    def handle_expect_100(self):
        self._interim = True
        try:
            return super().handle_expect_100()
        finally:
            self._interim = False

    def end_headers(self):
        if self.server.client.draining and not self._interim:
            self.send_header("Connection", "close")
        super().end_headers()

    def handle_one_request(self):
        try:
            self._handle_one_request()
        except TimeoutError as error:
            self.log_error("Request timed out: %r", error)
            self.close_connection = True
        except ConnectionError:
            self.close_connection = True
        finally:
            self._idle = True

    def _handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        self._idle = False
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.raw_requestline:
            # It was told that it is the last chance, and a request came in that very moment.
            self.close_connection = not (self._ending and _has_input(self.connection))
            return
        if not self.parse_request():
            return
        try:
            body, left = self._read_ahead()
        except BodyError as error:
            self.send_error(error.status)
            self.close_connection = True
            return
        # What this process passed on and got back itself: the swap is being taken back, and
        # this one has the memory again in a moment.
        patience = OWN_PATIENCE if is_our_own(self.headers) else 0.0
        if self.server.gate.enter(patience=patience):
            self._answer(body, left)
        elif patience:
            self.send_error(503, explain="the next revision does not accept connections")
            self.close_connection = True
        else:
            forward(self, self.server.socket, body, left)

    def _answer(self, body, left):
        connection_file = self.rfile
        self._streaming = False
        try:
            method = getattr(self, "do_" + self.command, None)
            if method is None:
                self.send_error(501, "Unsupported method (%r)" % self.command)
                return
            if left == 0:
                self.rfile = io.BytesIO(body)
            method()
            self.wfile.flush()
        finally:
            self.rfile = connection_file
            if not self._streaming:
                self.server.gate.leave()
        # A client that was not told `Connection: close` may be sending its next request already: only
        # what end_headers() told it ends this connection.

    def _read_ahead(self):
        """(what was read of the body, how much of it is left). A chunked body stays chunked."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunked(), 0
        length = self.headers.get("Content-Length", "0").strip()
        if not length.isdigit():
            raise BodyError(400)
        length = int(length)
        if length > BODY_READ_AHEAD_MAX:
            return b"", length
        body = self.rfile.read(length) if length else b""
        if len(body) < length:
            raise ConnectionAbortedError("the client left in the middle of a request")
        return body, 0

    def _read_chunked(self):
        raw = io.BytesIO()
        size = -1
        while size != 0:
            line = self.rfile.readline(1024)
            raw.write(line)
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise BodyError(400) from None
            if size < 0 or raw.tell() + size > BODY_READ_AHEAD_MAX:
                raise BodyError(413)
            raw.write(self.rfile.read(size + 2) if size else self._read_trailers())
        return raw.getvalue()

    def _read_trailers(self):
        lines = b""
        while len(lines) < 65536:
            line = self.rfile.readline(8192)
            lines += line
            if line in (b"\r\n", b"\n", b""):
                return lines
        raise BodyError(431)

    def end_idle(self):
        """An idle connection gets no further request, unless one has come already; a stream ends,
        and its client comes back to the next revision itself. A busy one is not touched."""
        self._moved.set()
        ending = self.connection if self._idle else self.passed_stream
        try:
            if ending is not None:
                self._ending = ending is self.connection
                ending.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    @property
    def can_end(self):
        """Idle, or a stream."""
        return self._idle or self._streaming or self.passed_stream is not None


def relaying(handler):
    if issubclass(handler, RelayingHandler):
        return handler
    return type(handler.__name__, (RelayingHandler, handler), {"__module__": handler.__module__})


class HTTPServer(http.server.ThreadingHTTPServer):
    """As http.server.ThreadingHTTPServer. `address` is used only where Aether gives no listener;
    None means $PORT or 8080. `name` chooses among several listeners."""

    daemon_threads = True
    request_queue_size = 1024
    # At a SIGTERM that is not part of a swap: how long an idle client may still send a request, and
    # how long answers and streams may take to end. In a swap Aether says how long: drain.timeout.
    idle_grace = 1.0
    drain_timeout = 8.0
    # Streams tell of the memory, so they end when it has moved. False: they stay until the drain
    # ends them, as those of a service without memory do.
    streams_follow_memory = True

    def __init__(
        self,
        address: Optional[Tuple[str, int]],
        handler: Any,
        bind_and_activate: bool = True,
        client: Optional[AeternaClient] = None,
        name: Optional[str] = None,
    ) -> None:
        self.client = client or AeternaClient()
        self.gate = self.client._relay.gate
        self.plan = self.client._relay.plan
        self._name = name
        self._address = address
        self._connections = {}  # socket -> _Connection, from accept() until it is closed
        self._closer = None
        self._changed = threading.Condition()
        self._own_lane = True
        self._accepting = True
        self._terminate = False
        self._hurry = False
        self._ends_all = False
        self._stop = False
        self._ended = threading.Event()
        self._ended.set()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        super().__init__(address or ("", 0), relaying(handler), bind_and_activate)
        self.client._relay.watchers.append(self._on_event)

    # ---- the listener --------------------------------------------------------------------------

    def server_bind(self):
        if self._address is None or self.client.managed or self.client.has_listener():
            self.socket.close()
            self.socket = self.client.get_listener_socket(self._name)
            self.address_family = self.socket.family
        else:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self._address)
        self._own_lane = listeners.is_own_lane(self.socket)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def server_activate(self):
        if not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self.socket.listen(self.request_queue_size)
        self.socket.setblocking(False)

    # ---- the loop ------------------------------------------------------------------------------

    def serve_forever(self, poll_interval=None):
        """Accepts until shutdown() or SIGTERM; after SIGTERM until what is in flight is answered."""
        self._ended.clear()
        restore = self._take_sigterm()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_out, selectors.EVENT_READ)
                self._serve(selector)
            if self._terminate:
                self._drain()
        finally:
            restore()
            self._ended.set()

    def _serve(self, selector):
        watching = False
        while not self._stop and not self._terminate:
            if watching != self._accepting:
                watching = self._accepting
                if watching:
                    selector.register(self.socket, selectors.EVENT_READ)
                else:
                    selector.unregister(self.socket)
            for key, _ in selector.select():
                if key.fileobj is self._wake_out:
                    _empty(self._wake_out)
                elif self._accepting:
                    self._accept_waiting()
            self.service_actions()

    def _accept_waiting(self):
        for _ in range(ACCEPTS_PER_ROUND):
            try:
                request, address = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self.client_error(error)
                return
            try:
                with self._changed:
                    self._connections[request] = _Connection()
                self.process_request(request, address)
            except Exception:
                self.handle_error(request, address)
                self.shutdown_request(request)

    def client_error(self, error):
        """accept() failed, for want of descriptors or memory: the connection waits in the queue."""
        time.sleep(0.02)

    def shutdown(self):
        """Makes serve_forever() return without waiting for anything."""
        self._stop = True
        self._wake()
        self._ended.wait()

    def _wake(self):
        try:
            self._wake_in.send(b"x")
        except OSError:
            pass

    def _take_sigterm(self):
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return lambda: None

        def terminate(number, frame):
            if self._terminate:  # the second one
                self._hurry = True
            self._terminate = True
            self._wake()

        signal.signal(signal.SIGTERM, terminate)
        return lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # ---- the end -------------------------------------------------------------------------------

    def drain(self):
        """What SIGTERM does, for handlers of your own and other threads."""
        self._terminate = True
        self._wake()

    def _drain(self):
        began = time.monotonic()
        if self._accepting:
            self._accept_waiting()
        self._accepting = False
        self.client.drain()
        if self.client.managed:  # a drain of a swap is announced
            self._wait_connections(began + PLAN_PATIENCE, lambda: self.plan.announced)
        if not self.plan.announced:
            self._end_streams()
            if not self._wait_connections(began + self.idle_grace, lambda: self.plan.announced):
                if not self.plan.announced:
                    self._end_all()
        self._wait_connections(began + self.drain_timeout)

    def _wait_connections(self, deadline, until=lambda: False):
        """True once there is no connection. A plan that is announced moves the deadline."""
        with self._changed:
            while self._connections and not until():
                by = self.plan.over_by
                left = max(deadline, by or 0.0) - time.monotonic()
                if self._hurry or (self._ends_all and not self.plan.announced):
                    self._end_all()  # again: who was busy the first time may be idle by now
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.5))  # 0.5: the second SIGTERM cannot notify
        return not self._connections

    def _end_streams(self):
        for connection in list(self._connections.values()):
            if connection.handler is not None:
                connection.handler._moved.set()

    def _end_all(self):
        self._ends_all = True
        for connection in list(self._connections.values()):
            if connection.handler is not None:
                connection.handler.end_idle()

    def _close_as_planned(self):
        """Runs beside the server from DRAIN on: ends each connection at a moment of its own."""
        while self.plan.announced:
            nearest = 1.0
            with self._changed:
                connections = list(self._connections.values())
            for connection in connections:
                handler = connection.handler
                if handler is None or connection.ended:
                    continue
                left = self.plan.left(connection.share)
                if left > 0:
                    nearest = min(nearest, left)
                elif handler.can_end:
                    connection.ended = True
                    handler.end_idle()
                else:
                    nearest = min(nearest, 0.05)
            with self._changed:
                self._changed.wait(nearest)

    # ---- connections ---------------------------------------------------------------------------

    def connection_began(self, request, handler):
        with self._changed:
            self._connections.setdefault(request, _Connection()).handler = handler

    def shutdown_request(self, request):
        try:
            request.shutdown(socket.SHUT_WR)
            _read_until_quiet(request)
        except OSError:
            pass
        self.close_request(request)
        with self._changed:
            self._connections.pop(request, None)
            self._changed.notify_all()

    # ---- the handoff ---------------------------------------------------------------------------

    def _on_event(self, event, body):
        if event == EXPORTED and not self._own_lane:
            self._accepting = False  # who comes now waits in the queue for whoever will have the memory
        elif event == RELEASED:
            # The stragglers of an own listener would be lost; those of a shared one are the next one's.
            self._accepting = bool(body.get("accept", self._own_lane))
            if self.streams_follow_memory:
                self._end_streams()
        elif event == DRAINED:
            with self._changed:
                if self._closer is None or not self._closer.is_alive():
                    self._closer = threading.Thread(
                        target=self._close_as_planned, name="aeterna-drain", daemon=True
                    )
                    self._closer.start()
                self._changed.notify_all()
        elif event == RESUMED:
            self._accepting = True
        self._wake()


ThreadingHTTPServer = HTTPServer


class _Connection:
    """What the server knows of one. `share` says when in the spread of a drain it ends."""

    def __init__(self):
        self.handler = None  # set once its thread runs
        self.share = random_share()
        self.ended = False


def _has_input(sock):
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _read_until_quiet(sock):
    """Until the client's end, or until it says nothing more and has all that was sent to it."""
    deadline = time.monotonic() + LINGER_MAX
    sock.settimeout(LINGER)
    while time.monotonic() < deadline:
        try:
            if not sock.recv(65536):
                return
        except socket.timeout:
            left = fcntl.ioctl(sock, SIOCOUTQ, b"\0\0\0\0")
            if struct.unpack("i", left)[0] == 0:
                return


def _empty(sock):
    try:
        while sock.recv(4096):
            pass
    except OSError:
        pass
