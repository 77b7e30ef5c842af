// SPDX-License-Identifier: Apache-2.0
// AetherisClient: submit jobs, look at them, answer them.
'use strict';

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');

const { AetherisError, ask, place } = require('./carrier.js');
const { milliseconds } = require('./failures.js');

/** A job that was waited for has failed, or was cancelled. */
class JobFailedError extends AetherisError {
  constructor(jobId, status, message) {
    super(`job ${jobId} is ${status}${message ? ': ' : ''}${message}`);
    this.jobId = jobId;
    this.status = status;
  }
}

/** A job has not ended in the time that was given. */
class TimeoutError extends AetherisError {}

for (const each of [JobFailedError, TimeoutError]) each.prototype.name = each.name;

const JobStatus = Object.freeze({
  PENDING: 'pending',
  RUNNING: 'running',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
  WAITING: 'waiting', // for a person, a signal, a time or another job: it holds nothing
  RETRYING: 'retrying',
  STUCK: 'stuck',
  PAUSED: 'paused',
});
const ENDED = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED];
const POLL_FIRST = 20;
const PAGE = 200;
/** Seconds that Aether holds the question whether a job has ended. */
const HELD_MAX = 20;

class Job {
  constructor(client, told, agentId, goal = '') {
    this.id = told.id;
    this.agentId = agentId || told.name || '';
    this.goal = goal;
    Object.defineProperty(this, '_client', { value: client });
    this._take(told);
  }

  _take(told) {
    this.raw = told;
    const status = told.status || 'pending';
    this.status = status === 'parked' ? JobStatus.WAITING : status;
    this.output = told.output;
    this.error = told.error || '';
  }

  get isTerminal() {
    return ENDED.includes(this.status);
  }

  get isWaiting() {
    return this.status === JobStatus.WAITING;
  }

  async refresh() {
    return this._look(0);
  }

  /** Aether answers when the job has ended, and at the latest after so many seconds. */
  async _look(seconds) {
    const held = seconds > 0 ? `?wait=${seconds}` : '';
    this._take(await this._client._ask('GET', `/v1/jobs/${this.id}${held}`));
    return this;
  }

  /** Until the job has ended; itself, with its output. JobFailedError if it did not complete. */
  async wait({ timeout = '5m', pollInterval = 500 } = {}) {
    const until = Date.now() + milliseconds(timeout);
    const most = milliseconds(pollInterval);
    for (let pause = Math.min(POLL_FIRST, most); ; pause = Math.min(pause * 1.5, most)) {
      const rest = Math.min(until - Date.now(), this._client._timeout / 2);
      await this._look(Math.min(Math.floor(rest / 1000), HELD_MAX));
      if (this.isTerminal) break;
      if (Date.now() >= until)
        throw new TimeoutError(`job ${this.id} has not ended in ${timeout}: it is ${this.status}`);
      await sleep(pause);
    }
    if (this.status !== JobStatus.COMPLETED) throw new JobFailedError(this.id, this.status, this.error);
    return this;
  }

  signal(payload, options) {
    return this._client.signalJob(this.id, payload, options);
  }
}

/** `baseUrl`: Aether's, or `unix:/path` of its control socket. `token`: one of `api.tokens`. */
class AetherisClient {
  constructor(baseUrl, { token, timeout = 30_000 } = {}) {
    this.baseUrl = baseUrl || process.env.AETHER_URL || 'http://localhost:8080';
    const secret = token || process.env.AETHER_TOKEN;
    Object.defineProperty(this, '_token', { value: secret });
    this._timeout = milliseconds(timeout);
  }

  async _ask(method, path, body, headers) {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const wanted = { method, path, text, headers, token: this._token, timeout: this._timeout };
    let answer;
    try {
      answer = await ask(place(this.baseUrl), wanted);
    } catch (error) {
      throw new AetherisError(`${this.baseUrl} does not answer: ${error.message}`, { cause: error });
    }
    const isJson = /json/.test(answer.headers['content-type'] || '');
    const told = isJson ? JSON.parse(answer.text) : { detail: answer.text };
    if (answer.status < 400) return told;
    throw new AetherisError(`${method} ${path}: ${answer.status} ${told.detail || answer.text}`);
  }

  /** A job for the agent, with the message as its input. The same key again is the same job. `more`: other members
   * of POST /v1/jobs. */
  async run(agentId, message = null, { idempotencyKey = randomUUID(), ...more } = {}) {
    const body = { agent: agentId, input: message, ...more };
    const told = await this._ask('POST', '/v1/jobs', body, { 'Idempotency-Key': idempotencyKey });
    return new Job(this, told, agentId, typeof message === 'string' ? message : '');
  }

  async getJob(jobId) {
    return new Job(this, await this._ask('GET', `/v1/jobs/${encodeURIComponent(jobId)}`));
  }

  /** Newest first; of one agent, if it is named. */
  async listJobs(agentId, { status, limit = 20 } = {}) {
    const word = status === JobStatus.WAITING ? 'parked' : status;
    const found = [];
    for (let after = ''; found.length < limit; ) {
      const query = new URLSearchParams({ limit: PAGE, ...(word && { status: word }), ...(after && { after }) });
      const page = await this._ask('GET', `/v1/jobs?${query}`);
      for (const each of page.jobs) if (!agentId || each.name === agentId) found.push(new Job(this, each));
      after = page.next;
      if (!after) break;
    }
    return found.slice(0, limit);
  }

  /** Answers what the job waits for: the signal of the name `correlationKey`, else its only open wait. A person's
   * approval is {approved: true, …}; the rest is the form. */
  async signalJob(jobId, payload = null, { correlationKey = '', idempotencyKey = randomUUID() } = {}) {
    const path = `/v1/jobs/${encodeURIComponent(jobId)}`;
    const signal = name =>
      this._ask('POST', `${path}/signals`, { name, payload }, { 'Idempotency-Key': idempotencyKey });
    const told = await this._ask('GET', path);
    let waits = (told.waits || []).filter(each => each.open !== false);
    if (correlationKey) {
      waits = waits.filter(each => each.kind === 'human' && each.path === correlationKey);
      if (waits.length === 0) return void (await signal(correlationKey));
    }
    if (waits.length !== 1)
      throw new AetherisError(`job ${jobId} has ${waits.length} open waits: name one with correlationKey`);
    const [wait] = waits;
    if (wait.kind !== 'human') return void (await signal(wait.name));
    const isForm = payload !== null && typeof payload === 'object' && !Array.isArray(payload);
    const { approved = true, ...form } = isForm ? payload : { answer: payload };
    const decision = approved ? 'approve' : 'reject';
    const body = { decision, step: wait.path, form: Object.keys(form).length > 0 ? form : null };
    await this._ask('POST', `${path}/approvals`, body);
    return undefined;
  }

  async health() {
    try {
      return (await this._ask('GET', '/health')).status === 'ok';
    } catch (error) {
      if (error instanceof AetherisError) return false;
      throw error;
    }
  }
}

module.exports = { AetherisClient, AetherisError, Job, JobFailedError, JobStatus, TimeoutError };
