# SPDX-License-Identifier: Apache-2.0
"""The calls that are under way between Aether and this handler: docs/functions-ring.md. Knows no ring: messages
in, messages out."""

import collections
import struct

PROTOCOL = 1
WINDOW = 64 * 1024
MESSAGE_MAX = 32 * 1024
_HEAD = struct.Struct("<IBBH")
_NUMBER = struct.Struct("<I")
HELLO, REQUEST, ANSWER, BODY, WINDOW_KIND, CANCEL, FAILURE = range(1, 8)
_END, _MORE = 1, 2


class Nonsense(Exception):
    """Aether does not say such things: the ring is broken."""


class Gone(ConnectionError):
    """Nobody waits for this answer any more: the client has left, or its time is over."""


def write(call, kind, content=b"", end=False, more=False):
    return _HEAD.pack(call, kind, (_END if end else 0) | (_MORE if more else 0), 0) + content


def hello(name):
    return write(0, HELLO, _NUMBER.pack(PROTOCOL) + name.encode("latin-1", "replace")[:200])


class Call:
    """One request and its answer."""

    __slots__ = ("number", "head", "chunks", "ended", "gone", "credit", "owed", "waiter", "answered")

    def __init__(self, number):
        self.number = number
        self.head = b""
        self.chunks = collections.deque()
        self.ended = False
        self.gone = False
        self.credit = WINDOW
        self.owed = 0
        self.waiter = None  # Whoever waits for it: the event loop's
        self.answered = False


class Exchange:
    """`message_max`: bytes of one message that goes out."""

    def __init__(self, message_max=MESSAGE_MAX):
        self.content_max = min(message_max, MESSAGE_MAX) - _HEAD.size
        self.calls = {}
        self.halves = {}  # Requests whose heads are not whole
        self.outbox = collections.deque()

    def take(self, record):
        """One record that came. A Call if a request has begun, else the Call that it is about, or None."""
        if len(record) < _HEAD.size:
            raise Nonsense("a message of %d bytes" % len(record))
        number, kind, flags, _ = _HEAD.unpack_from(record)
        content = record[_HEAD.size :]
        if kind == REQUEST:
            return self._begin(number, content, flags)
        call = self.calls.get(number)
        if call is None:
            return None  # Answered already
        if kind == BODY:
            if content:
                call.chunks.append(content)
            call.ended = bool(flags & _END)
        elif kind == WINDOW_KIND:
            call.credit += _NUMBER.unpack_from(content)[0]
        elif kind == CANCEL:
            call.gone = call.ended = True
            del self.calls[number]
        else:
            raise Nonsense("a message of kind %d" % kind)
        return call

    def _begin(self, number, content, flags):
        content = self.halves.pop(number, b"") + content
        if flags & _MORE:
            self.halves[number] = content
            return None
        head, found, body = content.partition(b"\r\n\r\n")
        if not found or number in self.calls:
            raise Nonsense("a request without a head, or with a number that is taken")
        call = self.calls[number] = Call(number)
        call.head = head
        if body:
            call.chunks.append(body)
        call.ended = bool(flags & _END)
        return call

    def read(self, call):
        """The next bytes of the request's body, b"" at its end; None: they have not come."""
        if call.gone:
            raise Gone("the client has left")
        if not call.chunks:
            return b"" if call.ended else None
        chunk = call.chunks.popleft()
        call.owed += len(chunk)
        if not call.ended and call.owed >= WINDOW // 2:
            self.outbox.append(write(call.number, WINDOW_KIND, _NUMBER.pack(call.owed)))
            call.owed = 0
        return chunk

    def begin_answer(self, call, head, body, end):
        """`body`: no more than call.credit. Nothing if nobody waits."""
        call.credit -= len(body)
        whole = head + body
        while len(whole) > self.content_max:
            piece, whole = whole[: self.content_max], whole[self.content_max :]
            in_head = len(head) > 0
            head = head[len(piece) :]
            # The end of the head goes with the first bytes of the body, or alone.
            if in_head and head:
                self._send(call, ANSWER, piece, more=True)
            else:
                self._send(call, ANSWER if in_head else BODY, piece)
        self._send(call, ANSWER if head else BODY, whole, end=end)

    def send(self, call, body, end=False):
        """As many bytes as may go now; the number."""
        if call.gone:
            raise Gone("the client has left")
        size = min(len(body), call.credit)
        call.credit -= size
        end = end and size == len(body)
        at = 0
        while size - at > self.content_max:
            self._send(call, BODY, body[at : at + self.content_max])
            at += self.content_max
        if size > at or end:
            self._send(call, BODY, body[at:size], end=end)
        return size

    def fail(self, call, why):
        if not call.gone and not call.answered:
            self.outbox.append(write(call.number, FAILURE, why.encode("utf-8", "replace")[:1000]))
        self.forget(call)

    def forget(self, call):
        self.calls.pop(call.number, None)

    def _send(self, call, kind, content, end=False, more=False):
        if call.gone:
            return
        self.outbox.append(write(call.number, kind, bytes(content), end, more))
        call.answered = call.answered or end
