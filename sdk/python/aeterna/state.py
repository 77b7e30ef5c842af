# SPDX-License-Identifier: Apache-2.0
"""Memory as bytes: how an object travels (JSON, bytes or pickle), and sealed memfds."""

import errno
import fcntl
import json
import mmap
import os
import pickle

from . import frames

F_ADD_SEALS = getattr(fcntl, "F_ADD_SEALS", 1033)
F_GET_SEALS = getattr(fcntl, "F_GET_SEALS", 1034)
SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL | SHRINK | GROW | WRITE
MFD_ALLOW_SEALING = 0x2
SEAL_SHRINK = 0x2
SEAL_WRITE = 0x8

_PLAIN = (str, int, float, bool, type(None))


def is_jsonable(value):
    """True if JSON gives the same value back: str keys, no tuples, no subclasses."""
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            for key in item:
                if type(key) is not str:
                    return False
            stack.extend(item.values())
        elif kind is list:
            stack.extend(item)
        elif kind not in _PLAIN:
            return False
    return True


class Unreadable(Exception):
    """Bytes that arrived whole, but that this program cannot make an object of."""

    code = "state-unreadable"


class UnknownVersion(Unreadable):
    """Memory that is kept in a version which this program neither has nor migrates from."""

    code = "state-version-unknown"


class Encoded:
    """An object as bytes: in `data`, or in a sealed `memfd` (which close() closes if it is ours)."""

    def __init__(self, format, data=None, memfd=None, size=0, owned=True):
        self.format = format
        self.data = data
        self.memfd = memfd
        self.size = memoryview(data).nbytes if data is not None else size
        self._owned = owned

    def close(self):
        if self.memfd is not None and self._owned:
            os.close(self.memfd)
        self.memfd = None


def encode(value, by_memfd=False):
    """dict or list of plain values: JSON. bytes-like: as it is. Anything else: pickle protocol 5."""
    if isinstance(value, Buffer):
        return Encoded("bytes", memfd=value.seal(), size=value.size, owned=False)
    if isinstance(value, (bytes, bytearray, memoryview)):
        encoded = Encoded("bytes", data=value)
    elif type(value) in (dict, list) and is_jsonable(value):
        encoded = Encoded("json", data=json.dumps(value, separators=(",", ":")).encode())
    elif by_memfd:
        return _pickle_to_memfd(value)
    else:
        return Encoded("pickle", data=pickle.dumps(value, protocol=5))
    if by_memfd and encoded.size:
        fd = sealed_memfd(encoded.data)
        return Encoded(encoded.format, memfd=fd, size=encoded.size)
    return encoded


def snapshot(value):
    """A copy of memory that goes on changing while it is sent. Objects are copied by encode()."""
    if isinstance(value, Buffer):
        return bytes(value.view)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def _pickle_to_memfd(value):
    """Large bytes inside the object go straight to the memfd, without a copy in between."""
    fd = os.memfd_create("aeterna-state", os.MFD_CLOEXEC | MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb", 1 << 20) as file:
            pickle.dump(value, file, protocol=5)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
        return Encoded("pickle", memfd=fd, size=os.fstat(fd).st_size)
    except BaseException:
        os.close(fd)
        raise


def decode(format, data):
    """The object again. `data` is bytes-like; of format bytes it is returned as it is."""
    if format in ("bytes", "protobuf"):
        return data
    try:
        if format == "json":
            return json.loads(bytes(data))
        if format == "pickle":
            return pickle.loads(data)
    except Exception as error:  # whatever a pickle raises
        raise Unreadable("%s of %d bytes: %r" % (format, len(data), error)) from error
    raise Unreadable("the format %r is unknown" % format)


def frame_type(format):
    """(frame type, flags) for states that travel in frames."""
    if format == "json":
        return frames.STATE_JSON, 0
    if format == "protobuf":
        return frames.STATE_PROTOBUF, 0
    return frames.STATE_BYTES, frames.PICKLE if format == "pickle" else 0


def format_of(kind, flags):
    if kind == frames.STATE_JSON:
        return "json"
    if kind == frames.STATE_PROTOBUF:
        return "protobuf"
    return "pickle" if flags & frames.PICKLE else "bytes"


def write_all(fd, data):
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view[: 1 << 30]) :]


def sealed_memfd(data):
    """A memfd with these bytes that nobody can change any more. The caller closes it."""
    fd = os.memfd_create("aeterna-state", os.MFD_CLOEXEC | MFD_ALLOW_SEALING)
    try:
        write_all(fd, data)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_sealed(fd, size):
    """A read-only view of a peer's memfd; refused unless it is sealed and as long as it says."""
    seals = fcntl.fcntl(fd, F_GET_SEALS)
    if not (seals & SEAL_SHRINK and seals & SEAL_WRITE):
        raise frames.ProtocolViolation("the memfd of the state is not sealed")
    if os.fstat(fd).st_size != size:
        raise frames.ProtocolViolation("the memfd of the state does not have the size it says")
    return memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ))


class Buffer:
    """Memory that can be handed over without a copy, whatever its size (mechanism shm).

    Write into `view` (a memoryview; numpy.frombuffer and torch.frombuffer wrap it), then
    `client.save_context(buffer)`. When it is handed over it is sealed: from then on `view` is
    read-only. The next revision gets a read-only memoryview from load_context().
    """

    def __init__(self, size):
        self.size = size
        self._fd = os.memfd_create("aeterna-buffer", os.MFD_CLOEXEC | MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)
        self.view = memoryview(self._map)

    def seal(self):
        """Seals the memory and returns its fd (borrowed). Called by the SDK when it hands over."""
        if fcntl.fcntl(self._fd, F_GET_SEALS) & SEAL_WRITE:
            return self._fd
        self.view.release()
        try:
            self._map.close()
        except BufferError:
            self.view = memoryview(self._map)
            raise RuntimeError(
                "Buffer: drop every array and memoryview made from .view before the handoff "
                "(in the on_handoff hook), so that the memory can be sealed"
            ) from None
        try:
            fcntl.fcntl(self._fd, F_ADD_SEALS, SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise RuntimeError("Buffer: another process has it mapped writable") from None
        finally:
            self._map = mmap.mmap(self._fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ)
            self.view = memoryview(self._map)
        return self._fd

    def __del__(self):
        try:
            os.close(self._fd)
        except (OSError, AttributeError):
            pass
