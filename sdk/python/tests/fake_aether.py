# SPDX-License-Identifier: Apache-2.0
"""A fake Aether: the other side of SRP, for tests of the SDK. Speaks frames by itself, from docs/srp.md,
so that a mistake in aeterna.frames cannot hide here."""

import array
import json
import os
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HELLO, STATE_JSON, STATE_PROTOBUF, STATE_BYTES, STATE_FD = 1, 2, 3, 4, 5
LISTEN, EXPORT, RESUME, RELEASE, CHECKPOINT, LOAD, ERROR, ACK = 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0xFE, 0xFF
DRAIN = 0x15
MORE, CRC32, PICKLE = 1, 2, 4
LONG = 30.0


def frame(kind, payload=b"", flags=0):
    if isinstance(payload, dict):
        payload = json.dumps(payload).encode()
    return struct.pack(">IIBBH", 8 + len(payload), 0xAE7E2024, 1, kind, flags) + payload


class Session:
    """One child's connection. Frames of the child are in `frames` as (kind, flags, payload, fd)."""

    def __init__(self, sock):
        self.socket = sock
        self.frames = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._reader.join(10)
        self.socket.close()

    def _read(self):
        buffer, fds = b"", []
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(1 << 16, socket.CMSG_SPACE(16))
            except OSError:
                data = b""
            if not data:
                self.frames.put(None)
                return
            for _, _, cmsg in ancillary:
                numbers = array.array("i")
                numbers.frombytes(cmsg)
                fds.extend(numbers)
            buffer += data
            while len(buffer) >= 12:
                length, magic, version, kind, flags = struct.unpack(">IIBBH", buffer[:12])
                assert magic == 0xAE7E2024 and version == 1, buffer[:12]
                if len(buffer) < 4 + length:
                    break
                payload, buffer = buffer[12 : 4 + length], buffer[4 + length :]
                self.frames.put((kind, flags, payload, fds.pop(0) if kind == STATE_FD else None))

    def send(self, kind, payload=b"", flags=0, fd=None):
        data = frame(kind, payload, flags)
        if fd is None:
            self.socket.sendall(data)
        else:
            socket.send_fds(self.socket, [data], [fd])

    def expect(self, kind, timeout=LONG):
        """The next frame, which must be of this kind: (payload as dict or bytes, flags, fd)."""
        got = self.frames.get(timeout=timeout)
        assert got is not None, "the child left"
        assert got[0] == kind, "expected %02x, got %02x %r" % (kind, got[0], got[2][:500])
        control = kind not in (STATE_JSON, STATE_BYTES, STATE_PROTOBUF)
        return (json.loads(got[2]) if control else got[2]), got[1], got[3]

    def greet(self, memory="none", revision=1):
        hello, _, _ = self.expect(HELLO)
        self.send(
            ACK,
            {"of": "hello", "service": "t", "revision": revision, "handoff": True,
             "mechanism": "pipe", "memory": memory},
        )
        return hello

    def ask_export(self, mechanism="pipe", deadline_ms=5000):
        self.send(EXPORT, {"mechanism": mechanism, "deadline_ms": deadline_ms})

    def take_state(self, kind=STATE_JSON):
        """The data of a state that comes in frames, every checksum checked, and acknowledged."""
        data = b""
        while True:
            payload, flags, _ = self.expect(kind)
            data += payload[4:]
            assert flags & CRC32
            assert struct.unpack(">I", payload[:4])[0] == zlib.crc32(data), "running checksum"
            if not flags & MORE:
                break
        self.send(ACK, {"of": "state", "bytes": len(data), "crc32c": 1})
        return data, flags

    def export(self, mechanism="pipe"):
        """A whole export by pipe of a JSON state: the object."""
        self.ask_export(mechanism)
        self.expect(CHECKPOINT)
        return json.loads(self.take_state()[0])

    def give_state(self, data, kind=STATE_JSON, flags=0, pieces=1):
        size = max(1, -(-len(data) // pieces))
        parts = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
        checksum = 0
        for index, part in enumerate(parts):
            checksum = zlib.crc32(part, checksum)
            more = MORE if index + 1 < len(parts) else 0
            self.send(kind, struct.pack(">I", checksum) + part, flags | CRC32 | more)
        return {"of": "state", "bytes": len(data), "crc32": checksum}


class FakeAether:
    """The socket, and children that are told about it."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "srp.sock")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(16)
        self.socket.settimeout(LONG)
        self.children = []
        self.sessions = []

    def accept(self, memory="none", revision=1):
        sock, _ = self.socket.accept()
        session = Session(sock)
        self.sessions.append(session)
        session.hello = session.greet(memory, revision)
        return session

    def spawn(self, code, listener=None, environment=(), arguments=()):
        """Runs Python code as a managed child; the listener is at fd 3."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "AETER", "AETHER_"))}
        env.update(
            AETERNA_SDK_LOG="CRITICAL", PYTHONPATH=SDK, AETERNA_STATE_SOCK=self.path,
            AETERNA_MANAGED="1", AETHER_INSTANCE_ID="7"
        )
        env.update(environment)
        passed = ()
        if listener is not None:
            # bash puts the socket at fd 3, whatever its number is here (dash knows only one digit).
            env.update(LISTEN_FDS="1", LISTEN_FDNAMES="http", AETERNA_INHERITED_FDS="1")
            passed = (listener.fileno(),)
        move = "exec 3<&%d; exec \"$@\"" % passed[0] if passed else "exec \"$@\""
        child = subprocess.Popen(
            ["bash", "-c", move, "bash", sys.executable, "-c", code, *arguments],
            env=env, pass_fds=passed, stdout=subprocess.PIPE, text=True,
        )
        self.children.append(child)
        return child

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
            child.stdout.close()
        for session in self.sessions:
            session.close()
        self.socket.close()
        self.directory.cleanup()


def lane(port=0):
    """A listener as Aether makes them: a lane of a reuseport group."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(512)
    return sock


SO_ATTACH_REUSEPORT_CBPF = 51


def steer(sock, index):
    """New connections of the group go to the lane of this index: the program `ret index`."""
    import ctypes

    program = struct.pack("HBBI", 0x06, 0, 0, index)
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)
