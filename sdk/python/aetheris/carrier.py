# SPDX-License-Identifier: Apache-2.0
"""How claims and frames get to Aether and back: over HTTP, or as lines on a socket that Aether gave us."""

import asyncio
import http.client
import itertools
import json
import os
import socket
import threading
import time
from urllib.parse import urlsplit

from .client import AetherisError

VERSION = 1
LINE_MAX = 1 << 20  # bytes
SILENCE = 60.0  # seconds: longer than Aether holds anything
GIVE_UP = 30.0  # after so long without an answer the lease is gone as well
LATER = 0.1  # seconds before what was refused for now is asked again


class Gone(AetherisError):
    """Aether is not there (any more)."""


class Refused(AetherisError):
    """Aether did not take the message: it would not take it a second time."""

    def __init__(self, kind, detail):
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def encoded(body):
    try:
        data = _encode(body).encode()
    except (TypeError, ValueError) as error:
        raise Refused("request-invalid", f"what was to be sent is not JSON: {error}") from error
    if len(data) >= LINE_MAX:
        raise Refused("request-invalid", f"a message of {len(data)} bytes, and {LINE_MAX} may be")
    return data


def settle(future, answer):
    if not future.done():
        future.set_result(answer)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


def connection_to(url, timeout):
    if url.startswith("unix:"):
        return UnixConnection(url[5:], timeout)
    parts = urlsplit(url if "//" in url else f"//{url}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout)


class HttpCarrier:
    """One connection for each thread, kept open."""

    def __init__(self, url, token=None):
        self.url, self.token = url, token
        self._local = threading.local()

    def _post(self, path, body):
        connection = getattr(self._local, "connection", None)
        fresh = connection is None
        if fresh:
            connection = self._local.connection = connection_to(self.url, SILENCE)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            if connection.sock is None:
                connection.connect()
                if connection.sock.family != socket.AF_UNIX:
                    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request("POST", path, encoded(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            raise
        told = json.loads(text) if text else {}
        if answer.status == 200:
            return told
        if answer.status >= 500 or answer.status in (408, 429):
            raise ConnectionError(f"{answer.status} {told.get('detail', '')}")
        raise Refused(str(told.get("type", answer.status)).rsplit("/", 1)[-1], told.get("detail", ""))

    def _ask(self, path, body, patience):
        """Asked again until there is an answer: each message is the same when it is said twice."""
        until = time.monotonic() + patience
        pause = 0.02
        while True:
            try:
                return self._post(path, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if time.monotonic() + pause > until:
                    raise Gone(f"{self.url} does not answer: {error}") from error
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def claim(self, body):
        return self._ask("/v1/work:claim", body, 5.0)["runs"]

    def frame(self, body):
        return self._ask("/v1/work", body, GIVE_UP)["answers"]

    def close(self):
        pass


class LineCarrier:
    """One JSON object a line, on one end of a socket pair. Its end is Aether's: then there is nothing more to do.

    What is asked first goes first. What is on the line outlives this process."""

    def __init__(self, fd):
        self._socket = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting = {}  # who is to be told, by the id of what was asked
        self._gone = False
        threading.Thread(target=self._read, name="aetheris lines", daemon=True).start()

    def _read(self):
        try:
            with self._socket.makefile("rb", LINE_MAX // 16) as lines:
                for line in lines:
                    answer = json.loads(line)
                    told = self._waiting.pop(answer.get("id"), None)
                    if told:
                        told(answer)
        except (OSError, ValueError):
            pass
        self._gone = True
        for number in list(self._waiting):
            told = self._waiting.pop(number, None)
            if told:
                told(None)

    def _send(self, body, told):
        """`told` is called with the answer, or None at the end of the line, by the thread that reads."""
        number = next(self._ids)
        line = encoded({"id": number, **body}) + b"\n"
        self._waiting[number] = told
        try:
            with self._lock:
                self._socket.sendall(line)
        except OSError as error:
            if self._waiting.pop(number, None):
                raise Gone(f"Aether has closed the line: {error}") from error
        if self._gone and self._waiting.pop(number, None):
            raise Gone("Aether has closed the line")

    def _ask(self, body):
        while True:
            answers = []
            answered = threading.Lock()
            answered.acquire()

            def told(answer, answers=answers, answered=answered):
                answers.append(answer)
                answered.release()

            self._send(body, told)
            answered.acquire()
            if not self._is_later(answers[0]):
                return answers[0]
            time.sleep(LATER)

    async def _ask_async(self, body):
        loop = asyncio.get_running_loop()
        while True:
            future = loop.create_future()
            self._send(body, lambda answer, future=future: loop.call_soon_threadsafe(settle, future, answer))
            answer = await future
            if not self._is_later(answer):
                return answer
            await asyncio.sleep(LATER)

    @staticmethod
    def _is_later(answer):
        """Whether the same may be taken a moment later. What is refused for good is thrown."""
        if answer is None:
            raise Gone("Aether has closed the line")
        error = answer.get("error")
        if error is None:
            return False
        if error["type"] in ("system-call", "store-full", "limit-reached", "timeout"):
            return True
        raise Refused(error["type"], error["detail"])

    def claim(self, body):
        return self._ask(body)["runs"]

    def frame(self, body):
        return self._ask(body)["answers"]

    async def frame_async(self, body):
        return (await self._ask_async(body))["answers"]

    def close(self):
        self._socket.close()


def carrier_of(url=None, token=None):
    """The line that Aether gave us, else HTTP: `url`, $AETHER_URL, or port 8080 of this machine."""
    fd = os.environ.get("AETHER_WORK_FD")
    if fd and url is None:
        return LineCarrier(int(fd))
    return HttpCarrier(url or os.environ.get("AETHER_URL") or "http://localhost:8080",
                       token or os.environ.get("AETHER_TOKEN"))  # fmt: skip
