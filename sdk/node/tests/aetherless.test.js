// SPDX-License-Identifier: Apache-2.0
// aetherless without Aether. What a copy is cannot be made here (Node does not fork): a process that got the signal
// a second time takes itself for one, as in a pid namespace of its own.
'use strict';

const { test } = require('node:test');
const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const SDK = path.dirname(__dirname);
const AUTOHOOK = path.join(SDK, 'aetherless', 'autohook.js');

/** The output of a script, and its end. */
function run(script, { env = {}, options = [] } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'aetherless-'));
  const file = path.join(folder, 'script.js'); // With -e Node loads more than programs have loaded
  fs.writeFileSync(file, script);
  return new Promise(resolve => {
    const all = { PATH: process.env.PATH, NODE_PATH: SDK, ...env };
    const program = spawn(process.execPath, [...options, file], { env: all, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    program.stdout.on('data', data => (text += data));
    program.on('close', (code, signal) => {
      fs.rmSync(folder, { recursive: true });
      resolve({ text, code, signal });
    });
  });
}

async function fakeAether(body) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'aetherless-'));
  const server = net.createServer();
  await new Promise(done => server.listen(path.join(folder, 's'), done));
  try {
    await body(server, path.join(folder, 's'));
  } finally {
    server.close();
    fs.rmSync(folder, { recursive: true });
  }
}

/** An iterator over the lines that come through a connection. */
async function* linesOf(connection) {
  let text = '';
  for await (const data of connection) {
    const lines = (text + data).split('\n');
    text = lines.pop();
    yield* lines;
  }
}

const TWICE = `
const aetherless = require('aetherless');
function signal(then) {
  const open = setTimeout(() => {}, 60000);
  process.once('SIGURG', () => setImmediate(() => { then(); clearTimeout(open); }));
  process.kill(process.pid, 'SIGURG');
}
`;

test('hooks run in the order of SnapStart', async () => {
  const { text } = await run(`${TWICE}
    const said = [];
    aetherless.beforeSnapshot(() => said.push('before 1')); aetherless.beforeSnapshot(() => said.push('before 2'));
    aetherless.afterRestore(() => said.push('after 1')); aetherless.afterRestore(() => said.push('after 2'));
    signal(() => signal(() => console.log(said.join())));`);
  assert.strictEqual(text, 'before 2,before 1,after 1,after 2\n');
});

test('after a promise the next hooks still come', async () => {
  const { text } = await run(`${TWICE}
    aetherless.afterRestore(async () => { await null; console.log('first'); });
    aetherless.afterRestore(() => console.log('second'));
    signal(() => signal(() => {}));`);
  assert.strictEqual(text, 'first\nsecond\n');
});

test('a copy draws other numbers than V8 would have, also by a function that was kept', async () => {
  const seeded = script => run(script, { options: ['--random-seed=7'] });
  const draws = 'const { random } = Math; const draw = () => [random(), random(), Math.random()].join();';
  const plain = await seeded(`${draws} draw(); console.log(draw());`);
  const again = await seeded(`${draws} draw(); console.log(draw());`);
  const hooked = await seeded(`${TWICE} aetherless.install(); ${draws} draw();
    signal(() => signal(() => console.log(draw())));`);
  assert.strictEqual(plain.text, again.text);
  assert.notStrictEqual(hooked.text, plain.text);
  for (const number of hooked.text.split(',').map(Number)) assert.ok(number >= 0 && number < 1);
});

test('the numbers of a copy are spread evenly', async () => {
  const { text } = await run(`${TWICE} aetherless.install();
    signal(() => signal(() => {
      const counts = new Array(10).fill(0);
      for (let i = 0; i < 100000; i++) counts[Math.floor(Math.random() * 10)]++;
      console.log(Math.min(...counts) > 9500 && Math.max(...counts) < 10500);
    }));`);
  assert.strictEqual(text, 'true\n');
});

test('the UUIDs that were made ahead are drawn, all of them, if there are any', async () => {
  // Node keeps 128; the one after the last of them begins a new batch.
  const count = used => run(`${TWICE} aetherless.install();
    ${used ? "const crypto = require('crypto'); crypto.randomUUID();" : ''}
    let drawn = 0;
    signal(() => {
      ${used ? 'const native = crypto.randomUUID; crypto.randomUUID = () => { drawn++; return native(); };' : ''}
      signal(() => console.log(drawn, process.moduleLoadList.some(name => name.endsWith(' internal/crypto/random'))));
    });`);
  assert.strictEqual((await count(true)).text, '128 true\n');
  assert.strictEqual((await count(false)).text, '0 false\n');
});

test('a program that knows nothing takes the hook on by its environment alone', async () => {
  const script = `console.log(process.listenerCount('SIGURG'), Math.random.toString().includes('native'))`;
  const env = { NODE_OPTIONS: `--require=${AUTOHOOK}`, AETHER_SOCKET: '/nowhere' };
  assert.strictEqual((await run(script, { env })).text, '1 false\n');
  assert.strictEqual((await run(script, { env: { ...env, AETHER_HOOKS: 'off' } })).text, '0 true\n');
});

test('the hook keeps no program alive', async () => {
  assert.strictEqual((await run(`require('aetherless').install()`)).code, 0);
});

test('ready says READY, and answers SNAPSHOT and RESTORED', async () => {
  await fakeAether(async (server, socketPath) => {
    const said = [];
    server.on('connection', async connection => {
      for await (const line of linesOf(connection)) {
        said.push(line);
        if (line === 'HOOKS') connection.write('SNAP');
        if (line === 'HOOKS') setImmediate(() => connection.write('SHOT\n'));
        if (line === 'OK' && said.length === 3) connection.write(`RESTORED 7 ${'0f'.repeat(16)}\n`);
      }
    });
    const { text } = await run(
      `const aetherless = require('aetherless');
       const open = setInterval(() => {}, 1000);
       aetherless.afterRestore(({ instance, seed }) => {
         console.log(instance, seed.toString('hex'), aetherless.isCopy().instance);
         clearInterval(open);
       });
       aetherless.ready().then(told => console.log(told));`,
      { env: { AETHER_SOCKET: socketPath } });
    assert.strictEqual(text, `true\n7 ${'0f'.repeat(16)} 7\n`);
    assert.deepStrictEqual(said.slice(0, 3), ['READY', 'HOOKS', 'OK']);
  });
});

test('without Aether ready does nothing', async () => {
  assert.strictEqual((await run(`require('aetherless').ready().then(told => console.log(told))`)).text, 'false\n');
});

test('the signal behind the line SNAPSHOT does not make the original a copy', async () => {
  await fakeAether(async (server, socketPath) => {
    server.on('connection', connection => {
      connection.on('error', () => {}); // It ends when it has shown what it is
      connection.once('data', () => connection.write('SNAPSHOT\n'));
    });
    const { text } = await run(
      `${TWICE}
       const open = setInterval(() => {}, 1000);
       function show() { console.log(aetherless.isCopy()); clearInterval(open); }
       aetherless.beforeSnapshot(() => setImmediate(() => signal(show)));
       aetherless.ready();`,
      { env: { AETHER_SOCKET: socketPath } });
    assert.strictEqual(text, 'null\n');
  });
});
