#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers in pieces, and takes them: /upload, /events, /socket (a WebSocket that echoes), /old (HTTP/1.0), /hang, /die,
/ok. Where a test names a file in GATE, it says when: /upload reads its body, and /events and /hang end, once it is
there. Each request is noted in the file SEEN, by its first line."""
import base64
import hashlib
import json
import os
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# RFC 6455, section 1.3.
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE, PING, PONG = 8, 9, 10


def gate_is_open():
    return os.path.exists(os.environ["GATE"])


def pause():
    time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def parse_request(self):
        with open(os.environ["SEEN"], "ab") as seen:
            seen.write(self.raw_requestline)
        return super().parse_request()

    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pieces(self):
        """The body, framed either way."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 16))
            left -= len(piece)
            yield piece

    def do_POST(self):
        while not gate_is_open():
            pause()
        count, digest = 0, hashlib.sha256()
        for piece in self.pieces():
            count += len(piece)
            digest.update(piece)
        self.answer(json.dumps({"bytes": count, "sha256": digest.hexdigest()}).encode())

    def do_GET(self):
        what = {"/events": self.events, "/socket": self.socket, "/old": self.old, "/hang": self.hang, "/die": self.die}
        what.get(self.path, lambda: self.answer(b"ok"))()

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        number = 0
        while not gate_is_open():
            self.wfile.write(b"data: %d\n\n" % number)
            number += 1
            pause()
        self.wfile.write(b"event: end\ndata: %d\n\n" % number)
        self.close_connection = True

    def old(self):
        self.close_connection = True
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Kind: old\r\n\r\nuntil it closes")

    def hang(self):
        while not gate_is_open():
            pause()
        self.answer(b"late")

    def die(self):
        os._exit(7)

    # ---- WebSocket

    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        kind = 0
        while kind != CLOSE:
            kind, payload = self.frame()
            self.wfile.write(self.framed(PONG if kind == PING else kind, payload))

    def frame(self):
        head, length = self.rfile.read(2)
        assert length & 0x80, "what a client sends is masked"
        length &= 0x7F
        if length == 126:
            length, = struct.unpack(">H", self.rfile.read(2))
        elif length == 127:
            length, = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        payload = self.rfile.read(length)
        return head & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    @staticmethod
    def framed(kind, payload):
        size = len(payload)
        if size < 126:
            length = bytes([size])
        else:
            length = struct.pack(">BH", 126, size) if size <= 0xFFFF else struct.pack(">BQ", 127, size)
        return bytes([0x80 | kind]) + length + payload

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["AETHER_TRIGGER_PORT"])), Handler)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.connect(os.environ["AETHER_SOCKET"])
sock.send(b"READY")
server.serve_forever()
