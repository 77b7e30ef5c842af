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
PARKED = 0.01  # seconds without a thread that reads for itself
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

    def rest(self):
        pass

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
        self._threads = set()  # of these, the ids that a thread waits for
        self._gone = False
        self._rest = b""  # of what was read: the beginning of a line
        self._reading = threading.Lock()  # of whoever reads
        self._read_at = 0.0  # when a thread that waited has read
        self._turn = threading.Event()  # for the thread below: nobody else reads
        threading.Thread(target=self._read, name="aetheris lines", daemon=True).start()

    def _read(self):
        """Reads as long as somebody waits. A thread that asks while nobody reads does so itself (_ask), for that saves
        it a change of threads: so this one lets it, until there is none for PARKED."""
        while not self._gone:
            if self._reading.acquire(blocking=False):
                try:
                    while not (self._take() and not self._threads) and not self._gone:
                        pass
                finally:
                    self._reading.release()
                if self._threads:
                    continue  # it asked while this one was about to let go
            while not self._gone and not self._turn.wait(PARKED):
                if time.monotonic() - self._read_at > PARKED:
                    break
            self._turn.clear()

    def _take(self):
        """Reads once, and tells those who wait. Whether one of them is a thread."""
        has_told = False
        try:
            data = self._socket.recv(LINE_MAX // 16)
            *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
            for line in lines:
                answer = json.loads(line)
                number = answer.get("id")
                told = self._waiting.pop(number, None)
                has_told = has_told or number in self._threads
                self._threads.discard(number)
                if told:
                    told(answer)
        except (OSError, ValueError):
            data = b""
        if not data:
            self._end()
        return has_told

    def _end(self):
        self._gone = True
        self._turn.set()
        for number in list(self._waiting):
            told = self._waiting.pop(number, None)
            if told:
                told(None)

    def _send(self, body, told, is_thread=False):
        """`told` is called with the answer, or None at the end of the line, by the thread that reads."""
        number = next(self._ids)
        line = encoded({"id": number, **body}) + b"\n"
        self._waiting[number] = told
        if is_thread:
            self._threads.add(number)
        try:
            with self._lock:
                self._socket.sendall(line)
        except OSError as error:
            self._threads.discard(number)
            if self._waiting.pop(number, None):
                raise Gone(f"Aether has closed the line: {error}") from error
        if self._gone and self._waiting.pop(number, None):
            raise Gone("Aether has closed the line")

    def _ask(self, body, reads=True):
        while True:
            answers = []
            answered = threading.Lock()
            answered.acquire()

            def told(answer, answers=answers, answered=answered):
                answers.append(answer)
                answered.release()

            self._send(body, told, reads)
            if not reads:
                self._turn.set()
            elif self._reading.acquire(blocking=False):
                try:
                    while not answers and not self._gone:
                        self._take()
                finally:
                    self._read_at = time.monotonic()
                    self._reading.release()
                if self._threads:
                    self._turn.set()
            answered.acquire()
            if not self._is_later(answers[0]):
                return answers[0]
            time.sleep(LATER)

    async def _ask_async(self, body):
        loop = asyncio.get_running_loop()
        while True:
            future = loop.create_future()
            self._send(body, lambda answer, future=future: loop.call_soon_threadsafe(settle, future, answer))
            self._turn.set()
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
        return self._ask(body, reads=False)["runs"]

    def frame(self, body):
        return self._ask(body)["answers"]

    def rest(self):
        """Who has asked will not do so soon: others may wait."""
        self._turn.set()

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
