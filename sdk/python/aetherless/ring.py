# SPDX-License-Identifier: Apache-2.0
"""The rings of docs/ring.md with one producer, as a program sees them that maps their memory. Words that both sides
use are read and written whole, through memoryview.cast(): one load or store of the machine's (docs/functions-ring.md
says what is relied on)."""

import mmap
import os
import struct
import threading
import zlib

_HEADER = struct.Struct("<QIIIIQQQQQQII")
MAGIC = 0x474E495248544541  # "AETHRING"
ABI = 1
SINGLE = 1
CRC32, UNCHECKED = 1, 0
_TAIL, _HEAD, _CONSUMER, _CONSUMER_WAITS, _PRODUCER_WAITS, _POISON, _SLOT = 128, 256, 264, 384, 512, 640, 1024
_RECORD = 24
_WRITING = 0x80000000
_PADDING = 0xFFFF
_ON_DOORBELL = 2
_WHOLE = 3  # Flags of a record: the first and the last one of its message
_MASK = (1 << 64) - 1
_REASON_LENGTH, _REASON_PADDING, _REASON_HEAD = 1, 2, 4


class Poisoned(Exception):
    """The ring holds what cannot be."""


_fence_lock = threading.Lock()


def fence():
    """Between a store and a later load: an atomic operation of the C library's."""
    _fence_lock.acquire()
    _fence_lock.release()


def _extent(length):
    return (length + 7) & ~7


def padding_lead(extent):
    return extent | _PADDING << 32 | ((extent ^ extent >> 16 ^ 0xA5C3) & 0xFFFF) << 48


class Region:
    """The memory of one ring after another behind a memfd."""

    def __init__(self, fd):
        size = os.fstat(fd).st_size
        self.memory = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.bytes = memoryview(self.memory)
        self.views = [self.bytes]

    def ring(self, index):
        """(words of 64 bits, of 32 bits, bytes of the data, capacity) of the ring of that number."""
        at = 0
        while True:
            header = bytes(self.bytes[at : at + 80])
            magic, abi, kind, checksum, slots, total, data, capacity = _HEADER.unpack(header)[:8]
            good = magic == MAGIC and abi == ABI and zlib.crc32(header[:76]) == _HEADER.unpack(header)[-1]
            if not good or kind != SINGLE or checksum != CRC32 or slots != 1 or total != data + capacity:
                raise Poisoned("there is no ring of version %d at byte %d of the memory" % (ABI, at))
            if at + total > len(self.bytes):
                raise Poisoned("a ring at byte %d goes on behind the end of the memory" % at)
            if index == 0:
                break
            index, at = index - 1, at + total
        body = self.bytes[at : at + total]
        views = [body.cast("Q"), body.cast("I"), body[data : data + capacity]]
        self.views += [body, *views]
        return (*views, capacity, data)

    def close(self):
        for view in reversed(self.views):
            view.release()
        self.views = []
        self.memory.close()


class _End:
    """One side of one ring."""

    def __init__(self, region, index, process_at):
        self.words, self.halves, self.data, self.capacity, self.data_at = region.ring(index)
        self.mask = self.capacity - 1
        self.process_at = process_at
        state = self.halves[process_at // 4]
        self.halves[process_at // 4 + 1] = os.getpid()
        self.words[process_at // 8 + 1] = 0
        self.words[process_at // 8 + 2] = 0  # In a namespace that nobody can name: it counts as alive
        self.halves[process_at // 4] = (((state >> 2) + 1) << 2 | 1) & 0xFFFFFFFF

    def lead(self, position):
        return (self.data_at + (position & self.mask)) // 8

    def poison(self, reason, why):
        self.halves[_POISON // 4] = reason
        raise Poisoned(why)

    def asked(self, at):
        """Whether the other side waits on its doorbell; it does not any more, then."""
        fence()
        if self.halves[at // 4] == 0:
            return False
        waits = self.halves[at // 4]
        self.halves[at // 4] = 0
        return bool(waits & _ON_DOORBELL)

    def close(self):
        at = self.process_at // 4
        self.halves[at] = (self.halves[at] & ~3) | 2


class Writer(_End):
    """The one producer of a ring."""

    def __init__(self, region, index):
        super().__init__(region, index, _SLOT + 16)
        self.payload_max = self.capacity // 2 - 8 - _RECORD
        self.tail = self.words[_TAIL // 8]
        self.seen = self.words[_HEAD // 8]
        self.sequence = self.words[_SLOT // 8 + 1]
        # A record that was shown by somebody who died before he moved the tail is kept.
        length = self.words[self.lead(self.tail)] & 0xFFFFFFFF
        if self.tail - self.seen < self.capacity and length != 0 and not length & _WRITING:
            self.tail += _extent(length)
            self.words[_TAIL // 8] = self.tail

    def _has_room(self, end):
        if end - self.seen <= self.capacity:
            return True
        for _ in range(1000):
            head = self.words[_HEAD // 8]
            if head % 8 == 0 and head <= self.tail and self.tail - head <= self.capacity:
                self.seen = head
                return end - head <= self.capacity
        self.poison(_REASON_HEAD, "the consumer's position cannot be")

    def write(self, payload, kind=0):
        """False: there is no room, and the consumer will ring when there is."""
        length = _RECORD + len(payload)
        if len(payload) > self.payload_max:
            raise ValueError("a record of %d bytes, of which the ring takes %d" % (len(payload), self.payload_max))
        extent = _extent(length)
        room = self.capacity - (self.tail & self.mask)
        pad = room if room < extent else 0
        end = self.tail + pad + extent + 8
        if not self._has_room(end):
            self.halves[_PRODUCER_WAITS // 4] = _ON_DOORBELL
            fence()
            if not self._has_room(end):
                return False
        if pad:
            self.words[self.lead(self.tail + pad)] = 0
            self.words[self.lead(self.tail)] = padding_lead(pad)
            self.tail += pad
            self.words[_TAIL // 8] = self.tail
        lead = length | kind << 32 | _WHOLE << 48
        at = self.tail & self.mask
        word = self.lead(self.tail)
        self.words[word] = lead | _WRITING
        self.data[at + _RECORD : at + length] = payload
        head = struct.pack("<QQ", lead, self.sequence)
        self.words[word + 1] = self.sequence
        self.words[word + 2] = zlib.crc32(payload, zlib.crc32(head, 0))
        self.sequence = (self.sequence + 1) & _MASK
        self.words[_SLOT // 8 + 1] = self.sequence
        self.tail += extent
        self.words[self.lead(self.tail)] = 0
        self.words[word] = lead  # From here on it is there
        self.words[_TAIL // 8] = self.tail
        return True

    def is_awaited(self):
        """After what was written: whether the consumer is to be woken."""
        return self.asked(_CONSUMER_WAITS)


class Reader(_End):
    """The one consumer of a ring."""

    def __init__(self, region, index):
        super().__init__(region, index, _CONSUMER)
        self.head = self.next = self.words[_HEAD // 8]
        self.expected = 0 if self.head == 0 else None

    def is_ready(self):
        length = self.words[self.lead(self.next)] & 0xFFFFFFFF
        return self.next - self.head < self.capacity and length != 0 and not length & _WRITING

    def read(self):
        """The next payload, as bytes; None: there is none now."""
        while True:
            if self.next - self.head >= self.capacity:
                return None
            word = self.lead(self.next)
            lead = self.words[word]
            length = lead & 0xFFFFFFFF
            if length == 0 or length & _WRITING:
                return None
            extent = _extent(length)
            room = self.capacity - (self.next & self.mask)
            if lead >> 32 & 0xFFFF == _PADDING:
                if length % 8 != 0 or extent > room or lead != padding_lead(length):
                    self.poison(_REASON_PADDING, "a padding record that is none")
                self.next += extent
                continue
            if length < _RECORD or length > self.capacity // 2 - 8 or extent > room:
                self.poison(_REASON_LENGTH, "a record of %d bytes" % length)
            return self._take(word, lead, length, extent)

    def _take(self, word, lead, length, extent):
        at = self.next & self.mask
        sequence = self.words[word + 1]
        check = self.words[word + 2]
        payload = bytes(self.data[at + _RECORD : at + length])
        if zlib.crc32(payload, zlib.crc32(struct.pack("<QQ", lead, sequence), check >> 32)) != check & 0xFFFFFFFF:
            raise Poisoned("a record does not have its checksum")
        if self.expected is not None and sequence != self.expected:
            raise Poisoned("record %d came where %d was due" % (sequence, self.expected))
        self.expected = (sequence + 1) & _MASK
        self.next += extent
        return payload

    def release(self):
        """Makes room of what was read. True: the producer waits for that, and is to be woken."""
        if self.next == self.head:
            return False
        self.head = self.next
        self.words[_HEAD // 8] = self.head
        return self.asked(_PRODUCER_WAITS)

    def sleep(self):
        """Asks to be woken. False: there is something to read already."""
        self.halves[_CONSUMER_WAITS // 4] = _ON_DOORBELL
        fence()
        if not self.is_ready():
            return True
        self.halves[_CONSUMER_WAITS // 4] = 0
        return False
