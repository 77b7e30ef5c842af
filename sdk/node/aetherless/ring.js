// SPDX-License-Identifier: Apache-2.0
// The rings of docs/ring.md with one producer, by reads and writes of their memfd: Node cannot map memory. pread and
// pwrite go to the same pages as the other side's loads and stores, but what is longer than a byte may be seen half
// written. So a record is shown by one byte (the highest of its length), what the other side writes is read until it
// is the same twice, and what this side writes is only ever seen smaller than it is (docs/functions-ring.md).
'use strict';

const fs = require('fs');
const zlib = require('zlib');

const MAGIC = 0x474e495248544541n; // "AETHRING"
const [TAIL, HEAD, CONSUMER, CONSUMER_WAITS, PRODUCER_WAITS, POISON, SLOT] = [128, 256, 264, 384, 512, 640, 1024];
const RECORD = 24;
const WRITING = 0x80000000;
const PADDING = 0xffff;
const ON_DOORBELL = 2;
const WHOLE = 3; // Flags of a record: the first and the last one of its message
const LOOKS = 1000;
const BEING_WRITTEN = Buffer.from([0x80]);

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function slowCrc32(bytes, crc = 0) {
  crc = ~crc;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]) & 0xff];
  return ~crc >>> 0;
}

/** Node 20.15 has it; before that it is computed here. */
const crc32 = zlib.crc32 || slowCrc32;

const extentOf = length => Math.ceil(length / 8) * 8;
const paddingFlags = extent => ((extent ^ (extent >>> 16) ^ 0xa5c3) & 0xffff) >>> 0;

/** The memory of one ring after another behind a memfd. Positions are numbers: 2^53 bytes are years of traffic. */
class Region {
  constructor(fd) {
    this.fd = fd;
    this.size = fs.fstatSync(fd).size;
  }

  /** {base, data, capacity} of the ring of that number. */
  ring(index) {
    let base = 0;
    while (true) {
      const header = Buffer.alloc(80);
      fs.readSync(this.fd, header, 0, 80, base);
      const [total, data, capacity] = [24, 32, 40].map(at => Number(header.readBigUInt64LE(at)));
      const [abi, kind, checksum, slots] = [8, 12, 16, 20].map(at => header.readUInt32LE(at));
      const good = header.readBigUInt64LE(0) === MAGIC && header.readUInt32LE(76) === crc32(header.subarray(0, 76));
      const known = abi === 1 && kind === 1 && checksum === 1 && slots === 1;
      if (!good || !known || total !== data + capacity || base + total > this.size) {
        throw new Error(`there is no ring of version 1 at byte ${base} of the memory`);
      }
      if (index-- === 0) return { base, data: base + data, capacity };
      base += total;
    }
  }
}

/** One side of one ring. */
class End {
  constructor(region, index, processAt) {
    this.fd = region.fd;
    Object.assign(this, region.ring(index));
    this.word = Buffer.alloc(8);
    this.again = Buffer.alloc(8);
    const process_ = Buffer.alloc(24); // {state, pid, start, namespace}: one that nobody can name counts as alive
    const state = this.readHalf(processAt) >>> 2;
    process_.writeUInt32LE((((state + 1) << 2) | 1) >>> 0, 0);
    process_.writeUInt32LE(process.pid, 4);
    this.write(process_.subarray(4), this.base + processAt + 4);
    this.write(process_.subarray(0, 4), this.base + processAt);
  }

  at(position) {
    return this.data + (position % this.capacity);
  }

  write(bytes, at) {
    fs.writeSync(this.fd, bytes, 0, bytes.length, at);
  }

  read(bytes, at) {
    fs.readSync(this.fd, bytes, 0, bytes.length, at);
  }

  readHalf(at) {
    this.read(this.word.subarray(0, 4), this.base + at);
    return this.word.readUInt32LE(0);
  }

  writeHalf(value, at) {
    this.word.writeUInt32LE(value, 0);
    this.write(this.word.subarray(0, 4), this.base + at);
  }

  /** Eight bytes that were the same in two reads: then no write was half done. */
  readTwice(at) {
    this.read(this.word, at);
    for (let look = 0; look < LOOKS; look++) {
      this.read(this.again, at);
      if (this.word.equals(this.again)) return this.word;
      [this.word, this.again] = [this.again, this.word];
    }
    throw new Error('a word of the ring never stands still');
  }

  readPosition(at) {
    return Number(this.readTwice(this.base + at).readBigUInt64LE(0));
  }

  writeWord(value, at) {
    this.word.writeBigUInt64LE(BigInt(value), 0);
    this.write(this.word, at);
  }

  /** Whether the other side waits on its doorbell; it does not any more, then. */
  asked(at) {
    const waits = this.readHalf(at);
    if (waits !== 0) this.writeHalf(0, at);
    return (waits & ON_DOORBELL) !== 0;
  }

  poison(reason, why) {
    this.writeHalf(reason, POISON);
    throw new Error(why);
  }
}

/** The one producer of a ring. */
class Writer extends End {
  constructor(region, index) {
    super(region, index, SLOT + 16);
    this.payloadMax = this.capacity / 2 - 8 - RECORD;
    this.tail = this.readPosition(TAIL);
    this.seen = this.readPosition(HEAD);
    this.sequence = this.readTwice(this.base + SLOT + 8).readBigUInt64LE(0);
    // A record that was shown by somebody who died before he moved the tail is kept.
    const length = this.readTwice(this.at(this.tail)).readUInt32LE(0);
    if (this.tail - this.seen < this.capacity && length !== 0 && length < WRITING) {
      this.tail += extentOf(length);
      this.writeWord(this.tail, this.base + TAIL);
    }
  }

  hasRoom(end) {
    if (end - this.seen <= this.capacity) return true;
    const head = this.readPosition(HEAD);
    if (head % 8 !== 0 || head > this.tail || this.tail - head > this.capacity) {
      this.poison(4, "the consumer's position cannot be");
    }
    this.seen = head;
    return end - head <= this.capacity;
  }

  /** Writes a record, or its first bytes. It is not there before its highest byte of the length says so. */
  claim(bytes, at) {
    this.write(BEING_WRITTEN, at + 3);
    bytes[3] |= 0x80;
    this.write(bytes, at);
  }

  commit(length, at) {
    this.write(Buffer.from([length >>> 24]), at + 3);
  }

  /** False: there is no room, and the consumer will ring when there is. */
  send(payload, type = 0) {
    const length = RECORD + payload.length;
    if (payload.length > this.payloadMax) throw new RangeError(`a record of ${payload.length} bytes`);
    const extent = extentOf(length);
    const room = this.capacity - (this.tail % this.capacity);
    const pad = room < extent ? room : 0;
    const end = this.tail + pad + extent + 8;
    if (!this.hasRoom(end)) {
      this.writeHalf(ON_DOORBELL, PRODUCER_WAITS);
      if (!this.hasRoom(end)) return false;
    }
    if (pad > 0) {
      this.writeWord(0, this.at(this.tail + pad));
      const lead = Buffer.alloc(8);
      lead.writeUInt32LE(pad, 0);
      lead.writeUInt16LE(PADDING, 4);
      lead.writeUInt16LE(paddingFlags(pad), 6);
      this.claim(lead, this.at(this.tail));
      this.commit(pad, this.at(this.tail));
      this.tail += pad;
      this.writeWord(this.tail, this.base + TAIL);
    }
    const record = Buffer.allocUnsafe(length);
    record.writeUInt32LE(length, 0);
    record.writeUInt32LE(WHOLE * 65536 + type, 4);
    record.writeBigUInt64LE(this.sequence, 8);
    payload.copy(record, RECORD);
    const check = crc32(payload, crc32(record.subarray(0, 16)));
    record.writeUInt32LE(check, 16);
    record.writeUInt32LE(0, 20);
    this.claim(record, this.at(this.tail));
    this.sequence++;
    this.writeWord(this.sequence, this.base + SLOT + 8);
    this.writeWord(0, this.at(this.tail + extent));
    this.commit(length, this.at(this.tail)); // From here on it is there
    this.tail += extent;
    this.writeWord(this.tail, this.base + TAIL);
    return true;
  }

  /** After what was written: whether the consumer is to be woken. */
  isAwaited() {
    return this.asked(CONSUMER_WAITS);
  }
}

/** The one consumer of a ring. */
class Reader extends End {
  constructor(region, index) {
    super(region, index, CONSUMER);
    this.head = this.next = this.readPosition(HEAD);
    this.expected = this.head === 0 ? 0n : null;
  }

  /** The lead of the next record, or null. */
  lead() {
    if (this.next - this.head >= this.capacity) return null;
    const word = this.readTwice(this.at(this.next));
    const length = word.readUInt32LE(0);
    if (length === 0 || length >= WRITING) return null;
    return { length, type: word.readUInt16LE(4), flags: word.readUInt16LE(6) };
  }

  /** The next payload, as a Buffer of its own; null: there is none now. */
  receive() {
    for (let lead = this.lead(); lead !== null; lead = this.lead()) {
      const { length, type, flags } = lead;
      const extent = extentOf(length);
      const room = this.capacity - (this.next % this.capacity);
      if (type !== PADDING) return this.take(length, extent, room);
      if (length % 8 !== 0 || extent > room || flags !== paddingFlags(length)) {
        this.poison(2, 'a padding record that is none');
      }
      this.next += extent;
    }
    return null;
  }

  take(length, extent, room) {
    if (length < RECORD || length > this.capacity / 2 - 8 || extent > room) {
      this.poison(1, `a record of ${length} bytes`);
    }
    const record = Buffer.allocUnsafe(length);
    this.read(record, this.at(this.next));
    const payload = record.subarray(RECORD);
    const check = crc32(payload, crc32(record.subarray(0, 16), record.readUInt32LE(20)));
    if (check !== record.readUInt32LE(16)) throw new Error('a record does not have its checksum');
    const sequence = record.readBigUInt64LE(8);
    if (this.expected !== null && sequence !== this.expected) {
      throw new Error(`record ${sequence} came where ${this.expected} was due`);
    }
    this.expected = sequence + 1n;
    this.next += extent;
    return payload;
  }

  /** Makes room of what was read. True: the producer waits for that, and is to be woken. */
  release() {
    if (this.next === this.head) return false;
    this.head = this.next;
    this.writeWord(this.head, this.base + HEAD);
    return this.asked(PRODUCER_WAITS);
  }

  /** Asks to be woken. False: there is something to read already. */
  sleep() {
    this.writeHalf(ON_DOORBELL, CONSUMER_WAITS);
    if (this.lead() === null) return true;
    this.writeHalf(0, CONSUMER_WAITS);
    return false;
  }
}

module.exports = { Reader, Region, Writer, crc32, slowCrc32 };
