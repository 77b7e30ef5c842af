// SPDX-License-Identifier: Apache-2.0
// How claims and frames get to Aether and back: over HTTP, or as lines on a socket that Aether gave us.
'use strict';

const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const { setTimeout: sleep } = require('node:timers/promises');

const VERSION = 1;
const SILENCE = 60_000; // milliseconds: longer than Aether holds anything
const GIVE_UP = 30_000; // after so long without an answer the lease is gone as well
const MESSAGE_MAX = 1 << 20; // bytes
const CLAIM_PATIENCE = 5000;
const PAUSE_FIRST = 20;
const PAUSE_LAST = 1000;
const LATER = ['system-call', 'store-full', 'limit-reached', 'timeout'];

/** What this package throws. */
class AetherisError extends Error {}
AetherisError.prototype.name = 'AetherisError';

/** Aether is not there (any more). */
class Gone extends AetherisError {}

/** Aether did not take the message: it would not take it a second time. */
class Refused extends AetherisError {
  constructor(kind, detail) {
    super(`${kind}: ${detail}`);
    this.kind = kind;
  }
}

/** Aether would cut off who says more at once. */
function fitting(text) {
  const bytes = text.length * 3 < MESSAGE_MAX ? 0 : Buffer.byteLength(text);
  if (bytes <= MESSAGE_MAX) return text;
  throw new Refused('request-invalid', `a message of ${bytes} bytes, and ${MESSAGE_MAX} may be`);
}

/** What node:http wants to know of `http://host:port` or `unix:/path`. */
function place(url) {
  if (url.startsWith('unix:')) return { module: http, socketPath: url.slice(5), host: 'localhost' };
  const parts = new URL(url.includes('//') ? url : `http://${url}`);
  const host = parts.hostname.replace(/^\[|\]$/g, '');
  return { module: parts.protocol === 'https:' ? https : http, host, port: parts.port || undefined };
}

/** {status, headers, text} */
function ask({ module, ...to }, { method, path, text, token, headers, timeout, agent = false }) {
  const fields = { 'Content-Type': 'application/json', ...headers };
  if (token) fields.Authorization = `Bearer ${token}`;
  if (text !== undefined) fields['Content-Length'] = Buffer.byteLength(text);
  return new Promise((resolve, reject) => {
    const request = module.request({ ...to, method, path, headers: fields, agent, timeout });
    request.setNoDelay(true);
    request.on('timeout', () => request.destroy(new Error(`no answer in ${timeout / 1000} s`)));
    request.on('error', reject);
    request.on('response', answer => {
      let told = '';
      answer.setEncoding('utf8');
      answer.on('data', more => (told += more));
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text: told }));
    });
    request.end(text);
  });
}

class HttpCarrier {
  constructor(url, token) {
    this.url = url;
    this.isGone = false;
    this._token = token;
    this._to = place(url);
    this._agent = new this._to.module.Agent({ keepAlive: true });
  }

  async _post(path, text) {
    const wanted = { method: 'POST', path, text, token: this._token, timeout: SILENCE, agent: this._agent };
    const answer = await ask(this._to, wanted);
    const told = answer.text ? JSON.parse(answer.text) : {};
    if (answer.status === 200) return told;
    if (answer.status >= 500) throw new Error(`${answer.status} ${told.detail || ''}`);
    throw new Refused(String(told.type || answer.status).split('/').pop(), told.detail || '');
  }

  /** Asked again until there is an answer: each message is the same when it is said twice. */
  async _ask(path, body, patience) {
    const text = fitting(JSON.stringify(body));
    const until = Date.now() + patience;
    if (this.isGone) throw new Gone('the worker has ended');
    for (let pause = PAUSE_FIRST; ; pause = Math.min(pause * 2, PAUSE_LAST)) {
      try {
        return await this._post(path, text);
      } catch (error) {
        if (error instanceof Refused) throw error;
        if (this.isGone || Date.now() + pause > until)
          throw new Gone(`${this.url} does not answer: ${error.message}`, { cause: error });
      }
      await sleep(pause);
    }
  }

  async claim(body) {
    return (await this._ask('/v1/work:claim', body, CLAIM_PATIENCE)).runs;
  }

  async frame(body) {
    return (await this._ask('/v1/work', body, GIVE_UP)).answers;
  }

  close() {
    this.isGone = true;
    this._agent.destroy();
  }
}

/** One JSON object a line, on one end of a socket pair. Its end is Aether's: then there is nothing more to do. */
class LineCarrier {
  constructor(fd) {
    this.isGone = false;
    this._last = 0;
    this._waiting = new Map();
    this._unwritten = '';
    this._socket = new net.Socket({ fd, readable: true, writable: true });
    let pieces = [];
    this._socket.setEncoding('utf8');
    this._socket.on('data', text => {
      const lines = text.split('\n');
      pieces.push(lines[0]);
      for (const next of lines.slice(1)) {
        this._take(pieces.join(''));
        pieces = [next];
      }
    });
    this._socket.on('error', () => {});
    this._socket.on('close', () => this._end());
  }

  _take(line) {
    const answer = JSON.parse(line);
    const waiting = this._waiting.get(answer.id);
    this._waiting.delete(answer.id);
    if (waiting) waiting(answer);
  }

  _end() {
    this.isGone = true;
    for (const waiting of this._waiting.values()) waiting(null);
    this._waiting.clear();
  }

  /** What is said without waiting in between is written at once: of all that a line costs that is the most. */
  _write(line) {
    if (this._unwritten === '') queueMicrotask(() => this._flush());
    this._unwritten += line;
  }

  _flush() {
    if (this._unwritten !== '') this._socket.write(this._unwritten);
    this._unwritten = '';
  }

  async _ask(body) {
    for (;;) {
      if (this.isGone) throw new Gone('Aether has closed the line');
      const id = ++this._last;
      // The id comes first: Aether finds it even in a line that it cannot read.
      const line = fitting(`${JSON.stringify({ id, ...body })}\n`);
      const answered = new Promise(resolve => this._waiting.set(id, resolve));
      this._write(line);
      const answer = await answered;
      if (answer === null) throw new Gone('Aether has closed the line');
      if (!answer.error) return answer;
      if (!LATER.includes(answer.error.type)) throw new Refused(answer.error.type, answer.error.detail);
      await sleep(100);
    }
  }

  async claim(body) {
    return (await this._ask(body)).runs;
  }

  async frame(body) {
    return (await this._ask(body)).answers;
  }

  close() {
    this._flush();
    this._socket.end();
    this._end();
  }
}

/** The line that Aether gave us, else HTTP: `url`, $AETHER_URL, or port 8080 of this machine. */
function carrierOf(url, token) {
  const { AETHER_WORK_FD, AETHER_URL, AETHER_TOKEN } = process.env;
  if (AETHER_WORK_FD && !url) return new LineCarrier(Number(AETHER_WORK_FD));
  return new HttpCarrier(url || AETHER_URL || 'http://localhost:8080', token || AETHER_TOKEN);
}

module.exports = { AetherisError, Gone, HttpCarrier, LineCarrier, Refused, VERSION, ask, carrierOf, place };
