# SPDX-License-Identifier: Apache-2.0
"""SRP frames: bytes to values and back. docs/srp.md is the protocol; tests compare its golden bytes."""

import json
import struct
from binascii import crc32

MAGIC = 0xAE7E2024
VERSION = 1
HEADER = struct.Struct(">IIBBH")
CHECKSUM = struct.Struct(">I")

HELLO = 0x01
STATE_JSON = 0x02
STATE_PROTOBUF = 0x03
STATE_BYTES = 0x04
STATE_FD = 0x05
CONNECTION_FD = 0x06
LISTEN = 0x07
EXPORT = 0x10
RESUME = 0x11
RELEASE = 0x12
CHECKPOINT = 0x13
LOAD = 0x14
DRAIN = 0x15
ERROR = 0xFE
ACK = 0xFF

NAMES = {
    value: name
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, int) and name not in ("MAGIC", "VERSION")
}

MORE = 0x0001
CRC32 = 0x0002
PICKLE = 0x0004

STATE_FRAMES = (STATE_JSON, STATE_PROTOBUF, STATE_BYTES)
STATE_PAYLOAD_MAX = 64 << 20
CONTROL_PAYLOAD_MAX = 64 << 10
STATE_CHUNK = 1 << 20
FRAMED_STATE_MAX = 1 << 30


class ProtocolViolation(Exception):
    """The other side broke the protocol; the conversation ends."""


def encode(kind, payload=b"", flags=0):
    """The bytes of a frame. `payload` is bytes, or a dict for a JSON payload."""
    if isinstance(payload, dict):
        payload = json.dumps(payload, separators=(",", ":")).encode()
    return HEADER.pack(8 + len(payload), MAGIC, VERSION, kind, flags) + payload


def decode_header(header):
    """(type, flags, payload length) of 12 bytes. Every bound is checked here, before anything is read."""
    length, magic, version, kind, flags = HEADER.unpack(header)
    if magic != MAGIC or version != VERSION:
        raise ProtocolViolation("a frame begins with magic %08x, version %d" % (magic, version))
    if kind not in NAMES:
        raise ProtocolViolation("a frame has the unknown type %02x" % kind)
    is_state = kind in STATE_FRAMES
    allowed = (MORE | CRC32) if is_state else 0
    if kind == STATE_BYTES:
        allowed |= PICKLE
    limit = STATE_PAYLOAD_MAX if is_state else CONTROL_PAYLOAD_MAX
    if flags & ~allowed or not 8 <= length <= limit + 8:
        raise ProtocolViolation(
            "a %s frame has flags %04x, length %d" % (NAMES[kind], flags, length)
        )
    return kind, flags, length - 8


def json_object(kind, payload):
    """The payload of a control frame as a dict."""
    try:
        value = json.loads(payload) if payload else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProtocolViolation("the payload of a %s frame is not a JSON object" % NAMES[kind])
    return value


def state_frames(kind, flags, data):
    """Cuts a state into frames: yields (header with checksum, piece of data). CRC-32, running on."""
    view = memoryview(data).cast("B")
    checksum = 0
    start = 0
    while True:
        piece = view[start : start + STATE_CHUNK]
        start += len(piece)
        more = MORE if start < len(view) else 0
        checksum = crc32(piece, checksum)
        header = HEADER.pack(12 + len(piece), MAGIC, VERSION, kind, flags | CRC32 | more)
        yield header + CHECKSUM.pack(checksum), piece
        if not more:
            return
