// SPDX-License-Identifier: Apache-2.0
// The ring of docs/ring.md as Node reads and writes it, over a file: it cannot make a memfd. Aether's own side is tested
// against it in tests/e2e.
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');

const { Exchange, Gone, hello } = require('../aetherless/exchange.js');
const { Line } = require('../aetherless/line.js');
const { Reader, Region, Writer, crc32, slowCrc32 } = require('../aetherless/ring.js');

const CAPACITY = 4096;

function formatRing(capacity = CAPACITY) {
  const memory = Buffer.alloc(4096 + capacity);
  memory.write('AETHRING', 0, 'latin1');
  [1, 1, 1, 1].forEach((word, i) => memory.writeUInt32LE(word, 8 + 4 * i)); // abi, kind, checksum, slots
  [4096 + capacity, 4096, capacity, 1].forEach((word, i) => memory.writeBigUInt64LE(BigInt(word), 24 + 8 * i));
  memory.writeUInt32LE(crc32(memory.subarray(0, 76)), 76);
  memory.fill(0xff, 1024, 1032);
  return memory;
}

function pair(t, ...rings) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ring-'));
  const fd = fs.openSync(path.join(folder, 'ring'), 'w+');
  t.after(() => {
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  });
  fs.writeSync(fd, Buffer.concat(rings.length > 0 ? rings : [formatRing()]));
  const region = new Region(fd);
  return { fd, region, writer: new Writer(region, 0), reader: new Reader(region, 0) };
}

function poke({ fd }, at, ...bytes) {
  fs.writeSync(fd, Buffer.from(bytes), 0, bytes.length, at);
}

test('CRC-32 is the one of zlib', () => {
  for (const crc of [crc32, slowCrc32]) {
    assert.strictEqual(crc(Buffer.from('123456789')), 0xcbf43926);
    assert.strictEqual(crc(Buffer.from('6789'), crc(Buffer.from('12345'))), 0xcbf43926);
  }
});

test('what is written is read', t => {
  const { writer, reader } = pair(t);
  for (const payload of ['', 'x', '12345678', 'y'.repeat(1500)].map(text => Buffer.from(text))) {
    assert.ok(writer.send(payload));
    assert.deepStrictEqual(reader.receive(), payload);
    assert.strictEqual(reader.receive(), null);
    reader.release();
  }
});

test('a ring is byte for byte what Python and C write', t => {
  const { fd, writer } = pair(t);
  for (const text of ['', 'x', '12345678', 'a longer payload']) writer.send(Buffer.from(text), 7);
  const data = Buffer.alloc(CAPACITY);
  fs.readSync(fd, data, 0, CAPACITY, 4096);
  assert.strictEqual(crc32(data), 0x944ce0a5);
});

/** Of src/ring/testdata/vectors.txt, which says what its lines mean. */
function vectors() {
  const rings = [];
  const file = path.join(__dirname, '../../../src/ring/testdata/vectors.txt');
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const [word, ...rest] = line.split(' ');
    if (word === 'ring') rings.push({ words: rest, messages: [], pieces: new Map() });
    const last = rings[rings.length - 1];
    const [type, flags, , payload] = rest;
    if (word === 'message') last.messages.push({ type: +type, flags: +flags, payload: Buffer.from(payload, 'hex') });
    if (word === 'at') last.pieces.set(+rest[0], Buffer.from(rest[1], 'hex'));
  }
  return rings;
}

/** The memory of a vector's ring, before or after its messages were written. */
function imageOf({ words, pieces }, written) {
  const [kind, capacity, start] = [words[1], words[3], words[4]].map(Number);
  const data = kind === 1 ? 4096 : 12288;
  const image = Buffer.alloc(data + capacity);
  image.fill(Buffer.from(words[6], 'hex'), data);
  image.fill(0, data + (start % capacity), data + (start % capacity) + 8);
  [128, 256].forEach(at => image.writeBigUInt64LE(BigInt(start), at));
  image.fill(0xff, 1024, 1032);
  image.writeBigUInt64LE(BigInt(words[5]), 1032);
  for (const [at, piece] of pieces) if (written || at === 0) piece.copy(image, at);
  return image;
}

test('rings are read and written byte for byte, or refused', t => {
  const done = { read: 0, written: 0, refused: 0 };
  for (const vector of vectors()) {
    const due = imageOf(vector, true);
    if (vector.words[1] !== '1' || vector.words[2] !== '1') {
      assert.throws(() => pair(t, due));
      done.refused++;
      continue;
    }
    const { reader } = pair(t, due);
    for (const { payload } of vector.messages) assert.deepStrictEqual(reader.receive(), payload);
    assert.strictEqual(reader.receive(), null);
    done.read++;
    if (vector.messages.some(({ flags }) => flags !== 3)) continue; // It writes whole messages only.
    const { fd, writer } = pair(t, imageOf(vector, false));
    for (const { type, payload } of vector.messages) assert.ok(writer.send(payload, type));
    const got = Buffer.alloc(due.length);
    fs.readSync(fd, got, 0, got.length, 0);
    for (const part of [[0, 264], [1024, 1040], [4096, due.length]]) {
      assert.ok(got.subarray(...part).equals(due.subarray(...part)), `${vector.words[0]} from ${part[0]}`);
    }
    done.written++;
  }
  assert.deepStrictEqual(done, { read: 5, written: 4, refused: 5 });
});

test('records wrap at every offset', t => {
  const { writer, reader } = pair(t);
  const sent = [];
  for (let turn = 0; turn < 2000; turn++) {
    const payload = Buffer.alloc((turn * 2654435761) % 701, turn % 256);
    while (!writer.send(payload)) {
      assert.deepStrictEqual(reader.receive(), sent.shift());
      reader.release();
    }
    sent.push(payload);
  }
  while (sent.length > 0) assert.deepStrictEqual(reader.receive(), sent.shift());
  assert.strictEqual(reader.receive(), null);
});

test('who sleeps is said to be woken once', t => {
  const { writer, reader } = pair(t);
  assert.ok(!writer.isAwaited());
  assert.ok(reader.sleep());
  writer.send(Buffer.from('x'));
  assert.ok(writer.isAwaited() && !writer.isAwaited());
  assert.ok(!reader.sleep(), 'there is something to read');
});

test('a writer without room is woken when there is', t => {
  const { writer, reader } = pair(t);
  while (writer.send(Buffer.alloc(1000)));
  reader.receive();
  assert.ok(reader.release());
  assert.ok(writer.send(Buffer.alloc(900)));
});

test('a flipped bit, a wrong length and a wrong position are found', t => {
  for (const at of [4096 + 4, 4096 + 8, 4096 + 16, 4096 + 24]) {
    const one = pair(t);
    one.writer.send(Buffer.from('payload'));
    const byte = Buffer.alloc(1);
    fs.readSync(one.fd, byte, 0, 1, at);
    poke(one, at, byte[0] ^ 1);
    assert.throws(() => one.reader.receive());
  }
  for (const bytes of [[1], [23], [0, 8], [0, 0, 0, 0x7f]]) {
    const one = pair(t);
    poke(one, 4096, ...bytes);
    assert.throws(() => one.reader.receive());
  }
  const one = pair(t);
  poke(one, 256, 0, 0, 0, 0, 0, 1);
  assert.throws(() => {
    for (let i = 0; i < 100; i++) one.writer.send(Buffer.alloc(100));
  });
});

test('a record that is being written is not there', t => {
  const one = pair(t);
  one.writer.send(Buffer.from('payload'));
  poke(one, 4096 + 3, 0x80);
  assert.strictEqual(one.reader.receive(), null);
  poke(one, 4096 + 3, 0);
  assert.strictEqual(String(one.reader.receive()), 'payload');
});

test('the second ring begins behind the first, and other memory is none', t => {
  const { region } = pair(t, formatRing(8192), formatRing(4096));
  assert.deepStrictEqual(region.ring(1), { base: 12288, data: 16384, capacity: 4096 });
  const bad = formatRing();
  bad[40] ^= 1;
  assert.throws(() => pair(t, bad), /no ring/);
});

function message(call, kind, content, flags = 0) {
  const bytes = Buffer.alloc(8 + content.length);
  bytes.writeUInt32LE(call, 0);
  bytes[4] = kind;
  bytes[5] = flags;
  bytes.write(content, 8, 'latin1');
  return bytes;
}

test('a request in pieces is joined, and its answer keeps to the window', () => {
  const exchange = new Exchange(64);
  assert.strictEqual(exchange.take(message(1, 2, 'GET /x HTTP/1.1\r\nA: b\r', 2)), null);
  const call = exchange.take(message(1, 2, '\n\r\nbo'));
  assert.strictEqual(call.head, 'GET /x HTTP/1.1\r\nA: b');
  exchange.take(message(1, 4, 'dy', 1));
  assert.strictEqual(String(exchange.read(call)) + exchange.read(call), 'body');
  assert.strictEqual(exchange.read(call).length, 0);
  exchange.beginAnswer(call, Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'y'.repeat(50)}\r\n\r\n`), Buffer.from('body'), false);
  assert.deepStrictEqual(exchange.outbox.map(one => [one[4], one[5], one.length]), [[3, 2, 64], [3, 0, 30]]);
  assert.strictEqual(exchange.send(call, Buffer.alloc(100_000), true), 65532);
  assert.strictEqual(exchange.send(call, Buffer.alloc(10), true), 0);
  exchange.take(message(1, 5, '\x0a\0\0\0'));
  assert.strictEqual(exchange.send(call, Buffer.alloc(10), true), 10);
  assert.strictEqual(exchange.outbox.at(-1)[5], 1);
});

test('a call that was cancelled is gone', () => {
  const exchange = new Exchange();
  const call = exchange.take(message(7, 2, 'GET / HTTP/1.1\r\n\r\n', 1));
  exchange.take(message(7, 6, ''));
  assert.throws(() => exchange.read(call), Gone);
  assert.strictEqual(exchange.take(message(7, 4, 'late')), null);
  assert.strictEqual(hello('x').readUInt32LE(8), 1);
});

/** A Line, and Aether's side of it: `answers` are read, `wake` is written to. */
function line(t) {
  const { fd, region } = pair(t, formatRing(), formatRing());
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'line-'));
  const [wake, bell] = ['wake', 'bell'].map(name => path.join(folder, name));
  execFileSync('mkfifo', [wake, bell]);
  const [read, ring] = [wake, bell].map(name => fs.openSync(name, fs.constants.O_RDWR | fs.constants.O_NONBLOCK));
  process.env.AETHER_RING = `${fd},${read},${ring}`;
  const one = new Line(() => {}, () => {}, () => {});
  t.after(() => {
    one.socket.destroy();
    fs.closeSync(ring);
    fs.rmSync(folder, { recursive: true });
  });
  return { one, answers: new Reader(region, 1), wake: fs.openSync(wake, 'w') };
}

test('what finds no room in the ring goes when Aether rings, and in its order', async t => {
  const { one, answers, wake } = line(t);
  assert.deepStrictEqual(answers.receive(), hello(`node ${process.versions.node}`));
  const sent = Array.from({ length: 20 }, (_, n) => message(1, 4, String.fromCharCode(65 + n).repeat(1000)));
  one.exchange.outbox.push(...sent);
  one.flush();
  assert.ok(one.exchange.outbox.length > 10, 'the ring holds 4096 bytes');
  const room = one.room();
  const got = [];
  while (got.length < sent.length) {
    for (let record = answers.receive(); record !== null; record = answers.receive()) got.push(record);
    if (answers.release()) fs.writeSync(wake, '\x01');
    await new Promise(setImmediate);
  }
  await room;
  assert.deepStrictEqual(got, sent);
  fs.closeSync(wake);
});

test('who waits for room when Aether has closed the ring is let go, and his call is gone', async t => {
  const { one, wake } = line(t);
  const call = one.exchange.take(message(1, 2, 'GET / HTTP/1.1\r\n\r\n', 1));
  one.exchange.outbox.push(...Array.from({ length: 9 }, () => message(1, 4, 'x'.repeat(1000))));
  one.flush();
  const room = one.room();
  one.close();
  await room;
  assert.ok(call.gone && one.exchange.outbox.length > 0);
  fs.closeSync(wake);
});
