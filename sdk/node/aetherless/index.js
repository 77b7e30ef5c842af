// SPDX-License-Identifier: Apache-2.0
// aetherless: for handlers that Aether copies while they run (docs/handlers.md).
//
//   const aetherless = require('aetherless');
//   aetherless.beforeSnapshot(() => { ... });  // once, before copies are made; the last one registered runs first
//   aetherless.afterRestore(copy => { ... });  // in each copy, before its first request; in order of registration
//   aetherless.serve(request => `hello ${request.path}`);  // through shared memory, with `ipc: ring` (docs/functions-ring.md)
//   await aetherless.ready();                  // instead of connecting to AETHER_SOCKET and sending READY
//
// What must differ between copies, Math.random() for instance, is renewed by itself. No dependencies; Node 18 or
// newer. Without Aether everything does nothing.
'use strict';

const reseeding = require('./reseeding.js');

const HOOK_SIGNAL = 'SIGURG';
const LINE_MAX = 256;

const state = {
  before: [],
  after: [],
  installed: false,
  prepared: false,
  signalled: false,
  copy: null,
  pid: process.pid,
};

/** `hook` runs once, in the original, before copies are made of it. Those registered last run first. */
function beforeSnapshot(hook) {
  install();
  state.before.push(hook);
  return hook;
}

/** `hook` runs in each copy, in the order of registration. A promise it returns is awaited by the next hook only:
 * requests do not wait for it. */
function afterRestore(hook) {
  install();
  state.after.push(hook);
  return hook;
}

/** Waits for Aether's signal: once to the original when its snapshot comes, once to each copy. */
function install() {
  if (state.installed) return;
  state.installed = true;
  reseeding.install();
  process.on(HOOK_SIGNAL, onSignal);
}

/** A copy has another number, or, in a pid namespace of its own, hears the signal for the second time. That the line
 * SNAPSHOT was heard before tells nothing: the original's own signal comes behind it. */
function onSignal() {
  const isSecond = state.signalled;
  state.signalled = true;
  if (isSecond || reseeding.ownPid() !== state.pid) restored({});
  else if (!state.prepared) prepare();
}

/** For who knows that this is a copy before the signal is heard: a request that came with it waits already. */
function noticeCopy() {
  if (state.installed) restored({});
}

function prepare() {
  if (state.prepared) return undefined;
  state.prepared = true;
  return runInTurn([...state.before].reverse(), undefined, () => reseeding.prepare());
}

function restored({ instance, seed }) {
  if (state.copy !== null) {
    if (seed !== undefined) Object.assign(state.copy, { instance, seed });
    return undefined;
  }
  state.copy = { instance, seed };
  state.pid = reseeding.renew();
  return runInTurn(state.after, state.copy, () => {});
}

/** At once as far as the hooks are no promises: a request that waits already comes after them. */
function runInTurn(hooks, argument, then) {
  for (let i = 0; i < hooks.length; i++) {
    const result = hooks[i](argument);
    if (result && typeof result.then === 'function') {
      return result.then(() => runInTurn(hooks.slice(i + 1), argument, then));
    }
  }
  return then();
}

/** What this copy was told, as {instance, seed}; null in the original. */
function isCopy() {
  return state.copy;
}

/** Tells Aether that the handler is ready. Resolves to false without Aether (no AETHER_SOCKET). */
function ready() {
  const path = process.env.AETHER_SOCKET;
  if (!path) return Promise.resolve(false);
  install();
  return new Promise((resolve, reject) => {
    const socket = require('net').connect(path);
    let text = '';
    socket.setEncoding('latin1');
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      socket.on('error', () => {}); // Aether is gone; it says so by ending us
      socket.write('READY\nHOOKS\n', () => resolve(true));
    });
    socket.on('data', data => {
      const lines = (text + data).slice(-LINE_MAX).split('\n');
      text = lines.pop();
      for (const line of lines) hear(socket, line.split(' '));
    });
    socket.unref();
  });
}

function hear(socket, words) {
  const known = words[0] === 'SNAPSHOT' || (words[0] === 'RESTORED' && words.length === 3);
  if (!known) return;
  const done =
    words[0] === 'SNAPSHOT'
      ? prepare()
      : restored({ instance: words[1], seed: Buffer.from(words[2], 'hex') });
  Promise.resolve(done).then(() => socket.write('OK\n'));
}

/** For a function with `ipc: ring`: answers requests that come through shared memory, until Aether ends it. `handler`
 * gets a Request and returns (a promise of) what serving.js, responseOf() takes. Says READY by itself. */
async function serve(handler) {
  const { Server } = require('./serving.js');
  install();
  const server = new Server(handler, noticeCopy);
  await ready();
  server.line.pump();
}

module.exports = { afterRestore, beforeSnapshot, install, isCopy, ready, serve };
