#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// A handler with `ipc: ring`, in Node.
'use strict';

const aetherless = require('aetherless');

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

async function* stream(size) {
  const piece = Buffer.alloc(16384, 0).map((_, at) => at % 256);
  for (; size > 0; size -= piece.length) yield piece.subarray(0, Math.min(size, piece.length));
}

aetherless.serve(async request => {
  if (request.path === '/echo') return { body: request };
  if (request.path === '/sum') {
    let size = 0;
    let crc = 0xffffffff;
    for await (const chunk of request) {
      size += chunk.length;
      for (const byte of chunk) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 0xff];
    }
    return { size, crc: (crc ^ 0xffffffff) >>> 0 };
  }
  if (request.path === '/bytes') return { body: stream(Number(request.query)) };
  if (request.path === '/who') return String(process.pid);
  if (request.path === '/draw') return String(Math.random());
  if (request.path === '/slow') {
    await new Promise(resolve => setTimeout(resolve, Number(request.query) * 1000));
    return 'slow';
  }
  return `hello from node ${request.path}`;
});
