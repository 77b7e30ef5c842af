// SPDX-License-Identifier: Apache-2.0
// The steps as an agent of Aether.
'use strict';

const { agent, serve } = require('aetheris');
const { steps } = require('./judge.js');

agent('work', (ctx, given) => steps(given, (name, code) => ctx.step(name, code, { policy: given.policy })));
serve({ atOnce: 64 }).then(() => process.exit()); // the judge's connection is open still
