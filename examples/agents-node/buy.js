// SPDX-License-Identifier: Apache-2.0
// node buy.js a-kettle 10: submits the job, and waits for its output.
'use strict';

const { AetherisClient } = require('aetheris');

async function main([what = 'a-kettle', limit = '10']) {
  const client = new AetherisClient('http://localhost:8480');
  // The same key again is the same job: a second `node buy.js` buys nothing more.
  const job = await client.run('buyer', { what, limit: Number(limit) }, { idempotencyKey: `buy-${what}` });
  console.log(`job ${job.id} is ${job.status}`);
  console.log((await job.wait({ timeout: '10m' })).output);
}

main(process.argv.slice(2));
