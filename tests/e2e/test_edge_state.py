# SPDX-License-Identifier: Apache-2.0
"""Memory on its way: every size, and every way for it to arrive wrong. After each: memory whole, service whole.

RAW speaks the protocol by hand, from docs/srp.md, so that it can break each of its rules. What it does
wrong is in the file `mode`, read when it is asked for its memory.
"""

import http.client
import json
import os
from pathlib import Path

import pytest

from aether import SANITIZED, Aether, eventually
from programs import program, service
from under_load import soak

RAW = r"""
import array, ctypes, fcntl, hashlib, json, mmap, os, socket, struct, threading, time, zlib
FOLDER = os.path.dirname(os.path.abspath(__file__))
SIZE = int(os.environ["SIZE"])
CHUNK = 1 << 16
about = {"pid": os.getpid()}

def mode():
    with open(FOLDER + "/mode") as file: return file.read()

def frame(kind, payload=b"", flags=0):
    if isinstance(payload, dict): payload = json.dumps(payload).encode()
    return struct.pack(">IIBBH", 8 + len(payload), 0xAE7E2024, 1, kind, flags) + payload

def state_frames(data):
    frames, crc = [], 0
    for at in range(0, len(data), CHUNK):
        piece = data[at:at + CHUNK]
        crc = zlib.crc32(piece, crc)
        more = 1 if at + CHUNK < len(data) else 0
        frames.append(frame(4, struct.pack(">I", crc) + piece, 2 | more))
    return frames

def read(s, n):
    data = b""
    while len(data) < n:
        piece, ancillary, _, _ = s.recvmsg(n - len(data), socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
        for _, _, numbers in ancillary: about["fd"] = array.array("i", numbers)[0]
        if not piece: raise ConnectionError
        data += piece
    return data

def receive(s):
    length, _, _, kind, flags = struct.unpack(">IIBBH", read(s, 12))
    return kind, flags, read(s, length - 8)

def hold(data):
    about.update(data=data, size=len(data), sha=hashlib.sha256(data).hexdigest())

def load(s):
    kind, flags, payload = receive(s)
    if kind == 0xFF:
        hold(os.urandom(SIZE))
        about["cold"] = True
        return
    about["cold"] = False
    if kind == 5:
        said = json.loads(payload)
        about["seals"] = fcntl.fcntl(about["fd"], 1034)
        about["cloexec"] = fcntl.fcntl(about["fd"], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        try: os.pwrite(about["fd"], b"x", 0); about["writable"] = True
        except PermissionError: about["writable"] = False
        hold(mmap.mmap(about["fd"], said["size"], mmap.MAP_SHARED, mmap.PROT_READ)[:])
        s.sendall(frame(0xFF, {"of": "state", "bytes": said["size"], "crc32c": said["crc32c"]}))
        return
    data, crc = b"", 0
    while True:
        data += payload[4:]
        crc = zlib.crc32(payload[4:], crc)
        assert crc == struct.unpack(">I", payload[:4])[0]
        if not flags & 1: break
        kind, flags, payload = receive(s)
    hold(data)
    s.sendall(frame(0xFF, {"of": "state", "bytes": len(data), "crc32": crc}))

def give_memfd(s, wrong):
    data = about["data"]
    fd = os.memfd_create("raw", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    said = {"name": "context", "size": len(data), "format": "bytes"}
    if wrong == "fd-mapped": about["map"] = mmap.mmap(fd, len(data))
    elif wrong == "fd-smaller": os.ftruncate(fd, len(data) // 2)
    elif wrong == "fd-larger": os.ftruncate(fd, len(data) * 2)
    elif wrong == "fd-checksum": said["crc32c"] = 12345
    elif wrong == "fd-pipe": fd = os.pipe()[0]
    elif wrong == "fd-file": fd = os.open(__file__, os.O_RDONLY); said["size"] = os.fstat(fd).st_size
    elif wrong == "fd-size": said["size"] = (1 << 32) + len(data)
    if wrong == "fd-none": s.sendall(frame(5, said))
    else: socket.send_fds(s, [frame(5, said)], [fd])

def give(s):
    wrong = mode()
    if wrong.startswith("fd-") or wrong == "shm": return give_memfd(s, wrong)
    frames = state_frames(about["data"])
    if wrong == "dies": s.sendall(b"".join(frames[:len(frames) // 2])); os.kill(os.getpid(), 9)
    if wrong == "cut": s.sendall(b"".join(frames)[:-100]); s.shutdown(socket.SHUT_RDWR); return
    if wrong == "stalls": s.sendall(b"".join(frames)[:-100]); return
    if wrong == "lost": del frames[1]
    if wrong == "twice": frames.insert(1, frames[1])
    if wrong == "swapped": frames[0], frames[1] = frames[1], frames[0]
    if wrong == "shorter": frames[0] = struct.pack(">I", len(frames[0]) - 4 - 1000) + frames[0][4:]
    if wrong == "longer": frames[0] = struct.pack(">I", len(frames[0]) - 4 + 1000) + frames[0][4:]
    if wrong == "endless": frames[0] = b"\xff\xff\xff\xff" + frames[0][4:]
    if wrong == "data": frames[1] = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    if wrong.startswith("bit "):
        bit = int(wrong[4:])
        first = bytearray(frames[0])
        first[bit // 8] ^= 1 << bit % 8
        frames[0] = bytes(first)
    s.sendall(frame(0x13, {"bytes": about["size"]}) + b"".join(frames))

def speak(s):
    s.connect(os.environ["AETERNA_STATE_SOCK"])
    s.sendall(frame(1, {"role": "service", "instance": os.environ["AETHER_INSTANCE_ID"], "pid": os.getpid(),
                        "capabilities": ["export", "shm", "resume", "crc32"]}))
    receive(s)
    if "data" not in about:
        s.sendall(frame(0x14, {}))
        load(s)
        threading.Thread(target=serve, daemon=True).start()
    while True:
        kind, _, payload = receive(s)
        if kind == 0x10: give(s)
        elif kind == 0x11: s.sendall(frame(0xFF, {"of": "resume"}))

def serve():
    listener = socket.socket(fileno=3)
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        body = json.dumps({k: v for k, v in about.items() if k not in ("data", "map")}).encode()
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        connection.close()

while True:
    try:
        with socket.socket(socket.AF_UNIX) as s: speak(s)
    except OSError: time.sleep(0.01)
"""


def asked(port, method="GET", path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def port_of(aether):
    return int(aether.service()["listeners"][0]["address"].rpartition(":")[2])


def holding(command, mechanism="pipe", timeout="20s", **more):
    config = service(command, name="holder", listen=["127.0.0.1:0"], soak="0s", **more)
    config["orchestration"]["state_handoff"] = True
    config["handoff"] = {"mechanism": mechanism, "timeout": timeout}
    return config


class Holder:
    """A RAW service of some bytes, and what must hold after whatever its export did."""

    def __init__(self, start, folder, mechanism="pipe", size=300_000, timeout="20s"):
        self.mode = folder / "mode"
        self.mode.write_text("good")
        command = program(folder, "raw.py", RAW)
        self.aether = start(holding(command, mechanism, timeout, env={"SIZE": str(size)}))
        self.port = port_of(self.aether)
        self.before = eventually(lambda: asked(self.port), "it serves")

    def swap(self, mode):
        self.mode.write_text(mode)
        swap = self.aether.reload()
        self.mode.write_text("good")
        eventually(lambda: self.aether.service()["phase"] == "idle", "the swap is over")
        return swap

    def refuses(self, mode):
        swap = self.swap(mode)
        assert swap["verdict"] == "rolled-back", (mode, swap)
        now = asked(self.port)
        assert (now["sha"], now["pid"]) == (self.before["sha"], self.before["pid"]), mode
        return swap["why"]

    def moves_whole(self, mode="good"):
        swap = self.swap(mode)
        assert swap["verdict"] == "succeeded", (mode, swap, self.aether.text())
        now = asked(self.port)
        assert (now["sha"], now["cold"]) == (self.before["sha"], False) and now["pid"] != self.before["pid"], mode
        self.before = now
        return now


FRAMES = ["lost", "twice", "swapped", "data", "shorter", "longer", "endless", "cut"]


@pytest.mark.edge("E2")
@pytest.mark.parametrize("mode", FRAMES)
def test_a_state_that_comes_wrong_in_frames_is_refused_memory_whole_service_whole(start, tmp_path, mode):
    holder = Holder(start, tmp_path, timeout="1s" if mode in ("shorter", "longer") else "20s")
    holder.refuses(mode)
    # Its conversation may have been ended for that; it comes back by itself.
    eventually(lambda: holder.swap("good")["verdict"] == "succeeded", "the next swap takes the memory along")
    assert asked(holder.port)["sha"] == holder.before["sha"]


@pytest.mark.edge("E2", "E9")
def test_a_state_that_stalls_is_given_up_at_its_time_memory_whole_service_whole(start, tmp_path):
    holder = Holder(start, tmp_path, timeout="1s")
    assert "1s" in holder.refuses("stalls")


@pytest.mark.edge("E2")
def test_a_flipped_bit_in_a_header_never_makes_a_torn_state(start, tmp_path):
    holder = Holder(start, tmp_path, timeout="300ms")
    bits = range(96) if soak(1) > 1 else [*range(3, 96, 8), 88]  # one of each byte, and "more"
    for bit in bits:
        swap = holder.swap(f"bit {bit}")
        now = asked(holder.port)
        # The type may say "protobuf" instead of "bytes": other words for the same, whole bytes.
        assert now["sha"] == holder.before["sha"], (bit, swap)
        moved = now["pid"] != holder.before["pid"]
        assert (swap["verdict"] == "succeeded") == moved, (bit, swap)
        holder.before = now
    eventually(lambda: holder.swap("good")["verdict"] == "succeeded", "the next swap takes the memory along")
    assert asked(holder.port)["sha"] == holder.before["sha"]


@pytest.mark.edge("E2")
def test_a_writer_that_dies_midway_leaves_a_new_one_that_starts_cold_and_not_torn(start, tmp_path):
    holder = Holder(start, tmp_path)
    swap = holder.swap("dies")
    assert swap["verdict"] == "succeeded", swap
    now = asked(holder.port)
    assert now["cold"] is True and now["sha"] != holder.before["sha"]


MEMFDS = ["fd-mapped", "fd-smaller", "fd-larger", "fd-checksum", "fd-pipe", "fd-file", "fd-size", "fd-none"]


@pytest.mark.edge("E2", "E3")
@pytest.mark.parametrize("mode", MEMFDS)
def test_a_memfd_that_is_not_what_it_says_is_refused_memory_whole_service_whole(start, tmp_path, mode):
    holder = Holder(start, tmp_path, "shm")
    holder.refuses(mode)
    eventually(lambda: holder.swap("shm")["verdict"] == "succeeded", "the next swap takes the memory along")
    assert asked(holder.port)["sha"] == holder.before["sha"]


@pytest.mark.edge("E3")
def test_the_new_revision_gets_memory_that_nobody_can_change(start, tmp_path):
    holder = Holder(start, tmp_path, "shm")
    now = holder.moves_whole("shm")  # which the old one did not seal
    assert now["seals"] & 0xF == 0xF, "SEAL, SHRINK, GROW, WRITE"
    assert now["writable"] is False and now["cloexec"] == 1


# ---- Sizes ------------------------------------------------------------------------------------------

HOLDER = """
import hashlib, json, os
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient, Buffer
from aeterna.http import HTTPServer
client = AeternaClient()
listener = client.get_listener_socket()
memory = client.load_context()
def sum_up(data):
    return {"size": len(data), "sha": hashlib.sha256(data).hexdigest(), "pid": os.getpid()}
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def reply(self):
        body = json.dumps(sum_up(memory)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.reply()
    def do_POST(self):
        global memory
        kind, size = self.path[1:].split("/")
        size = int(size)
        if kind == "buffer":
            buffer = Buffer(size)
            for at in range(0, size, 1 << 20):
                buffer.view[at:at + (1 << 20)] = os.urandom(1 << 16) * 16
            client.save_context(buffer)
            memory = buffer.view
        else:
            memory = (os.urandom(1 << 16) * (size // (1 << 16) + 1))[:size]
            client.save_context(memory)
        self.reply()
HTTPServer(listener, Handler).serve_forever()
"""

SIZES = [0, 1, 50 * 1024, 65535, 65536, 65537, (1 << 20) - 4, 1 << 20, (1 << 20) + 1]


def arrive(aether, sizes, kind="bytes"):
    port = port_of(aether)
    for size in sizes:
        before = asked(port, "POST", f"/{kind}/{size}")
        assert before["size"] == size
        swap = aether.reload()
        assert swap["verdict"] == "succeeded" and swap["handoff"]["bytes"] == size, swap
        after = asked(port)
        assert after["sha"] == before["sha"] and after["pid"] != before["pid"], size


@pytest.mark.edge("E1")
@pytest.mark.parametrize("mechanism", ["pipe", "shm"])
def test_every_size_arrives_whole(start, tmp_path, mechanism):
    aether = start(holding(program(tmp_path, "holder.py", HOLDER), mechanism))
    arrive(aether, SIZES + [100 * 1000 * 1000])


@pytest.mark.edge("E1")
@pytest.mark.skipif(soak(1) == 1, reason="gigabytes: only in a long run (AETHER_SOAK)")
def test_gigabytes_arrive_whole_and_too_many_for_frames_are_refused(start, tmp_path):
    aether = start(holding(program(tmp_path, "holder.py", HOLDER), "shm", "60s"))
    arrive(aether, [1 << 30, (1 << 30) + 1])
    arrive(aether, [(1 << 32) + (1 << 20)], "buffer")
    asked(port_of(aether), "POST", f"/bytes/{(1 << 30) + 1}")
    config = holding(program(tmp_path, "holder.py", HOLDER), "pipe", "60s")
    aether.write_config(config)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "larger than 1 GiB" in swap["why"], swap


class MemoryGroup:
    """A control group with a limit of memory; the old and the new kind have other names for the same."""

    def __init__(self, limit):
        old = Path("/sys/fs/cgroup/memory")
        root = old if old.is_dir() else Path("/sys/fs/cgroup")
        self.folder = root / f"aether-test-{os.getpid()}"
        maximum, self.peak_file = (
            ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if root == old else ("memory.max", "memory.peak")
        )
        try:
            self.folder.mkdir()
            (self.folder / maximum).write_text(str(limit))
        except OSError as error:
            if self.folder.is_dir():
                self.folder.rmdir()
            pytest.skip(f"needs a memory control group that the test may write to: {error}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        eventually(self.is_gone, "the group is empty")

    def is_gone(self):
        try:
            self.folder.rmdir()
        except OSError:
            return False
        return True

    @property
    def wrap(self):
        """Before a command, to run it inside."""
        return ["sh", "-c", f"echo $$ > {self.folder}/cgroup.procs; exec \"$@\"", "sh"]

    @property
    def peak(self):
        return int((self.folder / self.peak_file).read_text())


@pytest.mark.edge("E4")
def test_shared_memory_is_not_copied_it_moves_within_one_and_a_half_times_its_size(tmp_path):
    size = 128 << 20
    config = holding(program(tmp_path, "holder.py", HOLDER), "shm")
    limit = size * 3 // 2 + (512 << 20 if SANITIZED else 0)
    with MemoryGroup(limit) as group:
        with Aether(tmp_path / "aether", config, wrap=group.wrap) as aether:
            arrive(aether, [size], "buffer")
            port = port_of(aether)
            sha = asked(port)["sha"]
            for _ in range(3):
                assert aether.reload()["verdict"] == "succeeded", aether.text()
                assert asked(port)["sha"] == sha
            assert size < group.peak <= limit
            assert "SIGKILL" not in aether.text()
