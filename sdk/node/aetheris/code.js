// SPDX-License-Identifier: Apache-2.0
// agent() and tool(): what of a program is an agent, and which of its functions must not happen twice.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');

const POLICIES = ['once', 'read', 'keyed', 'pure'];
const TOOL = Symbol.for('aetheris.tool');

const AGENTS = new Map();

/** Of the code that runs: `context` of the run whose code it is, `key` within a step of policy keyed. */
const running = new AsyncLocalStorage();

/** Within a step of policy `keyed`: the same each time that the step is tried. Else undefined. */
function idempotencyKey() {
  return running.getStore()?.key;
}

/** (name?, options?, function?) in this order, each of which may be missing. */
function sorted(given) {
  const name = given.find(each => typeof each === 'string');
  const code = given.find(each => typeof each === 'function');
  const options = given.find(each => each !== null && typeof each === 'object') || {};
  return { name: name || options.name || code?.name, code, options };
}

/**
 * A function that is a step of its own when an agent calls it; called elsewhere it is the function.
 *
 * `policy`: what may happen after a crash in the middle: once (never again: a person is asked), read (again), keyed
 * (again with the same idempotencyKey()), pure (it touches nothing outside). `attempts`: of read and keyed when they
 * throw, and of any that throws NotExecuted; `pause` before the second, then twice as long.
 */
function tool(...given) {
  const { name, code, options } = sorted(given);
  if (!code) return (...more) => tool(...given, ...more);
  const { policy = 'once', attempts = 1, pause = 1000 } = options;
  if (!POLICIES.includes(policy)) throw new TypeError(`policy is not one of ${POLICIES.join(', ')}: ${policy}`);
  if (!name) throw new TypeError("a tool needs a name: tool('refund', async order => …)");
  const made = (...args) => {
    const context = running.getStore()?.context;
    return context ? context.step(name, made, { args }) : code(...args);
  };
  Object.defineProperty(made, 'name', { value: name });
  made[TOOL] = { name, code, policy, attempts, pause };
  return made;
}

/**
 * The function gets (ctx, input); what it returns, or its promise gives, is the job's output. The name is the one
 * under `agents:` in Aether's configuration.
 */
function agent(...given) {
  const { name, code } = sorted(given);
  if (!code) throw new TypeError("an agent is a function: agent('clerk', async (ctx, input) => …)");
  if (!name) throw new TypeError("an agent needs a name: agent('clerk', async (ctx, input) => …)");
  const made = { name, code };
  AGENTS.set(name, made);
  return made;
}

module.exports = { AGENTS, TOOL, agent, idempotencyKey, running, tool };
