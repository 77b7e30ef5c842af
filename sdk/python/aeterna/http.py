# SPDX-License-Identifier: Apache-2.0
"""HTTPServer: http.server.ThreadingHTTPServer whose clients do not notice when it is replaced.

- It adopts the listener that Aether keeps for the service.
- Each request is a turn: a handoff waits for those that run; those that come meanwhile are held,
  and then answered by whoever has the memory: here, or by the next revision, to which this process
  passes them on (each connection once; the client is told to come back).
- Handlers of long answers (server-sent events) say `with self.stream() as stream:` and end when
  `stream.moved` is true; their clients reconnect to the next revision.
- SIGTERM: what is in flight is answered with `Connection: close`, then serve_forever() returns.
"""

import contextlib
import http.server
import io
import selectors
import signal
import socket
import threading
import time

from . import listeners
from .client import AeternaClient
from .forward import forward, is_our_own
from .relay import EXPORTED, RELEASED, RESUMED

__all__ = ["HTTPServer", "ThreadingHTTPServer"]

# A body up to this size is read before its turn begins, so that a slow client delays no handoff.
BODY_READ_AHEAD_MAX = 8 << 20
# Connections accepted in a row before anything else is looked at.
ACCEPTS_PER_ROUND = 64
# How long a request that came back to the process that passed it on waits for that to be resumed.
OWN_PATIENCE = 5.0
# After the last answer: how long to wait for the client's end, so that unread bytes do not reset
# the connection and take the answer with them (RFC 9112, 9.6).
LINGER = 1.0


class Stream:
    """A long answer. It does not hold up a handoff, and must end once it has `moved`."""

    def __init__(self, server):
        self._server = server

    @property
    def moved(self):
        """True once this process no longer has what the stream tells about."""
        return self._server.moved.is_set()

    def wait(self, timeout=None):
        """Waits until it has moved. False after `timeout` seconds."""
        return self._server.moved.wait(timeout)


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
    passed_stream = None  # the next revision's side of an event stream that is passed on

    def stream(self):
        """A context manager for a long answer; see Stream. What follows it is outside the turn."""
        return self._stream()

    @contextlib.contextmanager
    def _stream(self):
        if not self._streaming:
            self._streaming = True
            self.server.gate.step_out()
        self.close_connection = True
        yield Stream(self.server)

    def setup(self):
        super().setup()
        self.server.connection_began(self)

    def finish(self):
        try:
            super().finish()
        finally:
            self.server.connection_ended(self)

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
            self.close_connection = True
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
        if self.server.client.draining:
            self.close_connection = True

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

    def last_chance(self):
        """Draining: an idle connection gets no further request, unless one has come already; a
        stream that is passed on ends, and its client comes back to the next revision itself."""
        ending = self.connection if self._idle else self.passed_stream
        try:
            if ending is not None:
                ending.shutdown(socket.SHUT_RD)
        except OSError:
            pass


def relaying(handler):
    if issubclass(handler, RelayingHandler):
        return handler
    return type(handler.__name__, (RelayingHandler, handler), {"__module__": handler.__module__})


class HTTPServer(http.server.ThreadingHTTPServer):
    """As http.server.ThreadingHTTPServer. `address` is used only where Aether gives no listener;
    None means $PORT or 8080. `name` chooses among several listeners."""

    daemon_threads = True
    request_queue_size = 1024
    idle_grace = 1.0  # at SIGTERM after a swap: how long an idle client may still send a request
    drain_timeout = 8.0  # at SIGTERM: how long answers and streams may take to end

    def __init__(self, address, handler, bind_and_activate=True, client=None, name=None):
        self.client = client or AeternaClient()
        self.gate = self.client._relay.gate
        self.moved = threading.Event()
        self._name = name
        self._address = address
        self._connections = set()
        self._changed = threading.Condition()
        self._own_lane = True
        self._accepting = True
        self._terminate = False
        self._stop = False
        self._ended = threading.Event()
        self._ended.set()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        super().__init__(address or ("", 0), relaying(handler), bind_and_activate)
        self.client._relay.watchers.append(self._on_event)
        self.client.on_drain(self.moved.set)

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
        deadline = time.monotonic() + self.drain_timeout
        if self._accepting:
            self._accept_waiting()
        self._accepting = False
        self.client.drain()
        if not self._wait_connections(time.monotonic() + self.idle_grace):
            for handler in list(self._connections):
                handler.last_chance()
            self._wait_connections(deadline)

    def _wait_connections(self, deadline):
        with self._changed:
            while self._connections:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    # ---- connections ---------------------------------------------------------------------------

    def connection_began(self, handler):
        with self._changed:
            self._connections.add(handler)

    def connection_ended(self, handler):
        with self._changed:
            self._connections.discard(handler)
            self._changed.notify_all()

    def shutdown_request(self, request):
        try:
            request.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + LINGER
            request.settimeout(LINGER)
            while request.recv(65536) and time.monotonic() < deadline:
                pass
        except OSError:
            pass
        self.close_request(request)

    # ---- the handoff ---------------------------------------------------------------------------

    def _on_event(self, event, body):
        if event == EXPORTED and not self._own_lane:
            self._accepting = False  # who comes now waits in the queue for whoever will have the memory
        elif event == RELEASED:
            # The stragglers of an own listener would be lost; those of a shared one are the next one's.
            self._accepting = bool(body.get("accept", self._own_lane))
        elif event == RESUMED:
            self.moved.clear()
            self._accepting = True
        self._wake()


ThreadingHTTPServer = HTTPServer


def _empty(sock):
    try:
        while sock.recv(4096):
            pass
    except OSError:
        pass
