#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
'use strict';
const server = require('http').createServer((request, answer) => {
  const facts = { language: 'node', pid: process.pid, random: Math.random(), uuid: require('crypto').randomUUID() };
  answer.end(JSON.stringify(facts) + '\n');
});
server.listen(Number(process.env.AETHER_TRIGGER_PORT), '127.0.0.1', () => {
  const socket = require('net').connect(process.env.AETHER_SOCKET, () => socket.write('READY'));
});
