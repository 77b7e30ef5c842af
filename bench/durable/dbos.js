// SPDX-License-Identifier: Apache-2.0
// The steps as a workflow of DBOS, which lives in the program that asks for it.
'use strict';

const { createRequire } = require('node:module');
const { obey } = require('./load.js');
const { steps } = require('./judge.js');
const { DBOS } = createRequire(`${process.env.PEERS}/`)('@dbos-inc/dbos-sdk');

const code = given => steps(given, (name, step) => DBOS.runStep(step, { name }));
const work = DBOS.registerWorkflow(code, { name: 'work' });

async function main() {
  const pool = Number(process.env.POOL);
  const where = { systemDatabaseUrl: process.env.DATABASE, systemDatabasePoolSize: pool };
  DBOS.setConfig({ name: 'bench', ...where, logLevel: 'error', applicationVersion: '1' });
  await DBOS.launch();
  const begin = given => DBOS.startWorkflow(work, { workflowID: given.id })(given);
  await obey({ begin, run: async given => (await begin(given)).getResult() });
}

main();
