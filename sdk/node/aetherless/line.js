// SPDX-License-Identifier: Apache-2.0
// Line: the rings that Aether has given to this process, and the pipes by which the two sides wake each other.
'use strict';

const fs = require('fs');
const net = require('net');
const { Exchange, hello } = require('./exchange.js');
const { Reader, Writer, Region } = require('./ring.js');

const RECORDS_PER_TURN = 256;

class Line {
  /** `begin` is given each request; `closed` is called when Aether has closed the ring, `copied` in a copy. */
  constructor(begin, closed, copied) {
    const places = (process.env.AETHER_RING || '').split(',').map(Number);
    if (places.length !== 3 || places.some(place => !Number.isInteger(place) || place < 3)) {
      throw new Error('AETHER_RING does not name three descriptors: is this a function with `ipc: ring`?');
    }
    [this.memory, this.wake, this.bell] = places;
    this.begin = begin;
    this.closed = false;
    this.whenClosed = closed;
    this.whenCopied = copied;
    this.waiting = [];
    this.pumping = false;
    this.attach();
    this.socket = new net.Socket({ fd: this.wake, readable: true, writable: false });
    this.socket.on('data', () => this.heard());
    this.socket.on('close', () => this.close());
    this.socket.on('error', () => {}); // It closes then
  }

  /** Once at the start, and in each copy, which finds other memory behind the same descriptor. */
  attach() {
    this.inode = fs.fstatSync(this.memory).ino;
    const region = new Region(this.memory);
    this.reader = new Reader(region, 0);
    this.writer = new Writer(region, 1);
    this.exchange = new Exchange(this.writer.payloadMax);
    this.exchange.outbox.push(hello(`node ${process.versions.node}`));
    this.flush();
  }

  close(why) {
    if (why) console.error(`[aetherless] ${why}`);
    this.closed = true;
    for (const call of this.exchange.calls.values()) {
      call.gone = true;
      call.wake();
    }
    this.roomCame(); // There will be none: whoever waits for it learns that its call is gone
    this.whenClosed();
  }

  heard() {
    if (fs.fstatSync(this.memory).ino !== this.inode) {
      this.whenCopied();
      this.attach();
    }
    this.pump();
  }

  pump() {
    this.pumping = false;
    if (this.closed) return;
    try {
      let came = 0;
      for (; came < RECORDS_PER_TURN; came++) {
        const record = this.reader.receive();
        if (record === null) break;
        const call = this.exchange.take(record);
        if (call !== null) this.begin(call);
      }
      if (this.reader.release()) this.ring();
      this.flush();
      // Behind what waits for its turn; else when it is woken.
      if (came === RECORDS_PER_TURN || !this.reader.sleep()) this.pumpSoon();
    } catch (error) {
      this.close(error.message);
    }
  }

  pumpSoon() {
    if (this.pumping) return;
    this.pumping = true;
    setImmediate(() => this.pump());
  }

  /** Writes what goes; Aether rings when there is room for the rest, and pump() goes on with it. */
  flush() {
    const { outbox } = this.exchange;
    let sent = 0;
    while (sent < outbox.length && this.writer.send(outbox[sent])) sent++;
    outbox.splice(0, sent);
    if (sent > 0 && this.writer.isAwaited()) this.ring();
    if (outbox.length === 0) this.roomCame();
  }

  roomCame() {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  ring() {
    try {
      fs.writeSync(this.bell, '\x01');
    } catch (error) {
      if (error.code !== 'EAGAIN') this.close(); // EAGAIN: it has been woken often enough
    }
  }

  /** Until all that is to be said has been written. */
  room() {
    return this.exchange.outbox.length === 0 ? Promise.resolve() : new Promise(resolve => this.waiting.push(resolve));
  }
}

module.exports = { Line };
