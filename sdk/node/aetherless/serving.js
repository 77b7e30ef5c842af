// SPDX-License-Identifier: Apache-2.0
// aetherless.serve(): requests that come through a ring.
'use strict';

const { STATUS_CODES } = require('http');
const { Gone } = require('./exchange.js');
const { Line } = require('./line.js');

/** `method`, `target` ("/path?query"), `path`, `query`, `headers` (names in lower case). Its body is read by
 * `await request.read()` or `.json()`, or by `for await (const chunk of request)`. */
class Request {
  constructor(call, next) {
    const lines = call.head.split('\r\n');
    [this.method, this.target] = lines[0].split(' ');
    const mark = this.target.indexOf('?');
    this.path = mark < 0 ? this.target : this.target.slice(0, mark);
    this.query = mark < 0 ? '' : this.target.slice(mark + 1);
    this.headers = Object.create(null);
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(':');
      const name = line.slice(0, colon).toLowerCase();
      const value = line.slice(colon + 1).trim();
      this.headers[name] = name in this.headers ? `${this.headers[name]}, ${value}` : value;
    }
    delete this.headers['transfer-encoding'];
    Object.defineProperty(this, 'next', { value: next, enumerable: false });
    this.signal = call.aborter.signal;
  }

  async *[Symbol.asyncIterator]() {
    for (let chunk = await this.next(); chunk.length > 0; chunk = await this.next()) yield chunk;
  }

  /** All of the body (that is left). */
  async read() {
    const chunks = [];
    for await (const chunk of this) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async json() {
    return JSON.parse(await this.read());
  }
}

/** What a handler may return: a string, a Buffer, `{status, headers, body}` whose body is one of these or an (async)
 * iterable of them, which is streamed; any other object is sent as JSON; undefined is 204. */
function responseOf(value) {
  if (value === undefined || value === null) return { status: 204, headers: [], body: '' };
  if (typeof value === 'string' || value instanceof Uint8Array) return { status: 200, headers: [], body: value };
  const known = ['status', 'headers', 'body'];
  if (!Array.isArray(value) && Object.keys(value).some(key => key === 'status' || key === 'body')) {
    const unknown = Object.keys(value).filter(key => !known.includes(key));
    if (unknown.length > 0) throw new TypeError(`a response has no ${unknown[0]}; it has ${known.join(', ')}`);
    const headers = Array.isArray(value.headers) ? value.headers : Object.entries(value.headers || {});
    return { status: value.status || 200, headers, body: value.body === undefined ? '' : value.body };
  }
  return { status: 200, headers: [['Content-Type', 'application/json']], body: JSON.stringify(value) };
}

const NOT_OF_A_RING = new Set(['connection', 'transfer-encoding', 'keep-alive']);

/** `length`: of its body; null: nobody knows yet. A header that could be read as two is refused. */
function headOf(response, length) {
  let head = `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status] || ''}\r\n`;
  const names = new Set();
  for (const [name, given] of response.headers) {
    for (const value of Array.isArray(given) ? given : [given]) {
      // eslint-disable-next-line no-control-regex
      if (!name || /[:\r\n\0]/.test(name) || /[\r\n\0]/.test(value)) throw new TypeError(`a header that is none: ${name}`);
      names.add(name.toLowerCase());
      if (!NOT_OF_A_RING.has(name.toLowerCase())) head += `${name}: ${value}\r\n`;
    }
  }
  if (!names.has('content-type') && length !== 0) {
    const text = typeof response.body === 'string';
    head += `Content-Type: ${text ? 'text/plain; charset=utf-8' : 'application/octet-stream'}\r\n`;
  }
  const says = response.status !== 204 && response.status !== 304;
  if (!names.has('content-length') && length !== null && says) head += `Content-Length: ${length}\r\n`;
  return Buffer.from(`${head}\r\n`, 'latin1');
}

const bytesOf = body =>
  typeof body === 'string'
    ? Buffer.from(body)
    : Buffer.isBuffer(body)
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
const isWhole = body => typeof body === 'string' || body instanceof Uint8Array;

class Server {
  constructor(handler, noticeCopy) {
    this.handler = handler;
    this.open = 0;
    this.stopping = false;
    this.line = new Line(call => this.answer(call), () => this.end(), noticeCopy);
    process.on('SIGTERM', () => {
      this.stopping = true;
      this.end();
    });
  }

  end() {
    if ((this.stopping || this.line.closed) && this.open === 0) process.exit(0);
  }

  /** Until something has come for this call. */
  moved(call) {
    return new Promise(resolve => {
      call.wake = resolve;
    });
  }

  async next(call) {
    while (true) {
      const chunk = this.line.exchange.read(call);
      this.line.flush();
      if (chunk !== null) return chunk;
      await this.moved(call);
    }
  }

  async answer(call) {
    this.open++;
    call.aborter = new AbortController();
    try {
      await this.respond(call, responseOf(await this.handler(new Request(call, () => this.next(call)))));
    } catch (error) {
      if (!(error instanceof Gone) && !call.gone) {
        console.error(error);
        this.line.exchange.fail(call, String(error));
      }
    } finally {
      this.open--;
      this.line.exchange.forget(call);
      this.line.flush();
      this.end();
    }
  }

  async respond(call, response) {
    if (isWhole(response.body)) {
      const body = bytesOf(response.body);
      return this.begin(call, headOf(response, body.length), body, true);
    }
    await this.begin(call, headOf(response, null), Buffer.alloc(0), false);
    for await (const piece of response.body) await this.send(call, bytesOf(piece), false);
    return this.send(call, Buffer.alloc(0), true);
  }

  begin(call, head, body, end) {
    const fits = body.subarray(0, call.credit);
    const rest = body.subarray(fits.length);
    this.line.exchange.beginAnswer(call, head, fits, end && rest.length === 0);
    this.line.flush();
    return rest.length > 0 ? this.send(call, rest, end) : undefined;
  }

  async send(call, body, end) {
    while (true) {
      if (call.gone) throw new Gone();
      if (this.line.exchange.outbox.length > 0) {
        await this.line.room();
      } else if (body.length > 0 && call.credit === 0) {
        await this.moved(call);
      } else {
        body = body.subarray(this.line.exchange.send(call, body, end));
        this.line.flush();
        if (body.length === 0) return;
      }
    }
  }
}

module.exports = { Server };
