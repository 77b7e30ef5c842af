# SPDX-License-Identifier: Apache-2.0
"""Hostility on the state socket: whatever a program sends, only its own conversation ends; nothing leaks in
Aether, the service serves, and the next swap takes the memory along."""

import os
import resource
import socket
import stat
from pathlib import Path

import pytest
from aether import PATIENCE, eventually
from srp_peer import peer_config
from test_edge_killpoints import Peers

# Each is run by the serving program; `answer` is what Aether said before it closed the connection.
FIRST_FRAMES = {
    "nothing": "s.shutdown(socket.SHUT_WR)",
    "half a length": "s.sendall(hello()[:2]); s.shutdown(socket.SHUT_WR)",
    "half a header": "s.sendall(hello()[:7]); s.shutdown(socket.SHUT_WR)",
    "half a payload": "s.sendall(hello()[:-3]); s.shutdown(socket.SHUT_WR)",
    "length 0": "s.sendall(struct.pack('>IIBBH', 0, 0xAE7E2024, 1, 1, 0))",
    "length 7": "s.sendall(struct.pack('>IIBBH', 7, 0xAE7E2024, 1, 1, 0))",
    "2 GiB": "s.sendall(struct.pack('>IIBBH', 1 << 31, 0xAE7E2024, 1, 1, 0))",
    "4 GiB - 1": "s.sendall(struct.pack('>IIBBH', 0xFFFFFFFF, 0xAE7E2024, 1, 4, 0))",
    "wrong magic": "s.sendall(struct.pack('>IIBBH', 10, 0xDEADBEEF, 1, 1, 0) + b'{}')",
    "wrong version": "s.sendall(struct.pack('>IIBBH', 10, 0xAE7E2024, 2, 1, 0) + b'{}')",
    "unknown type": "s.sendall(struct.pack('>IIBBH', 10, 0xAE7E2024, 1, 0x77, 0) + b'{}')",
    "flags on HELLO": "s.sendall(struct.pack('>IIBBH', 10, 0xAE7E2024, 1, 1, 0xFFFF) + b'{}')",
    "no JSON": "s.sendall(frame(HELLO, b'{{{{'))",
    "JSON, but no object": "s.sendall(frame(HELLO, b'[1]'))",
    "not UTF-8": "s.sendall(frame(HELLO, b'{\"a\":\"\\xff\\xfe\"}'))",
    "LOAD before HELLO": "s.sendall(frame(LOAD, {}))",
    "random bytes": "s.sendall(random.Random(7).randbytes(70000))",
    "another instance": "s.sendall(frame(HELLO, {'instance': '999'}))",
    "a second conversation": "s.sendall(hello())",
    "what Aether says": "s.sendall(frame(EXPORT, {'mechanism': 'pipe'}))",
    "a memfd with it": "fd = memfd(b'x'); socket.send_fds(s, [hello()], [fd]); os.close(fd)",
    "five descriptors": "fds = [memfd(b'x') for _ in range(5)]; socket.send_fds(s, [hello()], fds)\n"
                        "for fd in fds: os.close(fd)",
    "253 descriptors": "fds = [memfd(b'x') for _ in range(253)]; socket.send_fds(s, [hello()], fds)\n"
                       "for fd in fds: os.close(fd)",
    "itself": "socket.send_fds(s, [hello()], [s.fileno()])",
}
AFTER_HELLO = {
    "a state nobody asked for": "current.sendall(frame(STATE, struct.pack('>I', sum_of(b'{}')) + b'{}', 2))",
    "a memfd nobody asked for":
        "fd = memfd(b'{}'); socket.send_fds(current, [frame(STATE_FD, {'size': 2, 'format': 'json'})], [fd])\n"
        "os.close(fd)",
    "a memfd that is announced and not sent": "current.sendall(frame(STATE_FD, {'size': 2, 'format': 'json'}))",
    "a directory for a memfd":
        "fd = os.open('/', os.O_RDONLY)\n"
        "socket.send_fds(current, [frame(STATE_FD, {'size': 2, 'format': 'json'})], [fd]); os.close(fd)",
    "one announced, four sent":
        "fds = [memfd(b'{}') for _ in range(4)]\n"
        "socket.send_fds(current, [frame(STATE_FD, {'size': 2, 'format': 'json'})], fds)\n"
        "for fd in fds: os.close(fd)",
    "LOAD, and LOAD": "current.sendall(frame(LOAD, {}) * 2)",
    "LISTEN on nonsense": "current.sendall(frame(LISTEN, {'address': 'nowhere:99999999'}))",
    "ACK of RESUME": "current.sendall(frame(ACK, {'of': 'resume'}))",
    "ERROR of everything": "current.sendall(frame(ERROR, {'of': 'state', 'code': 'x', 'message': 'y' * 60000}))",
    "HELLO again": "current.sendall(hello())",
    "random bytes": "current.sendall(random.Random(9).randbytes(4000))",
}


def run(peers, code):
    return peers.ask("POST", "/run", code.encode())


@pytest.mark.edge("D7", "E2")
def test_what_is_not_a_hello_ends_only_its_own_connection_and_every_descriptor_is_closed(start, tmp_path):
    peers = Peers(start, tmp_path)
    for name, code in FIRST_FRAMES.items():
        told = run(peers, f"s = connect()\n{code}\nanswer = left(s); s.close()")
        assert all(kind == 0xFE for kind, _ in told), f"{name}: only refused, not greeted: {told}"
    peers.leaks_nothing()
    assert peers.whole()
    peers.good_swap()
    assert peers.whole()


@pytest.mark.edge("D7", "E2")
def test_what_no_child_says_after_hello_costs_its_conversation_at_most(start, tmp_path):
    peers = Peers(start, tmp_path)
    for name, code in AFTER_HELLO.items():
        eventually(lambda act=code: run(peers, f"if not heard: raise OSError\n{act}\nanswer = True"), f"it said {name}")
        assert peers.add() and peers.whole(), name
    # It has come back after each; once it is heard again, a swap takes the memory along.
    peers.good_swap()
    assert peers.whole()
    peers.leaks_nothing()


@pytest.mark.edge("E2")
def test_a_hello_that_comes_one_byte_at_a_time_is_a_hello(start, tmp_path):
    peers = Peers(start, tmp_path)
    drip = """
current.shutdown(socket.SHUT_RDWR)  # The one conversation of this instance ends first.
s = connect()
for byte in hello(): s.sendall(bytes([byte])); time.sleep(0.0005)
answer = receive(s)[0]
s.close()
"""
    # Its own reconnecting may win the race for the one place; either way the answer is an answer.
    assert run(peers, drip) in (0xFF, 0xFE)
    assert peers.add() and peers.whole()


@pytest.mark.edge("D11")
def test_the_state_socket_is_private_and_strangers_are_turned_away(start, tmp_path):
    peers = Peers(start, tmp_path)
    path = next(peers.aether.runtime.glob("**/*.srp"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as stranger:  # of the same user, but of no instance
            stranger.settimeout(PATIENCE)
            stranger.connect(str(path))
            instance = peers.aether.service()["instances"][0]
            payload = f'{{"instance":"{instance.get("instance", 1)}"}}'.encode()
            stranger.sendall((8 + len(payload)).to_bytes(4, "big") + bytes.fromhex("ae7e202401010000") + payload)
            told = b""
            while piece := stranger.recv(65536):
                told += piece
            assert b"forbidden" in told and told[9] == 0xFE, told
    peers.leaks_nothing()
    peers.good_swap()
    assert peers.whole()


@pytest.mark.edge("D11")
def test_more_connections_than_any_service_needs_do_no_harm(start, tmp_path):
    peers = Peers(start, tmp_path)
    path = next(peers.aether.runtime.glob("**/*.srp"))
    idle = []
    for _ in range(80):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(str(path))
        idle.append(stranger)
    assert peers.add() and peers.whole()
    for stranger in idle:
        stranger.close()
    peers.good_swap()
    assert peers.whole()
    peers.leaks_nothing()


@pytest.mark.edge("D5")
def test_a_memfd_for_which_aether_has_no_descriptor_left_costs_the_swap_and_not_the_memory(start, tmp_path):
    peers = Peers(start, tmp_path, mechanism="shm", timeout="20s")
    plan = tmp_path / "plan"
    before = peers.aether.service()["pid"]
    plan.write_text('{"old": {"at": "checkpoint", "do": "wait"}}')
    code, answer = peers.aether.ask("POST", "/v1/reload", {})
    assert code == 202
    eventually((tmp_path / "plan.reached").exists, "the old one exports")
    aether = peers.aether.pid
    soft, hard = resource.prlimit(aether, resource.RLIMIT_NOFILE)
    resource.prlimit(aether, resource.RLIMIT_NOFILE, (3, hard))
    (tmp_path / "plan.go").touch()
    eventually(lambda: "descriptors" in peers.aether.text(), "the lack is noticed")
    resource.prlimit(aether, resource.RLIMIT_NOFILE, (soft, hard))
    peers.idle()
    plan.unlink()
    swap = peers.aether.service()["last_swap"]
    assert swap["verdict"] == "rolled-back", swap
    assert peers.add() == before and peers.whole()
    peers.leaks_nothing()


@pytest.mark.edge("D8")
def test_received_descriptors_are_closed_on_exec_and_no_hook_sees_them(start, tmp_path):
    seen = tmp_path / "hook"
    peers = Peers(start, tmp_path, mechanism="shm", timeout="20s")
    hook = f"ls -l /proc/self/fd > {seen}.new && mv {seen}.new {seen}"
    text = peer_config(tmp_path, mechanism="shm", timeout="20s")
    text["orchestration"]["pre_flight"] = [{"name": "look", "command": ["sh", "-c", hook]}]
    peers.aether.write_config(text)
    plan = tmp_path / "plan"
    plan.write_text('{"old": {"at": "state", "do": "wait"}}')
    peers.aether.ask("POST", "/v1/reload", {})
    eventually((tmp_path / "plan.reached").exists, "the old one has sent its memory")

    def holds_memory():
        return [e for e in Path(f"/proc/{peers.aether.pid}/fd").iterdir() if "memfd:" in os.readlink(e)]

    held = eventually(holds_memory, "Aether holds the memory")
    for entry in held:
        info = Path(f"/proc/{peers.aether.pid}/fdinfo/{entry.name}").read_text()
        flags = int(next(line.split()[1] for line in info.splitlines() if line.startswith("flags:")), 8)
        assert flags & os.O_CLOEXEC, "CLOEXEC"
    (tmp_path / "plan.go").touch()
    assert "memfd" not in seen.read_text() and "socket" not in seen.read_text(), seen.read_text()
