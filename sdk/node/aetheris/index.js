// SPDX-License-Identifier: Apache-2.0
// Durable agents in Node: a function whose steps are recorded, and go on where they were after any crash.
//
//   const { agent, tool, serve } = require('aetheris');
//   const refund = tool('refund', async order => { ... });     // called at most once, whatever crashes
//   agent('clerk', async (ctx, input) => {
//     if (await ctx.approve(`Refund ${input.order}?`)) return refund(input.order);
//   });
//   serve();
//
// And the client: (await (await new AetherisClient().run('clerk', { order: 7 })).wait()).output.
'use strict';

const { AetherisClient, AetherisError, Job, JobFailedError, JobStatus, TimeoutError } = require('./client.js');
const { agent, idempotencyKey, tool } = require('./code.js');
const { Context } = require('./context.js');
const { NotExecuted, Retryable, StepFailed, TimedOut, Unknown } = require('./failures.js');
const { Worker, serve } = require('./worker.js');

module.exports = {
  AetherisClient,
  AetherisError,
  Context,
  Job,
  JobFailedError,
  JobStatus,
  NotExecuted,
  Retryable,
  StepFailed,
  TimedOut,
  TimeoutError,
  Unknown,
  Worker,
  agent,
  idempotencyKey,
  serve,
  tool,
};
