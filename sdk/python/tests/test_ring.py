# SPDX-License-Identifier: Apache-2.0
"""The ring of docs/ring.md as Python reads and writes it. Aether's own side is tested against it in tests/e2e."""

import os
import random
import struct
import unittest
import zlib
from pathlib import Path

from aetherless import ring

CAPACITY = 4096


def format_ring(capacity=CAPACITY):
    """The memory of a new ring."""
    header = struct.pack("<QIIIIQQQQQQI", ring.MAGIC, ring.ABI, ring.SINGLE, ring.CRC32, 1, 4096 + capacity, 4096,
                         capacity, 1, 0, 0, 0)
    page = bytearray(4096)
    page[:80] = header + struct.pack("<I", zlib.crc32(header))
    page[1024:1032] = b"\xff" * 8
    return bytes(page) + bytes(capacity)


def memfd(*rings):
    fd = os.memfd_create("ring")
    os.write(fd, b"".join(rings))
    return fd


class Pair:
    def __init__(self, capacity=CAPACITY):
        self.fd = memfd(format_ring(capacity))
        self.region = ring.Region(self.fd)
        self.writer = ring.Writer(self.region, 0)
        self.reader = ring.Reader(self.region, 0)

    def poke(self, at, data):
        os.pwrite(self.fd, data, at)


def vectors():
    """Of src/ring/testdata/vectors.txt, which says what its lines mean."""
    rings = []
    for line in (Path(__file__).parents[3] / "src/ring/testdata/vectors.txt").read_text().splitlines():
        words = line.split()
        if words[:1] == ["ring"]:
            rings.append({"words": words[1:], "messages": [], "pieces": {}})
        elif words[:1] == ["message"]:
            rings[-1]["messages"].append((*map(int, words[1:4]), bytes.fromhex(words[4].strip("-"))))
        elif words[:1] == ["at"]:
            rings[-1]["pieces"][int(words[1])] = bytes.fromhex(words[2])
    return rings


def image_of(vector, written):
    """The memory of a vector's ring, before or after its messages were written."""
    _, kind, _, capacity, start, sequence, fill = vector["words"]
    capacity, start, data = int(capacity), int(start), 4096 if kind == "1" else 12288
    image = bytearray(data) + bytearray(bytes.fromhex(fill) * capacity)
    image[data + start % capacity : data + start % capacity + 8] = bytes(8)
    image[128:136] = image[256:264] = struct.pack("<Q", start)
    image[1024:1040] = b"\xff" * 8 + struct.pack("<Q", int(sequence))
    for at, piece in vector["pieces"].items():
        if written or at == 0:
            image[at : at + len(piece)] = piece
    return bytes(image)


class VectorTest(unittest.TestCase):
    def region(self, vector, written):
        fd = memfd(image_of(vector, written))
        self.addCleanup(os.close, fd)
        return fd, ring.Region(fd)

    def test_rings_are_read_and_written_byte_for_byte_or_refused(self):
        read = written = refused = 0
        for vector in vectors():
            _, kind, checksum, *_ = vector["words"]
            _, region = self.region(vector, True)
            if (kind, checksum) != ("1", "1"):
                self.assertRaises(ring.Poisoned, ring.Reader, region, 0)
                refused += 1
                continue
            reader = ring.Reader(region, 0)
            self.assertEqual([reader.read() for _ in vector["messages"]], [each[3] for each in vector["messages"]])
            self.assertIsNone(reader.read())
            read += 1
            if any(flags != 3 for _, flags, _, _ in vector["messages"]):
                continue  # It writes whole messages only.
            fd, region = self.region(vector, False)
            writer = ring.Writer(region, 0)
            for kind_of_message, _, _, payload in vector["messages"]:
                assert writer.write(payload, kind=kind_of_message)
            due = image_of(vector, True)
            got = os.pread(fd, len(due), 0)
            for part in (slice(0, 264), slice(1024, 1040), slice(4096, None)):
                self.assertEqual(got[part].hex(), due[part].hex(), vector["words"][0])
            written += 1
        self.assertEqual((read, written, refused), (5, 4, 5))


class RingTest(unittest.TestCase):
    def pair(self):
        made = Pair()
        self.addCleanup(os.close, made.fd)
        return made

    def test_what_is_written_is_read(self):
        pair = self.pair()
        for payload in (b"", b"x", b"12345678", bytes(range(256)) * 7):
            assert pair.writer.write(payload)
            assert pair.reader.read() == payload
            assert pair.reader.read() is None
            pair.reader.release()

    def test_a_ring_is_byte_for_byte_what_node_and_c_write(self):
        pair = self.pair()
        for payload in (b"", b"x", b"12345678", b"a longer payload"):
            pair.writer.write(payload, kind=7)
        self.assertEqual(zlib.crc32(os.pread(pair.fd, CAPACITY, 4096)), 0x944CE0A5)

    def test_records_wrap_at_every_offset(self):
        pair = self.pair()
        chance = random.Random(20261121)
        sent = []
        for turn in range(5000):
            payload = bytes([turn % 256]) * chance.randrange(0, 700)
            while not pair.writer.write(payload):
                assert pair.reader.read() == sent.pop(0)
                pair.reader.release()
            sent.append(payload)
        while sent:
            assert pair.reader.read() == sent.pop(0)
        assert pair.reader.read() is None

    def test_the_largest_record_always_fits_once_all_is_read(self):
        pair = self.pair()
        largest = b"z" * pair.writer.payload_max
        for small in range(0, 2000, 8):
            assert pair.writer.write(b"s" * small)
            pair.reader.read()
            pair.reader.release()
            assert pair.writer.write(largest)
            assert pair.reader.read() == largest
            pair.reader.release()
        with self.assertRaises(ValueError):
            pair.writer.write(largest + b"!")

    def test_a_record_is_as_the_page_says(self):
        pair = self.pair()
        pair.writer.write(b"payload", kind=5)
        raw = os.pread(pair.fd, 40, 4096)
        length, kind, flags, sequence, crc, producer = struct.unpack_from("<IHHQII", raw)
        assert (length, kind, flags, sequence, producer) == (31, 5, 3, 0, 0)
        assert crc == zlib.crc32(b"payload", zlib.crc32(raw[:16], 0))
        assert raw[24:31] == b"payload" and raw[32:40] == bytes(8)

    def test_who_sleeps_is_said_to_be_woken_once(self):
        pair = self.pair()
        assert not pair.writer.is_awaited()
        assert pair.reader.sleep()
        pair.writer.write(b"x")
        assert pair.writer.is_awaited() and not pair.writer.is_awaited()
        assert not pair.reader.sleep(), "there is something to read"
        assert not pair.writer.is_awaited()

    def test_a_writer_without_room_is_woken_when_there_is(self):
        pair = self.pair()
        while pair.writer.write(b"x" * 1000):
            pass
        pair.reader.read()
        assert pair.reader.release()
        assert pair.writer.write(b"x" * 900)
        pair.reader.read()
        assert not pair.reader.release(), "nobody waits any more"

    def test_both_sides_go_on_where_others_left_off(self):
        pair = self.pair()
        pair.writer.write(b"one")
        pair.writer.write(b"two")
        assert pair.reader.read() == b"one"
        pair.reader.release()
        writer, reader = ring.Writer(pair.region, 0), ring.Reader(pair.region, 0)
        assert reader.read() == b"two"
        writer.write(b"three")
        assert reader.read() == b"three"

    def test_a_flipped_bit_is_found(self):
        for at in [4096 + 8, 4096 + 16, 4096 + 24, 4096 + 4]:
            with self.subTest(at=at):
                pair = self.pair()
                pair.writer.write(b"payload")
                pair.poke(at, bytes([os.pread(pair.fd, 1, at)[0] ^ 1]))
                with self.assertRaises(ring.Poisoned):
                    pair.reader.read()

    def test_a_length_that_cannot_be_poisons_the_ring(self):
        for length in [1, 23, CAPACITY // 2, CAPACITY, 0x7FFFFFFF]:
            with self.subTest(length=length):
                pair = self.pair()
                pair.poke(4096, struct.pack("<I", length))
                with self.assertRaises(ring.Poisoned):
                    pair.reader.read()
                assert struct.unpack("<I", os.pread(pair.fd, 4, 640)) == (1,)

    def test_a_position_that_cannot_be_poisons_the_ring(self):
        pair = self.pair()
        pair.poke(256, struct.pack("<Q", 1 << 40))
        with self.assertRaises(ring.Poisoned):
            for _ in range(100):
                pair.writer.write(b"x" * 100)

    def test_a_record_that_is_being_written_is_not_there(self):
        pair = self.pair()
        pair.writer.write(b"payload")
        pair.poke(4096 + 3, b"\x80")
        assert pair.reader.read() is None
        pair.poke(4096 + 3, b"\0")
        assert pair.reader.read() == b"payload"

    def test_the_second_ring_begins_behind_the_first(self):
        fd = memfd(format_ring(8192), format_ring(4096))
        region = ring.Region(fd)
        assert ring.Writer(region, 0).capacity == 8192
        assert ring.Writer(region, 1).capacity == 4096
        region.close()

    def test_other_memory_is_no_ring(self):
        good = bytearray(format_ring())
        for at in (0, 8, 12, 16, 20, 24, 40, 76):
            bad = bytearray(good)
            bad[at] ^= 1
            region = ring.Region(memfd(bytes(bad)))
            with self.assertRaises(ring.Poisoned):
                region.ring(0)

    def test_random_bytes_are_read_or_refused(self):
        chance = random.Random(7)
        for _ in range(300):
            pair = Pair()
            pair.poke(4096, chance.randbytes(64) + bytes(64))
            if chance.random() < 0.5:
                pair.poke(4096, struct.pack("<I", chance.randrange(0, 128)))
            try:
                for _ in range(10):
                    pair.reader.read()
            except ring.Poisoned:
                pass
            os.close(pair.fd)


if __name__ == "__main__":
    unittest.main()
