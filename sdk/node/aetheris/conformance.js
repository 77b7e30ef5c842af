// SPDX-License-Identifier: Apache-2.0
// The agent that `aether conformance worker --command 'node …/aetheris/conformance.js'` asks for.
'use strict';

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');

const { agent, idempotencyKey, serve, tool } = require('./index.js');

/** The suite counts these lines: each is something that happened outside. */
function note(file, text) {
  fs.appendFileSync(file, `${text}\n`);
  return text;
}

const first = tool('first', file => note(file, 'first'));
const last = tool('last', file => note(file, 'last'));
const read = tool('read', { policy: 'read' }, file => note(file, 'read'));
const keyed = tool('keyed', { policy: 'keyed' }, file => note(file, `keyed ${idempotencyKey()}`));
const slow = tool('slow', async file => {
  await sleep(1500);
  return note(file, 'slow');
});
const bad = tool('bad', file => {
  note(file, 'bad');
  throw new Error('no such luck');
});

agent('conformance', async (ctx, { do: doing, file }) => {
  if (doing === 'slow') return slow(file);
  if (doing === 'fail') return bad(file);
  if (process.env.CONFORMANCE_OTHER) await ctx.step('other', note, { args: [file, 'other'] });
  await first(file);
  await read(file);
  await keyed(file);
  const pure = await ctx.step('pure', () => 7, { policy: 'pure' });
  const said = await ctx.llm('say hello');
  await ctx.sleep(1);
  const go = await ctx.wait('go');
  const approved = await ctx.approve('Go on?');
  await last(file);
  return { pure, said, go, approved };
});

if (require.main === module) serve();
