# SPDX-License-Identifier: Apache-2.0
"""A handshake that is half done when connections are steered elsewhere. The client is this test itself, packet by
packet on a TUN interface in a network of its own: nothing else can hold a handshake open at a chosen point."""

import fcntl
import os
import select
import socket
import struct

import pytest
from aether import PATIENCE, eventually
from own_network import in_own_network
from programs import ASYNCIO, program, service

OURS, THEIRS = "10.77.0.1", "10.77.0.2"
FIN, SYN, PSH, ACK = 1, 2, 8, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_tun():
    """An interface whose packets this process reads and writes, with OURS on the kernel's side."""
    if not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("there is no /dev/net/tun that the test may open")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"edge0", 0x0001 | 0x1000))  # TUNSETIFF: TUN, NO_PI
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for request, address in ((0x8916, OURS), (0x891C, "255.255.255.0")):  # SIOCSIFADDR, SIOCSIFNETMASK
            named = struct.pack("16sHH4s8x", b"edge0", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any_socket, request, named)
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"edge0", 0x1 | 0x40))  # SIOCSIFFLAGS: UP, RUNNING
    return tun


class Client:
    """One TCP connection from THEIRS, at the speed of the test."""

    def __init__(self, tun, port, own_port):
        self.tun, self.port, self.own_port = tun, port, own_port
        self.sequence, self.acknowledged = 1000, 0

    def send(self, flags, data=b""):
        pseudo = socket.inet_aton(THEIRS) + socket.inet_aton(OURS) + struct.pack("!BBH", 0, 6, 20 + len(data))
        def segment(check):
            return struct.pack("!HHIIBBHHH", self.own_port, self.port, self.sequence, self.acknowledged,
                               5 << 4, flags, 65535, check, 0) + data
        tcp = segment(checksum(pseudo + segment(0)))
        def header(check):
            return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, check,
                               socket.inet_aton(THEIRS), socket.inet_aton(OURS))
        os.write(self.tun, header(checksum(header(0))) + tcp)
        self.sequence += len(data) + bool(flags & (SYN | FIN))

    def receive(self):
        """(flags, data) of the next segment for this connection; acknowledges what it carries."""
        while True:
            ready, _, _ = select.select([self.tun], [], [], PATIENCE)
            assert ready, "no packet came"
            packet = os.read(self.tun, 65536)
            if packet[0] >> 4 != 4 or packet[9] != 6:
                continue
            tcp = packet[(packet[0] & 15) * 4:struct.unpack_from("!H", packet, 2)[0]]
            source, target, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", tcp)
            if (source, target) != (self.port, self.own_port):
                continue
            data = tcp[(offset >> 4) * 4:]
            if flags & SYN or data or flags & FIN:
                self.acknowledged = (sequence + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
            return flags, data

    def begin(self):
        self.send(SYN)
        flags, _ = self.receive()
        assert flags & SYN and flags & ACK

    def finish(self):
        """Completes the handshake, asks, and gives the answer's last line; None if the connection was reset."""
        self.send(ACK)
        self.send(ACK | PSH, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.rpartition(b"\r\n\r\n")[2]:
            flags, data = self.receive()
            if flags & 4:  # RST
                return None
            answer += data
        return int(answer.rpartition(b"\r\n\r\n")[2])


def listening():
    """How many sockets listen on the port, in the thread's network."""
    with open("/proc/thread-self/net/tcp", encoding="ascii") as sockets:
        return sum(":1F90 " in line and line.split()[3] == "0A" for line in sockets)


@pytest.mark.edge("A14")
def test_a_handshake_that_is_half_done_at_the_cutover_completes(start, tmp_path):
    def body():
        tun = open_tun()
        try:
            made = service(program(tmp_path, "server.py", ASYNCIO), listen="10.77.0.1:8080", soak="0s")
            made["orchestration"]["drain"] = {"timeout": "10m", "stop": "at_deadline"}
            aether = start(made)
            old = aether.service()["pid"]
            client = Client(tun, 8080, 40001)
            client.begin()
            swap = aether.reload()
            assert swap["verdict"] == "succeeded", swap
            assert client.finish() == old, "the old revision, which it came to, answers it"
            later = Client(tun, 8080, 40002)
            later.begin()
            assert later.finish() == swap["pid"]
        finally:
            os.close(tun)

    in_own_network(body)


@pytest.mark.edge("A14")
def test_a_handshake_that_is_half_done_when_its_lane_is_closed_is_moved_by_the_kernel(start, tmp_path):
    """With net.ipv4.tcp_migrate_req. Without it, only those complete that do so within 100 ms (steer/rescue.h)."""

    def body():
        tun = open_tun()
        try:
            aether = start(service(program(tmp_path, "server.py", ASYNCIO), listen="10.77.0.1:8080", soak="0s"))
            client = Client(tun, 8080, 40001)
            client.begin()
            swap = aether.reload()
            assert swap["verdict"] == "succeeded", swap
            eventually(lambda: listening() == 1, "the old revision's lane is closed")
            assert client.finish() == swap["pid"]
        finally:
            os.close(tun)

    in_own_network(body, tcp_migrate_req=1)
