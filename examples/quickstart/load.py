#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small load client for the quickstart: it counts what goes wrong, and believes nothing.

- new: a new connection for each request, at a steady rate
- keep-alive: clients that keep their connection, as browsers and proxies do
- streams: one event stream for each keep-alive client's conversation

Each client knows which turn number must come next: a lost turn repeats one, a turn applied twice
skips one. Runs until SIGTERM or SIGINT (or --seconds), then prints what it saw as JSON.
"""

import argparse
import http.client
import json
import signal
import socket
import threading
import time

TIMEOUT = 20


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.requests = {"new": 0, "keep-alive": 0}
        self.failures = []
        self.pids = []
        self.turns = 0
        self.slowest_ms = 0.0
        self.streams = 0
        self.events = 0
        self.moves = 0
        self.missed = 0

    def answered(self, kind, answer, took):
        with self.lock:
            self.requests[kind] += 1
            self.turns += 1
            self.slowest_ms = max(self.slowest_ms, took * 1000)
            if answer["pid"] not in self.pids:
                self.pids.append(answer["pid"])

    def failed(self, kind, error):
        with self.lock:
            self.requests[kind] += 1
            self.failures.append("%s: %r" % (kind, error))


class Talker:
    """One user's conversation."""

    def __init__(self, tally, port, kind, user):
        self.tally, self.port, self.kind, self.user = tally, port, kind, user
        self.last_turn = 0
        self.connection = None

    def say(self):
        began = time.perf_counter()
        try:
            answer = self.exchange({"user": self.user, "message": "hello %d" % self.last_turn})
        except Exception as error:
            self.tally.failed(self.kind, error)
            self.connection = None
            return
        if answer["turn"] != self.last_turn + 1:
            text = "%s: turn %d came after turn %d" % (self.user, answer["turn"], self.last_turn)
            self.tally.failed(self.kind, ValueError(text))
        self.last_turn = answer["turn"]
        self.tally.answered(self.kind, answer, time.perf_counter() - began)

    def exchange(self, message):
        connection = self.connection
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request("POST", "/chat", json.dumps(message))
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError("status %d: %r" % (response.status, body[:200]))
        keep = self.kind == "keep-alive" and not response.will_close
        self.connection = connection if keep else None
        if not keep:
            connection.close()
        return json.loads(body)


def talk_anew(tally, port, rate, stop, number, threads):
    """One of the threads that share the rate of new connections."""
    talker = Talker(tally, port, "new", "new-%d" % number)
    period = threads / rate
    due = time.monotonic() + period * number / threads
    while not stop.wait(max(0.0, due - time.monotonic())):
        talker.say()
        due += period


def talk_on(tally, port, stop, number):
    talker = Talker(tally, port, "keep-alive", "keep-%d" % number)
    while not stop.wait(0.02):
        talker.say()
    return talker


def read_stream(tally, port, stop, number):
    """Follows a conversation over every swap: comes back when told to, goes on after the last id."""
    last = 0
    with tally.lock:
        tally.streams += 1
    while not stop.is_set():
        try:
            last = follow(tally, port, stop, "keep-%d" % number, last)
        except Exception as error:
            if not stop.is_set():
                with tally.lock:
                    tally.failures.append("stream: %r" % error)


def follow(tally, port, stop, user, last):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", "/events?user=" + user, headers={"Last-Event-ID": str(last)})
    response = connection.getresponse()
    event, number = "message", None
    for line in response:
        field, _, value = line.decode().strip().partition(": ")
        if field == "event":
            event = value
        elif field == "id":
            number = int(value)
        elif field == "" and event == "moved":
            with tally.lock:
                tally.moves += 1
            break
        elif field == "" and number is not None:
            with tally.lock:
                tally.events += 1
                tally.missed += number != last + 1
            last, number = number, None
        if stop.is_set():
            break
    connection.close()
    return last


def run(port, rate, keep_alive, seconds=None):
    tally = Tally()
    stop, stop_streams = threading.Event(), threading.Event()
    threads = max(1, min(16, rate // 10))
    talkers = [
        threading.Thread(target=talk_anew, args=(tally, port, rate, stop, n, threads))
        for n in range(threads)
    ] + [
        threading.Thread(target=talk_on, args=(tally, port, stop, n)) for n in range(keep_alive)
    ]
    readers = [
        threading.Thread(target=read_stream, args=(tally, port, stop_streams, n), daemon=True)
        for n in range(keep_alive)
    ]
    for thread in readers + talkers:
        thread.start()
    finished = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: finished.set())
    finished.wait(seconds)
    stop.set()
    for thread in talkers:
        thread.join()
    wait_for_streams(tally, seconds=5)
    stop_streams.set()
    return report(tally)


def wait_for_streams(tally, seconds):
    """Every turn of a keep-alive client must come by its stream as well."""
    deadline = time.monotonic() + seconds
    while tally.events < tally.requests["keep-alive"] and time.monotonic() < deadline:
        time.sleep(0.01)


def report(tally):
    with tally.lock:
        return {
            "requests": tally.requests,
            "failed": len(tally.failures),
            "failures": tally.failures[:20],
            "turns": tally.turns,
            "pids": tally.pids,
            "slowest_ms": round(tally.slowest_ms, 1),
            "streams": tally.streams,
            "stream_moves": tally.moves,
            "events": tally.events,
            "events_missed": tally.missed + max(0, tally.requests["keep-alive"] - tally.events),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--rate", type=int, default=100, help="new connections a second")
    parser.add_argument("--keep-alive", type=int, default=8, help="clients that stay connected")
    parser.add_argument("--seconds", type=float, default=None)
    options = parser.parse_args()
    print(json.dumps(run(options.port, options.rate, options.keep_alive, options.seconds)))


if __name__ == "__main__":
    main()
