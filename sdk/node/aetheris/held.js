// SPDX-License-Identifier: Apache-2.0
// A run that this worker holds: what its code asks goes to Aether in frames, in the order in which it was asked.
//
// The end of a step is not waited for: it goes in one frame with what the code asks next, so that a step costs one
// round trip. Nothing overtakes it: while a frame with an end is on its way, what comes later waits; and so does
// what comes after a message which says that it is alone.
//
// When the run goes from this worker, the promises that its code awaits are never settled. So nothing of the code
// runs on, whatever it catches; its memory is given back as that of any promise that nobody can reach.
'use strict';

const { setMaxListeners } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');

const { Gone, Refused, VERSION } = require('./carrier.js');

const MESSAGES_MAX = 64;
/** Of a frame of several messages; Aether takes 1 MiB. */
const FRAME_BYTES = 512 << 10;

const never = () => new Promise(() => {});
const AGAIN = 50; // milliseconds
const isEnd = message => message.do === 'step.end';
const isBegin = message => message.do === 'step.begin';
/** `open` says of these that they are not recorded yet: they are asked again here. */
const isPlain = message => message.do !== 'wait' && message.do !== 'call';
/** Nothing may be recorded before it that was asked later. */
const isOrdered = message => isEnd(message) || (message.strict && message.do !== 'call');
/** Its answer may take long, or ends everything: nothing goes in the same frame. */
const isAlone = message => message.do === 'call' || message.do === 'release';

const flushing = [];

/** After all that the code does without waiting: its branches, or the step after this one. All runs at once, so that
 * what they say is written at once. */
function soon(flush) {
  if (flushing.push(flush) > 1) return;
  setImmediate(() => {
    for (const each of flushing.splice(0)) each();
  });
}

class Held {
  constructor(worker, claimed) {
    this.worker = worker;
    this.run = claimed.run;
    this.token = claimed.token;
    this.agent = claimed.agent;
    this.input = claimed.input;
    this.lease = claimed.lease_ms;
    this.back = null; // {why, detail}, once it is not ours any more
    this.hasFailed = false; // Aether refused what the code took for recorded
    this.inside = 0; // functions of its steps that run right now
    this.hasBranches = false; // the code has asked for several things at once
    this.mayPark = () => true; // whether so many waits are all that the code goes on with
    this._queue = [];
    this._isSoon = false;
    this._begins = 0; // on their way: Aether may say that a function is to be called
    this._ordered = 0; // frames on their way that nothing overtakes
    this._leaving = null; // AbortController, once somebody wants to know
    this.gone = new Promise(resolve => (this._goes = resolve));
  }

  /** AbortSignal of when it goes from this worker. */
  get left() {
    if (!this._leaving) {
      this._leaving = new AbortController();
      setMaxListeners(0, this._leaving.signal);
      if (this.back) this._leaving.abort();
    }
    return this._leaving.signal;
  }

  /** The answer; Refused if Aether does not take it. Never settled when the run goes from this worker. */
  ask(message) {
    if (this.back || this.hasFailed || this._isReleased) return never();
    // What the code has left going when it ended is over: a wait of it could still give the run back.
    if (message.do === 'close') this._isClosing = true;
    else if (this._isClosing) return never();
    if (!this.worker.isStopping || message.do === 'close') return this._put(message);
    setImmediate(() => this.leave());
    return never();
  }

  /** As ask, for the end of a step: it is said in any case. Who does not await it goes on at once. */
  end(message) {
    const said = this._put(message);
    said.catch(error => this._fail(error));
    return said;
  }

  /** The worker stops: nothing more is begun, what is in the middle ends, and then the run is given back. */
  leave() {
    this._queue = this._queue.filter(each => !isBegin(each.message));
    if (this.inside > 0 || this._begins > 0 || this.back || this._isReleased) return;
    this._isReleased = true;
    this._put({ do: 'release', why: 'the worker stops' }).catch(() => this.giveBack('lost', 'the worker stops'));
  }

  async beat() {
    const [answer] = await this.worker.carrier.frame(this._frame([{ do: 'beat' }]));
    if (answer.is === 'give_back') this.giveBack(answer.why, answer.detail);
  }

  giveBack(why, detail = '') {
    if (this.back) return;
    this.back = { why, detail };
    this._queue = this._queue.filter(each => isEnd(each.message));
    this._goes();
    this._leaving?.abort();
  }

  async pause(milliseconds) {
    await sleep(milliseconds, undefined, { signal: this.left }).catch(() => {});
    return this.back ? never() : undefined;
  }

  async calling(code) {
    ++this.inside;
    try {
      return await code();
    } finally {
      --this.inside;
    }
  }

  _frame(messages) {
    return { v: VERSION, run: this.run, token: this.token, messages };
  }

  _put(message) {
    return new Promise((resolve, reject) => {
      this._queue.push({ message, resolve, reject });
      if (this._isSoon) return;
      this._isSoon = true;
      soon(() => {
        this._isSoon = false;
        this._flush();
      });
    });
  }

  _flush() {
    while (this._queue.length > 0 && this._ordered === 0) this._send(this._next());
  }

  /** As many messages as may go together. */
  _next() {
    const frame = [];
    let bytes = 0;
    while (this._queue.length > 0 && frame.length < MESSAGES_MAX) {
      const { message } = this._queue[0];
      if ('strict' in message) message.strict = !this.hasBranches;
      if (frame.length > 0 || this._queue.length > 1) bytes += JSON.stringify(message).length;
      const goesOn = frame.length === 0 || (!isAlone(message) && bytes <= FRAME_BYTES);
      if (!goesOn) break;
      frame.push(this._queue.shift());
      if (isAlone(message)) break;
    }
    const waits = frame.filter(each => each.message.do === 'wait');
    // Of those in one frame Aether knows whether one is over, and then it does not take the run back.
    for (const { message } of waits) message.give_back = !this._isClosing && this.mayPark(waits.length);
    return frame;
  }

  async _send(frame) {
    const isFirst = frame.some(each => isOrdered(each.message));
    if (isFirst) ++this._ordered;
    const begins = frame.filter(each => isBegin(each.message)).length;
    this._begins += begins;
    await this._say(frame);
    this._begins -= begins;
    if (!isFirst) return;
    --this._ordered;
    this._flush();
  }

  async _say(frame) {
    let answers;
    try {
      answers = await this.worker.carrier.frame(this._frame(frame.map(each => each.message)));
    } catch (error) {
      if (error instanceof Gone) return this.giveBack('lost', error.message);
      if (frame.length === 1) return frame[0].reject(error);
      // Nothing of the frame was done: each by itself, to know which one is refused.
      for (const each of frame) {
        const isMute = this.back || this.hasFailed;
        if (!isMute || isEnd(each.message)) await this._say([each]);
      }
      return undefined;
    }
    const back = answers.find(answer => answer.is === 'give_back');
    if (back) this.giveBack(back.why, back.detail);
    const again = [];
    frame.forEach((each, i) => {
      const answer = answers[i];
      if (answer.is === 'refused') each.reject(new Refused('refused', answer.detail));
      else if (answer.is === 'open' && isPlain(each.message)) again.push(each);
      else if (!this.back) each.resolve(answer);
    });
    const unsaid = this.back ? again.filter(each => isEnd(each.message)) : again;
    if (unsaid.length === 0) return undefined;
    await sleep(AGAIN);
    return this._say(unsaid);
  }

  /** The code went on already: its run ends with what is wrong. */
  _fail(error) {
    if (this.back || this.hasFailed) return;
    this.hasFailed = true;
    this._queue = [];
    const words = `${error.name}: ${error.message}`.slice(0, 2000);
    const told = this._put({ do: 'close', outcome: 'failed', error: words });
    told.catch(() => {}).then(() => this.giveBack('closed', words));
  }
}

module.exports = { Held };
