# SPDX-License-Identifier: Apache-2.0
"""aetherless.serve(): requests that come through a ring, one after another or in threads."""

import queue
import signal
import sys
import threading
import traceback

from .exchange import Gone
from .line import Closed, Line
from .message import Request, encoded, head_of, response_of, whole_body

class Server:
    """`threads` 1: the handler runs on the thread that reads the ring. More: on that many others."""

    def __init__(self, handler, threads):
        self.handler = handler
        self.line = Line()
        self.lock = threading.Lock()
        self.moved = threading.Condition(self.lock)
        self.ready = queue.SimpleQueue()
        self.threads = threads
        self.open = 0
        self.stopping = False
        self.idle = False

    def run(self, say_ready):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.stop)
            self.line.hear_signals()
        self.line.attach()
        for _ in range(self.threads if self.threads > 1 else 0):
            threading.Thread(target=self.work, daemon=True).start()
        say_ready()
        try:
            while not (self.stopping and self.open == 0):
                self.turn()
        except Closed as error:
            if str(error) and not self.stopping:
                print("[aetherless] %s" % error, file=sys.stderr, flush=True)

    def stop(self, *_):
        self.stopping = True
        if self.idle and self.open == 0:
            raise SystemExit(0)

    def turn(self):
        """Takes what came, and waits when nothing did."""
        self.pump()
        if self.threads == 1:
            try:
                call = self.ready.get_nowait()
            except queue.Empty:
                self.rest()
            else:
                self.answer(call)
        else:
            self.rest()

    def rest(self):
        self.idle = True
        try:
            if not (self.stopping and self.open == 0):
                self.wait()
        finally:
            self.idle = False

    def wait(self):
        if self.threads == 1:
            return self.line.wait()
        with self.lock:
            asleep = self.line.must_wait()
        if asleep:
            self.line.poll.poll()
            with self.lock:
                self.line.heard()
        with self.lock:
            self.line.flush()

    def pump(self):
        with self.lock:
            calls = self.line.receive()
            for call in calls:
                # The first thing that is heard of a call is its beginning.
                if call.head is not None:
                    self.open += 1
                    self.ready.put(call)
                    call.waiter, call.head = Request(call.head), None
            self.line.flush()
            if self.threads > 1 and calls:
                self.moved.notify_all()

    def work(self):
        while True:
            self.answer(self.ready.get())

    def until(self, look):
        """Waits until `look`, which is called with the lock, gives something else than None."""
        with self.lock:
            while True:
                found = look()
                self.line.flush()
                if found is not None:
                    return found
                if self.threads > 1:
                    self.moved.wait()
                    continue
                self.lock.release()
                try:
                    self.line.wait()
                    self.pump()
                finally:
                    self.lock.acquire()

    def answer(self, call):
        request = call.waiter
        request._next = lambda: self.until(lambda: self.line.exchange.read(call))
        try:
            if not call.gone:
                self.respond(call, response_of(self.handler(request)))
        except Gone:
            pass
        except Exception as error:
            traceback.print_exc()
            with self.lock:
                self.line.exchange.fail(call, repr(error))
                self.line.flush()
        finally:
            with self.lock:
                self.open -= 1
                self.line.exchange.forget(call)
                if self.threads > 1 and self.stopping and self.open == 0:
                    signal.raise_signal(signal.SIGTERM)

    def respond(self, call, response):
        whole = whole_body(response.body)
        head = head_of(response, None if whole is None else len(whole))
        if whole is not None:
            return self.send_whole(call, head, whole)
        pieces = iter(response.body)
        try:
            first = encoded(next(pieces, b""))
            self.send_whole(call, head, first, end=False)
            for piece in pieces:
                self.send_piece(call, encoded(piece))
            self.send_piece(call, b"", end=True)
        finally:
            close = getattr(response.body, "close", None)
            if close is not None:
                close()

    def send_whole(self, call, head, body, end=True):
        with self.lock:
            fits = body[: call.credit]
            rest = body[len(fits) :]
            self.line.exchange.begin_answer(call, head, fits, end and not rest)
            self.line.flush()
        if rest:
            self.send_piece(call, rest, end)

    def send_piece(self, call, body, end=False):
        body = memoryview(body)
        while True:
            sent = self.until(lambda: self.some_of(call, body, end))
            body = body[sent:]
            if not body:
                return

    def some_of(self, call, body, end):
        # What the ring has no room for would pile up here.
        if call.gone:
            raise Gone("the client has left")
        if self.line.exchange.outbox or (body and call.credit == 0):
            return None
        return self.line.exchange.send(call, body, end)
