# SPDX-License-Identifier: Apache-2.0
"""Request and Response, as aetherless.serve() gives and takes them."""

import json
from http import HTTPStatus

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Headers(dict):
    """Names are looked up in any case; of a name that came more than once, the values joined by commas."""

    def __init__(self, pairs=()):
        super().__init__()
        for name, value in pairs:
            self.add(name, value)

    def add(self, name, value):
        name = name.lower()
        super().__setitem__(name, super().__getitem__(name) + ", " + value if name in self else value)

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __setitem__(self, name, value):
        super().__setitem__(name.lower(), value)

    def __contains__(self, name):
        return super().__contains__(name.lower())

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class Request:
    """`method`, `target` ("/path?query"), `path`, `query`, `headers`; its body is read by read(), json() or by
    iterating over it. In an asynchronous handler these are awaited, and the loop is `async for`."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ", 2)
        self.path, _, self.query = self.target.partition("?")
        self.headers = Headers((name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]))
        self.headers.pop("transfer-encoding", None)
        self._next = None

    def __iter__(self):
        while True:
            chunk = self._next()
            if not chunk:
                return
            yield chunk

    def read(self):
        """All of the body (that is left)."""
        return b"".join(self)

    def json(self):
        return json.loads(self.read())


class AsyncRequest(Request):
    """The same, awaited."""

    __iter__ = None

    async def __aiter__(self):
        while True:
            chunk = await self._next()
            if not chunk:
                return
            yield chunk

    async def read(self):
        return b"".join([chunk async for chunk in self])

    async def json(self):
        return json.loads(await self.read())


class Response:
    """`body`: bytes, str, or what gives bytes piece by piece (a generator, an open file; in an asynchronous handler
    also an asynchronous one), which is streamed. `headers`: a dict, or pairs where a name comes more than once."""

    def __init__(self, body=b"", status=200, headers=()):
        self.body = body
        self.status = status
        self.headers = list(headers.items() if hasattr(headers, "items") else headers)


def response_of(value):
    """What a handler may return: a Response, or the body of one."""
    if isinstance(value, Response):
        return value
    if value is None:
        return Response(status=204)
    if isinstance(value, (dict, list)):
        return Response(json.dumps(value), headers=[("Content-Type", "application/json")])
    return Response(value)


def head_of(response, length):
    """The head of the answer. `length`: of its body; None: nobody knows yet. A header that could be read as two is
    refused: ValueError."""
    lines = ["HTTP/1.1 %d %s" % (response.status, _REASONS.get(response.status, ""))]
    typed = sized = False
    for name, value in response.headers:
        line = "%s: %s" % (name, value)
        if "\r" in line or "\n" in line or "\0" in line or ":" in name or not name:
            raise ValueError("a header that is none: %r" % line)
        lower = name.lower()
        if lower in ("connection", "transfer-encoding", "keep-alive"):
            continue  # Matters of a connection, of which a ring has none
        typed = typed or lower == "content-type"
        sized = sized or lower == "content-length"
        lines.append(line)
    if not typed and length != 0:
        plain = isinstance(response.body, str)
        lines.append("Content-Type: " + ("text/plain; charset=utf-8" if plain else "application/octet-stream"))
    if not sized and length is not None and response.status not in (204, 304):
        lines.append("Content-Length: %d" % length)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole_body(body):
    """The bytes of a body that is there at once; None if it comes piece by piece."""
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return None


def encoded(piece):
    return piece.encode("utf-8") if isinstance(piece, str) else bytes(piece)
