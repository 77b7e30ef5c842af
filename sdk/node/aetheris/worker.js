// SPDX-License-Identifier: Apache-2.0
// serve(): claims the jobs of this program's agents and runs their code, until it is told to stop.
'use strict';

const os = require('node:os');
const { setTimeout: sleep } = require('node:timers/promises');

const { Gone, Refused, VERSION, carrierOf } = require('./carrier.js');
const { AGENTS, running } = require('./code.js');
const { Context, wordsOf } = require('./context.js');
const { asRecorded } = require('./failures.js');
const { Held } = require('./held.js');

const WAIT = 20_000; // milliseconds that a claim waits for work
const AT_ONCE = 32;
const CLAIM_MAX = 64;
const AFTER_REFUSAL = 5000;
const AFTER_SILENCE = 200;
/** A claim that gives nothing sooner was not held: Aether is stopping. */
const HELD_FOR = 1000;
const LEAVE_PATIENCE = 8000;
const LOOK = 20;
const BEAT = 1000;
/** What the program has open besides may keep it alive for so long after serve(). */
const END_PATIENCE = 5000;

/** Runs the code of `agents` (all that agent() made) for an Aether, so many jobs `atOnce`. */
class Worker {
  constructor({ agents, url, token, name, atOnce = AT_ONCE, log = warn } = {}) {
    this.agents = new Map([...(agents || AGENTS.values())].map(each => [each.name, each]));
    if (this.agents.size === 0) throw new TypeError("there is no agent: agent('clerk', async (ctx, input) => …)");
    this.carrier = carrierOf(url, token);
    this.name = (name || `${os.hostname()}:${process.pid}`).slice(0, 128);
    this.isStopping = false;
    this._log = log;
    this._room = atOnce;
    this._held = new Set();
    this._stopping = new AbortController();
    this._stopped = new Promise(resolve => this._stopping.signal.addEventListener('abort', resolve));
    this._hasRoom = () => {};
  }

  /** Claims nothing more; what is in the middle of a step ends it, and the rest goes to another worker. */
  stop() {
    this.isStopping = true;
    this._stopping.abort();
  }

  /** Until stop(), or until Aether has gone for good. */
  async run() {
    this._claim().catch(error => this._gives(error));
    await this._stopped;
    await this._leave();
    if (this._error) throw this._error;
  }

  _gives(error) {
    this._error = error;
    this.stop();
  }

  async _claim() {
    const agents = [...this.agents.keys()].sort();
    while (!this.isStopping) {
      if (this._room <= 0) {
        await new Promise(resolve => (this._hasRoom = resolve));
        continue;
      }
      const runs = Math.min(this._room, CLAIM_MAX);
      const body = { v: VERSION, do: 'claim', worker: this.name, agents, runs, wait_ms: WAIT };
      const asked = Date.now();
      const claimed = await this._claimed(body);
      for (const each of claimed) this._begin(new Held(this, each));
      if (claimed.length === 0 && Date.now() - asked < HELD_FOR) await this._pause(AFTER_SILENCE);
    }
  }

  async _claimed(body) {
    try {
      return await this.carrier.claim(body);
    } catch (error) {
      if (this.isStopping) return [];
      if (error instanceof Refused) {
        this._log(`aetheris: ${error.message}`);
        await this._pause(AFTER_REFUSAL);
      } else if (!(error instanceof Gone)) {
        throw error;
      } else if (this.carrier.isGone) {
        this.stop();
      } else {
        this._log(`aetheris: ${error.message}; trying again`);
        await this._pause(AFTER_SILENCE);
      }
      return [];
    }
  }

  async _pause(milliseconds) {
    await sleep(milliseconds, undefined, { signal: this._stopping.signal }).catch(() => {});
  }

  _begin(held) {
    --this._room;
    this._held.add(held);
    this._beat(held);
    this._run(held)
      .catch(error => this._log(`aetheris: ${held.run}: ${error.message}`))
      .finally(() => {
        this._held.delete(held);
        ++this._room;
        this._hasRoom();
      });
  }

  async _run(held) {
    const context = new Context(held);
    const code = async () => this.agents.get(held.agent).code(context, held.input);
    const ending = running.run({ context }, code).then(
      output => this._success(output),
      error => this._failure(held, error),
    );
    const closing = await Promise.race([ending, held.gone]);
    if (closing) {
      const closed = this._close(held, closing);
      await Promise.race([closed, held.gone]);
    }
    const { why, detail } = held.back || {};
    if (why === 'stuck' || why === 'lost') this._log(`aetheris: ${held.run} goes from this worker: ${why}: ${detail}`);
    held.giveBack('closed'); // whatever goes on of the code has no run any more
  }

  _success(output) {
    try {
      return { do: 'close', outcome: 'succeeded', output: asRecorded(output) };
    } catch (error) {
      return { do: 'close', outcome: 'failed', error: `the output: ${wordsOf(error)}` };
    }
  }

  _failure(held, error) {
    this._log(`aetheris: ${held.run} fails: ${wordsOf(error)}`);
    return { do: 'close', outcome: 'failed', error: wordsOf(error) };
  }

  async _close(held, closing) {
    try {
      await held.ask(closing);
    } catch (error) {
      if (closing.outcome === 'failed') throw error;
      await held.ask({ do: 'close', outcome: 'failed', error: `the output: ${wordsOf(error)}` });
    }
  }

  async _beat(held) {
    while (!held.back) {
      await sleep(Math.min(held.lease / 4, BEAT), undefined, { ref: false });
      if (held.back) return;
      try {
        await held.beat();
      } catch (error) {
        if (error instanceof Gone) held.giveBack('lost', error.message);
      }
    }
  }

  /** Steps that are in the middle may end; all else is given back now. */
  async _leave() {
    const until = Date.now() + LEAVE_PATIENCE;
    while (this._held.size > 0 && Date.now() < until) {
      for (const held of this._held) held.leave();
      await sleep(LOOK);
    }
    this.carrier.close();
  }
}

function warn(text) {
  process.stderr.write(`${text}\n`);
}

/**
 * Runs this program's agents until SIGTERM or SIGINT. Under Aether nothing needs to be said; elsewhere `url` (or
 * $AETHER_URL) is Aether's, `unix:/path` for a control socket, and `token` (or $AETHER_TOKEN) one of role worker.
 */
async function serve(options = {}) {
  const worker = new Worker(options);
  const stop = () => worker.stop();
  for (const name of ['SIGTERM', 'SIGINT']) process.on(name, stop);
  await worker.run();
  setTimeout(() => process.exit(), END_PATIENCE).unref();
}

module.exports = { Worker, serve };
