// SPDX-License-Identifier: Apache-2.0
// For `import`: the same one module, whoever loads it how.
import aetheris from './index.js';

export const {
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
} = aetheris;
export default aetheris;
