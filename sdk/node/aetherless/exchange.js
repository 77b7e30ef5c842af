// SPDX-License-Identifier: Apache-2.0
// The calls that are under way between Aether and this handler: docs/functions-ring.md. Knows no ring: messages in,
// messages out.
'use strict';

const PROTOCOL = 1;
const WINDOW = 64 * 1024;
const MESSAGE_MAX = 32 * 1024;
const HEAD = 8;
const [HELLO, REQUEST, ANSWER, BODY, WINDOW_KIND, CANCEL, FAILURE] = [1, 2, 3, 4, 5, 6, 7];
const [END, MORE] = [1, 2];
const HEAD_END = Buffer.from('\r\n\r\n');

/** Nobody waits for this answer any more: the client has left, or its time is over. */
class Gone extends Error {
  constructor() {
    super('the client has left');
    this.name = 'Gone';
  }
}

function write(call, kind, content = Buffer.alloc(0), { end = false, more = false } = {}) {
  const message = Buffer.allocUnsafe(HEAD + content.length);
  message.writeUInt32LE(call, 0);
  message[4] = kind;
  message[5] = (end ? END : 0) | (more ? MORE : 0);
  message.writeUInt16LE(0, 6);
  content.copy(message, HEAD);
  return message;
}

function number(value) {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const hello = name => write(0, HELLO, Buffer.concat([number(PROTOCOL), Buffer.from(name, 'latin1').subarray(0, 200)]));

/** One request and its answer. */
class Call {
  constructor(id, head, ended) {
    Object.assign(this, { id, head, ended, chunks: [], gone: false, credit: WINDOW, owed: 0, answered: false });
    this.wake = () => {}; // Whoever waits for it
  }
}

class Exchange {
  /** `messageMax`: bytes of one message that goes out. */
  constructor(messageMax = MESSAGE_MAX) {
    this.contentMax = Math.min(messageMax, MESSAGE_MAX) - HEAD;
    this.calls = new Map();
    this.halves = new Map(); // Requests whose heads are not whole
    this.outbox = [];
  }

  /** One record that came. A Call if a request has begun, else null. */
  take(record) {
    if (record.length < HEAD) throw new Error(`a message of ${record.length} bytes`);
    const id = record.readUInt32LE(0);
    const kind = record[4];
    const flags = record[5];
    const content = record.subarray(HEAD);
    if (kind === REQUEST) return this.begin(id, content, flags);
    const call = this.calls.get(id);
    if (call === undefined) return null; // Answered already
    if (kind === BODY) {
      if (content.length > 0) call.chunks.push(content);
      call.ended = (flags & END) !== 0;
    } else if (kind === WINDOW_KIND) {
      call.credit += content.readUInt32LE(0);
    } else if (kind === CANCEL) {
      call.gone = call.ended = true;
      if (call.aborter) call.aborter.abort(); // request.signal
      this.calls.delete(id);
    } else {
      throw new Error(`a message of kind ${kind}`);
    }
    call.wake();
    return null;
  }

  begin(id, content, flags) {
    const half = this.halves.get(id);
    const whole = half ? Buffer.concat([half, content]) : content;
    this.halves.delete(id);
    if (flags & MORE) {
      this.halves.set(id, whole);
      return null;
    }
    const end = whole.indexOf(HEAD_END);
    if (end < 0 || this.calls.has(id)) throw new Error('a request without a head, or with a number that is taken');
    const call = new Call(id, whole.toString('latin1', 0, end), (flags & END) !== 0);
    if (whole.length > end + 4) call.chunks.push(whole.subarray(end + 4));
    this.calls.set(id, call);
    return call;
  }

  /** The next bytes of the request's body; an empty buffer at its end; null: they have not come. */
  read(call) {
    if (call.gone) throw new Gone();
    if (call.chunks.length === 0) return call.ended ? Buffer.alloc(0) : null;
    const chunk = call.chunks.shift();
    call.owed += chunk.length;
    if (!call.ended && call.owed >= WINDOW / 2) {
      this.outbox.push(write(call.id, WINDOW_KIND, number(call.owed)));
      call.owed = 0;
    }
    return chunk;
  }

  /** `body`: no more than call.credit. Nothing if nobody waits. */
  beginAnswer(call, head, body, end) {
    if (call.gone) return;
    call.credit -= body.length;
    let whole = body.length > 0 ? Buffer.concat([head, body]) : head;
    let left = head.length;
    while (whole.length > this.contentMax) {
      const piece = whole.subarray(0, this.contentMax);
      whole = whole.subarray(this.contentMax);
      // The end of the head goes with the first bytes of the body, or alone.
      this.outbox.push(write(call.id, left > 0 ? ANSWER : BODY, piece, { more: left > piece.length }));
      left = Math.max(0, left - piece.length);
    }
    this.outbox.push(write(call.id, left > 0 ? ANSWER : BODY, whole, { end }));
    call.answered = end;
  }

  /** As many bytes as may go now; the number. */
  send(call, body, end) {
    if (call.gone) throw new Gone();
    const size = Math.min(body.length, call.credit);
    const all = end && size === body.length;
    call.credit -= size;
    let at = 0;
    for (; size - at > this.contentMax; at += this.contentMax) {
      this.outbox.push(write(call.id, BODY, body.subarray(at, at + this.contentMax)));
    }
    if (size > at || all) this.outbox.push(write(call.id, BODY, body.subarray(at, size), { end: all }));
    call.answered = all;
    return size;
  }

  fail(call, why) {
    if (!call.gone && !call.answered) this.outbox.push(write(call.id, FAILURE, Buffer.from(why).subarray(0, 1000)));
    this.forget(call);
  }

  forget(call) {
    this.calls.delete(call.id);
  }
}

module.exports = { Exchange, Gone, hello };
