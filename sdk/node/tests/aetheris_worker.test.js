// SPDX-License-Identifier: Apache-2.0
// aetheris without an Aether: its two carriers, and its client, against servers that only seem to be one.
'use strict';

const { test } = require('node:test');
const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const aetheris = require('../aetheris');
const { HttpCarrier, Gone, Refused } = require('../aetheris/carrier.js');

const { AetherisClient, AetherisError, JobFailedError, JobStatus, TimeoutError } = aetheris;
const INDEX = path.join(__dirname, '..', 'aetheris', 'index.mjs');

/** A server that gives each request to `answer`, whose result is [status, JSON], or null to cut the connection. */
async function serving(answer, body) {
  const server = http.createServer((request, response) => {
    let text = '';
    request.on('data', more => (text += more));
    request.on('end', () => {
      const told = answer({ ...request, text, method: request.method, url: request.url, headers: request.headers });
      if (told === null) return request.socket.destroy();
      response.writeHead(told[0], { 'Content-Type': 'application/json' });
      return response.end(JSON.stringify(told[1]));
    });
  });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'aetheris-'));
  const socket = path.join(folder, 's');
  await new Promise(done => server.listen(socket, done));
  try {
    await body(`unix:${socket}`);
  } finally {
    server.close();
    server.closeAllConnections?.();
    fs.rmSync(folder, { recursive: true });
  }
}

/** A worker over a line: `answer` gets each message and the worker, and gives its answer or undefined. */
async function working(code, answer) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'aetheris-'));
  const file = path.join(folder, 'agent.mjs');
  fs.mkdirSync(path.join(folder, 'node_modules'));
  fs.symlinkSync(path.dirname(INDEX), path.join(folder, 'node_modules', 'aetheris')); // as npm install FOLDER does
  fs.writeFileSync(file, `import { agent, serve, tool } from 'aetheris';\n${code}`);
  const env = { PATH: process.env.PATH, AETHER_WORK_FD: '3' };
  const worker = spawn(process.execPath, [file], { env, stdio: ['ignore', 'inherit', 'pipe', 'pipe'] });
  const line = worker.stdio[3];
  let text = '';
  let errors = '';
  worker.stderr.on('data', more => (errors += more));
  line.on('error', () => {});
  line.on('data', more => {
    const lines = (text + more).split('\n');
    text = lines.pop();
    for (const each of lines) {
      const { id, ...asked } = JSON.parse(each);
      Promise.resolve(answer(asked, worker)).then(told => {
        if (told) line.write(`${JSON.stringify({ id, ...told })}\n`);
      });
    }
  });
  const [status, signal] = await new Promise(resolve => worker.on('close', (...end) => resolve(end)));
  fs.rmSync(folder, { recursive: true });
  return { status, signal, errors };
}

const CLAIMED = { run: 'r', token: 't', fence: 1, lease_ms: 30000, agent: 'a', name: 'a', namespace: 'default' };

/** Gives the job to the first who claims one; all others wait. */
function givingOnce(input) {
  const given = [{ runs: [{ ...CLAIMED, steps: 0, input }] }];
  return () => given.pop();
}

test('a worker on a line does a job, and ends when Aether closes the line', async () => {
  const seen = [];
  const claimed = givingOnce({ n: 7 });
  const { status, errors } = await working(
    "agent('a', async (ctx, { n }) => (await ctx.step('s', () => n * 6)) + 0); await serve();",
    (asked, worker) => {
      if (asked.do === 'claim') {
        assert.deepStrictEqual(asked.agents, ['a']);
        return claimed();
      }
      const answers = asked.messages.map(message => {
        seen.push([message.do, message.result ?? message.output]);
        return message.do === 'step.begin' ? { is: 'go', effect: 'e', turn: 1, token: 't' } : { is: 'done' };
      });
      if (seen.at(-1)[0] === 'close') setTimeout(() => worker.stdio[3].end(), 20);
      return { answers };
    },
  );
  assert.deepStrictEqual(seen, [['step.begin', undefined], ['step.end', 42], ['close', 42]]);
  assert.strictEqual(status, 0, errors);
});

test('a worker that is told to stop ends its step, gives its run back and ends', async () => {
  const seen = [];
  const claimed = givingOnce(null);
  const { status, errors } = await working(
    `agent('a', async ctx => {
       await ctx.step('s', () => new Promise(resolve => {
         process.once('SIGTERM', () => setImmediate(resolve));
         process.kill(process.pid, 'SIGTERM');
       }));
       await ctx.step('t', () => 1);
     });
     serve(); setInterval(() => {}, 1000);`, // what keeps the program alive is not waited for for long
    asked => {
      if (asked.do === 'claim') return claimed();
      seen.push(...asked.messages.map(message => message.do));
      const answers = asked.messages.map(({ do: verb }) => {
        if (verb === 'step.begin') return { is: 'go', effect: 'e', turn: 1, token: 't' };
        return verb === 'release' ? { is: 'give_back', why: 'released' } : { is: 'done' };
      });
      return { answers };
    },
  );
  assert.deepStrictEqual(seen, ['step.begin', 'step.end', 'release']);
  assert.strictEqual(status, 0, errors);
});

test('a worker that is told to stop while it asks for a step does that step and gives its run back then', async () => {
  const seen = [];
  const claimed = givingOnce(null);
  const { status, errors } = await working(
    "agent('a', async ctx => { await ctx.step('s', () => 1); await ctx.step('t', () => 2); }); serve();",
    (asked, worker) => {
      if (asked.do === 'claim') return claimed();
      seen.push(...asked.messages.map(message => message.do));
      const answers = asked.messages.map(({ do: verb }) => {
        if (verb === 'step.begin') return { is: 'go', effect: 'e', turn: 1, token: 't' };
        return verb === 'release' ? { is: 'give_back', why: 'released' } : { is: 'done' };
      });
      if (asked.messages[0].do !== 'step.begin') return { answers };
      worker.kill('SIGTERM');
      return new Promise(resolve => setTimeout(resolve, 200, { answers })); // it has heard the signal by then
    },
  );
  assert.deepStrictEqual(seen, ['step.begin', 'step.end', 'release']);
  assert.strictEqual(status, 0, errors);
});

test('over HTTP a message is said again until it is answered, and a refusal is one', async () => {
  const refusal = [403, { type: 'urn:x/forbidden', detail: 'no' }];
  const told = [null, [503, { detail: 'later' }], [200, { answers: [1] }], refusal];
  await serving(
    () => told.shift(),
    async url => {
      const carrier = new HttpCarrier(url, 'secret');
      assert.deepStrictEqual(await carrier.frame({}), [1]);
      await assert.rejects(carrier.frame({}), error => error instanceof Refused && error.kind === 'forbidden');
      const long = carrier.frame({ messages: 'ü'.repeat(600_000) });
      await assert.rejects(long, error => error instanceof Refused && /12000\d\d bytes/.test(error.message));
      carrier.close();
      await assert.rejects(carrier.frame({}), Gone);
    },
  );
});

test('the client submits, waits, lists and answers', async () => {
  const asked = [];
  let status = 'running';
  const job = { id: 'j', name: 'clerk', waits: [] };
  await serving(
    ({ method, url, text, headers }) => {
      asked.push([method, url, text && JSON.parse(text)]);
      if (url === '/health') return [200, { status: 'ok' }];
      if (url.startsWith('/v1/jobs?')) return [200, { jobs: [{ ...job, status: 'parked' }], next: '' }];
      if (method === 'POST' && url === '/v1/jobs') assert.strictEqual(headers['idempotency-key'], 'k');
      if (url === '/v1/jobs/none') return [404, { detail: 'there is none' }];
      const told = { ...job, status, output: 5 };
      status = 'completed';
      return [200, told];
    },
    async url => {
      const client = new AetherisClient(url);
      assert.ok(await client.health());
      const made = await client.run('clerk', { order: 7 }, { idempotencyKey: 'k', priority: 3 });
      assert.ok(!made.isTerminal);
      assert.strictEqual((await made.wait({ timeout: '10s' })).output, 5);
      assert.ok(made.isTerminal && made.status === JobStatus.COMPLETED);
      const [waiting] = await client.listJobs('clerk', { status: JobStatus.WAITING });
      assert.ok(waiting.isWaiting);
      await assert.rejects(client.getJob('none'), /404 there is none/);
      await assert.rejects(client.signalJob('j', 1), /0 open waits/);
      job.waits = [{ kind: 'human', path: 'approve', name: 'Go?', open: true }];
      await client.signalJob('j', { approved: false, why: 'no' });
      await waiting.signal(5, { correlationKey: 'go' });
    },
  );
  const posted = url => asked.filter(each => each[0] === 'POST' && each[1] === url).map(each => each[2]);
  assert.deepStrictEqual(posted('/v1/jobs'), [{ agent: 'clerk', input: { order: 7 }, priority: 3 }]);
  const no = { decision: 'reject', step: 'approve', form: { why: 'no' } };
  assert.deepStrictEqual(posted('/v1/jobs/j/approvals'), [no]);
  assert.deepStrictEqual(posted('/v1/jobs/j/signals'), [{ name: 'go', payload: 5 }]);
  assert.ok(asked.some(each => each[1].includes('status=parked')));
  assert.match(asked[2][1], /^\/v1\/jobs\/j\?wait=\d+$/); // Aether holds the question
});

test('a job that does not end in time, or failed, is an error that says so', async () => {
  let status = 'running';
  await serving(
    () => [200, { id: 'j', status, error: 'no luck' }],
    async url => {
      const job = await new AetherisClient(url).getJob('j');
      await assert.rejects(job.wait({ timeout: 50 }), TimeoutError);
      status = 'failed';
      await assert.rejects(job.wait(), error => error instanceof JobFailedError && /no luck/.test(error.message));
    },
  );
});

test('a client without an Aether says so', async () => {
  const client = new AetherisClient('unix:/no/such/socket');
  assert.strictEqual(await client.health(), false);
  await assert.rejects(client.run('a', 'b'), AetherisError);
  assert.ok(!JSON.stringify(new AetherisClient('unix:/x', { token: 'secret' })).includes('secret'));
});

test('what is imported is what is required, and its types name all of it', async () => {
  const imported = await import(pathToFileURL(INDEX).href);
  const types = fs.readFileSync(path.join(path.dirname(INDEX), 'index.d.ts'), 'utf8');
  for (const [name, value] of Object.entries(aetheris)) {
    assert.strictEqual(imported[name], value, name);
    assert.match(types, new RegExp(`export (class|function|const) ${name}\\b`));
  }
  for (const [, name] of types.matchAll(/^export (?:class|function|const) (\w+)/gm))
    assert.ok(name in aetheris, `${name} has a type and is not there`);
  for (const name of ['Context', 'Worker', 'Job', 'AetherisClient']) {
    const [body] = new RegExp(`^export class ${name}\\b[^]*?^}`, 'm').exec(types);
    const typed = new Set([...body.matchAll(/^  (?:readonly )?(\w+)[(<:]/gm)].map(each => each[1]));
    const members = Object.getOwnPropertyNames(aetheris[name].prototype).filter(each => !/^_|^constructor$/.test(each));
    for (const member of members) assert.ok(typed.has(member), `${name}.${member} has no type`);
    for (const [, method] of body.matchAll(/^  (\w+)[(<]/gm))
      assert.ok(method in aetheris[name].prototype, `${name}.${method}() has a type and is not there`);
  }
});
