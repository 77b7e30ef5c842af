// SPDX-License-Identifier: Apache-2.0
// What a step may end with, and how long things take.
'use strict';

/** A step has failed, and will fail the same way whenever this run's code runs again. */
class StepFailed extends Error {
  constructor(path, message, options) {
    super(`${path}: ${message}`, options);
    this.path = path;
    this.reason = message;
  }
}

/** Throw it in a step when nothing was sent: it may be tried again, whatever its policy. */
class NotExecuted extends Error {}

/** Throw it in a step that failed and may be tried again, if its policy is read or keyed. */
class Retryable extends Error {}

/** Throw it in a step when nobody knows whether it happened: a person is asked. */
class Unknown extends Error {}

/** Nothing came within the time that was given. */
class TimedOut extends Error {}

for (const each of [StepFailed, NotExecuted, Retryable, Unknown, TimedOut]) each.prototype.name = each.name;

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** Milliseconds of a number of them, or of a text as `30s` or `7d`. */
function milliseconds(duration) {
  if (duration === undefined || duration === null) return undefined;
  const found = /^(\d+(?:\.\d+)?)(ms|[smhdw])$/.exec(duration);
  const count = found ? Number(found[1]) * UNITS[found[2]] : duration;
  if (typeof count !== 'number' || !Number.isFinite(count))
    throw new TypeError(`a duration is milliseconds, or a text as 30s or 7d: ${duration}`);
  return Math.max(0, Math.round(count));
}

function checked(key, value) {
  const kind = typeof value;
  const isLost = kind === 'function' || kind === 'symbol' || value instanceof Map || value instanceof Set;
  const what = value instanceof Object ? value.constructor.name : kind;
  if (isLost) throw new TypeError(`${key || 'it'} is no JSON: ${what}`);
  if (kind !== 'number') return value;
  if (!Number.isFinite(value)) throw new TypeError(`${key || 'it'} is no JSON: ${value}`);
  // From 1e21 on JSON.stringify writes no digits that somebody could take for exact ones.
  if (Number.isInteger(value) && Math.abs(value) > 2 ** 53 && Math.abs(value) < 1e21)
    throw new TypeError(`${key || 'it'} is beyond 2^53, where whole numbers get lost: send it as a text`);
  return value;
}

/** As it is after a crash: dates are texts, and what is undefined is gone. */
function asRecorded(value) {
  return value === undefined ? null : JSON.parse(JSON.stringify(value, checked));
}

module.exports = { NotExecuted, Retryable, StepFailed, TimedOut, Unknown, asRecorded, milliseconds };
