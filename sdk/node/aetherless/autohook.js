// SPDX-License-Identifier: Apache-2.0
// Loaded by Node itself at its start, because Aether names it in NODE_OPTIONS of its handlers.
'use strict';

try {
  // Workers have no signals, and no copies are made of programs that Node starts.
  const { isMainThread } = require('worker_threads');
  if (isMainThread && process.env.AETHER_SOCKET && process.env.AETHER_HOOKS !== 'off') {
    require('./index.js').install();
  }
} catch (error) {
  // Whatever is wrong with the hook, the handler runs.
  console.error(`[aetherless] no reseeding in copies: ${error}`);
}
