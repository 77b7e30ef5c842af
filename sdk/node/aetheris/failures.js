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

/** Of one value: a frame has 1 MiB, and may have the end of a step and the arguments of the next. */
const BYTES_MAX = 500_000;
/** Of one value; Aether reads 60 levels. */
const LEVELS_MAX = 50;
/** As JSON.stringify writes half of a surrogate pair, which is no text anywhere else. */
const HALF = /(?<!\\)(?:\\\\)*\\ud[89ab-f]/;

/** How many levels a value has; more than `most` are not looked at. */
function levelsOf(value, most = LEVELS_MAX + 1) {
  if (most === 0 || value === null || typeof value !== 'object') return 0;
  let deepest = 0;
  for (const each of Object.values(value)) deepest = Math.max(deepest, levelsOf(each, most - 1));
  return deepest + 1;
}

function written(value) {
  try {
    return JSON.stringify(value, checked);
  } catch (error) {
    if (error instanceof RangeError) throw new TypeError(`it has more than ${LEVELS_MAX} levels`);
    throw error;
  }
}

/** As it is after a crash: dates are texts, and what is undefined is gone. TypeError if Aether would not take it. */
function asRecorded(value) {
  const text = value === undefined ? undefined : written(value);
  if (text === undefined) return null; // a toJSON that gives nothing
  const bytes = text.length * 3 > BYTES_MAX ? Buffer.byteLength(text) : text.length;
  if (bytes > BYTES_MAX)
    throw new TypeError(`it has ${bytes} bytes, at most ${BYTES_MAX} are recorded: keep it elsewhere, and give its place`);
  if (text.includes('\\ud') && HALF.test(text)) throw new TypeError('it has half of a surrogate pair');
  const given = JSON.parse(text);
  if (text.length > 2 * LEVELS_MAX && levelsOf(given) > LEVELS_MAX)
    throw new TypeError(`it has more than ${LEVELS_MAX} levels`);
  return given;
}

module.exports = { NotExecuted, Retryable, StepFailed, TimedOut, Unknown, asRecorded, milliseconds };
