# SPDX-License-Identifier: Apache-2.0
"""The conversation with Aether: one thread that answers EXPORT, RELEASE and RESUME."""

import os
import queue
import threading
import time

from . import frames, state, wire
from .gate import OPEN, QUIESCED, Gate
from .log import log

VERSION = "python/0.1.0"
HELLO_TIMEOUT = 10.0
# Between two attempts to speak with Aether again.
RECONNECT_PAUSE = 0.2
# What is left of Aether's deadline for encoding and sending, once quiescing has given up.
EXPORT_SHARE = 0.8

EXPORTED, RELEASED, RESUMED = "exported", "released", "resumed"


class HandoffError(RuntimeError):
    """Memory was promised and could not be taken. Aether rolls the swap back; end this process."""


class Taken:
    """Memory that was decoded and confirmed."""

    def __init__(self, value, what):
        self.value = value
        self.what = what


class Relay:
    """One a process. Without Aether it is only a gate that stays open."""

    def __init__(self):
        self.pid = os.getpid()
        self.gate = Gate()
        self.hello = {}
        self.export_hook = None
        self.resume_hook = None
        self.watchers = []  # called with EXPORTED, RELEASED (and its payload), RESUMED
        self.context = None
        self.has_context = False
        self._view = None  # the memoryview that load_context returned, and the memfd behind it
        self._view_fd = None
        self._attached = None
        self._handed_over = "none was kept"
        self._wire = None
        self._asking = threading.Lock()
        self._answers = queue.SimpleQueue()
        self._waiting_for = None
        self._connect()

    @property
    def connected(self):
        return self._wire is not None

    def _connect(self, quiet=False):
        """Says hello; True if Aether answered. `quiet`: a failure is nothing new."""
        path = os.environ.get("AETERNA_STATE_SOCK")
        if not path:
            return False
        connection = None
        try:
            connection = wire.Wire(path)
            connection.set_timeout(HELLO_TIMEOUT)
            connection.send(
                frames.HELLO,
                {
                    "role": "service",
                    "instance": os.environ.get("AETHER_INSTANCE_ID", ""),
                    "pid": os.getpid(),
                    "sdk": VERSION,
                    "capabilities": ["export", "shm", "resume", "crc32"],
                },
            )
            kind, _, payload, fd = connection.receive()
            if fd is not None:
                os.close(fd)
            answer = frames.json_object(kind, payload)
            if kind != frames.ACK:
                raise wire.Gone("%s: %s" % (answer.get("code"), answer.get("message")))
            connection.set_timeout(None)
        except (OSError, wire.Gone, frames.ProtocolViolation) as error:
            if not quiet:
                log.warning("no conversation with Aether at %s: %s", path, error)
            if connection is not None:
                connection.close()
            return False
        self.hello = answer
        self._wire = connection
        threading.Thread(target=self._run, name="aeterna-sdk", daemon=True).start()
        return True

    # ---- asked by the program ------------------------------------------------------------------

    def load(self):
        """The memory of the old revision, or None. Raises HandoffError if it cannot be used."""
        if not self.connected:
            return None
        raw = self._ask("load", frames.LOAD, {})
        if raw is None:
            if self.hello.get("memory") == "waiting":
                raise HandoffError("Aether went away while the old revision still had the memory")
            return None
        if isinstance(raw, dict):  # ACK: there is none
            return None
        if isinstance(raw, Exception):
            raise HandoffError(str(raw)) from raw
        if isinstance(raw, wire.RawState):
            raw = self._take(raw)
        if isinstance(raw, HandoffError):
            raise raw
        log.info("memory loaded: %s", raw.what)
        return raw.value

    def _take(self, raw):
        """Decodes a state and confirms it: Taken, or the HandoffError that Aether was told."""
        try:
            value = state.decode(raw.format, raw.data)
        except state.Unreadable as error:
            raw.close()
            self._try_send(frames.ERROR, _error("state", "state-unreadable", error))
            return HandoffError("the memory of the old revision cannot be read: %s" % error)
        if value is raw.data and raw.memfd is not None:
            self._view, self._view_fd = value, raw.memfd
        else:
            raw.close()
        self._try_send(frames.ACK, raw.ack)
        return Taken(value, "%d bytes of %s" % (raw.ack["bytes"], raw.format))

    def listen(self, address):
        """(name, fd) of a listener that Aether keeps for the service, or None."""
        if not self.connected:
            return None
        answer = self._ask("listen", frames.LISTEN, {"address": address})
        if isinstance(answer, Exception):
            raise OSError("Aether gave no listener on %s: %s" % (address, answer))
        return answer

    def _ask(self, of, kind, payload):
        with self._asking:
            self._waiting_for = of
            if not self._try_send(kind, payload):
                return None
            return self._answers.get()

    def _try_send(self, kind, payload):
        connection = self._wire
        if connection is None:
            return False
        try:
            connection.send(kind, payload)
            return True
        except wire.Gone as error:
            log.warning("Aether cannot be told %s: %s", frames.NAMES[kind], error)
            return False

    # ---- told by Aether ------------------------------------------------------------------------

    def _run(self):
        connection = self._wire
        try:
            while True:
                kind, flags, payload, fd = connection.receive()
                self._handle(connection, kind, flags, payload, fd)
        except wire.Gone as error:
            log.debug("the conversation with Aether ended: %s", error)
        except frames.ProtocolViolation as error:
            log.error("Aether broke the protocol: %s", error)
        except Exception:
            log.exception("the conversation with Aether failed")
        self._wire = None
        connection.close()
        if self.gate.state == QUIESCED:
            log.warning("Aether went away during a handoff; working on with the own memory")
            self.gate.open()
            self._tell(RESUMED)
        if self._waiting_for is not None:
            self._answer(None)
        self._come_back()

    def _come_back(self):
        """The conversation can end by one bad frame, and a later swap needs the memory all the same.

        Ends when the socket is gone, which is how an Aether that stops says goodbye."""
        path = os.environ.get("AETERNA_STATE_SOCK", "")
        while os.path.exists(path):
            time.sleep(RECONNECT_PAUSE)
            if self._connect(quiet=True):
                log.info("speaking with Aether again")
                return

    def _handle(self, connection, kind, flags, payload, fd):
        if kind in frames.STATE_FRAMES or kind == frames.STATE_FD:
            self._on_state(connection, kind, flags, payload, fd)
            return
        body = frames.json_object(kind, payload)
        if kind == frames.EXPORT:
            self._on_export(connection, body)
        elif kind == frames.RELEASE:
            self.gate.release()
            log.info("the next revision has the memory: %s", self._handed_over)
            self._tell(RELEASED, body)
        elif kind == frames.RESUME:
            self._on_resume(body)
        elif kind in (frames.ACK, frames.ERROR):
            self._on_answer(kind, body, fd)
        else:
            raise frames.ProtocolViolation("Aether does not send %s" % frames.NAMES[kind])

    def _on_answer(self, kind, body, fd):
        of = body.get("of")
        if of == self._waiting_for and of in ("load", "listen"):
            if kind == frames.ERROR:
                self._answer(OSError("%s: %s" % (body.get("code"), body.get("message"))))
            elif of == "listen":
                self._answer((body.get("name") or "http", fd))
            else:
                self._answer(body)
            return
        if fd is not None:
            os.close(fd)
        if kind == frames.ERROR:
            log.error("Aether says %s: %s", body.get("code"), body.get("message"))
            if of == "state" and self.gate.state == QUIESCED:
                self.gate.open()
                self._tell(RESUMED)

    def _answer(self, value):
        self._waiting_for = None
        self._answers.put(value)

    def _on_state(self, connection, kind, flags, payload, fd):
        loading = self._waiting_for == "load"
        try:
            raw = connection.receive_state(kind, flags, payload, fd)
        except state.Unreadable as error:
            connection.send(frames.ERROR, _error("state", "checksum-mismatch", error))
            if loading:
                self._answer(error)
            return
        if loading:
            # A pickle may import modules, which must happen on the thread that asked: it may hold
            # an import lock. Everything else is confirmed here, without waking that thread first.
            self._answer(raw if raw.format == "pickle" else self._take(raw))
            return
        try:  # before RESUME: what the next revision made of our memory
            self._attached = state.decode(raw.format, raw.data)
            connection.send(frames.ACK, raw.ack)
        except state.Unreadable as error:
            connection.send(frames.ERROR, _error("state", "state-unreadable", error))
        finally:
            raw.close()

    def _on_export(self, connection, body):
        began = time.monotonic()
        limit = body.get("deadline_ms")
        limit = limit / 1000 if isinstance(limit, (int, float)) else 5.0
        if not self.gate.close(began + limit * EXPORT_SHARE):
            told = "%d turns were still running after %.1f s" % (self.gate.inside, limit * EXPORT_SHARE)
            log.error("no handoff: %s", told)
            connection.send(frames.ERROR, _error("export", "quiesce-timeout", told))
            return
        quiesced = time.monotonic()
        self._tell(EXPORTED)
        encoded = None
        try:
            encoded = self._encode_context(body.get("mechanism") == "shm")
            if encoded is None:
                connection.send(frames.ACK, {"of": "export", "memory": "none"})
                return
            if encoded.memfd is None and encoded.size > frames.FRAMED_STATE_MAX:
                raise ValueError("%d bytes are too many for pipe; use shm" % encoded.size)
            done = time.monotonic()
            figures = {
                "quiesce_ms": round((quiesced - began) * 1000, 3),
                "export_ms": round((done - quiesced) * 1000, 3),
            }
            connection.send_state(encoded, frames.encode(frames.CHECKPOINT, figures))
            # Logged at RELEASE: until then the next revision needs the processor more.
            self._handed_over = "%d bytes of %s" % (encoded.size, encoded.format)
        except wire.Gone:
            raise
        except Exception as error:
            log.exception("no handoff: the memory could not be exported")
            self.gate.open()
            self._tell(RESUMED)
            connection.send(frames.ERROR, _error("export", "handoff-failed", repr(error)))
        finally:
            if encoded is not None:
                encoded.close()

    def _encode_context(self, by_memfd):
        value = self.export_hook() if self.export_hook else None
        if value is None:
            if not self.has_context:
                return None
            value = self.context
        if value is self._view and self._view_fd is not None:
            if by_memfd:  # unchanged since it was loaded: the same memory goes on
                size = value.nbytes
                return state.Encoded("bytes", memfd=self._view_fd, size=size, owned=False)
        return state.encode(value, by_memfd)

    def _on_resume(self, body):
        attached, self._attached = self._attached, None
        was = self.gate.state
        if body.get("memory") == "attached":
            self._take_back(attached)
        elif was != OPEN and self.resume_hook:
            self._call_resume_hook(None)
        self.gate.open()
        if was != OPEN:
            log.info("working on: the swap was taken back")
            self._tell(RESUMED)
        self._try_send(frames.ACK, {"of": "resume"})

    def _take_back(self, value):
        if self.resume_hook:
            self._call_resume_hook(value)
        elif type(self.context) is dict and type(value) is dict:
            self.context.clear()
            self.context.update(value)
        elif type(self.context) is list and type(value) is list:
            self.context[:] = value
        else:
            log.warning("memory came back; without an on_resume hook only a dict or list takes it")

    def _call_resume_hook(self, value):
        try:
            self.resume_hook(value)
        except Exception:
            log.exception("the on_resume hook raised")

    def _tell(self, event, body=None):
        for watcher in list(self.watchers):
            try:
                watcher(event, body or {})
            except Exception:
                log.exception("a hook for %s raised", event)


def _error(of, code, message):
    return {"of": of, "code": code, "message": str(message)[:2000]}
