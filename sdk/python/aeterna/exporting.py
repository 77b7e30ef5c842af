# SPDX-License-Identifier: Apache-2.0
"""EXPORT: stand still, make bytes of the memory, give them away; or say why not, and work on."""

import time

from . import frames, gate, hooks, state, wire
from .log import log

# What of Aether's deadline quiescing and the hooks may use; the rest is for encoding and sending.
EXPORT_SHARE = 0.8

EXPORTED, RESUMED = "exported", "resumed"


class Exporting:
    """The part of Relay that answers EXPORT."""

    def _on_export(self, connection, body):
        began = time.monotonic()
        limit = body.get("deadline_ms")
        limit = limit / 1000 if isinstance(limit, (int, float)) else 5.0
        deadline = began + limit * EXPORT_SHARE
        trial = body.get("trial") is True
        refusal = self._quiesce(deadline, limit)
        if refusal is not None:
            log.error("no handoff: %s", refusal[1])
            connection.send(frames.ERROR, told_error("export", *refusal))
            return
        quiesced = time.monotonic()
        encoded = None
        try:
            self._tell(EXPORTED)
            encoded = self._encode_context(body.get("mechanism") == "shm", deadline, trial)
            if trial:
                self._work_on()
            if encoded is None:
                connection.send(frames.ACK, {"of": "export", "memory": "none"})
                return
            if encoded.memfd is None and encoded.size > frames.FRAMED_STATE_MAX:
                raise ValueError("%d bytes are too many for pipe; use shm" % encoded.size)
            done = time.monotonic()
            figures = {
                "quiesce_ms": round((quiesced - began) * 1000, 3),
                "export_ms": round((done - quiesced) * 1000, 3),
                "bytes": encoded.size,
            }
            if self.version:
                figures["state_version"] = self.version
            connection.send_state(encoded, frames.encode(frames.CHECKPOINT, figures))
            # Logged at RELEASE: until then the next revision needs the processor more.
            self._handed_over = "%d bytes of %s" % (encoded.size, encoded.format)
        except wire.Gone:
            raise
        except Exception as error:
            log.error("no handoff: the memory could not be exported: %r", error, exc_info=error)
            self._work_on()
            connection.send(frames.ERROR, told_error("export", "handoff-failed", repr(error)))
        finally:
            if encoded is not None:
                encoded.close()

    def _quiesce(self, deadline, limit):
        """None once nobody works; else (code, why) and everybody works on."""
        if self.gate.state == gate.RELEASED:
            return "handoff-failed", "the memory was handed over already"
        if not self.gate.begin_closing():
            return None  # It stands still since an earlier EXPORT.
        for hook in list(self.quiesce_hooks):
            try:
                hook.call(deadline)
            except Exception as error:
                late = isinstance(error, hooks.TooLate)
                self._work_on()
                return "quiesce-timeout" if late else "handoff-failed", "on_quiesce: %s" % (
                    error if late else repr(error)
                )
        if self.gate.await_empty(deadline):
            return None
        inside = self.gate.inside
        self._work_on()
        return "quiesce-timeout", "%d turns were still running after %.1f s" % (
            inside,
            limit * EXPORT_SHARE,
        )

    def _work_on(self):
        """The handoff came to nothing, or was only a trial."""
        if self.gate.state != gate.QUIESCED:
            return
        if self.resume_hook:
            self._call_resume_hook(None)
        self.gate.open()
        self._tell(RESUMED)

    def _encode_context(self, by_memfd, deadline, trial):
        value = self.export_hook.call(deadline) if self.export_hook else None
        if value is None:
            if not self.has_context:
                return None
            value = self.context
        if value is self._view and self._view_fd is not None:
            if by_memfd:  # unchanged since it was loaded: the same memory goes on
                size = value.nbytes
                return state.Encoded("bytes", memfd=self._view_fd, size=size, owned=False)
        if trial:
            value = state.snapshot(value)
        return state.encode(value, by_memfd)


def told_error(of, code, message):
    return {"of": of, "code": code, "message": str(message)[:2000]}
