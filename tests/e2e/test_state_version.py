# SPDX-License-Identifier: Apache-2.0
"""Versions of the memory: migrated forward, given back, refused whole; and tried before anything moves."""

import http.client
import json
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from aether import eventually
from programs import program, service

# Keeps its memory as this revision of it does; {0} is what AeternaClient is told.
AGENT = """
import json, os, sys
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient
from aeterna.http import HTTPServer
def migrate(memory, version):
    if (version, VERSION) == (1, 2):
        return {{"words": memory["text"].split()}}
    if (version, VERSION) == (2, 1):
        return {{"text": " ".join(memory["words"])}}
    raise LookupError("no way from %d to %d" % (version, VERSION))
VERSION = {version}
client = AeternaClient({arguments})
listener = client.get_listener_socket()
memory = client.load_context()
print("past the memory", flush=True)
if not memory:
    memory["text"] = "call me"
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def reply(self):
        body = json.dumps(memory).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.reply()
    def do_POST(self):
        if "words" in memory: memory["words"].append(self.path[1:])
        else: memory["text"] += " " + self.path[1:]
        self.reply()
HTTPServer(listener, Handler).serve_forever()
"""
MIGRATES = "version=VERSION, migrate=migrate"
DOES_NOT = "version=VERSION"


class Book:
    """A service whose program says how it keeps its memory."""

    def __init__(self, start, folder, version=1, arguments=MIGRATES, soak="0s", **handoff):
        self.folder = folder
        self.config = service(self.write(version, arguments), name="book", listen=["127.0.0.1:0"], soak=soak)
        self.config["orchestration"]["state_handoff"] = {"enabled": True, "timeout": "10s", **handoff}
        self.aether = start(self.config)
        self.port = int(self.aether.service()["listeners"][0]["address"].rpartition(":")[2])
        self.pid = self.aether.service()["pid"]

    def write(self, version, arguments=MIGRATES):
        return program(self.folder, "book.py", AGENT.format(version=version, arguments=arguments))

    def ask(self, method="GET", path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def is_whole(self, memory):
        eventually(lambda: self.aether.service()["phase"] == "idle", "the swap is over")
        assert self.aether.service()["pid"] == self.pid
        assert self.ask() == memory
        assert len(self.ask("POST", "/again")) == 1


def test_a_new_version_migrates_the_memory_and_the_swap_says_so(start, tmp_path):
    book = Book(start, tmp_path)
    book.write(2)
    swap = book.aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert (swap["handoff"]["state_version"], swap["handoff"]["taken_as_version"]) == (1, 2)
    assert book.ask() == {"words": ["call", "me"]}
    told = book.aether.cli("reload")
    assert told.returncode == 0 and "state version 2 → 2" in " ".join(told.stdout.split()), told.stdout


@pytest.mark.parametrize("mechanism", ["pipe", "shm"])
@pytest.mark.edge("E2")
def test_an_unknown_version_is_refused_memory_whole_service_whole(start, tmp_path, mechanism):
    book = Book(start, tmp_path)
    book.config["handoff"] = {"mechanism": mechanism, "timeout": "10s"}
    book.aether.write_config(book.config)
    for version, arguments, word in ((2, DOES_NOT, "version 1"), (3, MIGRATES, "no way from 1 to 3")):
        book.write(version, arguments)
        swap = book.aether.reload()
        assert swap["verdict"] == "rolled-back", swap
        assert "state-version-unknown" in swap["why"] and word in swap["why"], swap["why"]
    book.is_whole({"text": "call me"})


@pytest.mark.edge("E5")
def test_a_swap_that_is_taken_back_gives_the_old_version_what_the_new_one_wrote(start, tmp_path):
    book = Book(start, tmp_path, soak="1h")
    book.write(2)
    assert book.aether.ask("POST", "/v1/reload", {})[0] == 202
    eventually(lambda: book.aether.service()["phase"] == "soaking", "the new one soaks")
    assert book.ask("POST", "/Ishmael") == {"words": ["call", "me", "Ishmael"]}
    assert book.aether.cli("rollback").returncode == 0
    book.is_whole({"text": "call me Ishmael"})


def test_an_old_version_that_cannot_go_back_works_on_with_its_own_and_the_log_says_so(start, tmp_path):
    book = Book(start, tmp_path, arguments=DOES_NOT, soak="1h")
    book.write(2)
    assert book.aether.ask("POST", "/v1/reload", {})[0] == 202
    eventually(lambda: book.aether.service()["phase"] == "soaking", "the new one soaks")
    book.ask("POST", "/Ishmael")
    book.aether.cli("rollback")
    book.is_whole({"text": "call me"})
    log = book.aether.text()
    assert "goes on with its own memory" in log and "state-version-unknown" in log, log


# ---- The check --------------------------------------------------------------------------------------


def phases(swap):
    return [phase["name"] for phase in swap["phases"]]


def past_the_memory(aether):
    return aether.cli("logs").stdout.count("past the memory")


@pytest.mark.edge("E8")
def test_the_check_catches_a_version_that_cannot_be_read_before_anything_moves(start, tmp_path):
    book = Book(start, tmp_path, check=True)
    book.write(2, DOES_NOT)
    swap = book.aether.reload()
    assert swap["verdict"] == "rolled-back" and phases(swap) == ["preflight"], swap
    assert "state check" in swap["why"] and "state-version-unknown" in swap["why"], swap["why"]
    assert swap["blackout_ms"] is None and swap["handoff"] is None
    book.is_whole({"text": "call me"})


@pytest.mark.parametrize("mechanism", ["pipe", "shm"])
def test_the_check_of_a_good_revision_leaves_no_trace(start, tmp_path, mechanism):
    book = Book(start, tmp_path, check=True)
    book.config["handoff"] = {"mechanism": mechanism, "timeout": "10s"}
    book.aether.write_config(book.config)
    book.write(2)
    swap = book.aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert book.ask() == {"words": ["call", "me"]}, "migrated once, not twice"
    eventually(lambda: past_the_memory(book.aether) == 2, "two processes went on after load_context()")
    assert "can read the memory" in book.aether.text()


@pytest.mark.edge("E8")
def test_the_check_can_be_asked_for_by_command_line_and_body(start, tmp_path):
    book = Book(start, tmp_path)
    book.write(2, DOES_NOT)
    done = book.aether.cli("reload", "--check-state")
    assert done.returncode == 1 and "state check" in done.stdout, done.stdout + done.stderr
    swap = book.aether.reload(check_state=True)
    assert phases(swap) == ["preflight"] and "state check" in swap["why"], swap
    book.write(2)
    assert book.aether.reload(check_state=True)["verdict"] == "succeeded"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit('no database today')", "no database today"),
        ("print('fine')", "without asking for its memory"),
        ("import time; time.sleep(600)", "more than its timeout"),
    ],
    ids=["crashes", "asks for nothing", "hangs"],
)
def test_the_check_fails_with_a_program_that_gets_nowhere(start, tmp_path, text, words):
    book = Book(start, tmp_path, check=True)
    book.config["service"]["ready"] = {"timeout": "1s"}
    book.config["handoff"] = {"timeout": "1s"}
    book.config["orchestration"]["state_handoff"] = {"enabled": True, "check": True}
    book.aether.write_config(book.config)
    program(tmp_path, "book.py", text)
    swap = book.aether.reload()
    assert swap["verdict"] == "rolled-back" and phases(swap) == ["preflight"], swap
    assert words in swap["why"], swap["why"]
    book.is_whole({"text": "call me"})


# ---- Strangers --------------------------------------------------------------------------------------

SRP_SPY = """
import json, os, socket, struct, sys, time
def frame(kind, value):
    payload = json.dumps(value).encode()
    return struct.pack(">IIBBH", 8 + len(payload), 0xAE7E2024, 1, kind, 0) + payload
for instance in sys.argv[2:]:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(sys.argv[1])
    s.sendall(frame(1, {"role": "service", "instance": instance, "pid": os.getpid()}) + frame(0x14, {}))
    seen = b""
    while piece := s.recv(65536): seen += piece
    print(seen[12:].decode(errors="replace"), flush=True)
"""


@pytest.mark.edge("E9", "E10")
def test_nobody_gets_the_memory_of_a_service_who_is_not_of_it(start, tmp_path):
    book = Book(start, tmp_path)
    path = next(Path(book.aether.runtime).glob("*/book.srp"))
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    spy = program(tmp_path, "spy.py", SRP_SPY)
    said = subprocess.run([*spy, str(path), "", "1", "check-0"], capture_output=True, text=True, timeout=60)
    assert said.stdout.count('"forbidden"') == 3, said
    assert "call me" not in said.stdout
    assert book.aether.reload()["verdict"] == "succeeded"


@pytest.mark.edge("E10")
def test_the_memories_of_two_services_never_cross(start, tmp_path):
    configs = []
    for name in ("one", "two"):
        text = AGENT.format(version=1, arguments=MIGRATES).replace("call me", f"I am {name}")
        configs.append({"name": name, "command": program(tmp_path / name, "book.py", text), "listen": ["127.0.0.1:0"]})
    aether = start({
        "services": configs,
        "orchestration": {"soak_time": "0s", "state_handoff": {"enabled": True, "check": True}},
        "observability": {"metrics_port": "none"},
    })
    for _ in range(3):
        code, answer = aether.ask("POST", "/v1/reload?wait=true", {})
        assert code == 200 and [swap["verdict"] for swap in answer["swaps"]] == ["succeeded"] * 2, answer
    for name in ("one", "two"):
        port = int(aether.service(name)["listeners"][0]["address"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert f"I am {name}".encode() in sock.makefile("rb").read()
