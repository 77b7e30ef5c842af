// SPDX-License-Identifier: Apache-2.0
// What copies of a Node process would share and must not. crypto.randomBytes() and TLS need nothing: OpenSSL sees by
// its process number that it was copied.
'use strict';

const fs = require('fs');

// V8 draws ahead and cannot be reseeded. The program gets this function from the beginning, so that who keeps it
// (const { random } = Math) is renewed too.
const native = Math.random;
let draw = native;

function install() {
  const random = { random() { return draw(); } }.random;
  Object.defineProperty(Math, 'random', { value: random, writable: true, enumerable: false, configurable: true });
}

/** sfc32 (Chris Doty-Humphrey's PractRand): passes what V8's own generator passes, and is as quick here. */
function generator(seed) {
  let [a, b, c, counter] = [seed[0] | 0, seed[1] | 0, seed[2] | 0, seed[3] | 0];
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i++) next();
  return () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992; // 53 bits, as a double has
}

/** From the kernel, not from OpenSSL: it may have been copied with its state. */
function chance(words) {
  const bytes = Buffer.alloc(words * 4);
  const file = fs.openSync('/dev/urandom', 'r');
  fs.readSync(file, bytes, 0, bytes.length, null);
  fs.closeSync(file);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, words);
}

/** The number this process has now; process.pid remembers the original's. */
function ownPid() {
  try {
    return Number(fs.readlinkSync('/proc/self'));
  } catch {
    return process.pid;
  }
}

/** Node keeps 128 UUIDs ahead: they are drawn, and the next ones come from OpenSSL. */
function emptyUuidCache() {
  const loaded = process.moduleLoadList;
  if (loaded && !loaded.some(name => name.endsWith(' internal/crypto/random'))) return;
  const { randomUUID } = require('crypto');
  for (let i = 0; i < 128; i++) randomUUID();
}

// V8 begins a collection when a program has been idle for 8 s. Time goes on while the original is frozen, so each copy
// would begin with one: as much work again as its first request. Copies younger than this begin none.
const CALM_MS = 1000;

function prepare() {
  // Less to copy, and less for the copies' own collector to write to.
  const v8 = require('v8');
  v8.setFlagsFromString('--expose-gc');
  require('vm').runInNewContext('gc')();
  v8.setFlagsFromString('--no-expose-gc');
  v8.setFlagsFromString('--no-incremental-marking');
}

/** In a copy. Returns its process number. */
function renew() {
  draw = generator(chance(4));
  const pid = ownPid();
  if (pid !== process.pid) {
    Object.defineProperty(process, 'pid', { value: pid, enumerable: true, configurable: true, writable: false });
  }
  emptyUuidCache();
  setTimeout(() => require('v8').setFlagsFromString('--incremental-marking'), CALM_MS).unref();
  return pid;
}

module.exports = { install, ownPid, prepare, renew };
