// SPDX-License-Identifier: Apache-2.0
// Asks for workflows, so many at a time, each when one before it has ended. A line of JSON in, a line out:
// {do: "load", at_once, seconds, prefix, given} -> {ended, seconds, took_us}: for that long.
// {do: "submit", runs, prefix, given} -> {submitted}: asked for, and acknowledged.
'use strict';

const readline = require('node:readline');

async function load({ at_once: atOnce, seconds, prefix, given }, { run }) {
  const took = [];
  const began = performance.now();
  let number = 0;
  const client = async () => {
    while (performance.now() - began < seconds * 1000) {
      const asked = performance.now();
      await run({ ...given, id: `${prefix}${number++}` });
      took.push(Math.round((performance.now() - asked) * 1000));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, client));
  return { ended: took.length, seconds: (performance.now() - began) / 1000, took_us: took };
}

async function submit({ runs, prefix, given }, { begin }) {
  await Promise.all(Array.from({ length: runs }, (_, number) => begin({ ...given, id: `${prefix}${number}` })));
  return { submitted: runs };
}

/** `peer`: {run(given): until it has ended, begin(given): until it is durable}. */
async function obey(peer) {
  const does = { load, submit };
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    console.log(JSON.stringify(await does[told.do](told, peer)));
  }
  process.exit(0);
}

module.exports = { obey };
