# SPDX-License-Identifier: Apache-2.0
import os
import unittest
from binascii import crc32

from aeterna import frames

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "..", "docs", "srp.md")


def golden():
    """(type, flags, payload, hex) of each golden line that this SDK can speak: CRC-32 and control."""
    with open(PAGE, encoding="utf-8") as page:
        block = page.read().split("```golden\n")[1].split("```")[0]
    for line in block.splitlines():
        head, hexed = line.rsplit(" => ", 1)
        name, flags, payload = head.split(" ", 2)
        if payload.startswith("crc32c:"):
            continue
        data = payload.encode()
        if payload.startswith("crc32:"):
            data = data[6:]
            data = frames.CHECKSUM.pack(crc32(data)) + data
        yield getattr(frames, name), int(flags, 16), data, hexed.replace(" ", "")


class Frames(unittest.TestCase):
    def test_match_the_golden_bytes_of_the_protocol_page(self):
        seen = 0
        for kind, flags, payload, hexed in golden():
            encoded = frames.encode(kind, payload, flags)
            self.assertEqual(encoded.hex(), hexed)
            self.assertEqual(frames.decode_header(encoded[:12]), (kind, flags, len(payload)))
            seen += 1
        self.assertGreaterEqual(seen, 12)

    def test_refuse_what_breaks_the_rules(self):
        good = (10, frames.MAGIC, 1, frames.LOAD, 0)
        wrong = [
            (10, 1, 1, frames.LOAD, 0),
            (10, frames.MAGIC, 2, frames.LOAD, 0),
            (10, frames.MAGIC, 1, 0x08, 0),
            (10, frames.MAGIC, 1, frames.LOAD, frames.MORE),
            (12, frames.MAGIC, 1, frames.STATE_JSON, frames.PICKLE),
            (7, frames.MAGIC, 1, frames.LOAD, 0),
            ((64 << 10) + 9, frames.MAGIC, 1, frames.ACK, 0),
            ((64 << 20) + 9, frames.MAGIC, 1, frames.STATE_BYTES, 0),
            (0xFFFFFFFF, frames.MAGIC, 1, frames.STATE_BYTES, 0),
        ]
        frames.decode_header(frames.HEADER.pack(*good))
        for header in wrong:
            with self.assertRaises(frames.ProtocolViolation, msg=header):
                frames.decode_header(frames.HEADER.pack(*header))

    def test_cut_large_states_with_running_checksums(self):
        data = bytes(range(256)) * 8193
        got = b""
        pieces = list(frames.state_frames(frames.STATE_BYTES, 0, data))
        for index, (prefix, piece) in enumerate(pieces):
            kind, flags, length = frames.decode_header(prefix[:12])
            got += piece
            self.assertEqual(length, len(piece) + 4)
            self.assertEqual(bool(flags & frames.MORE), index + 1 < len(pieces))
            self.assertEqual(frames.CHECKSUM.unpack(prefix[12:])[0], crc32(got))
        self.assertEqual(got, data)
        self.assertEqual(len(pieces), 3)


if __name__ == "__main__":
    unittest.main()
