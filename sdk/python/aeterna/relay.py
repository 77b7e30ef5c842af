# SPDX-License-Identifier: Apache-2.0
"""The conversation with Aether: one thread that answers EXPORT, RELEASE, RESUME and DRAIN."""

import os
import queue
import threading
import time

from . import check, frames, hooks, state, wire
from .drain_plan import DrainPlan
from .exporting import EXPORTED, RESUMED, Exporting, told_error
from .gate import OPEN, QUIESCED, Gate
from .log import log

VERSION = "python/0.2.0"
CAPABILITIES = ["export", "shm", "resume", "crc32", "version", "trial", "drain"]
HELLO_TIMEOUT = 10.0
# Between two attempts to speak with Aether again: the first pause, doubled up to the longest one.
# After so many attempts (about five minutes) nobody is there any more who could want the memory.
RECONNECT_PAUSE = 0.2
RECONNECT_PAUSE_MAX = 5.0
RECONNECT_ATTEMPTS = 60

RELEASED, DRAINED = "released", "drained"


class HandoffError(RuntimeError):
    """Memory was promised and could not be taken. Aether rolls the swap back; end this process."""


class Taken:
    """Memory that was decoded and confirmed."""

    def __init__(self, value, what):
        self.value = value
        self.what = what


class Relay(Exporting):
    """One a process. Without Aether it is only a gate that stays open."""

    def __init__(self):
        self.pid = os.getpid()
        self.gate = Gate()
        self.hello = {}
        self.plan = DrainPlan()
        self.version = 0  # how this program keeps its memory; 0: it does not say
        self.migrate = None
        self.migrates_from = None
        self.quiesce_hooks = []
        self.export_hook = None
        self.resume_hook = None
        self.watchers = []  # called with EXPORTED, RELEASED, RESUMED or DRAINED, and the payload
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
        self._loading = threading.Lock()
        self._coming_version = 0  # of the state that comes next
        self.tried = False  # whether connect() was called

    def forget_conversation(self):
        """In a child of fork(): the conversation, the memory and the right to hand it over are the
        parent's. The connection is let go without ending it for the parent."""
        if self._wire is not None:
            self._wire.abandon()
            self._wire = None
        self.pid = os.getpid()
        self.tried = False  # a client that is made from now on may begin one of its own
        self.hello = {}
        self.gate.reset()
        self._asking = threading.Lock()
        self._loading = threading.Lock()
        self._answers = queue.SimpleQueue()
        self._waiting_for = None

    @property
    def connected(self):
        return self._wire is not None

    def _about(self):
        about = {
            "role": "service",
            "instance": os.environ.get("AETHER_INSTANCE_ID", ""),
            "pid": os.getpid(),
            "sdk": VERSION,
            "capabilities": CAPABILITIES,
        }
        if self.version:
            about["state_version"] = self.version
            if self.migrates_from is not None:
                about["migrates_from"] = self.migrates_from
        return about

    def connect(self, quiet=False):
        """Says hello; True if Aether answered. `quiet`: a failure is nothing new."""
        path = os.environ.get("AETERNA_STATE_SOCK")
        if not path:
            return False
        connection = None
        try:
            connection = wire.Wire(path)
            connection.set_timeout(HELLO_TIMEOUT)
            connection.send(frames.HELLO, self._about())
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

    def load_once(self):
        """The memory of this process. Asked for by whoever comes first; the others wait for that."""
        with self._loading:
            if not self.has_context:
                try:
                    value = self.load()
                except HandoffError as error:
                    if check.is_on():
                        check.fail(str(error))
                    raise
                if check.is_on():
                    check.finish(value, self.connected)
                self.context = {} if value is None else value
                self.has_context = True
            return self.context

    def load(self):
        """The memory of the old revision, or None. Raises HandoffError if it cannot be used."""
        if not self.connected:
            return None
        raw = self._ask("load", frames.LOAD, {"state_version": self.version} if self.version else {})
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
            value = self._open(raw)
        except state.Unreadable as error:
            raw.close()
            self._try_send(frames.ERROR, told_error("state", error.code, error))
            return HandoffError("the memory of the old revision cannot be used (%s): %s" % (error.code, error))
        if value is raw.data and raw.memfd is not None:
            self._view, self._view_fd = value, raw.memfd
        else:
            raw.close()
        self._try_send(frames.ACK, raw.ack)
        return Taken(value, "%d bytes of %s" % (raw.ack["bytes"], raw.format))

    def _open(self, raw):
        """The object of a state, in this program's own version. Raises Unreadable."""
        if not self._knows(raw.version):
            raise state.UnknownVersion(
                "it is kept as version %s; this program keeps version %d%s"
                % (
                    raw.version or "0 (its program says none)",
                    self.version,
                    " and has no migrate=" if self.migrate is None else " and does not migrate that",
                )
            )
        value = state.decode(raw.format, raw.data)
        if not self.version or raw.version == self.version:
            return value
        try:
            return self.migrate(value, raw.version)
        except Exception as error:
            raise state.UnknownVersion(
                "migrate() from version %d to %d: %r" % (raw.version, self.version, error)
            ) from error

    def _knows(self, version):
        if not self.version or version == self.version:
            return True
        if self.migrate is None:
            return False
        return self.migrates_from is None or version in self.migrates_from

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
        pause = RECONNECT_PAUSE
        for _ in range(RECONNECT_ATTEMPTS):
            if not os.path.exists(path):
                return
            time.sleep(pause)
            pause = min(pause * 2, RECONNECT_PAUSE_MAX)
            if self.connect(quiet=True):
                log.info("speaking with Aether again")
                return
        log.error("Aether does not answer at %s: this process works on alone", path)

    def _handle(self, connection, kind, flags, payload, fd):
        if kind in frames.STATE_FRAMES or kind == frames.STATE_FD:
            self._on_state(connection, kind, flags, payload, fd)
            return
        body = frames.json_object(kind, payload)
        if kind == frames.EXPORT:
            self._on_export(connection, body)
        elif kind == frames.DRAIN:
            self.plan.announce(body.get("deadline_ms"), body.get("spread_ms"))
            self._tell(DRAINED, body)
        elif kind == frames.CHECKPOINT:
            version = body.get("state_version")
            self._coming_version = version if type(version) is int and version > 0 else 0
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
        version, self._coming_version = self._coming_version, 0
        try:
            raw = connection.receive_state(kind, flags, payload, fd)
            raw.version = version
        except state.Unreadable as error:
            connection.send(frames.ERROR, told_error("state", "checksum-mismatch", error))
            if loading:
                self._answer(error)
            return
        if loading:
            # A pickle or migrate() may import modules, which must happen on the thread that asked:
            # it may hold an import lock. Everything else is confirmed here, without waking it first.
            foreign = raw.format == "pickle" or version != self.version
            self._answer(raw if foreign else self._take(raw))
            return
        try:  # before RESUME: what the next revision made of our memory
            self._attached = self._open(raw)
            connection.send(frames.ACK, raw.ack)
        except state.Unreadable as error:
            log.warning("the next revision's memory cannot be used; keeping our own: %s", error)
            connection.send(frames.ERROR, told_error("state", error.code, error))
        finally:
            raw.close()

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
            self.resume_hook.call(time.monotonic() + hooks.RESUME_PATIENCE, value)
        except Exception:
            log.exception("the on_resume hook raised")

    def _tell(self, event, body=None):
        for watcher in list(self.watchers):
            try:
                watcher(event, body or {})
            except Exception:
                log.exception("a hook for %s raised", event)
