// SPDX-License-Identifier: Apache-2.0
// A carrier that answers as Aether would, from a record that survives contexts.
'use strict';

const { Context } = require('../aetheris/context.js');
const { running } = require('../aetheris/code.js');
const { Held } = require('../aetheris/held.js');

const RUN = { run: 'r', token: 't', agent: 'a', input: { n: 1 }, lease_ms: 30000 };

class Recorder {
  constructor() {
    this.record = new Map();
    this.frames = [];
    this.calls = 0;
    this.isStopping = false;
    this.carrier = { frame: body => this.frame(body) };
  }

  async frame({ messages }) {
    this.frames.push(messages);
    JSON.stringify(messages);
    await new Promise(setImmediate);
    const answers = messages.map(each => this.answer(each));
    // With what is recorded the code can go on.
    const goesOn = answers.some(each => each.is === 'recorded');
    return goesOn ? answers.map(each => (each.why === 'parked' ? { is: 'open' } : each)) : answers;
  }

  /** Of all messages, with that `do`. */
  said(verb) {
    return this.frames.flat().filter(each => each.do === verb);
  }

  end(path, outcome, result, error) {
    this.record.set(path, { is: 'recorded', outcome, result, error });
  }

  answer(message) {
    const { path } = message;
    if (this.record.has(path)) return message.do === 'step.end' ? { is: 'done' } : this.record.get(path);
    switch (message.do) {
      case 'step.begin':
        if (message.policy === 'pure') return { is: 'go' };
        return { is: 'go', effect: 'e', turn: 1, token: 't', ...(message.policy === 'keyed' && { key: 'k' }) };
      case 'step.end':
        if (!message.again)
          this.end(path, message.outcome === 'ok' ? 'committed' : 'failed', message.result, message.error);
        return { is: 'done' };
      case 'call':
        this.end(path, 'committed', { content: `said ${++this.calls}` });
        return this.record.get(path);
      case 'wait':
        return message.give_back ? { is: 'give_back', why: 'parked' } : { is: 'open' };
      case 'release':
        return { is: 'give_back', why: 'released' };
      default:
        return { is: 'done' };
    }
  }

  /** What the code gives, as a worker runs it; {back} when the run goes from it. */
  async run(code) {
    const held = new Held(this, RUN);
    const context = new Context(held);
    const going = running.run({ context }, async () => code(context, held.input));
    const given = await Promise.race([going, held.gone.then(() => ({ back: held.back, held }))]);
    if (!held.back) await held.ask({ do: 'close' }); // behind all that is on its way
    return given;
  }
}

module.exports = { Recorder };
