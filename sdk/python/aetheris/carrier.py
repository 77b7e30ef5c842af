# SPDX-License-Identifier: Apache-2.0
"""How claims and frames get to Aether and back: over HTTP, or as lines on a socket that Aether gave us."""

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
SILENCE = 60.0  # seconds: longer than Aether holds anything
GIVE_UP = 30.0  # after so long without an answer the lease is gone as well


class Gone(AetherisError):
    """Aether is not there (any more)."""


class Refused(AetherisError):
    """Aether did not take the message: it would not take it a second time."""

    def __init__(self, kind, detail):
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


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
            connection.request("POST", path, json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            raise
        told = json.loads(text) if text else {}
        if answer.status == 200:
            return told
        if answer.status >= 500:
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
    """One JSON object a line, on one end of a socket pair. Its end is Aether's: then there is nothing more to do."""

    def __init__(self, fd):
        self._socket = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting = {}
        self._gone = False
        threading.Thread(target=self._read, name="aetheris lines", daemon=True).start()

    def _read(self):
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    waiting = self._waiting.pop(answer.get("id"), None)
                    if waiting:
                        waiting[1] = answer
                        waiting[0].set()
        except (OSError, ValueError):
            pass
        self._gone = True
        for waiting in list(self._waiting.values()):
            waiting[0].set()

    def _send(self, body):
        number = next(self._ids)
        waiting = self._waiting[number] = [threading.Event(), None]
        line = json.dumps({"id": number, **body}).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(line)
        except OSError as error:
            raise Gone(f"Aether has closed the line: {error}") from error
        return waiting

    def _ask(self, body, waiting=None):
        waiting = waiting or self._send(body)
        while not waiting[0].wait(SILENCE) and not self._gone:
            pass
        answer = waiting[1]
        if answer is None:
            raise Gone("Aether has closed the line")
        if "error" not in answer:
            return answer
        error = answer["error"]
        if error["type"] in ("system-call", "store-full", "limit-reached", "timeout"):
            time.sleep(0.1)
            return self._ask(body)
        raise Refused(error["type"], error["detail"])

    def post(self, body):
        """Sends a frame now; what is called later gives its answers. What is on the line outlives this process."""
        waiting = self._send(body)
        return lambda: self._ask(body, waiting)["answers"]

    def claim(self, body):
        return self._ask(body)["runs"]

    def frame(self, body):
        return self._ask(body)["answers"]

    def close(self):
        self._socket.close()


def carrier_of(url=None, token=None):
    """The line that Aether gave us, else HTTP: `url`, $AETHER_URL, or port 8080 of this machine."""
    fd = os.environ.get("AETHER_WORK_FD")
    if fd and url is None:
        return LineCarrier(int(fd))
    return HttpCarrier(url or os.environ.get("AETHER_URL") or "http://localhost:8080",
                       token or os.environ.get("AETHER_TOKEN"))  # fmt: skip
