// SPDX-License-Identifier: Apache-2.0
// The steps as a service of Restate.
import { createRequire } from 'node:module';

// Node 20 has none, and this SDK wants it.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const require = createRequire(import.meta.url);
const { steps } = require('./judge.js');
const restate = createRequire(`${process.env.PEERS}/`)('@restatedev/restate-sdk');

const run = (ctx, given) => steps(given, (name, code) => ctx.run(name, code));
restate.serve({ services: [restate.service({ name: 'flow', handlers: { run } })], port: Number(process.env.PORT) });
