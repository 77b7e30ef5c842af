#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// A handler with `ipc: ring`. Aether lets it find the library; nothing is to be installed.
'use strict';

const { setTimeout: pause } = require('timers/promises');
const aetherless = require('aetherless');

async function* upper(request) {
  for await (const piece of request) yield piece.toString('latin1').toUpperCase();
}

async function* count(most, signal) {
  for (let number = 1; number <= most; number++) {
    yield `${number}\n`;
    await pause(100, undefined, { signal }); // ends with the client
  }
}

const headers = { 'Content-Type': 'text/plain' };

aetherless.serve(async request => {
  switch (request.path) {
    case '/hello':
      return { from: 'node', agent: request.headers['user-agent'] };
    case '/upper':
      return { headers, body: upper(request) };
    case '/count':
      return { headers, body: count(Number(request.query || 3), request.signal) };
    default:
      return { status: 404, body: 'there is no such page\n' };
  }
});
