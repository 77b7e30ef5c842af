# SPDX-License-Identifier: Apache-2.0
"""The SRP connection to Aether: whole frames in and out, with descriptors."""

import array
import os
import socket
import threading
from binascii import crc32

from . import frames, state

CONNECT_TIMEOUT = 5.0
FDS_MAX = 4


class Gone(Exception):
    """The other side has closed the connection."""


class RawState:
    """A state that arrived whole and unchanged; not yet an object."""

    def __init__(self, format, data, ack, memfd=None):
        self.format = format
        self.data = data
        self.ack = ack  # the fields of the ACK that confirms it
        self.memfd = memfd
        self.version = 0  # the program's own number for how it keeps its memory

    def close(self):
        if self.memfd is not None:
            os.close(self.memfd)
            self.memfd = None


class Wire:
    """One connection. send() from any thread; receive() from one."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sending = threading.Lock()
        try:
            self._socket.settimeout(CONNECT_TIMEOUT)
            self._socket.connect(path)
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def abandon(self):
        """Closes this process's descriptor only: another process goes on with the conversation."""
        self._sending = threading.Lock()
        self._socket.close()

    def set_timeout(self, seconds):
        self._socket.settimeout(seconds)

    def send(self, kind, payload=b"", fd=None):
        data = frames.encode(kind, payload)
        with self._sending:
            try:
                if fd is not None:
                    sent = socket.send_fds(self._socket, [data], [fd])
                    data = data[sent:]
                self._socket.sendall(data)
            except OSError as error:
                raise Gone(str(error)) from error

    def _send_bytes(self, data):
        with self._sending:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise Gone(str(error)) from error

    def send_state(self, encoded, first=b""):
        """The state in frames, or its memfd. `first`: whole frames that go in the same packet, so that
        Aether wakes once."""
        if encoded.memfd is not None:
            about = {"name": "context", "size": encoded.size, "format": encoded.format}
            self._send_bytes(first)
            self.send(frames.STATE_FD, about, encoded.memfd)
            return
        kind, flags = state.frame_type(encoded.format)
        with self._sending:
            try:
                for prefix, piece in frames.state_frames(kind, flags, encoded.data):
                    if len(piece) <= 65536:
                        self._socket.sendall(b"".join((first, prefix, piece)))
                    else:
                        self._socket.sendall(first + prefix)
                        self._socket.sendall(piece)
                    first = b""
            except OSError as error:
                raise Gone(str(error)) from error

    def receive(self):
        """(type, flags, payload, fd or None). Raises Gone or ProtocolViolation."""
        header, fd = self._read_header()
        try:
            kind, flags, length = frames.decode_header(header)
            payload = self._read_exactly(length)
            if (fd is not None) != (kind == frames.STATE_FD):
                if kind == frames.STATE_FD:
                    raise frames.ProtocolViolation("a STATE_FD frame came without its memfd")
                if kind != frames.ACK:
                    raise frames.ProtocolViolation("a descriptor came that nothing asked for")
            return kind, flags, payload, fd
        except BaseException:
            if fd is not None:
                os.close(fd)
            raise

    def receive_state(self, kind, flags, payload, fd):
        """The rest of a state whose first frame is given. Verified; frames of others are refused."""
        if kind == frames.STATE_FD:
            return self._receive_memfd(payload, fd)
        data = bytearray()
        checksum = 0
        first = flags & ~frames.MORE
        if not first & frames.CRC32:
            raise frames.ProtocolViolation("this SDK asked for CRC-32 and got CRC-32C")
        while True:
            if len(payload) < 4:
                raise frames.ProtocolViolation("a state frame has no room for its checksum")
            piece = memoryview(payload)[4:]
            checksum = crc32(piece, checksum)
            if checksum != frames.CHECKSUM.unpack_from(payload)[0]:
                raise state.Unreadable("checksum-mismatch")
            if len(data) + len(piece) > frames.FRAMED_STATE_MAX:
                raise frames.ProtocolViolation("a state of more than 1 GiB came in frames")
            data += piece
            if not flags & frames.MORE:
                break
            next_kind, flags, payload, stray = self.receive()
            if stray is not None:
                os.close(stray)
            if next_kind != kind or flags & ~frames.MORE != first:
                raise frames.ProtocolViolation("the frames of one state differ in type or flags")
        ack = {"of": "state", "bytes": len(data), "crc32": checksum}
        return RawState(state.format_of(kind, flags), bytes(data), ack)

    def _receive_memfd(self, payload, fd):
        try:
            about = frames.json_object(frames.STATE_FD, payload)
            size = about.get("size")
            if type(size) is not int or size <= 0:
                raise frames.ProtocolViolation("a STATE_FD frame has no size")
            view = state.map_sealed(fd, size)
        except BaseException:
            os.close(fd)
            raise
        ack = {"of": "state", "bytes": size, "crc32c": about.get("crc32c")}
        return RawState(about.get("format"), view, ack, fd)

    def _read_header(self):
        header = b""
        fd = None
        try:
            while len(header) < 12:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    12 - len(header), socket.CMSG_SPACE(4 * FDS_MAX), socket.MSG_CMSG_CLOEXEC
                )
                for received in _descriptors(ancillary):
                    if fd is not None:
                        os.close(fd)
                    fd = received
                if not data:
                    raise Gone("Aether has closed the connection")
                header += data
        except OSError as error:
            if fd is not None:
                os.close(fd)
            raise Gone(str(error)) from error
        except Gone:
            if fd is not None:
                os.close(fd)
            raise
        return header, fd

    def _read_exactly(self, length):
        # Grows as bytes come: a length that is only claimed costs nothing.
        parts = []
        left = length
        try:
            while left:
                data = self._socket.recv(min(left, 1 << 20))
                if not data:
                    raise Gone("Aether has closed the connection inside a frame")
                parts.append(data)
                left -= len(data)
        except OSError as error:
            raise Gone(str(error)) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _descriptors(ancillary):
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
