# SPDX-License-Identifier: Apache-2.0
"""One request on a connection of its own, timed from before connect() to the first byte of the answer."""

import os
import re
import socket
import time

PATIENCE = 60


def be_punctual():
    """Real-time priority, as aether-load --realtime has it: real clients are on other machines. What this process
    starts does not inherit it. False without the right to it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        return False
    return True


class Answer:
    def __init__(self, first_byte_us, text):
        self.first_byte_us = first_byte_us
        head, _, self.body = text.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        self.status = int(status.split(" ")[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def start(self):
        """The tier that served it."""
        return self.headers.get("x-aether-start")

    @property
    def parts_ms(self):
        """Where Aether says the time went: {"queue": ..., "start": ..., "fn": ...}."""
        found = re.findall(r"(\w+);dur=([\d.]+)", self.headers.get("server-timing", ""))
        return {name: float(ms) for name, ms in found}


def ask(port, path="/"):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        began = time.perf_counter_ns()
        client.connect(("127.0.0.1", port))
        client.sendall(request)
        chunks = [client.recv(65536)]
        took = time.perf_counter_ns() - began
        while chunks[-1]:
            chunks.append(client.recv(65536))
    return Answer(took / 1000, b"".join(chunks).decode())
