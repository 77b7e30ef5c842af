// SPDX-License-Identifier: Apache-2.0
// What programs in Node tell the judge (judge.py), over one connection.
'use strict';

const net = require('node:net');

const socket = net.connect(Number(process.env.JUDGE), '127.0.0.1');
socket.setNoDelay(true).setEncoding('utf8');
const asked = [];
let rest = '';

socket.on('data', text => {
  const lines = (rest + text).split('\n');
  rest = lines.pop();
  for (const line of lines) asked.shift()(line);
});

/** Something outside happens: it is counted once it was heard. */
function effect(key) {
  return new Promise(resolve => {
    asked.push(resolve);
    socket.write(`+ ${key}\n`);
  });
}

const now = () => Math.round(performance.now() * 1000);

/** Does `count` steps one after the other by `step(number, code)`, and tells how long each took. */
async function steps({ id, count, effects }, step) {
  const took = [];
  let began = now();
  for (let number = 0; number < count; ++number) {
    await step(`s${number}`, effects ? () => effect(`${id}/${number}`) : () => 'ok');
    const ended = now();
    took.push(ended - began);
    began = ended;
  }
  socket.write(`t ${took.join(',')}\n`);
  return count;
}

module.exports = { steps };
