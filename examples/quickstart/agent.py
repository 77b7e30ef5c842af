#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A chat agent with its conversations in memory, and an open event stream for each client.

POST /chat {"user", "message"} -> the reply, with its turn number
GET /history?user=NAME         -> the conversation
GET /events?user=NAME          -> server-sent events, one a turn; goes on from Last-Event-ID
GET /version                   -> version, pid, turns remembered
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from aeterna import AeternaClient
from aeterna.http import HTTPServer

VERSION = 1

client = AeternaClient()
memory = client.load_context()  # {"ana": [{"turn": 1, "message": ..., "reply": ...}, ...]}
news = threading.Condition()


@client.on_drain
def wake_streams():
    with news:
        news.notify_all()


def think(user, message):
    """One turn of a conversation: what would call a language model."""
    with news:
        turns = memory.setdefault(user, [])
        turn = {
            "turn": len(turns) + 1,
            "message": message,
            "reply": "v%d heard %r" % (VERSION, message),
            "version": VERSION,
            "pid": os.getpid(),
        }
        turns.append(turn)
        news.notify_all()
    return turn


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.answer(think(said["user"], said["message"]))

    def do_GET(self):
        url = urlsplit(self.path)
        user = parse_qs(url.query).get("user", [""])[0]
        if url.path == "/events":
            self.send_events(user)
        elif url.path == "/history":
            self.answer(memory.get(user, []))
        elif url.path == "/version":
            turns = sum(len(turns) for turns in list(memory.values()))
            self.answer({"version": VERSION, "pid": os.getpid(), "turns": turns})
        else:
            self.send_error(404)

    def send_events(self, user):
        seen = int(self.headers.get("Last-Event-ID") or 0)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with self.stream() as stream:
            while True:
                with news:
                    news.wait_for(lambda: stream.moved or len(memory.get(user, [])) > seen, 15)
                    fresh = memory.get(user, [])[seen:]
                for turn in fresh:
                    seen = turn["turn"]
                    self.wfile.write(b"id: %d\ndata: %s\n\n" % (seen, json.dumps(turn).encode()))
                if stream.moved:  # the next version has the memory: come back, and go on there
                    self.wfile.write(b"event: moved\nretry: 10\ndata: {}\n\n")
                    return

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = HTTPServer(None, Agent)
    print("version %d, pid %d, remembers %d users" % (VERSION, os.getpid(), len(memory)), flush=True)
    server.serve_forever()
