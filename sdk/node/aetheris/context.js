// SPDX-License-Identifier: Apache-2.0
// ctx: what the code of an agent may ask for. Each of these is recorded, and given back when the code runs again.
'use strict';

const { randomUUID } = require('node:crypto');

const { TOOL, running } = require('./code.js');
const { NotExecuted, Retryable, StepFailed, TimedOut, Unknown, asRecorded, milliseconds } = require('./failures.js');

const PAUSE_MAX = 60_000;
/** Of the 200 that a path may have. */
const NAME_BYTES = 180;
/** How soon it is asked again about the waits of a run whose code goes on beside them; then later and later. */
const LOOK_FIRST = 20;
const LOOK_LAST = 500;
/** A run with branches is given back when nothing was asked or answered between so many looks, about a second: what
 * else its code awaits cannot be seen from here. Looks and not time, for in between the code has had its turn. */
const QUIET_LOOKS = 6;

function given(path, answer) {
  if (answer.outcome === 'failed') throw new StepFailed(path, answer.error || 'failed');
  return answer.result;
}

function wordsOf(error) {
  const words = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return Buffer.from(words.slice(0, 2000)).toString(); // halves of surrogate pairs are no text
}

/** Which `outcome` of a step.end says what the function threw. */
function outcomeOf(error, policy) {
  if (policy === 'pure') return 'error';
  if (error instanceof NotExecuted) return 'not_executed';
  return error instanceof Unknown ? 'unknown' : 'error';
}

/** How a step is done: what ctx.step was given, else what the tool says, else the defaults. */
function wayOf(code, options) {
  const made = code[TOOL] || { code, policy: 'once', attempts: 1, pause: 1000 };
  const { policy = made.policy, attempts = made.attempts, pause = made.pause, businessKey } = options;
  return { call: made.code, policy, attempts, pause: milliseconds(pause), businessKey };
}

class Context {
  constructor(held) {
    this.held = held; // Held: the run, and how to ask about it
    this.jobId = held.run;
    this.agent = held.agent;
    this.input = held.input;
    this._names = new Map();
    this._open = 0; // promises of ctx that nobody has had yet
    this._busy = 0; // those of them that are no waits: what would be cut off
    this._looks = 0; // since something was asked for, or answered, last
    this._looking = null;
    held.mayPark = waits => this._mayPark(waits);
  }

  /** AbortSignal: the run has gone from this worker, and nothing more of the code goes on. */
  get left() {
    return this.held.left;
  }

  /** Calls the function once and records what it gave. `options.args` are recorded as well, and given to it. */
  step(name, code, options = {}) {
    if (typeof name === 'function') [name, code, options] = [name.name || 'step', name, code || {}];
    if (typeof code !== 'function') throw new TypeError(`ctx.step("${name}", …): there is no function`);
    const path = this._path(options.name || name);
    return this._going(() => this._step(path, code[TOOL]?.name || name, code, options));
  }

  /** Has Aether call one of its own tools: http, llm, a function, what `tools:` names. */
  call(tool, args = {}, options = {}) {
    const path = this._path(options.name || tool);
    return this._going(() => this._call(path, tool, args, options));
  }

  /** The words of a model; `full` gives all of its answer. Without `model` the built-in one is asked. */
  llm(prompt, options = {}) {
    if (prompt !== null && typeof prompt === 'object') [prompt, options] = [undefined, prompt];
    const { full, name = 'llm', policy, timeout, ...args } = options;
    if (prompt !== undefined) args.prompt = prompt;
    const path = this._path(name);
    return this._going(async () => {
      const result = await this._call(path, 'llm', args, { policy, timeout, kind: 'model' });
      return full || result === null || typeof result !== 'object' ? result : result.content;
    });
  }

  /** Asks a person: `aether jobs approve`. True if it was yes; `full` gives {approved, timedOut, end, by, form}. The
   * job holds nothing while it waits. */
  approve(message, { form, timeout, name = 'approve', full = false } = {}) {
    const wanted = { for: 'human', name: message, after_ms: milliseconds(timeout), schema: form };
    return this._waiting(name, wanted, ({ end, by, payload }) => {
      const approved = end === 'approved';
      return full ? { approved, timedOut: end === 'timed_out', end, by: by || '', form: payload } : approved;
    });
  }

  /** The payload of the signal, which may have come before. TimedOut after that time. */
  wait(signal, { timeout } = {}) {
    const wanted = { for: 'signal', name: signal, after_ms: milliseconds(timeout) };
    return this._waiting(signal, wanted, ({ end, payload }) => {
      if (end === 'timed_out') throw new TimedOut(`no signal ${signal} came within ${timeout}`);
      return payload;
    });
  }

  /** Milliseconds, or a text as `7d`. */
  sleep(duration) {
    return this._waiting('sleep', { for: 'timer', name: '', after_ms: milliseconds(duration) }, () => undefined);
  }

  /** Another job below this one; its output. `job`: a whole body of POST /v1/jobs. */
  run(agent, input, { name, job } = {}) {
    const body = { ...job, ...(agent ? { agent, input: asRecorded(input) } : {}) };
    const called = name || agent || 'job';
    return this._waiting(called, { for: 'child', name: '', job: body }, ({ end, payload }) => {
      const { outcome, output, error } = payload || {};
      if (outcome !== 'succeeded') throw new StepFailed(called, error || outcome || end);
      return output;
    });
  }

  now() {
    return this._value('now', Date.now, time => new Date(time));
  }

  uuid() {
    return this._value('uuid', randomUUID);
  }

  random() {
    return this._value('random', Math.random);
  }

  // ---- Names, and what goes on at the same time

  _path(name) {
    const plain = String(name).replace(/[/~#\u0000-\u001f\u007f]/g, '-');
    const good = Buffer.from(plain).subarray(0, NAME_BYTES).toString().replace(/\ufffd+$/, '') || 'step';
    for (;;) {
      const count = (this._names.get(good) || 0) + 1;
      this._names.set(good, count);
      const path = count === 1 ? good : `${good}.${count}`;
      if (count > 1 && this._names.has(path)) continue;
      if (path !== good) this._names.set(path, 1);
      return path;
    }
  }

  /** What is begun before its predecessor is done is one of several branches. */
  async _counted(busy, code) {
    this._looks = 0;
    this._busy += busy;
    if (++this._open > 1) this.held.hasBranches = true;
    try {
      return await code();
    } finally {
      this._looks = 0;
      this._busy -= busy;
      --this._open;
    }
  }

  /** Whether so many waits are all that is left. A branch whose wait is over asks for its next step soon after. */
  _mayPark(waits) {
    if (this._busy > 0 || waits < this._open) return false;
    return !this.held.hasBranches || this._looks >= QUIET_LOOKS;
  }

  /** All waits of a run are asked about at the same time, so that they go in one frame. */
  _look() {
    this._looking ??= this.held.pause(Math.min(LOOK_FIRST * 2 ** this._looks, LOOK_LAST)).then(() => {
      this._looking = null;
      ++this._looks;
    });
    return this._looking;
  }

  _going(code, busy = 1) {
    const going = this._counted(busy, code);
    going.catch(() => {}); // a branch that nobody awaits any more does not end the process
    return going;
  }

  // ---- The rules

  async _step(path, tool, code, options) {
    const way = wayOf(code, options);
    const args = asRecorded({ args: options.args || [] });
    const { policy, businessKey } = way;
    const begin = { do: 'step.begin', path, tool, args, policy, business_key: businessKey, strict: true };
    for (let tried = 1; ; ++tried) {
      const answer = await this.held.ask({ ...begin });
      if (answer.is === 'recorded') return given(path, answer);
      const end = { do: 'step.end', path };
      if (policy === 'pure') Object.assign(end, { tool, args, policy, strict: true });
      else Object.assign(end, { effect: answer.effect, turn: answer.turn, token: answer.token });
      const { result, failure, isDone } = await this._perform(way, options.args || [], answer.key, end);
      if (!failure) return result;
      const mayAgain = policy === 'read' || policy === 'keyed' || failure.cause instanceof NotExecuted;
      end.again = !isDone && mayAgain && tried < way.attempts ? true : undefined;
      if (end.again || failure.cause instanceof Retryable) end.retryable = true;
      if (!end.again) {
        this.held.end(end);
        throw failure;
      }
      await this.held.end(end);
      await this.held.pause(Math.min(way.pause * 2 ** (tried - 1), PAUSE_MAX));
    }
  }

  /** Calls the function; what it gave is said here, what it threw is left to the caller. */
  async _perform(way, args, key, end) {
    let result;
    try {
      const code = () => way.call(...args);
      result = await this.held.calling(() => running.run({ key }, code));
    } catch (error) {
      const words = wordsOf(error);
      Object.assign(end, { outcome: outcomeOf(error, way.policy), error: words });
      const isOurs = error instanceof StepFailed;
      return { failure: isOurs ? error : new StepFailed(end.path, words, { cause: error }) };
    }
    try {
      result = asRecorded(result);
    } catch (error) {
      // The same is thrown when the code runs again: so this is what is recorded, and not that it went well.
      const words = `it was done, and its result cannot be recorded: ${error.message}`;
      Object.assign(end, { outcome: 'error', error: words });
      return { isDone: true, failure: new StepFailed(end.path, words, { cause: error }) };
    }
    this.held.end({ ...end, outcome: 'ok', result });
    return { result };
  }

  async _call(path, tool, args, { policy, businessKey, timeout, attempts = 1, pause = 1000, kind }) {
    const message = { do: 'call', path, tool, args: asRecorded(args), policy, business_key: businessKey };
    Object.assign(message, { timeout_ms: milliseconds(timeout), attempts, pause_ms: milliseconds(pause), kind });
    for (;;) {
      const answer = await this.held.ask({ ...message, strict: true });
      if (answer.is === 'recorded') return given(path, answer);
    }
  }

  _waiting(name, wanted, take) {
    const path = this._path(name);
    return this._going(async () => {
      for (;;) {
        const answer = await this.held.ask({ do: 'wait', path, ...wanted, give_back: true, strict: true });
        if (answer.is === 'recorded') return take(given(path, answer));
        await this._look();
      }
    }, 0);
  }

  _value(tool, make, take = value => value) {
    const path = this._path(tool);
    return this._going(async () => {
      const answer = await this.held.ask({ do: 'step.begin', path, tool, policy: 'pure', strict: true });
      if (answer.is === 'recorded') return take(given(path, answer));
      const result = make();
      this.held.end({ do: 'step.end', path, tool, policy: 'pure', outcome: 'ok', result, strict: true });
      return take(result);
    });
  }
}

module.exports = { Context, wordsOf };
